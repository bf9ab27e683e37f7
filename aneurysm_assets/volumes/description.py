"""What each volume is: its affine, its order, and the one verdict whether it is regular.

On whole columns, so that the volumes of a data set take seconds; those of one series are described
by the same code. Which images are a volume stands in `grouping` and `partition`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from aneurysm_assets.messages import counted
from aneurysm_assets.schema.columns import SERIES_KEY, VOLUME_COLUMNS
from aneurysm_assets.schema.tolerances import (
    CORNER_VOXELS,
    DISTINCT_MM,
    IN_PLANE_MM,
    MAX_TILT_DEGREES,
    SPACING_RELATIVE,
)
from aneurysm_assets.volumes.directions import (
    PLANES,
    Booleans,
    Floats,
    Integers,
    obliquity_degrees,
    plane_numbers,
    slice_normals,
)
from aneurysm_assets.volumes.grid import LPS_TO_RAS
from aneurysm_assets.volumes.slices import A_SLICE_AND_A_HALF
from aneurysm_assets.volumes.vectors import vectors

VOLUME_KEY = (SERIES_KEY, "volume_index")

_SCHEMA = pl.Schema(
    {SERIES_KEY: pl.String(), **{column.name: column.stored_dtype for column in VOLUME_COLUMNS}}
)

NEEDED = (
    *(*VOLUME_KEY, "volume_slice_index", "volume_split_by", "is_scout", "read_error"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "ImageType"),
    "pixel_data_short",
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
    starts = slices.select(
        pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in VOLUME_KEY)
        .fill_null(value=True)
        .arg_true()
    ).to_series()
    shapes = _measure(slices, starts.to_numpy().astype(np.int64))
    described = _texts(slices, shapes).join(
        _left_out(images.filter(~of_volumes.fill_null(value=False))),
        on=SERIES_KEY,
        how="left",
        maintain_order="left",
    )
    return described.with_columns(*_columns(shapes), pl.col("images_left_out").fill_null(0)).select(
        pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items()
    )


@dataclass(frozen=True, eq=False)
class _Shapes:
    """Numbers of each volume; what is measured on slices is NaN where there is too little."""

    counts: Integers
    volume_of: Integers
    rows: Floats
    columns: Floats
    affine_ras: Floats
    voxel_size: Floats
    normals: Floats
    spacing: Floats
    largest_ratio: Floats
    missing: Floats
    tilt: Floats
    reasons: list[str | None]


def _measure(slices: pl.DataFrame, starts: Integers) -> _Shapes:
    """Measure volumes whose slices stand one behind the other, in their order."""
    counts = np.diff(np.append(starts, slices.height))
    volume_of = np.repeat(np.arange(len(starts)), counts)
    positions = vectors(slices, "ImagePositionPatient")
    all_cosines = vectors(slices, "ImageOrientationPatient")
    cosines = _firsts(all_cosines, starts)
    pixel_spacing = _firsts(vectors(slices, "PixelSpacing"), starts)
    sides = [_firsts(slices[side].cast(pl.Float64).to_numpy(), starts) for side in _SIDES]
    thickness = _firsts(slices["SliceThickness"].to_numpy(), starts)
    normals = slice_normals(cosines)
    across, down = _unit(cosines[:, :3]), _unit(cosines[:, 3:])
    line = _Line.through(positions, starts, counts, volume_of, normals)
    step = np.where((counts == 1)[:, None], normals * thickness[:, None], line.step)
    step = np.where((np.linalg.norm(step, axis=1) > DISTINCT_MM)[:, None], step, np.nan)
    affine = np.zeros((len(starts), 4, 4))
    affine[:, :3, 0] = across * pixel_spacing[:, 1:]
    affine[:, :3, 1] = down * pixel_spacing[:, :1]
    affine[:, :3, 2], affine[:, :3, 3], affine[:, 3, 3] = step, positions[starts], 1.0
    affine[~np.isfinite(affine).all(axis=(1, 2))] = np.nan
    reach = ((sides[1] - 1) * pixel_spacing[:, 1], (sides[0] - 1) * pixel_spacing[:, 0])
    turned = _corner_mm(all_cosines, cosines, starts, volume_of, reach)
    findings = _Findings(
        counts=counts,
        line=line,
        has_size=~np.isnan(sides[0] + sides[1]),
        has_pixel_spacing=~_has_nan(pixel_spacing),
        has_place=~_has_nan(positions[starts]) & ~_has_nan(normals),
        turned_pixels=turned / pixel_spacing.min(axis=1),
        mosaics=_any(slices["ImageType"].str.contains(r"(^|\\) *MOSAIC *(\\|$)"), starts),
        coloured=_any(_is_coloured(slices), starts),
        short=_count(slices["pixel_data_short"], starts),
        without_pixels=_count(slices["pixel_data_short"].is_null(), starts),
    )
    return _Shapes(
        counts=counts,
        volume_of=volume_of,
        rows=sides[0],
        columns=sides[1],
        affine_ras=LPS_TO_RAS @ affine,
        voxel_size=np.linalg.norm(affine[:, :3, :3], axis=1),
        normals=normals,
        spacing=line.median,
        largest_ratio=line.largest / line.median,
        missing=line.missing,
        tilt=line.tilt,
        reasons=["; ".join(findings.of(n)) or None for n in range(len(starts))],
    )


_SIDES = ("Rows", "Columns")


@dataclass(frozen=True, eq=False)
class _Line:
    """How the slices of each volume follow one another along the line from first to last."""

    step: Floats
    median: Floats
    largest: Floats
    smallest: Floats
    missing: Floats
    repeated: Integers
    places: Integers
    off_mm: Floats
    tilt: Floats
    length: Floats

    @classmethod
    def through(
        cls,
        positions: Floats,
        starts: Integers,
        counts: Integers,
        volume_of: Integers,
        normals: Floats,
    ) -> "_Line":
        # From the first slice: far from the origin, small gaps would be lost to rounding.
        ways = positions - positions[starts][volume_of]
        whole = ways[starts + counts - 1]
        with np.errstate(all="ignore"):
            step = whole / np.where(counts > 1, counts - 1, np.nan)[:, None]
            along = (ways * normals[volume_of]).sum(axis=1)
            numbers = np.arange(len(positions)) - starts[volume_of]
            off = np.linalg.norm(ways - numbers[:, None] * step[volume_of], axis=1)
            upright = np.abs((whole * normals).sum(axis=1))
            sideways = np.linalg.norm(np.cross(whole, normals), axis=1)
            tilt = np.degrees(np.arctan2(sideways, upright))
        length = np.linalg.norm(whole, axis=1)
        gaps = np.diff(along, prepend=np.nan)
        gaps[starts] = np.nan
        distinct = np.where(gaps > DISTINCT_MM, gaps, np.nan)
        median = _median(distinct, volume_of, len(starts))
        with np.errstate(all="ignore"):
            ratios = distinct / median[volume_of]
        extra = np.where(ratios > A_SLICE_AND_A_HALF, np.rint(ratios) - 1, 0)
        places = np.add.reduceat(~np.isnan(distinct), starts) + 1
        return cls(
            step=step,
            median=median,
            largest=np.fmax.reduceat(distinct, starts),
            smallest=np.fmin.reduceat(distinct, starts),
            missing=np.where(np.isnan(median), np.nan, np.add.reduceat(extra, starts)),
            repeated=counts - places,
            places=places,
            off_mm=np.fmax.reduceat(off, starts),
            tilt=np.where(length > DISTINCT_MM, tilt, np.nan),
            length=length,
        )


@dataclass(frozen=True, eq=False)
class _Findings:
    """What can make a volume irregular."""

    counts: Integers
    line: _Line
    has_size: Booleans
    has_pixel_spacing: Booleans
    has_place: Booleans
    turned_pixels: Floats
    mosaics: Booleans
    coloured: Booleans
    short: Integers
    without_pixels: Integers

    def of(self, n: int) -> Iterator[str]:
        """Yield each reason why a volume is not regular."""
        yield from self._pixels(n)
        if not self.has_place[n]:
            yield "no image has both a position and an orientation"
        elif self.counts[n] == 1:
            yield "it is a single slice, so its spacing is not known"
        elif self.line.places[n] == 1:
            yield self._at_one_place(n)
        else:
            yield from self._slices(n)

    def _pixels(self, n: int) -> Iterator[str]:
        if self.mosaics[n]:
            yield "its images are mosaics of slices (ImageType MOSAIC)"
        if self.coloured[n]:
            yield "its images are in colour"
        if self.short[n]:
            yield f"{counted(int(self.short[n]), 'image')} with too few bytes of pixels"
        if self.without_pixels[n]:
            yield f"{counted(int(self.without_pixels[n]), 'image')} of which no pixels were found"
        if not self.has_size[n]:
            yield "Rows or Columns is missing"
        if not self.has_pixel_spacing[n]:
            yield "PixelSpacing is missing"

    def _at_one_place(self, n: int) -> str:
        images = counted(int(self.counts[n]), "image")
        if self.line.length[n] > DISTINCT_MM:
            return (
                f"the positions of its {images} differ within the plane of the images only: "
                "the orientation contradicts the positions"
            )
        return f"all its {images} are at one place"

    def _slices(self, n: int) -> Iterator[str]:
        line = self.line
        if line.repeated[n]:
            yield (
                f"{counted(int(line.repeated[n]), 'image')} at the place of another, and no "
                "attribute tells them apart"
            )
        if line.missing[n]:
            yield (
                f"{counted(int(line.missing[n]), 'slice')} missing: the largest gap is "
                f"{line.largest[n] / line.median[n]:.3g} times the median one"
            )
        else:
            apart = max(line.largest[n] - line.median[n], line.median[n] - line.smallest[n])
            if apart > SPACING_RELATIVE * line.median[n]:
                yield f"gaps between slices differ from the median by up to {apart:.3g} mm"
        if line.tilt[n] > MAX_TILT_DEGREES:
            yield (
                f"slices follow one another at {line.tilt[n]:.3g} degrees to their normal: the "
                "orientation contradicts the positions"
            )
        is_even = not line.repeated[n] and not line.missing[n]
        if is_even and line.off_mm[n] > IN_PLANE_MM:
            yield f"slices are up to {line.off_mm[n]:.3g} mm off the line from first to last"
        if self.turned_pixels[n] > CORNER_VOXELS:
            yield (
                f"orientations differ: corners are up to {self.turned_pixels[n]:.3g} pixels apart"
            )


def _corner_mm(
    all_cosines: Floats,
    cosines: Floats,
    starts: Integers,
    volume_of: Integers,
    reach: tuple[Floats, Floats],
) -> Floats:
    """Return how far a slice's last pixel may lie from where the volume's cosines have it, mm.

    `reach` is how far that pixel is along the row and down the column, mm.
    """
    turned = all_cosines - cosines[volume_of]
    along_row = np.fmax.reduceat(np.linalg.norm(turned[:, :3], axis=1), starts) * reach[0]
    down_column = np.fmax.reduceat(np.linalg.norm(turned[:, 3:], axis=1), starts) * reach[1]
    return np.asarray(along_row + down_column)


def _firsts(values: Floats, starts: Integers) -> Floats:
    """Return the first value of each volume that is no NaN; NaN where there is none."""
    missing = _has_nan(values)
    if not missing[starts].any():
        return values[starts]
    rows = np.arange(len(values))
    first = np.minimum.reduceat(np.where(missing, len(values), rows), starts)
    # A volume without any has NaN at its start.
    return np.asarray(values[np.where(first == len(values), starts, first)])


def _has_nan(values: Floats) -> Booleans:
    return np.asarray(np.isnan(values.reshape(len(values), -1)).any(axis=1))


def _unit(directions: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(directions / np.linalg.norm(directions, axis=1)[:, None])


def _median(values: Floats, volume_of: Integers, number: int) -> Floats:
    """Return the median per volume of values that are no NaN; NaN where there is none."""
    known = ~np.isnan(values)
    found = (
        pl.DataFrame({"volume": volume_of[known], "value": values[known]})
        .group_by("volume")
        .agg(pl.col("value").median())
    )
    medians = np.full(number, np.nan)
    medians[found["volume"].to_numpy()] = found["value"].to_numpy()
    return medians


def _is_coloured(slices: pl.DataFrame) -> pl.Series:
    # The values of PALETTE COLOR are numbers of colours.
    palette = pl.col("PhotometricInterpretation") == "PALETTE COLOR"
    return slices.select((pl.col("SamplesPerPixel") > 1) | palette).to_series()


def _count(flags: pl.Series, starts: Integers) -> Integers:
    known = flags.fill_null(value=False).to_numpy().astype(np.int64)
    return np.asarray(np.add.reduceat(known, starts))


def _any(flags: pl.Series, starts: Integers) -> Booleans:
    return np.asarray(_count(flags, starts) > 0)


def _columns(shapes: _Shapes) -> list[pl.Series]:
    shape = np.column_stack([shapes.columns, shapes.rows, shapes.counts])
    numbers = {
        "slice_spacing_mm": shapes.spacing,
        "obliquity_degrees": obliquity_degrees(shapes.normals),
        "gantry_tilt_degrees": shapes.tilt,
        "largest_gap_ratio": shapes.largest_ratio,
        "missing_slices": shapes.missing,
    }
    planes = plane_numbers(shapes.normals).tolist()
    return [
        _array(shape).alias("shape"),
        _array(shapes.affine_ras).alias("affine"),
        _array(shapes.voxel_size).alias("voxel_size"),
        _array(shapes.voxel_size * shape).alias("extent_mm"),
        *(pl.Series(name, values, nan_to_null=True) for name, values in numbers.items()),
        pl.Series("orientation_plane", [PLANES[n] for n in planes], dtype=pl.String),
        pl.Series("is_regular", [reason is None for reason in shapes.reasons]),
        pl.Series("irregular_reason", shapes.reasons, dtype=pl.String),
    ]


def _array(values: Floats) -> pl.Series:
    """Return rows of numbers as a column of lists, null where one of them is NaN."""
    flat = values.reshape(len(values), -1)
    column = pl.DataFrame({"values": flat, "known": ~_has_nan(values)})
    return column.select(pl.when("known").then(pl.col("values").arr.to_list())).to_series()


def _texts(slices: pl.DataFrame, shapes: _Shapes) -> pl.DataFrame:
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
