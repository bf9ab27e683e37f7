"""The slices of a volume into one array: which dtype, and each frame read, decoded, rescaled."""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import DTypeLike, NDArray

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.loading.jpeg2000 import read_frames
from aneurysm_assets.loading.native import find_frames
from aneurysm_assets.messages import counted, one_line
from aneurysm_assets.preview.decoding import (
    Row,
    Undecodable,
    stored_bits,
    stored_values,
    syntax_name,
)
from aneurysm_assets.storage.fetching import ObjectFile, open_object
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.volumes.description import IS_COLOURED, colour_of

Slice = tuple[int, Row]
"""The place k of a slice, and its row of `dicom_tags`."""

RGB = np.dtype([("R", np.uint8), ("G", np.uint8), ("B", np.uint8)])
"""Colour as nibabel has it, and NIfTI (DT_RGB24)."""

_WHOLE_NUMBERS = (np.uint8, np.int16, np.uint16, np.int32)
"""What NIfTI stores and most programs read, in the order in which they are tried."""

_HEAD = 2 << 20
"""Bytes of a file in a bucket that are fetched at once."""


@dataclass(frozen=True)
class Target:
    """What the values of a volume become.

    Attributes
    ----------
    dtype : dtype
        Of the array.
    rescale : bool
        Whether slope and intercept are applied.
    """

    dtype: np.dtype[Any]
    rescale: bool

    def factors(self, row: Row) -> tuple[float, float]:
        """Return slope and intercept of an image, 1 and 0 where it has none; no slope is 0."""
        if not self.rescale:
            return 1.0, 0.0
        slope, intercept = row["RescaleSlope"], row["RescaleIntercept"]
        return slope or 1.0, intercept or 0.0


def target_of(slices: pl.DataFrame, dtype: DTypeLike | None, *, rescale: bool) -> Target:
    """Return what the values of a volume become.

    Parameters
    ----------
    slices : pl.DataFrame
        The rows of `dicom_tags` of its slices.
    dtype : dtype, optional
        What is wanted. The default is the smallest of uint8, int16, uint16 and int32 that holds
        whatever the headers allow, where slope and intercept are whole, otherwise float32.
    rescale : bool
        Whether slope and intercept are applied.

    Raises
    ------
    SeriesError
        A header does not say what a stored value is, or integers are wanted of values that are
        not whole, or a dtype of colour.
    """
    if dtype is not None:
        _require_nifti(np.dtype(dtype))
    coloured = slices.filter(IS_COLOURED)
    if not coloured.is_empty():
        return _target_of_colour(coloured, slices.height, dtype)
    names = ["PixelRepresentation", "BitsStored", "BitsAllocated", *_FACTORS]
    kinds = slices.select(names).unique().to_dicts()
    target = Target(np.dtype(np.float32 if dtype is None else dtype), rescale)
    are_whole = all(f.is_integer() for row in kinds for f in target.factors(row))
    if dtype is not None:
        if target.dtype.kind in "iu" and not are_whole:
            raise SeriesError(
                f"slope and intercept are not whole numbers, so values as {target.dtype} would be "
                "rounded: ask for a float dtype, or for stored values with rescale=False"
            )
        return target
    ends = [end for row in kinds for end in _range_of(row, target)]
    if not are_whole:
        return target
    for candidate in _WHOLE_NUMBERS:
        limits = np.iinfo(candidate)
        if limits.min <= min(ends) and max(ends) <= limits.max:
            return Target(np.dtype(candidate), rescale)
    return Target(np.dtype(np.float64), rescale)


def _require_nifti(dtype: np.dtype[Any]) -> None:
    is_number = dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize in (4, 8))
    if not is_number and dtype != RGB:
        raise SeriesError(f"an image is of integers, float32 or float64, not of {dtype}")


def _target_of_colour(coloured: pl.DataFrame, count: int, dtype: DTypeLike | None) -> Target:
    if coloured.height < count:
        raise SeriesError(
            f"{coloured.height} of {counted(count, 'image')} in colour ({colour_of(coloured)}), "
            "and no array holds both colour and grey"
        )
    if dtype is not None and np.dtype(dtype) != RGB:
        raise SeriesError(
            f"in colour ({colour_of(coloured)}), which comes as R, G and B of 8 bits: pass no dtype"
        )
    return Target(RGB, rescale=False)


_FACTORS = ("RescaleSlope", "RescaleIntercept")


def _range_of(row: Row, target: Target) -> tuple[float, float]:
    """Return the least and the greatest value that the header of an image allows."""
    bits = row["BitsStored"] or row["BitsAllocated"]
    if bits is None:
        raise SeriesError("an image has neither BitsStored nor BitsAllocated")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if _is_signed(row) else (0, 2**bits - 1)
    slope, intercept = target.factors(row)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def _is_signed(row: Row) -> bool:
    return bool(row["PixelRepresentation"] == 1)


