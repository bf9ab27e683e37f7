"""How elements, items and sequences follow one another in a little endian file (PS3.5 section 7).

`walk` and `functional_groups` say which elements are read. Whatever differs from the standard
raises `FallBackToPydicom`.
"""

from collections.abc import Callable, Container, Mapping
from functools import lru_cache
from struct import Struct

from aneurysm_assets.dicom.fast_parser.values import MAX_LENGTH, FallBackToPydicom, encoding_of
from aneurysm_assets.limits import MAX_FRAMES
from aneurysm_assets.storage.read_ahead import FIRST_READ

UNDEFINED_LENGTH = 0xFFFFFFFF

SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""Value representations with 16 and with 32 bits of length in Explicit VR (PS3.5 Table 7.1-1)."""

SPECIFIC_CHARACTER_SET = 0x00080005

_LONGEST_READ = 256 << 10

_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
"""Item, Item Delimitation Item and Sequence Delimitation Item (PS3.5 Table 7.5-3)."""

_DELIMITERS = 0xFFFE0000
"""Tags from here on are items and delimiters: no tag of data is higher."""

_MAX_DEPTH = 16

_EXPLICIT = Struct("<HH2sH").unpack_from
_IMPLICIT = Struct("<HHI").unpack_from
_LENGTH = Struct("<I").unpack_from

_LONGEST_ELEMENT_HEADER = 12
"""Bytes before a value: 8, or 12 for `LONG_VRS` in Explicit VR (PS3.5 7.1.2)."""

_PADDING = bytes(_LONGEST_ELEMENT_HEADER)

Element = tuple[int, bytes | None, int, int, int]
"""The header of an element (PS3.5 7.1): its tag, its VR (None where the file has none), the
positions at which it and its value begin, and the length it declares, which may be undefined."""

NO_ELEMENT = -1
"""The tag of the `Element` that says that no element follows."""

ReadAt = Callable[[int, int], bytes]
"""Reads at most so many bytes from a position, as `os.pread` does with an open file."""

Span = tuple[int, int, int, int]
"""An element's tag, and the positions at which it begins, its value begins, and its value ends."""

Handler = Callable[["HeaderStream", Element, int], int]
"""Handles an element, given the end of what holds it; returns the position behind its value."""

Item = tuple[int, int, bool, int]
"""An item of a sequence (PS3.5 7.5): the position of its first element, the position at which it
ends (at the latest, if a delimiter ends it), whether a delimiter ends it, and its depth."""

ItemVisitor = Callable[["HeaderStream", Item], int]
"""Handles an item; returns the position at which it ends."""


