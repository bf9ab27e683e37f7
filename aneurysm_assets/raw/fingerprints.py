"""What the series' tables would read now: one fingerprint per table and series.

A materialization records the fingerprint of what it read as its data version; one that differs
from the fingerprint now is stale. Taking a single fingerprint belongs to `storage`, comparing
with the record to `runs`.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from aneurysm_assets.errors import InputError, SeriesError, StoreError
from aneurysm_assets.raw.fingerprint_processes import FingerprintProcesses
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.raw.segmentation_files import Pair, find_pair, list_pairs, series_among
from aneurysm_assets.raw.train_csv import TrainCsv
from aneurysm_assets.schema.tables import DICOM_TAGS, LABELS, LOCALIZERS, SEGMENTATION_META
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.fetching import THREADS, in_order, list_files
from aneurysm_assets.storage.fingerprint import (
    UNREADABLE,
    fingerprint_of_directory,
    fingerprint_of_files,
    fingerprint_of_objects,
    fingerprint_of_rows,
    fingerprint_of_versions,
    fingerprint_or_unreadable,
)
from aneurysm_assets.storage.object_path import ObjectPath

_READ_AS = "3"
"""Counts what is read of a NIfTI file: a row that says less, or said it wrongly, is stale."""

Fingerprints = Mapping[str, str]
"""By SeriesInstanceUID."""


def fingerprint_of_series(settings: Settings, series_instance_uid: str) -> str:
    """Return the fingerprint of a series' DICOM files.

    Raises
    ------
    SeriesError
        The directory cannot be read, or the key is no UID.
    """
    directory = settings.directory_of_series(series_instance_uid)
    if isinstance(directory, ObjectPath):
        return fingerprint_of_objects(list_files(directory).files)
    return fingerprint_of_directory(directory)


def fingerprint_of_segmentations(settings: Settings, series_instance_uid: str) -> str:
    """Return the fingerprint of a series' NIfTI files, also of none.

    Raises
    ------
    SeriesError
        Whether they exist cannot be told.
    """
    return fingerprint_of_pair(find_pair(settings.segmentations_root, series_instance_uid))


def fingerprint_of_pair(pair: Pair) -> str:
    """Return the fingerprint of NIfTI files; none have the same on a disk and in a bucket."""
    files = [path for path in pair.values() if not isinstance(path, ObjectPath)]
    objects = {path.name: path.stat() for path in pair.values() if isinstance(path, ObjectPath)}
    found = fingerprint_of_versions(objects) if objects else fingerprint_of_files(files)
    if not pair:
        return found
    # A file keeps its name and its time where it is moved out of the directory of its series.
    return _joined(_READ_AS, found, *(path.parent.name for path in pair.values()))


def require_unchanged(what: str, before: str, after: str) -> None:
    """Refuse what was read of files that have another fingerprint after it than before.

    Raises
    ------
    SeriesError
        They have changed.
    """
    if before != after:
        raise SeriesError(
            f"{what} changed while they were read, so nothing was recorded; run it again once "
            "nothing writes there"
        )


def fingerprints_in_turn(settings: Settings, series: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each series and the fingerprint of its DICOM files, in the order given.

    In a bucket the next are under way meanwhile; whoever stops asking gets no more of them.

    Parameters
    ----------
    settings : Settings
        Where they are.
    series : sequence of str
        Names in the directory of the series.

    Yields
    ------
    tuple of str and str
        `UNREADABLE` where a directory cannot be listed, as it is gone.

    Raises
    ------
    InputError
        The directories are in a bucket, and the store does not answer.
    """
    root = settings.series_root
    if not isinstance(root, ObjectPath):
        yield from ((uid, fingerprint_or_unreadable(f"{root}/{uid}")) for uid in series)
        return

    def fingerprint(uid: str) -> tuple[str, str]:
        try:
            return uid, fingerprint_of_objects(list_files(root / uid).files)
        except StoreError:
            raise
        except SeriesError:
            return uid, UNREADABLE

    try:
        yield from in_order(fingerprint, series, THREADS)
    except StoreError as error:
        raise InputError(str(error)) from error


def fingerprint_of_preview(
    settings: Settings, points: LocalizersCsv, series_instance_uid: str
) -> str:
    """Return the fingerprint of what a picture is made of: files, points and segmentations.

    Raises
    ------
    SeriesError
        The series' directory cannot be read, or the key is no UID.
    """
    return _joined(
        fingerprint_of_series(settings, series_instance_uid),
        points.fingerprint(series_instance_uid),
        _or_unreadable(settings, series_instance_uid),
    )


