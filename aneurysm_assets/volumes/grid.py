"""Where voxels are in mm: the grid of parallel slices, and whether two grids are the same.

DICOM coordinates are LPS, those of NIfTI are RAS. A `Grid` is in RAS, whatever it was built from.
"""

import math
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import ArrayLike

from aneurysm_assets.schema.tolerances import (
    CORNER_VOXELS,
    IN_PLANE_MM,
    SAME_AXIS_COSINE,
    VOXEL_SIZE_RELATIVE,
)
from aneurysm_assets.volumes.directions import Floats, orthogonal_units
from aneurysm_assets.volumes.slices import along_normals, are_evenly_spaced, line_through

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""x and y grow to left and posterior in LPS, to right and anterior in RAS. Its own inverse."""

FLAT = 1e-6
"""Volume of the parallelepiped of an affine's unit columns from which on it can be inverted."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels.

    Attributes
    ----------
    shape : tuple of int
        Voxels along i, j, k.
    affine_ras : ndarray
        4 x 4, from voxel index (i, j, k, 1) to the voxel's centre in RAS mm.
    """

    shape: tuple[int, int, int]
    affine_ras: Floats


def voxel_sizes(affine: Floats) -> tuple[float, float, float]:
    """Return the lengths of an affine's first three columns, in its own unit (mm here)."""
    i, j, k = (math.hypot(*column) for column in affine[:3, :3].T.tolist())
    return i, j, k


def determinant_sign(affine: Floats) -> int:
    """Tell how an affine to LPS or RAS mm treats handedness.

    Parameters
    ----------
    affine : ndarray
        4 x 4, finite.

    Returns
    -------
    int
        1 where it keeps handedness, -1 where it mirrors, 0 where its columns lie in a plane (the
        parallelepiped of the unit columns has a volume of less than `FLAT`).
    """
    sizes = voxel_sizes(affine)
    if min(sizes) == 0:
        return 0
    volume = float(np.linalg.det(affine[:3, :3] / sizes))
    return 0 if abs(volume) < FLAT else int(math.copysign(1, volume))


def series_grid(
    positions: ArrayLike,
    orientation: ArrayLike,
    pixel_spacing: ArrayLike,
    rows: int,
    columns: int,
) -> Grid | None:
    """Build the grid of parallel slices: i is the column, j the row, k the slice along the normal.

    Parameters
    ----------
    positions : array_like
        n x 3, ImagePositionPatient of each slice in any order: centre of its first pixel, LPS mm.
    orientation : array_like
        ImageOrientationPatient that all share: along which the column index grows, then along
        which the row index grows, LPS.
    pixel_spacing : array_like
        PixelSpacing: distance of neighbouring rows, then of neighbouring columns, mm.
    rows, columns : int
        Height and width of the slices in pixels.

    Returns
    -------
    Grid or None
        In RAS mm. The step from slice to slice is that of the positions, so that a tilted gantry
        gives a sheared grid. None where there are fewer than two slices, two of them are in one
        place, gaps differ by more than `SPACING_RELATIVE`, a slice is off the line by more than
        `IN_PLANE_MM`, or a number is missing or impossible.
    """
    places = np.asarray(positions, float).reshape(-1, 3)
    between_rows, between_columns = np.asarray(pixel_spacing, float).tolist()
    directions = orthogonal_units(np.asarray(orientation, float))
    if directions is None or len(places) < 2:
        return None
    if min(rows, columns) < 1 or min(between_rows, between_columns) <= 0:
        return None
    across, down = directions
    normal = np.cross(across, down)
    along = along_normals(places, normal)
    order = np.argsort(along, kind="stable")
    line = line_through(places[order], np.arange(len(order)), normal)
    if not are_evenly_spaced(along[order]) or not line.is_within(IN_PLANE_MM):
        return None
    affine_lps = np.eye(4)
    with np.errstate(all="ignore"):
        sides = [across * between_columns, down * between_rows]
        affine_lps[:3] = np.column_stack([*sides, line.step, line.first])
    if not np.isfinite(affine_lps).all() or determinant_sign(affine_lps) == 0:
        return None
    return Grid((columns, rows, len(places)), LPS_TO_RAS @ affine_lps)


def grids_match(one: Grid, other: Grid) -> bool:
    """Tell whether two grids are the same voxels, whatever the order and direction of their axes.

    Parameters
    ----------
    one, other : Grid
        Both in RAS mm.

    Returns
    -------
    bool
        True where each axis of one has an axis of the other along it (`SAME_AXIS_COSINE`), with
        as many voxels, of the same size (`VOXEL_SIZE_RELATIVE`), and the corner voxels' centres
        are the same (`CORNER_VOXELS`). False where an affine is not finite or is flat.
    """
    affines = (one.affine_ras, other.affine_ras)
    if not all(np.isfinite(affine).all() and determinant_sign(affine) for affine in affines):
        return False
    return any(_match_in_order(one, other, order) for order in permutations(range(3)))


def _match_in_order(one: Grid, other: Grid, order: tuple[int, ...]) -> bool:
    """Tell whether the grids match where axis n of `one` is axis order[n] of `other`."""
    if one.shape != tuple(other.shape[axis] for axis in order):
        return False
    sizes = np.array(voxel_sizes(one.affine_ras))
    other_sizes = np.array(voxel_sizes(other.affine_ras))[list(order)]
    if (np.abs(sizes - other_sizes) > VOXEL_SIZE_RELATIVE * np.maximum(sizes, other_sizes)).any():
        return False
    axes, other_axes = one.affine_ras[:3, :3], other.affine_ras[:3, order]
    cosines = (axes * other_axes).sum(axis=0) / (sizes * other_sizes)
    if (np.abs(cosines) < SAME_AXIS_COSINE).any():
        return False
    last = np.array(one.shape) - 1
    corners = np.array(list(product((0, 1), repeat=3))) * last
    same_corners = np.where(cosines < 0, last - corners, corners)
    apart = (corners @ axes.T + one.affine_ras[:3, 3]) - (
        same_corners @ other_axes.T + other.affine_ras[:3, 3]
    )
    in_voxels = [np.linalg.solve(matrix, apart.T) for matrix in (axes, other_axes)]
    return bool((np.abs(in_voxels) <= CORNER_VOXELS).all())
