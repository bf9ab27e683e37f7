"""Files as large as real ones: a header, and pixels of 512 x 512 that take no room on disk."""

import os
import struct
from pathlib import Path

SIDE = 512

_ROWS, _COLUMNS = b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"
_PIXELS = b"\xe0\x7f\x10\x00OW\x00\x00"


def enlarge(path: Path, *, sparse: bool) -> None:
    """Give a file of the load sample a matrix of 512 x 512.

    Parameters
    ----------
    path : Path
        Explicit VR Little Endian, 16 bits per sample.
    sparse : bool
        Whether the pixels are a hole that reads as zeros, or noise that is really on disk.
    """
    data = bytearray(path.read_bytes())
    for element in (_ROWS, _COLUMNS):
        start = data.rindex(element) + len(element)
        data[start : start + 2] = struct.pack("<H", SIDE)
    start = data.rindex(_PIXELS) + len(_PIXELS)
    length = SIDE * SIDE * 2
    data[start : start + 4] = struct.pack("<I", length)
    content = bytes(data[: start + 4])
    path.write_bytes(content if sparse else content + os.urandom(length))
    os.truncate(path, start + 4 + length)


def drop_pages(paths: list[Path]) -> None:
    """Let the system forget what it has of some files in memory.

    Raises
    ------
    OSError
        It cannot be asked to.
    """
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
