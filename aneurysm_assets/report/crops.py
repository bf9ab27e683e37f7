"""What is around the points, cut from the drawn pictures: nothing is decoded anew."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from aneurysm_assets.preview.marked_points import KEYWORD, MarkedPoint, from_text

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_CROPS = 48
"""Of some 7 kB each."""

_MOST_READ = 3 * MOST_CROPS
"""Pictures that are opened: those of an earlier version keep no points."""

_EDGE = 192
_QUALITY = 80


@dataclass(frozen=True)
class Crop:
    """What is around a point.

    Attributes
    ----------
    series, location : str
        Of the point.
    number : int
        Of the point, as in the picture.
    jpeg : bytes
        The pixels.
    """

    series: str
    location: str
    number: int
    jpeg: bytes


@dataclass(frozen=True)
class ContactSheet:
    """Crops, and why there are no more.

    Attributes
    ----------
    crops : tuple of Crop
        One location after the other, by turns.
    series : int
        Series with points.
    without_picture : int
        Those of them without a picture.
    without_points : int
        Opened pictures that do not keep where their points are.
    unreadable : int
        Pictures that could not be opened.
    """

    crops: tuple[Crop, ...] = ()
    series: int = 0
    without_picture: int = 0
    without_points: int = 0
    unreadable: int = 0


def take_crops(
    series_of: Mapping[str, Sequence[str]], pictures: Set[str], read: Callable[[str], bytes]
) -> ContactSheet:
    """Cut crops around points, by turns from each location.

    Parameters
    ----------
    series_of : mapping of str to sequence of str
        The series that have a point, by location.
    pictures : set of str
        Series that have a picture.
    read : callable
        Returns the picture of a series, or raises OSError.
    """
    cutter = _Cutter(read)
    crops: list[Crop] = []
    for location, series in _by_turns(series_of):
        if len(crops) == MOST_CROPS:
            break
        if series in pictures and (crop := cutter.cut(series, location)) is not None:
            crops.append(crop)
    everything = set(chain.from_iterable(series_of.values()))
    return ContactSheet(
        crops=tuple(crops),
        series=len(everything),
        without_picture=len(everything - pictures),
        without_points=cutter.without_points,
        unreadable=cutter.unreadable,
    )


def _by_turns(series_of: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield the first series of each location, then the second of each, and so on."""
    for turn in zip_longest(*series_of.values()):
        for location, series in zip(series_of, turn, strict=True):
            if series is not None:
                yield location, series


class _Cutter:
    """Opens each picture once."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self.without_points = self.unreadable = 0
        self._read = read
        self._opened: dict[str, dict[MarkedPoint, bytes]] = {}

    def cut(self, series: str, location: str) -> Crop | None:
        """Return what is around the first point of a location."""
        if series not in self._opened:
            if len(self._opened) == _MOST_READ:
                return None
            self._opened[series] = self._open(series)
        for point, jpeg in self._opened[series].items():
            if point.location == " ".join(location.split()):
                return Crop(series, location, point.number, jpeg)
        return None

    def _open(self, series: str) -> dict[MarkedPoint, bytes]:
        from PIL import Image  # noqa: PLC0415 - comes with matplotlib, and is heavy

        try:
            with Image.open(io.BytesIO(self._read(series)), formats=("PNG",)) as picture:
                picture.load()
                text = picture.info.get(KEYWORD)
                if text is None:
                    self.without_points += 1
                    return {}
                return {point: _jpeg(picture, point) for point in from_text(text, picture.size)}
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self.unreadable += 1
            return {}


def _jpeg(picture: "Image", point: MarkedPoint) -> bytes:
    own = picture.crop((point.left, point.top, point.right, point.bottom)).convert("RGB")
    own.thumbnail((_EDGE, _EDGE))
    buffer = io.BytesIO()
    own.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