class HeaderStream:
    """The bytes of a file, of which one stretch at a time is in memory.

    Parameters
    ----------
    read : ReadAt
        Reads the file.
    size : int
        Bytes of the file.
    data : bytes
        A stretch of the file.
    start : int
        The position in the file at which `data` begins.

    Attributes
    ----------
    explicit : bool
        Whether elements carry their VR (PS3.5 7.1.2), or the dictionary implies it (7.1.3).

    Raises
    ------
    FallBackToPydicom
        The file is so long that a position might be taken for an undefined length.
    """

    __slots__ = ("_ahead", "_data", "_read", "_ready", "_start", "explicit", "size")

    def __init__(self, read: ReadAt, size: int, data: bytes, start: int = 0) -> None:
        if size > UNDEFINED_LENGTH:
            raise FallBackToPydicom("a file of more than 4 GB")
        self._read = read
        self.size = size
        self.explicit = True
        self._start = start
        self._data = data
        self._ready = len(data) - _LONGEST_ELEMENT_HEADER
        self._ahead = FIRST_READ

    def seek(
        self,
        pos: int,
        end: int,
        last: int,
        wanted: Container[int],
        spans: list[Span] | None = None,
    ) -> Element:
        """Return the next element that is wanted, has no defined length, or is a delimiter.

        All others are jumped over by their length.

        Parameters
        ----------
        pos : int
            The position at which an element begins.
        end : int
            The position at which the last element must end.
        last : int
            The tag of the element before.
        wanted : container of int
            Tags.
        spans : list of Span, optional
            Receives each element that is jumped over.

        Returns
        -------
        Element
            Its tag is `NO_ELEMENT` where none follows before `end`. The caller has to check that
            its value ends before `end`.

        Raises
        ------
        FallBackToPydicom
            The elements are not as PS3.5 7.1 has them.
        """
        # Most time is spent in this loop: hence locals, and no call per element.
        explicit, data, start, ready = self.explicit, self._data, self._start, self._ready
        while pos < end:
            at = pos - start
            if not 0 <= at <= ready:
                at = self._fetch(pos)
                data, start, ready = self._data, self._start, self._ready
            if explicit:
                # 7.1.2, Table 7.1-2: tag, VR, 16 bits of length, value.
                group, number, vr, length = _EXPLICIT(data, at)
                value = pos + 8
                if vr not in SHORT_VRS:
                    value, length = self._long_length(group, vr, length, pos, at)
            else:
                # 7.1.3, Table 7.1-3: tag, 32 bits of length, value.
                group, number, length = _IMPLICIT(data, at)
                vr, value = None, pos + 8
            tag = group << 16 | number
            # 7.1: elements stand in the order of their tags, and each occurs once.
            if tag <= last:
                raise FallBackToPydicom("tags out of order")
            if tag in wanted or tag >= _DELIMITERS:
                return tag, vr, pos, value, length
            after = value + length
            # An undefined length (7.1.1) is a number beyond any end, so one comparison serves both.
            if after > end:
                if length == UNDEFINED_LENGTH:
                    return tag, vr, pos, value, length
                raise FallBackToPydicom("an element longer than what holds it")
            if spans is not None:
                spans.append((tag, pos, value, after))
            last, pos = tag, after
        return NO_ELEMENT, None, pos, pos, 0

    def _long_length(
        self, group: int, vr: bytes, length: int, pos: int, at: int
    ) -> tuple[int, int]:
        """Return the position of the value and its length, for 32 bits of length."""
        # 7.5: items and delimiters have no VR, not even in Explicit VR.
        if group == _DELIMITERS >> 16:
            return pos + 8, _LENGTH(self._data, at + 4)[0]
        # 7.1.2, Table 7.1-1: tag, VR, two bytes that must be zero, 32 bits of length, value.
        if vr not in LONG_VRS or length:
            raise FallBackToPydicom(f"VR {vr!r}")
        return pos + 12, _LENGTH(self._data, at + 8)[0]

    def item_header(self, pos: int) -> tuple[int, int]:
        """Return the tag and length of an item or delimiter, which has no VR (PS3.5 7.5)."""
        at = pos - self._start
        if not 0 <= at <= self._ready:
            at = self._fetch(pos)
        group, element, length = _IMPLICIT(self._data, at)
        return group << 16 | element, length

    def value(self, pos: int, length: int) -> bytes:
        """Return the bytes of a value whose end the caller has found to lie within the file."""
        if length > MAX_LENGTH:
            raise FallBackToPydicom(f"a value of {length} bytes")
        at = pos - self._start
        if at < 0 or at + length > len(self._data):
            at = self._fetch(pos)
        raw = self._data[at : at + length]
        if len(raw) != length:
            raise FallBackToPydicom("the file ends")
        return raw

    def held(self, pos: int, end: int) -> bytes | None:
        """Return the bytes from one position to another if they are in memory."""
        at = pos - self._start
        if at < 0 or end - self._start > len(self._data):
            return None
        return self._data[at : end - self._start]

    def beginning(self, end: int) -> bytes | None:
        """Return the bytes up to a position, None if they are many, or the file has fewer."""
        if end > _LONGEST_READ:
            return None
        data = self.held(0, end) or self._read(end, 0)
        return data if len(data) == end else None

    def _fetch(self, pos: int) -> int:
        # Twice as much is read as before where reading goes on nearby; little after a long jump.
        near = -self._ahead < pos - self._start - len(self._data) < self._ahead
        self._ahead = min(2 * self._ahead, _LONGEST_READ) if near else FIRST_READ
        data = self._read(self._ahead, pos)
        if len(data) < 8:
            raise FallBackToPydicom("the file ends")
        # The last element may have 8 bytes, and 12 are looked at. No value comes from the padding:
        # whoever asks for a value has checked that it ends within the file.
        self._data = data if len(data) >= _LONGEST_ELEMENT_HEADER else data + _PADDING
        self._start = pos
        self._ready = len(self._data) - _LONGEST_ELEMENT_HEADER
        return 0


def skip_sequence(stream: HeaderStream, element: Element, end: int, depth: int = 0) -> int:
    """Return the end of an element of undefined length that is not wanted.

    Only a sequence may have an undefined length before the pixel data (PS3.5 7.1.1). UN of
    undefined length holds a sequence in Implicit VR (6.2.2), which pydicom has to read.

    Raises
    ------
    FallBackToPydicom
        It does not end before `end`, is no sequence, or is nested too deep.
    """
    tag, vr, _, value, length = element
    undefined = length == UNDEFINED_LENGTH and tag < _DELIMITERS
    if not undefined or depth >= _MAX_DEPTH or not _is_sequence(stream, tag, vr, value):
        raise FallBackToPydicom("undefined length")
    return walk_items(stream, element, end, skip_item, depth + 1)


