"""Points in patient coordinates and in vessels, from files through the stage to the one table."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from numpy.testing import assert_allclose

from tests.made_up import (
    AXIAL,
    COLUMNS,
    CORONAL,
    DZ,
    LABEL,
    MIDDLE,
    OBLIQUE,
    ROWS,
    SLICES,
    TIP,
    MadeUp,
    Stage,
    ct,
    grid_affine,
    multi_frame,
    segmented,
    stack,
)

VESSELS = (
    "Other Posterior Circulation",
    "Basilar Tip",
    "Right Posterior Communicating Artery",
    "Left Posterior Communicating Artery",
    "Right Infraclinoid Internal Carotid Artery",
    "Left Infraclinoid Internal Carotid Artery",
    "Right Supraclinoid Internal Carotid Artery",
    "Left Supraclinoid Internal Carotid Artery",
    "Right Middle Cerebral Artery",
    "Left Middle Cerebral Artery",
    "Right Anterior Cerebral Artery",
    "Left Anterior Cerebral Artery",
    "Anterior Communicating Artery",
)
"""Labels 1 to 13: from the data set's description, written out again."""

VESSEL = {(8, 6, 5): LABEL[TIP]}
PLACED = ["localizer_x_mm", "localizer_y_mm", "localizer_z_mm"]
IN_VOLUME = ["localizer_voxel", "localizer_vessel"]


def points_of(stage: Stage, series: MadeUp) -> pl.DataFrame:
    return stage.unified().filter(
        pl.col("SeriesInstanceUID") == series.uid, pl.col("localizer_index").is_not_null()
    )


def matches(stage: Stage, series: MadeUp) -> bool | None:
    column = stage.unified().filter(pl.col("SeriesInstanceUID") == series.uid)
    (answer,) = column["segmentation_matches_series"].unique()
    return answer


def combined(data: Path, *made: MadeUp) -> Stage:
    stage = Stage(data, made)
    assert stage.read().success
    assert stage.sum_up().success
    return stage


def in_lps(image: dict, x: float, y: float) -> np.ndarray:
    """Return where a pixel is, LPS mm: PS3.3 C.7.6.2.1.1 in full, as a 4 x 4 matrix."""
    row, column = np.reshape(image["ImageOrientationPatient"], (2, 3))
    between_rows, between_columns = image["PixelSpacing"]
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = row * between_columns, column * between_rows
    matrix[:3, 2], matrix[:3, 3] = 0, image["ImagePositionPatient"]
    return (matrix @ [x, y, 0, 1])[:3]


# --- from the pixel to the vessel -----------------------------------------------------------------


def thirteen_vessels(points_lps: np.ndarray, flips: tuple[int, int, int]) -> nib.Nifti1Image:
    """Return a volume of balls of 2 mm around points: oblique, anisotropic, flipped along axes."""
    sizes = np.array([0.7, 0.9, 0.8])
    matrix = euler2mat(0.5, -0.3, 0.4) @ np.diag(sizes * flips)
    points_ras = points_lps * [-1, -1, 1]
    around = np.linalg.inv(matrix) @ points_ras.T
    first, last = np.floor(around.min(axis=1)) - 5, np.ceil(around.max(axis=1)) + 5
    affine = from_matvec(matrix, matrix @ first)
    voxels = np.stack(
        np.meshgrid(*map(np.arange, (last - first + 1).astype(int)), indexing="ij"), axis=-1
    )
    labels = np.zeros(voxels.shape[:3], "uint8")
    for label, point in enumerate(points_ras, start=1):
        labels[np.linalg.norm(apply_affine(affine, voxels) - point, axis=-1) <= 2] = label
    return nib.Nifti1Image(labels, affine)


