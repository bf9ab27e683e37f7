"""Windows: HU for CT, percentiles for MR."""

import numpy as np
import pytest

from aneurysm_assets.preview.window import VESSELS_HU, Window, choose_window

CT = {
    "Modality": "CT",
    "PhotometricInterpretation": "MONOCHROME2",
    "RescaleIntercept": -1024.0,
    "WindowCenter": 100.0,
    "WindowWidth": 400.0,
}
MR = CT | {"Modality": "MR", "RescaleIntercept": None}
HEAD = [np.linspace(-1000, 1500, 10_000, dtype=np.float32).reshape(100, 100)]


def bounds(row, samples=HEAD) -> tuple[float, float]:
    window = choose_window(row, samples)
    return window.low, window.high


def test_ct_is_shown_in_the_window_of_its_header() -> None:
    assert bounds(CT) == (-100, 300)


@pytest.mark.parametrize(
    "header",
    [
        {"WindowCenter": None},
        {"WindowWidth": None},
        {"WindowWidth": 0.0},
        {"WindowCenter": 90_000.0},
    ],
)
def test_ct_without_a_usable_window_is_shown_in_one_for_vessels(header) -> None:
    assert bounds(CT | header) == VESSELS_HU


def test_ct_that_says_no_intercept_is_not_taken_for_hu() -> None:
    low, high = bounds(CT | {"RescaleIntercept": None, "WindowCenter": None})
    assert low == pytest.approx(-975, abs=1)
    assert high > 1400


def test_mr_is_shown_from_dark_to_bright_percentiles_whatever_its_header_says() -> None:
    noise = np.random.default_rng(1).integers(0, 1000, 90_000).astype(np.float32)
    noise[:50] = 30_000  # a few very bright pixels must not make the rest black
    low, high = bounds(MR, [noise.reshape(300, 300)])
    assert low == pytest.approx(10, abs=2)
    assert 990 <= high <= 1000


def test_a_large_black_background_does_not_hide_what_is_bright() -> None:
    mostly_black = np.zeros((1000, 1000), np.float32)
    mostly_black[500, :500] = 800
    assert bounds(MR, [mostly_black]) == (0, 800)


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_an_image_of_one_value_has_a_window(value) -> None:
    window = choose_window(MR, [np.full((4, 4), value, np.float32)])
    assert window.high > window.low


def test_values_outside_the_window_are_black_and_white() -> None:
    grey = Window(0, 100, "").grey(np.array([[-50, 0, 50, 100, 900]], np.float32))
    assert grey.tolist() == [[0, 0, 128, 255, 255]]


def test_monochrome1_is_shown_with_low_values_white() -> None:
    window = choose_window(CT | {"PhotometricInterpretation": "MONOCHROME1"}, HEAD)
    assert window.grey(np.array([[-5000.0, 5000.0]])).tolist() == [[255, 0]]


def test_colour_stays_as_it_is_and_needs_no_window() -> None:
    colour = np.full((2, 2, 3), 77, np.uint8)
    assert choose_window(CT, [colour]).grey(colour).tolist() == colour.tolist()


def test_values_that_are_no_numbers_are_black() -> None:
    assert Window(0, 1, "").grey(np.array([[np.nan, np.inf]])).tolist() == [[0, 255]]
