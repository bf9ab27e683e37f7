"""What is asked of a bucket, by obstore: objects by bucket and key.

Everything that asks a store goes through here, and what it answers is raised as a file system
would raise it. Names with the methods of a path are `object_path`'s; how long a store is waited for
belongs to `circuit_breaker`. Objects are never changed in place: a name has the whole of the old
content or the whole of the new one.
"""

import errno
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import IO, TYPE_CHECKING

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from aneurysm_assets.storage.circuit_breaker import circuit_breaker_of

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta  # types only, not there at run time

VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")
"""How the environment variables begin by which a store is opened."""

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


def head(bucket: str, key: str) -> Stat:
    """Ask for size and version of an object.

    Raises
    ------
    OSError
        There is no such object, or the store does not tell.
    """
    with request(bucket, key) as store:
        return _stat_of(obstore.head(store, key))


def read(
    bucket: str, key: str, pinned: Stat | None = None, span: tuple[int, int] | None = None
) -> bytes:
    """Return the bytes of an object by one request.

    Parameters
    ----------
    bucket : str
        As a URL: `s3://bucket`.
    key : str
        Of the object.
    pinned : Stat, optional
        The version that is meant.
    span : tuple of int, optional
        The first byte and the one behind the last; fewer are returned where the object ends before.

    Raises
    ------
    OSError
        There is no such object or it ends before the first byte, it cannot be read, or it is of
        another version than the pinned one.
    """
    with request(bucket, key) as store:
        return bytes(_get(store, bucket, key, pinned, span).bytes())


def download(bucket: str, key: str, file: IO[bytes], pinned: Stat | None = None) -> None:
    """Write all of an object to a file, by one request, so all of one version.

    Raises
    ------
    OSError
        There is no such object, it cannot be read or the file not written.
    """
    with request(bucket, key) as store:
        for part in _get(store, bucket, key, pinned).stream():
            file.write(part)


def put(bucket: str, key: str, content: bytes | IO[bytes]) -> None:
    """Put bytes, or an open file from where it stands, in place of any object that is there.

    Raises
    ------
    OSError
        It cannot be read or put there. What is there is untouched.
    """
    with request(bucket, key) as store:
        obstore.put(store, key, content)


def delete(bucket: str, key: str) -> None:
    """Remove an object; one that is not there is removed without a word.

    Raises
    ------
    OSError
        It cannot be removed.
    """
    with request(bucket, key) as store:
        obstore.delete(store, key)


def list_one_level(bucket: str, key: str) -> Listed:
    """List what is directly below a name, by one request per thousand objects.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    OSError
        The store does not tell.
    """
    with request(bucket, key) as store:
        found = obstore.list_with_delimiter(store, key or None)
    above = f"{key}/" if key else ""
    files = _below(above, found["objects"])
    directories = tuple(path.removeprefix(above) for path in found["common_prefixes"])
    if not files and not directories:
        raise FileNotFoundError(errno.ENOENT, "there is nothing", _url(bucket, key))
    return Listed(files, directories)


def list_all_levels(bucket: str, key: str, *, digits_alone: bool = False) -> dict[str, Stat]:
    """List all that is below a name at whatever depth, by one request per thousand objects.

    Parameters
    ----------
    bucket : str
        As a URL: `s3://bucket`.
    key : str
        The name, not empty.
    digits_alone : bool
        List only from the names on that begin with a digit, as a SeriesInstanceUID does. Stores
        list in the order of names, so that `..` and empty parts, which cannot be asked for and
        spoil the whole answer, are not in it.

    Returns
    -------
    dict of str to Stat
        By what follows the name; empty where there is nothing.

    Raises
    ------
    OSError
        The store does not tell.
    """
    with request(bucket, key) as store:
        batches = obstore.list(store, key, offset=f"{key}/0" if digits_alone else None)
        return _below(f"{key}/", chain.from_iterable(batches))


def is_bad_name(error: OSError) -> bool:
    """Tell whether a listing failed because of a name in it that cannot be asked for."""
    return error.errno == errno.EINVAL and _BAD_NAME in str(error.strerror)


def bad_name(error: OSError, key: str) -> str:
    """Return that name as far as it is directly below another one, or what the store said of it."""
    told = str(error.strerror)
    found = re.search(rf'"{re.escape(key)}/([^"/]*)', told)
    return found[1] if found else told


def _below(above: str, found: "Iterable[ObjectMeta]") -> dict[str, Stat]:
    # An object with the directory's own name is how some tools mark that there is one.
    return {
        meta["path"].removeprefix(above): _stat_of(meta)
        for meta in found
        if meta["path"].startswith(above)
    }


