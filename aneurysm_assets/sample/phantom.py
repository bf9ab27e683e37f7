"""Voxels to put into the files: a block of brain with the arteries of the circle of Willis.

Places are mm from the centre of the volume: x to the patient's left, y backwards, z upwards when
the slices are axial, so that left and right, front and back are where an anatomist expects them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aneurysm_assets.sample.grid import Grid
from aneurysm_assets.sample.segmentation import VESSEL_LABELS

Place = tuple[float, float, float]

_PAIRED: dict[str, tuple[Place, Place]] = {
    "Posterior Communicating Artery": ((5, 0, -2), (3, 6, -2)),
    "Infraclinoid Internal Carotid Artery": ((9, 2, -13), (8, 0, -5)),
    "Supraclinoid Internal Carotid Artery": ((8, 0, -5), (6, -3, 2)),
    "Middle Cerebral Artery": ((6, -3, 2), (20, -5, 4)),
    "Anterior Cerebral Artery": ((6, -3, 2), (2, -9, 5)),
}
"""Course of the left one; the right one is its mirror image."""

_SINGLE: dict[str, tuple[Place, Place]] = {
    "Other Posterior Circulation": ((0, 10, -13), (0, 8, -3)),
    "Basilar Tip": ((0, 8, -3), (0, 7, -1)),
    "Anterior Communicating Artery": ((-2, -9, 5), (2, -9, 5)),
}

_VESSEL_RADIUS = 1.4
_ANEURYSM_RADIUS = 2.6

BRAIN, VESSEL = 40, 350


def vessel_labels(
    grid: Grid,
    aneurysms: dict[str, Place] | None = None,
    *,
    centre: Place = (0, 0, 0),
    radius: float = _ANEURYSM_RADIUS,
) -> NDArray[np.uint8]:
    """Draw the arteries, each with its value in `_cowseg.nii`.

    Parameters
    ----------
    grid : Grid
        Gives the size of the volume and of its voxels.
    aneurysms : dict, optional
        Location and centre, in mm, of balls that bulge from an artery and bear its label.
    centre : tuple of float
        Where the centre of the volume is, mm.
    radius : float
        Of the balls, mm.

    Returns
    -------
    ndarray
        Slices x rows x columns; 0 where there is no artery.
    """
    places = places_of(grid, centre)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for location, (start, end) in _courses().items():
        fill_tube(labels, places, (start, end), _VESSEL_RADIUS, VESSEL_LABELS[location])
    for location, place in (aneurysms or {}).items():
        fill_tube(labels, places, (place, place), radius, VESSEL_LABELS[location])
    return labels


def bright_vessels(labels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the image of an angiography: bright arteries before tissue, no noise."""
    return np.where(labels > 0, VESSEL, BRAIN).astype(np.int16)


def _courses() -> dict[str, tuple[Place, Place]]:
    courses = dict(_SINGLE)
    for name, (start, end) in _PAIRED.items():
        courses[f"Left {name}"] = start, end
        courses[f"Right {name}"] = (-start[0], *start[1:]), (-end[0], *end[1:])
    return courses


def places_of(grid: Grid, centre: Place) -> NDArray[np.float64]:
    """Return x, y, z of each voxel, mm, given those of the volume's: slices x rows x columns x 3.

    For axial slices: the grid's own orientation is not asked.
    """
    sizes = (grid.spacing, *grid.pixel_spacing)
    axes = [
        (np.arange(count) - (count - 1) / 2) * size
        for count, size in zip(grid.shape, sizes, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack([x, y, z], axis=-1) + centre


def fill_tube(
    volume: NDArray[Any],
    places: NDArray[np.float64],
    ends: Sequence[Place],
    radius: float,
    value: int,
) -> None:
    """Give a value to the voxels within a radius, mm, of a straight line between two places."""
    low, high = np.min(ends, axis=0) - radius, np.max(ends, axis=0) + radius
    along = (places[:, 0, 0, 2], places[0, :, 0, 1], places[0, 0, :, 0])
    box = tuple(
        slice(*np.searchsorted(axis, (low[i], high[i])))
        for axis, i in zip(along, (2, 1, 0), strict=True)
    )
    volume[box][_distance(places[box], *ends) <= radius] = value


def _distance(places: NDArray[np.float64], start: Place, end: Place) -> NDArray[np.float64]:
    """Return the distance of each voxel from a straight piece of artery, mm."""
    along = np.subtract(end, start)
    offsets = places - np.asarray(start, dtype=float)
    share = np.clip(offsets @ along / max(float(along @ along), 1e-9), 0, 1)
    distances: NDArray[np.float64] = np.linalg.norm(offsets - share[..., None] * along, axis=-1)
    return distances
