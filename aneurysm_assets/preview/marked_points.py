"""Where the points of a series stand on its drawn picture, kept in the PNG as text."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

KEYWORD = "aneurysm_points"
"""Of the PNG's text."""

CLOSE_UP_MM = 40.0
"""Edge of the square around a point that is shown large: an aneurysm measures a few mm."""


@dataclass(frozen=True)
class MarkedPoint:
    """A point on a picture.

    Attributes
    ----------
    number : int
        From 1, as drawn beside its ring.
    location : str
        What the CSV calls it.
    left, top, right, bottom : int
        What lies around it, px of the picture; right and bottom are one beyond.
    """

    number: int
    location: str
    left: int
    top: int
    right: int
    bottom: int


def as_text(points: Sequence[MarkedPoint]) -> str:
    """Return the points as they are kept."""
    return json.dumps([asdict(point) for point in points])


def from_text(text: str, size: tuple[int, int]) -> list[MarkedPoint]:
    """Return the points that a picture of a size keeps.

    Raises
    ------
    ValueError
        The text is none of `as_text`, or a point lies beyond the picture.
    """
    try:
        points = [MarkedPoint(**point) for point in json.loads(text)]
        for point in points:
            across = 0 <= point.left < point.right <= size[0]
            down = 0 <= point.top < point.bottom <= size[1]
            if not across or not down or not isinstance(point.location, str):
                raise ValueError(f"point {point.number} is not on the picture")
    except (TypeError, RecursionError) as error:
        raise ValueError(f"{KEYWORD} does not describe points: {error}") from error
    return points
