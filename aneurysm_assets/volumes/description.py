"""What each volume is: its affine, its order, and whether it is regular and its pixels are usable.

On whole columns, so that the volumes of a data set take seconds; those of one series are described
by the same code. Which images are a volume stands in `grouping` and `partition`; whether its slices
are regular, in `regularity`.
"""

from typing import Any

import numpy as np
import polars as pl

from aneurysm_assets.messages import counted
from aneurysm_assets.schema.columns import SERIES_KEY, VOLUME_COLUMNS
from aneurysm_assets.volumes.directions import (
    PLANES,
    Floats,
    Integers,
    obliquity_degrees,
    plane_numbers,
)
from aneurysm_assets.volumes.regularity import MEASURED, Regularity, judge
from aneurysm_assets.volumes.vectors import have_nan

VOLUME_KEY = (SERIES_KEY, "volume_index")

IS_COLOURED = (pl.col("SamplesPerPixel") > 1) | ~pl.col(
    "PhotometricInterpretation"
).str.starts_with("MONOCHROME")
"""Of rows of `dicom_tags`. The values of PALETTE COLOR, too, are no brightness."""

_SCHEMA = pl.Schema(
    {SERIES_KEY: pl.String(), **{column.name: column.stored_dtype for column in VOLUME_COLUMNS}}
)

NEEDED = (
    *(*VOLUME_KEY, "volume_slice_index", "volume_split_by", "is_scout", "read_error"),
    *MEASURED,
    *("SamplesPerPixel", "PhotometricInterpretation", "ImageType", "pixel_data_short"),
    *("dicom_path", "frame_index", "Modality", "Manufacturer", "FrameOfReferenceUID"),
    *("TransferSyntaxUID", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
)
"""The columns of `dicom_tags` that are looked at."""


def describe_volumes(images: pl.DataFrame) -> pl.DataFrame:
    """Describe the volumes of any number of series.

    Parameters
    ----------
    images : pl.DataFrame
        All rows of `dicom_tags` of the series, in any order, at least the columns `NEEDED`.

    Returns
    -------
    pl.DataFrame
        One row per volume, sorted by series and `volume_index`: SeriesInstanceUID and
        `columns.VOLUME_COLUMNS`. A series without a volume has no row.
    """
    of_volumes = pl.col("volume_index").is_not_null() & pl.col("read_error").is_null()
    slices = images.filter(of_volumes).sort(*VOLUME_KEY, "volume_slice_index")
    if slices.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    first = pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in VOLUME_KEY)
    begins = slices.select(first.fill_null(value=True).arg_true()).to_series()
    starts = begins.to_numpy().astype(np.int64)
    shapes = judge(slices, starts)
    reasons = _reasons(slices, starts, shapes)
    described = _texts(slices, shapes).join(
        _left_out(images.filter(~of_volumes.fill_null(value=False))),
        on=SERIES_KEY,
        how="left",
        maintain_order="left",
    )
    return described.with_columns(
        *_columns(shapes, reasons), pl.col("images_left_out").fill_null(0)
    ).select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items())


def _reasons(slices: pl.DataFrame, starts: Integers, shapes: Regularity) -> list[str | None]:
    """Say of each volume why it is not regular: its pixels, then where its slices lie."""
    mosaics = _count(slices["ImageType"].str.contains(r"(^|\\) *MOSAIC *(\\|$)"), starts)
    colours = _colours(slices, shapes)
    short = _count(slices["pixel_data_short"], starts)
    without_pixels = _count(slices["pixel_data_short"].is_null(), starts)
    reasons = []
    for n, of_places in enumerate(shapes.reasons):
        of_pixels = (
            ("its images are mosaics of slices (ImageType MOSAIC)", mosaics[n]),
            (colours.get(n, ""), n in colours),
            (f"{counted(int(short[n]), 'image')} with too few bytes of pixels", short[n]),
            (
                f"{counted(int(without_pixels[n]), 'image')} of which no pixels were found",
                without_pixels[n],
            ),
        )
        said = [*(reason for reason, number in of_pixels if number), *of_places]
        reasons.append("; ".join(said) or None)
    return reasons


def _colours(slices: pl.DataFrame, shapes: Regularity) -> dict[int, str]:
    """Say of each volume that has images in colour which colour, and of how many of its images."""
    volume = pl.Series("volume", shapes.volume_of)
    coloured = slices.with_columns(volume).filter(IS_COLOURED)
    said = {}
    for (n,), images in coloured.group_by("volume"):
        all_of_them = images.height == shapes.counts[n]
        who = "its images are" if all_of_them else f"{counted(images.height, 'image')} in it"
        said[n] = f"{who} in colour ({colour_of(images)})"
    return said


