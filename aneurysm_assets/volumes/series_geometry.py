"""Fills the columns of a series that follow from where its images lie, and tells its scouts.

The rules stand in `directions`, `grouping` and `slices`. Coordinates are LPS in mm. Nothing here
trusts a header about the distance or the order of slices: ImagePositionPatient and
ImageOrientationPatient decide.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.schema.tolerances import (
    MAIN_SHARE,
    SCOUT_SHARE,
)
from aneurysm_assets.volumes.directions import (
    PLANES,
    Booleans,
    Floats,
    Integers,
    obliquity_degrees,
    orientation_centres,
    plane_numbers,
    slice_normals,
)
from aneurysm_assets.volumes.grouping import group_images, groups_of_matrix, ranked
from aneurysm_assets.volumes.partition import NO_VOLUME, SPLIT_BY, find_volumes
from aneurysm_assets.volumes.slices import along_normals, measure_gaps, slice_index
from aneurysm_assets.volumes.vectors import vectors

_COMPUTED = pa.schema(
    DICOM_TAGS.arrow_schema.field(name)
    for name in (
        "slice_position_mm",
        "slice_index",
        "slice_spacing_mm",
        "orientation_plane",
        "is_scout",
        "image_group",
        "largest_gap_ratio",
        "missing_slices",
        "gantry_tilt_degrees",
        "obliquity_degrees",
        "volume_index",
        "volume_slice_index",
        "volume_split_by",
    )
)

_OF_GAPS = {
    "slice_spacing_mm": "spacing_mm",
    "largest_gap_ratio": "largest_ratio",
    "missing_slices": "missing",
    "gantry_tilt_degrees": "tilt_degrees",
}
"""Columns by the attribute of `Gaps` that they hold."""

_SCOUT_IMAGE_TYPE = re.compile(r"(^|\\) *LOCALIZER *(\\|$)")


def add_geometry(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill the computed columns of one series' rows.

    Images that belong together by `group_images` form a group. Of two groups equally large, the one
    whose first image has the lowest InstanceNumber (then frame_index, then dicom_path) counts as
    the larger.

    Parameters
    ----------
    frame : pl.DataFrame
        All rows of a series, in any order, with the columns of `tables.DICOM_TAGS` that are
        read from files. Positions are LPS in mm, orientations LPS.

    Returns
    -------
    pl.DataFrame
        The same rows in the same order, with `slice_position_mm` (along each image's own normal,
        LPS, mm), `slice_index`, `slice_spacing_mm` (mm), `orientation_plane`, `is_scout`,
        `image_group` and the columns that grade it, `volume_index`, `volume_slice_index` and
        `volume_split_by`, whatever these held before; nulls in rows
        with a `read_error`.
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
            "PixelSpacing",
            "FrameOfReferenceUID",
            "header_series_instance_uid",
            *SPLIT_BY,
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


def _columns(values: dict[str, NDArray[Any] | list[str | None]]) -> list[pl.Series]:
    # By Arrow: a series of polars takes five times as long to make, and these are many.
    arrays = [_array(values[field.name], field.type) for field in _COMPUTED]
    return pl.DataFrame(pa.RecordBatch.from_arrays(arrays, schema=_COMPUTED)).get_columns()


def _array(values: NDArray[Any] | list[str | None], dtype: pa.DataType) -> pa.Array:
    """Return a column, in which what is no number is null."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return pa.array(values, pa.float64(), from_pandas=True).cast(dtype)
    return pa.array(values, dtype)


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


