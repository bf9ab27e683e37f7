"""A series read with what its first files have taught: each file as if it were the only one."""

import logging
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from aneurysm_assets.dicom.columns import SeriesColumns
from aneurysm_assets.dicom.fast_parser import reader as reader_module
from aneurysm_assets.dicom.fast_parser.reader import SeriesReader
from aneurysm_assets.dicom.fast_parser.walk import Walked
from aneurysm_assets.dicom.header import ROW
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.dicom.series import read_series
from aneurysm_assets.errors import SeriesError, UnreadableFile
from aneurysm_assets.sample import write_load_sample, write_sample
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.storage.litter import without_litter
from tests.dicom_bytes import (
    IMPLICIT,
    PYDICOM_FILES,
    UNDEFINED,
    as_header,
    comparable,
    delimiter,
    dicom,
    element,
    image,
    item,
    require_same,
    sequence,
    walk_header,
)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "pydicom")


@pytest.fixture
def read_in_turn(tmp_path):
    """Return a function that reads files with one reader, and holds each against pydicom."""

    def read(*files: bytes, reader: SeriesReader | None = None) -> SeriesReader:
        reader = reader or SeriesReader()
        for number, data in enumerate(files):
            path = tmp_path / f"{number}.dcm"
            path.write_bytes(data)
            found = reader.read(path)
            alone = walk_header(path)
            assert (found is None) == (alone is None), number
            if found is not None:
                assert comparable(as_header(found)) == comparable(alone), number
                require_same(as_header(found), path, number)
        return reader

    return read


def numbered(number: int, *more: bytes, **how) -> bytes:
    explicit = how.get("explicit", True)
    uid = f"1.2.{10**number}"
    return image(
        element(0x00080018, "UI", uid + "\0" * (len(uid) % 2), explicit=explicit),
        element(0x00200013, "IS", f"{number:>4}", explicit=explicit),
        *more,
        **how,
    )


