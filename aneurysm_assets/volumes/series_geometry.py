"""Where the images of a series lie: their order and spacing, their plane, and which are scouts.

Coordinates are DICOM's, LPS in mm. Nothing here trusts what a header says of the distance or the
order of slices: both are taken from ImagePositionPatient and ImageOrientationPatient.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aneurysm_assets.schema.tables import DICOM_TAGS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

ORIENTATION_TOLERANCE = 0.01
"""Images of one orientation differ by at most this in each direction cosine (half a degree)."""

DISTINCT_TOLERANCE = 1e-3
"""Positions at most this far apart, in mm, are one: less is the rounding of decimal strings."""

OBLIQUE_COSINE = 0.8
"""A direction runs along an axis above this cosine (37 degrees), and is oblique up to it: David
Clunie's `obliquityThresholdCosineValue`, of PixelMed and GDCM."""

SCOUT_SHARE = 0.2
"""A group of images that is not the largest and at most this part of the series is of scouts."""

MAIN_SHARE = 0.5
"""Without a group of at least this part there is nothing to be a scout of: projections turning
about an axis have an orientation each."""

PARALLEL_SINE = 0.01
"""Rows and columns of a smaller angle, as sine, span no plane."""

_PLANES = ("sagittal", "coronal", "axial", "oblique", None)
"""The plane by the axis that is neither its rows' nor its columns'; then oblique, then unknown."""

_OBLIQUE, _UNKNOWN = 3, 4

_COMPUTED = {
    name: DICOM_TAGS.schema[name]
    for name in (
        "slice_position_mm",
        "slice_index",
        "slice_spacing_mm",
        "orientation_plane",
        "is_scout",
    )
}

_SCOUT_IMAGE_TYPE = re.compile(r"(^|\\) *LOCALIZER *(\\|$)")


