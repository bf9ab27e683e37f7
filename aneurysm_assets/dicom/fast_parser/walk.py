"""Reads a header by going from element to element (PS3.5 section 7), without pydicom.

Only values that are needed are decoded. The walk never guesses: where no strict rule applies, it
raises `FallBackToPydicom`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from aneurysm_assets.dicom.attributes import (
    ATTRIBUTES,
    PER_FRAME,
    PIXEL_DATA_BITS,
    SHARED,
    SLOTS,
    VRS,
    Value,
    tag_of,
)
from aneurysm_assets.dicom.fast_parser.elements import (
    NO_ELEMENT,
    SPECIFIC_CHARACTER_SET,
    UNDEFINED_LENGTH,
    Element,
    HeaderStream,
    Span,
    character_set,
    skip_sequence,
)
from aneurysm_assets.dicom.fast_parser.functional_groups import Found, GroupReader, images
from aneurysm_assets.dicom.fast_parser.values import (
    LATIN_1,
    Decoder,
    FallBackToPydicom,
    encoding_of,
)
from aneurysm_assets.dicom.header import ROW, PixelData, needed_bytes

PREAMBLE = 132
"""Bytes before the first element: 128 of anything, and `DICM` (PS3.10 section 7.1)."""

LAST_OF_META = 0x0002FFFF

_IMPLICIT_VR = "1.2.840.10008.1.2"

_EXPLICIT_VR = frozenset(
    ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"]
    + [
        f"1.2.840.10008.1.2.4.{number}"
        for number in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93, 201, 202, 203)
    ]
    + [f"1.2.840.10008.1.2.4.{number}{tail}" for number in range(100, 107) for tail in ("", ".1")]
    + ["1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108"]
)
"""The transfer syntaxes in Explicit VR Little Endian (PS3.6 Table A-1) whose files hold pixels.
Big endian and deflated ones are left to pydicom."""

_TRANSFER_SYNTAX = SLOTS["TransferSyntaxUID"]
_IN_META: Mapping[int, int] = {ATTRIBUTES[_TRANSFER_SYNTAX].tag: _TRANSFER_SYNTAX}
_AT_TOP: Mapping[int, int] = {
    attribute.tag: slot
    for slot, attribute in enumerate(ATTRIBUTES)
    if attribute.tag not in _IN_META
}

_META_LENGTH = 0x00020000
_PER_FRAME, _SHARED = tag_of(PER_FRAME), tag_of(SHARED)
_STOPS = frozenset((*_AT_TOP, *PIXEL_DATA_BITS, _PER_FRAME, _SHARED, SPECIFIC_CHARACTER_SET))
_ANY = range(1 << 32)
_PIXEL_VRS = {0x7FE00008: (b"OF",), 0x7FE00009: (b"OD",), 0x7FE00010: (b"OB", b"OW")}


class Walked(NamedTuple):
    """What the walk found in one file.

    Attributes
    ----------
    rows : list of list
        One list per image: the values that `header.ROW` names.
    pixel_data : {"whole", "cut", "none"}
        As in `Header`.
    size : int
        Bytes of the file.
    """

    rows: list[list[Value]]
    pixel_data: PixelData
    size: int


class Walker:
    """Walks the files of a series and decodes each different value once."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self._groups = GroupReader()

    def walk(self, stream: HeaderStream, spans: list[Span] | None = None) -> Walked:
        """Walk a header to its pixel data, or to the end of the file.

        Parameters
        ----------
        stream : HeaderStream
            The file.
        spans : list of Span, optional
            Receives the elements of the top level; the pixel data or `NO_ELEMENT` last.

        Returns
        -------
        Walked
            Its values.

        Raises
        ------
        FallBackToPydicom
            The header or a value does not follow PS3.5 and PS3.10.
        """
        top: list[Value] = [None] * len(ATTRIBUTES)
        pos = self._walk_meta(stream, top, spans)
        return self._walk_data_set(stream, pos, top, spans)

    def _walk_meta(self, stream: HeaderStream, top: list[Value], spans: list[Span] | None) -> int:
        """Walk the file meta information (PS3.10 7.1), always in Explicit VR; return its end."""
        if stream.value(0, PREAMBLE)[-4:] != b"DICM":
            raise FallBackToPydicom("no preamble")
        pos, last = PREAMBLE, NO_ELEMENT
        while stream.item_header(pos)[0] <= LAST_OF_META:
            element = stream.seek(pos, pos + 1, last, _ANY)
            tag, vr, start, value, length = element
            if last == NO_ELEMENT and (tag, vr, length) != (_META_LENGTH, b"UL", 4):
                raise FallBackToPydicom("no length of the file meta information")
            pos, last = _end_of(stream, element), tag
            if tag in _IN_META:
                slot = _IN_META[tag]
                top[slot] = self._value(stream, slot, element, LATIN_1)
            if spans is not None:
                spans.append((tag, start, value, pos))
        syntax = top[_TRANSFER_SYNTAX]
        if syntax != _IMPLICIT_VR and syntax not in _EXPLICIT_VR:
            raise FallBackToPydicom(f"transfer syntax {syntax}")
        stream.explicit = syntax != _IMPLICIT_VR
        return pos

    def _walk_data_set(
        self, stream: HeaderStream, pos: int, top: list[Value], spans: list[Span] | None
    ) -> Walked:
        groups: dict[int, list[Found]] = {_PER_FRAME: [], _SHARED: []}
        encoding, size, last = LATIN_1, stream.size, LAST_OF_META
        if not stream.explicit:
            _require_implicit(stream, pos)
        while True:
            element = stream.seek(pos, size, last, _STOPS, spans)
            last, _, start, value, length = element
            pos = value + length
            if last in _AT_TOP:
                slot = _AT_TOP[last]
                top[slot] = self._value(stream, slot, element, encoding)
            elif last in groups:
                groups[last], pos = self._groups.read(stream, element, size)
            elif last == SPECIFIC_CHARACTER_SET:
                encoding = encoding_of(character_set(stream, element, size))
            elif last == NO_ELEMENT or last in PIXEL_DATA_BITS:
                rows = images(top, groups[_PER_FRAME], groups[_SHARED], size)
                if spans is not None:
                    spans.append((last, start, value, size))
                return Walked(rows, pixel_data(rows, element, size), size)
            else:
                pos = skip_sequence(stream, element, size)
            if spans is not None:
                spans.append((last, start, value, pos))

    def _value(self, stream: HeaderStream, slot: int, element: Element, encoding: str) -> Value:
        _, vr, _, value, length = element
        if (vr is not None and vr != VRS[slot]) or value + length > stream.size:
            raise FallBackToPydicom(f"{ATTRIBUTES[slot].name} as {vr!r} of {length} bytes")
        return self.decoder.decode(slot, stream.value(value, length), encoding)


