"""How pydicom is asked for a header: one file in, a `Header` out.

This reader handles every file and decides what is right; `fast_parser` reads most files in a
fraction of the time and leaves the rest to this module. Pixels are never read. A header that
cannot be trusted to its end is an `UnreadableFile`. How much of a file is read at most belongs to
`bounded_file`, what a value of it becomes to `pydicom_values`.
"""

import errno
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Literal, cast

from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32
from pydicom.values import convert_SQ

from aneurysm_assets.dicom.attributes import (
    ATTRIBUTES,
    DTYPES,
    GROUPS,
    PER_FRAME,
    PIXEL_DATA_BITS,
    SHARED,
    SLOTS,
    Value,
    drop_above_bound,
    tag_of,
)
from aneurysm_assets.dicom.bounded_file import BoundedFile, items_in, require_few_items
from aneurysm_assets.dicom.header import (
    NO_DICOM,
    Header,
    PixelData,
    needed_bytes,
    number_of_images,
)
from aneurysm_assets.dicom.pydicom_values import image_of, value_of
from aneurysm_assets.dicom.top_level import (
    CHARACTER_SET,
    Range,
    TopLevel,
    meta_elements,
    repeated,
    require_short_character_set,
    tag_name,
)
from aneurysm_assets.errors import MachineError, SeriesError, UnreadableFile
from aneurysm_assets.limits import MAX_GROUP_ELEMENTS
from aneurysm_assets.messages import one_line
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.storage.fetching import ObjectFile
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

_MACHINE_LIMITS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""Errors of opening that fewer workers help against."""

_OF_FILE = frozenset((errno.EINVAL, errno.EOVERFLOW, errno.ENAMETOOLONG))
"""Errors of the system that no machine would spare this file: a damaged length that leads to a
place which no file has, and a link to what cannot be."""

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
    with BoundedFile(path) as file:
        head = file.read(min(_MOST_META, file.size))
    meta = meta_elements(head)
    twice = repeated(meta)
    notes = [f"{tag_name(each.tag)}: stands twice; the first one counts" for each in twice]
    hidden = [each.stretch for each in twice]
    is_deflated = any(each.value.rstrip(b"\0") == _DEFLATED for each in meta)
    with BoundedFile(path, hidden) as file:
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
    with BoundedFile(path, hidden) as file:
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
    with BoundedFile(path, hidden) as file:
        before = TopLevel(file, len(log.places) - 1)
        dataset = _read_dataset(file, before)
        _require_whole(dataset, file, file.size)
        if "NumberOfFrames" in dataset or before.out_of_place(_COUNTED):
            raise error
        reason = one_line(error, 100)
        note = f"{tag_name(damaged.tag)}: is damaged, what follows it is not read: {reason}"
        return _header(dataset, file, [*notes, note], is_whole=False)


def _read_dataset(file: BoundedFile, log: TopLevel) -> Dataset:
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


def _require_whole(dataset: Dataset, file: BoundedFile, size: int) -> None:
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
    dataset: Dataset, file: BoundedFile, notes: Sequence[str], *, is_whole: bool = True
) -> Header:
    malformed = list(notes)
    top = {name: value_of(dataset, name, malformed) for name in _TOP_LEVEL}
    meta = getattr(dataset, "file_meta", None)
    top["TransferSyntaxUID"] = (
        value_of(meta, "TransferSyntaxUID", malformed) if meta is not None else None
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
        images.append(image_of(top, groups, malformed) | {"frame_index": index})
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
        require_few_items(items_in(value))
        _require_few_elements(raw, value)
    if isinstance(value, bytes) and getattr(raw, "VR", None) == "UN":
        return convert_SQ(value, is_implicit_VR=True, is_little_endian=True)
    return dataset.get(name) or ()


def _pixel_data(top: Mapping[str, Value], frames: int, file: BoundedFile, size: int) -> PixelData:
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
