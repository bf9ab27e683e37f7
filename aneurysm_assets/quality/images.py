"""What the findings need to know of the images: their spread in each series, and single images.

From the unified table alone, on whole columns, so that a million images take seconds. What is
said of it, and which of it is a finding, belongs to `findings`.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from aneurysm_assets.quality.wording import frame_suffix
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import UNIFIED_METADATA
from aneurysm_assets.schema.tolerances import (
    DISTINCT_MM,
    ORIENTATION_COSINES,
    SPACING_RELATIVE,
    UNIT_COSINES,
)
from aneurysm_assets.volumes.directions import orientation_centres
from aneurysm_assets.volumes.grouping import IS_SCOUT

_CT = pl.col("Modality_dicom") == "CT"
_COSINES = [pl.col("ImageOrientationPatient").arr.get(i) for i in range(6)]
_ROW, _COLUMN = _COSINES[:3], _COSINES[3:]
_PLACE = [pl.col("ImagePositionPatient").arr.get(i) for i in range(3)]


def summarise(unified: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what the finders need to know of the images.

    Parameters
    ----------
    unified : pl.LazyFrame
        The unified table; LPS in mm.

    Returns
    -------
    tuple of pl.DataFrame
        `Evidence.series`, sorted, and `Evidence.images`.
    """
    once = unified.filter(pl.col("localizer_index").fill_null(0) == 0)
    readable = once.filter(pl.col("read_error").is_null())
    main = readable.filter(~IS_SCOUT)
    series = once.group_by(SERIES_KEY).agg(
        pl.col("nii_path", "nii_error", "cowseg_path", "cowseg_error").first(),
        files=pl.col("dicom_path").n_unique(),
    )
    frame = series.sort(SERIES_KEY).collect(engine="streaming")
    for part in (
        _repeated_keys(unified),
        _from_headers(readable),
        _spread_of_headers(main),
        _rescale_of_series(main),
    ):
        found = part.collect(engine="streaming")
        frame = frame.join(found, on=SERIES_KEY, how="left", maintain_order="left")
    mixed = frame.filter(pl.col("orientation_spread") > ORIENTATION_COSINES)[SERIES_KEY]
    numbered = frame.select(SERIES_KEY).with_row_index("number").lazy()
    gaps, uneven = _gaps_and_uneven_images(_slices(main.join(numbered, on=SERIES_KEY), mixed))
    frame = frame.join(gaps, on=SERIES_KEY, how="left", maintain_order="left")
    return frame, pl.concat([_images_with_problems(once), uneven], how="diagonal")


def _repeated_keys(unified: pl.LazyFrame) -> pl.LazyFrame:
    """Return the SOPInstanceUIDs, null among them, with which a key occurs more than once."""
    keys = unified.filter(pl.col("read_error").is_null())
    return (
        keys.group_by(UNIFIED_METADATA.key)
        .agg(pl.col(SERIES_KEY).unique(), n=pl.len())
        .filter(pl.col("n") > 1)
        .explode(SERIES_KEY)
        .group_by(SERIES_KEY)
        .agg(
            repeated=pl.col("SOPInstanceUID")
            .fill_null("images without SOPInstanceUID")
            .unique()
            .sort()
        )
    )


def _from_headers(readable: pl.LazyFrame) -> pl.LazyFrame:
    return readable.group_by(SERIES_KEY).agg(
        spacing=pl.col("slice_spacing_mm").first(),
        modalities=pl.col("Modality_dicom").drop_nulls().unique().sort(),
        modality_train=pl.col("Modality_train").first(),
        matches=pl.col("segmentation_matches_series").first(),
    )


def _spread_of_headers(main: pl.LazyFrame) -> pl.LazyFrame:
    matrices = (
        main.select(SERIES_KEY, "Columns", "Rows")
        .unique()
        .group_by(SERIES_KEY)
        .agg(matrices=pl.concat_str("Columns", "Rows", separator="x").sort())
    )
    return (
        main.group_by(SERIES_KEY)
        .agg(
            pl.max_horizontal(c.max() - c.min() for c in _COSINES).alias("orientation_spread"),
            header_spacing=pl.col("SpacingBetweenSlices").abs().median(),
        )
        .join(matrices, on=SERIES_KEY, how="left")
    )


def _rescale_of_series(main: pl.LazyFrame) -> pl.LazyFrame:
    # The least stored value: two's complement reaches below zero, unsigned does not.
    signed, bits = pl.col("PixelRepresentation"), pl.col("BitsStored").cast(pl.Float64)
    stored = pl.when(signed == 1).then(-(2.0 ** (bits - 1))).when(signed == 0).then(0.0)
    names = ("PixelRepresentation", "BitsStored", "RescaleSlope", "RescaleIntercept")
    return (
        main.filter(_CT)
        .select(SERIES_KEY, *names)
        .unique()
        .group_by(SERIES_KEY)
        .agg(
            slopes=pl.col("RescaleSlope").drop_nulls().unique().sort(),
            intercepts=pl.col("RescaleIntercept").drop_nulls().unique().sort(),
            least=(stored * pl.col("RescaleSlope") + pl.col("RescaleIntercept")).min(),
        )
    )


