"""A gzip file read from start to end, with what `gzip` itself lets pass behind its streams.

The standard library's reader refuses a file for any byte behind the last stream that is not zero.
"""

import zlib
from typing import IO

_CHUNK = 64 << 10  # bytes of the compressed file that are read at once
_MAGIC = b"\x1f\x8b"
_WITH_GZIP_HEADER = 31  # zlib's wbits: header, trailer and checksum are those of RFC 1952
_TRUNCATED = "the file ended before the end of its gzip stream"
_SKIPPED = 1 << 20  # bytes inflated at once on the way to a later place


class GzipStream:
    """The inflated bytes of one or more gzip streams, one behind the other.

    Zeros and whatever else is no gzip stream are passed over behind the first one.

    Parameters
    ----------
    file : binary file
        Read from where it stands, and never sought.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._pending = b""  # of the compressed file, read and not inflated
        self._inflater = zlib.decompressobj(_WITH_GZIP_HEADER)
        self._at = 0
        self._ended = False
        self._is_first = True
        self._in_stream = False

    def read(self, size: int) -> bytes:
        """Return that many bytes, fewer only at the end.

        Raises
        ------
        OSError
            The file cannot be read.
        EOFError
            It ends within a stream.
        ValueError
            It does not begin as a gzip stream does, a stream is damaged, or its checksum is not
            that of its bytes.
        """
        parts: list[bytes] = []
        left = size
        while left and not self._ended:
            part = self._inflate(left) if self._in_stream or self._next_stream() else b""
            parts.append(part)
            left -= len(part)
        inflated = b"".join(parts)
        self._at += len(inflated)
        return inflated

    def seek(self, offset: int) -> None:
        """Go on to a place of the inflated bytes; the end is as far as it goes.

        Raises
        ------
        ValueError
            The place is behind us.
        OSError, EOFError
            As from `read`.
        """
        if offset < self._at:
            raise ValueError("a gzip stream is read from start to end")
        while self._at < offset and self.read(min(_SKIPPED, offset - self._at)):
            pass

    def _inflate(self, most: int) -> bytes:
        """Return up to so many bytes of the stream that is being read; none as it ends."""
        if not self._pending:
            self._pending = self._file.read(_CHUNK)
        at_end = not self._pending
        try:
            inflated = self._inflater.decompress(self._pending, most)
        except zlib.error as error:
            raise ValueError(f"its gzip stream is damaged: {error}") from error
        if self._inflater.eof:
            self._pending = self._inflater.unused_data
            self._in_stream = False
        else:
            self._pending = self._inflater.unconsumed_tail
            if at_end and not inflated:
                raise EOFError(_TRUNCATED)
        return inflated

    def _next_stream(self) -> bool:
        """Begin the next stream, if there is one; what is no stream ends the file."""
        if not self._is_first:
            self._skip_zeros()
        while len(self._pending) < len(_MAGIC) and (more := self._file.read(_CHUNK)):
            self._pending += more
        if not self._pending.startswith(_MAGIC):
            if self._is_first:
                raise ValueError("it does not begin as a gzip stream does")
            if self._pending and _MAGIC.startswith(self._pending):
                raise EOFError(_TRUNCATED)
            self._ended = True
            return False
        self._inflater = zlib.decompressobj(_WITH_GZIP_HEADER)
        self._is_first, self._in_stream = False, True
        return True

    def _skip_zeros(self) -> None:
        self._pending = self._pending.lstrip(b"\0")
        while not self._pending and (more := self._file.read(_CHUNK)):
            self._pending = more.lstrip(b"\0")
