import numpy as np
from numpy.testing import assert_allclose

from aneurysm_assets.volumes.slices import distinct_slices, line_through

UP = np.array([0.0, 0, 1])


def test_slices_are_in_the_order_of_their_places_each_place_once():
    along = np.array([5.0, 1.0, 5.0004, 3.0, 1.0])
    assert distinct_slices(along).tolist() == [1, 3, 0]


def test_a_tilted_gantry_moves_all_slices_along_one_straight_line():
    places = np.array([[0, 0.5 * k, 2.0 * k] for k in range(4)])
    per_slice = line_through(places, np.arange(4), UP)
    assert_allclose(per_slice.step, [0, 0.5, 2])
    per_mm = line_through(places, places[:, 2], UP)
    assert_allclose(per_mm.step, [0, 0.25, 1])
    assert per_slice.is_within(1e-9)
    assert per_mm.is_within(1e-9)


def test_a_gap_is_no_shift_to_the_side_for_either_numbering():
    places = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 5.0]])
    assert line_through(places, np.arange(3), UP).is_within(0)
    assert line_through(places, places[:, 2], UP).is_within(0)


def test_a_slice_beside_the_line_is_as_far_from_it_as_it_was_shifted():
    places = np.array([[0, 0, 0], [0.3, 0.4, 1], [0, 0, 2.0]])
    line = line_through(places, np.arange(3), UP)
    assert_allclose(line.beside_mm, [0, 0.5, 0])
    assert not line.is_within(0.4)
    places[1] = np.nan
    assert not line_through(places, np.arange(3), UP).is_within(0.4)
