"""The walk says exactly what pydicom says, or nothing."""

import importlib.util
import struct
import time
import tracemalloc
from pathlib import Path

import polars as pl
import pydicom
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import AllTransferSyntaxes

from aneurysm_assets.dicom.attributes import (
    ATTRIBUTES,
    GROUPS,
    NAMES_IN_GROUP,
    PER_FRAME,
    SHARED,
    Attribute,
    tag_of,
)
from aneurysm_assets.dicom.fast_parser import values
from aneurysm_assets.dicom.fast_parser.values import FallBackToPydicom, encoding_of
from aneurysm_assets.sample import write_load_sample, write_sample
from tests.dicom_bytes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_2000,
    PYDICOM_FILES,
    UNDEFINED,
    by_pydicom,
    delimiter,
    dicom,
    element,
    image,
    item,
    meta,
    require_same,
    sequence,
    walk_header,
)

DATA_FILES = importlib.util.find_spec("data_store")

EMPTY = bytes(128) + b"DICM"


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample"))


def files_below(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def walked(tmp_path, data: bytes):
    """Walk a file of these bytes and hold it against pydicom."""
    path = tmp_path / "file.dcm"
    path.write_bytes(data)
    found = walk_header(path)
    require_same(found, path)
    return found


def only_image(tmp_path, data: bytes):
    found = walked(tmp_path, data)
    assert found is not None
    (only,) = found.images
    return only


def read_by_their_bytes(files: list[Path]) -> int:
    """Require of each file what pydicom reads; return of how many it was not asked."""
    fast = 0
    for path in files:
        found = walk_header(path)
        require_same(found, path, path.name)
        fast += found is not None
    return fast


class TestRealFiles:
    def test_what_pydicom_brings(self):
        files = files_below(PYDICOM_FILES)
        assert len(files) > 150
        fast = read_by_their_bytes(files)
        readable = sum(by_pydicom(path) is not None for path in files)
        assert fast > 0.85 * readable, f"{fast} of {readable}"

    @pytest.mark.skipif(DATA_FILES is None, reason="the package pydicom-data is not installed")
    def test_what_pydicom_data_brings(self):
        files = files_below(Path(DATA_FILES.origin).parent / "data")
        assert len(files) > 60
        fast = read_by_their_bytes(files)
        assert fast > 0.7 * len(files)

    def test_the_sample(self, sample):
        files = files_below(sample / "series")
        slow = []
        for path in files:
            found = walk_header(path)
            require_same(found, path, path)
            if found is None:
                slow.append(path)
        assert len(slow) < len(files) / 5

    def test_the_load_sample(self, tmp_path):
        files = files_below(write_load_sample(tmp_path, 10, 3) / "series")
        assert len(files) == 30
        for path in files:
            found = walk_header(path)
            assert found is not None
            require_same(found, path, path)


class TestWhatIsInDoubt:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"DICM",
            bytes(132),
            EMPTY,
            EMPTY + element(0x00080018, "UI", "1.2\0"),
            EMPTY + meta(),
            EMPTY + element(0x00020010, "UI", EXPLICIT + "\0") + image(),
            EMPTY + element(0x00020000, "US", b"\0\0\0\0") + meta() + image(),
            EMPTY + meta() + meta() + image(),
            EMPTY + meta(EXPLICIT, element(0x00020010, "UI", EXPLICIT + "\0")) + image(),
            dicom(image(), syntax=BIG_ENDIAN),
            dicom(image(), syntax=DEFLATED),
            dicom(image(), syntax="1.2.840.10008.1.2.4.95"),
            dicom(image(), syntax="1.2.3"),
            dicom(image(), syntax=""),
            dicom(image(explicit=False)),
            dicom(image(), syntax=IMPLICIT),
            dicom(element(0x00000010, "US", b"\1\0"), image()),
            image(),
        ],
    )
    def test_files(self, tmp_path, data):
        assert walked(tmp_path, data) is None

    @pytest.mark.parametrize(
        "odd",
        [
            element(0x00080060, "UN", "CT"),
            element(0x00080060, "LO", "CT"),
            element(0x00080060, "ZZ", "CT"),
            element(0x00080060, "OB", "CT"),
            element(0x00280010, "SS", b"\2\0"),
            element(0x00280010, "US", b"\2"),
            element(0x00280010, "US", b"\2\0\3\0"),
            element(0x00280010, "UL", b"\2\0\0\0"),
            element(0x00200013, "IS", "1.0 "),
            element(0x00200013, "IS", "1\\2 "),
            element(0x00200013, "IS", "1_0 "),
            element(0x00200013, "IS", "4294967296"),
            element(0x00200013, "IS", "9" * 5000),
            element(0x00200013, "IS", "seven "),
            element(0x00180050, "DS", "1,25"),
            element(0x00180050, "DS", "1.25\\2"),
            element(0x00180050, "DS", "nan "),
            element(0x00180050, "DS", "1_0 "),
            element(0x00180050, "DS", "1e999 "),
            element(0x00180050, "DS", "\x001.5"),
            element(0x00180050, "DS", "1.\0005"),
            element(0x00180050, "DS", "\\"),
            element(0x00180050, "FD", struct.pack("<d", 1.5)),
            element(0x00280030, "DS", "0.5 "),
            element(0x00280030, "DS", "0.5\\"),
            element(0x00280030, "DS", "0.5\\0.5\\0.5"),
            element(0x00080018, "UI", "1.2\\1.3 "),
            element(0x00080018, "UI", " 1.2"),
            element(0x00080018, "UI", "1.2a"),
            element(0x00080018, "UI", "1.2\xe4".encode("latin-1")),
            element(0x00100020, "LO", "a\x1b(Bb "),
            element(0x00100020, "LO", "x" * 5000),
            element(0x00080005, "CS", "ISO_IR 99 "),
            element(0x00080005, "CS", "utf-16"),
            element(0x00080005, "CS", "a\0b "),
            element(0x00080005, "LO", "ISO_IR 100"),
            element(0x00090010, "OB", b"\0\0", UNDEFINED),
            element(0x00090010, "UN", item() + delimiter(0xE0DD), UNDEFINED),
            element(0x00090010, "QQ", b"\0\0"),
            element(0x00090010, "OB", b"\0\0").replace(b"OB\0\0", b"OB\1\0"),
            element(0x00280008, "IS", "-1"),
            element(0x00280008, "IS", "100001"),
            element(tag_of(SHARED), "UN", item()),
            element(0xFFFEE000, "OB", b""),
            delimiter(0xE00D),
        ],
    )
    def test_elements(self, tmp_path, odd):
        assert walked(tmp_path, dicom(image(odd))) is None

    def test_tags_out_of_order_or_twice(self, tmp_path):
        modality = element(0x00080060, "CS", "MR")
        assert walked(tmp_path, dicom(modality, image())) is None
        assert walked(tmp_path, dicom(image(pixels=None), modality)) is None
        assert walked(tmp_path, dicom(image(modality + modality))) is None

    def test_an_element_of_odd_length_and_vr_for_pixels(self, tmp_path):
        for vr, value in (("OB", bytes(7)), ("UN", bytes(8)), ("US", bytes(8)), ("OF", bytes(8))):
            data = dicom(image(pixels=None), element(0x7FE00010, vr, value))
            assert walked(tmp_path, data) is None

    def test_text_outside_its_character_set(self, tmp_path):
        for charset, raw in (
            ("ISO_IR 192", b"\xff\xfe"),
            ("ISO_IR 144", b"\xb1 "),
            ("ISO_IR 13 ", b"\xb1 "),
            ("GB18030 ", b"\xb1\xb1"),
            ("\\ISO 2022 IR 87 ", b"\xe4 "),
        ):
            data = image(element(0x00080005, "CS", charset), element(0x00100020, "LO", raw))
            assert walked(tmp_path, dicom(data)) is None, charset

    def test_nesting_without_end(self, tmp_path):
        nested = b""
        for _ in range(100):
            nested = sequence(0x00091001, item(nested, undefined=True), undefined=True)
        assert walked(tmp_path, dicom(image(nested))) is None


