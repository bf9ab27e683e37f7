"""The vectors of images as numbers: a list in the tables, a row of an array here."""

from typing import cast

import numpy as np
import polars as pl

from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.volumes.directions import Booleans, Floats

_LENGTHS = {
    column.name: column.dtype.size
    for column in DICOM_TAGS.columns
    if isinstance(column.dtype, pl.Array)
}


def vectors(images: pl.DataFrame, name: str) -> Floats:
    """Return a vector of each image.

    Parameters
    ----------
    images : pl.DataFrame
        Rows of `dicom_tags`.
    name : str
        `ImagePositionPatient`, `ImageOrientationPatient` or `PixelSpacing`.

    Returns
    -------
    ndarray of shape (images, length)
        In the column's unit; NaN where it is null.

    Raises
    ------
    pl.exceptions.PolarsError
        A vector is of another length.
    """
    column = images[name].list.to_array(_LENGTHS[name])
    return cast("Floats", column.to_numpy())


def have_nan(values: Floats) -> Booleans:
    """Tell of each row of an array, of whatever shape it is, whether a number of it is NaN."""
    return np.asarray(np.isnan(values.reshape(len(values), -1)).any(axis=1))
