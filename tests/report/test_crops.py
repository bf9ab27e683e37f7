"""Crops around points, from pictures that keep where their points are."""

import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from aneurysm_assets.preview.drawing import png
from aneurysm_assets.preview.marked_points import KEYWORD, MarkedPoint
from aneurysm_assets.report import crops
from aneurysm_assets.report.crops import take_crops
from tests.report.test_numbers import ACOM, TIP

RED, GREEN = (255, 0, 0), (0, 255, 0)
IN_RED, IN_GREEN = (0, 0, 40, 40), (60, 60, 100, 100)


def picture(*points: MarkedPoint) -> bytes:
    """Return a picture with a red and a green corner."""
    image = Image.new("RGB", (100, 100))
    image.paste(RED, IN_RED)
    image.paste(GREEN, IN_GREEN)
    return png(image, points)


def colours(sheet) -> list[tuple[str, tuple[int, ...]]]:
    found = []
    for crop in sheet.crops:
        pixel = Image.open(io.BytesIO(crop.jpeg)).getpixel((20, 20))
        found.append((crop.location, tuple(255 * (value > 128) for value in pixel)))
    return found


def test_each_point_is_cut_where_its_picture_says_it_is() -> None:
    drawn = {"1": picture(MarkedPoint(1, TIP, *IN_RED), MarkedPoint(2, ACOM, *IN_GREEN))}
    sheet = take_crops({ACOM: ["1"], TIP: ["1"]}, drawn.keys(), drawn.__getitem__)
    assert colours(sheet) == [(ACOM, GREEN), (TIP, RED)]
    assert [(crop.series, crop.number) for crop in sheet.crops] == [("1", 2), ("1", 1)]


def test_locations_take_turns_and_no_more_are_cut_than_the_page_bears(monkeypatch) -> None:
    monkeypatch.setattr(crops, "MOST_CROPS", 3)
    drawn = dict.fromkeys("123", picture(MarkedPoint(1, TIP, *IN_RED)))
    drawn["4"] = picture(MarkedPoint(1, ACOM, *IN_RED))
    sheet = take_crops({TIP: list("123"), ACOM: ["4"]}, drawn.keys(), drawn.__getitem__)
    assert [crop.series for crop in sheet.crops] == ["1", "4", "2"]


def test_what_cannot_be_cut_is_counted_by_its_reason() -> None:
    plain = io.BytesIO()
    Image.new("RGB", (9, 9)).save(plain, "PNG")
    drawn = {"old": plain.getvalue(), "broken": b"no PNG", "cut": picture()[:60]}
    sheet = take_crops({TIP: ["none", *drawn]}, drawn.keys(), drawn.__getitem__)
    assert (sheet.crops, sheet.series, sheet.without_picture) == ((), 4, 1)
    assert (sheet.without_points, sheet.unreadable) == (1, 2)


def test_a_picture_that_is_gone_meanwhile_is_one_that_cannot_be_read() -> None:
    def gone(series: str) -> bytes:
        raise FileNotFoundError(series)

    assert take_crops({TIP: ["1"]}, {"1"}, gone).unreadable == 1


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "7",
        "[7]",
        '[{"number": 1}]',
        '[{"number": 1, "location": "x", "left": 0, "top": 0, "right": 101, "bottom": 9}]',
        '[{"number": 1, "location": "x", "left": 5, "top": 0, "right": 5, "bottom": 9}]',
        '[{"number": 1, "location": 7, "left": 0, "top": 0, "right": 5, "bottom": 9}]',
    ],
)
def test_a_picture_that_keeps_something_else_is_not_cut(kept) -> None:
    text, buffer = PngInfo(), io.BytesIO()
    text.add_text(KEYWORD, kept)
    Image.new("RGB", (100, 100)).save(buffer, "PNG", pnginfo=text)
    sheet = take_crops({TIP: ["1"], "x": ["1"]}, {"1"}, lambda _: buffer.getvalue())
    assert (sheet.crops, sheet.unreadable) == ((), 1)
