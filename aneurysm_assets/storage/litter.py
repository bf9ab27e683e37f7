"""Files that operating systems and people leave among DICOM files: known by name, never opened.

Standard library only, as `fingerprint` needs it. Any other file is read, whatever its name.
"""

from collections.abc import Iterable

NAMES = frozenset((".DS_Store", "Thumbs.db", "desktop.ini", "DICOMDIR"))
"""Of macOS, of Windows, and the directory of a DICOM medium (PS3.10 8.6), which is no image."""

PREFIX = "._"
"""What macOS puts beside a file on a disk that is not its own."""

SUFFIXES = (".txt", ".md", ".log", ".csv", ".json", ".xml", ".html", ".pdf", ".png", ".jpg")
"""Of notes, tables and pictures."""


def without_litter(names: Iterable[str]) -> list[str]:
    """Return those names that are no litter, in their order."""
    # In one expression, as this runs once per file of the whole data set.
    return [
        name
        for name in names
        if not (name in NAMES or name.startswith(PREFIX) or name.endswith(SUFFIXES))
    ]
