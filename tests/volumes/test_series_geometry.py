import itertools
import math
import statistics
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from aneurysm_assets.dicom.series import read_series
from aneurysm_assets.sample.dicom import instance_uid, write_enhanced, write_slices
from aneurysm_assets.sample.grid import Grid
from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.schema.tolerances import (
    DISTINCT_MM,
    OBLIQUE_COSINE,
    ORIENTATION_COSINES,
    SCOUT_SHARE,
)
from aneurysm_assets.volumes.directions import (
    slice_normals,
)
from aneurysm_assets.volumes.series_geometry import add_geometry

COMPUTED = [
    "slice_position_mm",
    "slice_index",
    "slice_spacing_mm",
    "orientation_plane",
    "is_scout",
    "image_group",
    "largest_gap_ratio",
    "missing_slices",
    "gantry_tilt_degrees",
    "obliquity_degrees",
    "volume_index",
    "volume_slice_index",
    "volume_split_by",
]
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

repeatable = settings(deadline=None, derandomize=True)


def image(number: int | None, position=None, orientation=AXIAL, **values: Any) -> dict[str, Any]:
    """One image; a bare number is a position along the z axis."""
    if isinstance(position, int | float):
        position = (-90.0, -126.0, float(position))
    name = values.pop("name", f"{number or 0:04}.dcm")
    return {
        "InstanceNumber": number,
        "ImagePositionPatient": position,
        "ImageOrientationPatient": orientation,
        "Rows": 512,
        "Columns": 512,
        "dicom_path": f"series/1.2/{name}",
        **values,
    }


def frame_of(images: list[dict[str, Any]]) -> pl.DataFrame:
    columns = {name: [row.get(name) for row in images] for name in DICOM_TAGS.column_names}
    return pl.DataFrame(columns, schema=DICOM_TAGS.schema)


def geometry(*images: dict[str, Any]) -> dict[str, list[Any]]:
    computed = add_geometry(frame_of(list(images)))
    assert computed.schema == DICOM_TAGS.schema
    return computed.select(COMPUTED).to_dict(as_series=False)


def stack(count: int, orientation=AXIAL, first=1, spacing=2.0, **values: Any):
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        image(first + i, tuple(normal * spacing * i), orientation, **values) for i in range(count)
    ]


@st.composite
def rotations(draw) -> np.ndarray:
    """A proper rotation; its columns are the directions of rows, columns and normal."""
    parts = st.floats(-1, 1, allow_nan=False, width=32)
    w, x, y, z = quaternion = np.array(draw(st.tuples(parts, parts, parts, parts)))
    length = np.linalg.norm(quaternion)
    assume(length > 0.1)
    w, x, y, z = quaternion / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def cosines_of(rotation: np.ndarray) -> tuple[float, ...]:
    return (*rotation[:, 0].tolist(), *rotation[:, 1].tolist())


# --- against independent computation ------------------------------------------------------------


@st.composite
def stacks(draw):
    """A stack of slices wherever and however it lies, with the truth about it, shuffled."""
    rotation = draw(rotations())
    millimetres = st.floats(-500, 500, allow_nan=False, width=32)
    origin = np.array(draw(st.tuples(millimetres, millimetres, millimetres)))
    gaps = draw(st.lists(st.floats(0.0625, 30, width=32), min_size=1, max_size=30))
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    shifts = draw(st.sampled_from([0.0, 7.5]))
    numbers = draw(st.permutations(range(1, len(heights) + 1)))
    images = [
        image(
            number,
            # A gantry's tilt shifts slices in their plane, which is no distance between them.
            tuple(origin + rotation @ (0.0, shifts * i, height)),
            cosines_of(rotation),
            truth=(i, float(origin @ rotation[:, 2]) + height),
        )
        for i, (height, number) in enumerate(zip(heights, numbers, strict=True))
    ]
    return draw(st.permutations(images)), gaps


@repeatable
@given(stacks())
def test_wherever_a_stack_lies_its_order_and_positions_are_the_true_ones(made):
    images, _ = made
    found = geometry(*images)
    assert found["slice_index"] == [row["truth"][0] for row in images]
    assert found["slice_position_mm"] == pytest.approx(
        [row["truth"][1] for row in images], abs=1e-6
    )


@repeatable
@given(stacks())
def test_the_spacing_is_the_median_of_the_true_gaps(made):
    images, gaps = made
    spacing = statistics.median(gaps)
    assert geometry(*images)["slice_spacing_mm"] == pytest.approx([spacing] * len(images), abs=1e-6)