class TestTemplate:
    def test_values_of_any_length_may_differ(self, read_in_turn):
        files = [dicom(numbered(n)) for n in range(12)]
        assert read_in_turn(*files)._matched == 11

    def test_implicit_vr(self, read_in_turn):
        files = [dicom(numbered(n, explicit=False), syntax=IMPLICIT) for n in range(12)]
        assert read_in_turn(*files)._matched == 11

    def test_implicit_vr_that_looks_explicit(self, read_in_turn):
        def file(number, length):
            first = element(0x00080001, "", bytes(length), explicit=False)
            return dicom(numbered(number, first, explicit=False), syntax=IMPLICIT)

        lengths = (4, 300, 0x4040, 0x4242, 6, 0x4242, 0x4040)
        read_in_turn(*[file(number, length) for number, length in enumerate(lengths)])

    def test_a_value_that_differs_is_learned_once(self, read_in_turn):
        def file(number, text):
            station = element(0x00081010, "SH", text)
            return dicom(numbered(number, station, element(0x00180050, "DS", f"{number}.5")))

        files = [file(n, "a" * (2 * n)) for n in range(6)]
        # The second file shows what differs.
        assert read_in_turn(*files)._matched == 4

    def test_what_decides_how_to_read_is_never_taken_for_granted(self, read_in_turn):
        def file(number, charset, frames, syntax="1.2.840.10008.1.2.1"):
            name = element(0x00100020, "LO", b"\xc3\xa4" * (1 + number % 3))
            more = [element(0x00080005, "CS", charset), element(0x00280008, "IS", frames), name]
            return dicom(numbered(number, *more), syntax=syntax)

        read_in_turn(
            file(1, "ISO_IR 100", "1 "),
            file(2, "ISO_IR 192", "1 "),
            file(3, "ISO_IR 100", "2 "),
            file(4, "ISO_IR 144", "1 "),
            file(5, "ISO_IR 100", "1 ", "1.2.840.10008.1.2.4.90"),
            file(6, "ISO_IR 192", "3 "),
            file(7, "ISO_IR 100", "1 "),
            file(8, "ISO_IR 192", ""),
            file(9, "ISO_IR 192", "1 "),
        )

    def test_templates_take_turns(self, read_in_turn):
        contrast = element(0x00180010, "LO", "dye ")
        files = [dicom(numbered(n, *[contrast] * (n % 2))) for n in range(20)]
        assert read_in_turn(*files)._matched == 18

    def test_no_more_is_learned_from_a_series_without_template(self, read_in_turn):
        def file(number):
            private = [element(0x00091000 + k, "LO", "x ") for k in range(number)]
            return dicom(numbered(number % 9, *private))

        reader = read_in_turn(*[file(n) for n in range(1, 80)])
        assert reader._lessons <= reader_module._LESSONS + 1
        assert len(reader._templates) <= reader_module._TEMPLATES

    def test_geometry_that_comes_and_goes(self, read_in_turn):
        absent = {
            tag: element(tag, "DS") for tag in (0x00180050, 0x00200032, 0x00200037, 0x00280030)
        }
        read_in_turn(*[dicom(numbered(n, changes=absent if n % 3 else None)) for n in range(9)])

    def test_group_lengths(self, read_in_turn):
        def file(number, length=4):
            return dicom(numbered(number, element(0x00180000, "UL", bytes([number] * length))))

        files = [file(n) for n in range(6)] + [file(7, 8), file(8)]
        assert read_in_turn(*files)._matched >= 5

    def test_group_lengths_in_implicit_vr(self, read_in_turn):
        def file(number, length=4):
            value = bytes([number] * length)
            lengths = [element(t, "UL", value, explicit=False) for t in (0x00080000, 0x00180000)]
            return dicom(numbered(number, *lengths, explicit=False), syntax=IMPLICIT)

        files = [file(n) for n in range(6)] + [file(7, 8), file(8)]
        assert read_in_turn(*files)._matched == 5

    def test_sequences_of_undefined_length(self, read_in_turn):
        def file(number, undefined=True):
            referenced = item(element(0x00081155, "UI", f"1.2.{10**number}0"), undefined=undefined)
            items = [referenced] * (number % 3)
            return dicom(numbered(number, sequence(0x00081140, *items, undefined=undefined)))

        assert read_in_turn(*[file(n) for n in range(9)])._matched == 7
        read_in_turn(file(1), file(2), file(3, undefined=False), file(4))
        broken = file(5)[: file(5).index(delimiter(0xE0DD))]
        read_in_turn(file(1), file(2), broken, file(4))

    def test_long_headers(self, read_in_turn):
        for size in (300, 5000, 8192, 20_000, 70_000, 300_000):

            def file(number, size=size):
                blobs = [
                    element(tag, "OB", bytes([number]) * (size + 2 * (number % 2)))
                    for tag in (0x00091010, 0x00191010, 0x00291010)
                ]
                return dicom(numbered(number, *blobs))

            read_in_turn(*[file(n) for n in range(8)])

    def test_every_place_where_a_first_read_may_end(self, read_in_turn):
        start = len(dicom(numbered(1)))
        for filler in range(8192 - start - 40, 8192 - 200, 2):
            blob = element(0x00091010, "OB", bytes(filler))
            reader = read_in_turn(*[dicom(numbered(n, blob)) for n in range(3)])
            assert reader._matched == 2

    def test_every_place_where_a_later_read_may_end(self, read_in_turn):
        jump = element(0x00070010, "OB", bytes(20_000))
        for filler in range(8192 - 1000, 8192 + 40, 2):
            blob = element(0x00090010, "OB", bytes(filler))
            files = [dicom(numbered(12 + n, jump, blob)) for n in range(3)]
            assert read_in_turn(*files)._matched == 2

    @pytest.mark.parametrize("length", [4096, 4098, 9000, 65534])
    def test_a_wanted_value_that_is_too_long(self, read_in_turn, length):
        patient = element(0x00100020, "LO", "x" * length)
        read_in_turn(dicom(numbered(1)), dicom(numbered(2)), dicom(numbered(3, patient)))

    def test_no_pixel_data(self, read_in_turn):
        files = [dicom(numbered(n, pixels=None)) for n in range(4)]
        assert read_in_turn(*files)._matched == 3
        read_in_turn(*files, files[0] + b"\0\0", files[0][:-1], files[1] + bytes(8), files[1])

    def test_pixel_data_of_all_kinds(self, read_in_turn):
        files = [dicom(numbered(n)) for n in range(3)]
        ends = [
            element(0x7FE00010, "OW", bytes(8), 1000),
            element(0x7FE00010, "OW", bytes(7), 7),
            element(0x7FE00010, "OW", b"", UNDEFINED),
            element(0x7FE00010, "OB", bytes(8)),
            element(0x7FE00010, "UN", bytes(8)),
            element(0x7FE00010, "OW", b"")[:-2],
            element(0x7FE00009, "OD", bytes(8)),
        ]
        read_in_turn(*files, *[dicom(numbered(n, pixels=None), end) for n, end in enumerate(ends)])

    def test_cut_anywhere(self, read_in_turn):
        for explicit, syntax in ((True, "1.2.840.10008.1.2.1"), (False, IMPLICIT)):
            whole = [dicom(numbered(n, explicit=explicit), syntax=syntax) for n in range(3)]
            reader = read_in_turn(*whole)
            read_in_turn(*(whole[2][:end] for end in range(len(whole[2]))), reader=reader)

    def test_functional_groups_are_walked(self, read_in_turn):
        position = element(0x00200032, "DS", "1\\2\\3 ")
        groups = sequence(0x52009230, item(sequence(0x00209113, item(position))))
        assert read_in_turn(*[dicom(numbered(n, groups)) for n in range(3)])._matched == 0

    def test_functional_groups_in_explicit_and_implicit_vr(self, read_in_turn):
        def file(number, explicit):
            how = {"explicit": explicit}
            position = element(0x00200032, "DS", "1\\2\\3 ", **how)
            groups = sequence(0x00209113, item(position), **how)
            frames = sequence(0x52009230, item(groups), **how)
            syntax = "1.2.840.10008.1.2.1" if explicit else IMPLICIT
            return dicom(numbered(number, frames, **how), syntax=syntax)

        read_in_turn(*[file(n, n % 2 == 0) for n in range(4)])

    def test_what_becomes_of_the_rows_does_not_matter(self, tmp_path):
        path = tmp_path / "file.dcm"
        reader = SeriesReader()
        for number in range(3):
            path.write_bytes(dicom(numbered(number)))
            found = reader.read(path)
            require_same(as_header(found), path)
            found.rows[0][:] = ["spoilt"] * 50

    @pytest.mark.parametrize("what", ["missing", "directory", "empty"])
    def test_what_is_no_file(self, tmp_path, what):
        path = tmp_path / what
        if what == "directory":
            path.mkdir()
        elif what == "empty":
            path.touch()
        assert SeriesReader().read(path) is None


