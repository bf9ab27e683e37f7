import warnings
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from aneurysm_assets.volumes.grid import (
    Grid,
    determinant_sign,
    grids_match,
    voxel_sizes,
)
from aneurysm_assets.volumes.series_geometry import add_geometry
from aneurysm_assets.volumes.stack import grid_of_series
from tests.points import points_in_mm
from tests.volumes.test_series_geometry import frame_of, image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that its readers of pixels are experimental
    from nibabel.nicom.dicomwrappers import Wrapper

ROWS, COLUMNS, SLICES = 7, 9, 5
PIXEL_SPACING = (0.75, 0.5)  # of rows, of columns
GAP = 2.0
AXIAL = [1.0, 0, 0, 0, 1, 0]
POSITION = [-100.0, -50, 30]

tried = settings(max_examples=150, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
sizes = st.floats(0.2, 6)
lengths = st.integers(2, 12)


def turned(seed: int) -> np.ndarray:
    """Return a rotation, uniform among all."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


@st.composite
def series(draw):
    """Draw what headers say of a series: positions in a random order, and the rest."""
    rotation = turned(draw(seeds))
    first = np.array(draw(st.tuples(*[st.floats(-300, 300)] * 3)))
    count, gap = draw(lengths), draw(sizes)
    positions = [first + rotation[:, 2] * gap * k for k in range(count)]
    order = draw(st.permutations(range(count)))
    return {
        "positions": [positions[k] for k in order],
        "orientation": [*rotation[:, 0], *rotation[:, 1]],
        "pixel_spacing": (draw(sizes), draw(sizes)),
        "rows": draw(lengths),
        "columns": draw(lengths),
    }


def plain_series(**changes):
    fields = {
        "positions": [np.add(POSITION, [0, 0, GAP * k]) for k in range(SLICES)],
        "orientation": AXIAL,
        "pixel_spacing": PIXEL_SPACING,
        "rows": ROWS,
        "columns": COLUMNS,
    }
    return fields | changes


def plain_grid() -> Grid:
    """Return the grid of the plain series, written down by hand: RAS is minus x, minus y of LPS."""
    affine = [[-0.5, 0, 0, 100], [0, -0.75, 0, 50], [0, 0, 2, 30], [0, 0, 0, 1]]
    return Grid((COLUMNS, ROWS, SLICES), np.array(affine, float))


def of_image(image) -> Grid:
    return Grid(image.shape, image.affine)


def image_of(grid: Grid):
    return nib.Nifti1Image(np.zeros(grid.shape, "uint8"), grid.affine_ras)


def moved(grid: Grid, voxels) -> Grid:
    """Shift a grid by so many voxels along its own axes."""
    matrix, vector = nib.affines.to_matvec(grid.affine_ras)
    return Grid(grid.shape, nib.affines.from_matvec(matrix, vector + matrix @ voxels))


def series_grid(positions, orientation, pixel_spacing, rows, columns):
    """Return the grid that the table of such images has; what is not finite is null there."""
    images = [
        image(
            number,
            known(position),
            known(orientation),
            PixelSpacing=known(pixel_spacing),
            Rows=rows,
            Columns=columns,
        )
        for number, position in enumerate(np.asarray(positions, float).tolist())
    ]
    return grid_of_series(add_geometry(frame_of(images)))


def known(numbers):
    return None if np.isnan(numbers).any() else [float(number) for number in numbers]


# --- the grid of a series -----------------------------------------------------------------------


def test_the_grid_of_a_plain_series_is_that_written_down_by_hand():
    grid = series_grid(**plain_series())
    assert grid.shape == plain_grid().shape
    assert_allclose(grid.affine_ras, plain_grid().affine_ras, atol=1e-12)


@tried
@given(series(), st.randoms(use_true_random=False))
def test_each_voxel_is_where_its_slices_header_puts_it(fields, random):
    grid = series_grid(**fields)
    count = len(fields["positions"])
    assert grid.shape == (fields["columns"], fields["rows"], count)
    normal = np.cross(fields["orientation"][:3], fields["orientation"][3:])
    ascending = sorted(fields["positions"], key=lambda position: position @ normal)
    for _ in range(5):
        column, row, k = (random.randrange(length) for length in grid.shape)
        header = {
            "ImagePositionPatient": ascending[k],
            "ImageOrientationPatient": fields["orientation"],
            "PixelSpacing": fields["pixel_spacing"],
            "SpacingBetweenSlices": 1,
        }
        x, y, z = nib.affines.apply_affine(Wrapper(header).affine, [row, column, 0])
        ours = nib.affines.apply_affine(grid.affine_ras, [column, row, k])
        assert_allclose(ours, [-x, -y, z], atol=1e-6)


@tried
@given(series())
def test_size_and_handedness_of_a_series_grid_are_those_of_its_headers(fields):
    grid = series_grid(**fields)
    rows, columns = fields["pixel_spacing"]
    gaps = [np.linalg.norm(p - fields["positions"][0]) for p in fields["positions"][1:]]
    assert_allclose(voxel_sizes(grid.affine_ras), (columns, rows, min(gaps)), rtol=1e-6)
    assert_allclose(voxel_sizes(grid.affine_ras), nib.affines.voxel_sizes(grid.affine_ras))
    assert determinant_sign(grid.affine_ras) == 1


def test_an_axial_series_grows_to_left_posterior_and_superior():
    assert nib.aff2axcodes(series_grid(**plain_series()).affine_ras) == ("L", "P", "S")
    sagittal = plain_series(
        orientation=[0, 1, 0, 0, 0, -1], positions=[[5, 0, 0], [3, 0, 0], [1, 0, 0]]
    )
    assert nib.aff2axcodes(series_grid(**sagittal).affine_ras) == ("P", "I", "R")


def test_a_tilted_gantry_gives_a_sheared_grid():
    positions = [[0, 0.5 * k, 2.0 * k] for k in range(4)]
    grid = series_grid(**plain_series(positions=positions))
    assert_allclose(grid.affine_ras[:3, 2], [0, -0.5, 2])


NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": np.zeros((0, 3))},
        {"positions": [POSITION]},
        {"positions": [POSITION] * 5},
        {"positions": [[0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 2]]},
        {"positions": [[0, 0, 0], [0, 0, 1e-4], [0, 0, 2e-4]]},
        {"positions": [[0, 0, 0], [0, 0, 1], [0, 0, 3]]},
        {"positions": [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3.02]]},
        {"positions": [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 2.98]]},
        {"positions": [[0, 0, 0], [0.3, 0, 1], [0, 0, 2]]},
        {"positions": [[0, 0, 0], [0, -0.3, 1], [0, 0, 2]]},
        {"positions": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]},
        {"positions": [[0, 0, 0], [0, NAN, 1], [0, 0, 2]]},
        {"positions": [[0, 0, 0], [NAN] * 3]},
        {"positions": [[0, 0, 0], [0, 0, INF]]},
        {"positions": [[0, 0, -1e308], [0, 0, 1e308]]},
        {"orientation": [NAN] * 6},
        {"orientation": [1, 0, 0, 0, 1, NAN]},
        {"orientation": [0] * 6},
        {"orientation": [1, 0, 0, 1, 0, 0]},
        {"orientation": [1, 0, 0, 0.02, 1, 0]},
        {"orientation": [2, 0, 0, 0, 1, 0]},
        {"orientation": [1, 0, 0, 0, 0.98, 0]},
        {"pixel_spacing": [NAN, 1]},
        {"pixel_spacing": [1, NAN]},
        {"pixel_spacing": [0, 1]},
        {"pixel_spacing": [1, -1]},
        {"pixel_spacing": [1, INF]},
        {"rows": 0},
        {"columns": 0},
    ],
    ids=str,
)
def test_a_series_without_usable_geometry_has_no_grid(changes):
    assert series_grid(**plain_series(**changes)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": [[0, 0, 0], [0, 0, 1.004], [0, 0, 2], [0, 0, 2.998]]},
        {"positions": [[0, 0, 0], [0.05, 0.05, 1], [0, 0, 2]]},
        {"orientation": [1, 0, 0, 0.005, 1, 0]},
        {"orientation": [0.9999, 0, 0, 0, 1.0001, 0]},
        {"positions": [[0, 0, 7], [0, 0, 3]]},
        {"rows": 1, "columns": 1},
    ],
    ids=str,
)
def test_what_headers_round_is_still_a_grid(changes):
    grid = series_grid(**plain_series(**changes))
    assert_allclose(voxel_sizes(grid.affine_ras)[:2], (0.5, 0.75), rtol=1e-4)


# --- whether a volume has the grid of a series ----------------------------------------------------

EVERY_ORIENTATION = [
    np.column_stack([order, flips])
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]


@pytest.mark.parametrize("orientation", EVERY_ORIENTATION, ids=str)
def test_a_volume_reoriented_by_nibabel_still_matches_its_series(orientation):
    assert len(EVERY_ORIENTATION) == 48
    fields = plain_series(orientation=[*turned(3)[:, 0], *turned(3)[:, 1]])
    fields["positions"] = [turned(3)[:, 2] * k for k in range(SLICES)]
    image = image_of(series_grid(**fields)).as_reoriented(orientation)
    assert grids_match(series_grid(**fields), of_image(image))
    assert grids_match(plain_grid(), of_image(image_of(plain_grid()).as_reoriented(orientation)))


@tried
@given(series(), st.sampled_from(EVERY_ORIENTATION), st.integers(0, 2), st.sampled_from([-1, 1]))
def test_a_reoriented_volume_matches_till_it_is_moved_cropped_or_scaled(
    fields, orientation, axis, sign
):
    grid = series_grid(**fields)
    volume = of_image(image_of(grid).as_reoriented(orientation))
    step = np.zeros(3)
    step[axis] = sign
    for other, same in [
        (volume, True),
        (of_image(nib.as_closest_canonical(image_of(volume))), True),
        (moved(volume, 0.45 * step), True),
        (moved(volume, 0.55 * step), False),
        (moved(volume, step), False),
        (Grid(volume.shape, scaled(volume, axis, 1.009)), True),
        (Grid(volume.shape, scaled(volume, axis, 1.02)), False),
        (Grid(volume.shape, scaled(volume, axis, 0.98)), False),
        (cropped(volume, axis, first=True), False),
        (cropped(volume, axis, first=False), False),
    ]:
        assert grids_match(grid, other) is same
        assert grids_match(other, grid) is same


def scaled(grid: Grid, axis: int, factor: float) -> np.ndarray:
    """Stretch along one axis, about the middle of the volume."""
    matrix, vector = nib.affines.to_matvec(grid.affine_ras)
    middle = vector + matrix @ ((np.array(grid.shape) - 1) / 2)
    stretched = matrix * np.where(np.arange(3) == axis, factor, 1)
    return nib.affines.from_matvec(stretched, middle - stretched @ ((np.array(grid.shape) - 1) / 2))


def cropped(grid: Grid, axis: int, first: bool) -> Grid:
    start = [int(first and axis == n) for n in range(3)]
    stop = [length - int(not first and axis == n) for n, length in enumerate(grid.shape)]
    box = tuple(slice(*ends) for ends in zip(start, stop, strict=True))
    return of_image(image_of(grid).slicer[box])


def test_a_volume_whose_affine_was_taken_for_lps_does_not_match():
    lps = np.diag([-1, -1, 1, 1]) @ plain_grid().affine_ras
    assert not grids_match(plain_grid(), Grid(plain_grid().shape, lps))


def test_a_volume_flipped_without_its_affine_does_not_match():
    flipped = plain_grid().affine_ras.copy()
    flipped[:, 0] *= -1
    assert not grids_match(plain_grid(), Grid(plain_grid().shape, flipped))


def test_a_volume_with_two_lengths_exchanged_does_not_match():
    columns, rows, slices = plain_grid().shape
    assert not grids_match(plain_grid(), Grid((rows, columns, slices), plain_grid().affine_ras))


def test_a_volume_with_two_voxel_sizes_exchanged_does_not_match():
    image = np.array([0.75, 0.5, 2])
    other = Grid((5, 5, 5), np.diag([*image, 1]))
    assert not grids_match(Grid((5, 5, 5), np.diag([*image[[1, 0, 2]], 1])), other)
    # Nor where the volume is of one voxel, so that only the size tells.
    assert not grids_match(
        Grid((1, 1, 1), np.diag([*image[[1, 0, 2]], 1])), Grid((1, 1, 1), np.diag([*image, 1]))
    )


@pytest.mark.parametrize(("degrees", "same"), [(7, True), (9, False)])
def test_directions_may_differ_by_eight_degrees_where_the_corners_bear_it(degrees, same):
    angle = np.radians(degrees)
    rotation = nib.eulerangles.euler2mat(angle)
    volume = Grid((2, 2, 2), nib.affines.from_matvec(rotation))
    assert grids_match(Grid((2, 2, 2), np.eye(4)), volume) is same
    long = Grid((20, 20, 20), nib.affines.from_matvec(rotation))
    assert not grids_match(Grid((20, 20, 20), np.eye(4)), long)


def test_half_a_voxel_is_half_of_the_voxel_along_that_axis():
    thick = Grid((5, 5, 5), np.diag([0.5, 0.5, 5, 1]))
    assert grids_match(thick, moved(thick, [0, 0, 0.4]))  # 2 mm
    assert not grids_match(thick, moved(thick, [1, 0, 0]))  # 0.5 mm


@pytest.mark.parametrize("value", [NAN, INF, 0])
def test_an_affine_that_is_not_finite_or_flat_matches_nothing(value):
    broken = plain_grid().affine_ras.copy()
    broken[:3, 1] = value
    for one, other in product([broken, plain_grid().affine_ras], repeat=2):
        expected = one is not broken and other is not broken
        assert grids_match(Grid((9, 7, 5), one), Grid((9, 7, 5), other)) is expected


@pytest.mark.parametrize(
    ("columns", "sign"),
    [
        (np.eye(3), 1),
        (np.diag([1, -1, 1]), -1),
        (1e-5 * np.eye(3), 1),
        (1e200 * np.diag([1, 1, -1]), -1),
        (np.diag([1, 1, 0]), 0),
        ([[0.1, 0.3, 0.4], [0.7, 0.2, 0.9], [1, 1, 2]], 0),
        (np.zeros((3, 3)), 0),
    ],
    ids=str,
)
def test_the_sign_of_the_determinant_does_not_hang_on_the_unit(columns, sign):
    assert determinant_sign(nib.affines.from_matvec(np.array(columns, float))) == sign


# --- a point of an image in the patient -----------------------------------------------------------


def test_a_point_of_an_axial_image_is_where_one_finds_it_by_hand():
    point = points_in_mm(10, 20, POSITION, AXIAL, PIXEL_SPACING)
    assert point.tolist() == [-100 + 10 * 0.5, -50 + 20 * 0.75, 30]


def test_whole_numbers_are_centres_of_pixels_and_the_first_is_the_position():
    assert points_in_mm(0, 0, POSITION, AXIAL, PIXEL_SPACING).tolist() == POSITION


@tried
@given(seeds, st.integers(0, 6))
def test_points_are_those_of_the_standards_matrix_and_of_nibabel(seed, count):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-5, 600, (2, count))
    positions, spacings = rng.uniform(-300, 300, (count, 3)), rng.uniform(0.2, 2, (count, 2))
    rotations = [turned(int(n)) for n in rng.integers(2**32, size=count)]
    orientations = np.array([[*r[:, 0], *r[:, 1]] for r in rotations]).reshape(count, 6)
    points = points_in_mm(x, y, positions, orientations, spacings)
    assert points.shape == (count, 3)
    for n in range(count):
        # PS3.3 C.7.6.2.1-1: X, Y cosines of row and column, S position, i column, j row index.
        (xx, xy, xz, yx, yy, yz), (sx, sy, sz) = orientations[n], positions[n]
        dj, di = spacings[n]  # the first is from row to row
        matrix = [[xx * di, yx * dj, 0, sx], [xy * di, yy * dj, 0, sy], [xz * di, yz * dj, 0, sz]]
        assert_allclose(points[n], np.array(matrix) @ [x[n], y[n], 0, 1], atol=1e-9)
        header = {
            "ImagePositionPatient": positions[n],
            "ImageOrientationPatient": orientations[n],
            "PixelSpacing": spacings[n],
            "SpacingBetweenSlices": 1,
        }
        by_nibabel = nib.affines.apply_affine(Wrapper(header).affine, [y[n], x[n], 0])
        assert_allclose(points[n], by_nibabel, atol=1e-6)


@tried
@given(series(), st.integers(0, 11))
def test_a_pixel_of_a_slice_is_the_voxel_of_the_series_grid(fields, seed):
    grid = series_grid(**fields)
    k, x, y = seed % grid.shape[2], seed % grid.shape[0], seed % grid.shape[1]
    normal = np.cross(fields["orientation"][:3], fields["orientation"][3:])
    position = sorted(fields["positions"], key=lambda place: place @ normal)[k]
    point = points_in_mm(x, y, position, fields["orientation"], fields["pixel_spacing"])
    voxel = nib.affines.apply_affine(np.linalg.inv(grid.affine_ras), point * [-1, -1, 1])
    assert_allclose(voxel, [x, y, k], atol=1e-6)
