"""The voxels of a NIfTI file: label values, their counts and boxes, and single planes.

Nothing here holds a volume in memory: it is read in slabs, and mapped where only a part is wanted.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from aneurysm_assets.errors import MachineError, SeriesError, UnusableNifti
from aneurysm_assets.limits import MAX_NIFTI_BYTES, MAX_NIFTI_PLANE_BYTES
from aneurysm_assets.nifti.gzip_stream import GzipStream
from aneurysm_assets.storage.fetching import store_error
from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.volumes.grid import Grid

_SLAB = 2**20  # bytes; a multiple of every voxel's size
_REQUEST = 4 * 2**20  # bytes of one, where the file is in a bucket
_MOST_LABELS = 2**16  # as many as 16 bits tell apart; more are no labels, and would fill memory
_INT32 = np.iinfo(np.int32)
_SCALED_TOLERANCE = 1e-3  # scl_slope is a float32: 30 * 0.1 is 3.0000000447

_READ_ERRORS = (
    OSError,
    EOFError,
    HeaderDataError,
    ValueError,
    OverflowError,
)

_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


Stream = IO[bytes] | GzipStream
"""The bytes of a NIfTI file, uncompressed."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A NIfTI file, as its header describes it.

    Attributes
    ----------
    path : Location
        The file, compressed if its name ends in `.gz`.
    grid : Grid
        Voxels along i, j, k, and where they are in RAS mm.
    pixdim : tuple of float
        The header's own voxel size along i, j, k, converted to mm.
    pixdim_all : list of float
        All eight values as stored: qfac, then those of each dimension, in the header's own units.
    dtype : np.dtype
        Of the stored values, with their byte order.
    offset : int or None
        Bytes before the first voxel, uncompressed; None where the header says 0, after which some
        readers begin within the header and others behind it.
    slope, intercept : float
        A voxel's value is the stored one times slope plus intercept.
    """

    path: Location
    grid: Grid
    pixdim: tuple[float, float, float]
    pixdim_all: list[float]
    dtype: np.dtype[Any]
    offset: int | None
    slope: float
    intercept: float

    @property
    def is_compressed(self) -> bool:
        """Whether the file is compressed by gzip."""
        return self.path.suffix == ".gz"


@contextmanager
def series_error(path: Location) -> Iterator[None]:
    """Turn whatever reading a NIfTI file may raise into a SeriesError with its path and reason.

    What the file's bytes say is told apart from what the machine says, which may pass.

    Raises
    ------
    StoreError
        The file is in a bucket, and it is the store that failed.
    UnusableNifti
        It is what the bytes say.
    MachineError
        It is what the machine says: no permission, a faulty disk.
    SeriesError
        There is no such file, or it is none.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except _READ_ERRORS as error:
        if not isinstance(error, OSError):
            raise UnusableNifti(f"{path}: no usable NIfTI file: {error}", str(error)) from error
        if isinstance(path, ObjectPath):
            raise store_error(path, error) from error
        is_no_file = isinstance(error, _NO_FILE) or error.errno is None
        kind = SeriesError if is_no_file else MachineError
        raise kind(f"{path} cannot be read: {error.strerror or error}") from error


Box = tuple[int, int, int, int, int, int]
"""The first i, j, k that a label has, then the last; both belong to it."""


@dataclass(frozen=True)
class Labels:
    """Where labels are in a volume.

    Attributes
    ----------
    counts : dict of int to int
        Voxels of each value present, 0 for background among them, by ascending value.
    boxes : dict of int to Box
        The box of each label that was asked for and is present, by ascending value.
    """

    counts: dict[int, int] = field(default_factory=dict)
    boxes: dict[int, Box] = field(default_factory=dict)


def read_labels(volume: Volume, boxed: Collection[int]) -> Labels:
    """Count the voxels of each label and find where they are, reading the file once.

    Parameters
    ----------
    volume : Volume
        A file of labels.
    boxed : collection of int
        The labels of which the box is wanted.

    Raises
    ------
    SeriesError
        The file cannot be read, or is too short, or has more bytes than `MAX_NIFTI_BYTES`, or
        holds a value that is no label.
    """
    counts: Counter[int] = Counter()
    boxes: dict[int, Box] = {}
    first = 0
    with series_error(volume.path):
        for slab in _slabs(volume):
            # Most of a volume is background: only the rest is worth sorting.
            places = np.flatnonzero(slab != 0)
            stored = slab[places]
            values, numbers = np.unique(stored, return_counts=True)
            values = np.append(values, slab.dtype.type(0))
            numbers = np.append(numbers, len(slab) - len(places))
            present = numbers > 0
            labels = labels_of(volume, values[present]).tolist()
            for label, number in zip(labels, numbers[present].tolist(), strict=True):
                counts[label] += number
            if len(counts) > _MOST_LABELS:
                raise ValueError(f"more than {_MOST_LABELS} different values are no labels")
            for label, value in zip(labels, values[present], strict=True):
                if label in boxed:
                    own = places[stored == value] if value else np.flatnonzero(slab == 0)
                    box = _box(volume, first + own)
                    boxes[label] = _around(boxes.get(label, box), box)
            first += len(slab)
    return Labels(dict(sorted(counts.items())), dict(sorted(boxes.items())))


