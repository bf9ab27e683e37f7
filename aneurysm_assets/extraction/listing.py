"""What the entries of a directory are, where one bad entry must not spoil the rest."""

import os


def is_directory(entry: "os.DirEntry[str]") -> bool:
    """Tell whether an entry is a directory, or a link to one.

    A link that cannot be followed is none: it points to itself, or to a name that cannot be.
    """
    try:
        return entry.is_dir()
    except OSError:
        return False