TAGS = st.one_of(
    st.sampled_from([0x00080005, 0x00080018, 0x00080060, 0x00081030, 0x00091010, 0x00100020]),
    st.sampled_from([0x00180000, 0x00180050, 0x00181030, 0x00200013, 0x00200032, 0x00280008]),
    st.sampled_from([0x00280030, 0x00281052]),
)
BODIES = st.one_of(
    st.sampled_from([b"", b" ", b"1 ", b"12", b"1.25", b"1\\2\\3 ", b"0.5\\0.5 ", b"ISO_IR 100"]),
    st.sampled_from([b"CT", b"\xe4b", b"1.2.3\0", b"\x04\0\0\0", b"ISO_IR 192", b"odd"]),
    st.sampled_from([b"x" * 256, b"y" * 258]),
)
VRS = {0x0008: "CS", 0x0009: "LO", 0x0010: "LO", 0x0018: "DS", 0x0020: "IS", 0x0028: "DS"}
RIGHT = {0x00080018: "UI", 0x00180000: "UL", 0x00200032: "DS", 0x00280008: "IS"}


class TestAnySeries:
    def test_each_file_is_read_as_if_it_were_alone(self, read_in_turn, is_long):
        @settings(max_examples=300 if is_long else 60, deadline=None)
        @given(
            files=st.lists(st.dictionaries(TAGS, BODIES, max_size=3), min_size=2, max_size=6),
            syntax=st.sampled_from(["1.2.840.10008.1.2.1", IMPLICIT]),
            ends=st.lists(st.sampled_from([0, 0, 0, 1, 9, 30, 200]), min_size=6, max_size=6),
        )
        def read(files, syntax, ends):
            explicit = syntax != IMPLICIT

            def encode(changes):
                changed = {
                    tag: element(tag, RIGHT.get(tag, VRS[tag >> 16]), body, explicit=explicit)
                    for tag, body in changes.items()
                }
                return dicom(image(explicit=explicit, changes=changed), syntax=syntax)

            encoded = [encode(changes) for changes in files]
            cut = [data[: len(data) - end] for data, end in zip(encoded, ends, strict=False)]
            read_in_turn(*encoded, *cut, *encoded)

        read()


