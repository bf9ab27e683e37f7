"""One series of each table: what is read, and the file it becomes.

The work that `workers` does for a series, in a worker process or in this one. How bytes become a
table belongs to `extraction`.

What reads DICOM and NIfTI is imported where it is used: the process that hands out the work would
wait for pydicom and nibabel as long as for Dagster, and a worker for one of them in vain.
"""

from collections.abc import Container

import polars as pl

from aneurysm_assets.parallel.series_map import Written
from aneurysm_assets.raw.competition import LocalizersCsv, TrainCsv
from aneurysm_assets.raw.fingerprints import fingerprint_of_pair, fingerprint_of_series
from aneurysm_assets.raw.segmentation_files import Pair, find_pair
from aneurysm_assets.schema.tables import DICOM_TAGS, LABELS, LOCALIZERS, SEGMENTATION_META
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.object_path import ObjectPath
from aneurysm_assets.storage.table_files import StoredTable, write_table

_NOTES_SHOWN = 5


def write_dicom_tags(settings: Settings, series_instance_uid: str) -> Written:
    """Read the headers of a series' files and write its `dicom_tags`.

    Raises
    ------
    SeriesError
        The directory cannot be read, or holds no readable DICOM image.
    OSError
        The table cannot be written.
    """
    from aneurysm_assets.dicom.series import read_series  # noqa: PLC0415 - as said above

    stem = settings.table_of_series(DICOM_TAGS.name, series_instance_uid)
    directory = settings.directory_of_series(series_instance_uid)
    # Before reading: a file that changes meanwhile makes the series stale. In a bucket it fails it.
    in_bucket = isinstance(directory, ObjectPath)
    fingerprint = "" if in_bucket else fingerprint_of_series(settings, series_instance_uid)
    series = read_series(directory, settings.raw, settings.threads)
    table = write_table(series.frame, DICOM_TAGS, stem)
    notes = [f"malformed value, null in the table: {text}" for text in series.malformed]
    if len(notes) > _NOTES_SHOWN:
        notes[_NOTES_SHOWN:] = [f"and {len(notes) - _NOTES_SHOWN} more malformed values"]
    return Written(
        table=table,
        files=series.files,
        unreadable_files=series.unreadable_files,
        bytes=series.bytes,
        fast_files=series.fast_files,
        notes=(*notes, *_warning(table)),
        fingerprint=series.fingerprint if in_bucket else fingerprint,
    )


def write_labels(settings: Settings, train: TrainCsv, series_instance_uid: str) -> Written:
    """Write the `labels` of a series: its row of train.csv, nulls where it has none.

    Raises
    ------
    SeriesError
        Its rows contradict each other, or a value cannot be typed.
    OSError
        The table cannot be written.
    """
    stem = settings.table_of_series(LABELS.name, series_instance_uid)
    table = write_table(train.labels(series_instance_uid), LABELS, stem)
    return _from_csv(table, train, series_instance_uid)


def write_localizers(
    settings: Settings, localizers: LocalizersCsv, series_instance_uid: str
) -> Written:
    """Write the `localizers` of a series, without rows where it has none.

    Raises
    ------
    SeriesError
        A coordinate literal of the series cannot be read.
    OSError
        The table cannot be written.
    """
    stem = settings.table_of_series(LOCALIZERS.name, series_instance_uid)
    table = write_table(localizers.localizers(series_instance_uid), LOCALIZERS, stem)
    return _from_csv(table, localizers, series_instance_uid)


def write_segmentation_meta(
    settings: Settings, series_instance_uid: str, segmented: Container[str] | None = None
) -> Written:
    """Read the headers of a series' segmentation files and write its `segmentation_meta`.

    Parameters
    ----------
    settings : Settings
        Where things are.
    series_instance_uid : str
        Any series.
    segmented : container of str, optional
        The series that have any file, where that is known already.

    Raises
    ------
    SeriesError
        A file is there and is no whole NIfTI volume.
    OSError
        The table cannot be written.
    """
    stem = settings.table_of_series(SEGMENTATION_META.name, series_instance_uid)
    pair: Pair = {}
    if segmented is None or series_instance_uid in segmented:
        pair = find_pair(settings.segmentations_root, series_instance_uid)
    fingerprint = fingerprint_of_pair(pair)
    table = write_table(_of_pair(settings, series_instance_uid, pair), SEGMENTATION_META, stem)
    return Written(
        table=table,
        files=len(pair),
        unreadable_files=0,
        bytes=sum(path.stat().st_size for path in pair.values()),
        notes=_warning(table),
        fingerprint=fingerprint,
    )


def _of_pair(settings: Settings, series_instance_uid: str, pair: Pair) -> pl.DataFrame:
    if not pair:
        return SEGMENTATION_META.schema.to_frame()
    from aneurysm_assets.nifti.segmentation import segmentation_meta  # noqa: PLC0415 - as said above

    return segmentation_meta(settings.segmentations_root, settings.raw, series_instance_uid, pair)


def _from_csv(
    table: StoredTable, csv: TrainCsv | LocalizersCsv, series_instance_uid: str
) -> Written:
    # The CSV is read once for all series, so its size is no series' own.
    return Written(
        table=table,
        files=int(bool(csv.sha256)),
        unreadable_files=0,
        bytes=0,
        notes=_warning(table),
        fingerprint=csv.fingerprint(series_instance_uid),
        csv_sha256=csv.sha256,
    )


def _warning(table: StoredTable) -> tuple[str, ...]:
    return (table.warning,) if table.warning else ()
