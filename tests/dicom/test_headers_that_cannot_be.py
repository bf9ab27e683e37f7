"""Headers that break PS3.3, PS3.5 or PS3.10: what is read of them, by both readers alike."""

import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from aneurysm_assets.dicom.attributes import BELOW, VALUE_RULES
from aneurysm_assets.dicom.fast_parser.reader import SeriesReader
from aneurysm_assets.dicom.header import Header
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.dicom.series import read_series
from aneurysm_assets.dicom.top_level import outside_order
from aneurysm_assets.errors import SeriesError, UnreadableFile
from aneurysm_assets.storage.fingerprint import fingerprint_of_directory
from tests.dicom_bytes import IMPLICIT, dicom, element, image, item, meta, sequence, walk_header

UID = "1.2.3.5"
SHORT = {"US": lambda n: struct.pack("<H", n), "DS": str, "IS": str}

POSITION, ORIENTATION, SPACING = 0x00200032, 0x00200037, 0x00280030


def read(tmp_path: Path, content: bytes) -> Header:
    path = tmp_path / "file.dcm"
    path.write_bytes(content)
    return read_header(path)


def of_series(tmp_path: Path, **files: bytes):
    directory = tmp_path / "series" / UID
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return read_series(directory, tmp_path)


def with_value(tag: int, vr: str, value: bytes | str) -> bytes:
    padded = value if isinstance(value, bytes) else value + " " * (len(value) % 2)
    return dicom(image(changes={tag: element(tag, vr, padded)}))


@pytest.mark.parametrize(
    ("tag", "vr", "value", "name"),
    [
        (SPACING, "DS", "0\\0", "PixelSpacing"),
        (SPACING, "DS", "-0.5\\0.5", "PixelSpacing"),
        (ORIENTATION, "DS", "0\\0\\0\\0\\0\\0", "ImageOrientationPatient"),
        (ORIENTATION, "DS", "1\\0\\0\\1\\0\\0", "ImageOrientationPatient"),
        (ORIENTATION, "DS", "2\\0\\0\\0\\2\\0", "ImageOrientationPatient"),
        (ORIENTATION, "DS", "1\\0\\0\\0.1\\0.995\\0", "ImageOrientationPatient"),
        (0x00180050, "DS", "0", "SliceThickness"),
        (0x00180088, "DS", "-1", "SpacingBetweenSlices"),
        (0x00281053, "DS", "0", "RescaleSlope"),
        (0x00281051, "DS", "0", "WindowWidth"),
        (0x00280010, "US", b"\0\0", "Rows"),
        (0x00280011, "US", b"\0\0", "Columns"),
        (0x00280002, "US", b"\2\0", "SamplesPerPixel"),
        (0x00280006, "US", b"\2\0", "PlanarConfiguration"),
        (0x00280100, "US", b"\x0c\0", "BitsAllocated"),
        (0x00280101, "US", b"\0\0", "BitsStored"),
        (0x00280101, "US", b"\x11\0", "BitsStored"),
        (0x00280102, "US", b"\x10\0", "HighBit"),
        (0x00280103, "US", b"\2\0", "PixelRepresentation"),
        (0x00280008, "IS", "0", "NumberOfFrames"),
    ],
)
def test_a_value_that_cannot_be_is_null_and_noted_with_file_tag_and_value(
    tmp_path, tag, vr, value, name
) -> None:
    content = with_value(tag, vr, value)
    header = read(tmp_path, content)
    assert walk_header(tmp_path / "file.dcm") is None
    number = header.number_of_frames if name == "NumberOfFrames" else header.images[0][name]
    assert number is None
    assert [note.partition(":")[0] for note in header.malformed] == [name]
    series = of_series(tmp_path, a=content)
    assert series.frame[name].to_list() == [None]
    assert series.frame["header_notes"].to_list() == header.malformed
    assert series.malformed == [f"a: {header.malformed[0]}"]


def test_each_rule_names_its_section_and_the_values_it_holds_for_are_read_as_they_are(
    tmp_path,
) -> None:
    assert all(rule.text and rule.source for rule in VALUE_RULES.values())
    assert {name for name, _, _ in BELOW} == {"BitsStored", "HighBit"}
    header = read(tmp_path, dicom(image()))
    assert header.malformed == []
    assert header.images[0]["PixelSpacing"] == (0.5, 0.5)


def test_a_template_does_not_bring_a_value_that_cannot_be(tmp_path) -> None:
    reader = SeriesReader()
    for number in range(12):
        path = tmp_path / f"{number}.dcm"
        stored = 16 if number < 11 else 17
        bits = element(0x00280101, "US", struct.pack("<H", stored))
        path.write_bytes(dicom(image(changes={0x00280101: bits})))
        found = reader.read(path)
        assert (found is None) == (stored > 16), number