class TestValues:
    def test_a_plain_image(self, tmp_path):
        only = only_image(tmp_path, dicom(image()))
        assert only["Modality"] == "CT"
        assert only["ImagePositionPatient"] == (-1.5, 2.0, 30.0)
        assert (only["Rows"], only["InstanceNumber"]) == (2, 7)
        assert only["TransferSyntaxUID"] == EXPLICIT
        assert only["geometry_source"] == "top_level"

    def test_implicit_vr(self, tmp_path):
        data = dicom(image(explicit=False), syntax=IMPLICIT)
        assert only_image(tmp_path, data)["ImagePositionPatient"] == (-1.5, 2.0, 30.0)

    @pytest.mark.parametrize("syntax", sorted(AllTransferSyntaxes))
    def test_transfer_syntaxes(self, tmp_path, syntax):
        found = walked(tmp_path, dicom(image(), syntax=syntax))
        number = syntax.removeprefix("1.2.840.10008.1.2.")
        # Others, big endian and deflated; those whose pixels are elsewhere, by JPIP or as a stream.
        assert (found is None) == number.startswith(("1.2.840", "2", "1.99", "4.204", "4.205", "7"))

    @pytest.mark.parametrize("explicit", [True, False])
    @pytest.mark.parametrize(
        ("tag", "vr", "value", "expected"),
        [
            (0x00180050, "DS", "", None),
            (0x00180050, "DS", "    ", None),
            (0x00180050, "DS", "\0\0", None),
            (0x00180050, "DS", " +.5e-1 ", 0.05),
            (0x00180050, "DS", "5.", 5.0),
            (0x00281052, "DS", "-0", 0.0),
            (0x00180050, "DS", "1.5\0", 1.5),
            (0x00180050, "DS", "1.5", 1.5),
            (0x00189087, "FD", struct.pack("<d", 1000.5), 1000.5),
            (0x00189087, "FD", "", None),
            (0x00280030, "DS", " 0.5 \\ 0.25", (0.5, 0.25)),
            (0x00280030, "DS", "", None),
            (0x00200013, "IS", "", None),
            (0x00200013, "IS", "  ", None),
            (0x00200013, "IS", " +07", 7),
            (0x00200013, "IS", "-2147483648 ", -(2**31)),
            (0x00200013, "IS", "12\0", 12),
            (0x00280010, "US", b"", None),
            (0x00280010, "US", b"\xff\xff", 65535),
            (0x00080018, "UI", "", None),
            (0x00080018, "UI", "1.2.3", "1.2.3"),
            (0x00080018, "UI", "1.2.3 \0", "1.2.3"),
            (0x00080060, "CS", "", None),
            (0x00080060, "CS", " ", None),
            (0x00080060, "CS", " CT", " CT"),
            (0x00080060, "CS", "CT\\MR ", "CT\\MR"),
            (0x00080060, "CS", "CT \\MR", "CT \\MR"),
            (0x00080060, "CS", "\xc4".encode("latin-1"), "Ä"),
            (0x00100020, "LO", "", None),
            (0x00100020, "LO", " a \\b ", " a\\b"),
            (0x00100020, "LO", "\\", "\\"),
            (0x00100020, "LO", "a\0b\0 ", "a\0b"),
            (0x00100020, "LO", "Ä".encode("latin-1"), "Ä"),
        ],
    )
    def test_a_value(self, tmp_path, tag, vr, value, expected, explicit):
        data = image(element(tag, vr, value, explicit=explicit), explicit=explicit)
        only = only_image(tmp_path, dicom(data, syntax=EXPLICIT if explicit else IMPLICIT))
        name = next(attribute.name for attribute in ATTRIBUTES if attribute.tag == tag)
        assert only[name] == expected

    def test_character_sets(self, tmp_path):
        for charset, raw, text in (
            ("", "Ä".encode("latin-1"), "Ä"),
            ("ISO_IR 6", "Ä".encode("latin-1"), "Ä"),
            ("ISO_IR 100", "Ä".encode("latin-1"), "Ä"),
            ("ISO_IR 192", "Ä中".encode(), "Ä中"),
            ("ISO_IR 144", b"plain ", "plain"),
            ("\\ISO 2022 IR 87 ", b"plain ", "plain"),
            ("ISO 2022 IR 13\\ISO 2022 IR 87", b"a~\\b", "a~\\b"),
        ):
            data = image(element(0x00080005, "CS", charset), element(0x00100020, "LO", raw))
            assert only_image(tmp_path, dicom(data))["PatientID"] == text

    def test_ascii_is_ascii_in_every_character_set_that_is_taken(self):
        ascii_but_escape = bytes(set(range(128)) - {0x1B})
        for term, encoding in python_encoding.items():
            try:
                encoding_of(term.encode())
            except FallBackToPydicom:
                continue
            assert ascii_but_escape.decode(encoding) == ascii_but_escape.decode("ascii")
        assert len(values._CHARACTER_SETS) > 30

    def test_every_attribute_that_is_wanted_has_a_rule(self):
        for attribute in ATTRIBUTES:
            assert values.decoder_of(attribute)(b"", values.LATIN_1) is None

    def test_the_first_of_several_numbers(self):
        window = Attribute("WindowCenter", 0x00281050, "DS", pl.Float64(), first=True, rule=None)
        decode = values.decoder_of(window)
        assert decode(b"40\\80 ", values.LATIN_1) == 40.0
        assert decode(b"40", values.LATIN_1) == 40.0
        assert decode(b"  ", values.LATIN_1) is None
        for doubtful in (b"40\\", b"\\40 ", b"40\\x "):
            with pytest.raises(FallBackToPydicom):
                decode(doubtful, values.LATIN_1)

    def test_an_attribute_without_a_rule(self):
        with pytest.raises(ValueError, match="no rule for PatientName: PN"):
            values.decoder_of(
                Attribute("PatientName", 0x00100010, "PN", pl.String(), first=False, rule=None)
            )

    def test_pixels(self, tmp_path):
        for tag, vr in ((0x7FE00010, "OB"), (0x7FE00008, "OF"), (0x7FE00009, "OD")):
            for length in (0, 4, 8, 16, 64, 1000, UNDEFINED - 1, UNDEFINED):
                pixels = element(tag, vr, bytes(8), length)
                assert walked(tmp_path, dicom(image(pixels=None), pixels)) is not None
        assert walked(tmp_path, dicom(image(pixels=None))).pixel_data == "none"
        cut = dicom(image(pixels=bytes(8)))[:-1]
        assert walked(tmp_path, cut).pixel_data == "cut"

    def test_more_than_one_frame_without_functional_groups(self, tmp_path):
        found = walked(tmp_path, dicom(image(element(0x00280008, "IS", "3 "))))
        assert [only["frame_index"] for only in found.images] == [0, 1, 2]


