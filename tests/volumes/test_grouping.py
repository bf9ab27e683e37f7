"""Which images of a series belong together."""

import numpy as np
import polars as pl
import pytest

from aneurysm_assets.schema.tolerances import PIXEL_SPACING_RELATIVE
from aneurysm_assets.volumes.grouping import group_images, groups_of_matrix, ranked


def own(count):
    return pl.Series([None] * count, dtype=pl.String)


def sides(*lengths):
    return pl.Series(lengths, dtype=pl.Int32)


def test_images_of_one_orientation_and_matrix_have_one_number():
    orientations = np.array([0, 0, 2, 0, -1, -1])
    rows, columns = sides(8, 8, 8, 9, None, None), sides(8, 8, 8, 8, 8, 8)
    assert groups_of_matrix(orientations, rows, columns).tolist() == [1, 1, 3, 2, 0, 0]


def test_a_group_is_of_one_pixel_spacing_within_the_tolerance():
    near, far = 0.5 * (1 + PIXEL_SPACING_RELATIVE), 0.5 * (1 + 3 * PIXEL_SPACING_RELATIVE)
    spacings = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, near], [0.5, far], [np.nan, np.nan]])
    alike = np.zeros(5, dtype=np.int64)
    found = group_images(alike, spacings, pl.Series(["1.2"] * 5), own(5))
    assert found[0] == found[1] == found[2]
    assert len({found[0], found[3], found[4]}) == 3


def test_a_group_is_of_one_frame_of_reference_and_one_without_is_in_the_only_one():
    alike, spacings = np.zeros(3, dtype=np.int64), np.full((3, 2), 0.5)
    assert set(group_images(alike, spacings, pl.Series(["1.2", None, "1.2"]), own(3))) == {0}
    assert len(set(group_images(alike, spacings, pl.Series(["1.2", None, "1.3"]), own(3)))) == 3
    assert set(group_images(alike, spacings, own(3), own(3))) == {0}


@pytest.mark.parametrize(
    ("foreign", "groups"),
    [
        ([None, None, "1.5", "1.5"], 2),
        (["1.4", "1.4", "1.5", "1.5"], 2),
        ([None, None, None, "1.5"], 1),
        (["1.4", "1.5", "1.6", "1.7"], 1),
    ],
)
def test_a_group_is_of_one_series_and_a_single_image_of_another_is_no_group(foreign, groups):
    alike, spacings = np.zeros(4, dtype=np.int64), np.full((4, 2), 0.5)
    series = pl.Series(foreign, dtype=pl.String)
    assert len(set(group_images(alike, spacings, own(4), series))) == groups


def test_groups_are_ranked_by_the_images_that_count_then_by_the_first_of_them():
    groups = np.array([2, 0, 2, 0, 1])
    assert ranked(groups, np.array([True] * 5)).tolist() == [2, 0, 1]
    assert ranked(groups, np.array([False, True, False, True, True])).tolist() == [0, 1, 2]


def test_without_images_there_is_no_group():
    nothing = np.zeros(0, dtype=np.int64)
    assert ranked(nothing, nothing.astype(bool)).tolist() == []
