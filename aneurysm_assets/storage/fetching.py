"""The files of a directory in a bucket: listed at once, many of them under way, in order.

What the bytes say is not looked at here. What fails here fails the series, and never looks like a
broken file: of an object that was not read nothing is known.
"""

import errno
import io
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TypeVar

from aneurysm_assets.errors import SeriesError, StoreError
from aneurysm_assets.storage.object_path import ObjectPath, Stretches, list_directory
from aneurysm_assets.storage.object_store import Listed, Stat

THREADS = 32
"""Series, or files of several, that are asked for at once where each is one request or a few."""

ALL_THREADS = 192
"""Requests that are under way ahead of the readers of a process, all together: as many as a store
100 ms away takes to keep a processor busy. More of them cost more than they gain: they wait for the
interpreter's lock."""

HEAD = 32 << 10
"""Bytes of the first request: the whole header of nearly all files."""

_LONGEST_STRIDE = 1 << 20
"""Bytes that are asked for beyond what is needed, where a file is read on and on."""

_OF_THE_NAME = {errno.ENOENT, errno.EINVAL}

T = TypeVar("T")
R = TypeVar("R")


def store_error(path: ObjectPath, error: OSError) -> SeriesError:
    """Return what to raise where a store's answer fails a series: a `StoreError` but for names.

    That there is no such object is no fault of the store, which would say the same again.
    """
    kind = SeriesError if error.errno in _OF_THE_NAME else StoreError
    return kind(f"{error.filename or path} cannot be read: {error.strerror or error}")


def list_files(directory: ObjectPath) -> Listed:
    """List the objects directly below a name, and what is a directory there.

    Returns
    -------
    Listed
        Each sorted by name.

    Raises
    ------
    SeriesError
        There is nothing.
    StoreError
        The store does not tell.
    """
    try:
        listed = list_directory(directory)
    except OSError as error:
        raise store_error(directory, error) from error
    return Listed(dict(sorted(listed.files.items())), tuple(sorted(listed.directories)))


class ObjectFile:
    """An object of which the head was fetched, and of which more is fetched as it is asked for.

    Parameters
    ----------
    path : ObjectPath
        Pinned to the version that is meant.
    size : int
        Of the object.
    head : bytes
        How it begins.

    Attributes
    ----------
    path, size, head
        As given.
    failure : StoreError or None
        That some of it was not to be had. A parser may have taken the exception for its own.
    """

    def __init__(self, path: ObjectPath, size: int, head: bytes) -> None:
        self.path = path
        self.size = size
        self.head = head
        self.failure: SeriesError | None = None
        self._start, self._data = 0, head
        self._stride = HEAD

    def __str__(self) -> str:
        return str(self.path)

    def read(self, length: int, start: int) -> bytes:
        """Return bytes, fewer where the file ends: as `os.pread` does.

        Raises
        ------
        SeriesError
            The store does not give them, or not of this version.
        """
        length = min(length, self.size - start)
        if length <= 0:
            return b""
        if start + length <= len(self.head):
            return self.head[start : start + length]
        at = start - self._start
        if at < 0 or at + length > len(self._data):
            self._fetch(length, start)
            at = 0
        return self._data[at : at + length]

    def _fetch(self, length: int, start: int) -> None:
        # What lies close behind is asked for in growing strides, what is jumped to in small ones.
        is_near = abs(start - self._start - len(self._data)) <= self._stride
        self._stride = min(2 * self._stride, _LONGEST_STRIDE) if is_near else HEAD
        wanted = min(max(length, self._stride), self.size - start)
        if self.failure is not None:
            raise self.failure
        try:
            self._data = self.path.read_at(wanted, start)
        except OSError as error:
            self.failure = store_error(self.path, error)
            raise self.failure from error
        self._start = start

    def stream(self) -> io.RawIOBase:
        """Return it as a file that can be sought in."""
        return Stretches(str(self), self.size, self.read)

    def require_given(self) -> None:
        """Make sure that all that was asked for was given.

        Raises
        ------
        SeriesError
            It was not.
        """
        if self.failure is not None:
            raise self.failure


def open_all(
    directory: ObjectPath, files: Mapping[str, Stat], threads: int | None = None
) -> Generator[ObjectFile]:
    """Open objects in their order, the heads of some fetched ahead.

    Parameters
    ----------
    directory : ObjectPath
        They are directly below it.
    files : mapping of str to Stat
        As listed.
    threads : int, optional
        How many requests are under way at most; `ALL_THREADS` where not given: a worker process
        reads one series at a time, and its files are all it has to ask for.

    Yields
    ------
    ObjectFile
        One for each name.

    Raises
    ------
    SeriesError
        A head is not to be had: the object is gone, was replaced, or the store does not answer.
    """
    pinned = [(directory / name).pinned_to(stat) for name, stat in files.items()]
    return in_order(
        partial(open_object, head=HEAD), pinned, ALL_THREADS if threads is None else threads
    )


def open_object(path: ObjectPath, head: int) -> ObjectFile:
    """Open an object, its first bytes fetched.

    Raises
    ------
    SeriesError
        It is not there, is of another version than the pinned one, or the store does not answer.
    """
    try:
        path = path.pinned_to(path.stat())
        size = path.stat().st_size
        # A store refuses to give no bytes.
        data = path.read_at(min(size, head), 0) if size else b""
    except OSError as error:
        raise store_error(path, error) from error
    return ObjectFile(path, size, data)


def in_order(fetch: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R]:
    """Yield what is fetched for each item, in order, while that for the next is under way.

    Whoever may leave early closes it, or what waits is asked for in vain.

    Parameters
    ----------
    fetch : callable
        Run in threads that all readers share, so without `in_order` of its own. What it raises is
        raised in its place in the order, and ends all.
    items : iterable
        Taken as they are needed: no more results wait than there are threads.
    threads : int
        How many at most; with fewer than 2, each is fetched when it is asked for.
    """
    if threads < 2:
        yield from map(fetch, items)
        return
    pool = _pool(os.getpid())
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(fetch, item))
            if len(waiting) >= threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Whoever gives up does not wait for a store that does not answer.
        for future in waiting:
            future.cancel()


@lru_cache(maxsize=1)
def _pool(_process: int) -> ThreadPoolExecutor:
    """Return the threads of this process: those of another do not survive a fork."""
    return ThreadPoolExecutor(ALL_THREADS, thread_name_prefix="requests")