def functional_group(name: str, *elements: bytes, **how) -> bytes:
    return sequence(tag_of(GROUPS[name]), item(*elements, **how), **how)


def longer(one: bytes, by: int) -> bytes:
    """Return an item that declares more than it has."""
    (length,) = struct.unpack("<I", one[4:8])
    return one[:4] + struct.pack("<I", length + by) + one[8:]


POSITION = element(0x00200032, "DS", "1\\2\\3 ")
OTHER_POSITION = element(0x00200032, "DS", "4\\5\\6 ")


class TestSequences:
    @pytest.mark.parametrize("undefined", [True, False])
    def test_what_stands_in_a_sequence_is_not_the_images(self, tmp_path, undefined):
        inner = item(
            element(0x00080060, "CS", "XX"),
            element(0x00200013, "IS", "99"),
            OTHER_POSITION,
            sequence(0x00400275, item(element(0x00280010, "US", b"\7\0"), undefined=undefined)),
            element(0x7FE00010, "OW", bytes(4)),
            undefined=undefined,
        )
        for tag in (0x00081115, 0x00091001, 0x00400275, 0x00880200):
            data = dicom(image(sequence(tag, inner, inner, undefined=undefined)))
            only = only_image(tmp_path, data)
            assert (only["Modality"], only["InstanceNumber"], only["Rows"]) == ("CT", 7, 2)
            assert only["ImagePositionPatient"] == (-1.5, 2.0, 30.0)

    def test_empty_sequences_and_items(self, tmp_path):
        for content in (
            sequence(0x00081115),
            sequence(0x00081115, undefined=True),
            sequence(0x00081115, item(), undefined=True),
            sequence(0x00081115, item(undefined=True), item(), undefined=True),
            sequence(0x00081115, item(), item()),
        ):
            assert walked(tmp_path, dicom(image(content))) is not None

    def test_sequences_in_implicit_vr(self, tmp_path):
        def implicit(*args, **how):
            return element(*args, explicit=False, **how)

        for tag in (0x00081115, 0x00091001):
            for undefined in (True, False):
                inner = item(implicit(0x00080060, "CS", "XX"), undefined=undefined)
                nested = sequence(tag, inner, undefined=undefined, explicit=False)
                data = dicom(image(nested, explicit=False), syntax=IMPLICIT)
                assert only_image(tmp_path, data)["Modality"] == "CT"

    def test_implicit_vr_that_looks_explicit(self, tmp_path):
        # A first element of 0x4242 bytes has a length that reads `BB`.
        for length, is_clear in ((0x4042, True), (0x4242, False)):
            first = element(0x00080001, "", bytes(length), explicit=False)
            found = walked(tmp_path, dicom(image(first, explicit=False), syntax=IMPLICIT))
            assert (found is not None) == is_clear

    @pytest.mark.parametrize("undefined", [True, False])
    def test_functional_groups(self, tmp_path, undefined):
        how = {"undefined": undefined}
        shared = item(
            functional_group("ImagePositionPatient", OTHER_POSITION, **how),
            functional_group("PixelSpacing", element(0x00280030, "DS", "2\\2 "), **how),
            **how,
        )
        own = item(functional_group("ImagePositionPatient", POSITION, **how), **how)
        empty = functional_group("ImagePositionPatient", element(0x00200032, "DS"), **how)
        data = image(
            element(0x00280008, "IS", "4 "),
            sequence(tag_of(SHARED), shared, **how),
            sequence(tag_of(PER_FRAME), own, item(), item(empty, **how), **how),
        )
        found = walked(tmp_path, dicom(data))
        positions = [only["ImagePositionPatient"] for only in found.images]
        assert positions == [(1, 2, 3), (4, 5, 6), (4, 5, 6), (4, 5, 6)]
        assert {only["PixelSpacing"] for only in found.images} == {(2, 2)}
        sources = [only["geometry_source"] for only in found.images]
        assert sources == ["per_frame+shared+top_level", *["shared+top_level"] * 3]

    @pytest.mark.parametrize("undefined", [True, False])
    def test_what_a_group_has_by_another_name(self, tmp_path, undefined):
        how = {"undefined": undefined}

        def frame(number: int) -> bytes:
            content = item(
                element(0x00189151, "DT", "20260101120000"),
                element(0x00209057, "UL", struct.pack("<I", number)),
                element(0x00209128, "UL", struct.pack("<I", 10 + number)),
                element(0x00209156, "US", struct.pack("<H", 20 + number)),
                **how,
            )
            echo = item(element(0x00189082, "FD", struct.pack("<d", 1.5 * number)), **how)
            trigger = item(element(0x00209153, "FD", struct.pack("<d", 2.5 * number)), **how)
            groups = ((0x00189114, echo), (0x00189118, trigger), (0x00209111, content))
            return item(*(sequence(tag, group, **how) for tag, group in groups), **how)

        top = element(0x00180081, "DS", "99"), element(0x00200012, "IS", "98")
        frames = sequence(tag_of(PER_FRAME), frame(1), frame(2), item(), **how)
        found = walked(tmp_path, dicom(image(*top, element(0x00280008, "IS", "3 "), frames)))
        names = ("EchoTime", "TriggerTime", "TemporalPositionIdentifier", "AcquisitionNumber")
        assert [tuple(only[name] for name in names) for only in found.images] == [
            (1.5, 2.5, 11, 21),
            (3.0, 5.0, 12, 22),
            (99.0, None, None, 98),
        ]

    @pytest.mark.parametrize("value", [b"\0\0\0\x80", bytes(8), b"\1\0", b""])
    def test_a_number_of_a_group_that_no_column_holds_is_left_to_pydicom(self, tmp_path, value):
        content = sequence(0x00209111, item(element(0x00209128, "UL", value)))
        found = walked(tmp_path, dicom(image(sequence(tag_of(PER_FRAME), item(content)))))
        assert (found is None) == bool(value)

    def test_the_first_item_of_a_group_counts(self, tmp_path):
        for first, position in ((item(POSITION), (1, 2, 3)), (item(), (-1.5, 2, 30))):
            group = sequence(tag_of(GROUPS["ImagePositionPatient"]), first, item(OTHER_POSITION))
            data = dicom(image(sequence(tag_of(PER_FRAME), item(group))))
            only = only_image(tmp_path, data)
            assert only["ImagePositionPatient"] == position
            assert only["frame_index"] is None

    def test_the_same_bytes_in_different_groups(self, tmp_path):
        inner = item(OTHER_POSITION)
        frame = item(sequence(0x00209113, inner), sequence(0x00209116, inner))
        swapped = item(sequence(0x00209116, inner), sequence(0x00289110, inner))
        frames = sequence(tag_of(PER_FRAME), swapped, frame, swapped)
        found = walked(tmp_path, dicom(image(frames)))
        positions = [only["ImagePositionPatient"] for only in found.images]
        assert positions == [(-1.5, 2, 30), (4, 5, 6), (-1.5, 2, 30)]

    @pytest.mark.parametrize(
        "broken",
        [
            sequence(0x00081115, item(POSITION)[:-1], undefined=True),
            sequence(0x00081115, item(POSITION), undefined=True)[:-8],
            sequence(0x00081115, item(POSITION, undefined=True)[:-8], undefined=True),
            sequence(0x00081115, item(POSITION, POSITION, undefined=True), undefined=True),
            sequence(0x00081115, POSITION, undefined=True),
            sequence(0x00081115, item(POSITION) + b"\0\0", undefined=True),
            sequence(0x00081115, item(element(0x00091001, "QQ", "x")), undefined=True),
            sequence(0x00081115, item(element(0x00080005, "CS", "a\0b ")), undefined=True),
            sequence(tag_of(PER_FRAME), item(POSITION), item(POSITION)[:-1]),
            sequence(tag_of(PER_FRAME), item(POSITION)[:-1]),
            sequence(tag_of(PER_FRAME), POSITION),
            sequence(tag_of(PER_FRAME), item(sequence(0x00209113, item() + POSITION))),
            sequence(tag_of(PER_FRAME), item(sequence(0x00209113, longer(item(POSITION), 2)))),
            sequence(tag_of(PER_FRAME), item(sequence(0x00209113, longer(item(POSITION), -2)))),
            sequence(tag_of(PER_FRAME), longer(item(sequence(0x00209113, item(POSITION))), 8)),
            sequence(0x00081115, longer(item(POSITION), 8), undefined=True),
            sequence(tag_of(SHARED), longer(item(), 60)) + sequence(tag_of(PER_FRAME), item()),
            sequence(tag_of(PER_FRAME), item(element(0x00209113, "UN", item(POSITION)))),
            sequence(tag_of(PER_FRAME), item(element(0x00209113, "SQ", POSITION))),
            sequence(
                tag_of(PER_FRAME),
                item(functional_group("RescaleType", element(0x00281054, "LO", b"\xe4 "))),
            ),
        ],
    )
    def test_broken_sequences(self, tmp_path, broken):
        assert walked(tmp_path, dicom(image(broken))) is None


