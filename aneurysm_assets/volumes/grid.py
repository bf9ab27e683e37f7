"""Where voxels are in mm: a regular grid, and whether two of them are the same.

DICOM coordinates are LPS, those of NIfTI are RAS. A `Grid` is in RAS, whatever it was built from.
That of a series is built in `regularity`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from aneurysm_assets.schema.tolerances import (
    CORNER_VOXELS,
    SAME_AXIS_COSINE,
    VOXEL_SIZE_RELATIVE,
)
from aneurysm_assets.volumes.directions import Booleans, Floats

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
    if are_flat(affine[None])[0]:
        return 0
    return int(np.sign(np.linalg.det(affine[:3, :3] / voxel_sizes(affine))))


def are_flat(affines: Floats) -> Booleans:
    """Tell of affines (n x 4 x 4) whether they cannot be inverted: flat, or with a NaN."""
    matrices = affines[:, :3, :3]
    with np.errstate(all="ignore"):
        # By the largest number first: squares of the others could be too large for a float.
        units = matrices / np.abs(matrices).max(axis=1)[:, None, :]
        units = units / np.linalg.norm(units, axis=1)[:, None, :]
        return np.asarray(~(np.abs(np.linalg.det(units)) >= FLAT))


@dataclass(frozen=True)
class SameVoxels:
    """How the axes of one grid lie in another grid of the same voxels.

    Attributes
    ----------
    order : tuple of int
        The axis of the other grid that axis i, j, k of the one is.
    flipped : tuple of bool
        Whether that axis runs the other way.
    shape : tuple of int
        Voxels along i, j, k of the one grid.
    """

    order: tuple[int, ...]
    flipped: tuple[bool, ...]
    shape: tuple[int, int, int]

    def box(self, first: Sequence[int], last: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the first and the last voxel, in the one grid, of a box of the other grid."""
        firsts, lasts = [], []
        for axis, is_flipped, length in zip(self.order, self.flipped, self.shape, strict=True):
            ends = first[axis], last[axis]
            ends = (length - 1 - ends[1], length - 1 - ends[0]) if is_flipped else ends
            firsts.append(ends[0])
            lasts.append(ends[1])
        return firsts, lasts


def grids_match(one: Grid, other: Grid) -> bool:
    """Tell whether two grids are the same voxels, as `same_voxels` finds it."""
    return same_voxels(one, other) is not None


def same_voxels(one: Grid, other: Grid) -> SameVoxels | None:
    """Find how two grids are the same voxels, whatever the order and direction of their axes.

    Parameters
    ----------
    one, other : Grid
        Both in RAS mm.

    Returns
    -------
    SameVoxels or None
        There where each axis of one has an axis of the other along it (`SAME_AXIS_COSINE`), with
        as many voxels, of the same size (`VOXEL_SIZE_RELATIVE`), and the corner voxels' centres
        are the same (`CORNER_VOXELS`). None where an affine is not finite or is flat.
    """
    affines = (one.affine_ras, other.affine_ras)
    if not all(np.isfinite(affine).all() and determinant_sign(affine) for affine in affines):
        return None
    found = (_in_order(one, other, order) for order in permutations(range(3)))
    return next((same for same in found if same is not None), None)


def _in_order(one: Grid, other: Grid, order: tuple[int, ...]) -> SameVoxels | None:
    """Return how the grids match where axis n of `one` is axis order[n] of `other`."""
    if one.shape != tuple(other.shape[axis] for axis in order):
        return None
    sizes = np.array(voxel_sizes(one.affine_ras))
    other_sizes = np.array(voxel_sizes(other.affine_ras))[list(order)]
    if (np.abs(sizes - other_sizes) > VOXEL_SIZE_RELATIVE * np.maximum(sizes, other_sizes)).any():
        return None
    axes, other_axes = one.affine_ras[:3, :3], other.affine_ras[:3, order]
    cosines = (axes * other_axes).sum(axis=0) / (sizes * other_sizes)
    if (np.abs(cosines) < SAME_AXIS_COSINE).any():
        return None
    last = np.array(one.shape) - 1
    corners = np.array(list(product((0, 1), repeat=3))) * last
    same_corners = np.where(cosines < 0, last - corners, corners)
    apart = (corners @ axes.T + one.affine_ras[:3, 3]) - (
        same_corners @ other_axes.T + other.affine_ras[:3, 3]
    )
    in_voxels = [np.linalg.solve(matrix, apart.T) for matrix in (axes, other_axes)]
    if (np.abs(in_voxels) > CORNER_VOXELS).any():
        return None
    return SameVoxels(order, tuple((cosines < 0).tolist()), one.shape)
