import gzip
import subprocess
import sys
import tracemalloc
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec, to_matvec
from nibabel.eulerangles import euler2mat
from numpy.testing import assert_allclose

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.nifti.vessels import (
    VesselAtPoint,
    place_in_volume,
    vessels_at,
)
from aneurysm_assets.schema.columns import VESSEL_CLASSES
from aneurysm_assets.schema.tolerances import (
    VESSEL_RADIUS_MM,
)
from tests.points import points_in_mm

SHAPE = (20, 18, 16)
NAN = float("nan")

seeds = st.integers(0, 2**32 - 1)


def tried(examples: int):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def turned(seed: int) -> np.ndarray:
    """Return a rotation, uniform among all."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


@st.composite
def affines(draw):
    """Draw an affine to RAS mm: turned, flipped, anisotropic and sheared."""
    sizes = draw(st.tuples(*[st.floats(0.4, 4)] * 3))
    flips = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    shears = draw(st.tuples(*[st.floats(-0.5, 0.5)] * 3))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = shears
    matrix = turned(draw(seeds)) @ shear @ np.diag(sizes) @ np.diag(flips)
    return from_matvec(matrix, draw(st.tuples(*[st.floats(-200, 200)] * 3)))


def lps(affine: np.ndarray, voxel) -> np.ndarray:
    """Return where a voxel coordinate is, LPS mm: nibabel's RAS with x and y turned around."""
    return apply_affine(affine, voxel) * [-1, -1, 1]


def save(path: Path, labels: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti2Image(labels, affine), path)  # its affine is not rounded to 32 bits
    return path


def labelled(voxels: dict[tuple[int, int, int], int], dtype: str = "int16") -> np.ndarray:
    volume = np.zeros(SHAPE, dtype)
    for voxel, label in voxels.items():
        volume[voxel] = label
    return volume


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "1.2_cowseg.nii"


# --- from LPS mm to voxels ------------------------------------------------------------------------