class TestLongHeaders:
    def test_long_elements_are_jumped_over(self, tmp_path):
        for length in (100, 8000, 8192, 70_000, 3_000_000):
            private = element(0x00091001, "OB", bytes(length))
            nested = sequence(0x00111001, item(element(0x00111002, "OB", bytes(length))))
            delimited = sequence(
                0x00131001,
                item(element(0x00131002, "OB", bytes(length)), undefined=True),
                undefined=True,
            )
            only = only_image(tmp_path, dicom(image(private, nested, delimited)))
            assert only["Rows"] == 2

    def test_every_place_where_a_first_read_may_end(self, tmp_path):
        data = dicom(image(sequence(tag_of(SHARED), item(item_of_position()))))
        for filler in range(8192 - len(data) - 20, 8192 + 20):
            only = only_image(tmp_path, dicom(image_after(filler)))
            assert only["ImagePositionPatient"] == (1, 2, 3)

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
    def test_cut_anywhere(self, tmp_path, syntax):
        explicit = syntax == EXPLICIT
        data = dicom(image(explicit=explicit), syntax=syntax)
        found = [walked(tmp_path, data[:end]) for end in range(len(data))]
        # Where an element ends the header is whole: which of them are missing, nothing tells.
        assert sum(header is not None for header in found) == 16 + 8

    @pytest.mark.parametrize("undefined", [True, False])
    def test_multi_frame_cut_anywhere(self, tmp_path, undefined):
        how = {"undefined": undefined}
        position = functional_group("ImagePositionPatient", POSITION, **how)
        private = sequence(0x00091001, item(POSITION, **how), **how)
        frames = sequence(tag_of(PER_FRAME), *[item(position, **how)] * 3, **how)
        data = dicom(image(private, frames))
        assert walked(tmp_path, data) is not None
        for end in range(len(data)):
            walked(tmp_path, data[:end])