def add_geometry(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill the computed columns of one series' rows.

    Images of one orientation and one matrix form a group, as do images without orientation of
    one matrix. Of two groups equally large, the one whose first image has the lowest
    InstanceNumber (then frame_index, then dicom_path) counts as the larger.

    Parameters
    ----------
    frame : pl.DataFrame
        All rows of a series, in any order, with the columns of `tables.DICOM_TAGS` that are
        read from files. Positions are LPS in mm, orientations LPS.

    Returns
    -------
    pl.DataFrame
        The same rows in the same order, with `slice_position_mm` (along each image's own normal,
        LPS, mm), `slice_index`, `slice_spacing_mm` (mm), `orientation_plane` and
        `is_scout`, whatever these held before; nulls in rows with a `read_error`.
    """
    if _is_filed(frame):
        return _with(frame, _columns(_geometry(frame)))
    filed = (
        frame.select(
            pl.int_range(pl.len()).alias("row"),
            "ImageOrientationPatient",
            "ImagePositionPatient",
            "Rows",
            "Columns",
            "ImageType",
            "InstanceNumber",
            "frame_index",
            "dicom_path",
        )
        .filter(frame["read_error"].is_null())
        .sort("InstanceNumber", "frame_index", "dicom_path", nulls_last=[True, False, True])
    )
    computed = pl.DataFrame([filed["row"], *_columns(_geometry(filed))])
    rows = frame.select(pl.int_range(pl.len()).alias("row"))
    columns = rows.join(computed, on="row", how="left", maintain_order="left").drop("row")
    return _with(frame, columns.get_columns())


def _columns(values: dict[str, NDArray[Any] | pl.Series]) -> list[pl.Series]:
    return [
        pl.Series(name, values[name], dtype=dtype, nan_to_null=True)
        for name, dtype in _COMPUTED.items()
    ]


def _with(frame: pl.DataFrame, columns: Sequence[pl.Series]) -> pl.DataFrame:
    """Return the frame with columns in place of its own; a query would take as long as the rest."""
    frame = frame.clone()
    for column in columns:
        frame.replace_column(frame.get_column_index(column.name), column)
    return frame


def _is_filed(frame: pl.DataFrame) -> bool:
    """Tell whether all rows are images and stand as they are filed, as those of most series do."""
    numbers = frame["InstanceNumber"]
    if numbers.null_count() or frame["read_error"].null_count() < frame.height:
        return False
    steps = np.diff(numbers.to_numpy())
    frames = frame["frame_index"]
    if frames.null_count():
        return bool((steps > 0).all())
    return bool(((steps > 0) | ((steps == 0) & (np.diff(frames.to_numpy()) > 0))).all())


def slice_normals(cosines: Floats) -> Floats:
    """Return the unit normals of images: row cosines x column cosines (PS3.3 C.7.6.2.1.1).

    Parameters
    ----------
    cosines : ndarray of shape (images, 6)
        ImageOrientationPatient, LPS.

    Returns
    -------
    ndarray of shape (images, 3)
        LPS, without unit; NaN where cosines are not finite, or rows and columns span no plane.
    """
    row, column = cosines[:, :3], cosines[:, 3:]
    with np.errstate(all="ignore"):
        normal = np.cross(row, column)
        length = np.linalg.norm(normal, axis=1)
        lengths = np.linalg.norm(row, axis=1) * np.linalg.norm(column, axis=1)
        normal = normal / length[:, None]
    spans = np.isfinite(normal).all(axis=1) & (length > PARALLEL_SINE * lengths)
    return np.where(spans[:, None], normal, np.nan)


def orientation_centres(cosines: Floats) -> Integers:
    """Gather images of one orientation around the orientations that most images have.

    Parameters
    ----------
    cosines : ndarray of shape (images, 6)
        ImageOrientationPatient, LPS; NaN where there is none.

    Returns
    -------
    ndarray of shape (images,)
        For each image the number of the image whose orientation stands for its own, the first
        that has exactly this one; -1 without orientation.
    """
    centres = np.full(len(cosines), -1, dtype=np.int64)
    known = np.flatnonzero(~np.isnan(cosines).any(axis=1))
    if len(known) and (cosines[known] == cosines[known[0]]).all():
        centres[known] = known[0]
        return centres
    distinct, first, inverse, counts = np.unique(
        cosines[known], axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    centre = np.full(len(distinct), -1, dtype=np.int64)
    for candidate in np.lexsort((first, -counts)):
        if centre[candidate] < 0:
            distance = np.abs(distinct - distinct[candidate]).max(axis=1)
            centre[(distance <= ORIENTATION_TOLERANCE) & (centre < 0)] = first[candidate]
    centres[known] = known[centre[inverse.reshape(-1)]]
    return centres


def _geometry(filed: pl.DataFrame) -> dict[str, NDArray[Any] | pl.Series]:
    """Return the computed columns of readable images that are sorted as they are filed."""
    given = filed["ImageOrientationPatient"].to_numpy()
    positions = filed["ImagePositionPatient"].to_numpy()
    # Those of most series are all the same: what follows from them is computed once.
    alike = len(given) > 0 and bool((given == given[0]).all())
    distinct = given[:1] if alike else given
    normals = slice_normals(distinct)
    cosines = np.where(np.isnan(normals[:, :1]), np.nan, distinct)
    planes = _planes(cosines)
    if alike:
        normals, cosines, planes = (
            np.repeat(of, len(given), axis=0) for of in (normals, cosines, planes)
        )
    centres = orientation_centres(cosines)
    groups = _groups(centres, filed["Rows"], filed["Columns"])
    # One normal a group: the slight differences within it, at a position far from the origin,
    # would outweigh the distance of slices.
    along = _along(positions, np.where(centres[:, None] < 0, np.nan, normals[centres]))
    typed = _typed_as_scouts(filed["ImageType"])
    main = _main_group(groups, typed)
    of_main = groups == main
    sizes = np.bincount(groups)[groups]
    few = ~of_main & (sizes <= SCOUT_SHARE * len(groups))
    # A slice that only lacks its orientation is a damaged slice, not a scout.
    by_group = few & (centres >= 0) & (of_main.sum() >= MAIN_SHARE * len(groups))
    scouts = typed | by_group
    spacing = _spacing(along[of_main & ~typed])
    return {
        "slice_position_mm": _along(positions, normals),
        "slice_index": _slice_index(groups, along),
        "slice_spacing_mm": np.full(len(groups), spacing),
        "orientation_plane": pl.Series(map(_PLANES.__getitem__, planes), dtype=pl.String),
        "is_scout": scouts,
    }


def _along(positions: Floats, normals: Floats) -> Floats:
    """Return positions (LPS, mm) along normals (LPS) in mm, NaN where either is missing."""
    with np.errstate(all="ignore"):
        along = (positions * normals).sum(axis=1)
    return np.where(np.isfinite(along), along, np.nan)


def _groups(centres: Integers, rows: pl.Series, columns: pl.Series) -> Integers:
    """Return for each image the number of its group, of one orientation and one matrix."""
    matrix = [(side.fill_null(-1) if side.null_count() else side) for side in (rows, columns)]
    keys = np.column_stack([centres, *(side.to_numpy() for side in matrix)])
    if len(keys) and (keys == keys[0]).all():
        return np.zeros(len(keys), dtype=np.int64)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _typed_as_scouts(image_types: pl.Series) -> Booleans:
    # There are few different ones, and a look at each is quicker than a query.
    types = image_types.to_list()
    scouts = {text for text in set(types) if text and _SCOUT_IMAGE_TYPE.search(text)}
    return np.array([text in scouts for text in types], dtype=np.bool_)


def _main_group(groups: Integers, scouts: Booleans) -> int:
    """Return the group with the most images that are no scouts, of several the first filed."""
    if not len(groups):
        return -1
    sizes = np.bincount(groups[~scouts], minlength=int(groups.max()) + 1)
    largest = (sizes == sizes.max())[groups] & ~scouts
    return int(groups[np.argmax(largest)])


def _slice_index(groups: Integers, along: Floats) -> Integers:
    """Return the place of each image in its group: by position (mm), then as they are filed."""
    order = np.lexsort((along, groups))
    # `not <=` rather than `>`: each missing position, which sorts last, is a level of its own.
    steps = ~(np.diff(along[order]) <= DISTINCT_TOLERANCE) | (np.diff(groups[order]) > 0)
    levels = np.zeros(len(groups), dtype=np.int64)
    levels[order[1:]] = np.cumsum(steps)
    order = np.argsort(levels, kind="stable")
    counts = np.bincount(groups)
    index = np.empty(len(groups), dtype=np.int64)
    index[order] = np.arange(len(groups)) - (np.cumsum(counts) - counts)[groups[order]]
    return index


def _spacing(along: Floats) -> float:
    """Return the median gap of distinct positions in mm, NaN of fewer than two."""
    ordered = np.sort(along[~np.isnan(along)])
    distinct = ordered[np.diff(ordered, prepend=-np.inf) > DISTINCT_TOLERANCE]
    return float(np.median(np.diff(distinct))) if len(distinct) > 1 else np.nan


def _planes(cosines: Floats) -> Integers:
    """Return the places in `_PLANES` of images by their cosines (LPS), NaN for none."""
    magnitudes = np.abs(cosines).reshape(-1, 2, 3)
    row, column = magnitudes.argmax(axis=2).T
    along_axes = (magnitudes.max(axis=2) > OBLIQUE_COSINE).all(axis=1) & (row != column)
    planes = np.where(along_axes, 3 - row - column, _OBLIQUE)
    return np.where(np.isnan(cosines).any(axis=1), _UNKNOWN, planes)
