"""Where points lie: from the centre of their own images."""

import pytest

from aneurysm_assets.report.positions import OTHER_LOCATION
from tests.report.test_numbers import TIP, image, numbers_of

STACK = {
    "Rows": 11,
    "Columns": 21,
    "image_group": 0,
    "PixelSpacing": [2.0, 1.0],
    "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
}


def slice_at(z: float, *point: float, **values) -> dict:
    """Return an image whose centre is at 110, 210, z, with a point on it or none."""
    on_it = {}
    if point:
        names = ("localizer_x_mm", "localizer_y_mm", "localizer_z_mm")
        on_it = {"localizer_index": 0, "location": TIP, **dict(zip(names, point, strict=True))}
    position = {"ImagePositionPatient": [100.0, 200.0, z]}
    return image("1", **(STACK | position | on_it | values))


def test_a_point_is_placed_from_halfway_between_the_outermost_image_centres() -> None:
    found = numbers_of(slice_at(40.0), slice_at(41.0, 115.0, 207.0, 41.0), slice_at(60.0)).positions
    assert found.frame.rows() == [(TIP, 5.0, -3.0, -9.0)]
    assert (found.without_place, found.out_of_reach) == (0, 0)


def test_the_centre_is_that_of_the_points_own_group_and_scouts_are_in_none() -> None:
    found = numbers_of(
        slice_at(0.0, 110.0, 210.0, 1.0),
        slice_at(10.0),
        slice_at(500.0, image_group=1),
        slice_at(900.0, image_group=None, is_scout=True),
    ).positions
    assert found.frame.rows() == [(TIP, 0.0, 0.0, -4.0)]


@pytest.mark.parametrize(
    "unplaced",
    [
        {"localizer_z_mm": None},
        {"localizer_z_mm": float("nan")},
        {"PixelSpacing": None},
        {"ImageOrientationPatient": None},
        {"image_group": None},
    ],
)
def test_a_point_without_a_place_is_counted_and_not_drawn(unplaced) -> None:
    point = {"localizer_index": 0, "localizer_x_mm": 1.0, "localizer_y_mm": 1.0,
             "localizer_z_mm": 1.0}  # fmt: skip
    images = [slice_at(z, **(point | unplaced if z else unplaced)) for z in (0.0, 1.0)]
    found = numbers_of(*images).positions
    assert (found.frame.height, found.without_place, found.out_of_reach) == (0, 1, 0)


def test_images_that_lie_at_one_place_have_no_centre_to_measure_from() -> None:
    found = numbers_of(slice_at(5.0), slice_at(5.0, 110.0, 210.0, 5.0)).positions
    assert (found.frame.height, found.without_place) == (0, 1)


def test_a_point_too_far_for_a_head_is_counted_and_a_strange_location_is_another() -> None:
    found = numbers_of(
        slice_at(0.0, 110.0, 210.0, 0.0, location="<b>"), slice_at(2.0, 110.0, 210.0, 999.0)
    ).positions
    assert found.frame.rows() == [(OTHER_LOCATION, 0.0, 0.0, -1.0)]
    assert found.out_of_reach == 1
