"""What the series' tables would read now: a fingerprint a table and series, for all of them fast.

A materialisation records the fingerprint of what it read as its data version; one that differs
from the fingerprint now is stale. Taking a single fingerprint belongs to `extraction`, comparing
with the record to `partitions`.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from aneurysm_assets.extraction import fingerprint as of_inputs
from aneurysm_assets.extraction.competition import (
    LocalizersCsv,
    TrainCsv,
    read_localizers_csv,
    read_train_csv,
)
from aneurysm_assets.extraction.errors import SeriesError
from aneurysm_assets.extraction.fingerprint import (
    UNREADABLE,
    fingerprint_of_directory,
    fingerprint_of_files,
    fingerprint_or_unreadable,
)
from aneurysm_assets.extraction.nifti import segmentation_files
from aneurysm_assets.settings import Settings
from aneurysm_assets.tables import DICOM_TAGS, LABELS, LOCALIZERS, SEGMENTATION_META

Fingerprints = Mapping[str, str]
"""By SeriesInstanceUID."""

_WORTH_PROCESSES = 500
"""Fewer series than this are listed before a second interpreter has started."""


def fingerprint_of_series(settings: Settings, series_instance_uid: str) -> str:
    """Return the fingerprint of a series' DICOM files.

    Raises
    ------
    SeriesError
        The directory cannot be read, or the key is no UID.
    """
    settings.table_of_series(DICOM_TAGS.name, series_instance_uid)  # refuses what is no UID
    return fingerprint_of_directory(settings.series_root / series_instance_uid)


def fingerprint_of_segmentations(settings: Settings, series_instance_uid: str) -> str:
    """Return the fingerprint of a series' NIfTI files, also of none.

    Raises
    ------
    SeriesError
        Whether they exist cannot be told.
    """
    return fingerprint_of_files(
        segmentation_files(settings.segmentations_root, series_instance_uid)
    )


def take_fingerprints(
    settings: Settings, series: Sequence[str], *, processes: int = 1
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

    Returns
    -------
    dict of str to mapping of str to str
        By table and series; `UNREADABLE` where an input cannot be listed.

    Raises
    ------
    InputError
        A CSV is there and cannot be used.
    """
    return {
        DICOM_TAGS.name: _of_directories(settings, series, processes),
        **take_light_fingerprints(settings, series),
    }


def take_light_fingerprints(settings: Settings, series: Sequence[str]) -> dict[str, Fingerprints]:
    """Return those of `take_fingerprints` that cost no look at each DICOM file."""
    train, points = read_csvs(settings)
    return {
        LABELS.name: {uid: train.fingerprint(uid) for uid in series},
        LOCALIZERS.name: {uid: points.fingerprint(uid) for uid in series},
        SEGMENTATION_META.name: _of_segmentations(settings, series),
    }


def read_csvs(settings: Settings) -> tuple[TrainCsv, LocalizersCsv]:
    """Read both CSVs; one that is not there is taken as empty.

    Raises
    ------
    InputError
        One is there and cannot be used.
    """
    try:
        train = read_train_csv(settings.train_csv)
    except FileNotFoundError:
        train = TrainCsv(settings.train_csv, refused=(), sha256="", rows={})
    try:
        points = read_localizers_csv(settings.localizers_csv)
    except FileNotFoundError:
        points = LocalizersCsv(settings.localizers_csv, refused=(), sha256="", rows={})
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
        with suppress(OSError), path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _of_segmentations(settings: Settings, series: Sequence[str]) -> dict[str, str]:
    try:
        with os.scandir(settings.segmentations_root) as entries:
            there = {entry.name for entry in entries}
    except FileNotFoundError:
        there = set()
    except OSError:
        return dict.fromkeys(series, UNREADABLE)
    none = fingerprint_of_files([])
    return {uid: _or_unreadable(settings, uid) if uid in there else none for uid in series}


def _or_unreadable(settings: Settings, series_instance_uid: str) -> str:
    try:
        return fingerprint_of_segmentations(settings, series_instance_uid)
    except SeriesError:
        return UNREADABLE


def _of_directories(settings: Settings, series: Sequence[str], processes: int) -> dict[str, str]:
    paths = [f"{settings.series_root}/{uid}" for uid in series]
    if processes < 2 or len(series) < _WORTH_PROCESSES:
        return dict(zip(series, map(fingerprint_or_unreadable, paths), strict=True))
    with ExitStack() as started:
        # Interpreters of their own and no pool: a pool's processes would import all that this one
        # has imported, and outlive it where it is killed.
        answers = [
            started.enter_context(_asked(paths[place::processes])) for place in range(processes)
        ]
        found = dict.fromkeys(series, "")
        for place, answer in enumerate(answers):
            part = json.loads(_answer(answer))
            found.update(zip(series[place::processes], part, strict=True))
        return found


@contextmanager
def _asked(directories: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    """Start an interpreter on some directories; it is ended with the block."""
    with subprocess.Popen(  # noqa: S603 - our own module, our own interpreter
        [sys.executable, "-P", "-m", of_inputs.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # It finds what this process finds, and nothing that lies about in the working directory.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        try:
            if process.stdin is not None:
                with process.stdin:
                    json.dump(directories, process.stdin)
            yield process
        except BaseException:
            process.kill()
            raise


def _answer(process: "subprocess.Popen[str]") -> str:
    answer = "" if process.stdout is None else process.stdout.read()
    if process.wait():
        raise OSError(f"a process that lists the series ended with {process.returncode}")
    return answer
