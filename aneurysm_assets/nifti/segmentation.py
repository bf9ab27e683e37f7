"""What a series' two NIfTI files hold: shape, affine, voxel size, dtype, and the vessels' labels.

Headers go through nibabel's own header classes and checks, not through `nibabel.load`: that reads
extensions too, up to the whole file where vox_offset is 0, and logs to a logger that all of the
process shares.
"""

import logging
import math
import stat
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl

from aneurysm_assets.errors import UnusableNifti
from aneurysm_assets.messages import one_line
from aneurysm_assets.nifti.gzip_stream import GzipStream
from aneurysm_assets.nifti.volume import Volume, read_labels, series_error
from aneurysm_assets.raw.segmentation_files import Pair, find_pair
from aneurysm_assets.schema.columns import SERIES_KEY, VESSEL_CLASSES, vessel_column
from aneurysm_assets.schema.tables import SEGMENTATION_META
from aneurysm_assets.storage.object_path import Location, ObjectPath, relative_name
from aneurysm_assets.volumes.grid import Grid, determinant_sign, voxel_sizes

_SCHEMA = SEGMENTATION_META.schema
_LONGEST_HEADER = 540  # bytes, NIfTI-2
_MAX_DIM = 2**31 - 1  # Int32, the dtype of a shape

_SPATIAL_UNIT = 0b111  # the bits of xyzt_units that name the unit of length
_PER_MM: dict[int, tuple[int, int]] = {0: (1, 1), 1: (1000, 1), 2: (1, 1), 3: (1, 1000)}
"""By code of the unit (unknown, metre, mm, micron), mm per unit: numerator and denominator."""

# nibabel reports what it repairs in a header to the logger it is given. Not one from getLogger:
# its level would be open to whoever configures logging.
_SILENT = logging.Logger("silent", level=logging.CRITICAL + 1)


def segmentation_meta(
    segmentations_root: Location,
    raw_root: Location,
    series_instance_uid: str,
    pair: Pair | None = None,
) -> pl.DataFrame:
    """Give one series its row of the `segmentation_meta` table.

    Parameters
    ----------
    segmentations_root : Location
        The directory of the segmentation directories, below `raw_root`.
    raw_root : Location
        What the paths in the table are relative to.
    series_instance_uid : str
        Any series.
    pair : Pair, optional
        Its files, where they are known already.

    Returns
    -------
    pl.DataFrame
        With the schema of `SEGMENTATION_META`: one row where at least one file of the pair exists,
        with nulls for a missing one, and none otherwise. Of a file that cannot be used there are
        its path and the reason; the other one's columns are what they are. Affines lead from voxel
        index to RAS mm (sform, else qform, else pixdim, as in `nibabel.load`, and converted where
        the header's unit is metre or micron), voxel sizes are in mm.

    Raises
    ------
    SeriesError
        A file is there and cannot be read, for the machine's fault and not that of its bytes.
    """
    row: dict[str, Any] = {SERIES_KEY: series_instance_uid}
    if pair is None:
        pair = find_pair(segmentations_root, series_instance_uid)
    for prefix, path in pair.items():
        row[f"{prefix}_path"] = relative_name(path, raw_root)
        try:
            row |= _columns(prefix, path)
        except UnusableNifti as error:
            row[f"{prefix}_error"] = one_line(error.reason)
    if len(row) == 1:
        return SEGMENTATION_META.without_rows
    return pl.DataFrame({name: [row.get(name)] for name in _SCHEMA}, schema=_SCHEMA)


def _columns(prefix: str, path: Location) -> dict[str, Any]:
    """Return what one file of the pair says of itself, by column.

    Raises
    ------
    UnusableNifti
        It is no whole three-dimensional NIfTI image, or a voxel of the vessel labels is no label:
        not finite, no whole number, or beyond Int32.
    SeriesError
        It cannot be read.
    """
    volume = read_header(path)
    columns = {f"{prefix}_{name}": value for name, value in _described(volume).items()}
    return columns | _counted(volume) if prefix == "cowseg" else columns


