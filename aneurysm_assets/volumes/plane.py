"""A flat picture and where it lies in the patient. Coordinates are DICOM's, LPS in mm."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aneurysm_assets.volumes.directions import Floats, slice_normals

Pixels = NDArray[Any]
"""Rows x columns of grey, or rows x columns x 3 of colour."""

Letters = tuple[str, str, str, str]
"""What lies at the left, right, top and bottom edge: L, R, A, P, S, I."""

_TOWARDS = ("L", "P", "S")
_AWAY = ("R", "A", "I")

_SECOND_LETTER = 0.4
"""From this cosine on, a direction is named by a second letter too (24 degrees off an axis)."""

# As radiologists look at it: from the feet, from the front, from the patient's left.
_RIGHT_AND_DOWN = {
    0: ((0, 1, 0), (0, 0, -1)),
    1: ((1, 0, 0), (0, 0, -1)),
    2: ((1, 0, 0), (0, 1, 0)),
}
_NAMES = {0: "sagittal", 1: "coronal", 2: "axial"}


@dataclass(frozen=True, eq=False)
class Plane:
    """Where the pixels of a picture are.

    Attributes
    ----------
    corner : ndarray
        Centre of the first pixel, LPS mm.
    across, down : ndarray
        From a pixel to the next of its row, and of its column, LPS mm.
    """

    corner: Floats
    across: Floats
    down: Floats

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Width and height of a pixel, mm."""
        return float(np.linalg.norm(self.across)), float(np.linalg.norm(self.down))

    @property
    def letters(self) -> Letters:
        """What lies at the left, right, top and bottom edge."""
        return (
            direction_letters(-self.across),
            direction_letters(self.across),
            direction_letters(-self.down),
            direction_letters(self.down),
        )

    @property
    def name(self) -> str:
        """`axial`, `coronal` or `sagittal`, whichever is nearest."""
        return _NAMES[self._axis()]

    def at(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Return where points of the picture are: n x 3, LPS mm; whole numbers are centres."""
        along = np.multiply.outer(np.asarray(x, float), self.across)
        return np.asarray(self.corner + along + np.multiply.outer(np.asarray(y, float), self.down))

    def _axis(self) -> int:
        return int(np.abs(np.cross(self.across, self.down)).argmax())

    def as_looked_at(self, pixels: Pixels) -> tuple["Plane", Pixels]:
        """Turn and mirror a picture of this plane to the way in which it is commonly shown."""
        right, below = _RIGHT_AND_DOWN[self._axis()]
        plane = self
        if abs(self.across @ right) < abs(self.down @ right):
            plane, pixels = Plane(self.corner, self.down, self.across), pixels.swapaxes(0, 1)
        corner, across, down = plane.corner, plane.across, plane.down
        if across @ right < 0:
            corner, across = corner + across * (pixels.shape[1] - 1), -across
            pixels = pixels[:, ::-1]
        if down @ below < 0:
            corner, down = corner + down * (pixels.shape[0] - 1), -down
            pixels = pixels[::-1]
        return Plane(corner, across, down), pixels


def direction_letters(direction: ArrayLike) -> str:
    """Name a direction (LPS) as on the edge of a film: `L`, or `LA` where it is oblique."""
    cosines = np.asarray(direction, float)
    cosines = cosines / (np.linalg.norm(cosines) or 1.0)
    named = [axis for axis in np.argsort(-np.abs(cosines)) if abs(cosines[axis]) > _SECOND_LETTER]
    return "".join(_TOWARDS[axis] if cosines[axis] > 0 else _AWAY[axis] for axis in named[:2])


def plane_of_image(position: ArrayLike, orientation: ArrayLike, spacing: ArrayLike) -> Plane | None:
    """Return the plane of a DICOM image, None where a number of it is missing or impossible.

    Parameters
    ----------
    position : array_like
        ImagePositionPatient, LPS mm.
    orientation : array_like
        ImageOrientationPatient, LPS.
    spacing : array_like
        PixelSpacing: distance of neighbouring rows, then of neighbouring columns, mm.
    """
    if position is None or orientation is None or spacing is None:
        return None
    corner, cosines = np.asarray(position, float), np.asarray(orientation, float)
    between_rows, between_columns = np.asarray(spacing, float).tolist()
    if not np.isfinite(slice_normals(cosines[None])).all() or not np.isfinite(corner).all():
        return None
    if not (0 < between_rows < np.inf and 0 < between_columns < np.inf):
        return None
    return Plane(corner, cosines[:3] * between_columns, cosines[3:] * between_rows)
