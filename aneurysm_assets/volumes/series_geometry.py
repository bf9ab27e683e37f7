"""Fills the columns of a series that follow from where its images lie, and tells its scouts.

The rules stand in `directions`, `grouping` and `slices`. Coordinates are LPS in mm. Nothing here
trusts a header about the distance or the order of slices: ImagePositionPatient and
ImageOrientationPatient decide.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.schema.tolerances import (
    MAIN_SHARE,
    SCOUT_SHARE,
)
from aneurysm_assets.volumes.directions import (
    PLANES,
    Booleans,
    orientation_centres,
    plane_numbers,
    slice_normals,
)
from aneurysm_assets.volumes.grouping import group_images, largest_group
from aneurysm_assets.volumes.slices import along_normals, median_spacing, slice_index

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


def _geometry(filed: pl.DataFrame) -> dict[str, NDArray[Any] | pl.Series]:
    """Return the computed columns of readable images that are sorted as they are filed."""
    given = filed["ImageOrientationPatient"].to_numpy()
    positions = filed["ImagePositionPatient"].to_numpy()
    # In most series they are all the same: what follows from them is computed once.
    alike = len(given) > 0 and bool((given == given[0]).all())
    distinct = given[:1] if alike else given
    normals = slice_normals(distinct)
    cosines = np.where(np.isnan(normals[:, :1]), np.nan, distinct)
    planes = plane_numbers(cosines)
    if alike:
        normals, cosines, planes = (
            np.repeat(values, len(given), axis=0) for values in (normals, cosines, planes)
        )
    centres = orientation_centres(cosines)
    groups = group_images(centres, filed["Rows"], filed["Columns"])
    # One normal per group: the slight differences within it, at a position far from the origin,
    # would outweigh the distance of slices.
    along = along_normals(positions, np.where(centres[:, None] < 0, np.nan, normals[centres]))
    typed = _typed_as_scouts(filed["ImageType"])
    main = largest_group(groups, ~typed, first_image_wins=True)
    of_main = groups == main
    sizes = np.bincount(groups)[groups]
    few = ~of_main & (sizes <= SCOUT_SHARE * len(groups))
    # A slice that only lacks its orientation is a damaged slice, not a scout.
    by_group = few & (centres >= 0) & (of_main.sum() >= MAIN_SHARE * len(groups))
    scouts = typed | by_group
    spacing = median_spacing(along[of_main & ~typed])
    return {
        "slice_position_mm": along_normals(positions, normals),
        "slice_index": slice_index(groups, along),
        "slice_spacing_mm": np.full(len(groups), spacing),
        "orientation_plane": pl.Series(map(PLANES.__getitem__, planes), dtype=pl.String),
        "is_scout": scouts,
    }


def _typed_as_scouts(image_types: pl.Series) -> Booleans:
    # There are few different ones, and a look at each is quicker than a query.
    types = image_types.to_list()
    scouts = {text for text in set(types) if text and _SCOUT_IMAGE_TYPE.search(text)}
    return np.array([text in scouts for text in types], dtype=np.bool_)
