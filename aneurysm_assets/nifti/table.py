"""Writes the `segmentation_meta` of one series.

nibabel is imported where it is used, as the process that hands out the work needs none of it.
"""

from collections.abc import Container

import polars as pl

from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.raw.fingerprints import fingerprint_of_pair, require_unchanged
from aneurysm_assets.raw.segmentation_files import STEM_SUFFIXES, Pair, find_pair
from aneurysm_assets.schema.tables import SEGMENTATION_META
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import StagedFiles
from aneurysm_assets.storage.table_files import write_table


def write_segmentation_meta(
    settings: Settings,
    series_instance_uid: str,
    segmented: Container[str] | None = None,
    *,
    staged: StagedFiles | None = None,
) -> SeriesResult:
    """Read the headers of a series' segmentation files and write its `segmentation_meta`.

    Parameters
    ----------
    settings : Settings
        Where things are.
    series_instance_uid : str
        Any series.
    segmented : container of str, optional
        The series that have any file, where that is known already.
    staged : StagedFiles, optional
        Where the file waits for `batch_commit`; without it the file is put in its place.

    Raises
    ------
    SeriesError
        A file is there and cannot be read, for the machine's fault and not that of its bytes, or
        changed meanwhile.
    OSError
        The table cannot be written.
    """
    stem = settings.table_of_series(SEGMENTATION_META.name, series_instance_uid)
    pair: Pair = {}
    if segmented is None or series_instance_uid in segmented:
        pair = find_pair(settings.segmentations_root, series_instance_uid)
    fingerprint = fingerprint_of_pair(pair)
    frame = _row_of_pair(settings, series_instance_uid, pair)
    what = f"the segmentation files of {series_instance_uid}"
    require_unchanged(what, fingerprint, fingerprint_of_pair(pair))
    errors = _errors(frame)
    table = write_table(frame, SEGMENTATION_META, stem, staged=staged)
    return SeriesResult(
        table=table,
        files=len(pair),
        unreadable_files=len(errors),
        bytes=sum(path.stat().st_size for path in pair.values()),
        notes=(*table.warnings, *errors),
        fingerprint=fingerprint,
    )


def _errors(frame: pl.DataFrame) -> list[str]:
    """Name the files of a row that cannot be used, and why."""
    return [
        f"{row[f'{prefix}_path']}: {row[f'{prefix}_error']}"
        for row in frame.iter_rows(named=True)
        for prefix in STEM_SUFFIXES
        if row[f"{prefix}_error"] is not None
    ]


def _row_of_pair(settings: Settings, series_instance_uid: str, pair: Pair) -> pl.DataFrame:
    if not pair:
        return SEGMENTATION_META.without_rows
    from aneurysm_assets.nifti.segmentation import segmentation_meta  # noqa: PLC0415 - as said above

    return segmentation_meta(settings.segmentations_root, settings.raw, series_instance_uid, pair)
