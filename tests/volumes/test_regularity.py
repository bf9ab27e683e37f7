"""One verdict: the table, the match with a segmentation, a preview and loading give the same."""

import numpy as np
import polars as pl
import pytest

from aneurysm_assets.volumes.description import describe_volumes
from aneurysm_assets.volumes.regularity import judge
from aneurysm_assets.volumes.series_geometry import add_geometry
from aneurysm_assets.volumes.stack import NoStack, Stack, find_stack, grid_of_series
from tests.loading.kinds import turned
from tests.volumes.test_series_geometry import AXIAL, frame_of, image

COUNT = 8
UP = np.array([0.0, 0.0, 2.0])


def series(step=UP, moved=None, orientations=None, **values) -> pl.DataFrame:
    """Return the table of a stack; `moved` and `orientations` are by the slice's number."""
    given = {
        "SeriesInstanceUID": "1.2",
        "PixelSpacing": (0.5, 0.5),
        "Rows": 200,
        "Columns": 200,
        "pixel_data_short": False,
    }
    images = [
        image(
            n,
            tuple(n * np.array(step) + (moved or {}).get(n, 0)),
            (orientations or {}).get(n, AXIAL),
            **(given | values),
        )
        for n in range(COUNT)
    ]
    return add_geometry(frame_of(images))


REGULAR = {
    "plain": series(),
    "tilted by 30 degrees": series(step=(0, 2 * np.tan(np.radians(30)), 2)),
    "spacing rounded": series(moved={3: [0, 0, 0.015]}),
    "shifted by less than 0.1 mm": series(moved={3: [0.09, 0, 0]}),
    "turned by less than half a pixel": series(orientations={3: turned(AXIAL, 0.05, (0, 0, 1))}),
}

IRREGULAR = {
    "the orientation contradicts the positions": series(step=(0, 2 * np.tan(0.6), 2)),
    "gaps between slices differ": series(moved={n: [0, 0, -0.05] for n in range(4, COUNT)}),
    "0.105 mm off the line from first to last": series(
        step=(0, 0, 20), moved={n: [0, 0, 0.105 * (n % 2)] for n in range(COUNT - 1)}
    ),
    "1 slice missing": series(moved=dict.fromkeys(range(4, COUNT), UP)),
    "0.15 mm off the line from first to last": series(moved={3: [0.15, 0, 0]}),
    "1 image at the place of another": series(moved={3: -UP}),
    "orientations differ": series(orientations={3: turned(AXIAL, 0.4, (0, 0, 1))}),
    "PixelSpacing is missing": series(PixelSpacing=None),
    "all its 8 images are at one place": series(step=(0, 0, 0)),
    "differ within the plane of the images only": series(step=(1, 0, 0)),
}


@pytest.mark.parametrize("name", REGULAR)
def test_a_regular_volume_has_the_same_affine_everywhere(name):
    images = REGULAR[name]
    (row,) = describe_volumes(images).iter_rows(named=True)
    assert row["irregular_reason"] is None
    assert row["is_regular"]
    grid = grid_of_series(images)
    np.testing.assert_array_equal(grid.affine_ras.ravel(), row["affine"])
    assert list(grid.shape) == row["shape"]
    found = find_stack(images)
    assert isinstance(found, Stack)
    assert found.irregular == []


@pytest.mark.parametrize("reason", IRREGULAR)
def test_an_irregular_volume_is_one_everywhere_for_the_same_reason(reason):
    images = IRREGULAR[reason]
    (row,) = describe_volumes(images).iter_rows(named=True)
    assert not row["is_regular"]
    assert reason in row["irregular_reason"]
    assert grid_of_series(images) is None
    found = find_stack(images)
    assert isinstance(found, NoStack) or "; ".join(found.irregular) == row["irregular_reason"]


def test_pixels_that_are_missing_make_a_volume_irregular_and_leave_its_grid():
    images = series().with_columns(pixel_data_short=pl.lit(True))
    (row,) = describe_volumes(images).iter_rows(named=True)
    assert row["irregular_reason"] == "8 images with too few bytes of pixels"
    assert grid_of_series(images) is not None


@pytest.mark.parametrize(
    "cosines", [(2, 0, 0, 0, 1, 0), (1, 0, 0, 0.02, 1, 0), (1, 0, 0, 1, 0, 0), (0,) * 6]
)
def test_cosines_that_are_no_units_at_a_right_angle_give_no_affine(cosines):
    images = series(orientations=dict.fromkeys(range(COUNT), cosines))
    (verdict,) = judge(images).reasons
    assert verdict
    assert np.isnan(judge(images).affine_ras).any()


def test_numbers_beyond_what_can_be_computed_are_no_regular_volume():
    images = series(step=(0, 0, 1e308))
    assert judge(images).reasons != [[]]
    assert judge(images).grid(0) is None
