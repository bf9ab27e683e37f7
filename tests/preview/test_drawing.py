"""The sheet, pixel by pixel."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from aneurysm_assets.preview.drawing import (
    BOX,
    Sheet,
    draw,
    fit,
    marked_points,
    png,
    thumbnail,
    tint,
)
from aneurysm_assets.preview.marked_points import KEYWORD, from_text
from aneurysm_assets.preview.panels import Mark, Panel

TOP, LEFT = 56, 10
YELLOW = (255, 214, 10)


def sheet(panel: Panel, **changes) -> Sheet:
    return Sheet(
        **(
            {
                "heading": "1.2.3",
                "subheading": "CT",
                "panels": [panel],
                "vessels": [None],
                "breaks": 1,
            }
            | changes
        )
    )


@pytest.mark.parametrize(
    ("shape", "size", "drawn"),
    [
        ((100, 100), None, (BOX, BOX)),
        ((100, 50), None, (BOX // 2, BOX)),
        ((100, 100), (1.0, 0.5), (BOX, BOX // 2)),
        ((20, 200), (0.5, 5.0), (BOX, BOX)),
        ((1, 5000), None, (BOX, 1)),
    ],
)
def test_a_panel_keeps_its_physical_proportions(shape, size, drawn) -> None:
    fitted = fit(Panel(np.zeros(shape, np.uint8), "", pixel_size=size))
    assert (fitted.width, fitted.height) == drawn


def test_drawn_pixels_lead_back_to_the_panels_own() -> None:
    fitted = fit(Panel(np.zeros((7, 5), np.uint8), "", pixel_size=(0.4, 0.9)))
    x, y = fitted.panel_grid()
    assert x.shape == y.shape == (fitted.height, fitted.width)
    assert fitted.drawn(x[10, 20], y[10, 20]) == pytest.approx((20, 10))


def test_a_mark_is_a_ring_about_its_pixel_which_stays_in_sight() -> None:
    pixels = np.zeros((48, 48), np.uint8)
    pixels[30, 11] = 255
    image = draw(sheet(Panel(pixels, "", marks=(Mark(11, 30, 1, "Basilar Tip"),))))
    x, y = LEFT + round(11.5 * 8 - 0.5), TOP + round(30.5 * 8 - 0.5)
    assert min(image.getpixel((x, y))) > 200
    for ring in ((x - 11, y), (x, y + 11), (x + 11, y), (x, y - 11)):
        near = np.asarray(image)[ring[1] - 2 : ring[1] + 3, ring[0] - 2 : ring[0] + 3]
        assert (near == YELLOW).all(axis=-1).any()


@pytest.mark.parametrize("at", [(-1, 20), (48, 20), (20, -1), (20, 48), (47, 0), (0, 47)])
def test_a_mark_never_reaches_beyond_its_own_panel(at) -> None:
    black = np.zeros((48, 48), np.uint8)
    marked = Panel(black, "", marks=(Mark(*at, 12, ""),))
    panels = [marked, Panel(black, "")]
    image = np.asarray(draw(sheet(marked, panels=panels, vessels=[None] * 2, breaks=2)))
    unmarked = [Panel(black, "", marks=(Mark(20, 20, 12, ""),)), Panel(black, "")]
    plain = np.asarray(draw(sheet(marked, panels=unmarked, vessels=[None] * 2, breaks=2)))
    differs = (image != plain).any(axis=-1)
    differs[TOP : TOP + BOX, LEFT : LEFT + BOX] = False
    assert not differs.any()


@pytest.mark.parametrize("at", [(47, 24), (24, 0), (47, 0), (0, 0)])
def test_the_number_of_a_mark_stands_within_its_panel(at) -> None:
    def yellow(number: int, x: float, y: float) -> int:
        panel = Panel(np.zeros((48, 48), np.uint8), "", marks=(Mark(x, y, number, ""),))
        own = np.asarray(draw(sheet(panel)))[TOP : TOP + BOX, LEFT : LEFT + BOX]
        return int((own == YELLOW).all(axis=-1).sum())

    # As many pixels more than a one has the eight here as it has in the middle.
    assert yellow(8, *at) - yellow(1, *at) == yellow(8, 24, 24) - yellow(1, 24, 24)


@pytest.mark.parametrize(("x", "y"), [(50, 50), (2, 97), (99, 0)])
def test_what_lies_around_a_point_is_where_its_ring_is_drawn(x, y) -> None:
    plain = Panel(np.zeros((100, 100), np.uint8), "", pixel_size=(1.0, 1.0))
    marked = replace(plain, marks=(Mark(x, y, 7, "Basilar Tip"),))
    whole = sheet(marked, panels=[plain, plain, plain, plain, marked], vessels=[None] * 5, breaks=3)
    (point,) = marked_points(whole)
    assert (point.number, point.location) == (7, "Basilar Tip")
    box = (point.left, point.top, point.right, point.bottom)
    ring_x = LEFT + BOX + 10 + (x + 0.5) * BOX / 100
    assert box[0] <= ring_x <= box[2]
    forty_mm = 0.4 * BOX
    assert max(box[2] - box[0], box[3] - box[1]) <= forty_mm + 2
    ring = np.asarray(draw(whole).crop(box))
    assert (ring == YELLOW).all(axis=2).sum() >= 15


def test_a_point_is_kept_where_it_is_drawn_largest_and_the_png_keeps_it() -> None:
    mark = Mark(50, 50, 1, "Basilar Tip")
    wide = Panel(np.zeros((100, 100), np.uint8), "", pixel_size=(1.0, 1.0), marks=(mark,))
    close = replace(wide, pixels=wide.pixels[:40, :40], marks=(replace(mark, x=20, y=20),))
    both = sheet(wide, panels=[wide, close], vessels=[None] * 2, breaks=2)
    (point,) = marked_points(both)
    left = LEFT + BOX + 10
    expected = (left, TOP, left + BOX, TOP + BOX)
    assert (point.left, point.top, point.right, point.bottom) == pytest.approx(expected, abs=5)
    with Image.open(io.BytesIO(png(draw(both), [point]))) as picture:
        assert from_text(picture.info[KEYWORD], picture.size) == [point]


def test_labels_colour_their_pixels_and_no_other() -> None:
    picture = np.full((2, 2, 3), 100, np.uint8)
    tinted = tint(picture, np.array([[0, 1], [13, 99]]))
    assert (tinted != picture).any(axis=-1).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    "text", ["x" * 500, "two\nlines", "\x00\x1b[31m", "☃ 動脈", "<b>&amp;", ""]
)
def test_any_text_is_drawn_on_its_line(text) -> None:
    panel = Panel(np.zeros((9, 9), np.uint8), text, marks=(Mark(1, 1, 1, text),))
    plain = Panel(np.zeros((9, 9), np.uint8), "", marks=(Mark(1, 1, 1, ""),))
    image = draw(sheet(panel, heading=text, subheading=text, notes=[text]))
    assert image.size == draw(sheet(plain, notes=[""])).size


def test_the_thumbnail_is_small_whatever_is_drawn() -> None:
    noise = np.random.default_rng(3).integers(0, 255, (512, 512, 3)).astype(np.uint8)
    image = draw(sheet(Panel(noise, ""), panels=[Panel(noise, "")] * 9, vessels=[None] * 9))
    content = thumbnail(image)
    assert len(content) * 4 / 3 < 60_000
    small = Image.open(io.BytesIO(content))
    assert small.format == "JPEG"
    assert small.width / small.height == pytest.approx(image.width / image.height, rel=0.02)
    assert Image.open(io.BytesIO(png(image))).size == image.size
