"""Whether the tables that another is made from were replaced while they were read.

polars opens a file of a disk more than once: of one that is replaced in between it may give columns
of two versions, and of several files some may be older than others. How a table is written
belongs to `table_files`, whether one is up to date to `partitions`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import names_in_brief
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.storage.table_names import Stamp, stamps_of

T = TypeVar("T")


class InputsChanged(InputError):  # noqa: N818 - as `UnreadableFile`
    """What a table is made from was replaced while it was read, so it was not put in its place."""


@dataclass(frozen=True)
class InputSnapshot:
    """What some tables' files were at a moment.

    Attributes
    ----------
    stamps : mapping of Location to mapping of str to Stamp
        By directory and the last part of the table's stem.
    """

    stamps: Mapping[Location, Mapping[str, Stamp]]

    @classmethod
    def now(cls, tables: Mapping[Location, Collection[str]]) -> Self:
        """Look at files, by one listing of each directory.

        Parameters
        ----------
        tables : mapping of Location to collection of str
            Of each directory the stems, without suffix, of those that will be read.

        Raises
        ------
        OSError
            A directory cannot be listed.
        """
        return cls({directory: _stamps(directory, stems) for directory, stems in tables.items()})

    def require_same(self) -> None:
        """Make sure that they are still the same.

        Raises
        ------
        InputsChanged
            They are not; the text names those that are not.
        OSError
            A directory cannot be listed.
        """
        replaced: set[str] = set()
        for directory, before in self.stamps.items():
            now = _stamps(directory, before)
            replaced |= {stem for stem in before if before[stem] != now[stem]}
        if replaced:
            raise InputsChanged(
                f"{names_in_brief(sorted(replaced))}: taken again by another run while it was "
                "read, so what was made of it is not kept; make it again when that run has ended"
            )


def retry_if_replaced(make: Callable[[], T]) -> T:
    """Return what is made; where its sources were replaced meanwhile, try once more.

    Raises
    ------
    InputsChanged
        They were replaced again.
    """
    try:
        return make()
    except InputsChanged:
        return make()


def _stamps(directory: Location, stems: Collection[str]) -> dict[str, Stamp]:
    found = stamps_of(directory)
    return {stem: found.get(stem, ()) for stem in stems}
