"""Places by URL: names in an object store, with those methods of `pathlib.Path` that we use.

Everything that asks a bucket goes through here, by obstore; where our files are within the roots
belongs to `settings`, what is written and read to whoever does. Objects are never changed in
place: a name has the whole of the old content or the whole of the new one.
"""

import errno
import io
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO, Literal, Self
from urllib.parse import quote

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from aneurysm_assets.storage.circuit_breaker import patience_with

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta  # types only, not there at run time

SCHEMES = ("s3", "gs", "az")
"""Amazon's S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""

_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")

_BUFFER = 64 << 10
"""Bytes of one request where a file is read on as a stream."""

_CHANGED = "it was changed while it was read"

_BAD_NAME = "object with invalid path"  # how obstore words a listing with a control character

_STATUS = re.compile(r"status code: (\d{3})")

NO_SUCH_BUCKET = errno.ENXIO
"""The `errno` of an error that says so."""

METADATA_SERVICE = ("169.254.169.254", 80)
"""Where a machine of Amazon's is told the credentials of its role."""

_METADATA_SECONDS = 1.0  # it is on the machine's own link

_METADATA_DISABLED = "AWS_EC2_METADATA_DISABLED"  # as Amazon's own tools call it

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
    "AWS_SKIP_SIGNATURE",
)
"""Any of them says by what requests are signed, or that they are not."""

_NO_CREDENTIALS = (
    "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profiles in ~/.aws "
    "are not read), or AWS_SKIP_SIGNATURE=true for a bucket that is open to all"
)

_HALF_CREDENTIALS = re.compile("Missing (AccessKeyId|SecretAccessKey)")  # obstore's own words

