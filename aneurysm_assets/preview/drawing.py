"""The panels of a series on one sheet, drawn with Pillow."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aneurysm_assets.preview.marked_points import CLOSE_UP_MM, KEYWORD, MarkedPoint, as_text
from aneurysm_assets.preview.overlay import Labels
from aneurysm_assets.preview.panels import Panel
from aneurysm_assets.schema.columns import VESSEL_CLASSES
from aneurysm_assets.volumes.directions import Floats

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

BOX = 384
"""Edge of the square that a panel is fitted into, px."""

_COLUMNS = 3
_MARGIN = 10
_LINE = 18
_TEXT = 14
_LARGE = 17

_BACKGROUND, _INK, _FAINT = (14, 16, 19), (236, 238, 240), (160, 166, 173)
_MARK, _EDGE = (255, 214, 10), (0, 0, 0)
_RING = 11
_VESSEL_SHARE = 0.45

# Tableau's ten and three more; left and right differ as much as any two.
_COLOURS = np.array(
    [
        (78, 121, 167), (242, 142, 43), (225, 87, 89), (118, 183, 178), (89, 161, 79),
        (237, 201, 72), (176, 122, 161), (255, 157, 167), (156, 117, 95), (60, 200, 235),
        (130, 220, 90), (190, 90, 255), (255, 90, 200),
    ]
)  # fmt: skip

_THUMBNAIL_WIDTH = 640
_THUMBNAIL_BYTES = 30_000
_QUALITIES = (82, 74, 66, 58, 50, 40, 30)


@dataclass(frozen=True)
class Fitted:
    """How a panel becomes part of the sheet.

    Attributes
    ----------
    width, height : int
        Of the panel as drawn, px.
    scale_x, scale_y : float
        Pixels drawn for each pixel of the panel.
    """

    width: int
    height: int
    scale_x: float
    scale_y: float

    def drawn(self, x: float, y: float) -> tuple[float, float]:
        """Turn a place in the panel's pixels into one of the drawn panel; both count centres."""
        return (x + 0.5) * self.scale_x - 0.5, (y + 0.5) * self.scale_y - 0.5

    def panel_grid(self) -> tuple[Floats, Floats]:
        """Return the place in the panel's pixels, x and y, of each drawn pixel."""
        x = (np.arange(self.width) + 0.5) / self.scale_x - 0.5
        y = (np.arange(self.height) + 0.5) / self.scale_y - 0.5
        return np.broadcast_arrays(x[None, :], y[:, None])  # type: ignore[return-value]


def fit(panel: Panel) -> Fitted:
    """Fit a panel into the box, in its physical proportions."""
    rows, columns = panel.pixels.shape[:2]
    size_x, size_y = panel.pixel_size or (1.0, 1.0)
    by = BOX / max(columns * size_x, rows * size_y)
    width = max(1, round(columns * size_x * by))
    height = max(1, round(rows * size_y * by))
    return Fitted(width, height, width / columns, height / rows)


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is drawn.

    Attributes
    ----------
    heading, subheading : str
        Two lines at the top.
    panels : sequence of Panel
        In rows of three.
    vessels : sequence of ndarray or None
        For each panel the label of each drawn pixel, if there is a segmentation.
    breaks : int
        Panels before this one are the first group; the others begin a row of their own.
    notes : sequence of str
        Lines at the bottom.
    """

    heading: str
    subheading: str
    panels: Sequence[Panel]
    vessels: Sequence[Labels | None]
    breaks: int
    notes: Sequence[str] = ()


def draw(sheet: Sheet) -> "Image.Image":
    """Draw a sheet.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415 - an extra, and heavy

    fitted = [fit(panel) for panel in sheet.panels]
    places, y = _places(sheet, fitted)
    legend = _legend(sheet)
    width = _COLUMNS * BOX + (_COLUMNS + 1) * _MARGIN
    bottom = _LINE * (len(sheet.notes) + len(legend)) + _MARGIN
    image = Image.new("RGB", (width, y + bottom), _BACKGROUND)
    pen = ImageDraw.Draw(image)
    _write(pen, (_MARGIN, _MARGIN), sheet.heading, _INK, _LARGE)
    _write(pen, (_MARGIN, _MARGIN + _LINE + 3), sheet.subheading, _FAINT)
    drawn = zip(places, sheet.panels, fitted, sheet.vessels, strict=True)
    for place, panel, panel_fitted, vessels in drawn:
        _draw_panel(image, place, panel, panel_fitted, vessels)
    for entries in legend:
        x = _MARGIN
        for label in entries:
            pen.rectangle((x, y + 3, x + 11, y + 14), fill=tuple(_COLOURS[label - 1].tolist()))
            _write(pen, (x + 16, y), VESSEL_CLASSES[label - 1], _INK)
            x += width // _COLUMNS
        y += _LINE
    for note in sheet.notes:
        _write(pen, (_MARGIN, y), _shortened(pen, note, width - 2 * _MARGIN), _FAINT)
        y += _LINE
    return image


