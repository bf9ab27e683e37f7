"""The NIfTI pair of a series: the image, and the labels of its vessels.

The one place where LPS, in which the series stands, becomes RAS.
"""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from aneurysm_assets.sample.grid import Grid

VESSEL_LABELS = {
    "Other Posterior Circulation": 1,
    "Basilar Tip": 2,
    "Right Posterior Communicating Artery": 3,
    "Left Posterior Communicating Artery": 4,
    "Right Infraclinoid Internal Carotid Artery": 5,
    "Left Infraclinoid Internal Carotid Artery": 6,
    "Right Supraclinoid Internal Carotid Artery": 7,
    "Left Supraclinoid Internal Carotid Artery": 8,
    "Right Middle Cerebral Artery": 9,
    "Left Middle Cerebral Artery": 10,
    "Right Anterior Cerebral Artery": 11,
    "Left Anterior Cerebral Artery": 12,
    "Anterior Communicating Artery": 13,
}
"""Value in `_cowseg.nii` of each location; not the order of train.csv."""

Flips = tuple[bool, bool, bool]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
    affine = _LPS_TO_RAS @ grid.affine
    for axis in (axis for axis, flipped in enumerate(flips) if flipped):
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
        voxels = np.flip(voxels, axis)
    image: Any = nib.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
