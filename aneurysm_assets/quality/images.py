"""What the findings need to know of the images: their spread in each series, and single images.

From the unified table alone, on whole columns, so that a million images take seconds. What is
said of it, and which of it is a finding, belongs to `findings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from aneurysm_assets.quality.wording import frame_suffix
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import DIRECTORY_VANISHED, IS_FIRST_ROW, UNIFIED_METADATA
from aneurysm_assets.schema.tolerances import DISTINCT_MM, SPACING_RELATIVE
from aneurysm_assets.volumes.grouping import IS_SCOUT

_GROUP = [SERIES_KEY, "image_group"]

_MISSED = (
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "SliceThickness",
)
"""Attributes that a problem calls missing, unless a note says why they are null."""

_CT = pl.col("Modality_dicom") == "CT"
_COSINES = [pl.col("ImageOrientationPatient").list.get(i) for i in range(6)]
_ROW, _COLUMN = _COSINES[:3], _COSINES[3:]
_PLACE = [pl.col("ImagePositionPatient").list.get(i) for i in range(3)]


@dataclass(frozen=True)
class Images:
    """What the finders need to know of the images.

    Attributes
    ----------
    series : pl.DataFrame
        One row per series, sorted.
    groups : pl.DataFrame
        One row per series and `image_group`: what lies between its slices, and what the headers
        say of it.
    images : pl.DataFrame
        The images that have a problem of their own, by name, with a boolean for each such problem.
    """

    series: pl.DataFrame
    groups: pl.DataFrame
    images: pl.DataFrame


def summarise(unified: pl.LazyFrame) -> Images:
    """Return what the finders need to know of the images.

    Parameters
    ----------
    unified : pl.LazyFrame
        The unified table; LPS in mm.
    """
    once = unified.filter(IS_FIRST_ROW)
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
    gaps, between = _gaps_and_uneven_images(_slices(main))
    groups = _groups(main).join(gaps, on=_GROUP, how="left", nulls_equal=True)
    return Images(frame, groups, pl.concat([_images_with_problems(once), between], how="diagonal"))


def _is_noted(name: str) -> pl.Expr:
    return pl.col("header_notes").str.contains(f"{name}: ", literal=True).fill_null(value=False)


_ONLY_ORIENTATION = _is_noted("ImageOrientationPatient") & ~pl.col("header_notes").str.contains(
    "; ", literal=True
)
"""What `cosines_not_orthogonal` says already."""


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
        images=pl.len(),
        announced=pl.col("ImagesInAcquisition").max(),
        modalities=pl.col("Modality_dicom").drop_nulls().unique().sort(),
        modality_train=pl.col("Modality_train").first(),
        matches=pl.col("segmentation_matches_series").first(),
        vanished=pl.col(DIRECTORY_VANISHED.name).first(),
    )


def _spread_of_headers(main: pl.LazyFrame) -> pl.LazyFrame:
    matrices = (
        main.select(SERIES_KEY, "Columns", "Rows")
        .unique()
        .group_by(SERIES_KEY)
        .agg(matrices=pl.concat_str("Columns", "Rows", separator="x").sort())
    )
    between = [pl.col("PixelSpacing").list.get(axis) for axis in (0, 1)]
    return (
        main.group_by(SERIES_KEY)
        .agg(
            pl.max_horizontal(c.max() - c.min() for c in _COSINES).alias("orientation_spread"),
            pl.max_horizontal((c.max() - c.min()) / c.max() for c in between).alias(
                "pixel_spacing_spread"
            ),
            least_pixel_spacing=between[0].min(),
            greatest_pixel_spacing=between[0].max(),
            slices=pl.len(),
            frames_of_reference=pl.col("FrameOfReferenceUID").drop_nulls().n_unique(),
        )
        .join(matrices, on=SERIES_KEY, how="left")
    )


def _groups(main: pl.LazyFrame) -> pl.DataFrame:
    tilt, spacing = (pl.col(n).first() for n in ("gantry_tilt_degrees", "slice_spacing_mm"))
    return (
        main.group_by(_GROUP)
        .agg(
            header_spacing=pl.col("SpacingBetweenSlices").abs().median(),
            tilt=tilt,
            # PS3.3 C.7.6.16.2.1 measures from centre to centre, not along the normal.
            centre_to_centre=spacing / tilt.fill_null(0.0).radians().cos(),
        )
        .sort(_GROUP)
        .collect(engine="streaming")
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
    unsound = {name: _is_noted(name) for name in _MISSED}
    of_readable = {
        "header_series_differs": pl.col("header_series_instance_uid").is_not_null(),
        "scouts": IS_SCOUT,
        "position_missing": ~IS_SCOUT
        & pl.col("slice_position_mm").is_null()
        & ~unsound["ImagePositionPatient"]
        & ~unsound["ImageOrientationPatient"],
        "cosines_not_orthogonal": unsound["ImageOrientationPatient"],
        "pixel_spacing_missing": ~IS_SCOUT
        & pl.col("PixelSpacing").is_null()
        & ~unsound["PixelSpacing"],
        "slice_thickness_missing": ~IS_SCOUT
        & pl.col("SliceThickness").is_null()
        & ~unsound["SliceThickness"],
        "rescale_missing": _CT
        & (pl.col("RescaleSlope").is_null() | pl.col("RescaleIntercept").is_null())
        & ~unsound["RescaleSlope"]
        & ~unsound["RescaleIntercept"],
        "header_malformed": pl.col("header_notes").is_not_null() & ~_ONLY_ORIENTATION,
        "pixel_data_short": pl.col("pixel_data_short"),
    }
    readable = pl.col("read_error").is_null()
    flags = {name: readable & flag.fill_null(value=False) for name, flag in of_readable.items()}
    flags["unreadable_files"] = ~readable
    return (
        once.filter(pl.any_horizontal(flags.values()))
        .select(SERIES_KEY, "header_notes", image=_image_name(), **flags)
        .collect(engine="streaming")
    )


def _slices(main: pl.LazyFrame) -> pl.DataFrame:
    """Return the images with a position, each volume of a series together, ordered as they lie."""
    # A table that an earlier version wrote knows no volumes.
    volume = pl.col("volume_index").fill_null(0)
    place = pl.coalesce("volume_slice_index", "slice_index")
    order = [*_GROUP, "volume", "place"]
    return (
        main.filter(pl.col("slice_position_mm").is_not_null())
        .select(
            *_GROUP,
            "slice_spacing_mm",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "dicom_path",
            "frame_index",
            volume=volume,
            place=place,
        )
        .collect(engine="streaming")
        .sort(order)
        .with_columns(group=pl.struct([*_GROUP, "volume"]).rle_id())
    )


def _gaps_and_uneven_images(slices: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return how far slices of a group are shifted in their plane; the images behind bad gaps."""
    follows = pl.col("group") == pl.col("group").shift(1)
    step = [pl.when(follows).then(place.diff()) for place in _PLACE]
    # From the group's first slice: a slight turn far from the origin would be a shift.
    offset = [place - place.first().over("group") for place in _PLACE]
    gaps = slices.select(
        *_GROUP,
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
    of_volumes = gaps.group_by([*_GROUP, "group"]).agg(pl.max_horizontal(spreads).alias("shift"))
    shifts = of_volumes.group_by(_GROUP).agg(pl.col("shift").max())
    apart = pl.col("way") > DISTINCT_MM
    off = (pl.col("along") - pl.col("slice_spacing_mm")).abs()
    uneven = (off > SPACING_RELATIVE * pl.col("slice_spacing_mm")) & (pl.col("along") > DISTINCT_MM)
    flags = {
        "positions_not_distinct": (~apart).fill_null(value=False),
        "spacing_uneven": uneven.fill_null(value=False),
    }
    ratio = (pl.col("along") / pl.col("slice_spacing_mm")).round(2)
    bad = gaps.filter(pl.any_horizontal(flags.values()))
    return shifts, bad.select(SERIES_KEY, image=_image_name(), ratio=ratio, **flags)


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