@repeatable
@given(stacks())
def test_rows_columns_and_rising_slice_index_are_right_handed_as_nibabel_counts_them(made):
    images, _ = made
    index = geometry(*images)["slice_index"]
    first, last = images[index.index(0)], images[index.index(len(images) - 1)]
    step = np.subtract(last["ImagePositionPatient"], first["ImagePositionPatient"])
    row, column = np.reshape(images[0]["ImageOrientationPatient"], (2, 3))
    lps = nib.affines.from_matvec(np.column_stack([row, column, step]))
    assert np.linalg.det(lps) > 0


@repeatable
@given(rotations())
def test_the_plane_is_that_of_the_angle_between_the_normal_and_the_axes(rotation):
    def angle(axis: np.ndarray) -> float:
        """The angle to an axis, whichever way it points, by the arc cosine and nothing else."""
        return min(math.acos(np.clip(rotation[:, 2] @ way, -1, 1)) for way in (axis, -axis))

    angles = [angle(axis) for axis in np.eye(3)]
    assume(abs(min(angles) - math.acos(0.8)) > 1e-9)
    nearest = ["sagittal", "coronal", "axial"][int(np.argmin(angles))]
    found = geometry(image(1, 0.0, cosines_of(rotation)))
    assert found["orientation_plane"] == [nearest if min(angles) < math.acos(0.8) else "oblique"]
    assert found["obliquity_degrees"] == pytest.approx([math.degrees(min(angles))], abs=1e-5)


class Plain:
    """The same truth, an image at a time, in plain Python and no NumPy."""

    def __init__(self, images: list[dict[str, Any]]) -> None:
        self.images = sorted(images, key=self.filed)

    @staticmethod
    def filed(row: dict[str, Any]) -> tuple[Any, ...]:
        number, frame = row["InstanceNumber"], row.get("frame_index")
        return (number is None, number or 0, frame is not None, frame or 0, row["dicom_path"])

    @staticmethod
    def normal(row: dict[str, Any]) -> list[float] | None:
        if row["ImageOrientationPatient"] is None:
            return None
        a, b, c, d, e, f = row["ImageOrientationPatient"]
        normal = [b * f - c * e, c * d - a * f, a * e - b * d]
        length = math.sqrt(sum(x * x for x in normal))
        return [x / length for x in normal]

    @staticmethod
    def along(row: dict[str, Any], normal: list[float] | None) -> float | None:
        position = row["ImagePositionPatient"]
        if position is None or normal is None:
            return None
        return math.fsum(p * n for p, n in zip(position, normal, strict=True))

    @staticmethod
    def typed(row: dict[str, Any]) -> bool:
        return "LOCALIZER" in (row["ImageType"] or "").split("\\")

    def centres(self) -> dict[tuple[float, ...], tuple[float, ...]]:
        orientations = [row["ImageOrientationPatient"] for row in self.images]
        known = [o for o in orientations if o is not None]
        centres: list[tuple[float, ...]] = []
        of: dict[tuple[float, ...], tuple[float, ...]] = {}
        for candidate in sorted(known, key=lambda o: (-known.count(o), known.index(o))):
            for centre in centres:
                if all(abs(x - y) <= 0.01 for x, y in zip(candidate, centre, strict=True)):
                    of.setdefault(candidate, centre)
            if candidate not in of:
                centres.append(candidate)
                of[candidate] = candidate
        return of

    def computed(self) -> dict[str, list[Any]]:
        of = self.centres()
        groups: dict[Any, list[dict[str, Any]]] = {}
        for row in self.images:
            key = (of.get(row["ImageOrientationPatient"]), row["Rows"], row["Columns"])
            groups.setdefault(key, []).append(row)

        def stack_normal(key: Any) -> list[float] | None:
            return self.normal({"ImageOrientationPatient": key[0]})

        def stack_size(key: Any) -> int:
            return sum(not self.typed(row) for row in groups[key])

        def first(key: Any) -> int:
            return next(
                i
                for i, row in enumerate(self.images)
                if row in groups[key] and (not self.typed(row) or stack_size(key) == 0)
            )

        main = min(groups, key=lambda key: (-stack_size(key), first(key)))
        result = {}
        for key, rows in groups.items():
            small = (
                key != main
                and len(rows) * 5 <= len(self.images)
                and len(groups[main]) * 2 >= len(self.images)
                and key[0] is not None
            )

            def place(row, key=key):
                height = self.along(row, stack_normal(key))
                return (height is None, round(height or 0, 6), self.filed(row))

            heights = {
                round(height, 6)
                for row in rows
                if not (self.typed(row) or small)
                and (height := self.along(row, stack_normal(key))) is not None
            }
            gaps = [b - a for a, b in itertools.pairwise(sorted(heights))]
            spacing = statistics.median(gaps) if gaps else None
            for index, row in enumerate(sorted(rows, key=place)):
                own = self.along(row, self.normal(row))
                scout = self.typed(row) or small
                result[self.filed(row)] = (own, index, None if scout else spacing, scout)
        return result


