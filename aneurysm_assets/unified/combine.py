"""The tables of the series to the one table: what is joined on what, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import (
    DICOM_TAGS,
    DIRECTORY_VANISHED,
    IS_FIRST_ROW,
    LABELS,
    LOCALIZERS,
    LOCALIZERS_WITHOUT_IMAGE,
    SEGMENTATION_META,
    SERIES_TABLES,
    UNIFIED_METADATA,
    Table,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.storage.table_names import find_table, find_tables
from aneurysm_assets.storage.table_scans import read_table, scan_tables
from aneurysm_assets.unified.localizer_geometry import (
    POINT_KEY,
    Placement,
    in_patient_coordinates,
    place,
    segmented,
)

_IMAGE = [SERIES_KEY, "SOPInstanceUID", "frame_index"]


@dataclass(frozen=True)
class Combined:
    """What the unified table holds.

    Attributes
    ----------
    images : int
        Readable images, each counted once whatever its number of points.
    unreadable_files : int
        Rows with a `read_error`.
    images_with_localizers : int
        Images with at least one aneurysm point.
    localizers_without_image : tuple of str
        `series/instance/frame: reason` of each point that found no image.
    series_with_segmentations : int
        Series with at least one file of the pair.
    """

    images: int
    unreadable_files: int
    images_with_localizers: int
    localizers_without_image: tuple[str, ...]
    series_with_segmentations: int


@dataclass(frozen=True)
class Unified:
    """The unified table, not yet computed.

    Attributes
    ----------
    frame : pl.LazyFrame
        With the schema of `tables.UNIFIED_METADATA`.
    points : pl.DataFrame
        The `localizers` of its series.
    warnings : list of str
        Segmentations that could not be read any more.
    """

    frame: pl.LazyFrame
    points: pl.DataFrame
    warnings: list[str]


def combine(settings: Settings, series: Sequence[str], vanished: Sequence[str] = ()) -> Unified:
    """Join the four tables of the given series.

    Parameters
    ----------
    settings : Settings
        Where the tables are.
    series : sequence of str
        SeriesInstanceUIDs whose four files are there; their order becomes the rows' order.
    vanished : sequence of str
        Those of them whose directory is gone.

    Returns
    -------
    Unified
        Each row of dicom_tags once, and once more for each further point on the same image.

    Raises
    ------
    FileNotFoundError
        A file of a series is not there.
    """
    images = scan_series(settings, DICOM_TAGS, series)
    labels = scan_series(settings, LABELS, series)
    shared = (set(DICOM_TAGS.column_names) & set(LABELS.column_names)) - {SERIES_KEY}
    images = images.rename({name: f"{name}_dicom" for name in shared})
    labels = labels.rename({name: f"{name}_train" for name in shared})
    localizers = scan_series(settings, LOCALIZERS, series).collect()
    points = _by_image(localizers).drop("row")
    segmentations = scan_series(settings, SEGMENTATION_META, series).collect()
    placement = _placement(settings, series, points, segmentations)
    # Put together before, so that all images are joined with it once.
    of_series = (
        labels.collect()
        .join(segmentations, on=SERIES_KEY, how="left")
        .join(placement.matches, on=SERIES_KEY, how="left")
    )
    frame = (
        images.join(of_series.lazy(), on=SERIES_KEY, how="left", maintain_order="left")
        .join(points.lazy(), on=_IMAGE, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(in_patient_coordinates(settings.pixel_coordinates))
        .join(
            placement.points.lazy(),
            on=POINT_KEY,
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
        .with_columns(pl.col(SERIES_KEY).is_in(list(vanished)).alias(DIRECTORY_VANISHED.name))
        .select(UNIFIED_METADATA.column_names)
    )
    return Unified(frame, localizers, placement.warnings)


def remove_damaged(settings: Settings, series: Sequence[str]) -> list[str]:
    """Remove the tables of series that cannot be read, so that these count as missing.

    Returns
    -------
    list of str
        The files that are gone, below the interim root.

    Raises
    ------
    OSError
        A file cannot be removed, or the bucket does not answer.
    """
    removed = []
    for table in SERIES_TABLES:
        stored = find_tables(settings.interim / table.name)
        for path in (stored[uid] for uid in series if uid in stored):
            try:
                read_table(table, path)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
                path.unlink()
                removed.append(f"{table.name}/{path.name}")
    return removed


def _placement(
    settings: Settings, series: Sequence[str], points: pl.DataFrame, segmentations: pl.DataFrame
) -> Placement:
    """Place the points of the series that have a segmentation; the others' images are not read."""
    some = segmented(series, segmentations)
    images = scan_series(settings, DICOM_TAGS, some).collect()
    placed = images.join(points, on=_IMAGE, how="inner", nulls_equal=True, maintain_order="left")
    placed = placed.select(*POINT_KEY, *in_patient_coordinates(settings.pixel_coordinates))
    return place(settings, images, placed, segmentations)


