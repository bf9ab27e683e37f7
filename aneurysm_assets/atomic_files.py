"""Files of a disk, each there whole or not at all: written beside its place, flushed and renamed.

What is in them, and what is called a table, belongs to `store`. In a bucket there is nothing to do
here: what is not put whole is not there.
"""

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aneurysm_assets.location import Location, ObjectPath

T = TypeVar("T")

_PARTIAL = ".partial"

_THREADS = 16
"""That wait for the disk together: it makes many files safe in little more than the time of one."""


@dataclass(frozen=True)
class _Whole:
    """A file that is written, and not yet in its place."""

    beside: Path
    path: Path
    instead_of: Path | None

    def place(self) -> None:
        """Make it safe, give it its place, and remove what it stands there instead of."""
        flush(self.beside)
        self.beside.replace(self.path)
        if self.instead_of is not None and self.instead_of.is_file():
            self.instead_of.unlink()


class Unplaced:
    """Files that are written, and wait to be made safe together and to take their places."""

    def __init__(self) -> None:
        self._files: list[_Whole] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._files)

    def add(self, file: _Whole) -> None:
        """Take one more."""
        self._files.append(file)

    def drop(self, first: int = 0) -> None:
        """Remove those from one on; what stands in their places is untouched."""
        for file in self._files[first:]:
            file.beside.unlink(missing_ok=True)
        del self._files[first:]

    def place(self) -> list[OSError | None]:
        """Flush each and rename it, then flush their directories.

        Returns
        -------
        list of OSError or None
            For each, in the order in which they were written, why it did not get its place.
        """
        files, self._files = self._files, []
        if len(files) < 2:
            errors = [_placed(file) for file in files]
        else:
            with ThreadPoolExecutor(min(_THREADS, len(files))) as pool:
                errors = list(pool.map(_placed, files))
        unsafe = _flushed({file.path.parent for file in files})
        return [
            error or unsafe.get(file.path.parent) for file, error in zip(files, errors, strict=True)
        ]


_unplaced: ContextVar[Unplaced | None] = ContextVar("unplaced", default=None)


@contextmanager
def placed_together() -> Iterator[Unplaced]:
    """Let files that are written in the block wait to be placed together, which is for it to do.

    A file on its own is waited for twice, for its bytes and for its name; on a slow disk that
    takes longer than to make it. What the block has not placed at its end is removed.
    """
    unplaced = Unplaced()
    token = _unplaced.set(unplaced)
    try:
        yield unplaced
    finally:
        _unplaced.reset(token)
        unplaced.drop()


def write_beside(path: Path, write: Callable[[Path], T], *, instead_of: Path | None = None) -> T:
    """Write a file so that a reader sees the whole of the old one or the whole of the new one.

    Within `placed_together` the old one stands there until all are placed.

    Parameters
    ----------
    path : Path
        Where to, in a directory that exists.
    write : callable
        Given the path to write to.
    instead_of : Path, optional
        A file that is removed once the new one is there.

    Returns
    -------
    object
        What `write` returns.

    Raises
    ------
    OSError
        It cannot be written. What stood there before is untouched.
    """
    beside = path.parent / f".{path.name}@{this_host()}:{os.getpid()}{_PARTIAL}"
    file = _Whole(beside, path, instead_of)
    unplaced = _unplaced.get()
    try:
        written = write(beside)
        if unplaced is None:
            file.place()
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if unplaced is None:
        flush(path.parent)
    else:
        unplaced.add(file)
    return written


def _placed(file: _Whole) -> OSError | None:
    try:
        file.place()
    except OSError as error:
        file.beside.unlink(missing_ok=True)
        return error
    return None


def _flushed(directories: set[Path]) -> dict[Path, OSError]:
    """Make the names in directories safe; return those of which it failed, and why."""
    errors: dict[Path, OSError] = {}
    for directory in directories:
        try:
            flush(directory)
        except OSError as error:
            errors[directory] = error
    return errors


def flush(path: Path) -> None:
    """Wait until a file, or the names in a directory, are safe on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partials(directory: Location) -> int:
    """Remove what killed processes of this machine left half-written.

    Returns
    -------
    int
        How many files were removed. Those of processes that live are left alone. In a bucket
        there are none: what is not put whole is not there.
    """
    if isinstance(directory, ObjectPath):
        return 0
    removed = 0
    for path in directory.glob(f".*{_PARTIAL}") if directory.is_dir() else ():
        host, _, process = path.name.removesuffix(_PARTIAL).rpartition("@")[2].rpartition(":")
        if host == this_host() and process.isdecimal() and not is_alive(int(process)):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def is_alive(process: int) -> bool:
    """Tell whether a process of this machine exists; where that cannot be told, say it does."""
    if os.name == "nt":  # there, signal 0 is not a question but an interrupt
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return not _is_dead_or_thread(process)


def _is_dead_or_thread(process: int) -> bool:
    """Tell whether a number stands for no process that works, where the system shows its processes.

    A killed process answers signals until its parent has asked how it ended, and a thread by its
    own number.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return Path("/proc/self/status").exists()  # it has ended meanwhile
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return fields["State"].split()[0] in {"Z", "X"} or int(fields["Tgid"]) != process


def this_host() -> str:
    """Return the name of this machine, as part of a file name."""
    return socket.gethostname().replace("/", "_")