def test_left_and_posterior_of_lps_are_minus_x_and_minus_y_of_the_affine():
    affine = np.array([[2.0, 0, 0, 10], [0, 4, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])
    points = [[-10, -20, 30], [-12, -20, 30], [-10, -28, 30], [-10, -20, 45]]
    expected = [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]
    assert place_in_volume(points, affine).tolist() == expected


@tried(200)
@given(affines(), seeds, st.integers(0, 5))
def test_points_are_placed_where_nibabel_has_the_voxel(affine, seed, count):
    voxels = np.random.default_rng(seed).uniform(-50, 500, (count, 3))
    placed = place_in_volume(lps(affine, voxels), affine)
    assert placed.shape == (count, 3)
    assert_allclose(placed, voxels, atol=1e-7)


def test_a_missing_point_is_placed_nowhere_and_spoils_no_other():
    placed = place_in_volume([[0, NAN, 0], [0, 0, 0]], np.diag([-1, -1, 1, 1]))
    assert np.isnan(placed[0]).all()
    assert placed[1].tolist() == [0, 0, 0]


def test_nothing_can_be_placed_by_a_flat_affine(path):
    affine = np.diag([1.0, 1, 0, 1])
    assert np.isnan(place_in_volume([[0, 0, 0], [1, 1, 1]], affine)).all()
    image = nib.Nifti1Image(np.ones(SHAPE, "uint8"), None)
    image.set_sform(affine, 1)
    nib.save(image, path)
    assert vessels_at(path, [[0, 0, 0]]) == [VesselAtPoint(None, None)]


# --- from the pixel of an image to the vessel -----------------------------------------------------


@tried(80)
@given(
    affine_seed=seeds,
    series_seed=seeds,
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    extension=st.sampled_from([".nii", ".nii.gz"]),
    place=seeds,
)
def test_a_localizer_lands_in_its_vessel_from_pixel_through_lps_mm_to_voxel(
    tmp_path, affine_seed, series_seed, flips, extension, place
):
    # Thirteen balls of 6 mm, 20 mm apart and in no order that a flip would keep, in LPS mm.
    rng = np.random.default_rng(place)
    centres = rng.permutation(np.array(list(product([-20, 0, 20], repeat=3)), float))[:13]
    # The segmentation: oblique, flipped, anisotropic, about the same place.
    spacing = np.array([2.0, 2.5, 3.0])
    matrix = turned(affine_seed) @ np.diag(spacing * flips)
    shape = np.ceil(90 / spacing).astype(int)
    affine = from_matvec(matrix, -matrix @ ((shape - 1) / 2))
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distances = np.linalg.norm(lps(affine, voxels)[..., None, :] - centres, axis=-1)
    labels = np.where(distances.min(axis=-1) < 6, distances.argmin(axis=-1) + 1, 0)
    path = save(tmp_path / f"a{extension}", labels.astype("uint8"), affine)
    # The images: of another obliqueness, one through each ball; the pixel is found by projection.
    rotation = turned(series_seed)
    dj, di = rng.uniform(0.3, 1.5, 2)  # from row to row, from column to column
    x, y = rng.uniform(10, 500, (2, 13))
    points = centres + rng.uniform(-1.5, 1.5, (13, 3))
    corners = points - np.outer(x * di, rotation[:, 0]) - np.outer(y * dj, rotation[:, 1])
    orientation = np.tile([*rotation[:, 0], *rotation[:, 1]], (13, 1))

    in_mm = points_in_mm(x, y, corners, orientation, np.tile([dj, di], (13, 1)))
    found = vessels_at(path, in_mm)

    assert [one.vessel for one in found] == list(VESSEL_CLASSES)
    for one, point in zip(found, points, strict=True):
        i, j, k = one.voxel
        assert labels[i, j, k] == 1 + VESSEL_CLASSES.index(one.vessel)
        away = np.linalg.inv(matrix) @ (point * [-1, -1, 1] - apply_affine(affine, one.voxel))
        assert (np.abs(away) <= 0.5 + 1e-6).all()


# --- the nearest vessel ---------------------------------------------------------------------------


def by_search_of_all(labels: np.ndarray, affine: np.ndarray, point: np.ndarray) -> list[int]:
    """Return the labels that are right at a point by looking at each voxel of the volume."""
    exact = apply_affine(np.linalg.inv(affine), point * [-1, -1, 1])
    voxel = np.rint(exact).astype(int)
    assume((np.abs(np.abs(exact - voxel) - 0.5) > 1e-6).all())
    if ((voxel >= 0) & (voxel < labels.shape)).all() and labels[tuple(voxel)]:
        return [labels[tuple(voxel)]]
    places = np.argwhere(labels)
    if not len(places):
        return []
    distances = np.linalg.norm(lps(affine, places) - point, axis=1)
    assume((np.abs(distances - VESSEL_RADIUS_MM) > 1e-5).all())
    if distances.min() > VESSEL_RADIUS_MM:
        return []
    return sorted(labels[tuple(places[distances <= distances.min() + 2e-6].T)])


@tried(400)
@given(
    affines(),
    seeds,
    st.integers(0, 40),
    st.tuples(*[st.floats(-9, 27)] * 3),
    st.sampled_from(["uint8", "int16", "float32"]),
)
def test_the_vessel_is_that_which_a_search_of_the_whole_volume_finds(
    path, affine, seed, count, voxel, dtype
):
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, dtype)
    labels[tuple(rng.integers(0, SHAPE, (count, 3)).T)] = rng.integers(1, 14, count)
    point = lps(affine, voxel)
    expected = by_search_of_all(labels, affine, point)
    (found,) = vessels_at(save(path, labels, affine), [point])
    if expected:
        assert found.vessel in {VESSEL_CLASSES[int(label) - 1] for label in expected}
    else:
        assert found.vessel is None
    assert found.voxel == tuple(np.rint(voxel).astype(int))


def test_the_vessel_at_the_point_goes_before_one_whose_centre_is_nearer(path):
    sheared = np.eye(4)
    sheared[0, 2] = 0.9  # voxel (5, 5, 6) is at x = 10.4, and (6, 5, 5) at 10.5
    point = lps(sheared, [5.45, 5, 5.45])
    for voxels, expected in [
        ({(5, 5, 5): 2, (6, 5, 5): 1}, "Basilar Tip"),
        ({(6, 5, 5): 1}, "Other Posterior Circulation"),
    ]:
        nearest = min(voxels, key=lambda voxel: np.linalg.norm(lps(sheared, voxel) - point))
        assert nearest == (6, 5, 5)
        assert vessels_at(save(path, labelled(voxels), sheared), [point])[0].vessel == expected


def test_a_strong_shear_brings_voxels_near_whose_indices_are_far(path):
    sheared = np.eye(4)
    sheared[0, 2] = 1.5
    save(path, labelled({(3, 9, 12): 10}), sheared)
    point = lps(sheared, [10, 9, 8])
    assert np.linalg.norm(lps(sheared, [3, 9, 12]) - point) < 4.2
    assert vessels_at(path, [point])[0].vessel == "Left Middle Cerebral Artery"


