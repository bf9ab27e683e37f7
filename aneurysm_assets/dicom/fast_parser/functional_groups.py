"""Reads the functional groups of a multi-frame file (PS3.3 C.7.6.16): the values of each frame."""

from collections.abc import Mapping, Sequence
from struct import Struct

from aneurysm_assets.dicom.attributes import (
    GEOMETRY,
    GROUPS,
    IN_GROUPS,
    SLOTS,
    Value,
    drop_above_bound,
    tag_of,
)
from aneurysm_assets.dicom.fast_parser.elements import (
    IN_ANY_ITEM,
    Element,
    Handler,
    HeaderStream,
    Item,
    walk_item,
    walk_items,
)
from aneurysm_assets.dicom.fast_parser.values import ASCII, MAX_LENGTH, Decoder, FallBackToPydicom
from aneurysm_assets.dicom.header import (
    FRAME_INDEX,
    GEOMETRY_SOURCE,
    PLACES,
    geometry_source,
    number_of_images,
)

Found = dict[int, Value]
"""Values by slot, without empty ones."""

_SLOTS_OF_GROUP: Mapping[int, tuple[int, ...]] = {
    tag_of(group): tuple(SLOTS[name] for name, holder in GROUPS.items() if holder == group)
    for group in dict.fromkeys(GROUPS.values())
}

_SLOT_OF_TAG: Mapping[int, Mapping[int, int]] = {
    group: {IN_GROUPS[slot].tag: slot for slot in slots} for group, slots in _SLOTS_OF_GROUP.items()
}
"""By group, the slots of what is read of it."""

_VRS = tuple(attribute.vr.encode() for attribute in IN_GROUPS)

_GEOMETRY_SLOTS = frozenset(SLOTS[name] for name in GEOMETRY)
_NUMBER_OF_FRAMES = SLOTS["NumberOfFrames"]

_REMEMBERED = 4096

_ITEM = b"\xfe\xff\x00\xe0"
_ELEMENT = Struct("<HH2sH").unpack_from
"""The header of an element with 16 bits of length in Explicit VR (PS3.5 7.1.2)."""

