"""What an input looked like when it was read, as a short text that differs once it has changed.

No file is opened here: a file is known by its name, size and modification time, an object in a
bucket by name, size and version. Standard library
only, as `python -m aneurysm_assets.storage.fingerprint` is started many at a time. Which inputs
a table has belongs to `fingerprints`.
"""

import errno
import json
import os
import signal
import stat
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.schema.extra_tags import extra_tags
from aneurysm_assets.storage.litter import without_litter

UNREADABLE = "unreadable"
"""In place of a fingerprint where the input cannot be listed: equal to none."""


class Version(Protocol):
    """What a store says of an object."""

    @property
    def st_size(self) -> int:
        """Bytes."""

    @property
    def version(self) -> str:
        """What differs where the content does."""


READING = b"5"
"""Counts up where the same DICOM files are read to other values: what was read before is stale."""


def _reading() -> bytes:
    """Return by which rules DICOM files are read, and for which attributes a user asks."""
    return b" ".join([READING, *(name.encode() for name in extra_tags())])


_DIGEST_BYTES = 16
_NOT_THERE = (-1, -1)


def fingerprint_of_directory(directory: str | Path, names: Sequence[str] | None = None) -> str:
    """Return the fingerprint of the files of a directory.

    Parameters
    ----------
    directory : str or Path
        Its files count but for litter, links by what they lead to; directories below it do not
        count.
    names : sequence of str, optional
        Those that were read, sorted, without litter: the directory is not listed again.

    Returns
    -------
    str
        32 hexadecimal digits, of names, sizes and modification times in nanoseconds.

    Raises
    ------
    SeriesError
        The directory cannot be listed.
    """
    try:
        # Names relative to an open directory: the system need not walk the path for each file.
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if names is None:
                names = sorted(without_litter(os.listdir(descriptor)))  # noqa: PTH208
            return _fingerprint(names, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SeriesError(f"{directory} cannot be read: {error.strerror}") from error


def fingerprint_of_files(paths: Iterable[Path]) -> str:
    """Return the fingerprint of single files by their names, sizes and modification times."""
    by_name = {path.name: path for path in paths}
    return _digest(by_name, [value for path in by_name.values() for value in _state(path)])


def fingerprint_of_rows(rows: Iterable[Sequence[str]]) -> str:
    """Return the fingerprint of the fields of some rows, in their order."""
    text = json.dumps([list(row) for row in rows])
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def fingerprint_of_versions(files: Mapping[str, Version]) -> str:
    """Return the fingerprint of objects in a bucket by their names, sizes and versions."""
    return fingerprint_of_rows(
        (name, str(state.st_size), state.version) for name, state in sorted(files.items())
    )


def fingerprint_of_objects(files: Mapping[str, Version]) -> str:
    """Return the fingerprint of a series' directory in a bucket, from its listing."""
    rules = _reading().decode()
    kept = without_litter(sorted(files))
    return fingerprint_of_rows(
        [(rules,), *((name, str(files[name].st_size), files[name].version) for name in kept)]
    )


def _fingerprint(names: Sequence[str], descriptor: int) -> str:
    # Locals, as this loop runs once per file of the whole data set.
    status, is_directory = os.stat, stat.S_ISDIR
    files: list[str] = []
    states: list[int] = []
    for name in names:
        try:
            found = status(name, dir_fd=descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                raise
            # A link that leads nowhere: reading it gives a row with a read_error.
            size, modified = _NOT_THERE
        else:
            if is_directory(found.st_mode):
                continue
            size, modified = found.st_size, found.st_mtime_ns
        files.append(name)
        states.append(size)
        states.append(modified)
    return _digest(files, states, _reading())


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return _NOT_THERE  # reading it gives the reason
    return found.st_size, found.st_mtime_ns


def _digest(names: Iterable[str], states: Sequence[int], rules: bytes = b"") -> str:
    # No name has a slash, so no two lists of names make the same text.
    digest = blake2b("/".join(names).encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES)
    digest.update(b"/" + rules)
    digest.update(array("q", states).tobytes())
    return digest.hexdigest()


def fingerprint_or_unreadable(directory: str | Path) -> str:
    """Return the fingerprint of a directory, `UNREADABLE` where it cannot be listed."""
    try:
        return fingerprint_of_directory(directory)
    except SeriesError:
        return UNREADABLE


def main() -> None:
    """Answer a JSON list of directories on standard input with the list of their fingerprints."""
    # Ctrl-C is the parent's, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    directories = json.load(sys.stdin)
    json.dump([fingerprint_or_unreadable(directory) for directory in directories], sys.stdout)


if __name__ == "__main__":
    main()
