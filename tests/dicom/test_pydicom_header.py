"""read_header against pydicom's own full read, and against files damaged at every byte."""

import logging
import math
import random
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, format_number_as_ds

from aneurysm_assets.dicom.attributes import BELOW, VALUE_RULES
from aneurysm_assets.dicom.header import Header
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.errors import MachineError, UnreadableFile
from aneurysm_assets.limits import MAX_FRAMES
from tests.dicom_files import (
    MACROS,
    NATIVE,
    SERIES,
    dataset,
    encode,
    encode_with,
    encode_without_preamble,
    enhanced,
)

TEXTS = (
    "FrameOfReferenceUID",
    "Modality",
    "PatientID",
    "PhotometricInterpretation",
    "RescaleType",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "TransferSyntaxUID",
)
WHOLE_NUMBERS = (
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "HighBit",
    "InstanceNumber",
    "PixelRepresentation",
    "PlanarConfiguration",
    "Rows",
    "SamplesPerPixel",
)
DECIMALS = ("RescaleIntercept", "RescaleSlope", "SliceThickness", "SpacingBetweenSlices")
FIRST_OF_SEVERAL = ("WindowCenter", "WindowWidth")
LISTS = {"ImageOrientationPatient": 6, "ImagePositionPatient": 3, "PixelSpacing": 2}
TAGS = (*TEXTS, *WHOLE_NUMBERS, *DECIMALS, *LISTS)
OPTIONAL_TEXTS = ("ImageType", "Manufacturer", "AcquisitionTime", "ContentTime")
OPTIONAL_DECIMALS = ("EchoTime", "DiffusionBValue", "TriggerTime")
OPTIONAL_NUMBERS = ("ImagesInAcquisition", "TemporalPositionIdentifier", "AcquisitionNumber")
OPTIONAL = (*OPTIONAL_TEXTS, *FIRST_OF_SEVERAL, *OPTIONAL_DECIMALS, *OPTIONAL_NUMBERS)

GEOMETRY = tuple(keyword for keyword in MACROS if not keyword.startswith("Rescale"))
SOURCES = ("per_frame", "shared", "top_level")

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
BUNDLED_FILES = sorted(path for path in BUNDLED.rglob("*") if path.is_file())

NO_DICOM = "is no DICOM file"
UNREADABLE = {
    "README.txt": NO_DICOM,
    "crayons.icc": NO_DICOM,
    "dicomdirtests/README.txt": NO_DICOM,
    "dicomdirtests/TINY_ALPHA/README": NO_DICOM,
    "no_meta.dcm": NO_DICOM,  # pydicom makes one element (0820,0500) of all of it
    "rtplan.dump": NO_DICOM,
    "rtstruct.dump": NO_DICOM,
    "test1.json": NO_DICOM,
    "test_PN.json": NO_DICOM,
    "zipMR.gz": NO_DICOM,
}
"""The bundled files that are no DICOM, or damaged on purpose, and what is said of them."""

MALFORMED = {
    "badVR.dcm": "NumberOfFrames",
    "rtplan_truncated.dcm": "(300A,00B0) BeamSequence",
}
"""Bundled files with a value that cannot be, or an element that breaks PS3.5."""


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def _quiet_pydicom() -> Iterator[None]:
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.getLogger("pydicom").setLevel(logging.NOTSET)


def bundled(path: Path) -> str:
    return path.relative_to(BUNDLED).as_posix()


def plain(data: Dataset | None, keyword: str) -> Any:
    """Return a value as the tables have it, from pydicom's own conversion of it."""
    if data is None or keyword not in data or data[keyword].VM == 0:
        return None
    value = data[keyword].value
    several = list(value) if data[keyword].VM > 1 else [value]
    if keyword in LISTS:
        assert len(several) == LISTS[keyword]
        return tuple(float(item) for item in several)
    if keyword in (*TEXTS, *OPTIONAL_TEXTS):
        return "\\".join(str(item) for item in several)
    if keyword in FIRST_OF_SEVERAL:
        return float(several[0])
    assert len(several) == 1
    return float(value) if keyword in (*DECIMALS, *OPTIONAL_DECIMALS) else int(value)


OPTIONAL_MACROS = {
    **MACROS,
    **dict.fromkeys(FIRST_OF_SEVERAL, "FrameVOILUTSequence"),
    "DiffusionBValue": "MRDiffusionSequence",
}