def turned_frames(series: MadeUp) -> MadeUp:
    """Give each frame a geometry of its own, and the top level one that is nobody's."""
    for number, frame in enumerate(series.images):
        turn = euler2mat(0.1 * number, 0.05 * number, -0.2 * number)
        frame["ImageOrientationPatient"] = [*turn[:, 0], *turn[:, 1]]
        frame["PixelSpacing"] = [0.5 + 0.02 * number, 0.75 - 0.02 * number]
        frame["ImagePositionPatient"][2] += (-1) ** number * 7.0
    series.top_level |= {
        "ImagePositionPatient": [500.0, 500.0, 500.0],
        "ImageOrientationPatient": list(CORONAL),
        "PixelSpacing": [3.0, 3.0],
    }
    return series


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)], ids=str)
@pytest.mark.parametrize("kind", ["single frames", "frames of their own geometry"])
def test_a_localizer_lands_in_its_vessel_from_pixel_through_lps_mm_to_voxel(
    tmp_path: Path, kind: str, flips: tuple[int, int, int]
) -> None:
    if kind == "single frames":
        series = ct("a", 13, orientation=OBLIQUE, spacing=6.0)
    else:
        series = turned_frames(multi_frame("a", 13, orientation=OBLIQUE, spacing=6.0))
    # In an order that no flip of the slices would keep.
    images = [5, 0, 9, 12, 3, 1, 10, 7, 2, 11, 4, 8, 6]
    pixels = [(1.25 + image, 10.5 - 0.75 * image) for image in images]
    for vessel, image, (x, y) in zip(VESSELS, images, pixels, strict=True):
        series.point(image, x, y, vessel)
    lps = np.array([in_lps(series.images[n], *p) for n, p in zip(images, pixels, strict=True)])
    apart = np.linalg.norm(lps[:, None] - lps, axis=-1)[np.triu_indices(13, 1)]
    assert apart.min() > 5, "each point's vessel is its only one within reach"
    volume = thirteen_vessels(lps, flips)
    series.volumes = {"_cowseg": volume}

    stage = combined(tmp_path, series)
    assert points_of(stage, series).height == 13

    found = {row["location"]: row for row in points_of(stage, series).iter_rows(named=True)}
    assert {name: row["localizer_vessel"] for name, row in found.items()} == {
        name: name for name in VESSELS
    }
    assert_allclose([[found[v][column] for column in PLACED] for v in VESSELS], lps, atol=1e-4)
    voxels = apply_affine(np.linalg.inv(volume.affine), lps * [-1, -1, 1])
    away = np.array([found[vessel]["localizer_voxel"] for vessel in VESSELS]) - voxels
    assert (np.abs(away) <= 0.5 + 1e-3).all()
    labels = np.asarray(volume.dataobj)
    at = [labels[tuple(found[vessel]["localizer_voxel"])] for vessel in VESSELS]
    assert at == list(range(1, 14))


def test_two_points_on_one_image_each_have_a_place_and_a_vessel(tmp_path: Path) -> None:
    vessels = {(2, 2, 5): LABEL[TIP], (14, 10, 5): LABEL[MIDDLE]}
    series = segmented(ct("a", orientation=OBLIQUE), vessels)
    series.point(5, 14, 10, MIDDLE).point(5, 2, 2, TIP)
    points = points_of(combined(tmp_path, series), series)
    assert points["localizer_index"].to_list() == [0, 1]
    assert points["localizer_vessel"].to_list() == [MIDDLE, TIP]
    assert points["location"].to_list() == [MIDDLE, TIP]


def test_a_point_beside_the_volume_has_a_voxel_there_and_no_vessel(tmp_path: Path) -> None:
    series = segmented(ct("a"), VESSEL).point(5, 300, 6)
    (point,) = points_of(combined(tmp_path, series), series).iter_rows(named=True)
    i, _, _ = point["localizer_voxel"]  # stored towards the right, as RAS has it
    assert i == COLUMNS - 1 - 300
    assert point["localizer_vessel"] is None


