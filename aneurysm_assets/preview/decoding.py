"""Pixels of DICOM images: only those that are asked for, a file or a frame at a time."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from aneurysm_assets.extraction.errors import SeriesError
from aneurysm_assets.preview.plane import Pixels

EXTRA = "pip install -e '.[preview]'"
"""What installs the decoders and Pillow, in a clone of the project."""

Row = Mapping[str, Any]
"""A row of `dicom_tags` by column."""


class Undecodable(SeriesError):  # noqa: N818 - as `UnreadableFile`
    """The pixels of one file cannot be had; the text says of which, and why."""


class NoDecoder(SeriesError):  # noqa: N818
    """Pixels are encoded in a way that nothing installed decodes."""


def decode(
    raw: Path, rows: Iterable[tuple[int, Row]]
) -> Iterator[tuple[int, Pixels | Undecodable]]:
    """Decode images in the order of their files, one in memory at a time.

    Parameters
    ----------
    raw : Path
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
    """

    def of_file(row: tuple[int, Row]) -> str:
        return str(row[1]["dicom_path"])

    for path, group in groupby(sorted(rows, key=of_file), key=of_file):
        frames = sorted(group, key=lambda row: row[1]["frame_index"] or 0)
        yield from _decode_file(raw / path, frames)


def _decode_file(
    path: Path, frames: list[tuple[int, Row]]
) -> Iterator[tuple[int, Pixels | Undecodable]]:
    left = list(frames)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for stored in _stored_values(path, frames):
                number, row = left.pop(0)
                yield number, _in_output_units(stored, row)
    except NoDecoder:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything; the reason is recorded
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        syntax = _syntax_name(frames[0][1]["TransferSyntaxUID"])
        failed = Undecodable(f"{path}: pixels cannot be decoded ({syntax}): {reason}")
        yield from ((number, failed) for number, _ in left)


def _stored_values(path: Path, frames: list[tuple[int, Row]]) -> Iterator[Pixels]:
    syntax = UID(frames[0][1]["TransferSyntaxUID"] or "")
    if syntax and syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise NoDecoder(
            f"{path}: encoded as {_syntax_name(syntax)}, which needs a decoder that is not "
            f"installed: {EXTRA}"
        )
    indices = [row["frame_index"] or 0 for _, row in frames]
    # pydicom seeks in the file for pixels, which a deflated one does not allow.
    source = dcmread(path) if syntax == DeflatedExplicitVRLittleEndian else path
    yield from iter_pixels(source, indices=indices)


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