def plainly(directory: Path, raw: Path) -> pl.DataFrame:
    """Return a series' table the plain way: pydicom, a dict a row, polars' own sort."""
    rows = []
    kept = without_litter(path.name for path in directory.iterdir())
    for path in sorted(directory / name for name in kept):
        if path.is_dir():
            continue
        about = {
            SERIES_KEY: directory.name,
            "dicom_path": path.relative_to(raw).as_posix(),
            "file_size": path.stat().st_size,
        }
        try:
            header, reason = read_header(path), None
        except UnreadableFile as error:
            header, reason = None, str(error)
        without_pixels = header and header.pixel_data in {"none", "unknown"}
        if without_pixels and header.images[0]["Rows"] is None:
            reason = "is DICOM but no image: it has neither Rows nor pixel data"
        if reason is not None:
            rows.append(about | {"read_error": reason})
            continue
        own = header.series_instance_uid
        about["NumberOfFrames"] = header.number_of_frames
        about["header_series_instance_uid"] = None if own == directory.name else own
        about["pixel_data_short"] = {"whole": False, "cut": True}.get(header.pixel_data)
        about["header_notes"] = "; ".join(dict.fromkeys(header.malformed)) or None
        rows += [image | about for image in header.images]
    columns = {name: [row.get(name) for row in rows] for name in DICOM_TAGS.column_names}
    return pl.DataFrame(columns, schema=DICOM_TAGS.schema).sort(
        "InstanceNumber", "dicom_path", "frame_index", nulls_last=[True, True, False]
    )