def item_of_position() -> bytes:
    return functional_group("ImagePositionPatient", POSITION)


def image_after(filler: int) -> bytes:
    frames = sequence(tag_of(PER_FRAME), item(item_of_position()))
    return image(element(0x00090010, "OB", bytes(filler)), frames)


LIES = [0x7FFFFFFE, 0xFFFFFFFE, 0x10000000, 100_000_000]


class TestMemory:
    """A file of nearly 4 GB, all holes, whose header declares whatever it likes."""

    SIZE = 0xFFFFFFFF

    @pytest.fixture
    def vast(self, tmp_path):
        def make(data: bytes) -> Path:
            path = tmp_path / "vast.dcm"
            path.write_bytes(data)
            with path.open("r+b") as file:
                file.truncate(self.SIZE)
            return path

        return make

    def test_a_length_that_may_be_undefined_or_not(self, vast):
        data = image(pixels=None), element(0x7FE00010, "OW", b"", 100)
        assert walk_header(vast(dicom(*data))) is not None
        self.SIZE += 1
        assert walk_header(vast(dicom(*data))) is None

    @pytest.mark.parametrize("length", [*LIES, UNDEFINED])
    @pytest.mark.parametrize(
        ("tag", "vr"),
        [
            (0x00090010, "OB"),
            (0x00090010, "SQ"),
            (0x00090010, "UN"),
            (0x00081115, "SQ"),
            (0x00080060, "OB"),
            (tag_of(PER_FRAME), "SQ"),
            (tag_of(SHARED), "SQ"),
            (0x7FE00010, "OW"),
        ],
    )
    def test_any_declared_length(self, vast, tag, vr, length):
        start = dicom(image(pixels=None)) if tag >= 0x00300000 else dicom()
        paths = [
            start + element(tag, vr, b"", length),
            start + element(tag, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, length), UNDEFINED),
            start + element(tag, "SQ", item()[:4] + struct.pack("<I", length), length),
            dicom(element(tag, vr, b"", length, explicit=False), syntax=IMPLICIT),
        ]
        for data in paths:
            path = vast(data)
            tracemalloc.start()
            begin = time.monotonic()
            walk_header(path)
            took, (_, peak) = time.monotonic() - begin, tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 2 << 20
            assert took < 60  # else it hangs


