"""Encodes DICOM files byte by byte, and compares what two readers return."""

import struct
from pathlib import Path

import pydicom.data

from aneurysm_assets.dicom.fast_parser.reader import SeriesReader
from aneurysm_assets.dicom.fast_parser.walk import Walked
from aneurysm_assets.dicom.header import ROW, Header
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.errors import UnreadableFile
from aneurysm_assets.schema.columns import SERIES_KEY

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
JPEG_2000 = "1.2.840.10008.1.2.4.90"

UNDEFINED = 0xFFFFFFFF
LONG_VRS = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]

PYDICOM_FILES = Path(pydicom.data.__file__).parent / "test_files"


def element(tag, vr, value=b"", length=None, *, explicit=True):
    """Encode an element; its length may lie."""
    value = value.encode() if isinstance(value, str) else value
    length = len(value) if length is None else length
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return start + struct.pack("<I", length) + value
    if vr in LONG_VRS:
        return start + vr.encode() + b"\0\0" + struct.pack("<I", length) + value
    return start + vr.encode() + struct.pack("<H", length) + value


def item(*elements, undefined=False):
    content = b"".join(elements)
    if undefined:
        return struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + content + delimiter(0xE00D)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def delimiter(number):
    return struct.pack("<HHI", 0xFFFE, number, 0)


def sequence(tag, *items, undefined=False, explicit=True):
    content = b"".join(items)
    if not undefined:
        return element(tag, "SQ", content, explicit=explicit)
    content += delimiter(0xE0DD)
    return element(tag, "SQ", content, UNDEFINED, explicit=explicit)


def meta(syntax=EXPLICIT, *more):
    content = b"".join((element(0x00020010, "UI", even(syntax, "\0")), *more))
    return element(0x00020000, "UL", struct.pack("<I", len(content))) + content


def even(text, padding=" "):
    return text + padding * (len(text) % 2)


def dicom(*elements, syntax=EXPLICIT):
    """Encode a file with a preamble, in the order given."""
    return bytes(128) + b"DICM" + meta(syntax) + b"".join(elements)


def image(*more, explicit=True, changes=None, pixels=bytes(8)):
    """Encode a small image's elements, each once and in order, and then its pixels."""

    def of(tag, vr, value):
        return element(tag, vr, value, explicit=explicit)

    elements = {
        0x00080005: of(0x00080005, "CS", "ISO_IR 100"),
        0x00080016: of(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2\0"),
        0x00080018: of(0x00080018, "UI", "1.2.3.4\0"),
        0x00080060: of(0x00080060, "CS", "CT"),
        0x00100020: of(0x00100020, "LO", "patient "),
        0x00180050: of(0x00180050, "DS", "1.25"),
        0x0020000D: of(0x0020000D, "UI", "1.2.3\0"),
        0x0020000E: of(0x0020000E, "UI", "1.2.3.5\0"),
        0x00200013: of(0x00200013, "IS", "7 "),
        0x00200032: of(0x00200032, "DS", "-1.5\\2\\3e1"),
        0x00200037: of(0x00200037, "DS", "1\\0\\0\\0\\1\\0 "),
        0x00280002: of(0x00280002, "US", b"\1\0"),
        0x00280010: of(0x00280010, "US", b"\2\0"),
        0x00280011: of(0x00280011, "US", b"\2\0"),
        0x00280030: of(0x00280030, "DS", "0.5\\0.5 "),
        0x00280100: of(0x00280100, "US", b"\x10\0"),
    }
    for added in more:
        group, number = struct.unpack("<HH", added[:4])
        elements[group << 16 | number] = added
    elements |= changes or {}
    body = b"".join(elements[tag] for tag in sorted(elements))
    return body + (of(0x7FE00010, "OW", pixels) if pixels is not None else b"")


def as_header(walked: Walked) -> Header:
    """Return what the fast parser found as `read_header` returns it."""
    images = [dict(zip(ROW, row, strict=True)) for row in walked.rows]
    of_file = [(image.pop("NumberOfFrames"), image.pop(SERIES_KEY)) for image in images]
    return Header(images, *of_file[0], walked.pixel_data)


def walk_header(path: Path) -> Header | None:
    """Read one file by its bytes, without a template; None where pydicom has to be asked."""
    walked = SeriesReader(files=1).read(path)
    return None if walked is None else as_header(walked)


def comparable(header: Header):
    """Return what a header says so that 1, 1.0 and True are different, and 0.0 and -0.0 too."""
    images = [repr(sorted(image.items())) for image in header.images]
    about = (header.number_of_frames, header.series_instance_uid, header.pixel_data)
    return images, repr(about), header.malformed


def by_pydicom(path):
    """Return what pydicom says of a file, None where it is unreadable."""
    try:
        return comparable(read_header(path))
    except UnreadableFile:
        return None


def require_same(found, path, about=""):
    """Fail unless a header, where there is one, is what pydicom says."""
    if found is not None:
        assert comparable(found) == by_pydicom(path), about
