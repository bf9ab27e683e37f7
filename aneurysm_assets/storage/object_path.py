"""Places by URL: names in an object store, with those methods of `pathlib.Path` that we use.

How a store is asked belongs to `object_store`, where our files are within the roots to `settings`,
what is written and read to whoever does.
"""

import errno
import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Literal, Self
from urllib.parse import quote

from aneurysm_assets.storage import object_store
from aneurysm_assets.storage.object_store import Listed, Stat

_LOG = logging.getLogger(__name__)

SCHEMES = ("s3", "gs", "az")
"""Amazon's S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""

_BUFFER = 64 << 10
"""Bytes of one request where a file is read on as a stream."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, order=True)
class ObjectPath:
    """A name in a bucket: of an object, or of what names begin with, a directory.

    There are no empty directories, and none has to be made.

    Parameters
    ----------
    bucket : str
        As a URL: `s3://bucket`.
    key : str
        Without a slash at either end; empty for the bucket itself.
    pinned : Stat, optional
        The version that is meant, as a listing said it; nothing of another one is ever read. Two
        names are equal whatever is pinned.
    """

    bucket: str
    key: str = ""
    pinned: Stat | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the name that a URL says.

        Parameters
        ----------
        url : str
            Such as `s3://bucket/some/where`.

        Raises
        ------
        ValueError
            It is none of `SCHEMES`, has no bucket, parts that are no names, or more than a name:
            credentials, a port, a query. The text says nothing of the URL, as they may be secret.
        """
        scheme, separator, rest = url.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme not in SCHEMES or not separator or not bucket:
            raise ValueError(
                f"this is no URL of a bucket such as {SCHEMES[0]}://bucket/some/where "
                f"(what is spoken: {', '.join(SCHEMES)})"
            )
        if not _BUCKET.fullmatch(bucket) or not key.isprintable() or {"?", "#"} & set(key):
            raise ValueError(
                "the URL of a bucket is a name alone: credentials, endpoint and all else are given "
                "by environment variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …)"
            )
        root = cls(f"{scheme}://{bucket}")
        return root / key.strip("/") if key.strip("/") else root

    def __truediv__(self, name: str) -> Self:
        """Return the name below this one.

        Raises
        ------
        ValueError
            A part of it is empty, `.` or `..`.
        """
        if any(part in {"", ".", ".."} for part in name.split("/")):
            raise ValueError(f"{name!r} is no name in a bucket: each part must be a name")
        return type(self)(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """What begins with the last dot of the name."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Self:
        """The name above."""
        return type(self)(self.bucket, self.key.rpartition("/")[0])

    def as_uri(self) -> str:
        """Return it with everything encoded that has a meaning of its own in a URL."""
        return f"{self.bucket}/{quote(self.key)}" if self.key else self.bucket

    def relative_to(self, other: "Location") -> PurePosixPath:
        """Return what follows another name.

        Raises
        ------
        ValueError
            This is not below it.
        """
        above = f"{other}/"
        if not str(self).startswith(above):
            raise ValueError(f"{self} is not below {other}")
        return PurePosixPath(str(self).removeprefix(above))

    def pinned_to(self, stat: Stat) -> Self:
        """Return this name for one version of its object alone."""
        return replace(self, pinned=stat)

    def stat(self) -> Stat:
        """Ask for size and version, unless they are pinned.

        Raises
        ------
        OSError
            There is no such object, or the store does not tell.
        """
        if self.pinned is not None:
            return self.pinned
        return object_store.head(self.bucket, self.key)

    def is_file(self) -> bool:
        """Tell whether there is such an object.

        Raises
        ------
        OSError
            The store does not tell.
        """
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    exists = is_file

    def is_dir(self) -> bool:
        """Tell whether any name begins with this one and a slash.

        Raises
        ------
        OSError
            The store does not tell.
        """
        try:
            list_directory(self)
        except FileNotFoundError:
            return False
        return True

    def read_bytes(self) -> bytes:
        """Return all of an object.

        Raises
        ------
        OSError
            There is none, it cannot be read, or it is of another version than the pinned one.
        """
        return object_store.read(self.bucket, self.key, self.pinned)

    def read_range(self, start: int, length: int) -> bytes:
        """Return bytes of an object by one request.

        Parameters
        ----------
        start, length : int
            Which; fewer where the object ends before.

        Raises
        ------
        OSError
            There is no such object or it ends before all of these, it cannot be read, or it is
            of another version than the pinned one.
        """
        span = (start, start + length)
        return object_store.read(self.bucket, self.key, self.pinned, span)

    def open(self, mode: Literal["rb"] = "rb", buffering: int = _BUFFER) -> BinaryIO:
        """Open an object to read stretches of it as they are asked for, all of one version.

        Raises
        ------
        OSError
            There is none, or the store does not tell.
        """
        if mode != "rb":
            raise ValueError(f"objects are opened to be read as bytes, not {mode!r}")
        stat = self.stat()
        read = self.pinned_to(stat).read_at
        return io.BufferedReader(Stretches(str(self), stat.st_size, read), buffering)

    def read_at(self, length: int, start: int) -> bytes:
        """Return bytes that are known to be there, as `os.pread` does.

        Raises
        ------
        OSError
            As from `read_range`; or there are fewer.
        """
        data = self.read_range(start, length)
        if len(data) != length:
            reason = f"the store gave {len(data)} bytes where {length} were asked for"
            raise OSError(errno.EIO, reason, str(self))
        return data

    def write_bytes(self, content: bytes) -> int:
        """Put an object in place of any that is there, whole or not at all.

        Raises
        ------
        OSError
            It cannot be put there. What is there is untouched.
        """
        self.put(content)
        return len(content)

    def upload(self, file: Path) -> None:
        """Put a file's content, as `write_bytes` does, by parts where it is large.

        Raises
        ------
        OSError
            It cannot be read or put there. What is there is untouched.
        """
        with file.open("rb") as opened:
            self.put(opened)

    def download(self, file: IO[bytes]) -> None:
        """Write all of an object to a file, by one request, so all of one version.

        Raises
        ------
        OSError
            There is no such object, it cannot be read or the file not written.
        """
        object_store.download(self.bucket, self.key, file, self.pinned)

    def put(self, content: bytes | IO[bytes]) -> None:
        """Put bytes, or an open file from where it stands, as `write_bytes` does.

        Raises
        ------
        OSError
            It cannot be read or put there. What is there is untouched.
        """
        object_store.put(self.bucket, self.key, content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove an object.

        Raises
        ------
        OSError
            There is none and that is not `missing_ok`, or it cannot be removed.
        """
        if not missing_ok:
            self.stat()  # stores remove what is not there without a word
        object_store.delete(self.bucket, self.key)


Location = Path | ObjectPath
"""Where a file or a directory is."""


def relative_name(path: Location, root: Location) -> str:
    """Return what follows the root in a place below it, with slashes.

    Raises
    ------
    ValueError
        It is not below the root.
    """
    if isinstance(path, ObjectPath):
        return path.relative_to(root).as_posix()
    return path.relative_to(str(root)).as_posix()


def list_directory(directory: ObjectPath) -> Listed:
    """List what is directly below a name: files and directories.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    OSError
        The store does not tell.
    """
    return object_store.list_one_level(directory.bucket, directory.key)


def list_below(directory: ObjectPath) -> dict[str, Stat]:
    """List all that is below a name at whatever depth, by what follows the name.

    Where a name in it cannot be asked for, only what begins with a digit, and the log names that.

    Raises
    ------
    OSError
        The store does not tell.
    """
    try:
        return object_store.list_all_levels(directory.bucket, directory.key)
    except OSError as error:
        if not object_store.is_bad_name(error):
            raise
        _LOG.warning("%s: passed over: %s", directory, error.strerror)
        return object_store.list_all_levels(directory.bucket, directory.key, digits_alone=True)


class Stretches(io.RawIOBase, IO[bytes]):
    """A file of which only the stretches are read that are asked for.

    Parameters
    ----------
    name : str
        What it is called in messages; pydicom asks for it.
    size : int
        Of the file.
    read : callable
        Given how many bytes and from where, returns them; what is asked for is always there.
    """

    def __init__(self, name: str, size: int, read: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._name = name
        self._size = size
        self._read = read
        self._at = 0

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def seekable(self) -> bool:
        """Tell that it is."""
        return True

    def tell(self) -> int:
        """Return where the next stretch begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go elsewhere, also behind the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "a position before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # type: ignore[override]
        """Read as much as is there and fits."""
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        buffer[:length] = self._read(length, self._at)
        self._at += length
        return length
