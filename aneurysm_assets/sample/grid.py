"""Where the pixels of a stack of slices are: evenly spaced, parallel, in LPS mm."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """The geometry of a series, in the words of its headers.

    Attributes
    ----------
    position : tuple of float
        ImagePositionPatient of the first slice: centre of its first pixel, LPS, mm.
    orientation : tuple of float
        ImageOrientationPatient: direction of the rows (along which the column index grows), then
        of the columns, LPS.
    pixel_spacing : tuple of float
        PixelSpacing: distance of neighbouring rows, then of neighbouring columns, mm.
    spacing : float
        Distance of neighbouring slices along the normal, mm.
    shape : tuple of int
        Slices, rows, columns.
    """

    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    pixel_spacing: tuple[float, float]
    spacing: float
    shape: tuple[int, int, int]

    @property
    def affine(self) -> Floats:
        """The 4 x 4 matrix from (column, row, slice, 1) to LPS, mm."""
        across, down = np.reshape(self.orientation, (2, 3))
        matrix = np.eye(4)
        matrix[:3, 0] = across * self.pixel_spacing[1]
        matrix[:3, 1] = down * self.pixel_spacing[0]
        matrix[:3, 2] = np.cross(across, down) * self.spacing
        matrix[:3, 3] = self.position
        return matrix

    def position_of(self, index: int) -> tuple[float, float, float]:
        """Return ImagePositionPatient of a slice: LPS, mm."""
        x, y, z, _ = (self.affine @ (0.0, 0.0, index, 1.0)).tolist()
        return x, y, z
