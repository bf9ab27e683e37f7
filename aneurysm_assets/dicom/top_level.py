"""Where the elements of the top level stand in a file, and which of them count.

Elements stand in the order of their tags, each once (PS3.5 7.1). Where a file breaks that, an
element outside its order, or a second time, does not take the place of the one that stands where it
belongs. pydicom, which lets the last one win, is shown the file without the others. What values
mean does not belong here.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from struct import Struct
from typing import NamedTuple, Protocol

from pydicom.datadict import keyword_for_tag
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from aneurysm_assets.dicom.attributes import PIXEL_DATA_BITS
from aneurysm_assets.errors import UnreadableFile
from aneurysm_assets.limits import MAX_ELEMENTS, MAX_VALUE_BYTES

Range = tuple[int, int]
"""The first byte of a stretch of a file, and the one behind its last."""

_UNDEFINED_LENGTH = 0xFFFFFFFF
_VRS = frozenset(str(vr) for vr in VR)
_PREAMBLE = 132
CHARACTER_SET = 0x00080005
_META_GROUP = 2
_LONGEST_ELEMENT_HEADER = 12
_SHORT = Struct("<HH2sH").unpack_from
_LONG_LENGTH = Struct("<I").unpack_from
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)


class Positioned(Protocol):
    """A file that tells where it is read."""

    size: int

    def tell(self) -> int:
        """Return the position of the next byte."""
        ...


class Place(NamedTuple):
    """An element of the top level: its tag, where it begins, and where its value begins."""

    tag: int
    start: int
    value: int


def tag_name(tag: int) -> str:
    """Return a tag as PS3.6 writes it, with its keyword where it has one."""
    keyword = keyword_for_tag(tag)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})" + (f" {keyword}" if keyword else "")


def require_short_character_set(length: int) -> None:
    """Refuse a header whose character set pydicom would take hours over: it decodes it unasked.

    Raises
    ------
    UnreadableFile
        It has more than `MAX_VALUE_BYTES`.
    """
    if length > MAX_VALUE_BYTES:
        name = tag_name(CHARACTER_SET)
        raise UnreadableFile(f"has a header that cannot be: {name} has {length} bytes")


class TopLevel:
    """Hears of each element from pydicom, before it reads the value, and stops it at the pixels.

    Parameters
    ----------
    file : Positioned
        The file that pydicom reads.
    before : int, optional
        How many elements are read at most.
    is_inflated : bool
        Whether pydicom reads a deflated data set from memory: then no position is that of the file.

    Attributes
    ----------
    places : list of Place
        The elements so far; the last is the one that is being read.
    """

    def __init__(
        self, file: Positioned, before: int | None = None, *, is_inflated: bool = False
    ) -> None:
        self._file = file
        self._is_inflated = is_inflated
        self._before = before
        self._is_explicit = False
        self.places: list[Place] = []

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        """Tell whether to stop before an element; `stop_when` of `pydicom.filereader`.

        Raises
        ------
        UnreadableFile
            The element has no VR where the others have one, ends behind the file, is one of too
            many, or is a character set that takes long to decode.
        """
        value = self._file.tell()
        start = value - (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
        if self.places and self.places[-1].value in (value - 2, value - 6):
            self.places.pop()  # pydicom had only looked whether the file has VRs
        if tag in PIXEL_DATA_BITS or len(self.places) == self._before:
            return True
        self.places.append(Place(int(tag), start, value))
        if len(self.places) > MAX_ELEMENTS:
            raise UnreadableFile(
                f"has a header that cannot be: it has more than {MAX_ELEMENTS} elements"
            )
        if tag == CHARACTER_SET:
            require_short_character_set(length)
        self._is_explicit = self._is_explicit or vr in _VRS
        if self._is_explicit and vr not in _VRS:
            raise UnreadableFile(
                f"has a damaged header: {tag_name(tag)}, at byte {start}, has no VR that there is"
            )
        is_within = length == _UNDEFINED_LENGTH or value + length <= self._file.size
        if not is_within and not self._is_inflated:
            raise UnreadableFile(
                f"is cut short in its header, at byte {self._file.size}: {tag_name(tag)} would end "
                f"at byte {value + length}"
            )
        return False

    def out_of_place(self, wanted: Collection[int]) -> list[tuple[Place, Range, bool]]:
        """Return the wanted elements that stand outside their order, or a second time.

        Returns
        -------
        list of tuple
            The element, the bytes it takes, and whether another one of its tag counts instead.
        """
        tags = [place.tag for place in self.places]
        stray = outside_order(tags)
        counted = {tag for index, tag in enumerate(tags) if index not in stray}
        found = []
        for index in sorted(stray):
            place = self.places[index]
            if place.tag not in wanted:
                continue
            behind = self.places[index + 1].start if index + 1 < len(tags) else self._file.tell()
            found.append((place, (place.start, behind), place.tag in counted))
            counted.add(place.tag)
        return found


def outside_order(tags: Sequence[int]) -> set[int]:
    """Return the indices of those tags that are not in the longest ascending chain of all.

    Of equal tags in a row, the first is in the chain.
    """
    if all(one < other for one, other in pairwise(tags)):
        return set()
    ends: list[int] = []  # the least tag with which a chain of each length ends
    indices: list[int] = []
    before: list[int | None] = []
    for index, tag in enumerate(tags):
        length = bisect_left(ends, tag)
        before.append(indices[length - 1] if length else None)
        if length == len(ends):
            ends.append(tag)
            indices.append(index)
        elif ends[length] != tag:
            ends[length], indices[length] = tag, index
    chain: set[int] = set()
    at: int | None = indices[-1]
    while at is not None:
        chain.add(at)
        at = before[at]
    return set(range(len(tags))) - chain


class MetaElement(NamedTuple):
    """An element of the file meta information: its tag, its bytes, and where it stands."""

    tag: int
    value: bytes
    stretch: Range


def meta_elements(head: bytes) -> list[MetaElement]:
    """Return the elements of the file meta information (PS3.10 7.1), none without a preamble.

    Parameters
    ----------
    head : bytes
        The beginning of the file.
    """
    elements: list[MetaElement] = []
    pos = _PREAMBLE if head[_PREAMBLE - 4 : _PREAMBLE] == b"DICM" else len(head)
    while pos + _LONGEST_ELEMENT_HEADER <= len(head):
        group, number, vr, length = _SHORT(head, pos)
        value = pos + 8
        if vr in _LONG_VRS:
            value, length = pos + 12, _LONG_LENGTH(head, pos + 8)[0]
        if group != _META_GROUP or value + length > len(head):
            break
        end = value + length
        elements.append(MetaElement(group << 16 | number, head[value:end], (pos, end)))
        pos = end
    return elements


def repeated(elements: Sequence[MetaElement]) -> list[MetaElement]:
    """Return the elements whose tag stands before them already.

    (0002,0000) says where the group ends (PS3.10 7.1); what is in it counts, and of a tag that is
    not, the first one behind it.
    """
    first: dict[int, MetaElement] = {}
    return [each for each in elements if first.setdefault(each.tag, each) is not each]


def kept(size: int, hidden: Iterable[Range]) -> list[Range]:
    """Return the stretches of a file that are left without some others."""
    stretches, pos = [], 0
    for start, end in sorted(hidden):
        if start > pos:
            stretches.append((pos, start))
        pos = max(pos, end)
    return [*stretches, (pos, size)] if pos < size else stretches