def _images_with_problems(once: pl.LazyFrame) -> pl.DataFrame:
    """Return the images that have a problem of their own, whatever the others are like."""
    lengths = [_dot(v, v).sqrt() for v in (_ROW, _COLUMN)]
    skew = [*(length - 1 for length in lengths), _dot(_ROW, _COLUMN)]
    of_readable = {
        "header_series_differs": pl.col("header_series_instance_uid").is_not_null(),
        "scouts": IS_SCOUT,
        "position_missing": ~IS_SCOUT & pl.col("slice_position_mm").is_null(),
        "cosines_not_orthogonal": pl.any_horizontal(part.abs() > UNIT_COSINES for part in skew),
        "pixel_spacing_missing": ~IS_SCOUT & pl.col("PixelSpacing").is_null(),
        "slice_thickness_missing": ~IS_SCOUT & pl.col("SliceThickness").is_null(),
        "rescale_missing": _CT
        & (pl.col("RescaleSlope").is_null() | pl.col("RescaleIntercept").is_null()),
    }
    readable = pl.col("read_error").is_null()
    flags = {name: readable & flag.fill_null(value=False) for name, flag in of_readable.items()}
    flags["unreadable_files"] = ~readable
    return (
        once.filter(pl.any_horizontal(flags.values()))
        .select(SERIES_KEY, image=_image_name(), **flags)
        .collect(engine="streaming")
    )


def _slices(main: pl.LazyFrame, mixed: pl.Series) -> pl.DataFrame:
    """Return the images with a position, ordered within each `group` as they lie.

    Parameters
    ----------
    main : pl.LazyFrame
        Images that are no scouts, with the `number` of their series.
    mixed : pl.Series
        The series that have several orientations.

    Returns
    -------
    pl.DataFrame
        A group is of one series, orientation and matrix.
    """
    slices = (
        main.filter(pl.col("slice_position_mm").is_not_null())
        .select(
            SERIES_KEY,
            "Rows",
            "Columns",
            "slice_index",
            "slice_spacing_mm",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "dicom_path",
            "frame_index",
            "number",
        )
        .collect(engine="streaming")
    )
    orientation = np.zeros(slices.height, dtype=np.int64)
    several = slices.with_row_index().filter(pl.col(SERIES_KEY).is_in(mixed.implode()))
    for part in several.partition_by("number"):
        # As where slice_index was counted: by rounding, near cosines might fall apart.
        cosines = part["ImageOrientationPatient"].to_numpy()
        orientation[part["index"].to_numpy()] = orientation_centres(cosines)
    order = ["number", "orientation", "Rows", "Columns", "slice_index"]
    return (
        slices.with_columns(orientation=orientation)
        .sort(order)
        .with_columns(group=pl.struct(order[:-1]).rle_id())
    )


def _gaps_and_uneven_images(slices: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what lies between the slices of a group, by series, and the images behind bad gaps."""
    follows = pl.col("group") == pl.col("group").shift(1)
    step = [pl.when(follows).then(place.diff()) for place in _PLACE]
    # From the group's first slice: a slight turn far from the origin would be a shift.
    offset = [place - place.first().over("group") for place in _PLACE]
    gaps = slices.select(
        SERIES_KEY,
        "group",
        "dicom_path",
        "frame_index",
        "slice_spacing_mm",
        way=_dot(step, step).sqrt(),
        along=_dot(step, _normal()).abs(),
        across=_dot(offset, _ROW),
        down=_dot(offset, _COLUMN),
    )
    spreads = [pl.col(side).max() - pl.col(side).min() for side in ("across", "down")]
    shifts = gaps.group_by(SERIES_KEY, "group").agg(pl.max_horizontal(spreads).alias("shift"))
    apart = pl.col("way") > DISTINCT_MM
    directions = gaps.group_by(SERIES_KEY).agg(
        direction=(pl.col("along") / pl.col("way")).filter(apart).median()
    )
    by_series = shifts.group_by(SERIES_KEY).agg(pl.col("shift").max())
    off = (pl.col("along") - pl.col("slice_spacing_mm")).abs()
    uneven = (off > SPACING_RELATIVE * pl.col("slice_spacing_mm")) & (pl.col("along") > DISTINCT_MM)
    flags = {
        "positions_not_distinct": (~apart).fill_null(value=False),
        "spacing_uneven": uneven.fill_null(value=False),
    }
    bad = gaps.filter(pl.any_horizontal(flags.values()))
    return (
        directions.join(by_series, on=SERIES_KEY),
        bad.select(SERIES_KEY, image=_image_name(), **flags),
    )


def _dot(one: Sequence[pl.Expr], other: Sequence[pl.Expr]) -> pl.Expr:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _image_name() -> pl.Expr:
    """Return the name of an image's file, and its frame where it is one of several."""
    return pl.col("dicom_path").str.split("/").list.last() + frame_suffix()


def _normal() -> list[pl.Expr]:
    cross = [
        _ROW[1] * _COLUMN[2] - _ROW[2] * _COLUMN[1],
        _ROW[2] * _COLUMN[0] - _ROW[0] * _COLUMN[2],
        _ROW[0] * _COLUMN[1] - _ROW[1] * _COLUMN[0],
    ]
    length = _dot(cross, cross).sqrt()
    return [component / length for component in cross]
