"""Which images of a series are one volume, and in which order. Coordinates are LPS in mm."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from aneurysm_assets.volumes.directions import (
    Floats,
    Integers,
    cosines_with_normal,
    orientation_centres,
    slice_normals,
)
from aneurysm_assets.volumes.plane import Plane, plane_of_image
from aneurysm_assets.volumes.slices import (
    DISTINCT_TOLERANCE,
    along_normals,
    distinct_slices,
    line_through,
)

LEAST_SLICES = 6
"""Fewer slices than this give no picture from the side worth looking at."""

_LEAST_COSINE = 0.9
"""Between the way from slice to slice and their normal: a tilted gantry passes, as in
`orientation_contradicts_positions`."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel images, in the order of their places, each place once.

    Attributes
    ----------
    rows : list of int
        Which rows of the series' table they are.
    along : ndarray
        How far each is from the first along their normal, mm, ascending.
    first : Plane
        That of the first image.
    step : ndarray
        From slice to slice, for each mm along the normal: LPS.
    """

    rows: list[int]
    along: Floats
    first: Plane
    step: Floats


@dataclass(frozen=True)
class NoStack:
    """Why the images are no volume.

    Attributes
    ----------
    reason : str
        For the reader of the picture.
    is_oriented : bool
        Whether their orientation can be believed all the same.
    """

    reason: str
    is_oriented: bool = True


def find_stack(images: pl.DataFrame) -> Stack | NoStack:
    """Find the volume in the images of a series.

    Parameters
    ----------
    images : pl.DataFrame
        Rows of `dicom_tags` without a `read_error`.

    Returns
    -------
    Stack or NoStack
        Of the images that are no scouts, those of the commonest orientation and matrix.
    """
    number = _largest_group(images)
    if len(number) < LEAST_SLICES:
        return NoStack(f"fewer than {LEAST_SLICES} parallel images with a place")
    places = images["ImagePositionPatient"].to_numpy()[number]
    orientation = images["ImageOrientationPatient"].to_numpy()[number[0]]
    first = plane_of_image(places[0], orientation, images["PixelSpacing"].to_numpy()[number[0]])
    if first is None:
        return NoStack("orientation or spacing cannot be used")
    normal = slice_normals(orientation[None])[0]
    along = along_normals(places, normal)
    distinct = distinct_slices(along)
    if _moves_aside(places, normal):
        return NoStack("the orientation contradicts the positions", is_oriented=False)
    if len(distinct) < LEAST_SLICES:
        return NoStack(f"fewer than {LEAST_SLICES} slices at different places")
    depths = along[distinct]
    line = line_through(places[distinct], depths, normal)
    if not line.is_within(max(first.pixel_size)):
        return NoStack("the slices are shifted against each other")
    corner = Plane(line.first, first.across, first.down)
    return Stack(number[distinct].tolist(), depths - depths[0], corner, line.step)


def _largest_group(images: pl.DataFrame) -> Integers:
    """Return the rows of the commonest orientation, matrix and pixel spacing."""
    scouts = images["is_scout"].fill_null(value=False).to_numpy()
    place = images["ImagePositionPatient"].to_numpy()
    spacing = images["PixelSpacing"].to_numpy()
    cosines = images["ImageOrientationPatient"].to_numpy()
    centres = orientation_centres(cosines_with_normal(cosines))
    known = ~scouts & (centres >= 0) & np.isfinite(place).all(axis=1)
    rows = np.flatnonzero(known & np.isfinite(spacing).all(axis=1))
    if not len(rows):
        return rows
    matrix = images.select("Rows", "Columns").cast(pl.Float64).fill_null(-1).to_numpy()
    keys = np.column_stack([centres, matrix, spacing.round(4)])[rows]
    _, group, sizes = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    largest: Integers = rows[group.reshape(-1) == sizes.argmax()]
    return largest


def _moves_aside(places: Floats, normal: Floats) -> bool:
    """Tell whether the images follow one another in another direction than their normal."""
    way = places[np.argmax(np.linalg.norm(places - places[0], axis=1))] - places[0]
    length = float(np.linalg.norm(way))
    return length > DISTINCT_TOLERANCE and abs(way @ normal) < _LEAST_COSINE * length