SLIGHTLY_TILTED = (1.0, 0.004, 0.0, -0.004, 1.0, 0.003)
HALF_OFF = (1.0, 0.0, 0.0, 0.0, 1.0, 0.012)  # too far from AXIAL, near to SLIGHTLY_TILTED


@st.composite
def any_images(draw):
    """A few images of every kind, with many coincidences between them."""
    count = draw(st.integers(1, 14))
    orientations = [AXIAL, AXIAL, AXIAL, SLIGHTLY_TILTED, HALF_OFF, CORONAL, SAGITTAL, None]
    heights = st.sampled_from([-7.5, 0.0, 0.5, 2.0, 2.0, 40.0])
    position = st.none() | st.tuples(st.just(0.0), heights, heights)
    types = [None, "ORIGINAL\\PRIMARY\\AXIAL", "ORIGINAL\\PRIMARY\\LOCALIZER", "DERIVED\\LOCAL"]
    return [
        image(
            draw(st.none() | st.integers(0, 3)),
            draw(position),
            draw(st.sampled_from(orientations)),
            Rows=draw(st.sampled_from([512, 512, 512, 256, None])),
            Columns=draw(st.sampled_from([512, 512, 512, 256])),
            ImageType=draw(st.sampled_from(types)),
            frame_index=draw(st.none() | st.integers(0, 2)),
            name=f"{i}.dcm",
        )
        for i in draw(st.permutations(range(count)))
    ]


@settings(repeatable, max_examples=200)
@given(any_images())
def test_every_column_is_what_a_plain_computation_an_image_at_a_time_gives(images):
    found = geometry(*images)
    expected = Plain(images).computed()
    for i, row in enumerate(images):
        position, index, spacing, scout = expected[Plain.filed(row)]
        assert found["slice_position_mm"][i] == pytest.approx(position, abs=1e-9)
        assert found["slice_spacing_mm"][i] == pytest.approx(spacing, abs=1e-5)
        assert found["slice_index"][i] == index
        assert found["is_scout"][i] == scout


@repeatable
@given(any_images(), st.randoms(use_true_random=False))
def test_the_order_of_the_files_changes_no_image(images, random):
    shuffled = random.sample(images, len(images))
    one, other = (
        add_geometry(frame_of(rows)).select("dicom_path", *COMPUTED).sort("dicom_path")
        for rows in (images, shuffled)
    )
    assert_frame_equal(one, other, check_exact=True)


# --- the plane ----------------------------------------------------------------------------------

PROPER = [
    signs * np.eye(3)[list(axes)].T
    for axes in itertools.permutations(range(3))
    for signs in np.array(list(itertools.product((1.0, -1.0), repeat=3)))[:, :, None]
    if np.linalg.det(signs * np.eye(3)[list(axes)].T) > 0
]


def test_there_are_24_orientations_along_the_axes():
    assert len(PROPER) == len({tuple(rotation.ravel()) for rotation in PROPER}) == 24


@pytest.mark.parametrize("rotation", PROPER, ids=lambda r: str(cosines_of(r)))
def test_each_orientation_along_the_axes_has_the_plane_that_nibabel_names(rotation):
    ras = nib.affines.from_matvec(np.diag([-1.0, -1.0, 1.0]) @ rotation)
    third = nib.aff2axcodes(ras)[2]
    plane = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal"}.get(third, "axial")
    rising = {"L": 0, "P": 1, "S": 2}.get(third)
    images = [image(i, tuple(100.0 * rotation[:, 2] * i), cosines_of(rotation)) for i in (1, 2)]
    found = geometry(*images)
    assert found["orientation_plane"] == [plane, plane]
    assert found["slice_index"] == [0, 1]
    steps = np.subtract(images[1]["ImagePositionPatient"], images[0]["ImagePositionPatient"])
    assert (steps.sum() > 0) == (rising is not None)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("start", PROPER[::5], ids=lambda r: str(cosines_of(r)))