_PLAIN = frozenset((b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US").split())
"""The VRs of such elements."""


class GroupReader:
    """Reads the functional groups of a series' files, each different group once."""

    def __init__(self) -> None:
        self._decoder = Decoder(IN_GROUPS)
        self._seen: dict[tuple[int, bool, bytes], Found] = {}
        self._items: list[Found] = []
        self._found: Found = {}
        self._is_first = True
        self._handlers = dict(IN_ANY_ITEM) | dict.fromkeys(_SLOTS_OF_GROUP, self._handle_group)
        self._handlers_in_group: Mapping[int, Mapping[int, Handler]] = {
            group: dict(IN_ANY_ITEM) | dict.fromkeys(slots, self._handle_value)
            for group, slots in _SLOT_OF_TAG.items()
        }
        self._group = 0

    def read(self, stream: HeaderStream, element: Element, end: int) -> tuple[list[Found], int]:
        """Read PerFrame- or SharedFunctionalGroupsSequence.

        Returns
        -------
        list of dict, int
            Per item the values that its groups hold; and the position at which the sequence ends.
        """
        _require_sequence(element)
        self._items = []
        after = walk_items(stream, element, end, self._visit_item, 1)
        return self._items, after

    def _visit_item(self, stream: HeaderStream, item: Item) -> int:
        self._items.append({})
        return walk_item(stream, item, self._handlers)

    def _handle_group(self, stream: HeaderStream, element: Element, end: int) -> int:
        _require_sequence(element)
        tag, _, _, value, length = element
        after = value + length
        held = None
        if length <= MAX_LENGTH and after <= end:
            held = stream.held(value, after)
        if held is None:
            after = self._walk_group(stream, element, end)
            self._items[-1].update(self._found)
            return after
        key = tag, stream.explicit, held
        if key not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[key] = self._read_group(stream, element, end, held)
        self._items[-1].update(self._seen[key])
        return after

    def _read_group(self, stream: HeaderStream, element: Element, end: int, held: bytes) -> Found:
        plain = self._read_plain(element[0], held) if stream.explicit else None
        if plain is None:
            self._walk_group(stream, element, end)
            return self._found
        return plain

    def _read_plain(self, group: int, held: bytes) -> Found | None:
        """Return the values of a group with one item of plain elements, None for any other."""
        end = len(held)
        if end < 8 or held[:4] != _ITEM or int.from_bytes(held[4:8], "little") != end - 8:
            return None
        found: Found = {}
        slots, before, pos = _SLOT_OF_TAG[group], 0, 8
        while pos < end:
            if end - pos < 8:
                return None
            group_number, number, vr, length = _ELEMENT(held, pos)
            tag = group_number << 16 | number
            value, pos = pos + 8, pos + 8 + length
            if tag <= before or vr not in _PLAIN or pos > end or tag in IN_ANY_ITEM:
                return None
            before = tag
            slot = slots.get(tag)
            if slot is not None:
                if vr != _VRS[slot]:
                    return None
                decoded = self._decoder.decode(slot, held[value:pos], ASCII)
                if decoded is not None:
                    found[slot] = decoded
        return found

    def _walk_group(self, stream: HeaderStream, element: Element, end: int) -> int:
        self._found, self._group, self._is_first = {}, element[0], True
        return walk_items(stream, element, end, self._visit_group, 2)

    def _visit_group(self, stream: HeaderStream, item: Item) -> int:
        # A group has one item (PS3.3 C.7.6.16.2); of several, the first counts, as for pydicom.
        handlers = self._handlers_in_group[self._group] if self._is_first else IN_ANY_ITEM
        self._is_first = False
        return walk_item(stream, item, handlers)

    def _handle_value(self, stream: HeaderStream, element: Element, end: int) -> int:
        tag, vr, _, pos, length = element
        slot = _SLOT_OF_TAG[self._group][tag]
        if vr not in (None, _VRS[slot]) or pos + length > end:
            raise FallBackToPydicom(f"{IN_GROUPS[slot].name} as {vr!r} of {length} bytes")
        # Text beyond ASCII is left to pydicom: an item may have a character set of its own.
        value = self._decoder.decode(slot, stream.value(pos, length), ASCII)
        if value is not None:
            self._found[slot] = value
        return pos + length


def _require_sequence(element: Element) -> None:
    vr = element[1]
    if vr not in (None, b"SQ"):
        raise FallBackToPydicom(f"{vr!r} instead of SQ")


def images(
    top: list[Value], per_frame: Sequence[Found], shared: Sequence[Found], size: int
) -> list[list[Value]]:
    """Return the values of each image; the nearest functional group that has one wins.

    Parameters
    ----------
    top : list
        The values of the top level, one for each of `ATTRIBUTES`.
    per_frame, shared : sequence of dict
        The values of the functional groups, per item.
    size : int
        Bytes of the file.

    Returns
    -------
    list of list
        One list per image: the values that `header.ROW` names.
    """
    require_within_bounds(top)
    count = number_of_images(top[_NUMBER_OF_FRAMES], len(per_frame), size)
    if count is None:
        raise FallBackToPydicom(f"{top[_NUMBER_OF_FRAMES]} frames")
    common = shared[0] if shared else {}
    base = [*top, None, None]
    for slot, value in common.items():
        base[slot] = value
    source = _source_of(base, common, {})
    if count == 1 and not per_frame:
        base[GEOMETRY_SOURCE] = source
        return [base]
    rows = []
    sources: dict[tuple[int, ...], str | None] = {(): source}
    for index in range(count):
        row = base.copy()
        found = per_frame[index] if index < len(per_frame) else {}
        for slot, value in found.items():
            row[slot] = value
        row[FRAME_INDEX] = index
        slots = tuple(found)
        if slots not in sources:
            sources[slots] = _source_of(row, common, found)
        row[GEOMETRY_SOURCE] = sources[slots]
        rows.append(row)
    if count == 1:
        rows[0][FRAME_INDEX] = None
    return rows


def require_within_bounds(row: list[Value]) -> None:
    """Leave an image to pydicom of which a value is above its bound (`attributes.BELOW`).

    Raises
    ------
    FallBackToPydicom
        It has such a value.
    """
    for note in drop_above_bound(row):
        raise FallBackToPydicom(note)


def _source_of(row: list[Value], shared: Found, per_frame: Found) -> str | None:
    """Return `geometry_source`: where the geometry values of an image were found."""
    per_frame_place, shared_place, top_level = PLACES
    used = {
        per_frame_place if slot in per_frame else shared_place if slot in shared else top_level
        for slot in _GEOMETRY_SLOTS
        if row[slot] is not None
    }
    return geometry_source(used)
