"""The NIfTI pair of a series: the image, and the labels of its vessels."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from aneurysm_assets.sample.grid import Grid
from aneurysm_assets.schema.columns import VESSEL_CLASSES
from aneurysm_assets.volumes.grid import LPS_TO_RAS

VESSEL_LABELS = {vessel: label for label, vessel in enumerate(VESSEL_CLASSES, start=1)}
"""Value in `_cowseg.nii` of each location."""

Flips = tuple[bool, bool, bool]


def write_segmentation(
    root: Path,
    series: str,
    grid: Grid,
    volumes: tuple[NDArray[np.int16], NDArray[np.uint8]],
    flips: Flips,
) -> None:
    """Write `{series}/{series}.nii` and `{series}/{series}_cowseg.nii`.

    Parameters
    ----------
    root : Path
        `raw/segmentations`.
    series : str
        SeriesInstanceUID.
    grid : Grid
        The series' geometry, LPS.
    volumes : tuple of ndarray
        Image and vessel labels, each slices x rows x columns, in the order of the series.
    flips : tuple of bool
        Which of the axes column, row, slice are stored backwards. No single flip holds for the
        real data, so that only the affine, which is RAS, says where a voxel is.
    """
    folder = root / series
    folder.mkdir(parents=True)
    image, labels = volumes
    _write(folder / f"{series}.nii", image, grid, flips)
    _write(folder / f"{series}_cowseg.nii", labels, grid, flips)


def _write(path: Path, volume: NDArray[Any], grid: Grid, flips: Flips) -> None:
    voxels = np.transpose(volume, (2, 1, 0))
    affine = LPS_TO_RAS @ grid.affine
    for axis in (axis for axis, flipped in enumerate(flips) if flipped):
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
        voxels = np.flip(voxels, axis)
    image: Any = nib.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