def describe(lost: pl.DataFrame, unified: pl.LazyFrame) -> Combined:
    """Count what a reader of the unified table wants to know first.

    Parameters
    ----------
    lost : pl.DataFrame
        The points that found no image, from `points_without_image`.
    unified : pl.LazyFrame
        The unified table, as it is stored.
    """
    readable = pl.col("read_error").is_null()
    segmented = pl.col("nii_path").is_not_null() | pl.col("cowseg_path").is_not_null()
    counts = unified.select(
        images=(IS_FIRST_ROW & readable).sum(),
        unreadable_files=(IS_FIRST_ROW & ~readable).sum(),
        images_with_localizers=(pl.col("localizer_index") == 0).sum(),
        series_with_segmentations=pl.col(SERIES_KEY).filter(segmented).n_unique(),
    ).collect()
    return Combined(
        localizers_without_image=tuple(map(_point_name, lost.iter_rows(named=True))),
        **counts.row(0, named=True),
    )


def scan_series(settings: Settings, table: Table, series: Sequence[str]) -> pl.LazyFrame:
    """Scan one table of the given series, in their order.

    Raises
    ------
    FileNotFoundError
        A file of a series is not there.
    """
    files = find_tables(settings.interim / table.name)
    return scan_tables(table, [_file(files, table, uid) for uid in series])


def scan_unified(settings: Settings) -> pl.LazyFrame:
    """Scan the unified table.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    path = find_table(settings.unified_table)
    if path is None:
        raise FileNotFoundError(
            f"there is no unified table at {settings.unified_table}: make it with "
            "`aneurysm-assets run`"
        )
    return scan_tables(UNIFIED_METADATA, [path])


def _file(files: Mapping[str, Location], table: Table, series_instance_uid: str) -> Location:
    if series_instance_uid not in files:
        raise FileNotFoundError(f"{table.name} of series {series_instance_uid} is not there")
    return files[series_instance_uid]


def _by_image(localizers: pl.DataFrame) -> pl.DataFrame:
    """Return the points numbered on each image, and a `row` that identifies the point.

    An image of a single-frame file has no `frame_index`, so a point on its frame 0 is offered
    under both; the images of one file have either the one or the other, never both.
    """
    ordered = localizers.with_row_index("row")
    single = ordered.filter(pl.col("frame_index") == 0).with_columns(
        frame_index=pl.lit(None, dtype=pl.Int32)
    )
    return (
        pl.concat([ordered, single])
        .sort("row")
        .with_columns(localizer_index=pl.int_range(pl.len(), dtype=pl.Int32).over(_IMAGE))
    )


def points_without_image(points: pl.DataFrame, unified: pl.LazyFrame) -> pl.DataFrame:
    """Return those of the points that stand on no row of the unified table, with the reason.

    Parameters
    ----------
    points : pl.DataFrame
        The `localizers` of the series that were combined.
    unified : pl.LazyFrame
        The unified table.

    Returns
    -------
    pl.DataFrame
        With the schema of `tables.LOCALIZERS_WITHOUT_IMAGE`.
    """
    key = [*_IMAGE, "localizer_index"]
    placed = unified.filter(pl.col("localizer_index").is_not_null()).select(key).collect()
    found = _by_image(points).join(placed, on=key, how="semi", nulls_equal=True)["row"].unique()
    lost = points.with_row_index("row").filter(~pl.col("row").is_in(found.implode())).drop("row")
    file = [SERIES_KEY, "SOPInstanceUID"]
    frames = (
        unified.filter(pl.col("read_error").is_null())
        .join(lost.lazy().select(file).unique(), on=file, how="semi")
        .group_by(file)
        .agg(
            frames=pl.col("frame_index").n_unique(), is_single=pl.col("frame_index").is_null().any()
        )
        .collect()
    )
    return (
        lost.join(frames, on=file, how="left", maintain_order="left")
        .with_columns(reason=_why_lost())
        .select(LOCALIZERS_WITHOUT_IMAGE.column_names)
    )


def _why_lost() -> pl.Expr:
    frame = pl.col("frame_index")
    has = [pl.lit("the file has "), pl.col("frames").cast(pl.String)]
    return (
        pl.when(pl.col("frames").is_null())
        .then(pl.lit("no readable file of the series has this SOPInstanceUID"))
        .when(pl.col("is_single"))
        .then(pl.lit("the file is of a single frame, and the point names another"))
        .when(frame.is_null())
        .then(pl.concat_str(*has, pl.lit(" frames, and the point names none")))
        .otherwise(pl.concat_str(*has, pl.lit(" frames, and not the one that the point names")))
    )


def _point_name(row: dict[str, Any]) -> str:
    frame = "" if row["frame_index"] is None else f"/{row['frame_index']}"
    return f"{row[SERIES_KEY]}/{row['SOPInstanceUID']}{frame}: {row['reason']}"