class TestSeries:
    def require_plain(self, directory: Path, raw: Path):
        try:
            series = read_series(directory, raw)
        except SeriesError:
            assert plainly(directory, raw)["read_error"].is_not_null().all()
            return None
        of_file = {"dicom_path", "file_size", "pixel_data_short", "header_notes"}
        computed = set(DICOM_TAGS.column_names) - set(ROW) - of_file
        computed -= {SERIES_KEY, "header_series_instance_uid", "read_error"}
        expected = plainly(directory, raw).drop(computed)
        assert_frame_equal(series.frame.drop(computed), expected, check_exact=True)
        assert series.frame.schema == DICOM_TAGS.schema
        assert series.bytes == expected.unique("dicom_path")["file_size"].sum()
        return series

    def test_the_sample(self, tmp_path):
        raw = write_sample(tmp_path)
        found = [self.require_plain(d, raw) for d in sorted((raw / "series").iterdir())]
        assert sum(s.fast_files for s in found if s) > 0.8 * sum(s.files for s in found if s)

    def test_the_load_sample(self, tmp_path):
        raw = write_load_sample(tmp_path, 3, 20)
        for directory in (raw / "series").iterdir():
            series = self.require_plain(directory, raw)
            assert (series.files, series.fast_files, series.unreadable_files) == (20, 20, 0)

    def test_what_pydicom_brings(self):
        directories = {path.parent for path in PYDICOM_FILES.rglob("*") if path.is_file()}
        for directory in sorted(directories):
            self.require_plain(directory, PYDICOM_FILES.parent)

    def test_mixed_orders(self, tmp_path):
        raw, directory = tmp_path, tmp_path / "series" / "1.2.3.5"
        directory.mkdir(parents=True)
        for name, number in (("b", "3 "), ("a", "3 "), ("c", ""), ("d", "-1"), ("e", "x ")):
            data = dicom(numbered(1, element(0x00200013, "IS", number)))
            (directory / name).write_bytes(data)
        (directory / "frames").write_bytes(dicom(numbered(2, element(0x00280008, "IS", "2 "))))
        (directory / "no").write_bytes(b"no DICOM")
        (directory / "link").symlink_to(tmp_path / "nowhere")
        (directory / "z").mkdir()
        series = read_series(directory, raw)
        assert series.frame["dicom_path"].str.split("/").list.last().to_list() == (
            ["d", "frames", "frames", "a", "b", "c", "e", "link", "no"]
        )
        assert (series.files, series.fast_files, series.unreadable_files) == (8, 5, 2)
        assert series.malformed == ["e: InstanceNumber: could not convert string to float: 'x'"]
        errors = series.frame["read_error"].drop_nulls().to_list()
        assert errors == ["is no regular file, or a link to nothing", "is no DICOM file"]
        assert series.frame["header_series_instance_uid"].null_count() == series.frame.height


class TestColumns:
    def test_no_rows(self):
        frame = SeriesColumns("1.2").to_frame()
        assert frame.height == 0
        assert frame.schema == DICOM_TAGS.schema

    def test_columns_with_and_without_nulls(self):
        columns = SeriesColumns("1.2")
        row = dict.fromkeys(ROW)
        for number in range(3):
            values = row | {
                "InstanceNumber": 3 - number,
                "ImagePositionPatient": (0.5, number, -1.0) if number else None,
                "PixelSpacing": (0.5, 0.25),
                "Modality": "CT",
                SERIES_KEY: ("1.2", "1.3", None)[number],
            }
            columns.add(Walked([list(values.values())], "whole", 10), f"series/1.2/{number}", [])
        columns.add_unreadable("series/1.2/x", 0, "is no DICOM file")
        frame = columns.to_frame()
        assert frame.schema == DICOM_TAGS.schema
        assert frame["InstanceNumber"].to_list() == [1, 2, 3, None]
        assert frame["Modality"].to_list() == ["CT"] * 3 + [None]
        positions = frame["ImagePositionPatient"].to_list()
        assert positions == [[0.5, 2.0, -1.0], [0.5, 1.0, -1.0], None, None]
        assert frame["PixelSpacing"].to_list() == [[0.5, 0.25]] * 3 + [None]
        assert frame["header_series_instance_uid"].to_list() == [None, "1.3", None, None]
        assert frame["read_error"].to_list() == [None] * 3 + ["is no DICOM file"]


def test_a_template_holds_only_what_the_file_held(tmp_path):
    """Two files of one length and one template, each read after the other, in both orders."""
    one = dicom(numbered(1, element(0x00281052, "DS", "-1024 ")))
    two = one.replace(b"-1024 ", b"0     ")
    for first, second in ((one, two), (two, one)):
        reader = SeriesReader()
        for data in (first, second, first):
            (tmp_path / "x").write_bytes(data)
            found = as_header(reader.read(tmp_path / "x"))
            assert found.images[0]["RescaleIntercept"] == (-1024.0 if data is one else 0.0)
