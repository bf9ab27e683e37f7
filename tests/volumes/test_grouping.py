import numpy as np
import polars as pl
import pytest

from aneurysm_assets.volumes.grouping import are_one_group, group_images, largest_group

AXIAL = [1.0, 0, 0, 0, 1, 0]


def sides(*lengths: int | None) -> pl.Series:
    return pl.Series(lengths, dtype=pl.Int32)


def test_images_of_one_orientation_and_matrix_are_a_group_whatever_their_spacing_if_not_asked():
    orientations = np.array([0, 0, 2, 0, -1, -1])
    rows, columns = sides(8, 8, 8, 9, None, None), sides(8, 8, 8, 8, 8, 8)
    assert group_images(orientations, rows, columns).tolist() == [1, 1, 3, 2, 0, 0]
    spacing = np.array([[0.5, 0.5], [0.5, 0.4], [1, 1], [1, 1], [np.nan, 1], [np.nan, 1]])
    found = group_images(orientations, rows, columns, spacing)
    assert found.tolist() == [2, 1, 4, 3, 0, 0]


def test_of_equal_groups_the_first_image_or_the_lowest_number_decides():
    groups, counted = np.array([1, 0, 0, 1, 2, 2, 2]), np.arange(7) < 5
    assert largest_group(groups, counted, first_image_wins=True) == 1
    assert largest_group(groups, counted, first_image_wins=False) == 0


def test_without_images_there_is_no_largest_group():
    nothing = np.zeros(0, dtype=np.int64)
    for first_image_wins in (True, False):
        found = largest_group(nothing, nothing.astype(bool), first_image_wins=first_image_wins)
        assert found == -1


@pytest.mark.parametrize(
    ("cosine", "height", "spacing", "one"),
    [
        (1.0, 8, 0.5, True),
        (0.9901, 8, 0.5, True),
        (0.9899, 8, 0.5, False),
        (1.0, 9, 0.5, False),
        (1.0, 8, 0.50001, False),
    ],
)
def test_images_are_one_group_if_orientation_matrix_and_spacing_are_one(
    cosine, height, spacing, one
):
    cosines = np.array([AXIAL, [cosine, *AXIAL[1:]]])
    spacings = np.array([[0.5, 0.5], [0.5, spacing]])
    assert are_one_group(cosines, sides(8, height), sides(8, 8), spacings) is one


def test_no_images_are_no_group():
    assert not are_one_group(np.zeros((0, 6)), sides(), sides(), np.zeros((0, 2)))