def _get(
    store: "Store",
    bucket: str,
    key: str,
    pinned: Stat | None,
    span: tuple[int, int] | None = None,
) -> "GetResult":
    options: GetOptions = {}
    if span is not None:
        options["range"] = span
    if pinned is not None and pinned.e_tag is not None:
        options["if_match"] = pinned.e_tag
    answer = obstore.get(store, key, options=options)
    # Not every store that speaks like S3 heeds If-Match, and some give no ETag.
    if pinned is not None and not pinned.is_same(_stat_of(answer.meta)):
        raise OSError(errno.ESTALE, _CHANGED, _url(bucket, key))
    return answer


def _stat_of(meta: "ObjectMeta") -> Stat:
    modified, e_tag = meta["last_modified"], meta["e_tag"]
    return Stat(meta["size"], modified, e_tag or modified.isoformat(), e_tag)


Store = S3Store | GCSStore | AzureStore


def store_of(bucket: str) -> Store:
    """Return the store of a bucket, opened once for each way of waiting for it.

    Its credentials, its endpoint and all else come from the environment, by the names that each
    provider's own tools use (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …), which polars knows too.
    """
    # Asked before each request, and each value of `os.environ` costs a microsecond.
    given = sorted((name, os.environ[name]) for name in os.environ if name.startswith(VARIABLES))
    # Connections do not survive a fork.
    return _opened(bucket, tuple(given), os.getpid(), circuit_breaker_of(bucket).is_open)


@lru_cache(maxsize=16)
def _opened(
    bucket: str, environment: tuple[tuple[str, str], ...], _process: int, _open: bool
) -> Store:
    scheme, _, name = bucket.partition("://")
    retries = circuit_breaker_of(bucket).retries()
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
def request(bucket: str, key: str) -> Iterator[Store]:
    """Give the store to ask about a name, and raise what it answers as a file system would.

    A store that was waited for in vain is not waited for again until it has answered.

    Raises
    ------
    OSError
        As the store answered; or it has not answered and it is too early to ask it again.
    """
    breaker = circuit_breaker_of(bucket)
    refusal = breaker.refusal()
    if refusal is not None:
        raise OSError(errno.EIO, refusal, _url(bucket, key))
    began = time.monotonic()
    try:
        with _as_os_error(bucket, key):
            yield store_of(bucket)
    except OSError as error:
        # Of a file of this machine that cannot be read or written, the store knows nothing.
        if isinstance(error.__cause__, exceptions.BaseError | FileNotFoundError):
            if error.errno == errno.EIO:
                breaker.record_failure(str(error.strerror), time.monotonic() - began)
            else:
                breaker.record_answer()
        raise
    breaker.record_answer()


@contextmanager
def _as_os_error(bucket: str, key: str) -> Iterator[None]:
    """Raise what a store answers as the `OSError` that a file system would."""
    name = _url(bucket, key)
    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError) as error:
        if _NO_BUCKET in str(error):
            raise _no_bucket(bucket) from error
        raise FileNotFoundError(errno.ENOENT, "no such object", name) from error
    except exceptions.PreconditionError as error:
        raise OSError(errno.ESTALE, _CHANGED, name) from error
    except ValueError as error:
        # Empty parts, control characters: obstore takes no such name, whoever gave it.
        raise OSError(errno.EINVAL, f"no name that can be asked for: {error}", name) from error
    except exceptions.BaseError as error:
        raise _refusal(bucket, key, error) from error


def _refusal(bucket: str, key: str, error: exceptions.BaseError) -> OSError:
    name = _url(bucket, key)
    told = str(error).partition("\n")[0]
    if METADATA_SERVICE[0] in told or _HALF_CREDENTIALS.search(told):
        return PermissionError(errno.EACCES, _NO_CREDENTIALS, name)
    if _BAD_NAME in told:
        reason = f"a name in it cannot be asked for, rename it: {told[:300]!r}"
        return OSError(errno.EINVAL, reason, name)
    status = _STATUS.search(told)
    refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    # To a request for a list, obstore says only in words what the store answered.
    if isinstance(error, refused) or (status and status[1] in {"401", "403"}):
        reason = "the store refuses access: are the credentials right?"
        return PermissionError(errno.EACCES, reason, name)
    if status and status[1] == "404":
        return _no_bucket(bucket)
    reason = f"the store does not answer as it should: {_SECRET.sub('', told)[:300]}"
    return OSError(errno.EIO, reason, name)


def _no_bucket(bucket: str) -> OSError:
    # No FileNotFoundError: that would be the answer of an empty bucket, and all its files gone.
    return OSError(NO_SUCH_BUCKET, "there is no such bucket", bucket)


def _url(bucket: str, key: str) -> str:
    return f"{bucket}/{key}" if key else bucket
