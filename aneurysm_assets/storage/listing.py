"""What the entries of a directory are, where one bad entry must not spoil the rest."""

import os

from aneurysm_assets.storage import object_store
from aneurysm_assets.storage.object_path import Location, ObjectPath, list_below, list_directory


def entries_of(directory: Location) -> dict[str, bool]:
    """Return the names in a directory, and of each whether it is one itself.

    Where a name in a bucket cannot be asked for, such as `..`, it is given as that of a file, and
    beside it the names alone that begin with a digit.

    Raises
    ------
    OSError
        It is not there, or cannot be read.
    """
    if isinstance(directory, ObjectPath):
        try:
            listed = list_directory(directory)
        except OSError as error:
            if not object_store.is_bad_name(error):
                raise
            below = [name.partition("/") for name in list_below(directory)]
            bad = object_store.bad_name(error, directory.key)
            return {name: bool(slash) for name, slash, _ in below} | {bad: False}
        # The second has it where a name is both.
        return dict.fromkeys(listed.files, False) | dict.fromkeys(listed.directories, True)
    with os.scandir(directory) as entries:
        return {entry.name: is_directory(entry) for entry in entries}


def is_directory(entry: "os.DirEntry[str]") -> bool:
    """Tell whether an entry is a directory, or a link to one.

    A link that cannot be followed is none: it points to itself, or to a name that cannot be.
    """
    try:
        return entry.is_dir()
    except OSError:
        return False