@pytest.mark.parametrize(
    ("degrees", "kept"),
    [(0, True), (20, True), (36.8, True), (-36.8, True), (36.9, False), (45, False), (-53, False)],
)
def test_a_tilt_about_any_axis_keeps_the_plane_below_36_87_degrees(axis, start, degrees, kept):
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    tilt = np.eye(3)
    i, j = [a for a in range(3) if a != axis]
    tilt[[i, j, i, j], [i, j, j, i]] = [cosine, cosine, -sine, sine]
    upright = geometry(image(1, 0, cosines_of(start)))["orientation_plane"]
    tilted = geometry(image(1, 0, cosines_of(tilt @ start)))["orientation_plane"]
    within_its_plane = np.abs(start[:, 2]).argmax() == axis
    assert tilted == (upright if kept or within_its_plane else ["oblique"])


def test_a_cosine_of_exactly_the_threshold_is_oblique():
    just_above = math.nextafter(OBLIQUE_COSINE, 1)
    at = image(1, 0, (1.0, 0.0, 0.0, 0.0, OBLIQUE_COSINE, 0.6))
    above = image(2, 0, (1.0, 0.0, 0.0, 0.0, just_above, 0.6))
    assert geometry(at, above)["orientation_plane"] == ["oblique", "axial"]


def test_slices_turned_in_their_own_plane_keep_their_plane():
    slant = math.sqrt(0.5)
    about_z = image(1, 0, (slant, slant, 0, -slant, slant, 0))
    about_x = image(2, 0, (1, 0, 0, 0, slant, slant))
    about_y = image(3, 0, (slant, 0, -slant, 0, 1, 0))
    found = geometry(about_z, about_x, about_y)
    assert found["orientation_plane"] == ["axial", "oblique", "oblique"]
    assert found["obliquity_degrees"] == pytest.approx([0, 45, 45])


@pytest.mark.parametrize(
    "bad",
    [
        None,
        (0.0,) * 6,
        (1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
        (1.0, 0.0, 0.0, -1.0, 0.0, 0.0),
        (1.0, 0.0, 0.0, 0.999, 0.001, 0.0),
        (1.0, 0.0, 0.0, 0.0, math.nan, 0.0),
        (1.0, 0.0, 0.0, 0.0, math.inf, 0.0),
        (1e300, 0.0, 0.0, 0.0, 1e300, 0.0),
    ],
)
def test_an_orientation_that_spans_no_plane_is_none(bad):
    found = geometry(image(2, 0.0, bad), image(1, 9.0, bad))
    assert found["slice_position_mm"] == [None, None]
    assert found["orientation_plane"] == [None, None]
    assert found["slice_spacing_mm"] == [None, None]
    assert found["slice_index"] == [1, 0]


def test_cosines_that_are_not_quite_unit_or_orthogonal_still_give_a_unit_normal():
    normals = slice_normals(np.array([[1.01, 0.0, 0.0, 0.02, 0.98, 0.0], [2, 0, 0, 0, 0, 3]]))
    assert normals == pytest.approx(np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]))


# --- order and spacing --------------------------------------------------------------------------


def test_slices_are_counted_towards_the_normal_whatever_their_numbers():
    found = geometry(image(1, 10.0), image(2, 5.0), image(3, 0.0))
    assert found["slice_position_mm"] == [10.0, 5.0, 0.0]
    assert found["slice_index"] == [2, 1, 0]
    assert found["slice_spacing_mm"] == [5.0] * 3


def test_slices_all_at_one_position_are_in_the_order_of_their_numbers():
    found = geometry(image(3, 4.0), image(1, 4.0), image(2, 4.0), image(None, 4.0))
    assert found["slice_position_mm"] == [4.0] * 4
    assert found["slice_index"] == [2, 0, 1, 3]
    assert found["slice_spacing_mm"] == [None] * 4


def test_ties_are_broken_by_number_then_frame_then_path():
    found = geometry(
        image(2, 0.0, name="a.dcm"),
        image(1, 0.0, name="c.dcm", frame_index=1),
        image(1, 0.0, name="d.dcm", frame_index=0),
        image(1, 0.0, name="e.dcm"),
        image(1, 0.0, name="b.dcm", frame_index=0),
    )
    assert found["slice_index"] == [4, 3, 2, 0, 1]


def test_positions_apart_by_the_rounding_of_decimals_are_one_position():
    found = geometry(image(2, 5.0), image(1, 5.0 + DISTINCT_MM / 2), image(3, 0.0), image(4, 10.0))
    assert found["slice_index"] == [2, 1, 0, 3]
    assert found["slice_spacing_mm"] == pytest.approx([5.0] * 4, abs=DISTINCT_MM)


