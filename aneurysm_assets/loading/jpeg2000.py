"""JPEG 2000 frames, decoded by a library that lets other threads decode meanwhile.

What cannot be had so, or whose codestream says other than the header, is left to pydicom and its
decoders, of which each uses one processor at a time: nothing here guesses.
"""

import struct
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from aneurysm_assets.preview.decoding import Row

_SYNTAXES = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
"""JPEG 2000, lossless alone and either (PS3.5 A.4.4)."""

_PIXEL_DATA = {b"\xe0\x7f\x10\x00%b\0\0\xff\xff\xff\xff" % vr for vr in (b"OB", b"OW")}
"""Encapsulated: of undefined length (PS3.5 A.4); OW is wrong, and frequent."""

_START = b"\xff\x4f\xff\x51"
"""The markers SOC and SIZ, with which a codestream begins (ISO/IEC 15444-1 A.4, A.5)."""

_SIGNED = 0x80


def read_frames(path: Path, rows: Sequence[Row]) -> Iterator[NDArray[Any]]:
    """Decode frames of one file, one in memory at a time.

    Parameters
    ----------
    path : Path
        The file.
    rows : sequence of Row
        The rows of the wanted frames.

    Yields
    ------
    ndarray
        Stored values, rows x columns, up to the first frame that is not grey JPEG 2000 of just the
        matrix, bits and sign of the header, or that fails; none without `imagecodecs`.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    first = rows[0]
    if first["TransferSyntaxUID"] not in _SYNTAXES or first["SamplesPerPixel"] != 1:
        return
    if find_spec("imagecodecs") is None:
        return
    # Both take longer to import than a series without compression to load.
    from imagecodecs import Jpeg2kError, jpeg2k_decode  # noqa: PLC0415

    for codestream in _codestreams(path, rows):
        if not _is_as_declared(codestream, first):
            return
        try:
            stored = jpeg2k_decode(codestream)
        except Jpeg2kError:
            return  # another decoder may do better, or says what is wrong
        yield stored


def _codestreams(path: Path, rows: Sequence[Row]) -> Iterator[bytes]:
    """Yield the bytes of frames, up to the first that is not to be found."""
    from pydicom import dcmread  # noqa: PLC0415
    from pydicom.encaps import get_frame  # noqa: PLC0415

    with path.open("rb") as source:
        dcmread(source, force=True, stop_before_pixels=True, specific_tags=[])
        if source.read(12) not in _PIXEL_DATA:
            return
        number = rows[0]["NumberOfFrames"] or 1
        for row in rows:
            try:
                frame = get_frame(source, row["frame_index"] or 0, number_of_frames=number)
            except (ValueError, EOFError, struct.error):  # of fragments that are not whole
                return
            yield frame


def _is_as_declared(codestream: bytes, row: Row) -> bool:
    """Tell whether matrix, bits and sign of a codestream are those of the header."""
    if not codestream.startswith(_START) or len(codestream) < 43:
        return False
    # SIZ: length, capabilities, then the far corner and the near one; 24 bytes on, of the first
    # component, sign and bits less 1.
    right, bottom, left, top = struct.unpack_from(">4I", codestream, 8)
    precision = codestream[42]
    return (
        (bottom - top, right - left) == (row["Rows"], row["Columns"])
        and (precision & ~_SIGNED) + 1 == row["BitsStored"]
        and bool(precision & _SIGNED) == (row["PixelRepresentation"] == 1)
    )