def colour_of(images: pl.DataFrame) -> str:
    """Return what the headers of images in colour say of it, for a message."""
    names = images["PhotometricInterpretation"].drop_nulls().unique().sort().to_list()
    return f"PhotometricInterpretation {', '.join(names) or 'missing'}"


def _count(flags: pl.Series, starts: Integers) -> Integers:
    known = flags.fill_null(value=False).to_numpy().astype(np.int64)
    return np.asarray(np.add.reduceat(known, starts))


def _columns(shapes: Regularity, reasons: list[str | None]) -> list[pl.Series]:
    numbers = {
        "slice_spacing_mm": shapes.spacing,
        "obliquity_degrees": obliquity_degrees(shapes.normals),
        "gantry_tilt_degrees": shapes.tilt,
        "largest_gap_ratio": shapes.largest_ratio,
        "missing_slices": shapes.missing,
    }
    planes = plane_numbers(shapes.normals).tolist()
    return [
        _array(shapes.shape).alias("shape"),
        _array(shapes.affine_ras).alias("affine"),
        _array(shapes.voxel_size).alias("voxel_size"),
        _array(shapes.voxel_size * shapes.shape).alias("extent_mm"),
        *(pl.Series(name, values, nan_to_null=True) for name, values in numbers.items()),
        pl.Series("orientation_plane", [PLANES[n] for n in planes], dtype=pl.String),
        pl.Series("is_regular", [reason is None for reason in reasons]),
        pl.Series("irregular_reason", reasons, dtype=pl.String),
    ]


def _array(values: Floats) -> pl.Series:
    """Return rows of numbers as a column of lists, null where one of them is NaN."""
    flat = values.reshape(len(values), -1)
    column = pl.DataFrame({"values": flat, "known": ~have_nan(values)})
    return column.select(pl.when("known").then(pl.col("values").arr.to_list())).to_series()


def _texts(slices: pl.DataFrame, shapes: Regularity) -> pl.DataFrame:
    """Return per volume what is taken from its rows as it stands."""
    middle = [
        pl.col(name).get(pl.len() // 2).alias(name) for name in ("WindowCenter", "WindowWidth")
    ]
    rescale = [pl.col("RescaleSlope").fill_null(1.0), pl.col("RescaleIntercept").fill_null(0.0)]
    uniform = pl.all_horizontal(part.min() == part.max() for part in rescale)
    return (
        slices.group_by(pl.Series("volume", shapes.volume_of), maintain_order=True)
        .agg(
            pl.col(*VOLUME_KEY, "volume_split_by", "Manufacturer", "FrameOfReferenceUID").first(),
            pl.col("Modality").first().alias("Modality_dicom"),
            pl.col("dicom_path").alias("files"),
            pl.col("frame_index").alias("frames"),
            pl.col("TransferSyntaxUID").drop_nulls().unique().sort().str.join("\\"),
            uniform.alias("rescale_is_uniform"),
            *(pl.when(uniform).then(pl.col(name).first()) for name in _RESCALE),
            *middle,
        )
        .drop("volume")
    )


_RESCALE = ("RescaleSlope", "RescaleIntercept")


def _left_out(images: pl.DataFrame) -> pl.DataFrame:
    """Return per series how many of its images are in no volume, and why."""
    unreadable = pl.col("read_error").is_not_null()
    scouts = pl.col("is_scout").fill_null(value=False) & ~unreadable
    counts = images.group_by(SERIES_KEY).agg(
        images_left_out=pl.len(),
        scouts=scouts.sum(),
        unreadable=unreadable.sum(),
        placeless=(~scouts & ~unreadable).sum(),
    )
    return counts.select(
        SERIES_KEY,
        "images_left_out",
        left_out_reason=pl.Series(
            map(_why_left_out, counts.iter_rows(named=True)), dtype=pl.String
        ),
    )


def _why_left_out(row: dict[str, Any]) -> str:
    parts = (
        (row["scouts"], "scout", ""),
        (row["placeless"], "image", " without a place"),
        (row["unreadable"], "file", " that cannot be read"),
    )
    return ", ".join(counted(number, noun) + what for number, noun, what in parts if number)
