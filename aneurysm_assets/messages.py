"""How lists and texts become fit for a message: short, and in one line that no name can forge.

What a message says belongs elsewhere.
"""

from collections.abc import Sequence

MOST_NAMES = 10
"""Names in one sentence."""

MOST_LINES = 100
"""Names in a list that someone opens."""

_MOST_CHARACTERS = 300


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one: `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: object) -> str:
    """Return any text with an escape in place of each character that cannot be printed.

    Names of files, fields of a CSV and values of a header are anybody's: a newline in one would
    look like a line of ours, and a control sequence would reach the terminal.

    Parameters
    ----------
    text : object
        An exception stands for its message.

    Returns
    -------
    str
        One line, which any encoding of Unicode can hold. A backslash stays as it is.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def names_in_brief(names: Sequence[str], most: int = MOST_NAMES, more: str = "more") -> str:
    """Return the first names in one line: `a, b and 7 more`."""
    named = ", ".join(map(printable, names[:most]))
    return f"{named} and {len(names) - most} {more}" if len(names) > most else named


def lines_in_brief(names: Sequence[str], most: int = MOST_LINES, more: str = "more") -> list[str]:
    """Return the first names, and where there are others a last line such as `and 7 more`."""
    shown = [printable(name) for name in names[:most]]
    rest = len(names) - most
    return [*shown, f"and {rest} {more}"] if rest > 0 else shown


def one_line(text: object, most: int = _MOST_CHARACTERS) -> str:
    """Return the beginning of a text of any length, such as an exception's, in one line."""
    return printable(" ".join(str(text).split())[:most])
