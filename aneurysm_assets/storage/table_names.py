"""Which file holds a table, and whether it is still the same one.

A table's path is given without suffix (its stem): after a write one of `.parquet` and `.csv` stands
there, or where the old one could not be removed the newer counts. Nothing is opened here: what a
file holds belongs to `table_scans`.
"""

import os
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path

from aneurysm_assets.storage.object_path import Location, ObjectPath, list_directory

Stamp = tuple[tuple[str | int, ...], ...]
"""What is known of a table's file without opening it, and differs once it is replaced."""


def stamps_of(directory: Location) -> Mapping[str, Stamp]:
    """Return of each table of a directory, by the last part of its stem, what tells its version.

    Returns
    -------
    mapping of str to Stamp
        Names, sizes, times and inodes, or ETags; empty where the directory does not exist.

    Raises
    ------
    OSError
        The store does not tell, or the directory cannot be read.
    """
    stamps: dict[str, Stamp] = {}
    try:
        for name, stamp in sorted(_states(directory)):
            if (stem := _stem(name)) is not None:
                stamps[stem] = (*stamps.get(stem, ()), (name, *stamp))
    except FileNotFoundError:
        return {}
    return stamps


def _states(directory: Location) -> list[tuple[str, tuple[str | int, ...]]]:
    if isinstance(directory, ObjectPath):
        files = list_directory(directory).files
        return [(name, (state.st_size, state.version)) for name, state in files.items()]
    found: list[tuple[str, tuple[str | int, ...]]] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed since it was listed
                state = entry.stat()
                found.append((entry.name, (state.st_size, state.st_mtime_ns, state.st_ino)))
    return found


def find_table(stem: Location) -> Location | None:
    """Return the file that holds a table, or None where there is none.

    Both suffixes stand side by side only where a process was killed between writing the one and
    removing the other, or could not remove it: the newer one is the table.

    Raises
    ------
    OSError
        The store does not tell.
    """
    if isinstance(stem, ObjectPath):
        return _find_objects(stem.parent).get(stem.name)
    return _find_file(stem)


def _find_file(stem: Path) -> Path | None:
    candidates = [stem.parent / f"{stem.name}.{suffix}" for suffix in ("csv", "parquet")]
    found = [path for path in candidates if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def find_tables(directory: Location) -> Mapping[str, Location]:
    """Return the tables of a directory by the last part of their stem, from one listing.

    Returns
    -------
    mapping of str to Location
        Empty where the directory does not exist.

    Raises
    ------
    OSError
        The store does not tell.
    """
    if isinstance(directory, ObjectPath):
        return _find_objects(directory)
    tables: dict[str, Path] = {}
    for stem, name in _table_files(directory):
        twice = stem in tables
        tables[stem] = directory / name
        if twice:
            tables[stem] = _find_file(directory / stem) or tables[stem]
    return tables


def names_of_tables(directory: Location) -> Set[str]:
    """Return the last part of the stem of each table of a directory, from one listing.

    Raises
    ------
    OSError
        The store does not tell.
    """
    if isinstance(directory, ObjectPath):
        return _find_objects(directory).keys()
    return {stem for stem, _ in _table_files(directory)}


def _table_files(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the stem and the name of each table's file in a directory that may not exist."""
    if not directory.is_dir():
        return
    with os.scandir(directory) as entries:
        for entry in entries:
            stem = _stem(entry.name)
            if stem is not None and entry.is_file():
                yield stem, entry.name


def _find_objects(directory: ObjectPath) -> dict[str, ObjectPath]:
    try:
        files = list_directory(directory).files
    except FileNotFoundError:
        return {}
    # The newer ones last: they stay.
    newest_last = sorted(files, key=lambda name: (files[name].modified, name))
    return {stem: directory / name for name in newest_last if (stem := _stem(name)) is not None}


def _stem(name: str) -> str | None:
    """Return the name of a table's file without its suffix; None where it is no table's."""
    stem, _, suffix = name.rpartition(".")
    return None if suffix not in {"parquet", "csv"} or stem[:1] in {"", "."} else stem


def file_names(directory: Location) -> list[str]:
    """Return the names of the files in a directory; none where it does not exist.

    Raises
    ------
    OSError
        It cannot be listed.
    """
    try:
        if isinstance(directory, ObjectPath):
            return list(list_directory(directory).files)
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except FileNotFoundError:
        return []
