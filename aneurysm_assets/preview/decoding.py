"""Pixels of DICOM images: only those that are asked for, a file or a frame at a time."""

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.messages import one_line
from aneurysm_assets.optional_dependencies import how_to_install
from aneurysm_assets.storage.fetching import ObjectFile, in_order, open_object
from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.volumes.plane import Pixels

_AHEAD = 8
"""Files of a bucket that are fetched at the same time."""

_WHOLE = 2 << 20
"""Bytes of a file that are fetched at once; of a larger one the rest as it is decoded."""

Row = Mapping[str, Any]
"""A row of `dicom_tags` by column."""


class Undecodable(SeriesError):  # noqa: N818 - as `UnreadableFile`
    """The pixels of one file cannot be had; the text says of which, and why."""


class NoDecoder(SeriesError):  # noqa: N818
    """Pixels are encoded in a way that nothing installed decodes."""


def decode(
    raw: Location, rows: Iterable[tuple[int, Row]]
) -> Iterator[tuple[int, Pixels | Undecodable]]:
    """Decode images in the order of their files, one in memory at a time.

    Parameters
    ----------
    raw : Location
        `dicom_path` is relative to it.
    rows : iterable of tuple
        The images, each with a number to know it by.

    Yields
    ------
    tuple of int and ndarray or Undecodable
        Grey in output units (slope and intercept applied where there are), as float32; colour as
        RGB, uint8.

    Raises
    ------
    NoDecoder
        A decoder is not installed; the text says what to install.
    SeriesError
        The files are in a bucket, and the store does not give one.
    """

    def of_file(row: tuple[int, Row]) -> str:
        return str(row[1]["dicom_path"])

    by_file = {
        path: sorted(group, key=lambda row: row[1]["frame_index"] or 0)
        for path, group in groupby(sorted(rows, key=of_file), key=of_file)
    }
    for file, frames in zip(_opened(raw, by_file), by_file.values(), strict=True):
        yield from _decode_file(file, frames)


def _opened(raw: Location, paths: Iterable[str]) -> Iterator[Path | ObjectFile]:
    """Yield each file; in a bucket the next are fetched meanwhile, whole where they are small."""
    if isinstance(raw, ObjectPath):
        yield from in_order(partial(open_object, head=_WHOLE), map(raw.__truediv__, paths), _AHEAD)
    else:
        yield from map(raw.__truediv__, paths)


def _decode_file(
    file: Path | ObjectFile, frames: list[tuple[int, Row]]
) -> Iterator[tuple[int, Pixels | Undecodable]]:
    path = file.path if isinstance(file, ObjectFile) else file
    remaining = list(frames)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for stored in _stored_values(file, frames):
                number, row = remaining.pop(0)
                yield number, _in_output_units(stored, row)
    except NoDecoder:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything; the reason is recorded
        if isinstance(file, ObjectFile):
            file.require_given()
        reason = one_line(error) or type(error).__name__
        syntax = _syntax_name(frames[0][1]["TransferSyntaxUID"])
        failed = Undecodable(f"{path}: pixels cannot be decoded ({syntax}): {reason}")
        yield from ((number, failed) for number, _ in remaining)


def _stored_values(file: Path | ObjectFile, frames: list[tuple[int, Row]]) -> Iterator[Pixels]:
    syntax = UID(frames[0][1]["TransferSyntaxUID"] or "")
    if syntax and syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise NoDecoder(
            f"{file}: encoded as {_syntax_name(syntax)}, which needs a decoder that is not "
            f"installed: {how_to_install('preview')}"
        )
    indices = [row["frame_index"] or 0 for _, row in frames]
    # pydicom seeks in the file for pixels, which a deflated one does not allow.
    source = io.BufferedReader(file.stream()) if isinstance(file, ObjectFile) else file
    is_deflated = syntax == DeflatedExplicitVRLittleEndian
    yield from iter_pixels(dcmread(source) if is_deflated else source, indices=indices)


def _syntax_name(syntax: str | None) -> str:
    return f"{UID(syntax).name}, {syntax}" if syntax else "without a transfer syntax"


def _in_output_units(stored: Pixels, row: Row) -> Pixels:
    if stored.ndim == 3:
        deep = stored.dtype.itemsize > 1
        return (stored >> max((row["BitsStored"] or 16) - 8, 0) if deep else stored).astype(
            np.uint8
        )
    slope, intercept = row["RescaleSlope"], row["RescaleIntercept"]
    values = stored.astype(np.float32)
    if slope:
        values *= np.float32(slope)
    if intercept:
        values += np.float32(intercept)
    return values