def test_a_compressed_volume_is_as_good(tmp_path: Path) -> None:
    series = segmented(ct("a", orientation=OBLIQUE), VESSEL).point(5, 8, 6)
    stage = Stage(tmp_path, [series])
    for path in sorted((stage.settings.segmentations_root / series.uid).iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert stage.read().success
    assert stage.sum_up().success
    (point,) = points_of(stage, series).iter_rows(named=True)
    assert point["localizer_vessel"] == TIP
    assert matches(stage, series) is True


def test_points_on_files_of_one_sopinstanceuid_are_placed_on_each_and_not_multiplied(
    tmp_path: Path,
) -> None:
    series = segmented(ct("a"), VESSEL)
    series.one(6, SOPInstanceUID=series.instance(5)).point(5, 8, 6)
    stage = combined(tmp_path, series)
    assert stage.unified().height == SLICES
    points = points_of(stage, series)
    assert points["dicom_path"].str.slice(-7).to_list() == ["006.dcm", "007.dcm"]
    assert points["localizer_z_mm"].diff().to_list() == [None, DZ]
    assert points["localizer_voxel"].arr.get(2).diff().to_list() == [None, 1]


# --- where something is missing -------------------------------------------------------------------


def test_without_a_segmentation_a_point_has_its_place_in_mm_and_nothing_else(
    tmp_path: Path,
) -> None:
    series = ct("a", orientation=OBLIQUE).point(5, 8.25, 6.5)
    stage = combined(tmp_path, series)
    points = points_of(stage, series)
    assert_allclose(points.select(PLACED).row(0), in_lps(series.images[5], 8.25, 6.5), atol=1e-6)
    assert points.select(IN_VOLUME).row(0) == (None, None)
    assert matches(stage, series) is None


def test_an_image_without_a_point_has_no_place(tmp_path: Path) -> None:
    series = segmented(ct("a"), VESSEL).point(5, 8, 6)
    unified = combined(tmp_path, series).unified()
    others = unified.filter(pl.col("localizer_index").is_null())
    assert others.height == SLICES - 1
    assert others.select(*PLACED, *IN_VOLUME).null_count().row(0) == (SLICES - 1,) * 5


@pytest.mark.parametrize(
    "missing", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
)
def test_a_point_of_an_image_without_geometry_is_nowhere(tmp_path: Path, missing: str) -> None:
    series = segmented(ct("a"), VESSEL).point(5, 8, 6).point(4, 8, 6)
    series.one(5, **{missing: None})
    stage = combined(tmp_path, series)
    on_fifth, on_sixth = points_of(stage, series).select(*PLACED, *IN_VOLUME).rows()
    assert None not in on_fifth
    assert on_sixth == (None,) * 5
    assert matches(stage, series) is None


@pytest.mark.parametrize("name", ["", "_cowseg"])
def test_one_volume_of_the_pair_is_enough(tmp_path: Path, name: str) -> None:
    series = segmented(ct("a"), VESSEL).point(5, 8, 6)
    series.volumes = {name: series.volumes[name]}
    stage = combined(tmp_path, series)
    vessel = TIP if name == "_cowseg" else None
    assert points_of(stage, series)["localizer_vessel"].to_list() == [vessel]
    assert matches(stage, series) is True


# --- a volume that is not what it was -------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_text(path: Path) -> None:
    path.write_text("moved to the archive")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_flat(path: Path) -> None:
    volume = nib.load(path)
    data = bytearray(path.read_bytes())
    srow = nib.Nifti1Header.template_dtype.fields["srow_x"][1]
    data[srow : srow + 48] = np.full(12, np.nan, "<f4").tobytes()
    assert volume.header["sform_code"] > 0
    path.write_bytes(data)


def make_fractions(path: Path) -> None:
    volume = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(volume.shape, 0.5, "float32"), volume.affine), path)


@pytest.mark.parametrize(
    "spoil",
    [remove, cut, empty, make_text, make_directory, make_flat, make_fractions],
    ids=lambda spoil: spoil.__name__,
)
def test_a_volume_that_is_gone_or_broken_by_now_gives_nulls_and_a_warning(
    tmp_path: Path, spoil
) -> None:
    spoilt = segmented(ct("a"), VESSEL).point(5, 8, 6)
    sound = segmented(ct("b"), VESSEL).point(5, 8, 6)
    stage = Stage(tmp_path, [spoilt, sound])
    assert stage.read().success
    spoil(stage.settings.segmentations_root / spoilt.uid / f"{spoilt.uid}_cowseg.nii")
    result = stage.sum_up()
    assert result.success
    (point,) = points_of(stage, spoilt).iter_rows(named=True)
    assert [point[column] for column in IN_VOLUME] == [None, None]
    assert None not in [point[column] for column in PLACED]
    (warning,) = stage.warnings(result)
    assert warning.startswith(f"{spoilt.uid}: ")
    assert f"{spoilt.uid}_cowseg.nii" in warning
    assert points_of(stage, sound)["localizer_vessel"].to_list() == [TIP]
    quality = stage.quality().filter(pl.col("SeriesInstanceUID") == spoilt.uid)
    assert quality["findings"].to_list() == [None], "what is unknown is no finding"


