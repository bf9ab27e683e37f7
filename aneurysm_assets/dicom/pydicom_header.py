"""How pydicom is asked for a header: one file in, a `Header` out.

This reader handles every file and decides what is right; `fast_parser` reads most files in a
fraction of the time and leaves the rest to this module. Pixels are never read. A header that
cannot be trusted to its end is an `UnreadableFile`.
"""

import errno
import io
import math
import os
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Literal, cast

import polars as pl
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32
from pydicom.values import convert_SQ

from aneurysm_assets.dicom.attributes import (
    ATTRIBUTES,
    DTYPES,
    FIRST_OF_SEVERAL,
    GEOMETRY,
    GROUPS,
    NAMES_IN_GROUP,
    PER_FRAME,
    PIXEL_DATA_BITS,
    SHARED,
    SLOTS,
    Attribute,
    Value,
    drop_above_bound,
    tag_of,
)
from aneurysm_assets.dicom.header import (
    NO_DICOM,
    PLACES,
    Header,
    PixelData,
    geometry_source,
    needed_bytes,
    number_of_images,
)
from aneurysm_assets.dicom.top_level import (
    CHARACTER_SET,
    Range,
    TopLevel,
    kept,
    meta_elements,
    repeated,
    require_short_character_set,
    tag_name,
)
from aneurysm_assets.errors import MachineError, SeriesError, UnreadableFile
from aneurysm_assets.limits import (
    MAX_GROUP_ELEMENTS,
    MAX_HEADER_BYTES,
    MAX_INFLATED_BYTES,
    MAX_ITEMS,
    MAX_VALUE_BYTES,
)
from aneurysm_assets.messages import one_line
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.storage.fetching import ObjectFile
from aneurysm_assets.storage.object_path import Stretches
from aneurysm_assets.uid import is_uid

_TOP_LEVEL = tuple(name for name in DTYPES if name != "TransferSyntaxUID")

_READ = [Tag(name) for name in (*_TOP_LEVEL, PER_FRAME, SHARED)]
_COUNTED = frozenset(map(int, (*_READ, tag_of("SpecificCharacterSet"))))
_LAST_WANTED = max(tag_of(name) for name in _TOP_LEVEL)
"""The last tag of the top level that a file of one image is read for."""

_MOST_META = 64 << 10
"""Bytes at the beginning of a file in which the file meta information is looked for."""

_DEFLATED = DeflatedExplicitVRLittleEndian.encode()

_ACR_NEMA_GROUP = 8

_LONGEST_READ = 64 << 20
"""Bytes of the longest value that is read; pydicom reads a deflated data set as one value."""

_INFLATED_AT_ONCE = 16 << 20

_MOST_READS = 300_000
"""Reads of one header: a few per element, items of sequences of undefined length included."""