def reference(path: Path) -> list[dict[str, Any]]:
    """Return the images of a file by the rules of PS3.3 C.7.6.16 from a full read."""
    data = dcmread(path, force=True)
    per_frame = list(data.get("PerFrameFunctionalGroupsSequence") or [])
    shared = next(iter(data.get("SharedFunctionalGroupsSequence") or []), None)
    declared = None if bundled(path) == "badVR.dcm" else data.get("NumberOfFrames")
    number = len(per_frame) if declared is None else int(declared)
    images = []
    for index in range(max(1, number)):
        image = {keyword: plain(data, keyword) for keyword in (*TAGS, *OPTIONAL)}
        image["TransferSyntaxUID"] = plain(data.file_meta, "TransferSyntaxUID")
        used = set()
        for keyword, macro in OPTIONAL_MACROS.items():
            places = dict.fromkeys(SOURCES, data)
            places["per_frame"] = item(per_frame[index] if index < len(per_frame) else None, macro)
            places["shared"] = item(shared, macro)
            values = {source: plain(place, keyword) for source, place in places.items()}
            source = next((s for s in SOURCES if values[s] is not None), None)
            image[keyword] = None if source is None else values[source]
            if source is not None and keyword in GEOMETRY:
                used.add(source)
        image["geometry_source"] = "+".join(s for s in SOURCES if s in used) or None
        image["frame_index"] = index if number > 1 else None
        images.append(image)
    return images


def item(groups: Dataset | None, macro: str) -> Dataset | None:
    return next(iter((groups.get(macro) if groups is not None else None) or []), None)


