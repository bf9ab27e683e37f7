"""What the headers of a series have in common, so that only the rest is looked at.

Most bytes of a series' headers are the same in file after file. A template holds them as stretches
to compare, and between them the elements whose values differ. A file fits only if every byte of
every stretch is there, at the place to which the lengths in this very file lead: then the walk
would have gone the same way, from the same element headers, and the values within the stretches
are the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from aneurysm_assets.dicom.attributes import (
    GEOMETRY,
    PER_FRAME,
    SHARED,
    SLOT_OF_TAG,
    SLOTS,
    Value,
    tag_of,
)
from aneurysm_assets.dicom.fast_parser.elements import (
    NO_ELEMENT,
    SPECIFIC_CHARACTER_SET,
    UNDEFINED_LENGTH,
    HeaderStream,
    ReadAt,
    Span,
    skip_item,
    walk_items,
)
from aneurysm_assets.dicom.fast_parser.values import LATIN_1, Decoder, encoding_of
from aneurysm_assets.dicom.fast_parser.walk import LAST_OF_META, Walked, pixel_data
from aneurysm_assets.dicom.header import GEOMETRY_SOURCE, PLACES
from aneurysm_assets.storage.read_ahead import FIRST_READ

_COMPARED = 256
"""Bytes of the longest value that is compared, and not jumped over."""

_PARTS = 256
"""Parts of the longest stretch: what is compared must be in memory."""

_DECISIVE = frozenset(map(tag_of, ("SpecificCharacterSet", "TransferSyntaxUID", "NumberOfFrames")))
"""Elements that say how to read others: files in which they differ have different templates."""

_OF_THE_IMAGE = frozenset(
    map(
        tag_of,
        (
            "MediaStorageSOPInstanceUID",
            "InstanceCreationTime",
            "SOPInstanceUID",
            "AcquisitionTime",
            "ContentTime",
            "InstanceNumber",
            "ImagePositionPatient",
            "SliceLocation",
            "SmallestImagePixelValue",
            "LargestImagePixelValue",
            "WindowCenter",
            "WindowWidth",
        ),
    )
)
"""Elements that differ in nearly every series: expected to before a second file has shown it."""

_GEOMETRY_SLOTS = tuple(SLOTS[name] for name in GEOMETRY)

_PADDING = bytes(12)
_PREAMBLE = 128
_UNDEFINED = b"\xff\xff\xff\xff"
_FUNCTIONAL_GROUPS = frozenset((tag_of(PER_FRAME), tag_of(SHARED)))

_LENGTH = Struct("<I").unpack_from

# What follows a stretch.
_FIXED, _NESTED, _END = 0, 1, 3
_SHORT, _LONG = 2, 4


Piece = tuple[int, bytes, bytes | None]
"""An element of a template: its tag, its bytes up to the value, and the value with its delimiter if
it has one, None where that differs from file to file."""


class Step(NamedTuple):
    """A stretch of bytes to compare, and what follows it.

    Attributes
    ----------
    stretch : bytes
        Up to the length field of an element whose value differs.
    size : int
        Of the stretch.
    kind : int
        What follows: a length of 2 or 4 bytes and a value, a value of fixed length, items up to
        a delimiter, or the end: the length of the pixel data, or nothing.
    argument : int
        The slot of the value or -1; for a fixed length that.
    """

    stretch: bytes
    size: int
    kind: int
    argument: int


class Template:
    """What the headers of some files of a series have in common.

    Parameters
    ----------
    pieces : sequence of Piece
        The elements of the top level up to the pixel data.
    pixels : Piece
        The pixel data, its length cut off; without a tag where there are none.
    explicit : bool
        Whether elements carry their VR.
    encoding : str
        Of text.
    row : list
        The values in one of the files.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        pixels: Piece,
        explicit: bool,
        encoding: str,
        row: list[Value],
    ) -> None:
        self._pieces = pieces
        self._pixels = pixels
        self._explicit = explicit
        self._encoding = encoding
        self._row = row
        self._steps = tuple(_steps(pieces, pixels, explicit))
        differing = {SLOT_OF_TAG.get(tag) for tag, _, body in pieces if body is None}
        same = (row[slot] for slot in _GEOMETRY_SLOTS if slot not in differing)
        settled = any(value is not None for value in same)
        self._geometry = () if settled else tuple(s for s in _GEOMETRY_SLOTS if s in differing)

    def joined(self, other: "Template") -> "Template | None":
        """Return the template that fits whatever either fits, None where there is no such."""
        if (self._pixels, len(self._pieces)) != (other._pixels, len(other._pieces)):
            return None
        decisive = _decisive((piece[0] for piece in self._pieces), self._explicit)
        pieces = []
        for mine, theirs in zip(self._pieces, other._pieces, strict=True):
            if mine == theirs:
                pieces.append(mine)
            elif mine[0] not in decisive and _is_alike(mine, theirs, self._explicit):
                pieces.append((mine[0], mine[1], None))
            else:
                return None
        return Template(pieces, self._pixels, self._explicit, self._encoding, other._row)

    def match(self, read: ReadAt, size: int, data: bytes, decoder: Decoder) -> Walked | None:
        """Return what the walk would find in a file, None if the file does not fit.

        Parameters
        ----------
        read, size, data
            What reads the file, its size and how it begins.
        decoder : Decoder
            For the values that differ.

        Raises
        ------
        FallBackToPydicom
            A value is not what its VR allows.
        """
        row = self._row.copy()
        start, pos, held = 0, _PREAMBLE, len(data)
        for stretch, span, kind, argument in self._steps:
            if pos + span + 4 > held:
                start += pos
                data = _read_on(read, start, FIRST_READ + span)
                pos, held = 0, len(data)
            if not data.startswith(stretch, pos):
                return None
            pos += span
            if kind == _SHORT:
                length = data[pos] | data[pos + 1] << 8
                pos += 2
            elif kind == _LONG:
                length = _LENGTH(data, pos)[0]
                pos += 4
            elif kind == _END:
                break
            else:
                stream = HeaderStream(read, size, data, start)
                pos = self._pass(stream, start + pos, kind, argument) - start
                continue
            if argument >= 0:
                raw = data[pos : pos + length]
                if len(raw) < length:
                    raw = HeaderStream(read, size, data, start).value(start + pos, length)
                row[argument] = decoder.decode(argument, raw, self._encoding)
            pos += length
        return self._end(row, data, start, pos, size)

    def _pass(self, stream: HeaderStream, pos: int, kind: int, length: int) -> int:
        """Return the end of a value that has a fixed length, or a delimiter."""
        if kind == _FIXED:
            return pos + length
        stream.explicit = self._explicit
        sequence = (0, None, pos, pos, UNDEFINED_LENGTH)
        return walk_items(stream, sequence, stream.size, skip_item, 1)

    def _end(self, row: list[Value], data: bytes, start: int, pos: int, size: int) -> Walked | None:
        """Return what has been found, given where the pixel data's length is, or the file's end."""
        if self._geometry:
            found = any(row[slot] is not None for slot in self._geometry)
            row[GEOMETRY_SOURCE] = PLACES[-1] if found else None
        tag, head, _ = self._pixels
        place = start + pos
        if tag == NO_ELEMENT:
            return Walked([row], "none", size) if place == size else None
        vr = head[4:6] if self._explicit else None
        pixels = (tag, vr, place, place + 4, _LENGTH(data, pos)[0])
        return Walked([row], pixel_data([row], pixels, size), size)


