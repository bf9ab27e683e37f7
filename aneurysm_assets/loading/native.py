"""Pixels that stand in a file as they are: where they begin, and reading them in place.

What cannot be had so is left to pydicom: nothing here guesses.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aneurysm_assets.preview.decoding import Row

_PIXEL_DATA = b"\xe0\x7f\x10\x00"

_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
"""Transfer syntaxes without compression, little endian (PS3.5 A.1, A.2)."""

_KINDS = {0: "u", 1: "i"}


@dataclass(frozen=True)
class NativeFrames:
    """Where the frames of a file are.

    Attributes
    ----------
    offset : int
        Of the first frame.
    shape : tuple of int
        Rows, columns.
    dtype : dtype
        Of a stored value.
    """

    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, descriptor: int, frame: int) -> NDArray[Any]:
        """Return the stored values of a frame, rows x columns.

        Raises
        ------
        EOFError
            The file became shorter.
        """
        values = np.empty(self.shape, self.dtype)
        if (
            os.preadv(descriptor, [values.data], self.offset + frame * values.nbytes)
            < values.nbytes
        ):
            raise EOFError("the file became shorter while it was read")
        return values


def find_frames(descriptor: int, row: Row) -> NativeFrames | None:
    """Find the pixels of an open file, where they are its end, uncompressed, and as long as needed.

    Parameters
    ----------
    descriptor : int
        The open file.
    row : mapping
        The row of `dicom_tags` of one of its images.

    Returns
    -------
    NativeFrames or None
        None where the element (7FE0,0010) does not stand, with just this length, that far from the
        end of the file.
    """
    numbers = [row[name] for name in ("Rows", "Columns", "BitsAllocated", "PixelRepresentation")]
    syntax = row["TransferSyntaxUID"]
    explicit = syntax == _EXPLICIT
    if sys.byteorder != "little" or not (explicit or syntax == _IMPLICIT):
        return None
    if None in numbers or row["SamplesPerPixel"] not in (None, 1) or numbers[2] not in (8, 16, 32):
        return None
    rows, columns, bits, sign = numbers
    length = rows * columns * (bits // 8) * (row["NumberOfFrames"] or 1)
    length += length % 2
    head = 12 if explicit else 8
    start = os.fstat(descriptor).st_size - length - head
    element = os.pread(descriptor, head, start) if start >= 0 else b""
    is_there = element[:4] == _PIXEL_DATA and element[-4:] == length.to_bytes(4, "little")
    if not is_there or (explicit and element[4:8] not in (b"OW\0\0", b"OB\0\0")):
        return None
    return NativeFrames(start + head, (rows, columns), np.dtype(f"<{_KINDS[sign]}{bits // 8}"))