# Random data sets, written by pydicom.

SYNTAXES = st.sampled_from([EXPLICIT, IMPLICIT, JPEG_2000, BIG_ENDIAN, DEFLATED])
NUMBERS = st.one_of(
    st.floats(-1e6, 1e6).map(lambda x: f"{x:.6g}"),
    st.integers(-999, 999).map(str),
    st.sampled_from(["", " ", "1e3", "+1", "-0", ".5", "5.", "1E-2", "inf", "1_0", "x", "1,5"]),
)
NAMES = st.text(st.characters(codec="latin-1", exclude_characters="\x1b"), max_size=20)
UIDS = st.lists(st.integers(0, 10**9), max_size=6).map(lambda parts: ".".join(map(str, parts)))
BY_VR = {
    "DS": st.lists(NUMBERS, max_size=7).map("\\".join),
    "IS": st.lists(NUMBERS, max_size=2).map("\\".join),
    "UI": st.one_of(UIDS, UIDS.map(lambda uid: uid + " ")),
    "CS": st.one_of(NAMES, st.sampled_from(["CT", "MR", "MONOCHROME2", "A\\B"])),
    "LO": NAMES,
    "US": st.integers(0, 65535),
    "FD": st.floats(),
    "TM": st.one_of(NAMES, st.sampled_from(["101112", "101112.5 ", "10:11:12", "101112\\101113"])),
}
SIZES = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
PLAIN = st.floats(-1e4, 1e4).map(lambda x: f"{x:.8g}")


