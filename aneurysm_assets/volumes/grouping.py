"""Which images of a series belong together: those of one orientation and one matrix.

Whoever needs a stricter rule asks for it here, by a parameter.
"""

import numpy as np
import polars as pl

from aneurysm_assets.volumes.directions import Booleans, Floats, Integers, have_one_orientation

IS_SCOUT = pl.col("is_scout").fill_null(value=False)
"""Images that belong to no volume, in rows of `dicom_tags`."""


def group_images(
    orientations: Integers,
    rows: pl.Series,
    columns: pl.Series,
    pixel_spacing: Floats | None = None,
) -> Integers:
    """Return for each image the number of its group, of one orientation and one matrix.

    Parameters
    ----------
    orientations : ndarray of shape (images,)
        The same number for the same orientation, as `orientation_centres` gives it; images
        without orientation (-1) of one matrix are a group too.
    rows, columns : pl.Series
        Height and width in pixels; null counts as a size of its own.
    pixel_spacing : ndarray of shape (images, 2), optional
        PixelSpacing, mm. Where given, images of one group have the same, to the last digit.

    Returns
    -------
    ndarray of shape (images,)
        From 0, in the order of orientation, rows, columns and pixel spacing.
    """
    matrix = [(side.fill_null(-1) if side.null_count() else side) for side in (rows, columns)]
    parts = [orientations, *(side.to_numpy() for side in matrix)]
    if pixel_spacing is not None:
        # A comparison with NaN would part equal images.
        parts.append(np.where(np.isfinite(pixel_spacing), pixel_spacing, -1))
    keys = np.column_stack(parts)
    if len(keys) and (keys == keys[0]).all():
        return np.zeros(len(keys), dtype=np.int64)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def largest_group(groups: Integers, counted: Booleans, *, first_image_wins: bool) -> int:
    """Return the number of the group with the most images.

    Parameters
    ----------
    groups : ndarray of shape (images,)
        From `group_images`.
    counted : ndarray of shape (images,)
        The images that count.
    first_image_wins : bool
        Of equally large groups, take the one of the first image that counts; else the one with
        the lowest number.

    Returns
    -------
    int
        -1 without images; the group of the first image, or 0, where none counts.
    """
    if not len(groups):
        return -1
    sizes = np.bincount(groups[counted], minlength=int(groups.max()) + 1)
    if not first_image_wins:
        return int(sizes.argmax())
    largest = (sizes == sizes.max())[groups] & counted
    return int(groups[np.argmax(largest)])


def are_one_group(
    cosines: Floats, rows: pl.Series, columns: pl.Series, pixel_spacing: Floats
) -> bool:
    """Tell whether images have one orientation, one matrix and the same pixel spacing.

    Parameters
    ----------
    cosines : ndarray of shape (images, 6)
        ImageOrientationPatient, LPS.
    rows, columns : pl.Series
        Height and width in pixels.
    pixel_spacing : ndarray of shape (images, 2)
        PixelSpacing, mm.
    """
    if not len(cosines) or not have_one_orientation(cosines):
        return False
    orientation = np.zeros(len(cosines), dtype=np.int64)
    return not group_images(orientation, rows, columns, pixel_spacing).any()
