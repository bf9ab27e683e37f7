"""The vessel labels under a picture: from its pixels (LPS) into the segmentation (RAS)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aneurysm_assets.nifti.segmentation import read_header
from aneurysm_assets.nifti.vessels import place_in_volume
from aneurysm_assets.nifti.volume import labels_of, planes, series_error
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.volumes.directions import Floats

Labels = NDArray[np.int32]


def labels_at(path: Location, points_lps_mm: Sequence[Floats]) -> list[Labels]:
    """Look up the label of the voxel that each point lies in.

    Parameters
    ----------
    path : Location
        A vessel segmentation, read once and plane by plane.
    points_lps_mm : sequence of ndarray
        Sets of points, each of any shape that ends in 3, LPS mm.

    Returns
    -------
    list of ndarray
        One label per point, 0 outside the volume.

    Raises
    ------
    SeriesError
        The file cannot be read, or a value is no label.
    """
    volume = read_header(path)
    points = np.concatenate([points.reshape(-1, 3) for points in points_lps_mm])
    # Half a voxel is decided alike for neighbours, where rint would go to the even one.
    with np.errstate(all="ignore"):
        voxels = np.floor(place_in_volume(points, volume.grid.affine_ras) + 0.5)
        inside = ((voxels >= 0) & (voxels < volume.grid.shape)).all(axis=1)
    labels = np.zeros(len(points), np.int32)
    there = np.flatnonzero(inside)
    i, j, k = voxels[there].astype(np.int64).T
    order = np.argsort(k, kind="stable")
    there, i, j, k = there[order], i[order], j[order], k[order]
    wanted, starts = np.unique(k, return_index=True)
    groups = np.split(np.arange(len(k)), starts[1:])
    with series_error(path):
        for (_, plane), group in zip(planes(volume, wanted.tolist()), groups, strict=False):
            labels[there[group]] = labels_of(volume, np.asarray(plane[i[group], j[group]]))
    ends = np.cumsum([points.size // 3 for points in points_lps_mm])
    parts = np.split(labels, ends[:-1])
    return [part.reshape(p.shape[:-1]) for part, p in zip(parts, points_lps_mm, strict=True)]