def _read_on(read: ReadAt, start: int, length: int) -> bytes:
    data = read(length, start)
    # Behind the end of the file stand zeros, which begin no element: a length that is not there
    # can be looked at, and what it leads to fits no stretch.
    return data if len(data) == length else data + _PADDING


def learn(stream: HeaderStream, passed: Sequence[Span], walked: Walked) -> Template | None:
    """Return the template of a file that has been walked.

    Parameters
    ----------
    stream : HeaderStream
        The file.
    passed, walked
        What the walk noted and found.

    Returns
    -------
    Template or None
        None for a multi-frame file, whose groups have no fixed places, and for a very long header.
    """
    tags = [span[0] for span in passed]
    if len(walked.rows) > 1 or not _FUNCTIONAL_GROUPS.isdisjoint(tags):
        return None
    tag, start, value, _ = passed[-1]
    data = stream.beginning(value)
    if data is None:
        return None
    pixels: Piece = (tag, data[start : value - 4] if tag != NO_ELEMENT else b"", None)
    decisive = _decisive(tags, stream.explicit)
    expected = _OF_THE_IMAGE - decisive
    encoding = LATIN_1
    pieces: list[Piece] = []
    for tag, start, value, end in passed[:-1]:
        body = None
        if end - value <= _COMPARED and tag not in expected:
            body = data[value:end]
        elif tag in decisive:
            return None
        if tag == SPECIFIC_CHARACTER_SET:
            encoding = encoding_of(data[value:end])
        pieces.append((tag, data[start:value], body))
    return Template(pieces, pixels, stream.explicit, encoding, walked.rows[0].copy())


