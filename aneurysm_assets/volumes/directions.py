"""Where images look: their normals, and which of them have one orientation. Cosines are LPS.

Knows neither positions nor tables.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aneurysm_assets.schema.tolerances import (
    OBLIQUE_COSINE,
    ORIENTATION_COSINES,
    PARALLEL_SINE,
    UNIT_COSINES,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

PLANES = ("sagittal", "coronal", "axial", "oblique", None)
"""The plane by the axis of the patient along its normal; then oblique, then unknown."""

_OBLIQUE, _UNKNOWN = 3, 4

_ROUNDING = 1e-9
"""By how much a window is widened, that rounding leaves nothing out; what is in it is compared."""


def slice_normals(cosines: Floats) -> Floats:
    """Return the unit normals of images: row cosines x column cosines (PS3.3 C.7.6.2.1.1).

    Parameters
    ----------
    cosines : ndarray of shape (images, 6)
        ImageOrientationPatient, LPS.

    Returns
    -------
    ndarray of shape (images, 3)
        LPS, without unit; NaN where cosines are not finite, or rows and columns span no plane.
    """
    row, column = cosines[:, :3], cosines[:, 3:]
    with np.errstate(all="ignore"):
        normal = np.cross(row, column)
        length = np.linalg.norm(normal, axis=1)
        lengths = np.linalg.norm(row, axis=1) * np.linalg.norm(column, axis=1)
        normal = normal / length[:, None]
    spans = np.isfinite(normal).all(axis=1) & (length > PARALLEL_SINE * lengths)
    return np.where(spans[:, None], normal, np.nan)


def unit_pairs(cosines: Floats) -> tuple[Floats, Floats]:
    """Return the row and the column directions of images at length 1.

    Parameters
    ----------
    cosines : ndarray of shape (images, 6)
        ImageOrientationPatient, LPS.

    Returns
    -------
    tuple of two ndarray of shape (images, 3)
        LPS; NaN where a length misses 1, or their product 0, by more than `UNIT_COSINES`.
    """
    pairs = cosines.reshape(-1, 2, 3)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(pairs, axis=2)
        units = pairs / lengths[:, :, None]
        product = (units[:, 0] * units[:, 1]).sum(axis=1)
        # Written so that a NaN anywhere makes them False.
        sound = (np.abs(lengths - 1) <= UNIT_COSINES).all(axis=1)
        sound &= np.abs(product) <= UNIT_COSINES
    units = np.where(sound[:, None, None], units, np.nan)
    return units[:, 0], units[:, 1]


def orientation_centres(cosines: Floats) -> Integers:
    """Gather images of one orientation around the orientations that most images have.

    Parameters
    ----------
    cosines : ndarray of shape (images, 6)
        ImageOrientationPatient, LPS; NaN where there is none.

    Returns
    -------
    ndarray of shape (images,)
        For each image the number of the image whose orientation stands for its own, the first
        that has exactly this one; -1 without orientation.
    """
    return centres_of(cosines, lambda _: ORIENTATION_COSINES)


def centres_of(values: Floats, tolerance: Callable[[Floats], Floats | float]) -> Integers:
    """Gather rows of numbers around those that most rows have.

    Parameters
    ----------
    values : ndarray of shape (images, numbers)
        NaN where there are none.
    tolerance : callable
        Given the numbers of a centre, returns by how much each may differ from it.

    Returns
    -------
    ndarray of shape (images,)
        For each row the number of the row that stands for it, the first that has exactly its
        numbers; -1 for a row with NaN.
    """
    centres = np.full(len(values), -1, dtype=np.int64)
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    if not len(known):
        return centres
    if (values[known] == values[known[0]]).all():
        centres[known] = known[0]
        return centres
    distinct, first, inverse, counts = np.unique(
        values[known], axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    centre = np.full(len(distinct), -1, dtype=np.int64)
    # Only what is near in the number that varies most is looked at: all with all took half a minute
    # where each frame of many has an orientation of its own.
    widest = int(np.ptp(distinct, axis=0).argmax())
    order = np.argsort(distinct[:, widest], kind="stable")
    ordered = distinct[order]
    along = np.ascontiguousarray(ordered[:, widest])
    for candidate in np.lexsort((first, -counts)):
        if centre[candidate] >= 0:
            continue
        own = distinct[candidate]
        allowed = np.zeros_like(own) + tolerance(own)
        reach = allowed[widest] + _ROUNDING * (abs(own[widest]) + allowed[widest])
        start, stop = along.searchsorted((own[widest] - reach, own[widest] + reach))
        near = (np.abs(ordered[start:stop] - own) <= allowed).all(axis=1)
        chosen = order[start:stop][near]
        centre[chosen[centre[chosen] < 0]] = first[candidate]
    centres[known] = known[centre[inverse.reshape(-1)]]
    return centres


def plane_numbers(normals: Floats) -> Integers:
    """Return for n x 3 unit normals (LPS, NaN for none) the place of each plane in `PLANES`."""
    magnitudes = np.abs(normals)
    along_axis = magnitudes.max(axis=1) > OBLIQUE_COSINE
    planes = np.where(along_axis, magnitudes.argmax(axis=1), _OBLIQUE)
    return np.where(np.isnan(normals).any(axis=1), _UNKNOWN, planes)


def obliquity_degrees(normals: Floats) -> Floats:
    """Return the angle of n x 3 unit normals (LPS) to the nearest axis of the patient, degrees."""
    magnitudes = np.sort(np.abs(normals), axis=1)
    # By both sides: near an axis, a cosine alone has lost the angle to rounding.
    angles = np.degrees(np.arctan2(np.hypot(magnitudes[:, 0], magnitudes[:, 1]), magnitudes[:, 2]))
    return np.where(np.isnan(normals).any(axis=1), np.nan, angles)
