"""Where images look: their normals, and which of them have one orientation. Cosines are LPS.

Knows neither positions nor tables.
"""

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
"""The plane by the axis that is neither its rows' nor its columns'; then oblique, then unknown."""

_OBLIQUE, _UNKNOWN = 3, 4


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


def cosines_with_normal(cosines: Floats) -> Floats:
    """Return n x 6 cosines (LPS), NaN in place of those whose rows and columns span no plane."""
    return np.where(np.isnan(slice_normals(cosines)[:, :1]), np.nan, cosines)


def orthogonal_units(cosines: Floats) -> Floats | None:
    """Return the row and column direction (LPS) of one image at length 1.

    Parameters
    ----------
    cosines : ndarray of shape (6,)
        ImageOrientationPatient, LPS.

    Returns
    -------
    ndarray of shape (2, 3) or None
        None where a length misses 1, or their product 0, by more than `UNIT_COSINES`.
    """
    directions = cosines.reshape(2, 3)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(directions, axis=1)
        across, down = units = directions / lengths[:, None]
        # Written so that a NaN anywhere makes them False.
        sound = (np.abs(lengths - 1) <= UNIT_COSINES).all()
        return units if sound and abs(across @ down) <= UNIT_COSINES else None


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
    centres = np.full(len(cosines), -1, dtype=np.int64)
    known = np.flatnonzero(~np.isnan(cosines).any(axis=1))
    if len(known) and (cosines[known] == cosines[known[0]]).all():
        centres[known] = known[0]
        return centres
    distinct, first, inverse, counts = np.unique(
        cosines[known], axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    centre = np.full(len(distinct), -1, dtype=np.int64)
    for candidate in np.lexsort((first, -counts)):
        if centre[candidate] < 0:
            distance = np.abs(distinct - distinct[candidate]).max(axis=1)
            centre[(distance <= ORIENTATION_COSINES) & (centre < 0)] = first[candidate]
    centres[known] = known[centre[inverse.reshape(-1)]]
    return centres


def have_one_orientation(cosines: Floats) -> bool:
    """Tell whether no two of n x 6 cosines (LPS) differ by more than `ORIENTATION_COSINES`.

    Stricter than one centre of `orientation_centres`, from which images may differ to both sides.
    """
    return bool((np.ptp(cosines, axis=0) <= ORIENTATION_COSINES).all())


def plane_numbers(cosines: Floats) -> Integers:
    """Return for n x 6 cosines (LPS, NaN for none) the place of each image's plane in `PLANES`."""
    magnitudes = np.abs(cosines).reshape(-1, 2, 3)
    row, column = magnitudes.argmax(axis=2).T
    along_axes = (magnitudes.max(axis=2) > OBLIQUE_COSINE).all(axis=1) & (row != column)
    planes = np.where(along_axes, 3 - row - column, _OBLIQUE)
    return np.where(np.isnan(cosines).any(axis=1), _UNKNOWN, planes)