# --- whether the volume is of the series ----------------------------------------------------------


def on_grid(name: str, series: MadeUp, shape: tuple[int, int, int], affine: np.ndarray) -> MadeUp:
    """Add one volume of the pair."""
    series.volumes[name] = nib.Nifti1Image(np.zeros(shape, "uint8"), affine)
    return series


def moved(series: MadeUp, by: tuple[float, float, float]) -> np.ndarray:
    affine = grid_affine(series)
    affine[:3, 3] += affine[:3, :3] @ by
    return affine


SHAPE = (COLUMNS, ROWS, SLICES)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize(("by", "answer"), [(0.4, True), (0.6, False), (-0.4, True), (-0.6, False)])
def test_a_volume_may_lie_half_a_voxel_beside_its_series(
    tmp_path: Path, axis: int, by: float, answer: bool
) -> None:
    series = ct("a", orientation=OBLIQUE)
    shift = tuple(by * np.eye(3)[axis])
    stage = combined(tmp_path, on_grid("", series, SHAPE, moved(series, shift)))
    assert matches(stage, series) is answer


@pytest.mark.parametrize(("by", "answer"), [(1.009, True), (1.02, False), (0.98, False)])
def test_voxels_may_be_a_per_cent_larger(tmp_path: Path, by: float, answer: bool) -> None:
    series = ct("a", orientation=OBLIQUE)
    affine = grid_affine(series)
    affine[:3, 1] *= by  # of twelve rows, so that the corners stay within half a voxel
    stage = combined(tmp_path, on_grid("", series, SHAPE, affine))
    assert matches(stage, series) is answer


@pytest.mark.parametrize("wrong", ["", "_cowseg"])
def test_both_volumes_must_match(tmp_path: Path, wrong: str) -> None:
    series = segmented(ct("a"), VESSEL)
    on_grid(wrong, series, (*SHAPE[:2], SLICES + 1), grid_affine(series))
    assert matches(combined(tmp_path, series), series) is False


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PSR", "ILA"])
def test_a_match_does_not_depend_on_the_order_and_direction_of_axes(
    tmp_path: Path, axes: str
) -> None:
    series = segmented(multi_frame("a", orientation=OBLIQUE), VESSEL).point(5, 8, 6)
    volume = series.volumes["_cowseg"]
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(axes)
    )
    series.volumes = {"_cowseg": volume.as_reoriented(turn)}
    stage = combined(tmp_path, series)
    assert matches(stage, series) is True
    assert points_of(stage, series)["localizer_vessel"].to_list() == [TIP]
    assert stage.unified()["cowseg_axis_codes"].unique().to_list() == [axes]


def test_scouts_are_no_part_of_the_grid(tmp_path: Path) -> None:
    series = segmented(ct("a"), VESSEL)
    scout = stack(series.uid, 1, orientation=CORONAL, first=11)[0]
    series.images.append(series.images[0] | scout | {"ImageType": ["ORIGINAL", "LOCALIZER"]})
    assert matches(combined(tmp_path, series), series) is True


@pytest.mark.parametrize("spoil", ["two orientations", "an uneven gap", "one slice"])
def test_a_series_that_is_no_grid_is_not_said_to_match_or_not(tmp_path: Path, spoil: str) -> None:
    count = 1 if spoil == "one slice" else SLICES
    series = segmented(ct("a", count), {(8, 6, 0): LABEL[TIP]})
    if spoil == "two orientations":
        for image in series.images[5:]:
            image["ImageOrientationPatient"] = [*AXIAL[:4], np.cos(0.05), np.sin(0.05)]
    if spoil == "an uneven gap":
        series.images[-1]["ImagePositionPatient"][2] += DZ
    assert matches(combined(tmp_path, series), series) is None