def test_positions_apart_by_more_than_the_tolerance_are_two():
    found = geometry(image(2, 5.0), image(1, 5.0 + 2 * DISTINCT_MM))
    assert found["slice_index"] == [0, 1]
    assert found["slice_spacing_mm"] == pytest.approx([2 * DISTINCT_MM] * 2)


def test_close_positions_of_different_groups_have_nothing_to_do_with_each_other():
    near = DISTINCT_MM * 0.8
    images = [image(3, 0.0), image(2, 2 * near), image(1, near, Rows=256)]
    assert geometry(*images)["slice_index"] == [0, 1, 0]


def test_repeated_positions_as_of_several_phases_do_not_halve_the_spacing():
    found = geometry(*(image(10 * phase + i, 3.0 * i) for phase in (0, 1) for i in range(5)))
    assert found["slice_spacing_mm"] == [3.0] * 10
    assert found["slice_index"] == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


def test_the_spacing_is_by_positions_and_not_by_the_header():
    images = [image(i, 0.498 * i, SpacingBetweenSlices=18.0) for i in range(6)]
    assert geometry(*images)["slice_spacing_mm"] == pytest.approx([0.498] * 6)


def test_phases_whose_positions_are_rounded_differently_have_the_spacing_of_one():
    rounded = [image(10 * phase + i, 3.0 * i + 4e-4 * phase) for phase in (0, 1) for i in range(5)]
    found = geometry(*rounded)
    assert found["slice_spacing_mm"] == pytest.approx([3.0] * 10, abs=DISTINCT_MM)
    assert found["slice_index"] == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


def test_a_missing_slice_does_not_change_the_spacing():
    images = [image(i, 1.5 * i) for i in range(9) if i != 4]
    assert geometry(*images)["slice_spacing_mm"] == pytest.approx([1.5] * 8)


def test_images_without_position_come_last_by_number():
    found = geometry(image(9), image(1), image(5, 7.0), image(None), image(6, 3.0))
    assert found["slice_position_mm"] == [None, None, 7.0, None, 3.0]
    assert found["slice_index"] == [3, 2, 1, 4, 0]
    assert found["slice_spacing_mm"] == [4.0] * 5


def test_a_position_that_is_not_finite_is_none():
    found = geometry(image(1, math.nan), image(2, math.inf), image(3, 1.0))
    assert found["slice_position_mm"] == [None, None, 1.0]
    assert found["slice_index"] == [1, 2, 0]


def test_a_series_without_any_geometry_is_in_the_order_of_its_numbers():
    found = geometry(*(image(number, None, None) for number in (2, None, 10, 1)))
    assert found == {
        "slice_position_mm": [None] * 4,
        "slice_index": [1, 3, 2, 0],
        "slice_spacing_mm": [None] * 4,
        "orientation_plane": [None] * 4,
        "is_scout": [False] * 4,
        "image_group": [0] * 4,
        "largest_gap_ratio": [None] * 4,
        "missing_slices": [None] * 4,
        "gantry_tilt_degrees": [None] * 4,
        "obliquity_degrees": [None] * 4,
        "volume_index": [0] * 4,
        "volume_slice_index": [1, 3, 2, 0],
        "volume_split_by": [None] * 4,
    }


def test_positions_without_orientation_are_no_order():
    found = geometry(image(2, 0.0, None), image(1, 50.0, None))
    assert found["slice_index"] == [1, 0]
    assert found["slice_position_mm"] == [None, None]


# --- groups -------------------------------------------------------------------------------------


def test_each_group_is_counted_by_itself_and_has_its_own_spacing():
    large = [image(i, 2.0 * i) for i in range(5)]
    small = [image(10 + i, 9.0 * i, Rows=256) for i in range(3)]
    narrow = [image(20 + i, 7.0 * i, Columns=256) for i in range(3)]
    found = geometry(*narrow, *small, *large)
    assert found["slice_index"] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4]
    assert found["slice_spacing_mm"] == [7.0] * 3 + [9.0] * 3 + [2.0] * 5
    assert found["image_group"] == [2] * 3 + [1] * 3 + [0] * 5
    assert found["is_scout"] == [False] * 11


def test_of_two_groups_equally_large_the_one_with_the_lowest_number_is_the_first():
    one = [image(2 + i, 2.0 * i) for i in range(3)]
    other = [image(1 + 9 * i, 9.0 * i, Rows=256) for i in range(3)]
    assert geometry(*one, *other)["image_group"] == [1] * 3 + [0] * 3
    assert geometry(*other, *one)["image_group"] == [0] * 3 + [1] * 3


