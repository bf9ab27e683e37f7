from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, Sequence, dcmread, dcmwrite

from aneurysm_assets.dicom.header import Header
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.dicom.series import read_series
from aneurysm_assets.sample.dicom import write_enhanced, write_slices
from aneurysm_assets.sample.grid import Grid
from aneurysm_assets.schema.columns import OPTIONAL_TAGS

UID = "1.2.826.0.1"
OPTIONAL = [column.name for column in OPTIONAL_TAGS]
FRAMES = 3
GRID = Grid((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.5, 0.5), 2.0, (1, 4, 4))


TELL_VOLUMES_APART = {
    "TemporalPositionIdentifier": 2,
    "EchoTime": 4.6,
    "DiffusionBValue": 1000.0,
    "TriggerTime": 12.5,
    "AcquisitionNumber": 3,
    "AcquisitionTime": "101112.5",
    "ContentTime": "101113",
}


def slice_with(folder: Path, **changes: Any) -> Path:
    """A CT file with changed tags; None takes a tag away."""
    write_slices(folder, UID, GRID, np.zeros(GRID.shape, np.int16))
    return changed(folder, changes)


def enhanced_with(
    folder: Path,
    per_frame: list[dict[str, Any] | None] | None = None,
    shared: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """An Enhanced MR file with windows in its functional groups."""
    pixels = np.zeros((FRAMES, 4, 4), np.int16)
    write_enhanced(folder, UID, [GRID] * FRAMES, pixels, shared=True)
    groups = [(("PerFrame", i), window) for i, window in enumerate(per_frame or [])]
    return changed(folder, changes, [*groups, (("Shared", 0), shared)])


def changed(folder: Path, changes: dict[str, Any], windows: Any = ()) -> Path:
    (path,) = folder.iterdir()
    data = dcmread(path)
    for keyword, value in changes.items():
        set_value(data, keyword, value)
    for (where, item), window in windows:
        if window is not None:
            group = data[f"{where}FunctionalGroupsSequence"].value[item]
            group.FrameVOILUTSequence = Sequence([Dataset()])
            for keyword, value in window.items():
                set_value(group.FrameVOILUTSequence[0], keyword, value)
    dcmwrite(path, data)
    return path


def set_value(data: Dataset, keyword: str, value: Any) -> None:
    if value is None:
        data.pop(keyword, None)
    else:
        setattr(data, keyword, value)


def tags(header: Header, image: int = 0) -> dict[str, Any]:
    return {name: header.images[image][name] for name in OPTIONAL}


def windows(header: Header) -> list[tuple[Any, Any]]:
    return [(image["WindowCenter"], image["WindowWidth"]) for image in header.images]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "series" / UID


def test_the_optional_tags_of_a_slice_are_read_as_their_columns_have_them(folder):
    header = read_header(slice_with(folder, ImagesInAcquisition=24, **TELL_VOLUMES_APART))
    assert tags(header) == {
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "Manufacturer": "aneurysm-assets sample",
        "WindowCenter": 150.0,
        "WindowWidth": 700.0,
        "ImagesInAcquisition": 24,
        **TELL_VOLUMES_APART,
    }
    assert isinstance(header.images[0]["WindowCenter"], float)
    assert header.malformed == []


def test_of_several_windows_the_first_is_kept(folder):
    header = read_header(
        slice_with(folder, WindowCenter=["40.5", "300"], WindowWidth=["80", "1500"])
    )
    assert windows(header) == [(40.5, 80.0)]
    assert header.malformed == []


def test_of_windows_of_which_the_first_is_empty_none_is_kept(folder):
    header = read_header(slice_with(folder, WindowCenter=["", "300"], WindowWidth=["", "1500"]))
    assert windows(header) == [(None, None)]
    assert header.malformed == []


@pytest.mark.parametrize("empty", [None, ""])
def test_optional_tags_that_are_absent_or_empty_are_null_and_no_fault(folder, empty):
    header = read_header(slice_with(folder, **dict.fromkeys(OPTIONAL, empty)))
    assert tags(header) == dict.fromkeys(OPTIONAL)
    assert header.malformed == []
    assert header.images[0]["Rows"] == 4


def test_a_window_that_is_no_number_is_null_and_named(folder):
    path = slice_with(folder, WindowCenter="1234")
    data = path.read_bytes()
    assert data.count(b"DS\x04\x001234") == 1
    path.write_bytes(data.replace(b"DS\x04\x001234", b"DS\x04\x00wide"))
    header = read_header(path)
    assert windows(header) == [(None, 700.0)]
    assert [note.partition(":")[0] for note in header.malformed] == ["WindowCenter"]


def test_an_image_type_of_one_value_has_no_backslash(folder):
    assert tags(read_header(slice_with(folder, ImageType="LOCALIZER")))["ImageType"] == "LOCALIZER"


def test_a_manufacturer_is_read_in_the_files_character_set(folder):
    header = read_header(slice_with(folder, Manufacturer="Göttingen"))
    assert tags(header)["Manufacturer"] == "Göttingen"


def test_each_frame_has_the_window_of_its_own_functional_group(folder):
    own = [{"WindowCenter": 10 * i, "WindowWidth": 100 + i} for i in range(FRAMES)]
    header = read_header(enhanced_with(folder, own, {"WindowCenter": 7, "WindowWidth": 8}))
    assert windows(header) == [(0.0, 100.0), (10.0, 101.0), (20.0, 102.0)]


def test_a_frame_without_a_window_has_the_shared_one_and_else_that_of_the_file(folder):
    own = [None, {"WindowCenter": 10, "WindowWidth": 11}, None]
    shared = {"WindowCenter": 7}
    header = read_header(enhanced_with(folder, own, shared, WindowCenter=1, WindowWidth=2))
    assert windows(header) == [(7.0, 2.0), (10.0, 11.0), (7.0, 2.0)]


def test_of_several_windows_of_a_frame_the_first_is_kept(folder):
    shared = {"WindowCenter": ["500", "20"], "WindowWidth": ["1000", "40"]}
    header = read_header(enhanced_with(folder, None, shared))
    assert windows(header) == [(500.0, 1000.0)] * FRAMES
    assert header.malformed == []


def test_all_frames_have_the_image_type_and_manufacturer_of_the_file(folder):
    header = read_header(enhanced_with(folder))
    for frame in range(FRAMES):
        assert tags(header, frame) == {
            "ImageType": "ORIGINAL\\PRIMARY\\ANGIO\\NONE",
            "Manufacturer": "aneurysm-assets sample",
            "WindowCenter": None,
            "WindowWidth": None,
            "ImagesInAcquisition": None,
            **dict.fromkeys(TELL_VOLUMES_APART),
            "ContentTime": "120000",
        }


def test_a_window_is_no_geometry(folder):
    window = {"WindowCenter": 7, "WindowWidth": 8}
    path = enhanced_with(folder, [window] * FRAMES)
    data = dcmread(path)
    for item in data.PerFrameFunctionalGroupsSequence:
        del item.PlanePositionSequence
    dcmwrite(path, data)
    assert {image["geometry_source"] for image in read_header(path).images} == {"shared"}


def test_the_table_of_a_series_has_the_optional_tags(folder, tmp_path):
    window = {"WindowCenter": ["40", "300"], "WindowWidth": ["80", "1500"]}
    slice_with(folder, **window, ImagesInAcquisition=24, **TELL_VOLUMES_APART)
    frame = read_series(folder, tmp_path).frame
    assert frame.select(OPTIONAL).row(0) == (
        "ORIGINAL\\PRIMARY\\AXIAL",
        "aneurysm-assets sample",
        40.0,
        80.0,
        24,
        *TELL_VOLUMES_APART.values(),
    )


def test_a_scout_among_slices_is_known_by_the_image_type_of_its_file(folder, tmp_path):
    stack = Grid(GRID.position, GRID.orientation, GRID.pixel_spacing, 2.0, (3, 4, 4))
    write_slices(folder, UID, stack, np.zeros(stack.shape, np.int16))
    path = sorted(folder.iterdir())[0]
    data = dcmread(path)
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dcmwrite(path, data)
    frame = read_series(folder, tmp_path).frame
    scouts = frame.filter("is_scout")
    assert scouts["SOPInstanceUID"].to_list() == [data.SOPInstanceUID]


def test_the_b_value_of_a_frame_is_that_of_its_functional_group(folder, tmp_path):
    path = enhanced_with(folder)
    data = dcmread(path)
    for b, item in zip((0.0, 500.0, 1000.0), data.PerFrameFunctionalGroupsSequence, strict=True):
        item.MRDiffusionSequence = Sequence([Dataset()])
        item.MRDiffusionSequence[0].DiffusionBValue = b
    dcmwrite(path, data)
    table = read_series(folder, tmp_path)
    assert table.fast_files == 1
    assert table.frame["DiffusionBValue"].to_list() == [0.0, 500.0, 1000.0]
    assert [image["DiffusionBValue"] for image in read_header(path).images] == [0.0, 500.0, 1000.0]


@pytest.mark.parametrize(("value", "read"), [(b"\x00" * 6 + b"\xf0\x7f", None), (b"", None)])
def test_a_b_value_that_is_no_finite_number_is_null(folder, tmp_path, value, read):
    path = slice_with(folder, DiffusionBValue=1000.0)
    content, element = path.read_bytes(), b"\x18\x00\x87\x90FD"
    start = content.index(element) + len(element)
    whole = len(value).to_bytes(2, "little") + value
    path.write_bytes(content[:start] + whole + content[start + 10 :])
    assert read_series(folder, tmp_path).frame["DiffusionBValue"].to_list() == [read]
