"""Planes in the patient: letters at their edges, and the way they are looked at."""

import numpy as np
import pytest

from aneurysm_assets.volumes.plane import Plane, direction_letters, plane_of_image
from tests.made_up import AXIAL, CORONAL, SAGITTAL

ORIGIN = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((1, 0, 0), "L"),
        ((-3, 0, 0), "R"),
        ((0, 1, 0), "P"),
        ((0, -1, 0), "A"),
        ((0, 0, 1), "S"),
        ((0, 0, -1), "I"),
        ((0.9, 0.3, 0), "L"),
        ((0.8, -0.6, 0), "LA"),
        ((-0.5, 0, 0.8), "SR"),
        ((0, 0, 0), ""),
    ],
)
def test_a_direction_is_named_in_dicoms_coordinates(direction, letters) -> None:
    assert direction_letters(direction) == letters


@pytest.mark.parametrize(
    ("orientation", "name", "letters"),
    [
        (AXIAL, "axial", ("R", "L", "A", "P")),
        (CORONAL, "coronal", ("R", "L", "S", "I")),
        (SAGITTAL, "sagittal", ("A", "P", "S", "I")),
    ],
)
def test_the_edges_of_an_image_are_those_that_a_radiologist_expects(
    orientation, name, letters
) -> None:
    plane = plane_of_image(ORIGIN, orientation, (1, 1))
    assert (plane.name, plane.letters) == (name, letters)


def test_pixel_spacing_is_the_distance_of_rows_then_of_columns() -> None:
    plane = plane_of_image(ORIGIN, AXIAL, (0.5, 2.0))
    assert plane.pixel_size == (2.0, 0.5)
    assert plane.at(3, 4).tolist() == [1 + 3 * 2.0, 2 + 4 * 0.5, 3]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_however_a_plane_is_stored_it_is_looked_at_in_one_way_and_no_pixel_moves(
    orientation, swapped, signs
) -> None:
    across, down = np.reshape(orientation, (2, 3)) * np.array([[2.0], [0.5]])
    axes = [across * signs[0], down * signs[1]]
    plane = Plane(ORIGIN, *(reversed(axes) if swapped else axes))
    pixels = np.arange(12).reshape(3, 4)
    looked_at, shown = plane.as_looked_at(pixels)
    assert looked_at.letters == plane_of_image(ORIGIN, orientation, (1, 1)).letters
    before = {tuple(plane.at(x, y).tolist()): pixels[y, x] for x in range(4) for y in range(3)}
    rows, columns = shown.shape
    after = {
        tuple(looked_at.at(x, y).tolist()): shown[y, x] for x in range(columns) for y in range(rows)
    }
    assert before == after


@pytest.mark.parametrize(
    ("position", "orientation", "spacing"),
    [
        (None, AXIAL, (1, 1)),
        (ORIGIN, None, (1, 1)),
        (ORIGIN, AXIAL, None),
        (ORIGIN, (0,) * 6, (1, 1)),
        (ORIGIN, (1, 0, 0, 1, 0, 0), (1, 1)),
        (ORIGIN, AXIAL, (0, 1)),
        (ORIGIN, AXIAL, (1, float("nan"))),
        ((1, 2, float("nan")), AXIAL, (1, 1)),
    ],
)
def test_an_image_of_missing_or_impossible_geometry_has_no_plane(
    position, orientation, spacing
) -> None:
    assert plane_of_image(position, orientation, spacing) is None