def marked_points(sheet: Sheet) -> list[MarkedPoint]:
    """Return where the marked points stand on the sheet, each where it is drawn largest."""
    fitted = [fit(panel) for panel in sheet.panels]
    places, _ = _places(sheet, fitted)
    found: dict[int, tuple[float, MarkedPoint]] = {}
    for place, panel, drawn in zip(places, sheet.panels, fitted, strict=True):
        left, top = _corner(place, drawn)
        for mark in panel.marks:
            x, y = drawn.drawn(mark.x, mark.y)
            reach = _reach(panel, drawn)
            box = (
                left + max(0, round(x - reach)),
                top + max(0, round(y - reach)),
                left + min(drawn.width, round(x + reach) + 1),
                top + min(drawn.height, round(y + reach) + 1),
            )
            known = found.get(mark.number)
            if known is None or known[0] < drawn.scale_x:
                point = MarkedPoint(mark.number, mark.location, *box)
                found[mark.number] = drawn.scale_x, point
    return [point for _, point in found.values()]


def _reach(panel: Panel, drawn: Fitted) -> float:
    """Return half the edge of a crop, px drawn: a length in mm where pixels have a size."""
    if panel.pixel_size is None:
        return BOX / 8
    return CLOSE_UP_MM / 2 / panel.pixel_size[0] * drawn.scale_x


def png(image: "Image.Image", points: Sequence[MarkedPoint] = ()) -> bytes:
    """Return a picture as PNG, which keeps where its points are."""
    from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415

    kept = PngInfo()
    kept.add_text(KEYWORD, as_text(points))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6, pnginfo=kept)
    return buffer.getvalue()


def thumbnail(image: "Image.Image") -> bytes:
    """Return a small JPEG of a picture, as good as 30 kB allow: metadata are kept in a database."""
    small = image.copy()
    small.thumbnail((_THUMBNAIL_WIDTH, 2 * _THUMBNAIL_WIDTH))
    content = b""
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        content = buffer.getvalue()
        if len(content) <= _THUMBNAIL_BYTES:
            break
    return content


def _rows(sheet: Sheet) -> list[list[int]]:
    groups = range(sheet.breaks), range(sheet.breaks, len(sheet.panels))
    return [
        list(group[start : start + _COLUMNS])
        for group in groups
        for start in range(0, len(group), _COLUMNS)
    ]


def _places(sheet: Sheet, fitted: Sequence[Fitted]) -> tuple[list[tuple[int, int]], int]:
    """Return the upper left corner of each panel's square, and where the last row ends."""
    places: list[tuple[int, int]] = []
    y = 2 * _LINE + 2 * _MARGIN
    for row in _rows(sheet):
        places += [(_MARGIN + column * (BOX + _MARGIN), y) for column in range(len(row))]
        y += _row_height(row, sheet.panels, fitted)
    return places, y


def _corner(place: tuple[int, int], fitted: Fitted) -> tuple[int, int]:
    """Return the upper left corner of a panel in its square."""
    return place[0] + (BOX - fitted.width) // 2, place[1]


def _row_height(row: list[int], panels: Sequence[Panel], fitted: Sequence[Fitted]) -> int:
    pictures = max(fitted[number].height for number in row)
    captions = max(1 + len(panels[number].marks) for number in row)
    return pictures + captions * _LINE + _MARGIN


def _legend(sheet: Sheet) -> list[list[int]]:
    """Return the labels that are in sight, in lines."""
    seen = sorted(
        {int(v) for labels in sheet.vessels if labels is not None for v in np.unique(labels)}
    )
    named = [label for label in seen if 1 <= label <= len(VESSEL_CLASSES)]
    return [named[start : start + _COLUMNS] for start in range(0, len(named), _COLUMNS)]


