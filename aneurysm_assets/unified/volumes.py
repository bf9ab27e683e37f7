"""The unified table to `volumes`: what is said of each volume, its series' labels and points."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from aneurysm_assets.schema.columns import SERIES_KEY, VESSEL_CLASSES
from aneurysm_assets.schema.tables import (
    IS_FIRST_ROW,
    LABELS,
    POINT,
    TRAIN_CSV_EXTRA,
    VESSEL,
    VOLUMES,
)
from aneurysm_assets.volumes.description import NEEDED, VOLUME_KEY, describe_volumes
from aneurysm_assets.volumes.geometry_groups import geometry_groups
from aneurysm_assets.volumes.grid import LPS_TO_RAS, Grid, SameVoxels, same_voxels

_LABELS = [
    f"{name}_train" if name == "Modality" else name
    for name in LABELS.column_names[1:]
    if name != TRAIN_CSV_EXTRA
]

_AT_A_TIME = 100_000
"""Images that are described together."""

_SEGMENTATION = [
    *("nii_path", "nii_shape", "nii_affine"),
    *("cowseg_path", "cowseg_shape", "cowseg_affine", "cowseg_boxes"),
]


def volumes_of(unified: pl.LazyFrame) -> pl.DataFrame:
    """Return the table `volumes`.

    Parameters
    ----------
    unified : pl.LazyFrame
        The unified table.

    Returns
    -------
    pl.DataFrame
        With the schema of `tables.VOLUMES`, sorted by series and `volume_index`.
    """
    once = unified.filter(IS_FIRST_ROW)
    described = pl.concat(map(describe_volumes, _parts(unified))).sort(VOLUME_KEY)
    groups = geometry_groups(once)
    of_series = once.group_by(SERIES_KEY).agg(pl.col(*_LABELS, *_SEGMENTATION).first()).collect()
    table = (
        described.join(of_series, on=SERIES_KEY, how="left", maintain_order="left")
        .join(_points(unified, described), on=VOLUME_KEY, how="left", maintain_order="left")
        .join(groups, on=VOLUME_KEY, how="left", maintain_order="left")
    )
    return table.with_columns(
        *_segmented(table),
        pl.col("points").fill_null(pl.lit([], dtype=pl.List(POINT))),
    ).select(pl.col(name).cast(dtype) for name, dtype in VOLUMES.schema.items())


def _parts(unified: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the images of some series at a time, each once, so that little is in memory."""
    begins = (pl.col(SERIES_KEY) != pl.col(SERIES_KEY).shift()).arg_true()
    series = unified.select(SERIES_KEY).collect()
    starts = series.select(begins).to_series()
    if len(starts) + 1 > series[SERIES_KEY].n_unique():
        unified = unified.sort(SERIES_KEY)
        starts = series.sort(SERIES_KEY).select(begins).to_series()
    needed = [f"{name}_dicom" if name == "Modality" else name for name in NEEDED]
    first = 0
    for start in [*starts.to_list(), series.height]:
        if start - first >= _AT_A_TIME or start == series.height:
            yield (
                unified.slice(first, start - first)
                .filter(IS_FIRST_ROW)
                .select(needed)
                .rename({"Modality_dicom": "Modality"})
                .collect()
            )
            first = start


def _points(unified: pl.LazyFrame, described: pl.DataFrame) -> pl.DataFrame:
    """Return the aneurysm points of each volume that has some, each in its voxels."""
    millimetres = [pl.col(f"localizer_{axis}_mm").alias(f"{axis}_mm") for axis in "xyz"]
    placed = (
        unified.filter(
            pl.col("localizer_index").is_not_null() & pl.col("volume_index").is_not_null()
        )
        .select(*VOLUME_KEY, "volume_slice_index", "location", "x", "y", *millimetres)
        .collect()
        .join(described.select(*VOLUME_KEY, "affine"), on=VOLUME_KEY, how="left")
    )
    voxels = np.array([_voxel(row) for row in placed.iter_rows(named=True)]).reshape(-1, 3)
    columns = [
        pl.Series(name, voxels[:, n], dtype=pl.Float64, nan_to_null=True)
        for n, name in enumerate("ijk")
    ]
    fields = [field.name for field in POINT.fields]
    return (
        placed.with_columns(columns)
        .sort(*VOLUME_KEY, "volume_slice_index", "y", "x")
        .group_by(VOLUME_KEY, maintain_order=True)
        .agg(pl.struct(fields).alias("points"))
    )


def _voxel(row: dict[str, Any]) -> list[float]:
    """Return the voxel of a point: that of the affine, else its pixel and slice."""
    lps = [row[f"{axis}_mm"] for axis in "xyz"]
    if row["affine"] is None or None in lps:
        numbers = (row["x"], row["y"], row["volume_slice_index"])
        return [np.nan if number is None else float(number) for number in numbers]
    to_voxels = np.linalg.inv(np.array(row["affine"], float).reshape(4, 4))
    voxel: list[float] = (to_voxels @ LPS_TO_RAS @ [*lps, 1.0])[:3].tolist()
    return voxel


def _segmented(table: pl.DataFrame) -> list[pl.Series]:
    """Return of each volume whether its series' segmentations have its grid, and its vessels."""
    names = ["is_regular", "shape", "affine", *_SEGMENTATION]
    has_one = pl.any_horizontal(pl.col(f"{file}_affine").is_not_null() for file in _FILES)
    match: list[bool | None] = [None] * table.height
    vessels: list[list[dict[str, Any]] | None] = [None] * table.height
    rows = table.select(names).with_row_index("row").filter(has_one & pl.col("is_regular"))
    for row in rows.iter_rows(named=True):
        grid = _grid(row["shape"], row["affine"])
        found = {
            file: same_voxels(grid, _grid(row[f"{file}_shape"], row[f"{file}_affine"]))
            for file in _FILES
            if row[f"{file}_affine"] is not None
        }
        match[row["row"]] = None not in found.values()
        of_vessels = found.get("cowseg")
        if of_vessels is not None and row["cowseg_boxes"] is not None:
            vessels[row["row"]] = list(_vessels(row["cowseg_boxes"], of_vessels))
    return [
        pl.Series("segmentation_is_this_grid", match, dtype=pl.Boolean),
        pl.Series("vessels", vessels, dtype=pl.List(VESSEL)),
    ]


def _vessels(boxes: list[int], voxels: SameVoxels) -> Iterator[dict[str, Any]]:
    """Yield the boxes of a segmentation's vessels, in the voxels of a volume of the same grid."""
    names = [field.name for field in VESSEL.fields]
    for label, *ends in np.reshape(boxes, (-1, 7)).tolist():
        first, last = voxels.box(ends[:3], ends[3:])
        yield dict(zip(names, (VESSEL_CLASSES[label - 1], *first, *last), strict=True))


_FILES = ("nii", "cowseg")


def _grid(shape: Any, affine: Any) -> Grid:  # noqa: ANN401 - as polars gives rows
    i, j, k = (int(length) for length in np.asarray(shape).tolist())
    return Grid((i, j, k), np.array(affine, float).reshape(4, 4))
