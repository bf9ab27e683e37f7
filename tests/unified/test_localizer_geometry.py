"""Points in patient coordinates and in vessels, from files through the stage to the one table."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from numpy.testing import assert_allclose

from aneurysm_assets.nifti import vessels
from tests.graph import failure
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
    uid_of,
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


Build = Callable[[str], MadeUp]

SERIES: dict[str, Build] = {}
"""Every series of this module but the spoilt ones, by what it is: they are combined together."""


def one(name: str, build: Build) -> str:
    """Take a series into the one stage of this module, and return its name."""
    assert name not in SERIES
    SERIES[name] = build
    return name


@dataclass(frozen=True)
class Combined:
    """The unified table of several series."""

    unified: pl.DataFrame

    def rows(self, name: str) -> pl.DataFrame:
        return self.unified.filter(pl.col("SeriesInstanceUID") == uid_of(name))

    def points(self, name: str) -> pl.DataFrame:
        return self.rows(name).filter(pl.col("localizer_index").is_not_null())

    def matches(self, name: str) -> bool | None:
        (answer,) = self.rows(name)["segmentation_matches_series"].unique()
        return answer


@pytest.fixture(scope="module")
def combined(tmp_path_factory) -> Combined:
    made = [build(name) for name, build in SERIES.items()]
    stage = Stage(tmp_path_factory.mktemp("placement"), made)
    assert stage.read().success
    result = stage.sum_up("unified_metadata")
    assert result.success
    assert stage.warnings(result) == []
    return Combined(stage.unified())


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
    matrix = euler2mat(0.5, -0.3, 0.4) @ np.diag(np.array([0.7, 0.9, 0.8]) * flips)
    points = points_lps * [-1, -1, 1]
    around = points @ np.linalg.inv(matrix).T
    first = np.floor(around.min(axis=0)) - 5
    affine = from_matvec(matrix, matrix @ first)
    labels = np.zeros((np.ceil(around.max(axis=0)) + 5 - first).astype(int), "uint8")
    near = np.argwhere(np.ones((7, 7, 7))) - 3
    for label, (point, voxel) in enumerate(zip(points, around - first, strict=True), start=1):
        voxels = np.rint(voxel).astype(int) + near
        inside = np.linalg.norm(apply_affine(affine, voxels) - point, axis=1) <= 2
        labels[tuple(voxels[inside].T)] = label
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


# In an order that no flip of the slices would keep.
IMAGES = [5, 0, 9, 12, 3, 1, 10, 7, 2, 11, 4, 8, 6]
PIXELS = [(1.25 + image, 10.5 - 0.75 * image) for image in IMAGES]


def thirteen_points(series: MadeUp) -> np.ndarray:
    """Return where the points are, LPS mm, by image and pixel."""
    return np.array(
        [in_lps(series.images[image], *pixel) for image, pixel in zip(IMAGES, PIXELS, strict=True)]
    )


def in_each_vessel(series: MadeUp, flips: tuple[int, int, int]) -> MadeUp:
    for vessel, image, (x, y) in zip(VESSELS, IMAGES, PIXELS, strict=True):
        series.point(image, x, y, vessel)
    series.volumes = {"_cowseg": thirteen_vessels(thirteen_points(series), flips)}
    return series


ALL_VESSELS = [
    one(
        f"{kind}, axes {flips}",
        partial(lambda make, flips, name: in_each_vessel(make(name), flips), make, flips),
    )
    for kind, make in {
        "single frames": lambda name: ct(name, 13, orientation=OBLIQUE, spacing=8.0),
        "frames of their own geometry": lambda name: turned_frames(
            multi_frame(name, 13, orientation=OBLIQUE, spacing=8.0)
        ),
    }.items()
    for flips in [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)]
]


@pytest.mark.parametrize("name", ALL_VESSELS)
def test_a_localizer_lands_in_its_vessel_from_pixel_through_lps_mm_to_voxel(
    combined: Combined, name: str
) -> None:
    series = SERIES[name](name)
    volume = series.volumes["_cowseg"]
    lps = thirteen_points(series)
    apart = np.linalg.norm(lps[:, None] - lps, axis=-1)[np.triu_indices(13, 1)]
    assert apart.min() > 5 + 2, "of each point only its own vessel is within reach"

    assert combined.points(name)["localizer_index"].to_list() == [0] * 13
    found = {row["location"]: row for row in combined.points(name).iter_rows(named=True)}

    assert {place: row["localizer_vessel"] for place, row in found.items()} == {
        vessel: vessel for vessel in VESSELS
    }
    assert_allclose([[found[v][column] for column in PLACED] for v in VESSELS], lps, atol=1e-4)
    voxels = apply_affine(np.linalg.inv(volume.affine), lps * [-1, -1, 1])
    away = np.array([found[vessel]["localizer_voxel"] for vessel in VESSELS]) - voxels
    assert (np.abs(away) <= 0.5 + 1e-3).all()
    labels = np.asarray(volume.dataobj)
    at = [labels[tuple(found[vessel]["localizer_voxel"])] for vessel in VESSELS]
    assert at == list(range(1, 14))


TWO_ON_ONE_IMAGE = one(
    "two points on one image",
    lambda name: (
        segmented(
            ct(name, orientation=OBLIQUE), {(2, 2, 5): LABEL[TIP], (14, 10, 5): LABEL[MIDDLE]}
        )
        .point(5, 14, 10, MIDDLE)
        .point(5, 2, 2, TIP)
    ),
)


def test_two_points_on_one_image_each_have_a_place_and_a_vessel(combined: Combined) -> None:
    points = combined.points(TWO_ON_ONE_IMAGE)
    assert points["localizer_index"].to_list() == [0, 1]
    assert points["localizer_vessel"].to_list() == [MIDDLE, TIP]
    assert points["location"].to_list() == [MIDDLE, TIP]


BESIDE = one("a point beside the volume", lambda name: segmented(ct(name), VESSEL).point(5, 300, 6))


def test_a_point_beside_the_volume_has_a_voxel_there_and_no_vessel(combined: Combined) -> None:
    (point,) = combined.points(BESIDE).iter_rows(named=True)
    i, _, _ = point["localizer_voxel"]  # stored towards the right, as RAS has it
    assert i == COLUMNS - 1 - 300
    assert point["localizer_vessel"] is None


COMPRESSED = one(
    "compressed volumes",
    lambda name: replace(
        segmented(ct(name, orientation=OBLIQUE), VESSEL).point(5, 8, 6), extension=".nii.gz"
    ),
)


def test_a_compressed_volume_is_as_good(combined: Combined) -> None:
    (point,) = combined.points(COMPRESSED).iter_rows(named=True)
    assert point["cowseg_path"].endswith("_cowseg.nii.gz")
    assert point["localizer_vessel"] == TIP
    assert combined.matches(COMPRESSED) is True


TWICE = one(
    "two files of one SOPInstanceUID",
    lambda name: (
        segmented(ct(name), VESSEL).one(6, SOPInstanceUID=f"{uid_of(name)}.6").point(5, 8, 6)
    ),
)


def test_points_on_files_of_one_sopinstanceuid_are_placed_on_each_and_not_multiplied(
    combined: Combined,
) -> None:
    assert combined.rows(TWICE).height == SLICES
    points = combined.points(TWICE)
    assert points["dicom_path"].str.slice(-7).to_list() == ["006.dcm", "007.dcm"]
    assert points["localizer_z_mm"].diff().to_list() == [None, DZ]
    assert points["localizer_voxel"].list.get(2).diff().to_list() == [None, 1]


# --- where something is missing -------------------------------------------------------------------

WITHOUT_SEGMENTATION = one(
    "no segmentation", lambda name: ct(name, orientation=OBLIQUE).point(5, 8.25, 6.5)
)


def test_without_a_segmentation_a_point_has_its_place_in_mm_and_nothing_else(
    combined: Combined,
) -> None:
    points = combined.points(WITHOUT_SEGMENTATION)
    image = SERIES[WITHOUT_SEGMENTATION](WITHOUT_SEGMENTATION).images[5]
    assert_allclose(points.select(PLACED).row(0), in_lps(image, 8.25, 6.5), atol=1e-6)
    assert points.select(IN_VOLUME).row(0) == (None, None)
    assert combined.matches(WITHOUT_SEGMENTATION) is None


def test_an_image_without_a_point_has_no_place(combined: Combined) -> None:
    others = combined.rows(COMPRESSED).filter(pl.col("localizer_index").is_null())
    assert others.height == SLICES - 1
    assert others.select(*PLACED, *IN_VOLUME).null_count().row(0) == (SLICES - 1,) * 5


WITHOUT = {
    keyword: one(
        f"an image without {keyword}",
        lambda name, keyword=keyword: (
            segmented(ct(name), VESSEL).point(5, 8, 6).point(4, 8, 6).one(5, **{keyword: None})
        ),
    )
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
}


@pytest.mark.parametrize("name", WITHOUT.values())
def test_a_point_of_an_image_without_geometry_is_nowhere(combined: Combined, name: str) -> None:
    rows = combined.points(name).select("dicom_path", *PLACED, *IN_VOLUME).rows()
    places = {path[-7:]: place for path, *place in rows}
    assert None not in places["005.dcm"]
    assert places["006.dcm"] == [None] * 5
    assert combined.matches(name) is None


def only(volume: str, series: MadeUp) -> MadeUp:
    series.volumes = {volume: series.volumes[volume]}
    return series.point(5, 8, 6)


ALONE = {
    volume: one(
        f"only the volume {volume!r}",
        lambda name, volume=volume: only(volume, segmented(ct(name), VESSEL)),
    )
    for volume in ("", "_cowseg")
}


@pytest.mark.parametrize(("volume", "vessel"), [("", None), ("_cowseg", TIP)])
def test_one_volume_of_the_pair_is_enough(
    combined: Combined, volume: str, vessel: str | None
) -> None:
    assert combined.points(ALONE[volume])["localizer_vessel"].to_list() == [vessel]
    assert combined.matches(ALONE[volume]) is True


BROKEN_ONES = {
    suffix: one(
        f"a broken volume {suffix!r}",
        lambda name, suffix=suffix: spoil(segmented(ct(name), VESSEL).point(5, 8, 6), suffix),
    )
    for suffix in ("", "_cowseg")
}
BOTH_BROKEN = one(
    "two broken volumes",
    lambda name: spoil(segmented(ct(name), VESSEL).point(5, 8, 6), "", "_cowseg"),
)


def spoil(series: MadeUp, *suffixes: str) -> MadeUp:
    series.volumes |= dict.fromkeys(suffixes, b"no NIfTI")
    return series


@pytest.mark.parametrize(("suffix", "vessel"), [("", TIP), ("_cowseg", None)])
def test_images_of_a_series_stay_and_the_sound_volume_speaks_for_it(
    combined: Combined, suffix: str, vessel: str | None
) -> None:
    rows = combined.rows(BROKEN_ONES[suffix])
    assert rows.height == SLICES
    prefix = "cowseg" if suffix else "nii"
    assert set(rows[f"{prefix}_error"]) == {"no NIfTI header"}
    assert rows[f"{prefix}_path"].null_count() == 0
    assert combined.points(BROKEN_ONES[suffix])["localizer_vessel"].to_list() == [vessel]
    assert combined.matches(BROKEN_ONES[suffix]) is True


def test_of_two_broken_volumes_nothing_is_known_and_the_point_has_its_place(
    combined: Combined,
) -> None:
    (point,) = combined.points(BOTH_BROKEN).iter_rows(named=True)
    assert [point[column] for column in IN_VOLUME] == [None, None]
    assert None not in [point[column] for column in PLACED]
    assert combined.matches(BOTH_BROKEN) is None


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


def make_nan(path: Path) -> None:
    volume = nib.load(path)
    data = bytearray(path.read_bytes())
    srow = nib.Nifti1Header.template_dtype.fields["srow_x"][1]
    data[srow : srow + 48] = np.full(12, np.nan, "<f4").tobytes()
    assert volume.header["sform_code"] > 0
    path.write_bytes(data)


def make_fractions(path: Path) -> None:
    volume = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(volume.shape, 0.5, "float32"), volume.affine), path)


SPOILERS = [remove, cut, empty, make_text, make_directory, make_nan, make_fractions]


@dataclass(frozen=True)
class Spoilt(Combined):
    """What is left where volumes were spoilt after they were read."""

    warnings: list[str]
    quality: pl.DataFrame


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory) -> Spoilt:
    names = ["sound", *(spoil.__name__ for spoil in SPOILERS)]
    made = [segmented(ct(name), VESSEL).point(5, 8, 6) for name in names]
    stage = Stage(tmp_path_factory.mktemp("spoilt"), made)
    assert stage.read().success
    for spoil in SPOILERS:
        uid = uid_of(spoil.__name__)
        spoil(stage.settings.segmentations_root / uid / f"{uid}_cowseg.nii")
    result = stage.sum_up()
    assert result.success
    return Spoilt(stage.unified(), stage.warnings(result), stage.quality())


@pytest.mark.parametrize("name", [spoil.__name__ for spoil in SPOILERS])
def test_a_volume_that_is_gone_or_broken_by_now_gives_nulls_and_a_warning(
    spoilt: Spoilt, name: str
) -> None:
    (point,) = spoilt.points(name).iter_rows(named=True)
    assert [point[column] for column in IN_VOLUME] == [None, None]
    assert None not in [point[column] for column in PLACED]
    (warning,) = (text for text in spoilt.warnings if text.startswith(f"{uid_of(name)}: "))
    assert f"{uid_of(name)}_cowseg.nii" in warning
    quality = spoilt.quality.filter(pl.col("SeriesInstanceUID") == uid_of(name))
    assert quality["findings"].to_list() == [None], "what is unknown is no finding"


def test_a_volume_that_the_machine_does_not_give_makes_no_point_null(tmp_path, monkeypatch) -> None:
    stage = Stage(tmp_path, [segmented(ct("refused"), VESSEL).point(5, 8, 6)])
    assert stage.read().success

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(vessels, "_search", refuse)
        result = stage.sum_up()
    said = failure(result, "unified_metadata")
    assert f"{uid_of('refused')}_cowseg.nii cannot be read: Input/output error" in said
    assert "combine again" in said
    assert not stage.settings.unified_table.with_suffix(".parquet").exists()
    assert stage.sum_up().success
    assert stage.unified()["localizer_vessel"].drop_nulls().to_list() == [TIP]


def test_other_series_are_placed_all_the_same(spoilt: Spoilt) -> None:
    assert spoilt.points("sound")["localizer_vessel"].to_list() == [TIP]
    assert not any(uid_of("sound") in warning for warning in spoilt.warnings)


# --- whether the volume is of the series ----------------------------------------------------------


def on_grid(name: str, series: MadeUp, shape: tuple[int, int, int], affine: np.ndarray) -> MadeUp:
    """Add one volume of the pair."""
    series.volumes[name] = nib.Nifti1Image(np.zeros(shape, "uint8"), affine)
    return series


def moved(by: object, scaled: np.ndarray | None = None) -> np.ndarray:
    """Return the affine of the usual oblique series, moved by voxels, and scaled."""
    affine = grid_affine(ct("any", orientation=OBLIQUE))
    affine[:3, 3] += affine[:3, :3] @ np.broadcast_to(by, 3)
    if scaled is not None:
        affine[:3, :3] = affine[:3, :3] @ scaled
    return affine


SHAPE = (COLUMNS, ROWS, SLICES)

IDENTITY = np.eye(3)

BESIDE_BY = {
    one(
        f"a volume {by} voxels beside it along {axis}",
        lambda name, by=by, axis=axis: on_grid(
            "", ct(name, orientation=OBLIQUE), SHAPE, moved(by * IDENTITY[axis])
        ),
    ): abs(by) < 0.5
    for axis in range(3)
    for by in (-0.6, -0.4, 0.4, 0.6)
}

LARGER_BY = {
    # Rows are few, so that the corners stay within half a voxel.
    one(
        f"voxels {by} times as large",
        lambda name, by=by: on_grid(
            "", ct(name, orientation=OBLIQUE), SHAPE, moved(0, np.diag([1, by, 1]))
        ),
    ): abs(by - 1) < 0.01
    for by in (0.98, 0.991, 1.009, 1.02)
}


@pytest.mark.parametrize(("name", "answer"), [*BESIDE_BY.items(), *LARGER_BY.items()])
def test_a_volume_may_be_half_a_voxel_beside_its_series_and_a_per_cent_larger(
    combined: Combined, name: str, answer: bool
) -> None:
    assert combined.matches(name) is answer


ONE_WRONG = [
    one(
        f"the volume {wrong!r} has a slice more",
        lambda name, wrong=wrong: on_grid(
            wrong,
            segmented(ct(name, orientation=OBLIQUE), VESSEL),
            (*SHAPE[:2], SLICES + 1),
            moved(0),
        ),
    )
    for wrong in ("", "_cowseg")
]


@pytest.mark.parametrize("name", ONE_WRONG)
def test_both_volumes_must_match(combined: Combined, name: str) -> None:
    assert combined.matches(name) is False


def reoriented(axes: str, series: MadeUp) -> MadeUp:
    volume = series.volumes["_cowseg"]
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(axes)
    )
    series.volumes = {"_cowseg": volume.as_reoriented(turn)}
    return series


REORIENTED = {
    axes: one(
        f"a volume with axes {axes}",
        lambda name, axes=axes: reoriented(
            axes, segmented(multi_frame(name, orientation=OBLIQUE), VESSEL).point(5, 8, 6)
        ),
    )
    for axes in ("LPS", "RAS", "PSR", "ILA")
}


@pytest.mark.parametrize("axes", REORIENTED)
def test_a_match_does_not_depend_on_the_order_and_direction_of_axes(
    combined: Combined, axes: str
) -> None:
    name = REORIENTED[axes]
    assert combined.rows(name)["cowseg_axis_codes"].unique().to_list() == [axes]
    assert combined.matches(name) is True
    assert combined.points(name)["localizer_vessel"].to_list() == [TIP]


def with_scout(series: MadeUp) -> MadeUp:
    scout = stack(series.uid, 1, orientation=CORONAL, first=11)[0]
    series.images.append(series.images[0] | scout | {"ImageType": ["ORIGINAL", "LOCALIZER"]})
    return series


WITH_SCOUT = one("a scout", lambda name: with_scout(segmented(ct(name), VESSEL)))


def test_scouts_are_no_part_of_the_grid(combined: Combined) -> None:
    assert combined.rows(WITH_SCOUT)["is_scout"].sum() == 1
    assert combined.matches(WITH_SCOUT) is True


def in_two_orientations(series: MadeUp) -> MadeUp:
    for image in series.images[5:]:
        image["ImageOrientationPatient"] = [*AXIAL[:4], np.cos(0.05), np.sin(0.05)]
    return series


def with_a_gap(series: MadeUp) -> MadeUp:
    series.images[-1]["ImagePositionPatient"][2] += DZ
    return series


NO_GRID = [
    one("two orientations", lambda name: in_two_orientations(segmented(ct(name), VESSEL))),
    one("an uneven gap", lambda name: with_a_gap(segmented(ct(name), VESSEL))),
    one("one slice", lambda name: segmented(ct(name, 1), {(8, 6, 0): LABEL[TIP]})),
]


@pytest.mark.parametrize("name", NO_GRID)
def test_a_series_that_is_no_grid_is_not_said_to_match_or_not(
    combined: Combined, name: str
) -> None:
    assert combined.rows(name)["nii_path"].null_count() == 0
    assert combined.matches(name) is None
