"""Files of a disk, each there whole or not at all: written beside its place, flushed and renamed.

What is in them, and what is called a table, belongs to `store`. In a bucket there is nothing to do
here: what is not put whole is not there.
"""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.storage.threads import start_threads

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
        """Make its bytes safe and give it its place; where that fails it is still beside.

        Raises
        ------
        OSError
            With its place as the file's name.
        """
        try:
            flush(self.beside)
            self.beside.replace(self.path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def discard(self) -> None:
        """Remove it from beside its place; what cannot be goes as what killed processes leave."""
        with suppress(OSError):
            self.beside.unlink()

    def remove_other(self) -> None:
        """Remove what it stands instead of; where that cannot be, the newer of both counts."""
        with suppress(OSError):
            if self.instead_of is not None and self.instead_of.is_file():
                self.instead_of.unlink()


class StagedFiles:
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
            file.discard()
        del self._files[first:]

    def place(self) -> list[OSError | None]:
        """Flush each and rename it, then flush their directories.

        Returns
        -------
        list of OSError or None
            For each, in the order in which they were written, why it is not safe in its place.
        """
        errors = _placed(self._files)
        unsafe = _flushed({file.path.parent for file in self._files})
        for place, file in enumerate(self._files):
            errors[place] = errors[place] or unsafe.get(file.path.parent)
            if errors[place] is None:
                file.remove_other()
        self._files.clear()
        return errors


def _placed(files: Sequence[_Whole]) -> list[OSError | None]:
    """Place files by as many threads as the system gives, with this one; return what fails."""
    # None of them is taken to be placed before it is.
    errors: list[OSError | None] = [
        OSError(errno.EIO, "It was not placed", str(file.path)) for file in files
    ]
    left = deque(enumerate(files))

    def place() -> None:
        while True:
            try:
                number, file = left.popleft()
            except IndexError:
                return
            try:
                file.place()
            except Exception as error:  # noqa: BLE001 - the reason is recorded
                file.discard()
                reason = f"It was not placed ({type(error).__name__}: {error})"
                unexpected = OSError(errno.EIO, reason, str(file.path))
                errors[number] = error if isinstance(error, OSError) else unexpected
            else:
                errors[number] = None

    threads = start_threads(place, min(_THREADS, len(files)) - 1)
    place()
    for thread in threads:
        thread.join()
    return errors


_unplaced: ContextVar[StagedFiles | None] = ContextVar("unplaced", default=None)


@contextmanager
def batch_commit() -> Iterator[StagedFiles]:
    """Let files that are written in the block wait to be placed together, which is for it to do.

    A file on its own is waited for twice, for its bytes and for its name; on a slow disk that
    takes longer than to make it. What the block has not placed at its end is removed.
    """
    unplaced = StagedFiles()
    token = _unplaced.set(unplaced)
    try:
        yield unplaced
    finally:
        _unplaced.reset(token)
        unplaced.drop()


def atomic_write(path: Path, write: Callable[[Path], T], *, instead_of: Path | None = None) -> T:
    """Write a file so that a reader sees the whole of the old one or the whole of the new one.

    Within `batch_commit` the old one stands there until all are placed.

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
        It cannot be written, or a directory stands there. What stood there before is untouched,
        unless it is the directory's names that could not be made safe: then either may be there.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    beside = path.parent / f".{path.name}@{this_host()}:{os.getpid()}{_PARTIAL}"
    file = _Whole(beside, path, instead_of)
    unplaced = _unplaced.get()
    try:
        written = write(beside)
        if unplaced is None:
            file.place()
    except BaseException:
        file.discard()
        raise
    if unplaced is None:
        flush(path.parent)
        file.remove_other()
    else:
        unplaced.add(file)
    return written


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
    """Wait until a file, or the names in a directory, are safe on disk.

    Raises
    ------
    OSError
        They are not; with the path as its file's name.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def remove_partials(directory: Location) -> int:
    """Remove what killed processes of this machine left half-written.

    Returns
    -------
    int
        How many files were removed. Those of processes that live are left alone, and what cannot
        be removed stays. In a bucket there are none: what is not put whole is not there.
    """
    if isinstance(directory, ObjectPath):
        return 0
    removed = 0
    try:
        paths = list(directory.glob(f".*{_PARTIAL}")) if directory.is_dir() else []
    except OSError:
        return 0  # whoever reads or writes there meets the same, and says it
    for path in paths:
        host, _, process = path.name.removesuffix(_PARTIAL).rpartition("@")[2].rpartition(":")
        if host == this_host() and process.isdecimal() and not is_alive(int(process)):
            with suppress(OSError):
                path.unlink()
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
    except (FileNotFoundError, ProcessLookupError):
        return Path("/proc/self/status").exists()  # it has ended meanwhile
    except OSError:
        return False  # that cannot be told
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return fields["State"].split()[0] in {"Z", "X"} or int(fields["Tgid"]) != process


def this_host() -> str:
    """Return the name of this machine, as part of a file name."""
    return socket.gethostname().replace("/", "_")
