"""Which images of a series belong together, by the one rule that all else follows.

A group is of one orientation, matrix, pixel spacing, frame of reference and header's series. In
which order its images lie belongs to `slices`; scouts are told in `series_geometry`.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from aneurysm_assets.schema.tolerances import PIXEL_SPACING_RELATIVE
from aneurysm_assets.volumes.directions import Booleans, Floats, Integers, centres_of

IS_SCOUT = pl.col("is_scout").fill_null(value=False)
"""Images that belong to no volume, in rows of `dicom_tags`."""


def groups_of_matrix(orientations: Integers, rows: pl.Series, columns: pl.Series) -> Integers:
    """Return for each image the number of its orientation and matrix.

    Parameters
    ----------
    orientations : ndarray of shape (images,)
        The same number for the same orientation, as `orientation_centres` gives it; images
        without orientation (-1) of one matrix are a group too.
    rows, columns : pl.Series
        Height and width in pixels; null counts as a size of its own.

    Returns
    -------
    ndarray of shape (images,)
        From 0, in the order of orientation, rows and columns.
    """
    return _numbered(orientations, _without_null(rows), _without_null(columns))


def group_images(
    of_matrix: Integers,
    pixel_spacing: Floats,
    frame_of_reference: pl.Series,
    foreign_series: pl.Series,
) -> Integers:
    """Return for each image the number of its group, from 0.

    Parameters
    ----------
    of_matrix : ndarray of shape (images,)
        From `groups_of_matrix`.
    pixel_spacing : ndarray of shape (images, 2)
        PixelSpacing, mm; NaN where there is none. Of one group it differs by at most
        `PIXEL_SPACING_RELATIVE`.
    frame_of_reference : pl.Series
        FrameOfReferenceUID.
    foreign_series : pl.Series
        The header's SeriesInstanceUID, null where it is that of the directory.

    Notes
    -----
    An image that lacks its pixel spacing or frame of reference is a damaged slice, no group of its
    own: it has that of the others, if they have one. So is a single image whose header names
    another series than those of the others.
    """
    spacings = centres_of(pixel_spacing, lambda centre: PIXEL_SPACING_RELATIVE * centre)
    if len(np.unique(spacings[spacings >= 0])) == 1:
        spacings = np.zeros_like(spacings)
    return _numbered(
        of_matrix, spacings, _codes(frame_of_reference.to_list()), _series(foreign_series)
    )


def ranked(groups: Integers, counted: Booleans, *, size: int | None = None) -> Integers:
    """Return the groups' numbers, the largest first; of equal ones that of the first image.

    Parameters
    ----------
    groups : ndarray of shape (images,)
        From `group_images`.
    counted : ndarray of shape (images,)
        The images that count; a group of which none does comes behind all others.
    size : int, optional
        How many groups there are.
    """
    number = size or (int(groups.max()) + 1 if len(groups) else 0)
    sizes = np.bincount(groups[counted], minlength=number)
    first = np.full(number, len(groups))
    np.minimum.at(first, groups[counted], np.flatnonzero(counted))
    return np.lexsort((first, -sizes))


def _series(foreign: pl.Series) -> Integers:
    codes = _codes([uid or "" for uid in foreign.to_list()])
    if codes.any():
        counts = np.bincount(codes)
        codes[counts[codes] == 1] = counts.argmax()
    return codes


def _codes(given: Sequence[str | None]) -> Integers:
    # There are few different ones, and a look at each is quicker than a query.
    names = sorted({name for name in given if name is not None})
    if len(names) < 2:
        return np.zeros(len(given), dtype=np.int64)
    number: dict[str | None, int] = {name: code for code, name in enumerate(names)}
    return np.array([number.get(name, -1) for name in given], dtype=np.int64)


def _without_null(side: pl.Series) -> Integers:
    return (side.fill_null(-1) if side.null_count() else side).to_numpy().astype(np.int64)


def _numbered(*parts: Integers) -> Integers:
    keys = np.column_stack(parts)
    if len(keys) and (keys == keys[0]).all():
        return np.zeros(len(keys), dtype=np.int64)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