def values_of(name: str, vr: str):
    if name in SIZES:
        count = SIZES[name]
        right = st.lists(PLAIN, min_size=count, max_size=count).map("\\".join)
        return st.one_of(right, right, BY_VR["DS"])
    return st.one_of(PLAIN, BY_VR[vr]) if vr == "DS" else BY_VR[vr]


WANTED = st.fixed_dictionaries(
    {},
    optional={
        attribute.name: values_of(attribute.name, attribute.vr)
        for attribute in ATTRIBUTES
        if attribute.name not in ("TransferSyntaxUID", "NumberOfFrames")
    },
)
IN_GROUPS = st.fixed_dictionaries(
    {},
    optional={
        **{n: values_of(n, "DS") for n in SIZES},
        "EchoTime": BY_VR["FD"],
        "TriggerTime": BY_VR["FD"],
        "AcquisitionNumber": BY_VR["US"],
        "TemporalPositionIdentifier": st.integers(0, 2**32 - 1),
    },
)
FRAMES = st.lists(IN_GROUPS, max_size=4)
PRIVATE = st.lists(
    st.tuples(
        st.integers(4, 0x4F).map(lambda group: 2 * group + 1),
        st.integers(0x1000, 0x10FF),
        st.sampled_from(["LO", "OB", "DS", "SQ", "UN", "US", "UT"]),
    ),
    max_size=6,
)