def _end_of(stream: HeaderStream, element: Element) -> int:
    _, _, _, value, length = element
    if length == UNDEFINED_LENGTH or value + length > stream.size:
        raise FallBackToPydicom("an element longer than the file")
    return value + length


def pixel_data(rows: list[list[Value]], element: Element, size: int) -> PixelData:
    """Tell whether the file holds as many bytes as it announces.

    Parameters
    ----------
    rows : list of list
        One list per image: the values that `header.ROW` names.
    element : Element
        The pixel data; its tag is `NO_ELEMENT` where there is none.
    size : int
        Bytes of the file.

    Raises
    ------
    FallBackToPydicom
        The VR is not one for pixel data (PS3.5 section 8), or the length is odd.
    """
    tag, vr, _, value, length = element
    if tag == NO_ELEMENT:
        return "none"
    if vr is not None and vr not in _PIXEL_VRS[tag]:
        raise FallBackToPydicom(f"pixel data as {vr!r}")
    if length == UNDEFINED_LENGTH:
        return "whole"
    remaining = size - value
    if remaining < 0 or length % 2:
        raise FallBackToPydicom("pixel data of odd length")
    if remaining >= length:
        return "whole"
    values = dict(zip(ROW, rows[0], strict=True))
    needed = needed_bytes(values, len(rows), PIXEL_DATA_BITS[tag])
    return "whole" if remaining >= needed else "cut"


def _require_implicit(stream: HeaderStream, pos: int) -> None:
    """Refuse a data set that begins like one in Explicit VR, because pydicom reads it as that."""
    if stream.value(pos + 4, 2).isalpha():
        raise FallBackToPydicom("Explicit VR in a transfer syntax of Implicit VR")
