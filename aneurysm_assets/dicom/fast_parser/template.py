"""What the headers of a series have in common, so that a reader looks only at what differs.

A template holds stretches of bytes to compare, and between them the elements whose values differ.
README.md beside this module shows one in bytes, and why a match equals a walk.
"""

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from aneurysm_assets.dicom.attributes import (
    BOUND_SLOTS,
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
from aneurysm_assets.dicom.fast_parser.functional_groups import require_within_bounds
from aneurysm_assets.dicom.fast_parser.values import LATIN_1, Decoder, encoding_of
from aneurysm_assets.dicom.fast_parser.walk import LAST_OF_META, Walked, pixel_data
from aneurysm_assets.dicom.header import GEOMETRY_SOURCE, PLACES
from aneurysm_assets.storage.read_ahead import FIRST_READ

_COMPARED = 256
"""Bytes of the longest value that is compared; a longer one is jumped over."""

_PARTS = 256
"""Parts of the longest stretch, which is compared as a whole and so must be in memory."""

_DECISIVE = frozenset(map(tag_of, ("SpecificCharacterSet", "TransferSyntaxUID", "NumberOfFrames")))
"""Elements that say how others are read: files that differ in one have different templates."""

_DIFFERENT_PER_IMAGE = frozenset(
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
"""Elements that differ between the images of most series: never compared."""

_GEOMETRY_SLOTS = tuple(SLOTS[name] for name in GEOMETRY)

_PADDING = bytes(12)
_PREAMBLE = 128
_UNDEFINED = b"\xff\xff\xff\xff"
_FUNCTIONAL_GROUPS = frozenset((tag_of(PER_FRAME), tag_of(SHARED)))

_LENGTH = Struct("<I").unpack_from

FIXED_LENGTH, DELIMITED, LENGTH_16, LENGTH_32, END = 0, 1, 2, 4, 3
"""What follows a stretch: a value whose length the template knows, items up to a delimiter, a
length of 16 or of 32 bits (2 or 4 bytes) and the value, or the end of the header."""


Piece = tuple[int, bytes, bytes | None]
"""An element of a template: its tag, its bytes up to the value, and the value with its delimiter if
it has one. The value is None where it differs from file to file."""


class Step(NamedTuple):
    """A stretch of bytes to compare, and what follows it.

    Attributes
    ----------
    stretch : bytes
        All bytes up to the length (or, for `FIXED_LENGTH`, the value) of an element that differs.
    size : int
        Bytes of the stretch.
    follows : int
        `FIXED_LENGTH`, `DELIMITED`, `LENGTH_16`, `LENGTH_32` or `END`. At the end stands the
        length of the pixel data, or nothing.
    argument : int
        For `FIXED_LENGTH` the bytes of the value; otherwise the slot of the value, -1 if nobody
        wants it.
    """

    stretch: bytes
    size: int
    follows: int
    argument: int


class Template:
    """What the headers of some files of a series have in common.

    Parameters
    ----------
    pieces : sequence of Piece
        The elements of the top level up to the pixel data.
    pixels : Piece
        The pixel data without its length; its tag is `NO_ELEMENT` where there is none.
    explicit : bool
        Whether elements carry their VR.
    encoding : str
        The encoding of text.
    row : list
        The values of one of the files, in the order of `header.ROW`.

    Attributes
    ----------
    steps : tuple of Step
        What `match` does, in order.
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
        self.steps = tuple(_steps(pieces, pixels, explicit))
        differing = {SLOT_OF_TAG.get(tag) for tag, _, body in pieces if body is None}
        same = (row[slot] for slot in _GEOMETRY_SLOTS if slot not in differing)
        is_settled = any(value is not None for value in same)
        self._bounds_differ = not BOUND_SLOTS.isdisjoint(differing)
        self._geometry = () if is_settled else tuple(s for s in _GEOMETRY_SLOTS if s in differing)

    def joined(self, other: "Template") -> "Template | None":
        """Return the template for the files of both, None if they differ in more than values.

        An element that differs between the two is no longer compared.
        """
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

        Per step: compare a stretch, take the length of what follows from the file itself, decode
        the value if it is wanted, and go on behind it.

        Parameters
        ----------
        read : ReadAt
            Reads the file.
        size : int
            Bytes of the file.
        data : bytes
            How the file begins.
        decoder : Decoder
            Decodes the values that differ.

        Raises
        ------
        FallBackToPydicom
            A value is not what its VR allows.
        """
        row = self._row.copy()
        # `data` begins at `start` in the file; `at` is a position in `data`.
        start, at, held = 0, _PREAMBLE, len(data)
        for stretch, stretch_size, follows, argument in self.steps:
            if at + stretch_size + 4 > held:
                start += at
                data = _read_on(read, start, FIRST_READ + stretch_size)
                at, held = 0, len(data)
            if not data.startswith(stretch, at):
                return None
            at += stretch_size
            if follows == LENGTH_16:
                length = data[at] | data[at + 1] << 8
                at += 2
            elif follows == LENGTH_32:
                length = _LENGTH(data, at)[0]
                at += 4
            elif follows == END:
                break
            else:
                stream = HeaderStream(read, size, data, start)
                at = self._end_of_value(stream, start + at, follows, argument) - start
                continue
            if argument >= 0:
                raw = data[at : at + length]
                if len(raw) < length:
                    raw = HeaderStream(read, size, data, start).value(start + at, length)
                row[argument] = decoder.decode(argument, raw, self._encoding)
            at += length
        return self._finish(row, data, start, at, size)

    def _end_of_value(self, stream: HeaderStream, pos: int, follows: int, length: int) -> int:
        """Return the end of a value that has a fixed length, or a delimiter."""
        if follows == FIXED_LENGTH:
            return pos + length
        stream.explicit = self._explicit
        sequence = (0, None, pos, pos, UNDEFINED_LENGTH)
        return walk_items(stream, sequence, stream.size, skip_item, 1)

    def _finish(
        self, row: list[Value], data: bytes, start: int, at: int, size: int
    ) -> Walked | None:
        """Complete the row where all stretches fit; the length of the pixel data is at `at`."""
        if self._geometry:
            found = any(row[slot] is not None for slot in self._geometry)
            row[GEOMETRY_SOURCE] = PLACES[-1] if found else None
        if self._bounds_differ:
            require_within_bounds(row)
        tag, head, _ = self._pixels
        place = start + at
        if tag == NO_ELEMENT:
            return Walked([row], "none", size) if place == size else None
        vr = head[4:6] if self._explicit else None
        pixels = (tag, vr, place, place + 4, _LENGTH(data, at)[0])
        return Walked([row], pixel_data([row], pixels, size), size)


def _read_on(read: ReadAt, start: int, length: int) -> bytes:
    data = read(length, start)
    # Zeros behind the end of the file begin no element: `match` may read a length from them, but
    # what that leads to fits no stretch.
    return data if len(data) == length else data + _PADDING


def learn(stream: HeaderStream, spans: Sequence[Span], walked: Walked) -> Template | None:
    """Return the template of a file that has been walked.

    Parameters
    ----------
    stream : HeaderStream
        The file.
    spans : sequence of Span
        The elements of the top level; the pixel data or `NO_ELEMENT` last.
    walked : Walked
        What the walk found.

    Returns
    -------
    Template or None
        None for a multi-frame file, whose groups have no fixed places; for a very long header;
        and where an element that says how others are read is too long to compare.
    """
    tags = [span[0] for span in spans]
    if len(walked.rows) > 1 or not _FUNCTIONAL_GROUPS.isdisjoint(tags):
        return None
    last_tag, start, value, _ = spans[-1]
    data = stream.beginning(value)
    if data is None:
        return None
    pixels: Piece = (last_tag, data[start : value - 4] if last_tag != NO_ELEMENT else b"", None)
    decisive = _decisive(tags, stream.explicit)
    pieces = [_piece(data, span, decisive) for span in spans[:-1]]
    if any(tag in decisive and body is None for tag, _, body in pieces):
        return None
    encoding = LATIN_1
    for tag, _, value, end in spans:
        if tag == SPECIFIC_CHARACTER_SET:
            encoding = encoding_of(data[value:end])
    return Template(pieces, pixels, stream.explicit, encoding, walked.rows[0].copy())


def _piece(data: bytes, span: Span, decisive: frozenset[int]) -> Piece:
    """Return an element with its value, or without if files are expected to differ in it."""
    tag, start, value, end = span
    differs = tag in _DIFFERENT_PER_IMAGE and tag not in decisive
    body = None if differs or end - value > _COMPARED else data[value:end]
    return tag, data[start:value], body


def _decisive(tags: Iterable[int], explicit: bool) -> frozenset[int]:
    """Return the tags whose values must be the same in all files of a template."""
    first = next((tag for tag in tags if tag > LAST_OF_META), NO_ELEMENT)
    if explicit or not first & 0xFFFF:
        return _DECISIVE
    # In Implicit VR pydicom judges by the first length whether elements carry a VR after all.
    return _DECISIVE | {first}


def _is_alike(mine: Piece, theirs: Piece, explicit: bool) -> bool:
    """Tell whether two elements differ only in their value and, if a length is read, its length."""
    follows = _what_follows(mine, explicit)
    if follows != _what_follows(theirs, explicit):
        return False
    if follows in (LENGTH_16, LENGTH_32):
        return mine[1][:-follows] == theirs[1][:-follows]
    return mine[1] == theirs[1]


def _what_follows(piece: Piece, explicit: bool) -> int:
    """Return what follows the bytes of an element that are compared when its value is not."""
    tag, head, _ = piece
    long = _is_long(piece, explicit)
    if long and head.endswith(_UNDEFINED):
        return DELIMITED
    # A group length (PS3.5 7.2) has 4 bytes in every file.
    if not tag & 0xFFFF:
        return FIXED_LENGTH
    return LENGTH_32 if long else LENGTH_16


def _is_long(piece: Piece, explicit: bool) -> bool:
    """Tell whether the length of an element has 32 bits rather than 16 (PS3.5 7.1.2, 7.1.3)."""
    tag, head, _ = piece
    return len(head) == 12 or (tag > LAST_OF_META and not explicit)


def _steps(pieces: Sequence[Piece], pixels: Piece, explicit: bool) -> Iterator[Step]:
    """Join what is compared to stretches that end where a value differs."""
    stretch = [b"DICM"]

    def step(follows: int, argument: int) -> Step:
        joined = b"".join(stretch)
        stretch.clear()
        return Step(joined, len(joined), follows, argument)

    for piece in pieces:
        tag, head, body = piece
        if body is not None:
            stretch += (head, body)
            if len(stretch) > _PARTS:
                yield step(FIXED_LENGTH, 0)
            continue
        follows = _what_follows(piece, explicit)
        argument = SLOT_OF_TAG.get(tag, -1)
        if follows in (LENGTH_16, LENGTH_32):
            head = head[:-follows]
        elif follows == FIXED_LENGTH:
            length = head[-4:] if _is_long(piece, explicit) else head[-2:]
            argument = int.from_bytes(length, "little")
        stretch.append(head)
        yield step(follows, argument)
    stretch.append(pixels[1])
    yield step(END, -1)
