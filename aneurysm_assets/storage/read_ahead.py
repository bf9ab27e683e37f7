"""Brings the heads of files into memory before their reader needs them.

What the bytes mean is not its business. Files are opened some ahead of the reader, and the system
is told what will be read of them, so that a disk works on many requests at a time. Where opening
waits too, as on a file server, threads open files ahead; where files are in memory, handing one to
a thread takes longer than reading it.
"""

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import perf_counter, thread_time
from typing import NamedTuple, Self

from aneurysm_assets.storage.threads import start_threads

FIRST_READ = 8 << 10
"""Bytes that hold the whole header of nearly all DICOM files."""

THREADS = 16
"""Threads of one reader that waits: about what a disk or a file server serves in parallel."""

_OPEN_AHEAD = 32
"""Files that are open ahead of their reader: some disks serve as many requests at a time."""

_MUCH = 64 << 10
"""Bytes of a file from which on it pays to ask the system not to read on."""

_LOOK_EVERY = 16
"""Files per look at how long the reader has waited."""

_WAITING = 1e-3
"""Seconds of waiting per file from which on threads gain more than they cost."""


class OpenFile(NamedTuple):
    """An open file; whoever receives it closes it.

    Attributes
    ----------
    path : str
        The path by which it was opened.
    descriptor : int
        The open file's descriptor.
    size : int
        Bytes of the file.
    """

    path: str
    descriptor: int
    size: int


def open_head(path: Path | str) -> OpenFile:
    """Open a file of which only the head, and then a few stretches, will be read.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size > _MUCH and hasattr(os, "posix_fadvise"):
            # Otherwise the system reads on into the pixels, 128 KB of them or more.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    except OSError:
        os.close(descriptor)
        raise
    return OpenFile(str(path), descriptor, size)


def open_ahead(paths: Iterable[str]) -> Generator[OpenFile | str]:
    """Open files some ahead of their reader, and let the system fetch the heads meanwhile.

    Parameters
    ----------
    paths : iterable of str
        Regular files.

    Yields
    ------
    OpenFile or str
        Each in turn. A path where the file cannot be opened: its reader will meet the reason.
    """
    unopened = iter(paths)
    ahead: deque[OpenFile | str] = deque()

    def open_more(most: int) -> None:
        # A file that could not be opened may need the next free descriptor.
        while most and not (ahead and isinstance(ahead[-1], str)):
            path = next(unopened, None)
            if path is None:
                return
            ahead.append(_open_and_fetch(path))
            most -= 1

    open_more(_OPEN_AHEAD)
    try:
        while ahead:
            file = ahead.popleft()
            if ahead:
                open_more(1)
            yield file
            if not ahead:
                open_more(_OPEN_AHEAD)
    finally:
        for file in ahead:
            if isinstance(file, OpenFile):
                os.close(file.descriptor)


def _open_and_fetch(path: str) -> OpenFile | str:
    try:
        file = open_head(path)
    except OSError:
        return path
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # it is only advice
            os.posix_fadvise(file.descriptor, 0, FIRST_READ, os.POSIX_FADV_WILLNEED)
    return file


class ReadAhead:
    """Reads the heads of a series' files ahead of their reader, as a context manager.

    Parameters
    ----------
    paths : sequence of str
        Regular files, in the order in which they will be read.
    threads : int, optional
        How many threads read ahead from the first file on; 0 for none. By default `THREADS`, and
        only once the reader is found to wait.
    """

    def __init__(self, paths: Sequence[str], threads: int | None = None) -> None:
        self._paths = paths
        self._threads = threads
        self._at = 0
        self._next = count()
        self._running: list[threading.Thread] = []
        self._waited = _seconds_without_work()

    def __enter__(self) -> Self:
        """Begin at once where the number of threads was given."""
        if self._threads:
            self._begin(self._threads)
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; nobody needs what they were reading."""
        self._at = len(self._paths)
        for thread in self._running:
            thread.join()

    def file_done(self) -> None:
        """Note that the reader has finished another file; begin threads if it has to wait."""
        self._at += 1
        if self._threads is not None or self._running or self._at % _LOOK_EVERY:
            return
        waited = _seconds_without_work()
        if waited - self._waited > _WAITING * _LOOK_EVERY:
            self._begin(THREADS)
        self._waited = waited

    def _begin(self, threads: int) -> None:
        self._next = count(self._at)
        # Where the system gives no threads the reader goes on alone.
        self._running = start_threads(self._read, min(threads, len(self._paths) - self._at))

    def _read(self) -> None:
        for index in self._next:
            if index >= len(self._paths):
                return
            if index >= self._at:
                _touch(self._paths[index])


def _touch(path: str) -> None:
    try:
        descriptor = open_head(path).descriptor
    except OSError:
        return  # its reader will meet the same error and report it
    try:
        os.pread(descriptor, FIRST_READ, 0)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _seconds_without_work() -> float:
    """Return a clock that stands still while this thread works, and runs while it waits."""
    return perf_counter() - thread_time()