def _geometry(filed: pl.DataFrame) -> dict[str, NDArray[Any] | list[str | None]]:
    """Return the computed columns of readable images that are sorted as they are filed."""
    positions = vectors(filed, "ImagePositionPatient")
    orientations = vectors(filed, "ImageOrientationPatient")
    normals, cosines, planes, obliquity = _orientations(orientations)
    centres = orientation_centres(cosines)
    of_matrix = groups_of_matrix(centres, filed["Rows"], filed["Columns"])
    spacings = vectors(filed, "PixelSpacing")
    groups = group_images(
        of_matrix, spacings, filed["FrameOfReferenceUID"], filed["header_series_instance_uid"]
    )
    # One normal per group: the slight differences within it, at a position far from the origin,
    # would outweigh the distance of slices.
    of_centre = np.where(centres[:, None] < 0, np.nan, normals[centres])
    along = along_normals(positions, of_centre)
    scouts = _scouts(of_matrix, centres, _typed_as_scouts(filed["ImageType"]))
    of_slices = np.where(scouts, np.nan, along)
    order = ranked(groups, ~np.isnan(of_slices))
    rank = np.argsort(order)[groups].astype(np.float64)
    ordered = slice_index(groups, along)
    volumes = find_volumes(filed, groups, along, scouts, ordered)
    return {
        "slice_position_mm": along_normals(positions, normals),
        "slice_index": ordered,
        "orientation_plane": [PLANES[plane] for plane in planes.tolist()],
        "is_scout": scouts,
        "image_group": np.where(scouts, np.nan, rank),
        "obliquity_degrees": obliquity,
        **{
            name: np.where(scouts, np.nan, values)
            for name, values in _gaps(groups, of_slices, positions, of_centre, len(order)).items()
        },
        "volume_index": _null_without_volume(volumes.index),
        "volume_slice_index": _null_without_volume(volumes.slice_index),
        "volume_split_by": volumes.split_by,
    }


def _null_without_volume(numbers: Integers) -> Floats:
    return np.where(numbers == NO_VOLUME, np.nan, numbers)


def _orientations(given: Floats) -> tuple[Floats, Floats, Integers, Floats]:
    """Return of each image its normal, its cosines, the number of its plane, its obliquity."""
    # In most series they are all the same: what follows from them is computed once.
    alike = len(given) > 0 and bool((given == given[0]).all())
    distinct = given[:1] if alike else given
    normals = slice_normals(distinct)
    cosines = np.where(np.isnan(normals[:, :1]), np.nan, distinct)
    planes, obliquity = plane_numbers(normals), obliquity_degrees(normals)
    if not alike:
        return normals, cosines, planes, obliquity
    times = len(given)
    return (
        np.repeat(normals, times, axis=0),
        np.repeat(cosines, times, axis=0),
        np.repeat(planes, times),
        np.repeat(obliquity, times),
    )


def _scouts(of_matrix: Integers, centres: Integers, typed: Booleans) -> Booleans:
    """Tell which images are scouts, by ImageType or as few among many of another group."""
    if not len(of_matrix):
        return typed
    main = ranked(of_matrix, ~typed)[0]
    of_main = of_matrix == main
    few = ~of_main & (np.bincount(of_matrix)[of_matrix] <= SCOUT_SHARE * len(of_matrix))
    # A slice that only lacks its orientation is a damaged slice, not a scout.
    by_group = few & (centres >= 0) & (of_main.sum() >= MAIN_SHARE * len(of_matrix))
    return np.asarray(typed | by_group)


def _gaps(
    groups: Integers, along: Floats, positions: Floats, normals: Floats, number: int
) -> dict[str, NDArray[Any]]:
    """Return the columns that say what lies between the slices of each image's group."""
    by_group = np.argsort(groups, kind="stable")
    ends = np.searchsorted(groups[by_group], np.arange(number + 1))
    measured = []
    for first, last in pairwise(ends.tolist()):
        images = by_group[first:last]
        measured.append(measure_gaps(along[images], positions[images], normals[images[0]]))
    return {
        name: np.array([getattr(gaps, attribute) for gaps in measured], dtype=np.float64)[groups]
        for name, attribute in _OF_GAPS.items()
    }


def _typed_as_scouts(image_types: pl.Series) -> Booleans:
    # There are few different ones, and a look at each is quicker than a query.
    types = image_types.to_list()
    scouts = {text for text in set(types) if text and _SCOUT_IMAGE_TYPE.search(text)}
    return np.array([text in scouts for text in types], dtype=np.bool_)
