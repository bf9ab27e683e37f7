"""Small DICOM files for tests: written with pydicom, or byte by byte where pydicom would refuse."""

import struct
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

SERIES = "1.2.826.0.1.3680043.8.498.100"

NATIVE = {
    "implicit little endian": ImplicitVRLittleEndian,
    "explicit little endian": ExplicitVRLittleEndian,
    "explicit big endian": ExplicitVRBigEndian,
}

MACROS = {
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
}
"""PS3.3 C.7.6.16.2, written out again: an independent check of the code's table."""

_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}

TOP_LEVEL_TAGS: Mapping[str, Any] = {
    "SOPClassUID": CTImageStorage,
    "SOPInstanceUID": f"{SERIES}.1",
    "Modality": "CT",
    "PatientID": "patient",
    "SliceThickness": "0.625",
    "SpacingBetweenSlices": "0.5",
    "StudyInstanceUID": "1.2.3.4",
    "SeriesInstanceUID": SERIES,
    "InstanceNumber": "1",
    "ImagePositionPatient": ["-100.5", "20.25", "-3.125"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "0.8", "-0.6"],
    "FrameOfReferenceUID": "1.2.3.5",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "PlanarConfiguration": 0,
    "Rows": 4,
    "Columns": 3,
    "PixelSpacing": ["0.5", "0.25"],
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 1,
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1.5",
    "RescaleType": "HU",
}
"""The 24 competition tags of the data set itself, and the series."""


def dataset(syntax: UID = ExplicitVRLittleEndian, **changes: Any) -> Dataset:
    """Return a small image; `changes` set attributes, or remove those that are None."""
    data = Dataset()
    for keyword, value in {**TOP_LEVEL_TAGS, **changes}.items():
        if value is not None:
            setattr(data, keyword, value)
    if "PixelData" not in changes and "Rows" in data:
        frames = int(changes.get("NumberOfFrames") or 1)
        data.PixelData = bytes(data.Rows * data.Columns * data.BitsAllocated // 8 * frames)
    if "PixelData" in data:
        data["PixelData"].VR = "OW"
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = changes.get("SOPClassUID") or CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = f"{SERIES}.1"
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.ImplementationClassUID = UID("1.2.3.6")
    return data


def enhanced(
    frames: int,
    *,
    shared: Mapping[str, Any] | None = None,
    per_frame: Iterable[Mapping[str, Any]] | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    **top_level: Any,
) -> Dataset:
    """Return an Enhanced MR image with the given attributes in its functional groups.

    Of `top_level`, geometry and rescale are there only where they are given.
    """
    without = dict.fromkeys(MACROS)
    data = dataset(
        syntax,
        **{**without, "SOPClassUID": EnhancedMRImageStorage, "Modality": "MR"} | top_level,
        NumberOfFrames=frames,
    )
    if shared is not None:
        data.SharedFunctionalGroupsSequence = Sequence([functional_groups(shared)])
    if per_frame is not None:
        data.PerFrameFunctionalGroupsSequence = Sequence(functional_groups(f) for f in per_frame)
    return data


def functional_groups(values: Mapping[str, Any]) -> Dataset:
    """Return an item of the functional groups, each attribute in the macro that is its own."""
    groups = Dataset()
    for keyword, value in values.items():
        macro = MACROS[keyword]
        if macro not in groups:
            setattr(groups, macro, Sequence([Dataset()]))
        setattr(groups[macro].value[0], keyword, value)
    return groups


def encode(data: Dataset) -> bytes:
    """Return the file of a data set, in the transfer syntax of its file meta information."""
    buffer = BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def encode_without_preamble(data: Dataset) -> bytes:
    """Return a data set as old files hold it: nothing before its first element."""
    syntax = data.file_meta.TransferSyntaxUID
    assert syntax != DeflatedExplicitVRLittleEndian
    bare = Dataset({tag: data.get_item(tag) for tag in data.keys()})  # noqa: SIM118
    buffer = BytesIO()
    dcmwrite(
        buffer,
        bare,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=False,
    )
    return buffer.getvalue()


def write(path: Path, data: Dataset) -> Path:
    """Write the file of a data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(data))
    return path


def element(keyword: str, vr: str, value: bytes) -> bytes:
    """Return an element in explicit VR little endian, whatever its value."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in _LONG:
        return head + struct.pack("<HL", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def encode_with(replaced: Mapping[str, tuple[str, bytes]], data: Dataset | None = None) -> bytes:
    """Return an explicit VR little endian file in which some elements are just these bytes.

    Parameters
    ----------
    replaced : mapping of str to (str, bytes)
        VR and value by keyword.
    data : Dataset, optional
        Where the other elements come from.
    """
    data = dataset() if data is None else data
    tags = {tag_for_keyword(keyword): keyword for keyword in replaced}
    rest = Dataset({tag: data.get_item(tag) for tag in data.keys() if tag not in tags})  # noqa: SIM118
    rest.file_meta = data.file_meta
    meta = Dataset()
    meta.file_meta = data.file_meta
    parts = [encode(meta)]
    for tag in sorted({*rest.keys(), *tags}):
        if tag in tags:
            parts.append(element(tags[tag], *replaced[tags[tag]]))
        else:
            parts.append(encode_without_preamble(_one(rest, tag)))
    return b"".join(parts)


def _one(data: Dataset, tag: int) -> Dataset:
    one = Dataset({tag: data.get_item(tag)})
    one.file_meta = data.file_meta
    return one
