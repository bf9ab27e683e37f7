"""Writes the `labels` and `localizers` of one series, from CSVs that are read already."""

from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.raw.train_csv import TrainCsv
from aneurysm_assets.schema.about import Facts, about_labels, about_points
from aneurysm_assets.schema.tables import LABELS, LOCALIZERS
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import StagedFiles
from aneurysm_assets.storage.table_files import StoredTable, write_table


def write_labels(
    settings: Settings,
    train: TrainCsv,
    series_instance_uid: str,
    *,
    staged: StagedFiles | None = None,
) -> SeriesResult:
    """Write the `labels` of a series: its row of train.csv, nulls where it has none.

    Raises
    ------
    SeriesError
        Its rows contradict each other, or a value cannot be typed.
    OSError
        The table cannot be written.
    """
    stem = settings.table_of_series(LABELS.name, series_instance_uid)
    labels = train.labels(series_instance_uid)
    table = write_table(labels, LABELS, stem, staged=staged)
    return _from_csv(table, train, series_instance_uid, about_labels(labels))


def write_localizers(
    settings: Settings,
    localizers: LocalizersCsv,
    series_instance_uid: str,
    *,
    staged: StagedFiles | None = None,
) -> SeriesResult:
    """Write the `localizers` of a series, without rows where it has none.

    Raises
    ------
    SeriesError
        A coordinate literal of the series cannot be read.
    OSError
        The table cannot be written.
    """
    stem = settings.table_of_series(LOCALIZERS.name, series_instance_uid)
    points = localizers.localizers(series_instance_uid)
    table = write_table(points, LOCALIZERS, stem, staged=staged)
    return _from_csv(table, localizers, series_instance_uid, about_points(points))


def _from_csv(
    table: StoredTable, csv: TrainCsv | LocalizersCsv, series_instance_uid: str, about: Facts
) -> SeriesResult:
    # The CSV is read once for all series, so its size is no series' own.
    return SeriesResult(
        table=table,
        files=int(bool(csv.sha256)),
        unreadable_files=0,
        bytes=0,
        notes=table.warnings,
        fingerprint=csv.fingerprint(series_instance_uid),
        csv_sha256=csv.sha256,
        about=about,
    )
