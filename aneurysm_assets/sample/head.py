"""Voxels of a whole head, in HU, for a picture that a person recognizes: CT angiography.

The circle of Willis is that of `phantom`; what belongs here is what lies around it, and the
arteries that lead to it and from it. Places are mm, as there.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from aneurysm_assets.sample.grid import Grid
from aneurysm_assets.sample.phantom import Place, fill_tube, places_of

AIR, SKIN, BONE, MARROW, FLUID, GREY, WHITE, ARTERY = -1000, 60, 1100, 450, 6, 38, 28, 390

_NOISE_HU = 7.0
CENTRE: Place = (0.0, 12.0, 18.0)
"""Of the skull, seen from the circle of Willis: that lies low and in front."""

_SKULL = (68.0, 86.0, 70.0)
"""Half axes of its outer surface."""

_LAYERS_MM, _BRAIN_MM = (-7.0, 0.0, 2.2, 4.4, 6.5), 8.5
"""Where skin, bone, marrow, bone and fluid begin, and brain, below the skull's outer surface."""

_VENTRICLES: tuple[tuple[Place, Place], ...] = (
    ((9.0, -10.0, 26.0), (5.5, 17.0, 8.0)),
    ((14.0, 28.0, 24.0), (5.5, 15.0, 8.0)),
    ((0.0, 8.0, 12.0), (2.5, 11.0, 8.0)),
    ((0.0, 38.0, -12.0), (6.0, 6.0, 7.0)),
)
"""Centre and half axes; the sides of the first two are both there."""

_BRANCHES: tuple[tuple[Place, ...], ...] = (
    ((20, -5, 4), (33, -6, 9), (40, 6, 20), (47, 24, 34)),
    ((20, -5, 4), (31, 2, 4), (42, 18, 10), (48, 36, 14)),
    ((2, -9, 5), (2, -25, 16), (2, -32, 36), (2, -12, 56), (2, 20, 60)),
    ((0, 7, -1), (12, 14, 0), (17, 32, 3), (12, 60, 6)),
    ((9, 2, -13), (15, 4, -24), (16, 8, -48)),
    ((0, 10, -13), (5, 16, -30), (10, 22, -48)),
)
"""Courses of the left ones, each thinner than the circle; the right ones mirror them."""

_BRANCH_RADIUS = 1.1


def head(grid: Grid, vessels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Draw a head around arteries.

    Parameters
    ----------
    grid : Grid
        Gives the size of the volume and of its voxels.
    vessels : ndarray
        Slices x rows x columns; 0 where there is no artery.

    Returns
    -------
    ndarray
        Of the same shape, in HU, with noise that is the same each time.
    """
    places = places_of(grid, CENTRE)
    depth = _depth(places)
    image = np.full(grid.shape, AIR, dtype=np.float32)
    layers = zip(_LAYERS_MM, (SKIN, BONE, MARROW, BONE, FLUID), strict=True)
    for begins, value in layers:
        image[depth >= begins] = value
    is_brain = depth >= _BRAIN_MM
    image[is_brain] = _folded(places, depth)[is_brain]
    for centre, half_axes in _VENTRICLES:
        for side in (1, -1):
            offset = (places - np.multiply(centre, (side, 1, 1))) / half_axes
            image[np.sum(offset**2, axis=-1) < 1] = FLUID
    image[(vessels > 0) | _branches(places)] = ARTERY
    noise = np.random.default_rng(1).normal(0, _NOISE_HU, grid.shape)
    return np.clip(np.rint(image + noise), AIR, 3000).astype(np.int16)


def _branches(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    found = np.zeros(places.shape[:-1], dtype=bool)
    for course in _BRANCHES:
        for start, end in pairwise(course):
            for side in (1, -1):
                ends = [(side * x, y, z) for x, y, z in (start, end)]
                fill_tube(found, places, ends, _BRANCH_RADIUS, value=True)
    return found


def _depth(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each voxel is below the skull's outer surface, about, mm."""
    offset = (places - CENTRE) / _SKULL
    radius = np.sqrt(np.sum(offset**2, axis=-1))
    depth: NDArray[np.float64] = (1 - radius) * float(np.mean(_SKULL))
    return depth


def _folded(places: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return brain: white matter, and a rim of grey matter with furrows and a cleft between."""
    x, y, z = np.moveaxis(places, -1, 0)
    waves = np.sin(x / 4.1 + 1.7 * np.sin(z / 9)) + np.sin(y / 4.7 + 1.3 * np.sin(x / 8))
    brain = np.where(depth < 17 + 3 * waves, GREY, WHITE)
    is_furrow = (waves > 1.45) & (depth < 19)
    is_cleft = (np.abs(x) < 1.4) & (z > 22) & (depth < 26)
    return np.where(is_furrow | is_cleft, FLUID, brain)