def exact(images: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return values so that 1, 1.0, True, 0.0 and -0.0 all differ."""
    return [{name: repr(image[name]) for name in sorted(image)} for image in images]


def read_bytes(directory: Path, content: bytes) -> Header:
    path = directory / "file.dcm"
    path.write_bytes(content)
    return read_header(path)


def image_of(directory: Path, content: bytes) -> dict[str, Any]:
    (image,) = read_bytes(directory, content).images
    return image


# -- pydicom's bundled files ---------------------------------------------------------------------


def test_the_bundled_files_are_there_and_the_exceptions_among_them() -> None:
    names = {bundled(path) for path in BUNDLED_FILES}
    assert len(names) > 150
    assert names >= UNREADABLE.keys() | MALFORMED.keys()


@pytest.mark.parametrize("path", BUNDLED_FILES, ids=bundled)
def test_every_bundled_file_reads_as_pydicom_reads_it_in_full(path: Path) -> None:
    if bundled(path) in UNREADABLE:
        with pytest.raises(UnreadableFile) as error:
            read_header(path)
        assert str(error.value) == UNREADABLE[bundled(path)]
        return
    header = read_header(path)
    assert exact(header.images) == exact(reference(path))
    expected = MALFORMED.get(bundled(path))
    assert [note.partition(":")[0] for note in header.malformed] == ([expected] if expected else [])


@pytest.mark.parametrize(
    "path", [path for path in BUNDLED_FILES if bundled(path) not in UNREADABLE], ids=bundled
)
def test_every_bundled_file_has_the_pixel_data_that_pydicom_finds(path: Path) -> None:
    data = dcmread(path, force=True)
    header = read_header(path)
    pixels = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(data.dir())
    deflated = plain(data.file_meta, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    if bundled(path) == "MR_truncated.dcm":
        assert header.pixel_data == "cut"
    elif bundled(path) == "rtplan_truncated.dcm":
        assert header.pixel_data == "unknown"
    elif deflated:
        assert header.pixel_data == "none"  # where it stands is not known without inflating
    else:
        assert header.pixel_data == ("whole" if pixels else "none")
    assert header.series_instance_uid == data.get("SeriesInstanceUID")
    declared = None if bundled(path) in MALFORMED else data.get("NumberOfFrames")
    assert header.number_of_frames == (None if declared is None else int(declared))


# -- transfer syntaxes ---------------------------------------------------------------------------

EXPECTED_SMALL = {
    "BitsAllocated": 16,
    "BitsStored": 12,
    "Columns": 3,
    "FrameOfReferenceUID": "1.2.3.5",
    "HighBit": 11,
    "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 0.8, -0.6),
    "ImagePositionPatient": (-100.5, 20.25, -3.125),
    "InstanceNumber": 1,
    "Modality": "CT",
    "PatientID": "patient",
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelRepresentation": 1,
    "PixelSpacing": (0.5, 0.25),
    "PlanarConfiguration": 0,
    "RescaleIntercept": -1024.0,
    "RescaleSlope": 1.5,
    "RescaleType": "HU",
    "Rows": 4,
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "SOPInstanceUID": f"{SERIES}.1",
    "SamplesPerPixel": 1,
    "SliceThickness": 0.625,
    "SpacingBetweenSlices": 0.5,
    "StudyInstanceUID": "1.2.3.4",
}
"""What `dataset()` holds; TransferSyntaxUID is not in the data set."""


def small(syntax: str | None) -> dict[str, Any]:
    return EXPECTED_SMALL | {
        **dict.fromkeys(OPTIONAL),
        "TransferSyntaxUID": syntax,
        "frame_index": None,
        "geometry_source": "top_level",
    }


@pytest.mark.parametrize("syntax", [*NATIVE.values(), DeflatedExplicitVRLittleEndian])
def test_all_25_tags_are_read_in_every_encoding(tmp_path: Path, syntax: Any) -> None:
    header = read_bytes(tmp_path, encode(dataset(syntax)))
    assert len(small(None)) == 25 + 12 + 2
    assert exact(header.images) == exact([small(str(syntax))])
    assert header.pixel_data == ("none" if syntax.is_deflated else "whole")
    assert header.series_instance_uid == SERIES
    assert header.number_of_frames is None
    assert header.malformed == []


@pytest.mark.parametrize("encoding", NATIVE)
def test_a_file_without_preamble_is_read_and_has_no_transfer_syntax(
    tmp_path: Path, encoding: str
) -> None:
    header = read_bytes(tmp_path, encode_without_preamble(dataset(NATIVE[encoding])))
    assert exact(header.images) == exact([small(None)])
    assert header.pixel_data == "whole"


def test_an_encapsulated_stream_counts_as_whole_pixel_data(tmp_path: Path) -> None:
    data = dataset(JPEG2000Lossless, PixelData=encapsulate([bytes(10)]))
    data["PixelData"].VR = "OB"
    header = read_bytes(tmp_path, encode(data))
    assert header.pixel_data == "whole"
    assert exact(header.images) == exact([small(str(JPEG2000Lossless))])


FLOAT_PIXELS = [("FloatPixelData", "OF", 4), ("DoubleFloatPixelData", "OD", 8)]


@pytest.mark.parametrize(("keyword", "vr", "size"), FLOAT_PIXELS)
@pytest.mark.parametrize("encoding", NATIVE)
def test_float_pixels_are_pixel_data_too(
    tmp_path: Path, encoding: str, keyword: str, vr: str, size: int
) -> None:
    data = dataset(NATIVE[encoding], BitsAllocated=None, PixelData=None)
    data.add_new(keyword, vr, bytes(4 * 3 * size))
    content = encode(data)
    assert read_bytes(tmp_path, content).pixel_data == "whole"
    assert read_bytes(tmp_path, content[:-1]).pixel_data == "cut"


def test_padding_that_is_lost_does_not_make_pixel_data_cut(tmp_path: Path) -> None:
    data = dataset()
    data.PixelData += bytes(100)
    content = encode(data)
    assert read_bytes(tmp_path, content[:-100]).pixel_data == "whole"
    assert read_bytes(tmp_path, content[:-101]).pixel_data == "cut"


# -- any values ----------------------------------------------------------------------------------

uids = st.from_regex(r"[1-9][0-9]{0,3}(\.[1-9][0-9]{0,5}){1,8}", fullmatch=True)
codes = st.text("ABCXYZ0189_", min_size=1, max_size=16)
numbers = st.one_of(
    st.floats(-1e15, 1e15, allow_nan=False), st.integers(-(10**6), 10**6).map(float)
).map(format_number_as_ds)
shorts = st.integers(0, 2**16 - 1)
names = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="\\"), min_size=1, max_size=40
)

STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("FrameOfReferenceUID", "SOPInstanceUID", "StudyInstanceUID"), uids),
    **dict.fromkeys(("Modality", "PhotometricInterpretation"), codes),
    **dict.fromkeys(("PatientID", "RescaleType"), names),
    **{keyword: shorts for keyword in WHOLE_NUMBERS if keyword not in {"Rows", "Columns"}},
    **dict.fromkeys(DECIMALS, numbers),
    **{k: st.lists(numbers, min_size=n, max_size=n) for k, n in LISTS.items()},
    "InstanceNumber": st.integers(-(2**31), 2**31 - 1),
    "SOPClassUID": uids,
    "Rows": shorts,
    "Columns": shorts,
}


def expected_value(keyword: str, value: Any) -> Any:
    if value is None:
        return None
    if keyword in LISTS:
        return tuple(map(float, value))
    return float(value) if keyword in DECIMALS else value


def drop_what_cannot_be(image: dict[str, Any]) -> None:
    for keyword, rule in VALUE_RULES.items():
        if image.get(keyword) is not None and not rule.holds(image[keyword]):
            image[keyword] = None
    for keyword, bound, less in BELOW:
        if None not in (image[keyword], image[bound]) and image[keyword] > image[bound] - less:
            image[keyword] = None


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers")


@pytest.mark.parametrize("encoding", NATIVE)
@settings(UNHURRIED, max_examples=60)
@given(values=st.fixed_dictionaries({k: st.none() | s for k, s in STRATEGIES.items()}))
def test_whatever_values_pydicom_writes_are_read_back_equal(
    scratch: Path, encoding: str, values: dict[str, Any]
) -> None:
    syntax = NATIVE[encoding]
    assert values.keys() == EXPECTED_SMALL.keys()
    data = dataset(syntax, **values, PixelData=b"ab")
    data.SpecificCharacterSet = "ISO_IR 192"
    image = image_of(scratch, encode(data))
    expected: dict[str, Any] = dict.fromkeys(OPTIONAL)
    expected |= {keyword: expected_value(keyword, value) for keyword, value in values.items()}
    drop_what_cannot_be(expected)
    has_geometry = any(expected[keyword] is not None for keyword in GEOMETRY)
    expected |= {
        "TransferSyntaxUID": str(syntax),
        "frame_index": None,
        "geometry_source": "top_level" if has_geometry else None,
    }
    assert exact([image]) == exact([expected])


# -- multi-frame ---------------------------------------------------------------------------------


def values_of(source: str, frame: int) -> dict[str, Any]:
    """Return a value of each attribute by which its place can be told."""
    mark = 100 * (SOURCES.index(source) + 1) + frame
    numbers: dict[str, Any] = {k: f"{mark}.{i}" for i, k in enumerate(DECIMALS)}
    numbers |= {k: [f"{mark}.{i}" for i in range(n)] for k, n in LISTS.items()}
    numbers["ImageOrientationPatient"] = ["1", "0", f"0.000{mark}", "0", "1", "0"]
    return numbers | {"RescaleType": f"{source} {frame}"}


@settings(UNHURRIED, max_examples=60)
@given(
    where=st.fixed_dictionaries({k: st.sets(st.sampled_from(SOURCES)) for k in MACROS}),
    lacking=st.sets(st.sampled_from(sorted(MACROS))),
)
def test_each_attribute_of_a_frame_comes_from_per_frame_then_shared_then_top_level(
    scratch: Path, where: dict[str, set[str]], lacking: set[str]
) -> None:
    def only(source: str, frame: int) -> dict[str, Any]:
        values = values_of(source, frame)
        return {k: values[k] for k in MACROS if source in where[k]}

    second = {k: v for k, v in only("per_frame", 1).items() if k not in lacking}
    data = enhanced(
        2,
        shared=only("shared", 0),
        per_frame=[only("per_frame", 0), second],
        **only("top_level", 0),
    )
    header = read_bytes(scratch, encode(data))
    assert header.number_of_frames == 2
    assert [image["frame_index"] for image in header.images] == [0, 1]
    for frame, image in enumerate(header.images):
        used = set()
        for keyword in MACROS:
            there = where[keyword] - ({"per_frame"} if frame and keyword in lacking else set())
            source = next((s for s in SOURCES if s in there), None)
            value = source and values_of(source, frame if source == "per_frame" else 0)[keyword]
            assert repr(image[keyword]) == repr(expected_value(keyword, value))
            used |= {source} if keyword in GEOMETRY else set()
        assert image["geometry_source"] == ("+".join(s for s in SOURCES if s in used) or None)


def test_what_is_no_geometry_has_no_part_in_geometry_source(tmp_path: Path) -> None:
    data = enhanced(1, shared={"RescaleSlope": "2"}, per_frame=[{"RescaleType": "US"}])
    image = image_of(tmp_path, encode(data))
    assert (image["RescaleSlope"], image["RescaleType"]) == (2.0, "US")
    assert image["geometry_source"] is None


def test_an_empty_value_in_the_nearer_group_gives_way_to_the_farther(tmp_path: Path) -> None:
    data = enhanced(2, shared={"SliceThickness": "3"}, per_frame=[{"SliceThickness": None}] * 2)
    data.PerFrameFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = ""
    header = read_bytes(tmp_path, encode(data))
    assert [image["SliceThickness"] for image in header.images] == [3.0, 3.0]
    assert header.images[0]["geometry_source"] == "shared"
    assert header.malformed == []


def test_one_frame_with_functional_groups_has_their_geometry_and_no_frame_index(
    tmp_path: Path,
) -> None:
    data = enhanced(1, per_frame=[{"ImagePositionPatient": ["1", "2", "3"]}])
    header = read_bytes(tmp_path, encode(data))
    (image,) = header.images
    assert header.number_of_frames == 1
    assert image["frame_index"] is None
    assert image["ImagePositionPatient"] == (1.0, 2.0, 3.0)
    assert image["geometry_source"] == "per_frame"


def test_frames_beyond_the_end_of_per_frame_have_shared_geometry(tmp_path: Path) -> None:
    data = enhanced(
        3,
        shared={"PixelSpacing": ["0.5", "0.5"]},
        per_frame=[{"ImagePositionPatient": ["1", "2", "3"], "PixelSpacing": ["0.1", "0.2"]}],
    )
    header = read_bytes(tmp_path, encode(data))
    first, *others = header.images
    assert first["PixelSpacing"] == (0.1, 0.2)
    assert first["ImagePositionPatient"] == (1.0, 2.0, 3.0)
    assert first["geometry_source"] == "per_frame"
    for image in others:
        assert image["PixelSpacing"] == (0.5, 0.5)
        assert image["ImagePositionPatient"] is None
        assert image["geometry_source"] == "shared"


def test_without_number_of_frames_per_frame_says_how_many_there_are(tmp_path: Path) -> None:
    positions = [["1", "2", str(z)] for z in range(3)]
    data = enhanced(3, per_frame=[{"ImagePositionPatient": p} for p in positions])
    del data.NumberOfFrames
    header = read_bytes(tmp_path, encode(data))
    assert header.number_of_frames is None
    assert [image["frame_index"] for image in header.images] == [0, 1, 2]
    assert [image["ImagePositionPatient"][2] for image in header.images] == [0, 1, 2]


def test_items_of_per_frame_beyond_number_of_frames_are_no_images(tmp_path: Path) -> None:
    header = read_bytes(tmp_path, encode(enhanced(2, per_frame=[{"RescaleSlope": "1"}] * 4)))
    assert len(header.images) == header.number_of_frames == 2


def test_number_of_frames_of_zero_is_one_image(tmp_path: Path) -> None:
    header = read_bytes(tmp_path, encode_with({"NumberOfFrames": ("IS", b"0 ")}))
    assert len(header.images) == 1
    assert header.number_of_frames is None
    assert header.malformed == ["NumberOfFrames: 0 is not positive"]
    assert header.images[0]["frame_index"] is None


@pytest.mark.parametrize("number", [-1, MAX_FRAMES + 1, 2**31 - 1])
def test_a_number_of_frames_that_cannot_be_makes_the_file_unreadable(
    tmp_path: Path, number: int
) -> None:
    with pytest.raises(UnreadableFile, match=f"declares {number} frames"):
        read_bytes(tmp_path, encode_with({"NumberOfFrames": ("IS", str(number).encode())}))


def test_a_group_that_is_no_sequence_makes_no_other_error_than_unreadable(tmp_path: Path) -> None:
    content = encode_with({"SharedFunctionalGroupsSequence": ("OB", b"ab")}, enhanced(1))
    with pytest.raises(UnreadableFile):
        read_bytes(tmp_path, content)


# -- values that cannot be -----------------------------------------------------------------------

EMPTY = {
    **{keyword: ("UI", b"") for keyword in TEXTS if keyword.endswith("UID")},
    **dict.fromkeys(("PatientID", "RescaleType"), ("LO", b"")),
    **dict.fromkeys(("Modality", "PhotometricInterpretation"), ("CS", b"")),
    **dict.fromkeys(WHOLE_NUMBERS, ("US", b"")),
    **dict.fromkeys((*DECIMALS, *LISTS), ("DS", b"")),
    "InstanceNumber": ("IS", b""),
}
del EMPTY["TransferSyntaxUID"]


def test_empty_values_are_null_and_not_malformed(tmp_path: Path) -> None:
    header = read_bytes(tmp_path, encode_with(EMPTY))
    (image,) = header.images
    assert {keyword: image[keyword] for keyword in EMPTY} == dict.fromkeys(EMPTY)
    assert image["geometry_source"] is None
    assert header.malformed == []


@pytest.mark.parametrize("blank", [b"  ", b"\0\0", b" \0"])
@pytest.mark.parametrize("keyword", ["PatientID", "Modality", "SliceThickness", "InstanceNumber"])
def test_values_of_nothing_but_padding_are_null_and_not_malformed(
    tmp_path: Path, keyword: str, blank: bytes
) -> None:
    vr = dictionary_VR(keyword)
    header = read_bytes(tmp_path, encode_with({keyword: (vr, blank)}))
    assert header.images[0][keyword] is None
    assert header.malformed == []


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("SliceThickness", "DS", b"thin"),
        ("SliceThickness", "DS", b"0.5\\0.6 "),
        ("SliceThickness", "DS", b"nan "),
        ("SliceThickness", "DS", b"inf "),
        ("SliceThickness", "DS", b"1e999 "),
        ("SliceThickness", "DS", b"0,5 "),
        ("SliceThickness", "OB", b"\1\2"),
        ("RescaleSlope", "FD", struct.pack("<d", math.nan)),
        ("RescaleSlope", "FD", b"abc"),
        ("InstanceNumber", "IS", b"one "),
        ("InstanceNumber", "IS", b"1.5 "),
        ("InstanceNumber", "IS", b"1\\2 "),
        ("InstanceNumber", "IS", b"2147483648"),
        ("InstanceNumber", "IS", b"-2147483649 "),
        ("Rows", "US", b"\1\0\2\0"),
        ("Rows", "US", b"abc"),
        ("PixelSpacing", "DS", b"0.5 "),
        ("PixelSpacing", "DS", b"0.5\\0.5\\0.5 "),
        ("PixelSpacing", "DS", b"0.5\\"),
        ("PixelSpacing", "DS", b"0.5\\wide"),
        ("ImagePositionPatient", "DS", b"1\\2\\nan "),
        ("ImageOrientationPatient", "DS", b"1\\0\\0 "),
        ("PatientID", "OB", b"ab"),
        ("PatientID", "US", b"ab"),
        ("NumberOfFrames", "IS", b"1A"),
        ("NumberOfFrames", "IS", b"2.5 "),
    ],
)
def test_a_value_that_cannot_be_is_null_and_noted_and_every_other_is_read(
    tmp_path: Path, keyword: str, vr: str, value: bytes
) -> None:
    header = read_bytes(tmp_path, encode_with({keyword: (vr, value)}))
    (note,) = header.malformed
    assert note.startswith(f"{keyword}: ")
    expected = small(str(ExplicitVRLittleEndian))
    if keyword == "NumberOfFrames":
        assert header.number_of_frames is None
    else:
        expected |= {keyword: None}
    assert exact(header.images) == exact([expected])


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "expected"),
    [
        ("SliceThickness", "DS", b" 0.5", 0.5),
        ("SliceThickness", "DS", b"5e-1\0", 0.5),
        ("SliceThickness", "FD", struct.pack("<d", 0.1), 0.1),
        ("InstanceNumber", "IS", b" +7 ", 7),
        ("InstanceNumber", "IS", b"7.0 ", 7),
        ("InstanceNumber", "DS", b"7.0 ", 7),
        ("Rows", "UN", b"\7\0", 7),
        ("Modality", "CS", b"CT\\MR ", "CT\\MR"),
        ("PatientID", "LO", b" a  b ", " a  b"),
        ("SOPClassUID", "UI", b"1.2.3\0", "1.2.3"),
        ("SOPClassUID", "UI", b"1.2.3 ", "1.2.3"),
        ("StudyInstanceUID", "UI", b"no.uid", "no.uid"),
    ],
)
def test_a_value_written_in_an_odd_way_is_taken(
    tmp_path: Path, keyword: str, vr: str, value: bytes, expected: Any
) -> None:
    header = read_bytes(tmp_path, encode_with({keyword: (vr, value)}))
    assert repr(header.images[0][keyword]) == repr(expected)
    assert header.malformed == []


def test_a_malformed_value_of_the_nearer_group_is_noted_and_not_replaced(tmp_path: Path) -> None:
    data = enhanced(
        2,
        shared={"PixelSpacing": ["0.5", "0.5"]},
        per_frame=[{"PixelSpacing": ["1", "1", "1"]}, {}],
    )
    header = read_bytes(tmp_path, encode(data))
    assert [image["PixelSpacing"] for image in header.images] == [None, (0.5, 0.5)]
    (note,) = header.malformed
    assert note.startswith("PixelSpacing: ")


# -- files cut short -----------------------------------------------------------------------------


def boundaries(content: bytes) -> set[int]:
    """Return where an element of the data set or its file meta information begins."""
    data = dcmread(DicomBytesIO(content), force=True)
    starts = {len(content)}
    for elements, implicit in ((data.file_meta, False), (data, data.original_encoding[0])):
        for tag in elements.keys():  # noqa: SIM118
            element = elements.get_item(tag)
            value = element.value_tell if element.is_raw else element.file_tell
            long = not implicit and element.VR in EXPLICIT_VR_LENGTH_32
            starts.add(value - (12 if long else 8))
    return starts


def with_skipped_elements(syntax: Any, *, undefined_length: bool) -> Dataset:
    """Return an image with elements that are not wanted, sequences in sequences among them."""
    data = dataset(syntax)
    inner = Dataset()
    inner.CodeValue = "T-A0100"
    outer = Dataset()
    outer.PurposeOfReferenceCodeSequence = Sequence([inner])
    outer.ReferencedSOPInstanceUID = "1.2.3"
    data.ReferencedImageSequence = Sequence([outer, Dataset(), outer])
    data.AnatomicRegionSequence = Sequence([])
    data.private_block(0x0019, "PRIVATE", create=True).add_new(1, "OB", b"private bytes!")
    data.private_block(0x0019, "PRIVATE").add_new(2, "SQ", Sequence([inner]))
    data.PatientComments = "comments"
    for sequence in (data.ReferencedImageSequence, data[0x0019, 0x1002].value):
        for item in sequence:
            item.is_undefined_length_sequence_item = undefined_length
    data["ReferencedImageSequence"].is_undefined_length = undefined_length
    data[0x0019, 0x1002].is_undefined_length = undefined_length
    return data


def with_functional_groups(syntax: Any, *, undefined_length: bool) -> Dataset:
    data = enhanced(
        2,
        shared={"PixelSpacing": ["0.5", "0.25"], "RescaleSlope": "2"},
        per_frame=[{"ImagePositionPatient": ["1", "2", z]} for z in ("3", "4")],
        syntax=syntax,
    )
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        data[keyword].is_undefined_length = undefined_length
        for item in data[keyword].value:
            item.is_undefined_length_sequence_item = undefined_length
    return data


CUT = {
    f"{name}, {encoding}": content
    for encoding, syntax in NATIVE.items()
    for name, content in {
        "plain": encode(dataset(syntax)),
        "without preamble": encode_without_preamble(dataset(syntax)),
        "skipped elements": encode(with_skipped_elements(syntax, undefined_length=False)),
        "skipped elements of undefined length": encode(
            with_skipped_elements(syntax, undefined_length=True)
        ),
        "functional groups": encode(with_functional_groups(syntax, undefined_length=False)),
        "functional groups of undefined length": encode(
            with_functional_groups(syntax, undefined_length=True)
        ),
    }.items()
}


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_at_any_byte_never_gives_a_wrong_value_nor_loses_one_silently(
    tmp_path: Path, name: str
) -> None:
    content = CUT[name]
    whole = read_bytes(tmp_path, content)
    assert whole.pixel_data == "whole"
    assert whole.malformed == []
    starts = boundaries(content)
    pixels = max(starts - {len(content)}) + (8 if "implicit" in name else 12)
    for length in range(len(content)):
        try:
            header = read_bytes(tmp_path, content[:length])
        except UnreadableFile:
            assert length < pixels
            continue
        assert header.malformed == [], length
        if length >= pixels:
            assert header.pixel_data == "cut", length
            assert exact(header.images) == exact(whole.images), length
            continue
        # Nothing in a file tells that it goes on where an element ends.
        assert length in starts, length
        assert header.pixel_data == "none", length
        assert len(header.images) in {1, len(whole.images)}
        for image, complete in zip(header.images, whole.images, strict=False):
            for keyword in TAGS:
                assert image[keyword] is None or image[keyword] == complete[keyword], length


def test_a_deflated_file_cut_at_any_byte_is_unreadable(tmp_path: Path) -> None:
    content = encode(dataset(DeflatedExplicitVRLittleEndian))
    group_length = dcmread(DicomBytesIO(content)).file_meta.FileMetaInformationGroupLength
    end_of_meta = 128 + 4 + 12 + group_length
    for length in range(end_of_meta + 1, len(content)):
        with pytest.raises(UnreadableFile):
            read_bytes(tmp_path, content[:length])
    assert read_bytes(tmp_path, content[:end_of_meta]).pixel_data == "none"


def test_a_header_cut_short_says_at_which_byte(tmp_path: Path) -> None:
    content = CUT["plain, explicit little endian"]
    with pytest.raises(
        UnreadableFile, match=r"^is cut short in its header, at byte 500: \(0020,0032"
    ):
        read_bytes(tmp_path, content[:500])


@pytest.mark.parametrize("room", [0, 10_000])
def test_elements_that_are_not_wanted_do_not_make_a_whole_file_seem_cut(
    tmp_path: Path, room: int
) -> None:
    data = with_skipped_elements(ExplicitVRLittleEndian, undefined_length=True)
    block = data.private_block(0x0029, "PRIVATE", create=True)
    block.add_new(1, "OB", encapsulate([b"icon"]))
    data[0x0029, 0x1001].is_undefined_length = True
    data.PixelData += bytes(room)
    header = read_bytes(tmp_path, encode(data))
    assert exact(header.images) == exact([small(str(ExplicitVRLittleEndian))])
    assert header.pixel_data == "whole"


# -- what is no DICOM ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\0" * 128,
        b"\0" * 128 + b"DIC",
        b"a text\n" * 100,
        b"\xff" * 1000,
        b'{"00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]}}' * 5,
        random.Random(0).randbytes(10_000),
    ],
    ids=["empty", "one byte", "zeros", "preamble alone", "text", "ones", "JSON", "random"],
)
def test_what_is_no_dicom_is_unreadable(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFile, match=f"^{NO_DICOM}$"):
        read_bytes(tmp_path, content)


@settings(UNHURRIED, max_examples=150)
@given(st.binary(max_size=400))
def test_random_bytes_are_unreadable(scratch: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFile):
        read_bytes(scratch, content)


def read_or_refuse(directory: Path, content: bytes) -> None:
    try:
        header = read_bytes(directory, content)
    except UnreadableFile as error:
        reason = str(error)
    else:
        assert header.images
        return
    assert reason
    assert "\n" not in reason


@settings(UNHURRIED, max_examples=150)
@given(st.binary(max_size=200))
def test_random_bytes_after_the_preamble_raise_nothing_but_unreadable(
    scratch: Path, content: bytes
) -> None:
    read_or_refuse(scratch, bytes(128) + b"DICM" + content)


@pytest.mark.parametrize("name", CUT)
@settings(UNHURRIED, max_examples=30)
@given(data=st.data())
def test_damaged_bytes_raise_nothing_but_unreadable(
    scratch: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray(CUT[name])
    places = st.integers(0, len(content) - 1)
    damage = data.draw(st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=3))
    for place, byte in damage.items():
        content[place] = byte
    read_or_refuse(scratch, bytes(content))


def test_what_the_machine_does_not_give_is_no_finding_about_a_file(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"missing\.dcm: No such file"):
        read_header(tmp_path / "missing.dcm")
    with pytest.raises(MachineError, match="Is a directory"):
        read_header(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails to read")
def test_a_disk_that_fails_under_the_reader_is_no_finding_about_the_file() -> None:
    with pytest.raises(MachineError, match="Input/output error"):
        read_header("/proc/self/mem")


def test_a_file_is_closed_whatever_came_of_it(tmp_path: Path) -> None:
    before = open_files()
    read_bytes(tmp_path, CUT["plain, explicit little endian"])
    for content in (b"text", CUT["plain, explicit little endian"][:500]):
        with pytest.raises(UnreadableFile):
            read_bytes(tmp_path, content)
    assert open_files() == before


def open_files() -> int:
    listing = Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
    return len(list(listing.iterdir()))
