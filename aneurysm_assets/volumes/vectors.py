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
    column, length = images[name], _LENGTHS[name]
    # A query, even this one, takes ten times as long as to look at the list's numbers.
    lists = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    numbers = lists.flatten()
    if not lists.null_count + numbers.null_count:
        lengths = np.diff(lists.offsets.to_numpy())
        if (lengths == length).all():
            return cast("Floats", numbers.to_numpy().reshape(-1, length))
    return cast("Floats", column.list.to_array(length).to_numpy())


def have_nan(values: Floats) -> Booleans:
    """Tell of each row of an array, of whatever shape it is, whether a number of it is NaN."""
    return np.asarray(np.isnan(values.reshape(len(values), -1)).any(axis=1))
