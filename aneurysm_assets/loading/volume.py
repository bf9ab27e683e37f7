"""A directory of DICOM files to its volumes, and one of them to an image with an affine."""

import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from aneurysm_assets.dicom.series import read_series as read_headers
from aneurysm_assets.errors import InputError, IrregularVolume, SeriesError
from aneurysm_assets.limits import MAX_IMAGE_PIXELS
from aneurysm_assets.messages import counted
from aneurysm_assets.parallel.forks import require_usable_polars
from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.volumes.description import describe_volumes

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from numpy.typing import DTypeLike, NDArray

_SHEARED_DEGREES = 0.01
"""From this tilt on, a qform, which knows no shear, would put voxels elsewhere."""


class Series(NamedTuple):
    """What `read_series` returns.

    Attributes
    ----------
    rows : pl.DataFrame
        One row per image, with the columns of `dicom_tags`.
    volumes : pl.DataFrame
        One row per volume, with SeriesInstanceUID and `schema.columns.VOLUME_COLUMNS`.
    """

    rows: pl.DataFrame
    volumes: pl.DataFrame


def read_series(directory: str | Path | ObjectPath, threads: int | None = None) -> Series:
    """Read the headers of a directory of DICOM files, and find its volumes.

    Parameters
    ----------
    directory : str, Path or ObjectPath
        A directory, or a URL of one in a bucket. Its name is taken for the SeriesInstanceUID.
    threads : int, optional
        Threads that read ahead.

    Returns
    -------
    Series
        Rows and volumes; `dicom_path` and `files` are relative to the directory's parent.

    Raises
    ------
    SeriesError
        The directory cannot be read, or holds no readable DICOM image.
    RuntimeError
        This process was forked after polars was used.
    """
    require_usable_polars()
    location = _location(directory)
    rows = read_headers(location, location.parent, threads).frame
    return Series(rows, describe_volumes(rows))


def load_volume(
    directory: str | Path | ObjectPath,
    index: int = 0,
    dtype: "DTypeLike | None" = None,
    *,
    rescale: bool = True,
    allow_irregular: bool = False,
    threads: int | None = None,
) -> "Nifti1Image":
    """Load a volume of a directory of DICOM files.

    Parameters
    ----------
    directory : str, Path or ObjectPath
        A directory, or a URL of one in a bucket.
    index : int
        `volume_index`; 0 is the largest.
    dtype : dtype, optional
        Of the array. The default is the smallest of uint8, int16, uint16 and int32 that holds
        whatever the headers allow where slope and intercept are whole numbers, else float32.
        Colour has one of its own: R, G and B, as nibabel has it; no other is given.
    rescale : bool
        Whether slope and intercept are applied, which gives output units (HU in CT).
    allow_irregular : bool
        Whether a volume is loaded that no affine is right for, or that is in colour. Its affine is
        that of its first slice and the mean step, or None.
    threads : int, optional
        How many files or frames are read and decoded at the same time.

    Returns
    -------
    nibabel.Nifti1Image
        Array (i, j, k): i along the rows, j down the columns, k along the normal; the affine leads
        from there to RAS mm. `nibabel.save` writes it.

    Raises
    ------
    IrregularVolume
        The volume is not regular; the text says why, and what of the series is in no volume.
    NoDecoder
        A decoder is not installed; the text says what to install.
    SeriesError
        There is no such volume, or a file of it cannot be read; the text says which.
    RuntimeError
        This process was forked after polars was used.
    """
    # Whoever only reads headers does not wait for it.
    from aneurysm_assets.loading.pixels import read_pixels, target_of  # noqa: PLC0415

    location = _location(directory)
    series = read_series(location, threads)
    volume = _volume(series.volumes, operator.index(index), directory)
    if not volume["is_regular"] and not allow_irregular:
        raise IrregularVolume(_why_not(volume, directory))
    if volume["shape"] is None:
        raise SeriesError(f"{directory}: volume {index}: Rows or Columns is missing")
    across, down, _ = volume["shape"]
    if across * down > MAX_IMAGE_PIXELS:
        raise SeriesError(
            f"{directory}: volume {index}: images of {down} x {across} pixels; at most "
            f"{MAX_IMAGE_PIXELS:,} are decoded"
        )
    slices = series.rows.filter(pl.col("volume_index") == index).sort("volume_slice_index")
    try:
        target = target_of(slices, dtype, rescale=rescale)
    except SeriesError as error:
        raise SeriesError(f"{directory}: volume {index}: {error}") from error
    pixels = read_pixels(location.parent, slices, target, threads)
    numbers = volume["affine"]
    affine = None if numbers is None else np.array(numbers, float).reshape(4, 4)
    return _image(pixels.T, affine, volume["gantry_tilt_degrees"] or 0.0)


def _image(
    array: "NDArray[Any]", affine: "NDArray[np.float64] | None", tilt_degrees: float
) -> "Nifti1Image":
    from nibabel import Nifti1Image  # noqa: PLC0415

    # With the dtype said, it takes integers of 64 bits too.
    image: Any = Nifti1Image(array, affine, dtype=array.dtype)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    if affine is not None:
        image.set_sform(affine, code="scanner", update_affine=False)
        if tilt_degrees < _SHEARED_DEGREES:
            image.set_qform(affine, code="scanner", update_affine=False)
    loaded: Nifti1Image = image
    return loaded


def _volume(volumes: pl.DataFrame, index: int, directory: object) -> dict[str, Any]:
    found = volumes.filter(pl.col("volume_index") == index)
    if found.is_empty():
        raise SeriesError(
            f"{directory} has {counted(volumes.height, 'volume')}, so there is no volume {index}"
        )
    return found.row(0, named=True)


def _why_not(volume: dict[str, Any], directory: object) -> str:
    left_out = volume["left_out_reason"]
    also = f" In no volume of the series: {left_out}." if left_out else ""
    return (
        f"{directory}: volume {volume['volume_index']} is not regular: "
        f"{volume['irregular_reason']}.{also} Pass allow_irregular=True to load it all the same."
    )


def _location(directory: str | Path | ObjectPath) -> Location:
    if isinstance(directory, ObjectPath):
        return directory
    if isinstance(directory, str) and "://" in directory:
        try:
            return ObjectPath.parse(directory)
        except ValueError as error:
            # Without the text: it may hold a password.
            raise InputError(f"the URL of a series: {error}") from error
    if directory == "":
        raise InputError("the directory of a series is an empty text")
    path = Path(directory).expanduser().absolute()
    if path.is_file():
        raise InputError(f"{path} is a file: pass the directory that its series is in")
    return path