def test_images_of_another_pixel_spacing_or_frame_of_reference_are_a_group_of_their_own():
    near = [image(i, 2.0 * i, PixelSpacing=(0.5, 0.5)) for i in range(5)]
    far = [image(10 + i, 3.0 * i, PixelSpacing=(0.4, 0.4)) for i in range(4)]
    found = geometry(*near, *far)
    assert found["image_group"] == [0] * 5 + [1] * 4
    assert found["slice_spacing_mm"] == [2.0] * 5 + [3.0] * 4
    assert found["is_scout"] == [False] * 9
    moved = [image(10 + i, 3.0 * i, FrameOfReferenceUID="1.3") for i in range(4)]
    here = [image(i, 2.0 * i, FrameOfReferenceUID="1.2") for i in range(5)]
    assert geometry(*here, *moved)["image_group"] == [0] * 5 + [1] * 4


def test_a_missing_slice_and_jitter_are_told_apart_by_numbers():
    heights = [0.0, 2.0, 4.0, 8.0, 10.0, 12.0]
    found = geometry(*(image(i, z) for i, z in enumerate(heights)))
    assert (found["largest_gap_ratio"][0], found["missing_slices"][0]) == (2.0, 1)
    jitter = [0.0, 2.06, 4.0, 5.94, 8.0, 10.0]
    found = geometry(*(image(i, z) for i, z in enumerate(jitter)))
    assert found["largest_gap_ratio"][0] == pytest.approx(1.03)
    assert found["missing_slices"] == [0] * 6


@pytest.mark.parametrize("degrees", [0.0, 0.01, 8.5, 28.0, 53.0])
def test_the_tilt_of_a_gantry_is_the_angle_between_the_normal_and_the_way(degrees):
    shift = math.tan(math.radians(degrees))
    images = [image(i, (0.0, 2.0 * shift * i, 2.0 * i)) for i in range(5)]
    found = geometry(*images)
    assert found["gantry_tilt_degrees"] == pytest.approx([degrees] * 5, abs=1e-6)
    assert found["slice_spacing_mm"] == pytest.approx([2.0] * 5)


def test_slices_beside_one_another_are_tilted_by_a_right_angle_and_have_no_spacing():
    found = geometry(*(image(i, (7.0 * i, 0.0, 0.0)) for i in range(4)))
    assert found["gantry_tilt_degrees"] == pytest.approx([90.0] * 4)
    assert found["slice_spacing_mm"] == [None] * 4
    everything_at_one_place = geometry(*(image(i, 1.0) for i in range(4)))
    assert everything_at_one_place["gantry_tilt_degrees"] == [None] * 4


def test_of_images_all_different_none_is_a_scout_of_the_others():
    images = [image(number, 0.0, Rows=500 + number) for number in (4, 3, 5, 1, 2)]
    assert geometry(*images)["is_scout"] == [False] * 5


def test_slightly_different_orientations_are_one_group_with_one_normal():
    """Far from the origin each image's own normal would put the slices into another order."""
    wobble = [0.0, 0.009, -0.009, 0.0, 0.005, -0.005, 0.0]
    images = [
        image(i, (0.0, 400.0, 0.5 * i), (1.0, 0.0, 0.0, 0.0, math.sqrt(1 - w * w), w))
        for i, w in enumerate(wobble)
    ]
    found = geometry(*images)
    assert found["slice_index"] == list(range(7))
    assert found["slice_spacing_mm"] == pytest.approx([0.5] * 7)
    assert found["slice_position_mm"] != sorted(found["slice_position_mm"])


@pytest.mark.parametrize(
    ("difference", "index"),
    [(0.99 * ORIENTATION_COSINES, [0, 1, 2]), (1.01 * ORIENTATION_COSINES, [0, 0, 1])],
)
def test_a_cosine_off_by_more_than_the_tolerance_is_another_orientation(difference, index):
    other = (1.0, 0.0, 0.0, 0.0, 1.0, difference)
    images = [image(1, 0.0, other), image(2, 5.0), image(3, 10.0)]
    assert geometry(*images)["slice_index"] == index


def test_the_most_frequent_orientation_gathers_its_neighbours_first():
    def tilted(number: int, sine: float) -> dict[str, Any]:
        return image(number, 5.0 * number, (1.0, 0.0, 0.0, 0.0, 1.0, sine))

    # Around -0.008, the first, 0.008 would stand alone; around 0, which most have, it does not.
    images = [tilted(1, -0.008), tilted(2, 0.0), tilted(3, 0.0), tilted(4, 0.008)]
    assert geometry(*images)["slice_index"] == [0, 1, 2, 3]