_MACHINE_LIMITS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""Errors of opening that fewer workers help against."""

_OF_FILE = frozenset((errno.EINVAL, errno.EOVERFLOW, errno.ENAMETOOLONG))
"""Errors of the system that no machine would spare this file: a damaged length that leads to a
place which no file has, and a link to what cannot be."""

_BEGINS_OF_ITEM = (bytes.fromhex("FEFF00E0"), bytes.fromhex("FFFEE000"))

_ITEMS = frozenset(bytes.fromhex(tag) for tag in ("FEFF00E0", "FFFEE000", "FEFFDDE0", "FFFEE0DD"))
"""The tags of an item and of the end of items, in both byte orders."""

_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM_GROUP = 0xFFFE
_SHORTEST_ELEMENT = 8
_LONGEST_ELEMENT_HEADER = 12
_LONG_VRS_OF_ELEMENTS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_GROUP_SEQUENCES = frozenset(map(tag_of, {PER_FRAME, SHARED, *GROUPS.values()}))
_LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OV", b"OL", b"UN")


def read_header(path: Path | str | ObjectFile) -> Header:
    """Read the header of one DICOM file.

    Parameters
    ----------
    path : Path, str or ObjectFile
        Any file.

    Returns
    -------
    Header
        One image for a single-frame file, one for each frame otherwise. Geometry, rescale and
        window of a frame come from its PerFrame item, else from the Shared functional groups,
        else from the top level (PS3.3 C.7.6.16). Positions and orientations are LPS, lengths mm.

    Raises
    ------
    UnreadableFile
        It is no DICOM file, its header is cut short, or it cannot be read at all.
    MachineError
        The machine, or the store, does not give the file: a faulty disk, no permission, a file
        system that is gone, too many open files. Nothing is known of what it holds.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path)
    except (UnreadableFile, SeriesError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in {None, *_OF_FILE}:
            raise MachineError(_said_by_machine(path, error)) from error
        # pydicom raises whatever a damaged byte leads to; the reason goes into the file's row.
        message = (error.strerror if isinstance(error, OSError) else None) or str(error)
        reason = one_line(message, 200)
        raise UnreadableFile(f"cannot be read: {type(error).__name__}: {reason}") from error


def _said_by_machine(path: Path | str | ObjectFile, error: OSError) -> str:
    """Say why a file cannot be read where that says nothing of what it holds."""
    if error.errno in _MACHINE_LIMITS:
        return (
            f"{path}: {error.strerror}: this machine's limit, and nothing wrong with the file; "
            "try again with fewer workers, or more files that a process may open (ulimit -n)"
        )
    return (
        f"{path}: {error.strerror}: the machine does not give this file, so nothing of its series "
        "was recorded; run it again once the file can be read, or is gone"
    )


def _read(path: Path | str | ObjectFile) -> Header:
    with _Watched(path) as file:
        head = file.read(min(_MOST_META, file.size))
    meta = meta_elements(head)
    twice = repeated(meta)
    notes = [f"{tag_name(each.tag)}: stands twice; the first one counts" for each in twice]
    hidden = [each.stretch for each in twice]
    is_deflated = any(each.value.rstrip(b"\0") == _DEFLATED for each in meta)
    with _Watched(path, hidden) as file:
        log = TopLevel(file, is_inflated=is_deflated)
        try:
            dataset = _read_dataset(file, log)
            _require_whole(dataset, file, file.size)
        except Exception as error:
            if is_deflated or not log.places or log.places[-1].tag <= _LAST_WANTED:
                raise
            return _read_before_damage(path, hidden, log, notes, error)
        stray = log.out_of_place(_COUNTED)
        for place, _, is_replaced in stray:
            ending = "; the one in its place counts" if is_replaced else ""
            notes.append(f"{tag_name(place.tag)}: stands outside its order{ending}")
        replaced = [stretch for _, stretch, is_replaced in stray if is_replaced]
        if not replaced:
            return _header(dataset, file, notes)
        if is_deflated:
            for tag in {place.tag for place, _, is_replaced in stray if is_replaced}:
                del dataset[tag]
            return _header(dataset, file, notes)
    hidden += [_with_hidden(stretch, hidden) for stretch in replaced]
    with _Watched(path, hidden) as file:
        dataset = _read_dataset(file, TopLevel(file))
        _require_whole(dataset, file, file.size)
        return _header(dataset, file, notes)


def _with_hidden(stretch: Range, hidden: Sequence[Range]) -> Range:
    """Return where a stretch of a file without some others stands in the whole file."""
    before = sum(end - start for start, end in hidden)  # all of them stand in front of the data set
    return stretch[0] + before, stretch[1] + before


def _read_before_damage(
    path: Path | str | ObjectFile,
    hidden: Sequence[Range],
    log: TopLevel,
    notes: Sequence[str],
    error: Exception,
) -> Header:
    """Read what stands before a damaged element that stands behind all that is wanted.

    Of a file that may have functional groups, which stand behind it, nothing is believed.
    """
    damaged = log.places[-1]
    with _Watched(path, hidden) as file:
        before = TopLevel(file, len(log.places) - 1)
        dataset = _read_dataset(file, before)
        _require_whole(dataset, file, file.size)
        if "NumberOfFrames" in dataset or before.out_of_place(_COUNTED):
            raise error
        reason = one_line(error, 100)
        note = f"{tag_name(damaged.tag)}: is damaged, what follows it is not read: {reason}"
        return _header(dataset, file, [*notes, note], is_whole=False)


class _Watched(io.BufferedReader):
    """A file that remembers whether a read returned fewer bytes than asked for.

    Reads are bounded: a damaged length must take neither all memory nor all time.

    Parameters
    ----------
    path : Path, str or ObjectFile
        The file.
    hidden : sequence of Range
        Stretches of it that are not there for who reads.
    """

    def __init__(self, path: Path | str | ObjectFile, hidden: Sequence[Range] = ()) -> None:
        raw = path.stream() if isinstance(path, ObjectFile) else io.FileIO(path)
        size = path.size if isinstance(path, ObjectFile) else os.fstat(raw.fileno()).st_size
        if hidden:
            raw, size = _without(raw, size, hidden)
        super().__init__(raw)
        self.cut = False
        self._reads = self._bytes = 0
        self.size = size

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        wanted = self.size if size is None or size < 0 else min(size, self.size)
        if wanted > _LONGEST_READ:
            raise UnreadableFile(
                f"has a header that cannot be: one of its values has {wanted} bytes"
            )
        if self._reads > _MOST_READS:
            raise UnreadableFile(
                f"has a header that cannot be: it has more than {_MOST_READS // 3} elements"
            )
        if self._bytes > MAX_HEADER_BYTES:
            raise UnreadableFile(
                f"has a header that cannot be: it has more than {MAX_HEADER_BYTES >> 20} MB"
            )
        data = super().read(size)
        self._bytes += len(data)
        if size is None or size < 0:
            # pydicom reads to the end only to inflate what it read.
            _require_little_inflated(data)
        elif 0 < len(data) < size:
            self.cut = True
        return data


def _require_little_inflated(deflated: bytes) -> None:
    """Refuse a deflated data set of a few bytes that would take all memory."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = items = 0
    try:
        while deflated:
            part = inflate.decompress(deflated, _INFLATED_AT_ONCE)
            inflated += len(part)
            items += _items_in(part)
            if inflated > MAX_INFLATED_BYTES:
                raise UnreadableFile(
                    f"has a deflated data set of more than {MAX_INFLATED_BYTES >> 20} MB"
                )
            _require_few_items(items)
            deflated = inflate.unconsumed_tail
    except zlib.error:
        return  # pydicom meets the same error and reports it


def _items_in(data: bytes) -> int:
    """Return how many items of sequences the bytes have at most, in either byte order."""
    return max(data.count(tag) for tag in _BEGINS_OF_ITEM)


def _require_few_items(items: int) -> None:
    if items > MAX_ITEMS:
        raise UnreadableFile(
            f"has a header that cannot be: its sequences have more than {MAX_ITEMS} items"
        )


def _without(raw: io.RawIOBase, size: int, hidden: Sequence[Range]) -> tuple[io.RawIOBase, int]:
    """Return a file without some of its stretches, and its size."""
    stretches = kept(size, hidden)

    def read(length: int, start: int) -> bytes:
        parts, virtual = [], 0
        for begin, end in stretches:
            first = max(begin + start - virtual, begin)
            last = min(begin + start + length - virtual, end)
            if first < last:
                raw.seek(first)
                parts.append(raw.read(last - first) or b"")
            virtual += end - begin
        return b"".join(parts)

    remaining = sum(end - start for start, end in stretches)
    return Stretches(str(getattr(raw, "name", "")), remaining, read), remaining


def _read_dataset(file: _Watched, log: TopLevel) -> Dataset:
    buffer = cast("BinaryIO", file)  # of which pydicom only reads, seeks and tells
    try:
        return read_partial(buffer, log, specific_tags=list(_READ))
    except InvalidDicomError:
        file.seek(0)
        file.cut = False
    # Without the preamble of PS3.10 it may be DICOM all the same.
    try:
        dataset = read_partial(buffer, log, force=True, specific_tags=list(_READ))
        is_dicom = is_uid(str(dataset.get("SOPClassUID", ""))) or _is_acr_nema(dataset, log)
    except Exception as error:
        raise UnreadableFile(NO_DICOM) from error
    if not is_dicom:
        raise UnreadableFile(NO_DICOM)
    return dataset


def _is_acr_nema(dataset: Dataset, log: TopLevel) -> bool:
    """Tell whether it is an image of DICOM's predecessor, which knew no SOP classes."""
    begins_right = bool(log.places) and log.places[0].tag >> 16 == _ACR_NEMA_GROUP
    sides = (dataset.get(name) for name in ("Rows", "Columns"))
    return begins_right and all(isinstance(side, int) and side > 0 for side in sides)


def _require_whole(dataset: Dataset, file: _Watched, size: int) -> None:
    """Refuse a header that is cut short.

    pydicom stops silently where the bytes end; a lost attribute would look like an absent one.
    """
    meta = getattr(dataset, "file_meta", None) or Dataset()
    cut = file.cut or file.tell() > size or _lacks_bytes(dataset) or _lacks_bytes(meta)
    # pydicom has converted some of these elements and dropped their declared length.
    begins = [getattr(meta.get_item(tag), "file_tell", None) or 0 for tag in meta.keys()]  # noqa: SIM118
    if cut or max(begins, default=0) >= size:
        raise UnreadableFile(f"is cut short in its header, at byte {size}")


def _require_items(dataset: Dataset, name: str) -> None:
    """Refuse functional groups that are no items: pydicom takes minutes over megabytes of zeros."""
    raw = dataset.get_item(name) if name in dataset else None
    value = getattr(raw, "value", None)
    if not isinstance(value, bytes):
        return
    order: Literal["little", "big"] = "little" if getattr(raw, "is_little_endian", True) else "big"
    pos = 0
    while pos < len(value):
        tag = value[pos : pos + 4]
        if tag not in _ITEMS:
            raise UnreadableFile(f"has {name} that holds no items, at byte {pos} of it")
        length = int.from_bytes(value[pos + 4 : pos + 8], order)
        if length == _UNDEFINED_LENGTH:
            return
        pos += 8 + length


def _lacks_bytes(dataset: Dataset) -> bool:
    """Tell whether a value is shorter than its element declares."""
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset would convert every value
        raw = dataset.get_item(tag)
        length = getattr(raw, "length", 0)
        if 0 < length < _UNDEFINED_LENGTH and len(getattr(raw, "value", None) or b"") < length:
            return True
    return False


def _header(
    dataset: Dataset, file: _Watched, notes: Sequence[str], *, is_whole: bool = True
) -> Header:
    malformed = list(notes)
    top = {name: _value(dataset, name, malformed) for name in _TOP_LEVEL}
    meta = getattr(dataset, "file_meta", None)
    top["TransferSyntaxUID"] = (
        _value(meta, "TransferSyntaxUID", malformed) if meta is not None else None
    )
    row = [top[attribute.name] for attribute in ATTRIBUTES]
    malformed += drop_above_bound(row)
    top = {name: row[slot] for name, slot in SLOTS.items()}
    series_instance_uid = top.pop(SERIES_KEY)
    number_of_frames = top.pop("NumberOfFrames")
    per_frame, shared = _groups(dataset, PER_FRAME), _groups(dataset, SHARED)
    frames = number_of_images(number_of_frames, len(per_frame), file.size)
    if frames is None:
        claimed = len(per_frame) if number_of_frames is None else number_of_frames
        raise UnreadableFile(f"declares {claimed} frames, which cannot be")
    images: list[dict[str, Value]] = []
    for index in range(frames):
        groups = [
            per_frame[index] if index < len(per_frame) else None,
            shared[0] if shared else None,
        ]
        images.append(_image(top, groups, malformed) | {"frame_index": index})
    if frames == 1:
        images[0]["frame_index"] = None
    return Header(
        images=images,
        number_of_frames=number_of_frames if isinstance(number_of_frames, int) else None,
        series_instance_uid=series_instance_uid if isinstance(series_instance_uid, str) else None,
        pixel_data=_pixel_data(top, frames, file, file.size) if is_whole else "unknown",
        malformed=malformed,
    )


def _require_few_elements(raw: object, value: bytes) -> None:
    """Refuse functional groups of so many elements that pydicom would take minutes.

    What an element or an item that holds others says of its length is passed, and what follows is
    counted. A value that is walked into by mistake ends the walk: then pydicom is asked.
    """
    order = "<" if getattr(raw, "is_little_endian", True) else ">"
    is_implicit = getattr(raw, "is_implicit_VR", False) or getattr(raw, "VR", None) == "UN"
    short, long = Struct(f"{order}HH2sH").unpack_from, Struct(f"{order}HHI").unpack_from
    at, last = 0, len(value) - _LONGEST_ELEMENT_HEADER
    for _ in range(min(MAX_GROUP_ELEMENTS, len(value) // _SHORTEST_ELEMENT)):
        if at > last:
            return
        group, number, length = long(value, at)
        is_item = group == _ITEM_GROUP
        at += 8
        if not is_item and not is_implicit:
            _, _, vr, length = short(value, at - 8)
            if vr in _LONG_VRS_OF_ELEMENTS:
                length = int.from_bytes(value[at : at + 4], "little" if order == "<" else "big")
                at += 4
            is_item = vr == b"SQ"
        elif not is_item:
            is_item = group << 16 | number in _GROUP_SEQUENCES
        if group << 16 | number == CHARACTER_SET:
            require_short_character_set(length)
        if not is_item and length != _UNDEFINED_LENGTH:
            at += length
    if at <= last:
        raise UnreadableFile(
            "has a header that cannot be: its functional groups have more than "
            f"{MAX_GROUP_ELEMENTS} elements"
        )


def _groups(dataset: Dataset, name: str) -> Sequence[Dataset]:
    """Return the items of a sequence of functional groups; as UN they are Implicit VR (6.2.2)."""
    _require_items(dataset, name)
    raw = dataset.get_item(name) if name in dataset else None
    value = getattr(raw, "value", None)
    if isinstance(value, bytes):
        _require_few_items(_items_in(value))
        _require_few_elements(raw, value)
    if isinstance(value, bytes) and getattr(raw, "VR", None) == "UN":
        return convert_SQ(value, is_implicit_VR=True, is_little_endian=True)
    return dataset.get(name) or ()


def _image(
    top: Mapping[str, Value], groups: Sequence[Dataset | None], malformed: list[str]
) -> dict[str, Value]:
    """Return the values of one image, the attributes of functional groups from the nearest."""
    image = dict(top)
    used = set()
    for name, sequence in GROUPS.items():
        keyword = NAMES_IN_GROUP.get(name, name)
        found: Value = top[name]
        place = PLACES[-1]
        for group, group_place in zip(groups, PLACES, strict=False):
            items = group.get(sequence) if group is not None else None
            if items and not _is_empty(items[0], keyword):
                found, place = _value(items[0], name, malformed, keyword), group_place
                break
        image[name] = found
        if name in GEOMETRY and found is not None:
            used.add(place)
    image["geometry_source"] = geometry_source(used)
    return image


def _is_empty(dataset: Dataset, name: str) -> bool:
    if name not in dataset:
        return True
    if _is_too_long(dataset, name):
        return False
    try:
        return dataset[name].is_empty
    except Exception:  # noqa: BLE001 - not convertible is not empty: `_value` records the reason
        return False


def _is_too_long(dataset: Dataset, name: str) -> bool:
    """Tell whether a value takes long to decode; it is not, to find out."""
    value = getattr(dataset.get_item(name), "value", None)
    return isinstance(value, bytes) and len(value) > MAX_VALUE_BYTES


def _value(dataset: Dataset, name: str, malformed: list[str], keyword: str = "") -> Value:
    """Return a tag's value typed as its column, None and a note where that cannot be."""
    keyword = keyword or name
    if keyword not in dataset:
        return None
    try:
        if _is_too_long(dataset, keyword):
            raise ValueError(f"has more than {MAX_VALUE_BYTES} bytes")  # noqa: TRY301 - as below
        value = dataset[keyword].value
        if name in FIRST_OF_SEVERAL and isinstance(value, MultiValue | list) and value:
            value = value[0]
        return _allowed(_typed(value, DTYPES[name]), ATTRIBUTES[SLOTS[name]])
    except Exception as error:  # noqa: BLE001 - pydicom raises many types; the reason is recorded
        malformed.append(f"{keyword}: {one_line(error, 100)}")
        return None


def _allowed(value: Value, attribute: Attribute) -> Value:
    if attribute.rule is not None and not attribute.allows(value):
        numbers = value if isinstance(value, tuple) else (value,)
        shown = "\\".join(map(str, numbers))
        raise ValueError(f"{shown} is not {attribute.rule.text}")
    return value


def _typed(value: object, dtype: pl.DataType) -> Value:
    several = value if isinstance(value, MultiValue | list) else None
    if value is None or value == "" or (several is not None and not several):
        return None
    if isinstance(dtype, pl.Array):
        numbers = tuple(_finite(item) for item in several or ())
        if len(numbers) != dtype.size:
            raise ValueError(f"{value!r} is not {dtype.size} numbers")
        return numbers
    if isinstance(dtype, pl.String):
        if not all(isinstance(item, str) for item in ([value] if several is None else several)):
            raise ValueError(f"{value!r} is no text")
        # The backslash is what separates the values of a text in DICOM itself (PS3.5 6.4).
        return str(value) if several is None else "\\".join(str(item) for item in several)
    if several is not None:
        raise ValueError(f"{value!r} is not one value")
    number = _finite(value)
    if isinstance(dtype, pl.Float64):
        return number
    if not number.is_integer() or not -(2**31) <= number < 2**31:
        raise ValueError(f"{value!r} is no whole number of 32 bits")
    return int(number)


def _finite(value: object) -> float:
    number = float(str(value)) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def _pixel_data(top: Mapping[str, Value], frames: int, file: _Watched, size: int) -> PixelData:
    """Tell whether the pixel data that the header announces fits into the file.

    pydicom leaves the file's position before the pixel data element, if there is one.
    """
    start = file.tell()
    element = file.read(12)
    if len(element) < 8:
        return "none"
    order: Literal["little", "big"] = "little" if element[:2] == b"\xe0\x7f" else "big"
    group, number = (int.from_bytes(element[i : i + 2], order) for i in (0, 2))
    tag = group << 16 | number
    if tag not in PIXEL_DATA_BITS:
        return "none"
    if element[4:6] in _LONG_VRS:
        length, offset = int.from_bytes(element[8:12], order), 12
    else:
        length, offset = int.from_bytes(element[4:8], order), 8
    remaining = size - start - offset
    if length == _UNDEFINED_LENGTH or remaining >= length:
        return "whole"
    return "whole" if remaining >= needed_bytes(top, frames, PIXEL_DATA_BITS[tag]) else "cut"