def add(data: Dataset, values: dict[str, object]) -> None:
    """Add values as the bytes they are: pydicom would refuse to convert some of them."""
    for name, value in values.items():
        vr = pydicom.datadict.dictionary_VR(name)
        if vr in ("US", "UL", "FD"):
            data.add_new(tag_of(name), vr, value)
            continue
        raw = value.encode("latin-1")
        raw += b" " * (len(raw) % 2)
        args = (pydicom.tag.Tag(tag_of(name)), vr, len(raw), raw, 0, False, True)
        data[tag_of(name)] = pydicom.dataelem.RawDataElement(*args)


def nest(data: Dataset, name: str, items: list[Dataset], undefined: bool) -> None:
    setattr(data, name, items)
    data[name].is_undefined_length = undefined
    for one in items:
        one.is_undefined_length_sequence_item = undefined


def grouped(values: dict[str, object], undefined: bool) -> Dataset:
    data = Dataset()
    for name, value in values.items():
        holder = data.get(GROUPS[name])
        group = holder[0] if holder else Dataset()
        add(group, {NAMES_IN_GROUP.get(name, name): value})
        nest(data, GROUPS[name], [group], undefined)
    return data


def add_private(data: Dataset, private, inner: dict[str, object], undefined: bool) -> None:
    for group, number, vr in private:
        tag = group << 16 | number
        if vr == "SQ":
            one = Dataset()
            add(one, inner)
            data.add_new(tag, vr, [one])
            data[tag].is_undefined_length = undefined
            one.is_undefined_length_sequence_item = undefined
        else:
            value = {"OB": b"\0\1", "UN": b"ab", "DS": "1.5", "US": 3}.get(vr, "text")
            data.add_new(tag, vr, value)


class TestRandomDataSets:
    @settings(
        max_examples=400,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(
        syntax=SYNTAXES,
        top=WANTED,
        charset=st.sampled_from([None, "", "ISO_IR 100", "ISO_IR 192", "ISO_IR 144", "nonsense"]),
        per_frame=FRAMES,
        shared=st.one_of(st.none(), IN_GROUPS),
        frames=st.one_of(st.none(), st.integers(0, 5)),
        private=PRIVATE,
        undefined=st.booleans(),
        pixels=st.booleans(),
    )
    def test_random(
        self, tmp_path, syntax, top, charset, per_frame, shared, frames, private, undefined, pixels
    ):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = syntax
        data.file_meta.MediaStorageSOPClassUID = "1.2.3"
        data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        if charset is not None:
            add(data, {"SpecificCharacterSet": charset})
        add(data, top)
        if frames is not None:
            data.NumberOfFrames = frames
        add_private(data, private, top, undefined)
        nest(data, "ReferencedImageSequence", [grouped({}, undefined)], undefined)
        if shared is not None:
            nest(data, SHARED, [grouped(shared, undefined)], undefined)
        if per_frame:
            nest(data, PER_FRAME, [grouped(one, undefined) for one in per_frame], undefined)
        if pixels and syntax == JPEG_2000:
            data.PixelData = encapsulate([b"\xff\x4f\xff\x51"])
            data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        elif pixels:
            data.PixelData = bytes(8)
            data["PixelData"].VR = "OW"
        path = tmp_path / "random.dcm"
        try:
            pydicom.dcmwrite(path, data)
        except (OverflowError, ValueError):
            reject()  # it converts what it has to write in another byte order
        found = walk_header(path)
        require_same(found, path)
        if syntax in (BIG_ENDIAN, DEFLATED):
            assert found is None