_NO_BUCKET = "NoSuchBucket"  # S3's own code in the answer's XML

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# Of a URL: what stands before an `@` may be a password, what follows a `?` a signature.
_SECRET = re.compile(r"(?<=://)[^/@\s]*@|\?\S*")


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

    def is_same(self, other: "Stat") -> bool:
        """Tell whether another answer is of the same version.

        A listing may have the time more precisely than other answers, and the ETag unquoted.
        """
        if self.st_size != other.st_size:
            return False
        if self.e_tag and other.e_tag:
            return self.e_tag.strip('"') == other.e_tag.strip('"')
        return int(self.modified.timestamp()) == int(other.modified.timestamp())


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
        with asked(self) as store:
            return stat_of(obstore.head(store, self.key))

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
        return self._get({})

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
        return self._get({"range": (start, start + length)})

    def _get(self, options: "GetOptions") -> bytes:
        with asked(self) as store:
            return bytes(self._answer(store, options).bytes())

    def _answer(self, store: "Store", options: "GetOptions") -> "GetResult":
        pinned = self.pinned
        if pinned is not None and pinned.e_tag is not None:
            options["if_match"] = pinned.e_tag
        answer = obstore.get(store, self.key, options=options)
        # Not every store that speaks like S3 heeds If-Match, and some give no ETag.
        if pinned is not None and not pinned.is_same(stat_of(answer.meta)):
            raise OSError(errno.ESTALE, _CHANGED, str(self))
        return answer

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
        with asked(self) as store:
            for part in self._answer(store, {}).stream():
                file.write(part)

    def put(self, content: bytes | IO[bytes]) -> None:
        """Put bytes, or an open file from where it stands, as `write_bytes` does.

        Raises
        ------
        OSError
            It cannot be read or put there. What is there is untouched.
        """
        with asked(self) as store:
            obstore.put(store, self.key, content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove an object.

        Raises
        ------
        OSError
            There is none and that is not `missing_ok`, or it cannot be removed.
        """
        if not missing_ok:
            self.stat()  # stores remove what is not there without a word
        with asked(self) as store:
            obstore.delete(store, self.key)


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
    with asked(directory) as store:
        found = obstore.list_with_delimiter(store, directory.key or None)
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


def list_below(directory: ObjectPath) -> dict[str, Stat]:
    """List all that is below a name at whatever depth, by one request for each thousand.

    Returns
    -------
    dict of str to Stat
        By what follows the name; empty where there is nothing.

    Raises
    ------
    OSError
        The store does not tell.
    """
    above = f"{directory.key}/" if directory.key else ""
    with asked(directory) as store:
        found = obstore.list(store, directory.key or None).collect()
    return {
        meta["path"].removeprefix(above): stat_of(meta)
        for meta in found
        if meta["path"].startswith(above)
    }


def stat_of(meta: "ObjectMeta") -> Stat:
    """Return what a store's answer says of an object."""
    modified, e_tag = meta["last_modified"], meta["e_tag"]
    return Stat(meta["size"], modified, e_tag or modified.isoformat(), e_tag)


Store = S3Store | GCSStore | AzureStore


def store_of(bucket: str) -> Store:
    """Return the store of a bucket, opened once for each patience with it.

    Its credentials, its endpoint and all else come from the environment, by the names that each
    provider's own tools use (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …), which polars knows too.
    """
    given = sorted(item for item in os.environ.items() if item[0].startswith(_VARIABLES))
    # Connections do not survive a fork.
    return _opened(bucket, tuple(given), os.getpid(), patience_with(bucket).is_lost)


@lru_cache(maxsize=16)
def _opened(
    bucket: str, environment: tuple[tuple[str, str], ...], _process: int, _impatient: bool
) -> Store:
    scheme, _, name = bucket.partition("://")
    retries = patience_with(bucket).retries()
    if scheme == "gs":
        return GCSStore(name, retry_config=retries)
    if scheme == "az":
        return AzureStore(name, retry_config=retries)
    _require_credentials(bucket, dict(environment))
    return S3Store(name, retry_config=retries)


def _require_credentials(bucket: str, environment: Mapping[str, str]) -> None:
    """Refuse to ask for credentials where nobody has any.

    Without any in the environment, those of the machine are asked of the address by which Amazon
    gives them; elsewhere nobody answers there, and that would be waited for as a store is.
    """
    if any(environment.get(name) for name in _CREDENTIALS):
        return
    if environment.get(_METADATA_DISABLED, "").lower() != "true":
        try:
            socket.create_connection(METADATA_SERVICE, _METADATA_SECONDS).close()
        except OSError:
            pass  # said below
        else:
            return
    raise PermissionError(errno.EACCES, _NO_CREDENTIALS, bucket)


@contextmanager
def asked(path: ObjectPath) -> Iterator[Store]:
    """Give the store to ask about a name, and raise what it answers as a file system would.

    A store that was waited for in vain is not waited for again until it has answered.

    Raises
    ------
    OSError
        As the store answered; or it has not answered and it is too early to ask it again.
    """
    patience = patience_with(path.bucket)
    refusal = patience.refusal()
    if refusal is not None:
        raise OSError(errno.EIO, refusal, str(path))
    began = time.monotonic()
    try:
        with as_os_error(path):
            yield store_of(path.bucket)
    except OSError as error:
        # Of a file of this machine that cannot be read or written, the store knows nothing.
        if isinstance(error.__cause__, exceptions.BaseError | FileNotFoundError):
            if error.errno == errno.EIO:
                patience.failed(str(error.strerror), time.monotonic() - began)
            else:
                patience.answered()
        raise
    patience.answered()


@contextmanager
def as_os_error(path: ObjectPath) -> Iterator[None]:
    """Raise what a store answers as the `OSError` that a file system would."""
    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError) as error:
        if _NO_BUCKET in str(error):
            raise _no_bucket(path) from error
        raise FileNotFoundError(errno.ENOENT, "no such object", str(path)) from error
    except exceptions.PreconditionError as error:
        raise OSError(errno.ESTALE, _CHANGED, str(path)) from error
    except ValueError as error:
        # Empty parts, control characters: obstore takes no such name, whoever gave it.
        raise OSError(errno.EINVAL, f"no name that can be asked for: {error}", str(path)) from error
    except exceptions.BaseError as error:
        raise _refusal(path, error) from error


def _refusal(path: ObjectPath, error: exceptions.BaseError) -> OSError:
    told = str(error).partition("\n")[0]
    if METADATA_SERVICE[0] in told or _HALF_CREDENTIALS.search(told):
        return PermissionError(errno.EACCES, _NO_CREDENTIALS, str(path))
    if _BAD_NAME in told:
        reason = f"a name in it cannot be asked for, rename it: {told[:300]!r}"
        return OSError(errno.EINVAL, reason, str(path))
    status = _STATUS.search(told)
    refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    # To a request for a list, obstore says only in words what the store answered.
    if isinstance(error, refused) or (status and status[1] in {"401", "403"}):
        reason = "the store refuses access: are the credentials right?"
        return PermissionError(errno.EACCES, reason, str(path))
    if status and status[1] == "404":
        return _no_bucket(path)
    reason = f"the store does not answer as it should: {_SECRET.sub('', told)[:300]}"
    return OSError(errno.EIO, reason, str(path))


def _no_bucket(path: ObjectPath) -> OSError:
    # No FileNotFoundError: that would be the answer of an empty bucket, and all its files gone.
    return OSError(NO_SUCH_BUCKET, "there is no such bucket", path.bucket)


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
