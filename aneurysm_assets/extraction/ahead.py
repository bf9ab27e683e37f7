"""The heads of files brought into memory by threads, for storage that makes a reader wait.

What the bytes say is not looked at here. Where files are in memory already, reading one is quicker
than handing it to a thread, so threads begin only where reading is found to wait.
"""

import os
import resource
import threading
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Self

from aneurysm_assets.extraction.source import FIRST_READ

THREADS = 16
"""Threads of one reader where it waits: about what a disk or a file server takes in parallel."""

_MUCH = 64 << 10
"""Bytes beyond which a file is worth asking the system not to read on."""

_LOOK_EVERY = 16
"""Files after which it is asked whether reading waits."""

_WAITING = 200e-6
"""Seconds of waiting a file from which on threads gain more than they cost."""


def open_head(path: Path | str) -> tuple[int, int]:
    """Open a file of which only the head, and then a few stretches, will be read.

    Returns
    -------
    descriptor, size : int
        The open file, and its size in bytes.

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
    return descriptor, size


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
        self._running = [
            threading.Thread(target=self._read, daemon=True) for _ in range(min(threads, left))
        ]
        for thread in self._running:
            thread.start()

    def _read(self) -> None:
        for index in self._next:
            if index >= len(self._paths):
                return
            if index >= self._at:
                _touch(self._paths[index])


def _touch(path: str) -> None:
    try:
        descriptor, _ = open_head(path)
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
