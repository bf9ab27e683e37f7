"""Whether volumes are regular: the one verdict on where slices lie, and the affine it is about.

Step and normal agree, slices are evenly spaced, complete, on a line and of one direction. On whole
columns, so that the volumes of a data set take seconds. Tables, previews, the match with a
segmentation and the loading of a volume ask here; whether the pixels can be used is another matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from aneurysm_assets.messages import counted
from aneurysm_assets.schema.tolerances import (
    CORNER_VOXELS,
    DISTINCT_MM,
    IN_PLANE_MM,
    MAX_TILT_DEGREES,
    SPACING_RELATIVE,
)
from aneurysm_assets.volumes.directions import Booleans, Floats, Integers, slice_normals, unit_pairs
from aneurysm_assets.volumes.grid import LPS_TO_RAS, Grid, are_flat
from aneurysm_assets.volumes.slices import A_SLICE_AND_A_HALF
from aneurysm_assets.volumes.vectors import have_nan, vectors

MEASURED = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("Rows", "Columns"),
)
"""The columns of `dicom_tags` that are looked at."""


@dataclass(frozen=True, eq=False)
class Regularity:
    """Where the voxels of volumes are, and why that is not so of each voxel.

    What is measured on slices is NaN where there are too few; an affine is NaN where a number of it
    is missing.

    Attributes
    ----------
    counts : ndarray of shape (volumes,)
        Slices.
    volume_of : ndarray of shape (slices,)
        The number of each slice's volume.
    shape : ndarray of shape (volumes, 3)
        Voxels along i, j, k.
    affine_ras : ndarray of shape (volumes, 4, 4)
        From voxel index to RAS mm.
    voxel_size : ndarray of shape (volumes, 3)
        Lengths of the affine's columns, mm.
    normals : ndarray of shape (volumes, 3)
        Of unit length, LPS.
    spacing, largest_ratio, missing, tilt : ndarray of shape (volumes,)
        The median gap along the normal, mm; the largest one over it; the slices that would fill the
        wide ones; the angle between the normal and the way from the first slice to the last,
        degrees.
    reasons : list of list of str
        Why a volume is not regular; none for one that is.
    """

    counts: Integers
    volume_of: Integers
    shape: Floats
    affine_ras: Floats
    voxel_size: Floats
    normals: Floats
    spacing: Floats
    largest_ratio: Floats
    missing: Floats
    tilt: Floats
    reasons: list[list[str]]

    def grid(self, number: int) -> Grid | None:
        """Return the grid of a volume, None where it is not regular."""
        if self.reasons[number]:
            return None
        i, j, k = (int(length) for length in self.shape[number].tolist())
        return Grid((i, j, k), self.affine_ras[number])


def judge(slices: pl.DataFrame, starts: Integers | None = None) -> Regularity:
    """Measure volumes and judge whether they are regular.

    Parameters
    ----------
    slices : pl.DataFrame
        Rows of `dicom_tags`, at least the columns `MEASURED`: the slices of one volume behind those
        of another, each in the order of `volume_slice_index`.
    starts : ndarray of int, optional
        The row of the first slice of each volume; by default all are of one.
    """
    starts = np.zeros(1, np.int64) if starts is None else starts
    counts = np.diff(np.append(starts, slices.height))
    volume_of = np.repeat(np.arange(len(starts)), counts)
    positions = vectors(slices, "ImagePositionPatient")
    all_cosines = vectors(slices, "ImageOrientationPatient")
    cosines = _firsts(all_cosines, starts)
    pixel_spacing = _firsts(vectors(slices, "PixelSpacing"), starts)
    rows, columns = (_first_numbers(slices, side, starts) for side in ("Rows", "Columns"))
    normals, (across, down) = slice_normals(cosines), unit_pairs(cosines)
    line = _Line.through(positions, starts, counts, volume_of, normals)
    alone = normals * _first_numbers(slices, "SliceThickness", starts)[:, None]
    step = np.where((counts == 1)[:, None], alone, line.step)
    step = np.where((np.linalg.norm(step, axis=1) > DISTINCT_MM)[:, None], step, np.nan)
    with np.errstate(all="ignore"):
        sides = across * pixel_spacing[:, 1:], down * pixel_spacing[:, :1]
    affine_ras = LPS_TO_RAS @ _affines(*sides, step, positions[starts])
    reach = ((columns - 1) * pixel_spacing[:, 1], (rows - 1) * pixel_spacing[:, 0])
    turned = _corner_mm(all_cosines, cosines, starts, volume_of, reach)
    findings = _Findings(
        counts=counts,
        line=line,
        has_size=(rows >= 1) & (columns >= 1),
        has_pixel_spacing=_are_positive(pixel_spacing),
        has_place=np.isfinite(positions[starts]).all(axis=1) & ~have_nan(across),
        has_affine=~are_flat(affine_ras),
        turned_pixels=turned / pixel_spacing.min(axis=1),
    )
    return Regularity(
        counts=counts,
        volume_of=volume_of,
        shape=np.column_stack([columns, rows, counts]),
        affine_ras=affine_ras,
        voxel_size=np.linalg.norm(affine_ras[:, :3, :3], axis=1),
        normals=normals,
        spacing=line.median,
        largest_ratio=line.largest / line.median,
        missing=line.missing,
        tilt=line.tilt,
        reasons=[list(findings.of(n)) for n in range(len(starts))],
    )


def contradicts_positions(tilt_degrees: float) -> bool:
    """Tell whether a tilt is more than a gantry's: orientation or positions are wrong."""
    return bool(tilt_degrees > MAX_TILT_DEGREES)


def _affines(across: Floats, down: Floats, step: Floats, first: Floats) -> Floats:
    affines = np.zeros((len(step), 4, 4))
    affines[:, :3, 0], affines[:, :3, 1] = across, down
    affines[:, :3, 2], affines[:, :3, 3], affines[:, 3, 3] = step, first, 1.0
    affines[~np.isfinite(affines).all(axis=(1, 2))] = np.nan
    return affines


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
    has_affine: Booleans
    turned_pixels: Floats

    def of(self, n: int) -> Iterator[str]:
        """Yield each reason why a volume is not regular."""
        reasons = list(self._known(n))
        if not reasons and not self.has_affine[n]:
            reasons = ["its numbers give no affine that can be inverted"]
        yield from reasons

    def _known(self, n: int) -> Iterator[str]:
        if not self.has_size[n]:
            yield "Rows or Columns is missing"
        if not self.has_pixel_spacing[n]:
            yield "PixelSpacing is missing"
        if not self.has_place[n]:
            yield "no image has both a position and an orientation"
        elif self.counts[n] == 1:
            yield "it is a single slice, so its spacing is not known"
        elif self.line.places[n] == 1:
            yield self._at_one_place(n)
        else:
            yield from self._slices(n)

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
        if contradicts_positions(line.tilt[n]):
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
    missing = have_nan(values)
    if not missing[starts].any():
        return values[starts]
    rows = np.arange(len(values))
    first = np.minimum.reduceat(np.where(missing, len(values), rows), starts)
    # A volume without any has NaN at its start.
    return np.asarray(values[np.where(first == len(values), starts, first)])


def _first_numbers(slices: pl.DataFrame, name: str, starts: Integers) -> Floats:
    return _firsts(slices[name].cast(pl.Float64).to_numpy(), starts)


def _are_positive(values: Floats) -> Booleans:
    return np.asarray((np.isfinite(values) & (values > 0)).all(axis=1))


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
