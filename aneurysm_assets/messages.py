"""How long lists and texts become short enough for a message; what it says belongs elsewhere."""

from collections.abc import Sequence

MOST_NAMES = 10
"""Names in one sentence."""

MOST_LINES = 100
"""Names in a list that someone opens."""

_MOST_CHARACTERS = 300


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one: `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def names_in_brief(names: Sequence[str], most: int = MOST_NAMES, more: str = "more") -> str:
    """Return the first names in one line: `a, b and 7 more`."""
    named = ", ".join(names[:most])
    return f"{named} and {len(names) - most} {more}" if len(names) > most else named


def lines_in_brief(names: Sequence[str], most: int = MOST_LINES, more: str = "more") -> list[str]:
    """Return the first names, and where there are others a last line such as `and 7 more`."""
    rest = len(names) - most
    return [*names[:most], f"and {rest} {more}"] if rest > 0 else list(names)


def one_line(text: object, most: int = _MOST_CHARACTERS) -> str:
    """Return the beginning of a text of any length, such as an exception's, in one line."""
    return " ".join(str(text).split())[:most]
