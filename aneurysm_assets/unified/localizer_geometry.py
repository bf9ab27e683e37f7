"""Points and segmentations held against the images of their series: what needs two tables.

The geometry itself stands in `volumes` and `nifti.vessels`. Coordinates of points are
LPS in mm, those of volumes RAS.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from aneurysm_assets.errors import InputError, MachineError, SeriesError
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.settings import PixelCoordinates, Settings
from aneurysm_assets.volumes.grid import Grid, grids_match
from aneurysm_assets.volumes.stack import grid_of_series

POINT_KEY = (SERIES_KEY, "dicom_path", "frame_index", "localizer_index")
"""Unique also where two files of a series have one SOPInstanceUID, and so the same points."""

_VOXEL = {
    **dict.fromkeys((SERIES_KEY, "dicom_path"), pl.String()),
    **dict.fromkeys(("frame_index", "localizer_index"), pl.Int32()),
    "localizer_voxel": pl.List(pl.Int32),
    "localizer_vessel": pl.String(),
}


@dataclass(frozen=True)
class Placement:
    """What the segmentations say.

    Attributes
    ----------
    points : pl.DataFrame
        `localizer_voxel` and `localizer_vessel` by `POINT_KEY`, for points with a segmentation.
    matches : pl.DataFrame
        `segmentation_matches_series` by series, for series with a segmentation.
    warnings : list of str
        Volumes that could not be read any more; their points have null.
    """

    points: pl.DataFrame
    matches: pl.DataFrame
    warnings: list[str]


def in_patient_coordinates(whole: PixelCoordinates = "centres") -> list[pl.Expr]:
    """Return `localizer_x_mm`, `_y_mm`, `_z_mm` of rows with a point and its image's geometry.

    By equation C.7.6.2.1-1 of PS3.3, in which whole coordinates are centres of pixels. LPS, mm;
    null where a part is missing.

    Parameters
    ----------
    whole : {"centres", "corners"}
        What whole x and y are; where they are the pixels' first corners, half a pixel is taken off.
    """
    x, y = (pl.col(side) - (0.5 if whole == "corners" else 0.0) for side in ("x", "y"))
    position, cosines = pl.col("ImagePositionPatient"), pl.col("ImageOrientationPatient")
    between_columns = pl.col("PixelSpacing").list.get(1)
    between_rows = pl.col("PixelSpacing").list.get(0)
    return [
        (
            position.list.get(axis)
            + cosines.list.get(axis) * between_columns * x
            + cosines.list.get(axis + 3) * between_rows * y
        ).alias(f"localizer_{name}_mm")
        for axis, name in enumerate("xyz")
    ]


def place(
    settings: Settings, images: pl.DataFrame, points: pl.DataFrame, segmentations: pl.DataFrame
) -> Placement:
    """Hold the segmentations of some series against their points and images.

    Parameters
    ----------
    settings : Settings
        Where the volumes are.
    images : pl.DataFrame
        Rows of `dicom_tags` of those series.
    points : pl.DataFrame
        Their points that found an image, with `POINT_KEY` and the three coordinates in mm (LPS).
    segmentations : pl.DataFrame
        Their rows of `segmentation_meta`.

    Returns
    -------
    Placement
        Of each point's volume only the neighbourhood is read.

    Raises
    ------
    InputError
        The machine, or the store, does not give a volume.
    """
    found: list[pl.DataFrame] = []
    matches: dict[str, bool | None] = {}
    warnings: list[str] = []
    by_series = _by_series(images)
    points_by_series = _by_series(points.drop_nulls("localizer_x_mm"))
    for row in segmentations.iter_rows(named=True):
        uid = row[SERIES_KEY]
        matches[uid] = _matches(row, by_series.get(uid))
        if row["cowseg_affine"] is None or uid not in points_by_series:
            continue
        try:
            found.append(_vessels(settings, row["cowseg_path"], points_by_series[uid]))
        except MachineError as error:
            # Nulls now would stay: nothing that the table depends on changes when it is back.
            raise InputError(
                f"{error}; the table that is there stays: combine again once the file can be "
                "read, or is gone"
            ) from error
        except SeriesError as error:
            warnings.append(f"{uid}: {error}")
    schema = {SERIES_KEY: pl.String(), "segmentation_matches_series": pl.Boolean()}
    return Placement(
        points=pl.concat([pl.DataFrame(schema=_VOXEL), *found]),
        matches=pl.DataFrame([list(matches), list(matches.values())], schema=schema),
        warnings=warnings,
    )


def _by_series(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    parts = frame.partition_by(SERIES_KEY, as_dict=True, maintain_order=True)
    return {str(uid): part for (uid,), part in parts.items()}


def _vessels(settings: Settings, path: str, points: pl.DataFrame) -> pl.DataFrame:
    # With nibabel, which every start of the definitions would wait for.
    from aneurysm_assets.nifti.vessels import vessels_at  # noqa: PLC0415

    coordinates = points.select(f"localizer_{axis}_mm" for axis in "xyz").to_numpy()
    at = vessels_at(settings.raw / path, coordinates)
    return points.select(POINT_KEY).with_columns(
        pl.Series("localizer_voxel", [p.voxel for p in at], dtype=pl.List(pl.Int32)),
        pl.Series("localizer_vessel", [p.vessel for p in at], dtype=pl.String),
    )


def _matches(segmentation: dict[str, object], images: pl.DataFrame | None) -> bool | None:
    """Compare each usable volume of a series with the grid of its images; None without either."""
    grid = None if images is None else grid_of_series(images)
    if grid is None:
        return None
    volumes = [
        Grid(
            _three(segmentation[f"{name}_shape"]),
            np.array(segmentation[f"{name}_affine"], float).reshape(4, 4),
        )
        for name in ("nii", "cowseg")
        if segmentation[f"{name}_affine"] is not None
    ]
    return all(grids_match(grid, volume) for volume in volumes) if volumes else None


def _three(shape: object) -> tuple[int, int, int]:
    i, j, k = (int(length) for length in np.asarray(shape).tolist())
    return i, j, k


def segmented(series: Sequence[str], segmentations: pl.DataFrame) -> list[str]:
    """Return those of the series that have a segmentation, in their order."""
    on_disk = set(segmentations[SERIES_KEY].to_list())
    return [uid for uid in series if uid in on_disk]