def test_of_a_position_that_stands_twice_the_one_in_its_order_counts(tmp_path) -> None:
    true, private = image(), element(0x20050010, "LO", "PRIVATE ")
    pixels = true.index(struct.pack("<HH", 0x7FE0, 0x0010))
    stray = element(POSITION, "DS", "9\\9\\9 ")
    content = dicom(true[:pixels], private, stray, true[pixels:])
    header = read(tmp_path, content)
    assert header.images[0]["ImagePositionPatient"] == (-1.5, 2.0, 30.0)
    assert header.pixel_data == "whole"
    (note,) = header.malformed
    assert "(0020,0032) ImagePositionPatient: stands outside its order" in note
    # pydicom lets the last one win, which PS3.5 7.1 does not have in this place.
    assert list(dcmread(tmp_path / "file.dcm").ImagePositionPatient) == [9, 9, 9]


def test_of_a_position_that_stands_twice_in_a_row_the_first_counts(tmp_path) -> None:
    twice = element(POSITION, "DS", "1\\2\\3 ") + element(POSITION, "DS", "9\\9\\9 ")
    header = read(tmp_path, dicom(image(changes={POSITION: twice})))
    assert header.images[0]["ImagePositionPatient"] == (1.0, 2.0, 3.0)
    assert len(header.malformed) == 1


def test_a_position_that_only_stands_outside_its_order_is_read_and_noted(tmp_path) -> None:
    true = image(changes={POSITION: b""})
    pixels = true.index(struct.pack("<HH", 0x7FE0, 0x0010))
    late = element(0x20050010, "LO", "PRIVATE ") + element(POSITION, "DS", "9\\9\\9 ")
    header = read(tmp_path, dicom(true[:pixels], late, true[pixels:]))
    assert header.images[0]["ImagePositionPatient"] == (9.0, 9.0, 9.0)
    assert header.malformed == ["(0020,0032) ImagePositionPatient: stands outside its order"]


@given(
    chain=st.lists(st.integers(0, 10_000), min_size=8, max_size=40, unique=True).map(sorted),
    stray=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 40)), max_size=3),
)
def test_a_few_elements_at_any_place_never_outweigh_those_in_order(chain, stray) -> None:
    tags = list(chain)
    for tag, place in stray:
        tags.insert(min(place, len(tags)), tag)
    outside = outside_order(tags)
    kept = [tag for index, tag in enumerate(tags) if index not in outside]
    assert all(one < other for one, other in pairwise(kept))
    assert len(kept) >= len(chain)


def test_the_group_of_the_file_meta_information_ends_where_it_says(tmp_path) -> None:
    behind = element(0x00020010, "UI", IMPLICIT + "\0")
    content = bytes(128) + b"DICM" + meta() + behind + image()
    header = read(tmp_path, content)
    assert header.images[0]["TransferSyntaxUID"] == "1.2.840.10008.1.2.1"
    assert header.images[0]["Rows"] == 2
    assert header.pixel_data == "whole"
    assert header.malformed == ["(0002,0010) TransferSyntaxUID: stands twice; the first one counts"]


def enhanced_as_un(frames: int, padding: int) -> bytes:
    def frame(number: int) -> bytes:
        place = element(POSITION, "DS", f"0\\0\\{number:<3}", explicit=False)
        planes = sequence(0x00209113, item(place), explicit=False)
        return item(planes, element(0x00291010, "OB", bytes(padding), explicit=False))

    groups = b"".join(frame(number) for number in range(frames))
    return dicom(
        image(element(0x00280008, "IS", f"{frames:<2}"), changes={POSITION: b""}, pixels=None),
        element(0x52009230, "UN", groups),
        element(0x7FE00010, "OW", bytes(8 * frames)),
    )


@pytest.mark.parametrize("padding", [2, 40_000])
def test_functional_groups_as_un_of_any_length_are_implicit_vr(tmp_path, padding) -> None:
    header = read(tmp_path, enhanced_as_un(3, padding))
    places = [each["ImagePositionPatient"] for each in header.images]
    assert places == [(0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 2.0)]
    assert {each["geometry_source"] for each in header.images} == {"per_frame+top_level"}


