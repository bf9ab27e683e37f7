"""Which vessel is at a point: from LPS mm into the voxels of a vessel segmentation."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aneurysm_assets.limits import MAX_NEIGHBOURHOOD_VOXELS
from aneurysm_assets.nifti.segmentation import read_header
from aneurysm_assets.nifti.volume import Volume, labels_of, planes, series_error
from aneurysm_assets.schema.columns import VESSEL_CLASSES
from aneurysm_assets.schema.tolerances import (
    VESSEL_RADIUS_MM,
)
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.volumes.directions import Floats
from aneurysm_assets.volumes.grid import LPS_TO_RAS, determinant_sign

_NM_IN_MM = 1e6  # distances are compared as whole nm: what the affine sets equally far is a tie
_AT_THE_POINT = -1.0  # nm; nearer than any distance
_LARGEST_INDEX = np.iinfo(np.int32).max  # of the table's localizer_voxel

_Found = tuple[float, int]  # distance in nm, label: the least is the best


@dataclass(frozen=True)
class VesselAtPoint:
    """What a vessel segmentation says about a point.

    Attributes
    ----------
    voxel : tuple of int or None
        The voxel (i, j, k) whose index is nearest to the point, also outside the volume. None
        where the point is missing or too far away for Int32, or the affine is flat.
    vessel : str or None
        The class there, or else of the nearest labelled voxel within `VESSEL_RADIUS_MM`; None
        where there is none, or where its label is no class.
    """

    voxel: tuple[int, int, int] | None
    vessel: str | None


@dataclass(frozen=True, eq=False)
class _Ball:
    """The voxels that can be within the radius of a point: a box, clipped to the volume."""

    centre: Floats
    lower: tuple[int, int, int]
    upper: tuple[int, int, int]  # one past the last


def place_in_volume(points_lps_mm: ArrayLike, affine_ras: ArrayLike) -> Floats:
    """Turn points of DICOM into voxel coordinates of NIfTI.

    Parameters
    ----------
    points_lps_mm : array_like
        n x 3, LPS mm.
    affine_ras : array_like
        4 x 4, from voxel index to RAS mm.

    Returns
    -------
    ndarray
        n x 3, whole numbers at centres of voxels; NaN for a missing point, and for all points
        where the affine is flat.
    """
    points = np.asarray(points_lps_mm, float).reshape(-1, 3)
    affine_lps = LPS_TO_RAS @ np.asarray(affine_ras, float)
    if determinant_sign(affine_lps) == 0:
        return np.full_like(points, np.nan)
    with np.errstate(all="ignore"):
        return np.asarray((points - affine_lps[:3, 3]) @ np.linalg.inv(affine_lps[:3, :3]).T)


def vessels_at(path: Location, points_lps_mm: ArrayLike) -> list[VesselAtPoint]:
    """Name the vessel at each of a series' points.

    Parameters
    ----------
    path : Location
        The series' vessel segmentation. Of a plain file only what is around the points is read;
        a compressed one is decompressed once, as far as the last point needs.
    points_lps_mm : array_like
        n x 3, LPS mm.

    Returns
    -------
    list of VesselAtPoint
        One per point, in their order.

    Raises
    ------
    SeriesError
        The file is missing, is broken, is larger than may be read, or holds a value near a point
        that is no label; or more voxels are near a point than are searched.
    """
    volume = read_header(path)
    coordinates = place_in_volume(points_lps_mm, volume.grid.affine_ras)
    voxels = [_rounded(point) for point in coordinates]
    with series_error(path):
        balls = {
            number: _ball(volume, coordinates[number])
            for number, voxel in enumerate(voxels)
            if voxel is not None
        }
        found = _search(volume, balls)
    return [VesselAtPoint(voxel, _vessel(found.get(number))) for number, voxel in enumerate(voxels)]


def _rounded(point: Floats) -> tuple[int, int, int] | None:
    if not (np.abs(point) < _LARGEST_INDEX).all():
        return None
    i, j, k = (int(index) for index in np.rint(point))
    return i, j, k


def _vessel(found: _Found | None) -> str | None:
    label = 0 if found is None else found[1]
    return VESSEL_CLASSES[label - 1] if 1 <= label <= len(VESSEL_CLASSES) else None


def _ball(volume: Volume, centre: Floats) -> _Ball:
    inverse = np.linalg.inv(volume.grid.affine_ras[:3, :3])
    # Along an axis, a ball of mm reaches as far in voxels as that row of the inverse is long.
    reach = VESSEL_RADIUS_MM * np.linalg.norm(inverse, axis=1)
    lower = np.floor(np.maximum(centre - reach, 0)).tolist()
    upper = np.ceil(np.minimum(centre + reach, np.array(volume.grid.shape) - 1.0)).tolist()
    i, j, k = (int(index) for index in lower)
    past_i, past_j, past_k = (max(int(index) + 1, 0) for index in upper)
    near = max(past_i - i, 0) * max(past_j - j, 0) * max(past_k - k, 0)
    if near > MAX_NEIGHBOURHOOD_VOXELS:
        raise ValueError(
            f"its voxels are too small: {near} are within {VESSEL_RADIUS_MM:g} mm of a point, and "
            f"at most {MAX_NEIGHBOURHOOD_VOXELS} are searched"
        )
    return _Ball(centre, (i, j, k), (past_i, past_j, past_k))


def _search(volume: Volume, balls: dict[int, _Ball]) -> dict[int, _Found]:
    """Find what is nearest in each ball, taking every plane of the volume once."""
    wanted = {k for ball in balls.values() for k in range(ball.lower[2], ball.upper[2])}
    best: dict[int, _Found] = {}
    for k, plane in planes(volume, sorted(wanted)):
        for number, ball in balls.items():
            if ball.lower[2] <= k < ball.upper[2]:
                found = _nearest_in_plane(volume, ball, k, plane)
                best[number] = min(best.get(number, found), found)
    return {number: found for number, found in best.items() if found[0] < math.inf}


def _nearest_in_plane(volume: Volume, ball: _Ball, k: int, plane: NDArray[Any]) -> _Found:
    """Return distance and label of the nearest labelled voxel of a plane, or (inf, 0)."""
    box = tuple(slice(low, past) for low, past in zip(ball.lower[:2], ball.upper[:2], strict=True))
    labels = labels_of(volume, np.asarray(plane[box]))
    labelled = np.nonzero(labels)
    if not len(labelled[0]):
        return (math.inf, 0)
    voxels = np.column_stack([*labelled, np.zeros_like(labelled[0])])
    voxels += (*ball.lower[:2], k)
    away = (voxels - ball.centre) @ volume.grid.affine_ras[:3, :3].T
    distances = np.rint(np.linalg.norm(away, axis=1) * _NM_IN_MM)
    distances[distances > VESSEL_RADIUS_MM * _NM_IN_MM] = math.inf
    distances[(voxels == np.rint(ball.centre)).all(axis=1)] = _AT_THE_POINT
    nearest = distances.min()
    return float(nearest), int(labels[labelled][distances == nearest].min())
