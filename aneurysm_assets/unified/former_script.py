"""The unified table in the 55 columns of `01_create_meta_data.py`, which this project replaces.

What belongs here is which columns that script had, in which order and as what text, so that what
was written for its table goes on. What it got wrong is right here.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import polars as pl

from aneurysm_assets.schema.columns import COMPETITION_TAGS, SERIES, SERIES_KEY, Column
from aneurysm_assets.schema.tables import LABELS, UNIFIED_METADATA, Table

SCRIPT = "01_create_meta_data"

_PATH = "dicom_path"
_FILE = (SERIES_KEY, _PATH)
_POINT = ("frame_index", "x", "y", "location")
_SEGMENTATIONS = ("nii", "cowseg")
_PLACED = pl.col("localizer_index").is_not_null()


def _renamed(name: str, suffix: str) -> str:
    """Return what a column is called where both DICOM and train.csv have it."""
    return name if name in UNIFIED_METADATA.schema else f"{name}{suffix}"


_TAGS = tuple(_renamed(column.name, "_dicom") for column in COMPETITION_TAGS)
_LABELS = tuple(
    _renamed(name, "_train") for name in LABELS.column_names[1:] if name != "train_csv_extra"
)


def _columns() -> Iterable[Column]:
    unified = {column.name: column for column in UNIFIED_METADATA.columns}
    text = pl.String()
    for name in _TAGS:
        is_list = isinstance(unified[name].dtype, pl.Array | pl.List)
        yield replace(unified[name], dtype=text) if is_list else unified[name]
    yield Column("pixel_shape", text, "`(Rows, Columns)`.", "Rows, Columns", "px")
    yield Column(_PATH, text, "The file, with the raw root.", "disk")
    yield SERIES
    yield from (unified[name] for name in _LABELS)
    yield Column(
        "coordinates",
        text,
        "The point as a Python dict: x along columns, y along rows, f the 0-based frame.",
        "train_localizers.csv",
        "px",
    )
    yield unified["location"]
    for prefix in _SEGMENTATIONS:
        yield Column(f"{prefix}_path", text, "The file, with the raw root.", "disk")
        yield replace(unified[f"{prefix}_shape"], dtype=text)
        yield replace(unified[f"{prefix}_affine"], dtype=text)
        pixdim = unified[f"{prefix}_pixdim_all"]
        yield replace(pixdim, name=f"{prefix}_header_pixdim", dtype=text)


AS_SCRIPT = Table(
    name=SCRIPT,
    description="One row per file, and one more for each further aneurysm point on it.",
    columns=tuple(_columns()),
    key=(),
)


def as_script(unified: pl.LazyFrame, unplaced: pl.LazyFrame, raw: str) -> pl.LazyFrame:
    """Return the readable files of the unified table, in its order, as the script had them.

    A file of several frames is one row, with the value that all its frames share; null where they
    differ.

    Parameters
    ----------
    unified : pl.LazyFrame
        The unified table.
    unplaced : pl.LazyFrame
        `LOCALIZERS_WITHOUT_IMAGE`: those on a frame that is not there stand on their file here.
    raw : str
        The raw root, which paths begin with.

    Returns
    -------
    pl.LazyFrame
        With the schema of `AS_SCRIPT`.
    """
    readable = unified.filter(pl.col("read_error").is_null())
    files = (
        readable.with_columns(_as_text(name, str) for name in _list_tags())
        .group_by(_FILE, maintain_order=True)
        .agg(
            *map(_shared, _TAGS),
            *(pl.col(name).first() for name in (*_LABELS, *_of_segmentations())),
        )
    )
    placed = readable.filter(_PLACED).select(*_FILE, *_POINT)
    instance = [SERIES_KEY, "SOPInstanceUID"]
    elsewhere = unplaced.join(files.select(*_FILE, "SOPInstanceUID"), on=instance).select(
        *_FILE, *_POINT
    )
    points = pl.concat([placed, elsewhere]).select(*_FILE, _coordinates(), "location")
    return (
        files.join(points, on=_FILE, how="left", maintain_order="left_right")
        .with_columns(*_paths(raw), _pixel_shape(), *_segmentation_texts())
        .select(AS_SCRIPT.column_names)
    )


def _list_tags() -> tuple[str, ...]:
    schema = UNIFIED_METADATA.schema
    return tuple(name for name in _TAGS if isinstance(schema[name], pl.List))


def _of_segmentations() -> Iterable[str]:
    for prefix in _SEGMENTATIONS:
        yield from (f"{prefix}_{what}" for what in ("path", "shape", "affine", "pixdim_all"))


def _shared(name: str) -> pl.Expr:
    value = pl.col(name)
    is_one = (value.min() == value.max()) & (value.null_count() == 0)
    return pl.when(is_one).then(value.first()).alias(name)


def _coordinates() -> pl.Expr:
    """Return the point as the CSV has it; without a frame where it names none."""
    x, y = (pl.concat_str(pl.lit(f"'{axis}': "), axis) for axis in "xy")
    frame = pl.concat_str(pl.lit(", 'f': "), "frame_index").fill_null("")
    parts = (pl.lit("{"), x, pl.lit(", "), y, frame, pl.lit("}"))
    return pl.concat_str(parts).alias("coordinates")


def _paths(raw: str) -> Iterable[pl.Expr]:
    for name in (_PATH, *(f"{prefix}_path" for prefix in _SEGMENTATIONS)):
        yield pl.concat_str(pl.lit(f"{raw.rstrip('/')}/"), name).alias(name)


def _pixel_shape() -> pl.Expr:
    shape = (pl.lit("("), "Rows", pl.lit(", "), "Columns", pl.lit(")"))
    return pl.concat_str(shape).alias("pixel_shape")


def _segmentation_texts() -> Iterable[pl.Expr]:
    for prefix in _SEGMENTATIONS:
        yield _as_text(f"{prefix}_shape", lambda shape: str(tuple(shape)))
        yield _as_text(f"{prefix}_affine", lambda values: str(_by_rows(values)))
        yield _as_text(f"{prefix}_pixdim_all", str).alias(f"{prefix}_header_pixdim")


def _by_rows(affine: list[float]) -> list[list[float]]:
    return [affine[row : row + 4] for row in range(0, 16, 4)]


def _as_text(name: str, text: Callable[[list[Any]], str]) -> pl.Expr:
    return pl.col(name).map_batches(partial(_texts, text), return_dtype=pl.String)


def _texts(text: Callable[[list[Any]], str], column: pl.Series) -> pl.Series:
    values = [None if value is None else text(value) for value in column.to_list()]
    return pl.Series(column.name, values, dtype=pl.String)
