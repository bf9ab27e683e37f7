"""The heads of files brought into memory ahead of their reader, for storage that makes it wait.

What the bytes say is not looked at here. Files are opened some ahead, and the system is told what
will be read of them, so that a disk is asked for many at a time. Where opening waits too, as on a
file server, threads begin: where files are in memory, handing one to a thread takes longer than
reading it, so they begin only where reading is found to wait.
"""

import os
import resource
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple, Self

from aneurysm_assets.storage.threads import start_threads

FIRST_READ = 8 << 10
"""Bytes that hold the whole header of nearly all DICOM files."""

THREADS = 16
"""Threads of one reader where it waits: about what a disk or a file server takes in parallel."""

_OPEN_AHEAD = 32
"""Files that are open ahead of their reader: some disks take as many requests at a time."""

_MUCH = 64 << 10
"""Bytes beyond which a file is worth asking the system not to read on."""

_LOOK_EVERY = 16
"""Files after which it is asked whether reading waits."""

_WAITING = 200e-6
"""Seconds of waiting a file from which on threads gain more than they cost."""


class OpenFile(NamedTuple):
    """A file that is open; whoever is given it closes it.

    Attributes
    ----------
    path : str
        As it was opened.
    descriptor : int
        To be closed.
    size : int
        Bytes.
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
            # Else the system reads on into the pixels, 128 KB or more of them.
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
        Each in turn; its path where it cannot be opened, for the reader to meet the reason.
    """
    left = iter(paths)
    ahead: deque[OpenFile | str] = deque()

    def open_more(most: int) -> None:
        # None behind one that could not be opened, which may need the descriptor.
        while most and not (ahead and isinstance(ahead[-1], str)):
            path = next(left, None)
            if path is None:
                return
            ahead.append(_on_its_way(path))
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


def _on_its_way(path: str) -> OpenFile | str:
    try:
        file = open_head(path)
    except OSError:
        return path
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # it is no more than advice
            os.posix_fadvise(file.descriptor, 0, FIRST_READ, os.POSIX_FADV_WILLNEED)
    return file


class ReadAhead:
    """Reads the heads of a series' files ahead of their reader, as a context manager.

    Parameters
    ----------
    paths : sequence of str
        Regular files, in the order in which they will be read.
    threads : int, optional
        How many read ahead from the first file on; 0 for none. `THREADS`, and only from where
        reading is found to wait, where not given.
    """

    def __init__(self, paths: Sequence[str], threads: int | None = None) -> None:
        self._paths = paths
        self._threads = threads
        self._at = 0
        self._next = count()
        self._running: list[threading.Thread] = []
        self._seen = _Clock()

    def __enter__(self) -> Self:
        """Begin at once where the number of threads was given."""
        if self._threads:
            self._begin(self._threads)
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what they were reading is nobody's loss."""
        self._at = len(self._paths)
        for thread in self._running:
            thread.join()

    @property
    def is_running(self) -> bool:
        """Whether threads read ahead."""
        return bool(self._running)

    def passed(self) -> None:
        """Hear that the reader is through with another file."""
        self._at += 1
        if self._threads is None and not self._running and self._at % _LOOK_EVERY == 0:
            now = _Clock()
            if now.waited_since(self._seen) > _WAITING * _LOOK_EVERY:
                self._begin(THREADS)
            self._seen = now

    def _begin(self, threads: int) -> None:
        left = len(self._paths) - self._at
        self._next = count(self._at)
        # Where none are to be had the reader does without.
        self._running = start_threads(self._read, min(threads, left))

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
        return  # its reader will meet the same, and say it
    try:
        os.pread(descriptor, FIRST_READ, 0)
    except OSError:
        return
    finally:
        os.close(descriptor)


class _Clock:
    """What a thread had spent by a moment."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.thread_time()
        # A thread that waits for a processor, not for a file, is switched against its will.
        of_thread = getattr(resource, "RUSAGE_THREAD", None)
        self._waits = None if of_thread is None else resource.getrusage(of_thread).ru_nvcsw

    def waited_since(self, earlier: "_Clock") -> float:
        """Return the seconds in which the thread waited for something."""
        if self._waits is not None and self._waits == earlier._waits:
            return 0.0
        return (self._wall - earlier._wall) - (self._cpu - earlier._cpu)