def _decisive(tags: Iterable[int], explicit: bool) -> frozenset[int]:
    """Return the tags whose values must be the same in all files of a template."""
    first = next((tag for tag in tags if tag > LAST_OF_META), NO_ELEMENT)
    if explicit or not first & 0xFFFF:
        return _DECISIVE
    # In Implicit VR the length of the first element has a say in how pydicom reads the file.
    return _DECISIVE | {first}


def _is_alike(mine: Piece, theirs: Piece, explicit: bool) -> bool:
    """Tell whether two elements differ in nothing but their value and, if it may, its length."""
    kind = _kind_of(mine, explicit)
    if kind != _kind_of(theirs, explicit):
        return False
    if kind in (_SHORT, _LONG):
        return mine[1][:-kind] == theirs[1][:-kind]
    return mine[1] == theirs[1]


def _kind_of(piece: Piece, explicit: bool) -> int:
    """Return what follows the bytes of an element that are compared when its value is not."""
    tag, head, _ = piece
    long = _is_long(piece, explicit)
    if long and head.endswith(_UNDEFINED):
        return _NESTED
    # Group lengths (PS3.5 7.2) are of 4 bytes, or not what they seem.
    if not tag & 0xFFFF:
        return _FIXED
    return _LONG if long else _SHORT


def _is_long(piece: Piece, explicit: bool) -> bool:
    """Tell whether the length of an element has 32 bits, and not 16 (PS3.5 7.1.2, 7.1.3)."""
    tag, head, _ = piece
    return len(head) == 12 or (tag > LAST_OF_META and not explicit)


def _steps(pieces: Sequence[Piece], pixels: Piece, explicit: bool) -> Iterator[Step]:
    stretch = [b"DICM"]

    def step(kind: int, argument: int) -> Step:
        joined = b"".join(stretch)
        stretch.clear()
        return Step(joined, len(joined), kind, argument)

    for piece in pieces:
        tag, head, body = piece
        if body is not None:
            stretch += (head, body)
            if len(stretch) > _PARTS:
                yield step(_FIXED, 0)
            continue
        kind = _kind_of(piece, explicit)
        argument = SLOT_OF_TAG.get(tag, -1)
        if kind in (_SHORT, _LONG):
            head = head[:-kind]
        elif kind == _FIXED:
            length = head[-4:] if _is_long(piece, explicit) else head[-2:]
            argument = int.from_bytes(length, "little")
        stretch.append(head)
        yield step(kind, argument)
    stretch.append(pixels[1])
    yield step(_END, -1)