def test_images_turned_around_are_another_orientation():
    turned = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    found = geometry(*stack(3), image(7, 1.0, turned), image(8, 9.0, turned))
    assert found["slice_index"] == [0, 1, 2, 1, 0]


# --- scouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image_type",
    [
        "LOCALIZER",
        "ORIGINAL\\PRIMARY\\LOCALIZER",
        "DERIVED\\LOCALIZER\\M",
        "ORIGINAL\\PRIMARY\\LOCALIZER ",
        "LOCALIZER\\PRIMARY",
    ],
)
def test_any_value_of_image_type_that_is_localizer_makes_a_scout(image_type):
    images = [*stack(3), image(9, 1.0, ImageType=image_type)]
    assert geometry(*images)["is_scout"] == [False, False, False, True]


@pytest.mark.parametrize(
    "image_type",
    [
        None,
        "",
        "ORIGINAL\\PRIMARY\\AXIAL",
        "LOCALIZERS",
        "ORIGINAL\\PRIMARY\\NOLOCALIZER",
        "localizer",
        "ORIGINAL\\LOCALIZER_2",
    ],
)
def test_no_other_value_of_image_type_makes_a_scout(image_type):
    images = [*stack(3), image(9, 1.0, ImageType=image_type)]
    assert geometry(*images)["is_scout"] == [False] * 4


def test_scouts_by_image_type_are_not_in_the_spacing_even_when_they_are_the_most():
    scouts = [image(i, 1.0 * i, CORONAL, ImageType="LOCALIZER") for i in range(6)]
    images = [*scouts, image(20, 3.0, ImageType="LOCALIZER"), *stack(3, first=30, spacing=8.0)]
    found = geometry(*images)
    assert found["slice_spacing_mm"] == [None] * 7 + [8.0] * 3
    assert found["image_group"] == [None] * 7 + [0] * 3
    assert found["is_scout"] == [True] * 7 + [False] * 3


def test_a_series_of_nothing_but_scouts_by_image_type_has_no_spacing():
    found = geometry(*stack(4, ImageType="ORIGINAL\\PRIMARY\\LOCALIZER"))
    assert found["is_scout"] == [True] * 4
    assert found["slice_spacing_mm"] == [None] * 4
    assert found["slice_index"] == [0, 1, 2, 3]


def test_a_few_images_of_another_orientation_are_scouts():
    images = [*stack(20), *stack(2, CORONAL, first=50), image(60, 0.0, SAGITTAL)]
    found = geometry(*images)
    assert found["is_scout"] == [False] * 20 + [True] * 3
    assert found["slice_spacing_mm"] == [2.0] * 20 + [None] * 3
    assert found["slice_index"][20:] == [0, 1, 0]
    assert found["orientation_plane"][20:] == ["coronal", "coronal", "sagittal"]


def test_projections_that_turn_about_an_axis_are_no_scouts_of_one_another():
    turns = [math.radians(15 * i) for i in range(12)]
    images = [
        image(i, 0.0, (math.cos(turn), math.sin(turn), 0.0, 0.0, 0.0, -1.0))
        for i, turn in enumerate(turns)
    ]
    assert geometry(*images)["is_scout"] == [False] * 12


def test_a_slice_that_lacks_its_orientation_is_no_scout():
    images = [*stack(9), image(20, None, None)]
    assert geometry(*images)["is_scout"] == [False] * 10


@pytest.mark.parametrize(("others", "scouts"), [(1, True), (2, True), (3, False)])
def test_a_group_of_up_to_a_fifth_of_the_series_is_of_scouts(others, scouts):
    assert SCOUT_SHARE == 0.2
    images = [*stack(8), *stack(others, first=50, Columns=256)]
    assert geometry(*images)["is_scout"] == [False] * 8 + [scouts] * others


# --- rows of several kinds ----------------------------------------------------------------------


def test_frames_of_one_file_are_ordered_by_position_and_then_by_frame():
    heights = [6.0, 4.0, 4.0, 2.0, 0.0]
    frames = [image(None, z, name="one.dcm", frame_index=i) for i, z in enumerate(heights)]
    found = geometry(*frames)
    assert found["slice_index"] == [4, 2, 3, 1, 0]
    assert found["slice_spacing_mm"] == [2.0] * 5


