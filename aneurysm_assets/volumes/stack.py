"""Which images of a series are one volume, and in which order. Coordinates are LPS in mm."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from aneurysm_assets.volumes.directions import Floats, Integers, slice_normals
from aneurysm_assets.volumes.grid import Grid
from aneurysm_assets.volumes.grouping import IS_SCOUT
from aneurysm_assets.volumes.plane import Plane, plane_of_image
from aneurysm_assets.volumes.regularity import MEASURED, contradicts_positions, judge
from aneurysm_assets.volumes.series_geometry import add_geometry
from aneurysm_assets.volumes.slices import (
    along_normals,
    distinct_slices,
    line_through,
)
from aneurysm_assets.volumes.vectors import vectors

LEAST_SLICES = 6
"""Fewer slices than this give no picture from the side worth looking at."""

_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")


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
    irregular : list of str
        Why the volume is not regular, as `regularity.judge` has it; none for one that is.
    """

    rows: list[int]
    along: Floats
    first: Plane
    step: Floats
    irregular: list[str]


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
        Of the largest volume.
    """
    number = _largest_volume(images)
    if len(number) < LEAST_SLICES:
        return NoStack(f"fewer than {LEAST_SLICES} parallel images with a place")
    places = vectors(images, "ImagePositionPatient")[number]
    orientation = vectors(images, "ImageOrientationPatient")[number[0]]
    spacing = vectors(images, "PixelSpacing")[number[0]]
    first = plane_of_image(places[0], orientation, spacing)
    if first is None:
        return NoStack("orientation or spacing cannot be used")
    normal = slice_normals(orientation[None])[0]
    along = along_normals(places, normal)
    distinct = distinct_slices(along)
    verdict = judge(images[number])
    if contradicts_positions(verdict.tilt[0]):
        return NoStack("the orientation contradicts the positions", is_oriented=False)
    if len(distinct) < LEAST_SLICES:
        return NoStack(f"fewer than {LEAST_SLICES} slices at different places")
    depths = along[distinct]
    line = line_through(places[distinct], depths, normal)
    if not line.is_within(max(first.pixel_size)):
        return NoStack("the slices are shifted against each other")
    corner = Plane(line.first, first.across, first.down)
    return Stack(
        number[distinct].tolist(), depths - depths[0], corner, line.step, verdict.reasons[0]
    )


def _largest_volume(images: pl.DataFrame) -> Integers:
    """Return the rows of the largest volume that have a place and a pixel spacing, in order."""
    usable = pl.all_horizontal(pl.col(_GEOMETRY[:3]).is_not_null())
    chosen = images.select((usable & (pl.col("volume_index") == 0)).fill_null(value=False))
    rows = np.flatnonzero(chosen.to_series().to_numpy())
    order = images["volume_slice_index"].gather(rows).arg_sort().to_numpy()
    return np.asarray(rows[order])


def grid_of_series(images: pl.DataFrame) -> Grid | None:
    """Return the one grid of the images of a series that are no scouts.

    Parameters
    ----------
    images : pl.DataFrame
        Rows of `dicom_tags` of one series.

    Returns
    -------
    Grid or None
        In RAS mm. None where a number is missing, the images are not all of one group, or the
        largest volume is not regular (`regularity.judge`). Of volumes at the same places it is
        that of the largest.
    """
    main = images.filter(pl.col("read_error").is_null(), ~IS_SCOUT)
    numbers = main.select(_GEOMETRY)
    if main.is_empty() or numbers.null_count().sum_horizontal().item():
        return None
    if main["volume_index"].null_count():
        main = add_geometry(main)  # of a table that an earlier version wrote
    if main["image_group"].n_unique() > 1:
        return None
    main = main.filter(pl.col("volume_index") == 0).sort("volume_slice_index")
    return judge(main.select(MEASURED)).grid(0)
