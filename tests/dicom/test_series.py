"""A series directory to one table: every file is in it, whatever it is."""

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aneurysm_assets.dicom import series as series_module
from aneurysm_assets.dicom.series import SeriesTable, read_series
from aneurysm_assets.dicom.table import write_dicom_tags
from aneurysm_assets.errors import SeriesError
from aneurysm_assets.schema.columns import COMPETITION_TAGS
from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.settings import Settings
from tests.dicom_files import SERIES, dataset, encode, encode_with, enhanced, write

TAGS = [column.name for column in COMPETITION_TAGS]


class Raw:
    """A raw root with one series."""

    def __init__(self, root: Path, series: str = SERIES) -> None:
        self.root = root
        self.directory = root / "series" / series
        self.directory.mkdir(parents=True)

    def add(self, name: str, content: bytes | None = None, **changes: Any) -> Path:
        path = self.directory / name
        path.write_bytes(encode(dataset(**changes)) if content is None else content)
        return path

    def read(self) -> SeriesTable:
        return read_series(self.directory, self.root)

    def errors(self) -> dict[str, str]:
        """Return what is wrong with each unreadable file, by its name."""
        frame = self.read().frame.filter(pl.col("read_error").is_not_null())
        paths = frame["dicom_path"].to_list()
        return dict(zip([Path(p).name for p in paths], frame["read_error"], strict=True))


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path / "raw")


CUT_IN_HEADER = (
    "is cut short in its header, at byte 500: (0020,0032) ImagePositionPatient would end at byte "
    "516"
)


def test_a_row_of_a_good_file_is_its_tags_and_where_it_is(raw: Raw) -> None:
    path = raw.add("a.dcm")
    series = raw.read()
    assert series.frame.schema == DICOM_TAGS.schema
    assert (series.files, series.unreadable_files, series.malformed) == (1, 0, [])
    assert series.bytes == path.stat().st_size
    (row,) = series.frame.to_dicts()
    assert row["SeriesInstanceUID"] == SERIES
    assert row["dicom_path"] == f"series/{SERIES}/a.dcm"
    assert row["file_size"] == path.stat().st_size
    assert row["TransferSyntaxUID"] == "1.2.840.10008.1.2.1"
    assert row["ImagePositionPatient"] == [-100.5, 20.25, -3.125]
    assert row["geometry_source"] == "top_level"
    assert all(row[tag] is not None for tag in TAGS)
    unset = {
        *("NumberOfFrames", "frame_index", "header_series_instance_uid", "read_error"),
        *("ImageType", "Manufacturer", "WindowCenter", "WindowWidth", "header_notes"),
        *("ImagesInAcquisition", "slice_spacing_mm", "largest_gap_ratio", "volume_split_by"),
        *("TemporalPositionIdentifier", "EchoTime", "DiffusionBValue", "TriggerTime"),
        *("AcquisitionNumber", "AcquisitionTime", "ContentTime"),
        *("missing_slices", "gantry_tilt_degrees"),  # there is only one slice
    }
    assert {name for name, value in row.items() if value is None} == unset


def test_every_file_has_a_row_whatever_it_is_and_the_series_is_done(raw: Raw) -> None:
    whole = encode(dataset())
    raw.add("good.dcm", InstanceNumber="7")
    raw.add("header.dcm", whole[:500])
    raw.add("pixels.dcm", whole[:-1])
    raw.add("empty.dcm", b"")
    raw.add("notes.doc", b"scanned on a Monday\n" * 50)
    raw.add(".hidden", b"\0" * 10)
    raw.add("structure.dcm", Rows=None, Columns=None)
    (raw.directory / "broken link.dcm").symlink_to("nowhere.dcm")
    os.mkfifo(raw.directory / "fifo")
    series = raw.read()
    assert (series.files, series.unreadable_files) == (9, 7)
    assert series.bytes == sum(
        path.stat().st_size for path in raw.directory.iterdir() if path.exists()
    )
    assert raw.errors() == {
        ".hidden": "is no DICOM file",
        "broken link.dcm": "is no regular file, or a link to nothing",
        "empty.dcm": "is no DICOM file",
        "fifo": "is no regular file, or a link to nothing",
        "header.dcm": CUT_IN_HEADER,
        "notes.doc": "is no DICOM file",
        "structure.dcm": "is DICOM but no image: it has neither Rows nor pixel data",
    }


