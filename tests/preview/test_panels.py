"""What is shown of a series, held against the volume that it was made of."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from aneurysm_assets.preview import panels
from aneurysm_assets.preview.drawing import Sheet, draw, fit
from aneurysm_assets.preview.overlay import labels_at
from tests.made_up import (
    AXIAL,
    COLUMNS,
    CORONAL,
    DX,
    DY,
    DZ,
    OBLIQUE,
    ROWS,
    SAGITTAL,
    SLICES,
    TIP,
    ct,
    mr,
    multi_frame,
    segmented,
)
from tests.preview.paint import composed, write_painted

LABEL = 5
SHAPE = (COLUMNS, ROWS, SLICES)


@pytest.fixture
def speckled() -> np.ndarray:
    """Return voxels of which no flip, turn or shift is the same again."""
    return np.random.default_rng(5).random(SHAPE) < 0.3


def write_speckled(raw, series, speckled) -> None:
    voxels = {tuple(voxel): LABEL for voxel in np.argwhere(speckled).tolist()}
    write_painted(raw, segmented(series, voxels), np.where(speckled, 1000, 0))


def cut(path: Path) -> None:
    """Leave a file its header and take the most of its pixels."""
    data = dcmread(path)
    data.PixelData = data.PixelData[:10]
    data.save_as(path)


def labels_of(panel: panels.Panel, cowseg: Path) -> np.ndarray:
    """Return the label at the centre of each pixel of a panel."""
    height, width = panel.pixels.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return labels_at(cowseg, [panel.plane.at(x, y)])[0]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("make", [mr, multi_frame])
def test_vessel_labels_lie_on_the_pixels_of_their_voxels_in_all_three_planes(
    make, orientation, speckled, tmp_path
) -> None:
    series = make("speckled", orientation=orientation)
    write_speckled(tmp_path, series, speckled)
    shown = composed(tmp_path, series.uid)
    assert shown.layout == "planes"
    cowseg = tmp_path / "segmentations" / series.uid / f"{series.uid}_cowseg.nii"
    for panel in shown.middle:
        labels, bright = labels_of(panel, cowseg), panel.pixels > 127
        assert bright.any()
        assert not bright.all()
        np.testing.assert_array_equal(labels == LABEL, bright)


@pytest.mark.parametrize(
    ("orientation", "names"),
    [
        (AXIAL, ["axial", "coronal", "sagittal"]),
        (CORONAL, ["coronal", "axial", "sagittal"]),
        (SAGITTAL, ["sagittal", "axial", "coronal"]),
    ],
)
def test_three_planes_have_the_letters_and_proportions_of_the_patient(
    orientation, names, speckled, tmp_path
) -> None:
    series = mr("planes", orientation=orientation)
    write_speckled(tmp_path, series, speckled)
    shown = composed(tmp_path, series.uid)
    expected = {
        "axial": ("R", "L", "A", "P"),
        "coronal": ("R", "L", "S", "I"),
        "sagittal": ("A", "P", "S", "I"),
    }
    assert [panel.plane.name for panel in shown.middle] == names
    assert [panel.letters for panel in shown.middle] == [expected[name] for name in names]
    extent = {}
    directions = {"L": COLUMNS * DX, "P": ROWS * DY, "S": SLICES * DZ}
    if orientation is not AXIAL:
        directions["S"], rest = ROWS * DY, SLICES * DZ
        directions |= {"P": rest} if orientation is CORONAL else {"P": COLUMNS * DX, "L": rest}
    for panel in shown.middle:
        fitted = fit(panel)
        extent[panel.plane.name] = fitted.width / fitted.height
    assert extent["axial"] == pytest.approx(directions["L"] / directions["P"], rel=0.02)
    assert extent["coronal"] == pytest.approx(directions["L"] / directions["S"], rel=0.02)
    assert extent["sagittal"] == pytest.approx(directions["P"] / directions["S"], rel=0.02)


def test_a_tilted_gantry_still_gives_planes_with_every_label_in_its_place(
    speckled, tmp_path
) -> None:
    series = ct("tilted", step=(0.0, 0.5, DZ)).every(RescaleIntercept=0.0, RescaleSlope=1.0)
    voxels = np.argwhere(speckled).tolist()
    segmented(series, {tuple(voxel): LABEL for voxel in voxels})
    sheared = series.volumes["_cowseg"]
    # The volume is stored in the order of RAS: x and y backwards.
    affine = sheared.affine.copy()
    affine[1, 2] = -0.5
    series.volumes["_cowseg"] = type(sheared)(np.asarray(sheared.dataobj), affine)
    write_painted(tmp_path, series, np.where(speckled, 1000, 0))
    shown = composed(tmp_path, series.uid)
    cowseg = tmp_path / "segmentations" / series.uid / f"{series.uid}_cowseg.nii"
    for panel in shown.middle:
        np.testing.assert_array_equal(labels_of(panel, cowseg) == LABEL, panel.pixels > 127)


def test_uneven_gaps_are_shown_in_their_true_proportion(speckled, tmp_path) -> None:
    series = mr("gap", orientation=AXIAL)
    z = [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    for number, place in enumerate(z):
        series.one(number, ImagePositionPatient=[0.0, 0.0, place * DZ])
    write_painted(tmp_path, series, np.where(speckled, 1000, 0))
    (_, coronal, sagittal) = composed(tmp_path, series.uid).middle
    assert coronal.pixels.shape[0] == sagittal.pixels.shape[0] == 15


@pytest.mark.parametrize(
    ("spoil", "reason", "lettered"),
    [
        (lambda s: s.every(ImagePositionPatient=[0.0, 0.0, 0.0]), "different places", True),
        (lambda s: s.every(ImagePositionPatient=None), "parallel images with a place", True),
        (lambda s: s.every(ImageOrientationPatient=None), "parallel images with a place", False),
        (lambda s: s.every(PixelSpacing=None), "parallel images with a place", True),
        (
            lambda s: [s.one(n, ImagePositionPatient=[0.0, float(n), 0.0]) for n in range(SLICES)],
            "orientation contradicts",
            False,
        ),
        (
            lambda s: [
                s.one(n, ImagePositionPatient=[5.0 * (n % 2), 0.0, n * DZ]) for n in range(SLICES)
            ],
            "shifted against each other",
            True,
        ),
    ],
)
def test_geometry_that_allows_no_volume_gives_a_montage_that_says_why(
    spoil, reason, lettered, tmp_path
) -> None:
    series = ct("spoilt")
    spoil(series)
    write_painted(tmp_path, series, np.full(SHAPE, 1000))
    shown = composed(tmp_path, series.uid)
    assert shown.layout == "montage"
    assert len(shown.middle) == 9
    assert any(reason in note for note in shown.notes), shown.notes
    assert [bool(panel.letters) for panel in shown.middle] == [lettered] * 9


def test_a_point_is_marked_on_its_image_at_its_pixel(tmp_path) -> None:
    volume = np.zeros(SHAPE)
    volume[3, 8, 2] = volume[12, 4, 7] = 1000
    series = mr("points").point(7, 12, 4).point(2, 3, 8)
    write_painted(tmp_path, series, volume)
    shown = composed(tmp_path, series.uid)
    marks = [(panel.pixels, mark) for panel in shown.with_points for mark in panel.marks]
    assert [(mark.number, mark.location) for _, mark in marks] == [(1, TIP), (2, TIP)]
    for pixels, mark in marks:
        assert np.argwhere(pixels == pixels.max()).tolist() == [[mark.y, mark.x]]
    assert (shown.points, shown.points_shown) == (2, 2)


def test_a_close_up_shows_the_same_pixels_and_the_point_among_them(tmp_path) -> None:
    volume = np.random.default_rng(2).integers(0, 500, SHAPE)
    series = mr("close", orientation=AXIAL).point(4, 12, 4)
    series.every(PixelSpacing=[1.5, 3.0])
    volume[12, 4, 4] = 4000
    write_painted(tmp_path, series, volume)
    (panel,) = composed(tmp_path, series.uid).with_points
    (close_up,) = panel.close_ups
    (mark,) = close_up.marks
    # 20 mm are 7 columns here; the image ends 3 columns behind the point.
    assert close_up.pixels.shape == (ROWS, 11)
    assert close_up.pixels[round(mark.y), round(mark.x)] == panel.pixels.max()
    np.testing.assert_array_equal(close_up.pixels, panel.pixels[:, 5:])
    np.testing.assert_allclose(close_up.plane.at(mark.x, mark.y), panel.plane.at(12, 4))
    assert (close_up.letters, close_up.pixel_size) == (panel.letters, panel.pixel_size)


@pytest.mark.parametrize(
    "point",
    [(-500.0, 4.0), (8.0, 500.0), (1e9, 1e9), (-0.51, 4.0), (15.5, 4.0), (8.0, -1.0), (8.0, 11.5)],
)
def test_a_point_outside_its_image_is_neither_marked_nor_counted_but_named(point, tmp_path) -> None:
    series = mr("outside").point(4, *point).point(4, 3, 3)
    write_painted(tmp_path, series, np.full(SHAPE, 7))
    shown = composed(tmp_path, series.uid)
    assert (shown.points, shown.points_shown) == (2, 1)
    (panel,) = shown.with_points
    assert [mark.number for mark in panel.marks] == [2]
    at = f"{point[0]:g}, {point[1]:g}"
    assert f"1 of 2 points: outside the image: 1 ({TIP}) at {at}" in shown.notes


@pytest.mark.parametrize("point", [(-0.5, -0.5), (15.4, 11.4)])
def test_a_point_on_the_edge_of_its_image_is_marked(point, tmp_path) -> None:
    series = mr("edge").point(4, *point)
    series.every(PixelSpacing=[9.0, 9.0])
    write_painted(tmp_path, series, np.full(SHAPE, 7))
    shown = composed(tmp_path, series.uid)
    assert shown.points_shown == 1
    sheet = Sheet("", "", shown.panels, [None] * len(shown.panels), len(shown.middle))
    assert draw(sheet).size[0] > 1000


@pytest.mark.parametrize("also", [False, True])
def test_of_a_middle_slice_that_cannot_be_decoded_the_nearest_is_shown(also, tmp_path) -> None:
    series = mr("middle").point(1, 3, 3)
    volume = np.zeros(SHAPE)
    volume[:] = np.arange(SLICES)
    write_painted(tmp_path, series, volume)
    folder = tmp_path / "series" / series.uid
    middle = SLICES // 2
    for number in (middle, middle - 1) if also else (middle,):
        cut(folder / f"{number + 1:03}.dcm")
    shown = composed(tmp_path, series.uid)
    assert len(shown.middle) == 3
    nearest = middle + 1 if also else middle - 1
    assert f"image {nearest + 1} of {SLICES}" in shown.middle[0].title
    assert "the middle slice cannot be decoded: the nearest that can is shown" in shown.notes
    assert any(".dcm: pixels cannot be decoded" in note for note in shown.notes)


def test_a_point_on_a_frame_is_marked_on_that_frame(tmp_path) -> None:
    volume = np.zeros(SHAPE)
    volume[3, 8, 6] = 1000
    series = multi_frame("frames").point(6, 3, 8)
    write_painted(tmp_path, series, volume)
    (panel,) = composed(tmp_path, series.uid).with_points
    assert panel.pixels[8, 3] == 255
    assert "frame 6" in panel.title


def test_points_that_are_not_shown_are_counted_and_said_why(tmp_path) -> None:
    series = mr("many")
    for number in range(8):
        series.point(number, 1, 1).point(number, 5, 5)
    series.points.append(("1.2.3.999", {"x": 1, "y": 1}, TIP))
    write_painted(tmp_path, series, np.full(SHAPE, 7))
    shown = composed(tmp_path, series.uid)
    assert len(shown.with_points) == panels.MOST_POINT_IMAGES
    assert (shown.points, shown.points_shown) == (17, 12)
    assert "1 of 17 points: image or frame not in the series" in shown.notes
    assert "4 of 17 points: beyond the first 6 images" in shown.notes


def test_a_point_without_a_frame_is_not_put_on_some_frame_of_a_multi_frame_file(tmp_path) -> None:
    series = multi_frame("no frame")
    series.points.append((series.instance(0), {"x": 1, "y": 1}, TIP))
    write_painted(tmp_path, series, np.full(SHAPE, 7))
    assert composed(tmp_path, series.uid).with_points == []


def test_of_a_long_series_only_an_even_choice_of_slices_is_decoded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(panels, "MOST_SLICES", 8)
    series = mr("long", count=40).point(3, 1, 1)
    write_painted(tmp_path, series, np.full((COLUMNS, ROWS, 40), 7))
    shown = composed(tmp_path, series.uid)
    assert len(shown.decoded) == 9
    # As large as the volume is, whatever is decoded of it.
    for panel in shown.middle[1:]:
        assert {*panel.pixels.shape} & {8}
        assert max(panel.pixel_size) == pytest.approx(39 * DZ / 7)


def test_scouts_are_left_out_of_the_planes(tmp_path) -> None:
    series = mr("scouts").one(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_painted(tmp_path, series, np.full(SHAPE, 7))
    shown = composed(tmp_path, series.uid)
    assert shown.layout == "planes"
    assert len(shown.decoded) == SLICES - 1


def test_a_clean_series_is_counted_whole_and_has_no_note(tmp_path) -> None:
    series = mr("clean", orientation=AXIAL)
    write_painted(tmp_path, series, np.ones(SHAPE))
    shown = composed(tmp_path, series.uid)
    assert (shown.notes, shown.groups) == ([], 1)
    assert shown.middle[0].title == f"axial, image {SLICES // 2 + 1} of {SLICES}"


def test_the_tilt_of_a_gantry_is_said_in_degrees(tmp_path) -> None:
    series = ct("tilt", step=(0.0, 0.5, DZ))
    write_painted(tmp_path, series, np.ones(SHAPE))
    (note,) = composed(tmp_path, series.uid).notes
    assert f"{np.degrees(np.arctan(0.5 / DZ)):.1f} degrees off the normal" in note


def test_missing_slices_and_the_width_of_the_gap_are_said(tmp_path) -> None:
    series = mr("missing", orientation=AXIAL)
    for number in range(SLICES):
        place = number + 3 * (number >= SLICES // 2)
        series.one(number, ImagePositionPatient=[0.0, 0.0, place * DZ])
    write_painted(tmp_path, series, np.ones(SHAPE))
    (note,) = composed(tmp_path, series.uid).notes
    assert note.startswith("3 slices missing")
    assert f"{4 * DZ:.3g} mm" in note


def test_of_a_mixed_series_only_the_volume_drawn_is_counted(tmp_path) -> None:
    series = mr("mixed", orientation=AXIAL)
    write_painted(tmp_path, series, np.ones(SHAPE))
    folder = tmp_path / "series" / series.uid
    for number in (1, 2, 3):
        data = dcmread(folder / f"{number:03}.dcm")
        data.PixelSpacing = [2 * DY, 2 * DX]
        data.save_as(folder / f"{number:03}.dcm")
    shown = composed(tmp_path, series.uid)
    drawn = SLICES - 3
    assert shown.groups == 2
    assert shown.middle[0].title == f"axial, image {drawn // 2 + 1} of {drawn} drawn"
    (note,) = shown.notes
    assert f"has {drawn} images; the series has {SLICES} images in 2 groups" in note