def test_the_vessel_at_the_point_counts_where_a_voxel_is_larger_than_the_radius(path):
    thick = np.diag([1.0, 1, 16, 1])
    save(path, labelled({(5, 5, 5): 13}), thick)
    inside, beside, beyond = vessels_at(
        path, [lps(thick, [5, 5, 5.49]), lps(thick, [6, 5, 5.3]), lps(thick, [5, 5, 5.51])]
    )
    assert inside.vessel == beside.vessel == "Anterior Communicating Artery"
    assert beyond == VesselAtPoint((5, 5, 6), None)
    assert vessels_at(path, [lps(thick, [6, 5, 5.4])])[0].vessel is None  # 6.5 mm beside it


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_radius_is_five_mm_and_included(path, axis, sign):
    affine = from_matvec(euler2mat(0.3, 0.4, 0.5) @ np.diag([1, 1.25, 2.5]), [7, 8, 9])
    save(path, labelled({(10, 9, 8): 4}), affine)
    direction = affine[:3, axis] / np.linalg.norm(affine[:3, axis]) * [-1, -1, 1] * sign
    at, within, beyond = vessels_at(
        path, lps(affine, [10, 9, 8]) + np.outer([VESSEL_RADIUS_MM, 4.999, 5.001], direction)
    )
    assert VESSEL_RADIUS_MM == 5
    assert at.vessel == within.vessel == "Left Posterior Communicating Artery"
    assert beyond.vessel is None


@pytest.mark.parametrize("axis", range(3))
def test_of_two_equally_near_the_lower_label_is_taken(path, axis):
    step = np.eye(3, dtype=int)[axis]
    affine = from_matvec(euler2mat(0.3, 0.4, 0.5) * 0.7, [0.1, 0.2, 0.3])
    here = np.array([9, 9, 9])
    for lower, upper in [(3, 11), (11, 3)]:
        voxels = {tuple(here - 2 * step): lower, tuple(here + 2 * step): upper}
        (found,) = vessels_at(save(path, labelled(voxels), affine), [lps(affine, here)])
        assert found.vessel == VESSEL_CLASSES[3 - 1]
        voxels[tuple(here + step)] = 12
        (found,) = vessels_at(save(path, labelled(voxels), affine), [lps(affine, here)])
        assert found.vessel == VESSEL_CLASSES[12 - 1]


@pytest.mark.parametrize("label", [-1, 14, 255, 30_000])
def test_a_label_of_no_class_is_no_vessel_and_hides_what_is_behind_it(path, label):
    save(path, labelled({(5, 5, 5): label, (5, 5, 8): 7}), np.eye(4))
    at, near, behind = vessels_at(path, lps(np.eye(4), [[5, 5, 5], [5, 5, 6], [5, 5, 7]]))
    assert at.vessel is near.vessel is None
    assert behind.vessel == "Right Supraclinoid Internal Carotid Artery"


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("flip", [-1, 1])
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_points_beside_the_volume_find_what_is_within_the_radius(tmp_path, axis, flip, extension):
    affine = np.diag([flip * 1.0, 1, 1, 1])
    path = save(tmp_path / f"a{extension}", np.full(SHAPE, 5, "uint8"), affine)
    for edge, outward in [(0, -1), (SHAPE[axis] - 1, 1)]:
        points = np.tile([8.0, 8, 8], (4, 1))
        points[:, axis] = edge + outward * np.array([0, 4.4, 5.6, 100])
        on, near, past, far = vessels_at(path, lps(affine, points))
        assert on.vessel == near.vessel == "Right Infraclinoid Internal Carotid Artery"
        assert past.vessel is far.vessel is None
        assert [one.voxel[axis] for one in (on, near, past, far)] == [
            edge, edge + outward * 4, edge + outward * 6, edge + outward * 100
        ]  # fmt: skip


def test_points_that_are_missing_or_too_far_for_the_table_have_no_voxel(path):
    save(path, labelled({(5, 5, 5): 1}), np.eye(4))
    points = [[NAN] * 3, [0, 0, 3e9], [0, -3e9, 0], [np.inf, 0, 0], [1e300] * 3, [-5, -5, 5]]
    *none, one = vessels_at(path, points)
    assert none == [VesselAtPoint(None, None)] * 5
    assert one == VesselAtPoint((5, 5, 5), "Other Posterior Circulation")
    assert vessels_at(path, [[0, 0, 2**31 - 2]])[0].voxel == (0, 0, 2**31 - 2)


def test_many_points_are_answered_in_their_order(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 14, SHAPE).astype("uint8") * (rng.random(SHAPE) < 0.02)
    affine = np.diag([-1.5, 1.5, 1.5, 1])
    points = lps(affine, rng.uniform(-3, 20, (40, 3)))
    plain = save(tmp_path / "a.nii", labels, affine)
    alone = [vessels_at(plain, [point])[0] for point in points]
    assert vessels_at(plain, points) == alone
    assert vessels_at(save(tmp_path / "a.nii.gz", labels, affine), points) == alone
    assert len({one.vessel for one in alone}) > 5
    assert vessels_at(plain, np.zeros((0, 3))) == []