def test_a_row_of_an_unreadable_file_has_its_place_its_size_and_no_tag(raw: Raw) -> None:
    raw.add("a.dcm")
    raw.add("notes.doc", b"text")
    row = raw.read().frame.filter(pl.col("read_error").is_not_null()).row(0, named=True)
    assert row.pop("SeriesInstanceUID") == SERIES
    assert row.pop("dicom_path") == f"series/{SERIES}/notes.doc"
    assert row.pop("file_size") == 4
    assert row.pop("read_error") == "is no DICOM file"
    assert set(row.values()) == {None}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("link", "is no regular file, or a link to nothing"),
        ("x" * 300, "cannot be read: OSError: File name too long"),
    ],
    ids=["a link to itself", "a link to what cannot be"],
)
def test_a_link_that_cannot_be_followed_is_one_unreadable_file(
    raw: Raw, target: str, reason: str
) -> None:
    raw.add("good.dcm")
    (raw.directory / "link").symlink_to(target)
    series = raw.read()
    assert (series.files, series.unreadable_files, series.frame.height) == (2, 1, 2)
    assert raw.errors() == {"link": reason}


def test_a_file_whose_name_is_no_text_is_accounted_for(raw: Raw) -> None:
    raw.add("good.dcm", InstanceNumber="2")
    for number, name in enumerate([b"caf\xe9.dcm", b"\xff.dat"]):
        path = os.fsencode(raw.directory) + b"/" + name
        try:
            with open(path, "wb") as file:  # noqa: PTH123 - the name is bytes
                file.write(encode(dataset()) if number == 0 else b"text")
        except OSError:
            pytest.skip("this file system takes no such names")
    series = raw.read()
    assert (series.files, series.unreadable_files) == (3, 1)
    assert series.frame["dicom_path"].to_list() == [
        f"series/{SERIES}/caf\\xe9.dcm",
        f"series/{SERIES}/good.dcm",
        f"series/{SERIES}/\\xff.dat",
    ]


def test_a_link_to_a_file_is_a_file(raw: Raw) -> None:
    elsewhere = write(raw.root / "elsewhere.dcm", dataset())
    (raw.directory / "a.dcm").symlink_to(elsewhere)
    series = raw.read()
    assert series.unreadable_files == 0
    assert series.bytes == elsewhere.stat().st_size
    assert series.frame["dicom_path"].item() == f"series/{SERIES}/a.dcm"


def test_directories_below_are_not_entered_and_no_files(raw: Raw) -> None:
    raw.add("a.dcm")
    write(raw.directory / "below" / "b.dcm", dataset())
    (raw.directory / "link").symlink_to(raw.directory / "below")
    series = raw.read()
    assert series.files == series.frame.height == 1


def test_names_of_files_are_of_no_account(raw: Raw) -> None:
    for name in ("IM0001", "no suffix.bin", "a.DCM", ".dcm", "ü [1]*.dcm"):
        raw.add(name)
    series = raw.read()
    assert (series.files, series.unreadable_files) == (5, 0)
    names = {path.name for path in raw.directory.iterdir()}
    assert {Path(p).name for p in series.frame["dicom_path"]} == names


def test_rows_are_in_the_order_of_instance_number_then_path_then_frame(raw: Raw) -> None:
    raw.add("z.dcm", InstanceNumber="-1")
    raw.add("y.dcm", InstanceNumber="2")
    raw.add("x.dcm", InstanceNumber="10")
    raw.add("b.dcm", InstanceNumber="10")
    frames = enhanced(12)
    frames.InstanceNumber = 9
    write(raw.directory / "m.dcm", frames)
    raw.add("d.dcm", InstanceNumber=None)
    raw.add("c.dat", b"text")
    raw.add("e.dcm", encode_with({"InstanceNumber": ("IS", b"x ")}))
    frame = raw.read().frame
    order = [(Path(p).stem, f) for p, f in zip(frame["dicom_path"], frame["frame_index"])]  # noqa: B905
    assert order == [
        ("z", None),
        ("y", None),
        *(("m", index) for index in range(12)),
        ("b", None),
        ("x", None),
        ("c", None),
        ("d", None),
        ("e", None),
    ]


def test_each_frame_of_a_multi_frame_file_is_a_row_with_the_file_s_own_values(raw: Raw) -> None:
    positions = [{"ImagePositionPatient": ["0", "0", str(z)]} for z in range(3)]
    path = write(
        raw.directory / "m.dcm",
        enhanced(3, shared={"PixelSpacing": ["0.5", "0.5"]}, per_frame=positions),
    )
    series = raw.read()
    assert series.files == 1
    assert series.bytes == path.stat().st_size
    frame = series.frame
    assert frame.schema == DICOM_TAGS.schema
    assert frame["frame_index"].to_list() == [0, 1, 2]
    assert frame["NumberOfFrames"].to_list() == [3, 3, 3]
    assert frame["file_size"].to_list() == [path.stat().st_size] * 3
    assert frame["ImagePositionPatient"].to_list() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]
    assert frame["PixelSpacing"].to_list() == [[0.5, 0.5]] * 3
    assert frame["geometry_source"].to_list() == ["per_frame+shared"] * 3