def fingerprints_of_previews(of_tables: Mapping[str, Fingerprints]) -> Fingerprints:
    """Return those of the pictures, from what `take_fingerprints` has found."""
    files, points = of_tables[DICOM_TAGS.name], of_tables[LOCALIZERS.name]
    segmentations = of_tables[SEGMENTATION_META.name]
    return {uid: _joined(files[uid], points[uid], segmentations[uid]) for uid in files}


def take_fingerprints(
    settings: Settings,
    series: Sequence[str],
    *,
    processes: int = 1,
    listing: FingerprintProcesses | None = None,
) -> dict[str, Fingerprints]:
    """Return the fingerprints of all series for each of the partitioned tables.

    Parameters
    ----------
    settings : Settings
        Where the inputs are.
    series : sequence of str
        SeriesInstanceUIDs.
    processes : int
        Interpreters that list directories at the same time, where there are many.
    listing : FingerprintProcesses, optional
        One that was begun before.

    Returns
    -------
    dict of str to mapping of str to str
        By table and series; `UNREADABLE` where an input cannot be listed.

    Raises
    ------
    InputError
        A CSV is there and cannot be used, or the inputs are in a bucket and the store does not
        answer.
    """
    return {
        DICOM_TAGS.name: _fingerprints_of_directories(settings, series, processes, listing),
        **take_light_fingerprints(settings, series),
    }


def take_light_fingerprints(settings: Settings, series: Sequence[str]) -> dict[str, Fingerprints]:
    """Return those of `take_fingerprints` that cost no look at each DICOM file.

    Raises
    ------
    InputError
        As from there.
    """
    train, points = read_csvs(settings)
    return {
        LABELS.name: {uid: train.fingerprint(uid) for uid in series},
        LOCALIZERS.name: {uid: points.fingerprint(uid) for uid in series},
        SEGMENTATION_META.name: _fingerprints_of_segmentations(settings, series),
    }


def read_csvs(settings: Settings) -> tuple[TrainCsv, LocalizersCsv]:
    """Read both CSVs; one that is not there is taken as empty.

    Raises
    ------
    InputError
        One is there and cannot be used.
    """
    try:
        train = TrainCsv.read(settings.train_csv)
    except FileNotFoundError:
        train = TrainCsv.empty(settings.train_csv)
    try:
        points = LocalizersCsv.read(settings.localizers_csv)
    except FileNotFoundError:
        points = LocalizersCsv.empty(settings.localizers_csv)
    return train, points


def csv_digests(settings: Settings) -> dict[str, str]:
    """Return the SHA-256 of each whole CSV that is there, by which a release can be told."""
    files = {
        "train_csv_sha256": settings.train_csv,
        "train_localizers_csv_sha256": settings.localizers_csv,
    }
    digests = {}
    for name, path in files.items():
        # Nothing is made of the file here: where it cannot be read, `labels` and `localizers` say.
        with suppress(OSError):
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _fingerprints_of_segmentations(settings: Settings, series: Sequence[str]) -> dict[str, str]:
    none = fingerprint_of_files([])
    root = settings.segmentations_root
    if isinstance(root, ObjectPath):
        try:
            pairs = list_pairs(root)
        except OSError as error:
            raise InputError(f"{root} cannot be read: {error.strerror or error}") from error
        return {uid: fingerprint_of_pair(pairs[uid]) if uid in pairs else none for uid in series}
    try:
        with os.scandir(root) as entries:
            on_disk = series_among(entry.name for entry in entries)
    except FileNotFoundError:
        on_disk = set()
    except OSError:
        return dict.fromkeys(series, UNREADABLE)
    return {uid: _or_unreadable(settings, uid) if uid in on_disk else none for uid in series}


def _joined(*fingerprints: str) -> str:
    return fingerprint_of_rows([fingerprints])


def _or_unreadable(settings: Settings, series_instance_uid: str) -> str:
    try:
        return fingerprint_of_segmentations(settings, series_instance_uid)
    except SeriesError:
        return UNREADABLE


def _fingerprints_of_directories(
    settings: Settings,
    series: Sequence[str],
    processes: int,
    listing: FingerprintProcesses | None,
) -> dict[str, str]:
    if listing is None:
        with FingerprintProcesses(settings, series, processes) as now:
            return _fingerprints_of_directories(settings, series, 1, now)
    found = listing.answers()
    rest = [uid for uid in series if uid not in found]
    return {**found, **dict(fingerprints_in_turn(settings, rest))}
