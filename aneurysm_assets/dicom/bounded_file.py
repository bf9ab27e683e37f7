"""A DICOM file as pydicom is given it: its reads are bounded, some stretches of it are not there.

What is read from it belongs to `pydicom_header`.
"""

import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from aneurysm_assets.dicom.top_level import Range, kept
from aneurysm_assets.errors import UnreadableFile
from aneurysm_assets.limits import MAX_HEADER_BYTES, MAX_INFLATED_BYTES, MAX_ITEMS
from aneurysm_assets.storage.fetching import ObjectFile
from aneurysm_assets.storage.object_path import Stretches

_LONGEST_READ = 64 << 20
"""Bytes of the longest value that is read; pydicom reads a deflated data set as one value."""

_INFLATED_AT_ONCE = 16 << 20

_MOST_READS = 300_000
"""Reads of one header: a few per element, items of sequences of undefined length included."""

_BEGINS_OF_ITEM = (bytes.fromhex("FEFF00E0"), bytes.fromhex("FFFEE000"))


class BoundedFile(io.BufferedReader):
    """A file that remembers whether a read returned fewer bytes than asked for.

    Reads are bounded: a damaged length must take neither all memory nor all time.

    Parameters
    ----------
    path : Path, str or ObjectFile
        The file.
    hidden : sequence of Range
        Stretches of it that are not there for who reads.

    Attributes
    ----------
    cut : bool
        Whether a read returned fewer bytes than asked for.
    size : int
        Bytes, without what is hidden.
    """

    def __init__(self, path: Path | str | ObjectFile, hidden: Sequence[Range] = ()) -> None:
        raw = path.stream() if isinstance(path, ObjectFile) else io.FileIO(path)
        size = path.size if isinstance(path, ObjectFile) else os.fstat(raw.fileno()).st_size
        if hidden:
            raw, size = _without(raw, size, hidden)
        super().__init__(raw)
        self.cut = False
        self._reads = self._bytes = 0
        self.size = size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to so many bytes, or to the end.

        Raises
        ------
        UnreadableFile
            More is asked for, more often, than a header can have.
        """
        self._reads += 1
        wanted = self.size if size is None or size < 0 else min(size, self.size)
        if wanted > _LONGEST_READ:
            raise UnreadableFile(
                f"has a header that cannot be: one of its values has {wanted} bytes"
            )
        if self._reads > _MOST_READS:
            raise UnreadableFile(
                f"has a header that cannot be: it has more than {_MOST_READS // 3} elements"
            )
        if self._bytes > MAX_HEADER_BYTES:
            raise UnreadableFile(
                f"has a header that cannot be: it has more than {MAX_HEADER_BYTES >> 20} MB"
            )
        data = super().read(size)
        self._bytes += len(data)
        if size is None or size < 0:
            # pydicom reads to the end only to inflate what it read.
            _require_little_inflated(data)
        elif 0 < len(data) < size:
            self.cut = True
        return data


def _require_little_inflated(deflated: bytes) -> None:
    """Refuse a deflated data set of a few bytes that would take all memory."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = items = 0
    try:
        while deflated:
            part = inflate.decompress(deflated, _INFLATED_AT_ONCE)
            inflated += len(part)
            items += items_in(part)
            if inflated > MAX_INFLATED_BYTES:
                raise UnreadableFile(
                    f"has a deflated data set of more than {MAX_INFLATED_BYTES >> 20} MB"
                )
            require_few_items(items)
            deflated = inflate.unconsumed_tail
    except zlib.error:
        return  # pydicom meets the same error and reports it


def items_in(data: bytes) -> int:
    """Return how many items of sequences the bytes have at most, in either byte order."""
    return max(data.count(tag) for tag in _BEGINS_OF_ITEM)


def require_few_items(items: int) -> None:
    """Refuse a header of more items than an image has.

    Raises
    ------
    UnreadableFile
        There are more than `MAX_ITEMS`.
    """
    if items > MAX_ITEMS:
        raise UnreadableFile(
            f"has a header that cannot be: its sequences have more than {MAX_ITEMS} items"
        )


def _without(raw: io.RawIOBase, size: int, hidden: Sequence[Range]) -> tuple[io.RawIOBase, int]:
    """Return a file without some of its stretches, and its size."""
    stretches = kept(size, hidden)

    def read(length: int, start: int) -> bytes:
        parts, virtual = [], 0
        for begin, end in stretches:
            first = max(begin + start - virtual, begin)
            last = min(begin + start + length - virtual, end)
            if first < last:
                raw.seek(first)
                parts.append(raw.read(last - first) or b"")
            virtual += end - begin
        return b"".join(parts)

    remaining = sum(end - start for start, end in stretches)
    return Stretches(str(getattr(raw, "name", "")), remaining, read), remaining
