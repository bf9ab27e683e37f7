"""Points of images in mm, computed by the expressions with which the unified table is made."""

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from aneurysm_assets.unified.localizer_geometry import in_patient_coordinates


def points_in_mm(
    x: ArrayLike,
    y: ArrayLike,
    position: ArrayLike,
    orientation: ArrayLike,
    pixel_spacing: ArrayLike,
) -> np.ndarray:
    """Return n x 3 coordinates, LPS mm, of n points; one point without the n gives one."""
    frame = pl.DataFrame(
        {
            "x": np.atleast_1d(np.asarray(x, float)),
            "y": np.atleast_1d(np.asarray(y, float)),
            "ImagePositionPatient": np.asarray(position, float).reshape(-1, 3).tolist(),
            "ImageOrientationPatient": np.asarray(orientation, float).reshape(-1, 6).tolist(),
            "PixelSpacing": np.asarray(pixel_spacing, float).reshape(-1, 2).tolist(),
        }
    )
    vectors = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    frame = frame.cast(
        dict.fromkeys(vectors, pl.List(pl.Float64)) | {"x": pl.Float64, "y": pl.Float64}
    )
    return frame.select(in_patient_coordinates()).to_numpy().reshape(*np.shape(x), 3)