def test_the_header_s_series_is_noted_only_where_it_is_another(raw: Raw) -> None:
    raw.add("a.dcm")
    raw.add("b.dcm", SeriesInstanceUID="1.2.3.999")
    raw.add("c.dcm", SeriesInstanceUID=None)
    frame = raw.read().frame
    assert frame["header_series_instance_uid"].to_list() == [None, "1.2.3.999", None]
    assert frame["SeriesInstanceUID"].to_list() == [SERIES] * 3


def test_malformed_values_are_noted_with_their_file_once_each(raw: Raw) -> None:
    raw.add("a.dcm", encode_with({"SliceThickness": ("DS", b"thin"), "Rows": ("US", b"abc")}))
    bad = [{"PixelSpacing": ["1", "1", "1"]}] * 5
    write(raw.directory / "m.dcm", enhanced(5, per_frame=bad))
    series = raw.read()
    assert series.unreadable_files == 0
    assert [note.split(": ")[:2] for note in series.malformed] == [
        ["a.dcm", "Rows"],
        ["a.dcm", "SliceThickness"],
        ["m.dcm", "PixelSpacing"],
    ]
    assert series.frame.filter(pl.col("dicom_path").str.ends_with("a.dcm"))["Rows"].item() is None


@pytest.mark.parametrize("content", ["unreadable", "readable without values"])
def test_a_table_of_nulls_alone_has_the_schema_all_the_same(raw: Raw, content: str) -> None:
    raw.add("good.dcm")
    if content == "unreadable":
        raw.add("a.dat", b"text")
    nothing = dict.fromkeys(("SliceThickness", "ImagePositionPatient", "PatientID"))
    raw.add("good.dcm", **nothing)
    frame = raw.read().frame
    assert frame.schema == DICOM_TAGS.schema
    assert frame["ImagePositionPatient"].null_count() == frame.height


def test_without_a_readable_image_the_series_fails_and_says_why(raw: Raw) -> None:
    raw.add("a.dcm", encode(dataset())[:500])
    raw.add("b.dat", b"text")
    with pytest.raises(SeriesError) as error:
        raw.read()
    assert str(error.value) == (
        f"{raw.directory} has no readable DICOM image among 2 files: a.dcm {CUT_IN_HEADER}"
    )


def test_a_series_without_files_fails_and_says_so(raw: Raw) -> None:
    with pytest.raises(SeriesError) as error:
        raw.read()
    assert str(error.value) == f"{raw.directory} has no files"


def test_a_series_of_directories_and_of_what_is_no_image_fails_and_names_both(raw: Raw) -> None:
    raw.add("DICOMDIR", b"")
    (raw.directory / "IMAGES").mkdir()
    (raw.directory / "A\nB").mkdir()
    with pytest.raises(SeriesError) as error:
        raw.read()
    assert str(error.value) == (
        f"{raw.directory} has no files that could be images, only what is no image by its name: "
        "DICOMDIR; "
        r"and directories, which are not entered: A\nB, IMAGES: put the images themselves into it"
    )


def test_directories_beside_images_are_named_in_the_notes_of_the_series(raw: Raw) -> None:
    raw.add("a.dcm")
    (raw.directory / "more").mkdir()
    (raw.directory / "linked").symlink_to("more")
    assert raw.read().directories == ("linked", "more")
    settings = Settings.from_environment({"ANEURYSM_DATA": str(raw.root.parent)})
    (note,) = write_dicom_tags(settings, SERIES).notes
    assert note == ("not entered, as only files directly in a series are its images: linked, more")


def test_a_directory_that_is_not_there_or_is_none_fails_and_says_so(raw: Raw) -> None:
    raw.directory.rmdir()
    with pytest.raises(SeriesError) as error:
        raw.read()
    assert str(error.value) == f"{raw.directory} cannot be read: No such file or directory"
    raw.directory.write_bytes(encode(dataset()))
    with pytest.raises(SeriesError, match="cannot be read: Not a directory"):
        raw.read()


def test_a_file_that_fails_to_be_read_fails_its_series(raw: Raw) -> None:
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs a file that fails to be read")
    raw.add("good.dcm")
    (raw.directory / "link").symlink_to("/proc/self/mem")
    with pytest.raises(SeriesError, match="link: Input/output error"):
        raw.read()


def test_a_file_that_vanishes_while_it_is_read_fails_its_series(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.add("a.dcm")
    gone = raw.add("b.dcm")
    listed = series_module._files

    def vanish(directory: Path) -> list[tuple[str, bool]]:
        files = listed(directory)
        gone.unlink()
        return files

    monkeypatch.setattr(series_module, "_files", vanish)
    with pytest.raises(SeriesError, match=r"b\.dcm: No such file"):
        raw.read()