def read_header(path: Location) -> Volume:
    """Read the header of a NIfTI file, and nothing else of it.

    Parameters
    ----------
    path : Location
        A `.nii` or `.nii.gz` file.

    Returns
    -------
    Volume
        Its affine leads to RAS mm, whatever unit the header has, and is finite; it may be flat.

    Raises
    ------
    SeriesError
        It is missing, or is no whole three-dimensional NIfTI image.
    """
    with series_error(path):
        if isinstance(path, ObjectPath):
            path = path.pinned_to(path.stat())  # header and voxels are of one version
        header, pixdim_all = _header(path)
        shape = _shape(header)
        numerator, denominator = _mm_per_unit(header)
        affine = header.get_best_affine()  # in the header's own unit, as are the zooms
        affine[:3] = affine[:3] * numerator / denominator
        i, j, k = (float(zoom) * numerator / denominator for zoom in header.get_zooms()[:3])
        if not np.isfinite([*affine.flat, i, j, k, *voxel_sizes(affine)]).all():
            raise ValueError("affine or pixdim is not finite")
        slope, intercept = header.get_slope_inter()  # raises where nibabel could not read the data
        offset = header.get_data_offset()
        volume = Volume(
            path=path,
            grid=Grid(shape, affine),
            pixdim=(i, j, k),
            pixdim_all=pixdim_all,
            dtype=header.get_data_dtype(),
            offset=offset or None,
            slope=1.0 if slope is None else slope,
            intercept=0.0 if intercept is None else intercept,
        )
        _check_length(volume, header.single_vox_offset)
    return volume


def _described(volume: Volume) -> dict[str, Any]:
    """Return the columns of one file's header, without their prefix."""
    affine = volume.grid.affine_ras
    with series_error(volume.path):
        codes = nib.aff2axcodes(affine)  # type: ignore[no-untyped-call]
    return {
        "shape": volume.grid.shape,
        "affine": affine.ravel().tolist(),
        "pixdim": volume.pixdim,
        "pixdim_all": [value if math.isfinite(value) else None for value in volume.pixdim_all],
        "dtype": volume.dtype.name,
        "axis_codes": None if None in codes else "".join(codes),
        "determinant_sign": determinant_sign(affine),
        "voxel_size": voxel_sizes(affine),
    }


def _counted(volume: Volume) -> dict[str, Any]:
    """Return the columns of the vessel labels' voxels."""
    classes = dict(enumerate(VESSEL_CLASSES, start=1))
    found = read_labels(volume, boxed=classes)
    voxels = {vessel_column(vessel): found.counts.get(n, 0) for n, vessel in classes.items()}
    boxes = [number for label, box in found.boxes.items() for number in (label, *box)]
    return {"cowseg_labels": list(found.counts), **voxels, "cowseg_boxes": boxes}


def _header(path: Location) -> tuple[Any, list[float]]:
    """Return the header as nibabel repairs it, and pixdim as it is stored."""
    if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is a directory or a device")
    with path.open("rb") as file:
        stream = GzipStream(file) if path.suffix == ".gz" else file
        head = stream.read(_LONGEST_HEADER)
    kinds: tuple[Any, ...] = (nib.Nifti1Header, nib.Nifti2Header)
    for kind in kinds:
        if kind.may_contain_header(head):
            header = kind(head[: kind.sizeof_hdr], check=False)
            pixdim: list[float] = header["pixdim"].astype(float).tolist()
            header.check_fix(logger=_SILENT)
            if header["magic"] != kind.single_magic:
                raise ValueError("the header of a .hdr and .img pair, without its data")
            return header, pixdim
    raise ValueError("no NIfTI header")


def _mm_per_unit(header: Any) -> tuple[int, int]:  # noqa: ANN401
    """Return how many mm one unit of length of the header is; an unknown unit counts as mm."""
    code = int(header["xyzt_units"]) & _SPATIAL_UNIT
    if code not in _PER_MM:
        raise ValueError(f"xyzt_units says {code}, which is no unit of length")
    return _PER_MM[code]


def _shape(header: Any) -> tuple[int, int, int]:  # noqa: ANN401
    shape = [int(length) for length in header.get_data_shape()]
    spatial, others = shape[:3], shape[3:]
    if len(spatial) < 3 or any(length != 1 for length in others):
        raise ValueError(f"shape {tuple(shape)} is not three-dimensional")
    if not all(1 <= length <= _MAX_DIM for length in spatial):
        raise ValueError(f"shape {tuple(shape)} is not possible")
    i, j, k = spatial
    return i, j, k


def _check_length(volume: Volume, least_offset: int) -> None:
    """Refuse a file shorter than its header says; a compressed one cannot be told unread."""
    if volume.is_compressed:
        return
    voxels = math.prod(volume.grid.shape)
    needed = (volume.offset or least_offset) + voxels * volume.dtype.itemsize
    size = volume.path.stat().st_size
    if size < needed:
        raise ValueError(f"truncated: {size} bytes where the header asks for {needed}")