def icon_too_short() -> bytes:
    icon = item(element(0x00280010, "US", b"\2\0"), element(0x00280011, "US", b"\2\0"))
    short = icon[:4] + struct.pack("<I", len(icon) - 8 - 10) + icon[8:]
    return element(0x00880200, "SQ", short + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("tag", "damaged"),
    [
        ("(0088,0200) IconImageSequence", icon_too_short()),
        ("(0029,1010)", struct.pack("<HH2sH", 0x0029, 0x1010, b"LO", 65_000) + b"short"),
        ("(0029,1010)", struct.pack("<HH2sH", 0x0029, 0x1010, b"  ", 4) + b"four"),
    ],
    ids=["an icon whose items are too short", "longer than the file", "without a VR"],
)
def test_a_damaged_element_behind_all_that_is_wanted_costs_a_note(tmp_path, tag, damaged) -> None:
    true = image()
    pixels = true.index(struct.pack("<HH", 0x7FE0, 0x0010))
    content = dicom(true[:pixels], damaged, true[pixels:])
    header = read(tmp_path, content)
    assert header.images[0]["ImagePositionPatient"] == (-1.5, 2.0, 30.0)
    assert header.pixel_data == "unknown"
    (note,) = header.malformed
    assert note.startswith(f"{tag}: is damaged, what follows it is not read: ")
    assert of_series(tmp_path, a=content).frame["pixel_data_short"].to_list() == [None]


def test_a_damaged_element_before_what_is_wanted_makes_the_file_unreadable_by_its_name(
    tmp_path,
) -> None:
    damaged = struct.pack("<HH2sH", 0x0028, 0x0120, b"  ", 2) + b"\0\0"
    with pytest.raises(UnreadableFile, match=r"\(0028,0120\) PixelPaddingValue.*has no VR"):
        read(tmp_path, with_value(0x00280120, "US", b"").replace(
            element(0x00280120, "US", b""), damaged
        ))  # fmt: skip


def test_of_a_file_that_may_have_functional_groups_nothing_before_damage_is_believed(
    tmp_path,
) -> None:
    frames = element(0x00280008, "IS", "2 ")
    damaged = struct.pack("<HH2sH", 0x0029, 0x1010, b"  ", 4) + b"four"
    with pytest.raises(UnreadableFile, match=r"\(0029,1010\)"):
        read(tmp_path, dicom(image(frames, pixels=None), damaged))


def test_an_image_of_acr_nema_is_read_without_preamble_and_sop_class(tmp_path) -> None:
    content = image(
        explicit=False,
        changes=dict.fromkeys((524293, 524310, 524312, POSITION, ORIENTATION), b""),
    )
    header = read(tmp_path, content)
    assert header.images[0]["Rows"] == 2
    assert header.images[0]["SOPInstanceUID"] is None
    assert header.images[0]["TransferSyntaxUID"] is None
    with pytest.raises(UnreadableFile, match="is no DICOM file"):
        read(tmp_path, b"notes of a Monday\n" * 100)


def test_pixel_data_a_byte_short_keeps_the_header_and_says_so(tmp_path) -> None:
    series = of_series(tmp_path, a=dicom(image()), b=dicom(image())[:-1])
    assert series.unreadable_files == 0
    assert series.frame["pixel_data_short"].to_list() == [False, True]
    assert series.frame["ImagePositionPatient"].null_count() == 0


def test_known_litter_is_passed_over_and_said_and_changes_no_fingerprint(tmp_path) -> None:
    of_series(tmp_path, a=dicom(image()))
    directory = tmp_path / "series" / UID
    before = fingerprint_of_directory(directory)
    litter = (".DS_Store", "Thumbs.db", "._a", "DICOMDIR", "notes.txt")
    for name in litter:
        (directory / name).write_bytes(b"anything")
    series = of_series(tmp_path)
    assert (series.files, series.unreadable_files, series.frame.height) == (1, 0, 1)
    assert series.litter == tuple(sorted(litter))
    assert fingerprint_of_directory(directory) == before
    (directory / "a").unlink()
    with pytest.raises(SeriesError, match="has no files that could be images, only"):
        of_series(tmp_path)


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["PixelSpacing", "SliceThickness", "RescaleSlope", "WindowWidth"]),
    numbers=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
)
def test_both_readers_agree_on_which_numbers_can_be(tmp_path_factory, name, numbers) -> None:
    tag = {"PixelSpacing": SPACING, "SliceThickness": 0x00180050, "RescaleSlope": 0x00281053,
           "WindowWidth": 0x00281051}[name]  # fmt: skip
    values = numbers if name == "PixelSpacing" else numbers[:1]
    directory = tmp_path_factory.mktemp("numbers")
    header = read(directory, with_value(tag, "DS", "\\".join(map(str, values))))
    expected = tuple(map(float, values))
    can_be = all(n != 0 if name == "RescaleSlope" else n > 0 for n in values)
    kept = header.images[0][name]
    assert (kept if isinstance(kept, tuple) else (kept,)) == (expected if can_be else (None,))
    assert (walk_header(directory / "file.dcm") is not None) == can_be
