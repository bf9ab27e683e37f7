"""The elements of a DICOM file, little endian, one after the other (PS3.5 section 7), by jumps.

Here is how elements, items and sequences follow one another; which of them are wanted is for
`walk` and `groups` to say. Whatever is not as the standard has it is `FallBackToPydicom`.
"""

from collections.abc import Callable, Container, Mapping
from functools import lru_cache
from struct import Struct

from pydicom.datadict import dictionary_VR

from aneurysm_assets.dicom.fast_parser.values import MAX_LENGTH, FallBackToPydicom, encoding_of
from aneurysm_assets.dicom.header import MAX_FRAMES
from aneurysm_assets.storage.read_ahead import FIRST_READ

UNDEFINED_LENGTH = 0xFFFFFFFF

SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""Value representations with 16 and with 32 bits of length in Explicit VR (PS3.5 7.1.2)."""

SPECIFIC_CHARACTER_SET = 0x00080005

_LONGEST_READ = 256 << 10

_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_DELIMITERS = 0xFFFE0000

_MAX_DEPTH = 16

_EXPLICIT = Struct("<HH2sH").unpack_from
_IMPLICIT = Struct("<HHI").unpack_from
_LENGTH = Struct("<I").unpack_from

_PADDING = bytes(12)


Element = tuple[int, bytes | None, int, int, int]
"""The header of an element (PS3.5 7.1): its tag, its VR (None where the file has none), where it
begins, where its value begins, and the value's length as declared, which may be undefined."""

NO_ELEMENT = -1
"""The tag where there is no element before the end."""

ReadAt = Callable[[int, int], bytes]
"""Reads a file: given how many bytes at most and from where, as `os.pread` of an open file is."""

Span = tuple[int, int, int, int]
"""An element's tag, where it begins, where its value does, and where that ends."""

Take = Callable[["HeaderStream", Element, int], int]
"""What is done with an element, given the end of what holds it; returns where the value ends."""

Item = tuple[int, int, bool, int]
"""An item of a sequence (PS3.5 7.5): where its elements begin, where they end (or must, at the
latest), whether a delimiter ends it, and its depth of nesting."""

Visit = Callable[["HeaderStream", Item], int]
"""What is done with an item; returns where it ends."""


class HeaderStream:
    """A file's bytes, one stretch of them in memory at a time, and their encoding.

    Parameters
    ----------
    read : ReadAt
        Reads the file.
    size : int
        Of the file.
    data : bytes
        A stretch of it.
    start : int
        Where that begins.

    Attributes
    ----------
    explicit : bool
        Whether elements carry their VR.
    """

    __slots__ = ("_ahead", "_data", "_read", "_ready", "_start", "explicit", "size")

    def __init__(self, read: ReadAt, size: int, data: bytes, start: int = 0) -> None:
        if size > UNDEFINED_LENGTH:
            # An undefined length might be a length.
            raise FallBackToPydicom("a file of more than 4 GB")
        self._read = read
        self.size = size
        self.explicit = True
        self._start = start
        self._data = data
        self._ready = len(data) - 12
        self._ahead = FIRST_READ

    def seek(
        self,
        pos: int,
        end: int,
        last: int,
        wanted: Container[int],
        passed: list[Span] | None = None,
    ) -> Element:
        """Jump to the next element that is wanted, is of undefined length, or is a delimiter.

        Parameters
        ----------
        pos, end : int
            Where an element begins, and where the last one must end.
        last : int
            The tag before, which the next must exceed (PS3.5 7.1).
        wanted : container of int
            Tags.
        passed : list of tuple, optional
            Where to note the elements that are jumped over.

        Returns
        -------
        Element
            `NO_ELEMENT` where there is none before the end. Whether the element itself ends
            before that is not checked.
        """
        # Locals, as this loop is where the time goes.
        explicit, data, start, ready = self.explicit, self._data, self._start, self._ready
        while pos < end:
            at = pos - start
            if not 0 <= at <= ready:
                at = self._fetch(pos)
                data, start, ready = self._data, self._start, self._ready
            if explicit:
                group, element, vr, length = _EXPLICIT(data, at)
                value = pos + 8
                if vr not in SHORT_VRS:
                    value, length = self._long(group, vr, length, pos, at)
            else:
                group, element, length = _IMPLICIT(data, at)
                vr, value = None, pos + 8
            tag = group << 16 | element
            if tag <= last:
                raise FallBackToPydicom("tags out of order")
            if tag in wanted or tag >= _DELIMITERS:
                return tag, vr, pos, value, length
            after = value + length
            if after > end:
                if length == UNDEFINED_LENGTH:
                    return tag, vr, pos, value, length
                raise FallBackToPydicom("an element longer than what holds it")
            if passed is not None:
                passed.append((tag, pos, value, after))
            last, pos = tag, after
        return NO_ELEMENT, None, pos, pos, 0

    def _long(self, group: int, vr: bytes, length: int, pos: int, at: int) -> tuple[int, int]:
        """Return where the value begins and its length, for 32 bits of length."""
        if group == _DELIMITERS >> 16:
            return pos + 8, _LENGTH(self._data, at + 4)[0]
        if vr not in LONG_VRS or length:
            raise FallBackToPydicom(f"VR {vr!r}")
        return pos + 12, _LENGTH(self._data, at + 8)[0]

    def item(self, pos: int) -> tuple[int, int]:
        """Return the tag and length of an item or delimiter (PS3.5 7.5)."""
        at = pos - self._start
        if not 0 <= at <= self._ready:
            at = self._fetch(pos)
        group, element, length = _IMPLICIT(self._data, at)
        return group << 16 | element, length

    def value(self, pos: int, length: int) -> bytes:
        """Return the bytes of a value that is known to lie within the file."""
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
        """Return the bytes up to a position, None if those are many, or not there."""
        if end > _LONGEST_READ:
            return None
        data = self.held(0, end) or self._read(end, 0)
        return data if len(data) == end else None

    def _fetch(self, pos: int) -> int:
        # What lies close behind is read in growing strides, what is jumped to in small ones.
        near = -self._ahead < pos - self._start - len(self._data) < self._ahead
        self._ahead = min(2 * self._ahead, _LONGEST_READ) if near else FIRST_READ
        data = self._read(self._ahead, pos)
        if len(data) < 8:
            raise FallBackToPydicom("the file ends")
        # A last element without value has 8 bytes, and 12 are looked at. Whoever takes a value
        # has made sure that it ends within the file.
        self._data = data if len(data) >= 12 else data + _PADDING
        self._start = pos
        self._ready = len(self._data) - 12
        return 0