def _box(volume: Volume, places: NDArray[np.int64]) -> Box:
    """Return the box of voxels, given by their ascending numbers in the order of the file."""
    width, height, _ = volume.grid.shape
    rows = places // width
    i, j = places - rows * width, rows % height
    return (
        *(int(i.min()), int(j.min()), int(rows[0]) // height),
        *(int(i.max()), int(j.max()), int(rows[-1]) // height),
    )


def _around(one: Box, other: Box) -> Box:
    i, j, k = map(min, one[:3], other[:3])
    last_i, last_j, last_k = map(max, one[3:], other[3:])
    return i, j, k, last_i, last_j, last_k


def labels_of(volume: Volume, stored: NDArray[Any]) -> NDArray[np.int32]:
    """Turn stored values of a volume into labels, scaled as nibabel does.

    Parameters
    ----------
    volume : Volume
        Whose values they are.
    stored : ndarray
        Any part of them.

    Raises
    ------
    ValueError
        A value is not finite, is no whole number, or does not fit Int32.
    """
    values = apply_read_scaling(stored, volume.slope, volume.intercept)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError("a label is not finite")
        whole = np.rint(values)
        tolerance = 0 if values is stored else _SCALED_TOLERANCE
        broken = np.abs(values - whole) > tolerance
        if broken.any():
            raise ValueError(f"label {values[broken][0]} is no whole number")
        values = whole
    if values.size and not (values.min() >= _INT32.min and values.max() <= _INT32.max):
        raise ValueError(f"labels from {values.min()} to {values.max()} do not fit Int32")
    return values.astype(np.int32)


def planes(volume: Volume, wanted: Iterable[int]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield stored values in planes of constant k, each indexed by i and j.

    Parameters
    ----------
    volume : Volume
        A plain file is mapped, so that only what a caller takes of a plane is read; in a bucket
        the planes are, and a compressed one is decompressed as far as the last plane wanted.
    wanted : iterable of int
        The planes' k, ascending.

    Raises
    ------
    ValueError
        What is not mapped has more bytes, in a plane or in all, than may be read; or the file is
        too short.
    """
    width, height, depth = volume.grid.shape
    if not volume.is_compressed and isinstance(volume.path, Path):
        offset = _offset(volume)
        shape = (width, height, depth)
        mapped = np.memmap(volume.path, volume.dtype, "r", offset, shape, order="F")
        yield from ((k, mapped[:, :, k]) for k in wanted)
        return
    _require_few_bytes("its voxels", _voxel_bytes(volume), MAX_NIFTI_BYTES)
    length = width * height * volume.dtype.itemsize
    _require_few_bytes("a plane", length, MAX_NIFTI_PLANE_BYTES)
    offset = _offset(volume)
    _require_few_bytes("what stands before its voxels", offset, MAX_NIFTI_BYTES)
    with _stream(volume) as stream:
        for k in wanted:
            stream.seek(offset + k * length)
            plane = np.frombuffer(b"".join(_chunks(stream, length)), volume.dtype)
            yield k, plane.reshape((width, height), order="F")


def _slabs(volume: Volume) -> Iterator[NDArray[Any]]:
    """Yield all stored values in the order of the file."""
    offset, length = _offset(volume), _voxel_bytes(volume)
    _require_few_bytes("its voxels", length, MAX_NIFTI_BYTES)
    _require_few_bytes("what stands before its voxels", offset, MAX_NIFTI_BYTES)
    with _stream(volume) as stream:
        stream.seek(offset)
        for chunk in _chunks(stream, length):
            yield np.frombuffer(chunk, volume.dtype)
        while volume.is_compressed and (behind := stream.read(_SLAB)):
            length += len(behind)  # to the end, where the checksum is compared
            _require_few_bytes("its inflated data", length, MAX_NIFTI_BYTES)


def _voxel_bytes(volume: Volume) -> int:
    return math.prod(volume.grid.shape) * volume.dtype.itemsize


def _require_few_bytes(what: str, length: int, most: int) -> None:
    if length > most:
        raise ValueError(f"too large: {what} would take {length} bytes; at most {most} are read")


def _chunks(stream: Stream, length: int) -> Iterator[bytes]:
    for start in range(0, length, _SLAB):
        wanted = min(_SLAB, length - start)
        chunk = stream.read(wanted)
        if len(chunk) < wanted:
            raise ValueError("truncated: its data end before the last voxel")
        yield chunk


@contextmanager
def _stream(volume: Volume) -> Iterator[Stream]:
    path = volume.path
    with path.open("rb", _REQUEST) if isinstance(path, ObjectPath) else path.open("rb") as file:
        yield GzipStream(file) if volume.is_compressed else file


def _offset(volume: Volume) -> int:
    """Return where the labels begin, if the file can have any."""
    if volume.dtype.kind not in "iuf":
        raise ValueError(f"{volume.dtype.name} voxels are no labels")
    if volume.offset is None:
        raise ValueError("vox_offset is 0: where the voxels begin is not said")
    return volume.offset