def _draw_panel(
    image: "Image.Image",
    place: tuple[int, int],
    panel: Panel,
    fitted: Fitted,
    vessels: Labels | None,
) -> None:
    from PIL import Image, ImageDraw  # noqa: PLC0415

    pen = ImageDraw.Draw(image)
    left, top = _corner(place, fitted)
    picture = Image.fromarray(np.ascontiguousarray(panel.pixels)).convert("RGB")
    picture = picture.resize((fitted.width, fitted.height), Image.Resampling.BICUBIC)
    if vessels is not None:
        picture = Image.fromarray(tint(np.asarray(picture), vessels))
    image.paste(picture, (left, top))
    if panel.letters:
        _write_letters(pen, (left, top, fitted.width, fitted.height), panel.letters)
    caption = place[1] + fitted.height + 1
    _write(pen, (place[0], caption), panel.title, _FAINT)
    # Marks are drawn on the panel's own part of the sheet: none reaches into its neighbours.
    own = image.crop((left, top, left + fitted.width, top + fitted.height))
    for line, mark in enumerate(panel.marks, start=1):
        _mark(ImageDraw.Draw(own), fitted.drawn(mark.x, mark.y), own.size, mark.number)
        text = _shortened(pen, f"{mark.number}  {mark.location}", BOX)
        _write(pen, (place[0], caption + line * _LINE), text, _MARK)
    image.paste(own, (left, top))


def tint(picture: Any, labels: Labels) -> Any:  # noqa: ANN401 - arrays of uint8
    """Colour the pixels of an RGB picture (uint8) that have a label."""
    tinted = picture.copy()
    labelled = (labels >= 1) & (labels <= len(_COLOURS))
    colours = _COLOURS[labels[labelled] - 1]
    tinted[labelled] = (1 - _VESSEL_SHARE) * picture[labelled] + _VESSEL_SHARE * colours
    return tinted


def _mark(
    pen: "ImageDraw.ImageDraw", place: tuple[float, float], size: tuple[int, int], number: int
) -> None:
    """Draw a ring about a point, and its number beside; the point itself stays in sight."""
    x, y = place
    for radius, colour, thick in ((_RING + 1, _EDGE, 4), (_RING, _MARK, 2)):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=thick)
    text = str(number)
    width = round(pen.textlength(text, font=_font(_TEXT)))
    right = round(x + _RING + 3)
    # At the panel's right or upper edge the number stands on the other side of the ring.
    beside = right if right + width <= size[0] else round(x - _RING - 3 - width)
    above = round(y - _RING - 10)
    _write(pen, (beside, above if above >= 0 else round(y + _RING - 4)), text, _MARK, edge=True)


def _write_letters(
    pen: "ImageDraw.ImageDraw", box: tuple[int, int, int, int], letters: Sequence[str]
) -> None:
    left, top, width, height = box
    middle_x, middle_y = left + width // 2, top + height // 2
    places = (
        (left + 4, middle_y, "lm"),
        (left + width - 4, middle_y, "rm"),
        (middle_x, top + 4, "mt"),
        (middle_x, top + height - 4, "mb"),
    )
    for (x, y, anchor), letter in zip(places, letters, strict=True):
        _write(pen, (x, y), letter, _INK, anchor=anchor, edge=True)


def _write(
    pen: "ImageDraw.ImageDraw",
    place: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    size: int = _TEXT,
    *,
    anchor: str = "la",
    edge: bool = False,
) -> None:
    pen.text(
        place,
        text,
        fill=colour,
        font=_font(size),
        anchor=anchor,
        stroke_width=2 if edge else 0,
        stroke_fill=_EDGE,
    )


def _font(size: int) -> Any:  # noqa: ANN401 - one of two classes of Pillow
    from PIL import ImageFont  # noqa: PLC0415

    return ImageFont.load_default(size)


def _shortened(pen: "ImageDraw.ImageDraw", text: str, width: int) -> str:
    """Return text that fits one line."""
    text = "".join(character if character.isprintable() else " " for character in text)
    if pen.textlength(text, font=_font(_TEXT)) <= width:
        return text
    while text and pen.textlength(f"{text}...", font=_font(_TEXT)) > width:
        text = text[:-1]
    return f"{text}..."
