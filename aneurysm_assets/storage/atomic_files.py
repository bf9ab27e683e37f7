"""Files of a disk, each there whole or not at all: written beside its place, flushed and renamed.

What is in them belongs to `table_files`. A bucket needs none of it: it takes objects whole.
"""

import errno
import os
import shutil
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Self, TypeVar

from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.storage.threads import start_threads

T = TypeVar("T")

_PARTIAL = ".partial"

_SECONDS_OF_NO_WRITE = 86_400.0
"""Nobody writes a file for so long without adding to it."""

_THREADS = 16
"""These wait for the disk together, which makes many files safe in little more than one's time."""


@dataclass(frozen=True)
class _StagedFile:
    """A file that is written beside its place."""

    partial: Path
    path: Path
    instead_of: Path | None

    def commit(self) -> None:
        """Make its bytes safe and rename it into place; where that fails it is still beside it.

        Raises
        ------
        OSError
            With its place as the file's name.
        """
        try:
            flush(self.partial)
            self.partial.replace(self.path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def discard(self) -> None:
        """Remove it from beside its place; `remove_partials` removes what cannot be removed now."""
        with suppress(OSError):
            self.partial.unlink()

    def remove_other(self) -> None:
        """Remove what it stands instead of; where that cannot be, the newer of both counts."""
        with suppress(OSError):
            if self.instead_of is not None and self.instead_of.is_file():
                self.instead_of.unlink()


class StagedFiles:
    """Files that are written beside their places, for `batch_commit` to put them there together.

    A file on its own is waited for twice, for its bytes and for its name; on a slow disk that
    takes longer than to make it. As a context manager it discards at its end what is not committed.
    """

    def __init__(self) -> None:
        self._files: dict[Path, _StagedFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard(self.paths)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Their places, in the order in which they were written."""
        return tuple(self._files)

    def add(self, file: _StagedFile) -> None:
        """Take one more."""
        self._files[file.path] = file

    def discard(self, paths: Iterable[Path]) -> None:
        """Remove the files that are to have these places; what stands there is untouched."""
        for path in paths:
            self._files.pop(path).discard()

    def pop_all(self) -> list[_StagedFile]:
        """Return all of them, for which whoever takes them is responsible then."""
        files = list(self._files.values())
        self._files.clear()
        return files


def batch_commit(staged: StagedFiles) -> dict[Path, OSError | None]:
    """Flush each file and rename it into its place, then flush the directories.

    Returns
    -------
    dict of Path to OSError or None
        Of each place, why its file is not safe there; None where it is.
    """
    files = staged.pop_all()
    errors = _commit_each(files)
    unsafe = _flush_each({file.path.parent for file in files})
    for file in files:
        errors[file.path] = errors[file.path] or unsafe.get(file.path.parent)
        if errors[file.path] is None:
            file.remove_other()
    return errors


def _commit_each(files: Sequence[_StagedFile]) -> dict[Path, OSError | None]:
    """Commit files by as many threads as the system gives, with this one; return what fails."""
    # None of them counts as committed before it is.
    errors: dict[Path, OSError | None] = {
        file.path: OSError(errno.EIO, "It was not placed", str(file.path)) for file in files
    }
    remaining = deque(files)

    def commit_remaining() -> None:
        while True:
            try:
                file = remaining.popleft()
            except IndexError:
                return
            try:
                file.commit()
            except Exception as error:  # noqa: BLE001 - the reason is recorded
                file.discard()
                reason = f"It was not placed ({type(error).__name__}: {error})"
                unexpected = OSError(errno.EIO, reason, str(file.path))
                errors[file.path] = error if isinstance(error, OSError) else unexpected
            else:
                errors[file.path] = None

    threads = start_threads(commit_remaining, min(_THREADS, len(files)) - 1)
    commit_remaining()
    for thread in threads:
        thread.join()
    return errors


def _flush_each(directories: set[Path]) -> dict[Path, OSError]:
    """Make the names in directories safe; return why that failed, by directory."""
    errors: dict[Path, OSError] = {}
    for directory in directories:
        try:
            flush(directory)
        except OSError as error:
            errors[directory] = error
    return errors


def atomic_write(
    path: Path,
    write: Callable[[Path], T],
    *,
    instead_of: Path | None = None,
    staged: StagedFiles | None = None,
) -> T:
    """Write a file so that a reader sees the whole of the old one or the whole of the new one.

    Parameters
    ----------
    path : Path
        Where to, in a directory that exists.
    write : callable
        Given the path to write to.
    instead_of : Path, optional
        A file that is removed once the new one is there.
    staged : StagedFiles, optional
        Where the file waits, written, for `batch_commit`; until then the old one stands there.

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
    partial = path.parent / f".{path.name}@{this_host()}:{os.getpid()}{_PARTIAL}"
    file = _StagedFile(partial, path, instead_of)
    try:
        result = write(partial)
        if staged is None:
            file.commit()
    except BaseException:
        file.discard()
        raise
    if staged is not None:
        staged.add(file)
    else:
        flush(path.parent)
        file.remove_other()
    return result


def replace_directory(new: Path, path: Path, old: Path | None) -> None:
    """Rename a directory into its place; what stood there comes back where that fails.

    Parameters
    ----------
    new : Path
        The directory, whole, beside its place.
    path : Path
        Its place.
    old : Path or None
        What stands there is called so until the new one has its name, and is then removed; None
        where nothing, or an empty directory, stands there.

    Raises
    ------
    OSError
        It cannot be renamed, or its name not be made safe.
    """
    if old is None:
        new.rename(path)
    else:
        try:
            path.rename(old)
            new.rename(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            raise
    try:
        flush(path.parent)
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


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
    """Remove what killed processes left half-written.

    Returns
    -------
    int
        How many files were removed. Those of processes that live are left alone, of another
        machine, or of this one before it was started anew, what was written within a day; and
        what cannot be removed stays. In a bucket there are none: objects are put whole.
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
        if not process.isdecimal():
            continue
        with suppress(OSError):
            is_left = not is_alive(int(process)) if host == this_host() else _is_old(path)
            if is_left:
                path.unlink()
                removed += 1
    return removed


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _SECONDS_OF_NO_WRITE


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


@cache
def this_host() -> str:
    """Return what tells this machine from others, as part of a file name.

    Containers and machines made from one image have one name, and count processes each for itself:
    what tells them apart is when the system began, and where its processes are counted.
    """
    told = [socket.gethostname()]
    try:
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        told.append(str(uuid.getnode()))
    digest = blake2b("\n".join(told).encode(), digest_size=6).hexdigest()
    return f"{told[0].replace('/', '_')}-{digest}"