def test_scaled_labels_are_scaled(path):
    image = nib.Nifti1Image(labelled({(5, 5, 5): 6}), np.eye(4))
    nib.save(image, path)
    data = bytearray(path.read_bytes())
    data[112:116] = np.float32(0.5).tobytes()  # scl_slope
    path.write_bytes(data)
    assert nib.load(path).get_fdata()[5, 5, 5] == 3
    assert vessels_at(path, [[-5, -5, 5]])[0].vessel == VESSEL_CLASSES[3 - 1]


# --- broken files, and what is read of whole ones -------------------------------------------------


def failure(path: Path, points=((-5, -5, 5),)) -> str:
    with pytest.raises(SeriesError) as caught:
        vessels_at(path, points)
    return str(caught.value)


def test_a_missing_file_is_named(path):
    assert failure(path) == f"{path} cannot be read: No such file or directory"
    assert failure(path, points=np.zeros((0, 3))) == failure(path)


def test_a_file_that_is_too_short_is_named(tmp_path):
    plain = save(tmp_path / "a.nii", labelled({}), np.eye(4))
    plain.write_bytes(plain.read_bytes()[:-1])
    assert f"{plain}: no usable NIfTI file: truncated" in failure(plain)
    whole = save(tmp_path / "a.nii.gz", labelled({}), np.eye(4)).read_bytes()
    packed = tmp_path / "a.nii.gz"
    packed.write_bytes(gzip.compress(gzip.decompress(whole)[:3_000]))
    assert f"{packed}: no usable NIfTI file: truncated" in failure(packed)
    packed.write_bytes(whole[:-20])
    end = lps(np.eye(4), np.array([SHAPE]) - 1)
    assert f"{packed}: no usable NIfTI file: " in failure(packed, points=end)


@pytest.mark.parametrize("value", [0.5, NAN, 1e20])
def test_a_value_that_is_no_label_is_named_where_a_point_is_near(path, value):
    save(path, labelled({(5, 5, 5): value}, "float64"), np.eye(4))
    assert failure(path).startswith(f"{path}: no usable NIfTI file: ")
    assert vessels_at(path, lps(np.eye(4), [[15, 15, 15]])) == [VesselAtPoint((15, 15, 15), None)]


def test_voxels_that_cannot_be_labels_are_named(path):
    save(path, labelled({}, "complex64"), np.eye(4))
    assert "complex64 voxels are no labels" in failure(path)


def huge(path: Path, length: int) -> Path:
    """Write a volume that takes no place on disk: label 9 at (200, 200, 200), the rest empty."""
    header = nib.Nifti2Header()
    header.set_data_dtype("int16")
    header.set_data_shape((length, length, length))
    header.set_sform(np.diag([0.4, 0.4, 0.4, 1]), 1)
    header["vox_offset"] = 544
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.seek(544 + 2 * 200 * (1 + length + length**2))
        file.write(b"\x09\0")
        file.truncate(544 + 2 * length**3)
    return path


def test_only_what_is_around_a_point_is_read(path):
    huge(path, 5_000)  # 250 GB
    voxels = [(205, 195, 200), (4_999, 4_999, 4_999), (-100, -100, 200), (9_000, -100, 200)]
    points = lps(np.diag([0.4, 0.4, 0.4, 1]), voxels)
    tracemalloc.start()
    found = vessels_at(path, points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    vessels = ["Right Middle Cerebral Artery", None, None, None]
    assert found == [VesselAtPoint(*one) for one in zip(voxels, vessels, strict=True)]
    assert peak < 500_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's")
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_peak_memory_stays_far_below_the_volumes_size(tmp_path, extension):
    path = huge(tmp_path / "a.nii", 500)  # 250 MB
    if extension == ".nii.gz":
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes(), 1))
    program = (
        "import re, sys; from pathlib import Path\n"
        "from aneurysm_assets.nifti.vessels import vessels_at\n"
        "def peak(): return int(re.search('VmHWM:(.*)kB', status.read_text())[1]) / 1024\n"
        "path, status = Path(sys.argv[1]), Path('/proc/self/status')\n"
        "before = peak()\n"
        "vessels = [one.vessel for one in vessels_at(path, [[-80, -80, 80], [-199, -199, 199]])]\n"
        "print(peak() - before, vessels)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    megabytes, vessels = output.split(maxsplit=1)
    assert vessels.strip() == "['Right Middle Cerebral Artery', None]"
    assert float(megabytes) < 30


def test_an_affine_in_the_wrong_unit_makes_the_neighbourhood_the_volume(path):
    affine = np.diag([0.0005, 0.0005, 0.0005, 1])  # metres taken for mm
    save(path, labelled({(19, 17, 15): 8}), affine)
    (found,) = vessels_at(path, [[0, 0, 0]])
    assert found.vessel == "Left Supraclinoid Internal Carotid Artery"
    matrix, _ = to_matvec(affine)
    assert np.linalg.norm(matrix @ [19, 17, 15]) < VESSEL_RADIUS_MM