def walk_items(
    stream: HeaderStream, sequence: Element, end: int, visit: ItemVisitor, depth: int
) -> int:
    """Visit each item of a sequence and return the position behind the sequence (PS3.5 7.5).

    Parameters
    ----------
    stream : HeaderStream
        The file.
    sequence : Element
        The sequence; its length may be undefined.
    end : int
        The position at which the sequence must end at the latest.
    visit : callable
        Called with each item.
    depth : int
        How deep the items are nested, 1 at the top level.

    Raises
    ------
    FallBackToPydicom
        The sequence does not end where it should, or holds anything but items.
    """
    _, _, _, pos, length = sequence
    # 7.5.1: a sequence ends by its length, or, where that is undefined, with a delimiter (7.5.2).
    delimited = length == UNDEFINED_LENGTH
    if not delimited:
        if pos + length > end:
            raise FallBackToPydicom("a sequence longer than what holds it")
        end = pos + length
    count = 0
    while delimited or pos < end:
        if pos + 8 > end or count > MAX_FRAMES:
            raise FallBackToPydicom("a sequence without end")
        tag, item_length = stream.item_header(pos)
        pos += 8
        if tag == _ITEM and item_length == UNDEFINED_LENGTH:
            # 7.5.1 (b): an Item Delimitation Item ends the item.
            pos = visit(stream, (pos, end, True, depth))
        elif tag == _ITEM and pos + item_length <= end:
            # 7.5.1 (a): the item's length ends it.
            pos = visit(stream, (pos, pos + item_length, False, depth))
        elif tag == _SEQUENCE_END and delimited and not item_length:
            # 7.5.2: the Sequence Delimitation Item has the length 0.
            return pos
        else:
            raise FallBackToPydicom("no item of a sequence")
        count += 1
    return pos


def walk_item(stream: HeaderStream, item: Item, handlers: Mapping[int, Handler]) -> int:
    """Walk the elements of an item and return the position at which it ends.

    Parameters
    ----------
    stream : HeaderStream
        The file.
    item : Item
        Its place in the file.
    handlers : mapping of int to callable
        What handles which element, by tag. `IN_ANY_ITEM` must be among them.

    Raises
    ------
    FallBackToPydicom
        The item does not end where it should, or its elements are not in order.
    """
    pos, end, delimited, depth = item
    tag = NO_ELEMENT
    while True:
        element = stream.seek(pos, end, tag, handlers)
        tag, _, _, value, length = element
        if tag in handlers:
            pos = handlers[tag](stream, element, end)
        elif tag == NO_ELEMENT and not delimited:
            return end
        elif tag == _ITEM_END and delimited and not length:
            # PS3.5 7.5.1: the Item Delimitation Item has the length 0.
            return value
        elif NO_ELEMENT < tag < _DELIMITERS:
            pos = skip_sequence(stream, element, end, depth)
        else:
            raise FallBackToPydicom("an item that does not end where it should")


def skip_item(stream: HeaderStream, item: Item) -> int:
    """Walk an item of which no value is wanted, and return the position at which it ends."""
    return walk_item(stream, item, IN_ANY_ITEM)


def character_set(stream: HeaderStream, element: Element, end: int) -> bytes:
    """Return the value of SpecificCharacterSet."""
    _, vr, _, value, length = element
    if vr not in (None, b"CS") or value + length > end:
        raise FallBackToPydicom(f"character set as {vr!r} of {length} bytes")
    return stream.value(value, length)


def _check_character_set(stream: HeaderStream, element: Element, end: int) -> int:
    # Text in items is read as ASCII whatever the set is; only an unknown set needs pydicom.
    encoding_of(character_set(stream, element, end))
    return element[3] + element[4]


IN_ANY_ITEM: Mapping[int, Handler] = {SPECIFIC_CHARACTER_SET: _check_character_set}


def _is_sequence(stream: HeaderStream, tag: int, vr: bytes | None, value: int) -> bool:
    if vr is not None:
        return vr == b"SQ"
    if tag >> 16 & 1:
        # No dictionary knows a private tag in Implicit VR (7.1.3); but only a sequence has items.
        return stream.item_header(value)[0] == _ITEM
    return _dictionary_says_sequence(tag)


@lru_cache(maxsize=1024)
def _dictionary_says_sequence(tag: int) -> bool:
    # pydicom takes longer to import than a series to read, and few files need it.
    from pydicom.datadict import dictionary_VR  # noqa: PLC0415

    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False