@pytest.mark.parametrize("number", [None, 1])
def test_frames_without_geometry_are_in_the_order_of_the_file(number):
    frames = [image(number, None, None, name="one.dcm", frame_index=i) for i in (2, 0, 1)]
    assert geometry(*frames)["slice_index"] == [2, 0, 1]


def unreadable(name: str) -> dict[str, Any]:
    return {"dicom_path": f"series/1.2/{name}", "read_error": "is no DICOM file"}


def test_unreadable_files_have_nulls_and_count_for_nothing():
    # Two of nine readable images are more than a fifth, two of eleven rows would be less.
    others = stack(2, CORONAL, first=50)
    found = geometry(unreadable("a"), *stack(7), unreadable("b"), *others)
    assert found["slice_index"] == [None, 0, 1, 2, 3, 4, 5, 6, None, 0, 1]
    assert found["slice_position_mm"] == [None, 0, 2, 4, 6, 8, 10, 12, None, 0, 2]
    assert found["slice_spacing_mm"] == [None, *[2.0] * 7, None, 2.0, 2.0]
    assert found["is_scout"] == [None, *[False] * 7, None, False, False]
    assert found["orientation_plane"] == [None, *["axial"] * 7, None, "coronal", "coronal"]


def test_a_series_of_which_nothing_is_readable_has_nulls():
    found = geometry(unreadable("a"), unreadable("b"))
    assert found == {name: [None, None] for name in COMPUTED}


def test_no_rows_are_no_rows():
    assert add_geometry(frame_of([])).schema == DICOM_TAGS.schema


def test_rows_keep_their_order_and_their_other_columns_and_old_values_are_replaced():
    frame = frame_of([*reversed(stack(5)), unreadable("x")])
    once = add_geometry(frame)
    stale = once.with_columns(pl.lit(7, pl.Int32).alias("slice_index"))
    assert_frame_equal(once.drop(COMPUTED), frame.drop(COMPUTED))
    assert_frame_equal(add_geometry(stale), once)


# --- from files ---------------------------------------------------------------------------------

OBLIQUE_GRID = Grid(
    position=(-70.0, -90.0, 33.0),
    orientation=(0.96, 0.28, 0.0, -0.224, 0.768, 0.6),
    pixel_spacing=(0.5, 0.4),
    spacing=1.25,
    shape=(6, 4, 4),
)


def test_a_series_of_files_has_the_geometry_it_was_written_with(tmp_path):
    uid = "1.2.826.0.1"
    directory = tmp_path / "series" / uid
    write_slices(directory, uid, OBLIQUE_GRID, np.zeros(OBLIQUE_GRID.shape, np.int16))
    # A name that sorts otherwise than InstanceNumber does.
    (directory / f"{instance_uid(uid, 1)}.dcm").rename(directory / "z.dcm")
    frame = read_series(directory, tmp_path).frame
    assert frame["InstanceNumber"].to_list() == [1, 2, 3, 4, 5, 6]
    assert frame["slice_index"].to_list() == [0, 1, 2, 3, 4, 5]
    assert frame["slice_spacing_mm"].to_list() == pytest.approx([1.25] * 6, abs=1e-5)
    normal = OBLIQUE_GRID.affine[:3, 2] / 1.25
    expected = [float(normal @ OBLIQUE_GRID.position_of(i)) for i in range(6)]
    assert frame["slice_position_mm"].to_list() == pytest.approx(expected, abs=1e-5)
    assert frame["orientation_plane"].to_list() == ["oblique"] * 6
    assert frame["is_scout"].to_list() == [False] * 6


@pytest.mark.parametrize("shared", [True, False])
def test_frames_of_an_enhanced_file_have_the_geometry_of_their_functional_groups(tmp_path, shared):
    uid = "1.2.826.0.2"
    heights = [10.0, 8.0, 6.0, 4.0]
    grids = [Grid((0.0, 0.0, z), AXIAL, (0.5, 0.5), 2.0, (1, 4, 4)) for z in heights]
    directory = tmp_path / "series" / uid
    write_enhanced(directory, uid, grids, np.zeros((4, 4, 4), np.int16), shared=shared)
    frame = read_series(directory, tmp_path).frame
    assert frame["frame_index"].to_list() == [0, 1, 2, 3]
    assert frame["slice_index"].to_list() == [3, 2, 1, 0]
    assert frame["slice_position_mm"].to_list() == heights
    assert frame["slice_spacing_mm"].to_list() == [2.0] * 4
    assert frame["orientation_plane"].to_list() == ["axial"] * 4