def read_pixels(
    raw: Location, slices: pl.DataFrame, target: Target, threads: int | None = None
) -> NDArray[Any]:
    """Read the slices of a volume.

    Parameters
    ----------
    raw : Location
        `dicom_path` is relative to it.
    slices : pl.DataFrame
        The rows of `dicom_tags` of its slices, in their order, all of one matrix.
    target : Target
        What the values become.
    threads : int, optional
        How many files or frames are read and decoded at the same time. The default is twice the
        processors, at most 16.

    Returns
    -------
    ndarray
        Slices x rows x columns.

    Raises
    ------
    NoDecoder
        A decoder is not installed; the text says what to install.
    SeriesError
        A file cannot be read or decoded; the text names it.
    """
    rows, columns = slices["Rows"][0], slices["Columns"][0]
    volume = np.empty((slices.height, rows, columns), target.dtype)
    workers = threads or min(16, 2 * (os.cpu_count() or 1))
    jobs = list(_jobs(slices, workers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of headers; what concerns pixels is raised
        with ThreadPoolExecutor(min(workers, len(jobs))) as pool:
            done = [pool.submit(_read, raw, job, volume, target) for job in jobs]
            try:
                for each in done:
                    each.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return volume


def _jobs(slices: pl.DataFrame, workers: int) -> Iterator[list[Slice]]:
    """Yield slices that are read together: those of a file, or a share of a file of many."""
    rows = slices.select(_NEEDED).with_row_index("k").sort("dicom_path", "frame_index")
    numbered: list[Slice] = [(row.pop("k"), row) for row in rows.to_dicts()]
    for _, group in groupby(numbered, key=lambda each: each[1]["dicom_path"]):
        of_file = list(group)
        share = -(-len(of_file) // workers)
        for start in range(0, len(of_file), share):
            yield of_file[start : start + share]


_NEEDED = (
    *("dicom_path", "frame_index", "NumberOfFrames", "Rows", "Columns", "TransferSyntaxUID"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *_FACTORS,
)


def _read(raw: Location, job: Sequence[Slice], volume: NDArray[Any], target: Target) -> None:
    path = raw / job[0][1]["dicom_path"]
    if isinstance(path, Path) and target.dtype != RGB:
        job = job[_read_native(path, job, volume, target) :]
        job = job[_read_jpeg2000(path, job, volume, target) if job else 0 :]
    if not job:
        return
    file = path if isinstance(path, Path) else open_object(path, head=_HEAD)
    with _named(job[0][1], file):
        for (k, row), stored in zip(job, stored_values(file, job), strict=True):
            _put(stored, row, volume[k], target)


def _read_native(path: Path, job: Sequence[Slice], volume: NDArray[Any], target: Target) -> int:
    """Read slices of a file whose pixels stand in it as they are; return how many: all or none."""
    with _named(job[0][1], path), path.open("rb", buffering=0) as file:
        found = find_frames(file.fileno(), job[0][1])
        if found is None:
            return 0
        for k, row in job:
            stored = found.read(file.fileno(), row["frame_index"] or 0)
            _put(stored_bits(stored, row), row, volume[k], target)
    return len(job)


def _read_jpeg2000(path: Path, job: Sequence[Slice], volume: NDArray[Any], target: Target) -> int:
    """Read slices of a file of JPEG 2000, while its frames are as declared; return how many."""
    done = 0
    with _named(job[0][1], path):
        for stored in read_frames(path, [row for _, row in job]):
            k, row = job[done]
            _put(stored, row, volume[k], target)
            done += 1
    return done


def _put(stored: NDArray[Any], row: Row, place: NDArray[Any], target: Target) -> None:
    """Put the values of an image where they belong, rescaled.

    Raises
    ------
    ValueError
        They are of another shape, or are not within the dtype.
    """
    if place.dtype == RGB:
        _put_colour(stored, place)
        return
    if stored.shape != place.shape:
        raise ValueError(f"{stored.shape} values are not the {place.shape} of Rows and Columns")
    slope, intercept = target.factors(row)
    if place.dtype.kind == "f":
        place[...] = stored if (slope, intercept) == (1.0, 0.0) else stored * slope + intercept
        return
    if stored.dtype.kind not in "iu":
        raise ValueError(f"values are of {stored.dtype}: ask for a float dtype")
    low, high = int(stored.min()), int(stored.max())
    ends = sorted((low * int(slope) + int(intercept), high * int(slope) + int(intercept)))
    limits = np.iinfo(place.dtype)
    if ends[0] < limits.min or ends[1] > limits.max:
        raise ValueError(
            f"values from {ends[0]} to {ends[1]} do not fit into {place.dtype}: ask for another "
            "dtype"
        )
    # As the ends fit, what wraps on the way wraps back.
    np.copyto(place, stored, casting="unsafe")
    if slope != 1:
        np.multiply(place, np.int64(slope).astype(place.dtype), out=place)
    if intercept:
        np.add(place, np.int64(intercept).astype(place.dtype), out=place)


def _put_colour(stored: NDArray[Any], place: NDArray[Any]) -> None:
    if stored.shape != (*place.shape, 3) or stored.dtype != np.uint8:
        raise ValueError(
            f"{stored.shape} values of {stored.dtype} are no colour of 8 bits of {place.shape} "
            "pixels"
        )
    place.view(np.uint8).reshape(stored.shape)[...] = stored


@contextmanager
def _named(row: Row, file: Path | ObjectFile) -> Iterator[None]:
    """Name the file in whatever is raised."""
    try:
        yield
    except SeriesError:
        raise
    except Exception as error:  # decoders raise anything; the reason is told
        if isinstance(file, ObjectFile):
            file.require_given()
        reason = one_line(error) or type(error).__name__
        syntax = syntax_name(row["TransferSyntaxUID"])
        raise Undecodable(
            f"{row['dicom_path']}: pixels cannot be read ({syntax}): {reason}"
        ) from error