def skip_sequence(stream: HeaderStream, element: Element, end: int, depth: int = 0) -> int:
    """Return where a sequence of undefined length ends that is not wanted.

    Raises
    ------
    FallBackToPydicom
        It does not end before `end`, or is no sequence.
    """
    tag, vr, _, value, length = element
    undefined = length == UNDEFINED_LENGTH and tag < _DELIMITERS
    if not undefined or depth >= _MAX_DEPTH or not _is_sequence(stream, tag, vr, value):
        raise FallBackToPydicom("undefined length")
    return walk_items(stream, element, end, skip_item, depth + 1)


def walk_items(stream: HeaderStream, sequence: Element, end: int, visit: Visit, depth: int) -> int:
    """Visit each item of a sequence and return where the sequence ends (PS3.5 7.5).

    Parameters
    ----------
    stream : HeaderStream
        The file.
    sequence : Element
        Its length may be undefined.
    end : int
        Where at the latest it must end.
    visit : callable
        What is done with an item.
    depth : int
        Of nesting, of the items.

    Raises
    ------
    FallBackToPydicom
        It does not end where it should, or holds anything but items.
    """
    _, _, _, pos, length = sequence
    delimited = length == UNDEFINED_LENGTH
    if not delimited:
        if pos + length > end:
            raise FallBackToPydicom("a sequence longer than what holds it")
        end = pos + length
    count = 0
    while delimited or pos < end:
        if pos + 8 > end or count > MAX_FRAMES:
            raise FallBackToPydicom("a sequence without end")
        tag, item_length = stream.item(pos)
        pos += 8
        if tag == _ITEM and item_length == UNDEFINED_LENGTH:
            pos = visit(stream, (pos, end, True, depth))
        elif tag == _ITEM and pos + item_length <= end:
            pos = visit(stream, (pos, pos + item_length, False, depth))
        elif tag == _SEQUENCE_END and delimited and not item_length:
            return pos
        else:
            raise FallBackToPydicom("no item of a sequence")
        count += 1
    return pos


def walk_item(stream: HeaderStream, item: Item, takes: Mapping[int, Take]) -> int:
    """Walk the elements of an item and return where it ends.

    Parameters
    ----------
    stream : HeaderStream
        The file.
    item : Item
        Where in it.
    takes : mapping of int to callable
        What is done with which element. `IN_ANY_ITEM` must be among them.

    Raises
    ------
    FallBackToPydicom
        It does not end where it should, or its elements are not in order.
    """
    pos, end, delimited, depth = item
    last = NO_ELEMENT
    while True:
        element = stream.seek(pos, end, last, takes)
        last, _, _, value, length = element
        if last in takes:
            pos = takes[last](stream, element, end)
        elif last == NO_ELEMENT and not delimited:
            return end
        elif last == _ITEM_END and delimited and not length:
            return value
        elif NO_ELEMENT < last < _DELIMITERS:
            pos = skip_sequence(stream, element, end, depth)
        else:
            raise FallBackToPydicom("an item that does not end where it should")


def skip_item(stream: HeaderStream, item: Item) -> int:
    """Walk an item without taking anything from it, and return where it ends."""
    return walk_item(stream, item, IN_ANY_ITEM)


def character_set(stream: HeaderStream, element: Element, end: int) -> bytes:
    """Return the value of SpecificCharacterSet."""
    _, vr, _, value, length = element
    if vr not in (None, b"CS") or value + length > end:
        raise FallBackToPydicom(f"character set as {vr!r} of {length} bytes")
    return stream.value(value, length)


def _check_character_set(stream: HeaderStream, element: Element, end: int) -> int:
    # Text in items is taken as ASCII whatever the set; only an unknown one is in doubt.
    encoding_of(character_set(stream, element, end))
    return element[3] + element[4]


IN_ANY_ITEM: Mapping[int, Take] = {SPECIFIC_CHARACTER_SET: _check_character_set}


def _is_sequence(stream: HeaderStream, tag: int, vr: bytes | None, value: int) -> bool:
    if vr is not None:
        return vr == b"SQ"
    if tag >> 16 & 1:
        # What a private element is, Implicit VR does not say; but only a sequence has items.
        return stream.item(value)[0] == _ITEM
    return _dictionary_says_sequence(tag)


@lru_cache(maxsize=1024)
def _dictionary_says_sequence(tag: int) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False
