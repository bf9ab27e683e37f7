"""JPEG 2000 frames, decoded by a library that lets other threads decode meanwhile.

What cannot be had so, or whose codestream says other than the header, is left to pydicom and its
decoders, of which each uses one processor at a time: nothing here guesses.
"""

import struct
from collections.abc import Sequence
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


def read_frames(path: Path, rows: Sequence[Row]) -> list[NDArray[Any]] | None:
    """Decode frames of one file.

    Parameters
    ----------
    path : Path
        The file.
    rows : sequence of Row
        The rows of the wanted frames.

    Returns
    -------
    list of ndarray or None
        Stored values, rows x columns each. None where they are not grey JPEG 2000 of just the
        matrix, bits and sign of the header, `imagecodecs` is not installed, or it fails.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    first = rows[0]
    if first["TransferSyntaxUID"] not in _SYNTAXES or first["SamplesPerPixel"] != 1:
        return None
    if find_spec("imagecodecs") is None:
        return None
    # Both take longer to import than a series without compression to load.
    from imagecodecs import Jpeg2kError, jpeg2k_decode  # noqa: PLC0415

    codestreams = _codestreams(path, rows)
    if not all(_is_as_declared(each, first) for each in codestreams):
        return None
    try:
        return [jpeg2k_decode(each) for each in codestreams]
    except Jpeg2kError:
        return None  # another decoder may do better, or says what is wrong


def _codestreams(path: Path, rows: Sequence[Row]) -> list[bytes]:
    """Return the bytes of frames; empty bytes of those that are not to be found."""
    from pydicom import dcmread  # noqa: PLC0415
    from pydicom.encaps import get_frame  # noqa: PLC0415

    with path.open("rb") as source:
        dcmread(source, force=True, stop_before_pixels=True, specific_tags=[])
        if source.read(12) not in _PIXEL_DATA:
            return [b""]
        number = rows[0]["NumberOfFrames"] or 1
        try:
            return [
                get_frame(source, row["frame_index"] or 0, number_of_frames=number) for row in rows
            ]
        except (ValueError, EOFError, struct.error):  # of fragments that are not whole
            return [b""]


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
