"""The unified table as one file, CSV or Parquet: a row per image, or a row per series.

What the columns of a series are is decided here; tables in parts belong to `export`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import IO, Literal

import polars as pl
import pyarrow.parquet as pq

from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import one_line
from aneurysm_assets.schema.columns import SERIES, SERIES_KEY, Column
from aneurysm_assets.schema.tables import (
    IS_FIRST_ROW,
    LABELS,
    LOCALIZERS_WITHOUT_IMAGE,
    SEGMENTATION_META,
    SERIES_QUALITY,
    UNIFIED_METADATA,
    UNIFIED_ORIGINS,
    Table,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import atomic_write
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.storage.table_files import described_schema, lists_as_json
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.storage.table_scans import scan_tables
from aneurysm_assets.unified.former_script import AS_SCRIPT, as_script

Rows = Literal["image", "series", "file"]

SUFFIXES = (".csv", ".parquet")

_WRITER = b"aneurysm_assets.export"
"""Metadata by which a Parquet file is known as an export."""

_OF_LARGEST_GROUP = (
    *("Modality_dicom", "Manufacturer", "Rows", "Columns", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "ImageOrientationPatient", "orientation_plane"),
    *("obliquity_degrees", "slice_spacing_mm", "missing_slices", "largest_gap_ratio"),
    *("gantry_tilt_degrees", "NumberOfFrames", "TransferSyntaxUID"),
)
"""Columns of an image of which a series has the value of the first of its largest group."""

_IS_READABLE = pl.col("read_error").is_null()
_IS_OF_LARGEST = _IS_READABLE & (pl.col("image_group") == 0)

_COUNTS = {
    "images": (IS_FIRST_ROW & _IS_READABLE).sum(),
    "images_of_largest_group": (IS_FIRST_ROW & _IS_OF_LARGEST).sum(),
    "image_groups": pl.col("image_group").n_unique() - pl.col("image_group").has_nulls().cast(int),
    "unreadable": (IS_FIRST_ROW & ~_IS_READABLE).sum(),
    "points": pl.col("localizer_index").is_not_null().sum(),
}
"""What is counted of a series."""

_COUNTED_AS = {
    "images": "Readable images, that is frames of files.",
    "images_of_largest_group": "Those of the largest group, whose geometry the columns below are.",
    "image_groups": "Groups of images that share their geometry; scouts are of none.",
    "unreadable": "Files that cannot be read.",
    "points": "Aneurysm points that stand on an image.",
}


def _whole_series() -> tuple[str, ...]:
    """Return the columns of the unified table that hold one value per series."""
    once = {LABELS.name, SEGMENTATION_META.name}
    origins = {name: {table for table, _ in of} for name, of in UNIFIED_ORIGINS.items()}
    taken = (name for name, tables in origins.items() if tables and tables <= once)
    return (*taken, "segmentation_matches_series")


def _columns() -> Iterable[Column]:
    unified = {column.name: column for column in UNIFIED_METADATA.columns}
    yield SERIES
    yield from (Column(n, pl.Int32(), text, "counted") for n, text in _COUNTED_AS.items())
    yield from (unified[name] for name in (*_OF_LARGEST_GROUP, *_whole_series()))
    yield from SERIES_QUALITY.columns[1:]


PER_SERIES = Table(
    name="series",
    description="One row per series of the unified table, with its problems.",
    columns=tuple(_columns()),
    key=(SERIES_KEY,),
)

_TABLES: dict[Rows, Table] = {"image": UNIFIED_METADATA, "series": PER_SERIES, "file": AS_SCRIPT}


def export_file(settings: Settings, to: Path, rows: Rows, *, overwrite: bool = False) -> int:
    """Write the unified table as one file.

    Parameters
    ----------
    settings : Settings
        Where the table is.
    to : Path
        A file; its suffix says whether it is CSV, with lists as JSON, or Parquet.
    rows : {"image", "series", "file"}
        What one row is: as in the unified table, with the columns of `PER_SERIES`, or with those
        of `AS_SCRIPT`.
    overwrite : bool
        Replace a file that an earlier export wrote.

    Returns
    -------
    int
        The number of rows.

    Raises
    ------
    InputError
        There is no table, or `to` is not ours to replace.
    OSError
        The disk is full, the bucket cannot be read, or the like. What was there is untouched.
    """
    table = _TABLES[rows]
    frame = _scan(settings, UNIFIED_METADATA, settings.unified_table)
    if rows == "series":
        frame = scan_per_series(settings)
    if rows == "file":
        unplaced = _scan(settings, LOCALIZERS_WITHOUT_IMAGE, settings.unplaced_table)
        frame = as_script(frame, unplaced, str(settings.raw))
    _check_file(to, overwrite=overwrite)
    write = partial(_write_csv if to.suffix == ".csv" else _write_parquet, table, frame)
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        return atomic_write(to, write)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"a table in {settings.interim} is of another version or damaged ({one_line(error)}): "
            "`aneurysm-assets run --force` makes it anew"
        ) from error


def scan_per_series(settings: Settings) -> pl.LazyFrame:
    """Return one row per series of the unified table, with the columns of `PER_SERIES`.

    Raises
    ------
    InputError
        One of its two tables is not there.
    """
    unified = _scan(settings, UNIFIED_METADATA, settings.unified_table)
    quality = _scan(settings, SERIES_QUALITY, settings.quality_table)
    return one_row_per_series(unified, quality)


def one_row_per_series(unified: pl.LazyFrame, quality: pl.LazyFrame) -> pl.LazyFrame:
    """Return the series of the unified table, in its order, with the columns of `PER_SERIES`."""
    first = [pl.col(name).filter(_IS_OF_LARGEST).first() for name in _OF_LARGEST_GROUP]
    counts = [count.cast(pl.Int32).alias(name) for name, count in _COUNTS.items()]
    return (
        unified.group_by(SERIES_KEY, maintain_order=True)
        .agg(*counts, *first, *(pl.col(name).first() for name in _whole_series()))
        .join(quality, on=SERIES_KEY, how="left", maintain_order="left")
        .select(PER_SERIES.column_names)
    )


def _scan(settings: Settings, table: Table, stem: Location) -> pl.LazyFrame:
    path = find_table(stem)
    if path is None:
        raise InputError(
            f"there is no {table.name} in {settings.interim}: make it with `aneurysm-assets run`"
        )
    return scan_tables(table, [path])


def _write_csv(table: Table, frame: pl.LazyFrame, to: Path | IO[bytes]) -> int:
    frame = frame.with_columns(lists_as_json(table.schema))
    frame.sink_csv(to, maintain_order=True, quote_style="non_numeric")
    return _height(frame)


def _write_parquet(table: Table, frame: pl.LazyFrame, to: Path | IO[bytes]) -> int:
    metadata = {_WRITER.decode(): table.name}
    schema = described_schema(table)
    frame.sink_parquet(to, maintain_order=True, metadata=metadata, arrow_schema=schema)
    return _height(frame)


def _height(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect().item())


def _check_file(to: Path, *, overwrite: bool) -> None:
    """Refuse to replace what no export wrote, and what one did where nobody asks for it."""
    if not to.exists():
        return
    if not to.is_file() or not _is_export(to):
        raise InputError(
            f"{to} is there and was not written by `aneurysm-assets export`: it is left alone"
        )
    if not overwrite:
        raise InputError(f"{to} holds an export already: --overwrite replaces it")


def _is_export(path: Path) -> bool:
    of_suffix: dict[str, Callable[[Path], bool]] = {".csv": _is_csv, ".parquet": _is_parquet}
    return of_suffix[path.suffix](path)


def _is_csv(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(200)
    return any(
        first.startswith(f'"{table.column_names[0]}","'.encode()) for table in _TABLES.values()
    )


def _is_parquet(path: Path) -> bool:
    try:
        return _WRITER in (pq.read_metadata(path).metadata or {})
    except (OSError, ValueError):
        return False
