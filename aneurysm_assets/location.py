"""Places by URL: names in an object store, with those methods of `pathlib.Path` that we use.

Everything that asks a bucket goes through here, by obstore; where our files are within the roots
belongs to `settings`, what is written and read to whoever does. Objects are never changed in
place: a name has the whole of the old content or the whole of the new one.
"""

import errno
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO, Literal, Self

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta  # types only, not there at run time
    from obstore.store import RetryConfig

SCHEMES = ("s3", "gs", "az")
"""Amazon's S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""

_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")

_BUFFER = 64 << 10
"""Bytes of one request where a file is read on as a stream."""

_STATUS = re.compile(r"status code: (\d{3})")

_NOT_TELLING = re.compile(r"\?\S*")  # what follows a `?` in a URL may be a signature


def _retry() -> "RetryConfig":
    # A store that is down for a while is waited for: the work behind a read is worth more.
    return {
        "max_retries": 60,
        "retry_timeout": timedelta(seconds=120),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }


@dataclass(frozen=True)
class Stat:
    """What a store says of an object without its content.

    Attributes
    ----------
    st_size : int
        Bytes.
    modified : datetime
        When it was put there.
    version : str
        The ETag (RFC 9110 section 8.8.3), which differs where the content does; where the store
        gives none, the time.
    e_tag : str or None
        The ETag alone.
    """

    st_size: int
    modified: datetime
    version: str
    e_tag: str | None


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
    """

    bucket: str
    key: str = ""

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
            It is none of `SCHEMES`, has no bucket, or parts that are no names.
        """
        scheme, separator, rest = url.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme not in SCHEMES or not separator or not bucket:
            raise ValueError(
                f"{url!r} is no URL of a bucket such as {SCHEMES[0]}://bucket/some/where "
                f"(what is spoken: {', '.join(SCHEMES)})"
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

    def stat(self) -> Stat:
        """Ask for size and version.

        Raises
        ------
        OSError
            There is no such object, or the store does not tell.
        """
        with as_os_error(self):
            return stat_of(obstore.head(store_of(self.bucket), self.key))

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
            There is none, or it cannot be read.
        """
        with as_os_error(self):
            return bytes(obstore.get(store_of(self.bucket), self.key).bytes())

    def read_range(self, start: int, length: int, e_tag: str | None = None) -> bytes:
        """Return bytes of an object by one request.

        Parameters
        ----------
        start, length : int
            Which; fewer where the object ends before.
        e_tag : str, optional
            Of which version they must be.

        Raises
        ------
        OSError
            There is no such object or it begins after all of these, it cannot be read, or it is
            of another version by now.
        """
        options: GetOptions = {"range": (start, start + length)}
        if e_tag is not None:
            options["if_match"] = e_tag
        with as_os_error(self):
            return bytes(obstore.get(store_of(self.bucket), self.key, options=options).bytes())

    def open(self, mode: Literal["rb"] = "rb", buffering: int = _BUFFER) -> BinaryIO:
        """Open an object to read stretches of it as they are asked for, all of one version.

        Raises
        ------
        OSError
            There is none, or the store does not tell.
        """
        if mode != "rb":
            raise ValueError(f"objects are opened to be read as bytes, not {mode!r}")
        return io.BufferedReader(_Ranged(self), buffering)

    def write_bytes(self, content: bytes) -> int:
        """Put an object in place of any that is there, whole or not at all.

        Raises
        ------
        OSError
            It cannot be put there. What is there is untouched.
        """
        self._put(content)
        return len(content)

    def upload(self, file: Path) -> None:
        """Put a file's content, as `write_bytes` does, by parts where it is large.

        Raises
        ------
        OSError
            It cannot be read or put there. What is there is untouched.
        """
        with file.open("rb") as opened:
            self._put(opened)

    def _put(self, content: bytes | IO[bytes]) -> None:
        with as_os_error(self):
            obstore.put(store_of(self.bucket), self.key, content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove an object.

        Raises
        ------
        OSError
            There is none and that is not `missing_ok`, or it cannot be removed.
        """
        if not missing_ok:
            self.stat()  # stores remove what is not there without a word
        with as_os_error(self):
            obstore.delete(store_of(self.bucket), self.key)


Location = Path | ObjectPath
"""Where a file or a directory is."""


@dataclass(frozen=True)
class Listed:
    """What a directory holds in a store.

    Attributes
    ----------
    files : mapping of str to Stat
        By name.
    directories : tuple of str
        Names.
    """

    files: Mapping[str, Stat]
    directories: tuple[str, ...]


def list_directory(directory: ObjectPath) -> Listed:
    """List what is directly below a name, by one request for each thousand.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    OSError
        The store does not tell.
    """
    with as_os_error(directory):
        found = obstore.list_with_delimiter(store_of(directory.bucket), directory.key or None)
    above = f"{directory.key}/" if directory.key else ""
    # An object with the directory's own name is how some tools mark that there is one.
    files = {
        meta["path"].removeprefix(above): stat_of(meta)
        for meta in found["objects"]
        if meta["path"].startswith(above)
    }
    below = tuple(path.removeprefix(above) for path in found["common_prefixes"])
    if not files and not below:
        raise FileNotFoundError(errno.ENOENT, "there is nothing", str(directory))
    return Listed(files, below)


def stat_of(meta: "ObjectMeta") -> Stat:
    """Return what a store's answer says of an object."""
    modified, e_tag = meta["last_modified"], meta["e_tag"]
    return Stat(meta["size"], modified, e_tag or modified.isoformat(), e_tag)


def store_of(bucket: str) -> "S3Store | GCSStore | AzureStore":
    """Return the store of a bucket, opened once.

    Its credentials, its endpoint and all else come from the environment, by the names that each
    provider's own tools use (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …), which polars knows too.
    """
    given = sorted(item for item in os.environ.items() if item[0].startswith(_VARIABLES))
    # Connections do not survive a fork.
    return _opened(bucket, tuple(given), os.getpid())


@lru_cache(maxsize=16)
def _opened(
    bucket: str, _environment: tuple[tuple[str, str], ...], _process: int
) -> "S3Store | GCSStore | AzureStore":
    scheme, _, name = bucket.partition("://")
    if scheme == "gs":
        return GCSStore(name, retry_config=_retry())
    if scheme == "az":
        return AzureStore(name, retry_config=_retry())
    return S3Store(name, retry_config=_retry())


@contextmanager
def as_os_error(path: ObjectPath) -> Iterator[None]:
    """Raise what a store answers as the `OSError` that a file system would."""
    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError) as error:
        raise FileNotFoundError(errno.ENOENT, "no such object", str(path)) from error
    except exceptions.PreconditionError as error:
        raise OSError(errno.ESTALE, "it was changed while it was read", str(path)) from error
    except exceptions.BaseError as error:
        raise _refusal(path, error) from error


def _refusal(path: ObjectPath, error: exceptions.BaseError) -> OSError:
    told = str(error).partition("\n")[0]
    status = _STATUS.search(told)
    refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    # To a request for a list, obstore says only in words what the store answered.
    if isinstance(error, refused) or (status and status[1] in {"401", "403"}):
        reason = "the store refuses access: are the credentials right?"
        return PermissionError(errno.EACCES, reason, str(path))
    if status and status[1] == "404":
        return FileNotFoundError(errno.ENOENT, "no such bucket", str(path))
    reason = f"the store does not answer as it should: {_NOT_TELLING.sub('', told)[:300]}"
    return OSError(errno.EIO, reason, str(path))


class _Ranged(io.RawIOBase, IO[bytes]):
    """The stretches of an object that are read."""

    def __init__(self, path: ObjectPath) -> None:
        super().__init__()
        self._path = path
        self._stat = path.stat()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stat.st_size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "a position before the beginning", str(self._path))
        self._at = base + offset
        return self._at

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # type: ignore[override]
        length = min(len(buffer), self._stat.st_size - self._at)
        if length <= 0:
            return 0
        data = self._path.read_range(self._at, length, self._stat.e_tag)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
