"""Figures as inline SVG: colours are left to the page, so that they follow light and dark.

matplotlib's objects are used without pyplot, which keeps figures in a global list.
"""

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ParamSpec

import polars as pl

from aneurysm_assets.report.positions import AXES, OTHER_LOCATION
from aneurysm_assets.schema.columns import LOCATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

_WIDTH = 4.7
"""Inches. Scaled to a phone's width, text of 10 points can still be read."""

_PROJECTION = 3.4
"""Inches; of which three stand side by side."""

_SHAPES = {"Left": "o", "Right": "^", "middle": "s"}
_GLYPHS = {"Left": "\u25cf", "Right": "\u25b2", "middle": "\u25a0"}

_ROW = 0.3
_LABEL = 24

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aneurysm_assets",
    "text.parse_math": False,  # a dollar sign in a CSV is no formula
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}

# Colours that stand for a variable of the page; matplotlib wants numbers.
_INK, _FAINT = "#000001", "#000002"
_SERIES = tuple(f"#00000{digit}" for digit in "3456789")
_LOCATION_COLOURS = {
    name: f"#0001{number:02}" for number, name in enumerate((*LOCATIONS, OTHER_LOCATION), start=1)
}
_NEUTRAL = ("#000201", "#000202")
"""Of bars that tell no kinds apart."""

_VARIABLES = {
    **{colour: f"var(--n{number})" for number, colour in enumerate(_NEUTRAL, start=1)},
    **{colour: f"var(--l{int(colour[5:])})" for colour in _LOCATION_COLOURS.values()},
    _INK: "currentColor",
    _FAINT: "var(--rule)",
    **{colour: f"var(--c{number})" for number, colour in enumerate(_SERIES, start=1)},
}


def _styled(draw: Callable[P, str]) -> Callable[P, str]:
    """Draw under the settings of this module, and leave matplotlib's own as they were."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> str:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and heavy

        with mpl.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return styled


@_styled
def bars(frame: pl.DataFrame, label: str, values: Sequence[str], unit: str) -> str:
    """Draw horizontal bars side by side, one per value column, one group per row.

    Parameters
    ----------
    frame : pl.DataFrame
        Rows from top to bottom.
    label : str
        The column that names a row.
    values : sequence of str
        One or two number columns.
    unit : str
        What is counted: the axis' label.

    Returns
    -------
    str
        An SVG element.
    """
    lines = _longest_lines(frame[label])
    figure, axes = _figure(frame.height * max(1.0, 0.6 * len(values)), lines)
    height = 0.8 / len(values)
    for number, column in enumerate(values):
        places = [row - 0.4 + height * (number + 0.5) for row in range(frame.height)]
        drawn = axes.barh(
            places, frame[column].to_list(), height, color=_NEUTRAL[number], label=column
        )
        axes.bar_label(drawn, padding=3, color=_INK, fontsize=9)
    _name_rows(axes, frame[label].to_list())
    axes.locator_params(axis="x", integer=True)
    return _finish(figure, axes, unit, legend=len(values) > 1)


@_styled
def stacked(
    frame: pl.DataFrame, label: str, part: str, unit: str, colours: Mapping[str, str]
) -> str:
    """Draw horizontal bars of parts, from long form: `label`, `part` and `count`.

    Parameters
    ----------
    frame : pl.DataFrame
        Rows from top to bottom.
    label, part : str
        Columns that name a row, and a part of its bar.
    unit : str
        What is counted: the axis' label.
    colours : mapping of str to str
        Of the parts, by `colours_of`.

    Returns
    -------
    str
        An SVG element.
    """
    rows = frame[label].unique(maintain_order=True).to_list()
    parts = _in_order(frame[part], colours)
    figure, axes = _figure(len(rows), _longest_lines(frame[label]))
    before = [0] * len(rows)
    counts = {(row[label], row[part]): row["count"] for row in frame.to_dicts()}
    for name in parts:
        values = [counts.get((row, name), 0) for row in rows]
        axes.barh(range(len(rows)), values, 0.7, left=before, color=colours[name], label=name)
        before = [below + value for below, value in zip(before, values, strict=True)]
    for row, total in enumerate(before):
        axes.annotate(
            f"{total:,}", (total, row), (4, 0), textcoords="offset points", va="center",
            color=_INK, fontsize=9,
        )  # fmt: skip
    _name_rows(axes, rows)
    axes.locator_params(axis="x", integer=True)
    return _finish(figure, axes, unit, legend=len(parts) > 1)


@_styled
def columns(
    frame: pl.DataFrame, label: str, part: str, unit: str, colours: Mapping[str, str]
) -> str:
    """Draw upright bars of parts along a number, from long form as in `stacked`."""
    places = sorted(frame[label].unique())
    step = min((b - a for a, b in pairwise(places)), default=10)
    figure, axes = _figure(9, 0)
    counts = {(row[label], row[part]): row["count"] for row in frame.to_dicts()}
    before = [0] * len(places)
    for name in _in_order(frame[part], colours):
        values = [counts.get((place, name), 0) for place in places]
        axes.bar(places, values, 0.92 * step, bottom=before, align="edge",
                 color=colours[name], label=name)  # fmt: skip
        before = [below + value for below, value in zip(before, values, strict=True)]
    axes.set_ylabel("series", color=_INK)
    axes.locator_params(axis="y", integer=True)
    return _finish(figure, axes, unit, legend=frame[part].n_unique() > 1, grid="y")


@_styled
def intervals(frame: pl.DataFrame) -> str:
    """Draw a share and its interval per kind, in percent, with a gap between groups.

    Parameters
    ----------
    frame : pl.DataFrame
        `group`, `kind`, `share`, `low` and `high`, from top to bottom.
    """
    groups = frame["group"].rle_id().to_list()
    places = [row + 0.6 * group for row, group in enumerate(groups)]
    figure, axes = _figure(places[-1] + 1, _longest_lines(frame["kind"]))
    shares = [100 * share for share in frame["share"]]
    below = [100 * (share - low) for share, low in frame.select("share", "low").iter_rows()]
    above = [100 * (high - share) for share, high in frame.select("share", "high").iter_rows()]
    axes.errorbar(
        shares, places, xerr=(below, above), fmt="o", markersize=5, color=_NEUTRAL[0],
        ecolor=_NEUTRAL[0], elinewidth=2, capsize=0, clip_on=False,
    )  # fmt: skip
    axes.set_yticks(places, [_wrapped(str(kind)) for kind in frame["kind"]])
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_xlim(-4, 104)
    return _finish(figure, axes, "% of series positive", legend=False)


@_styled
def boxes(
    frame: pl.DataFrame, label: str, unit: str, colours: Mapping[str, str], *, logarithmic: bool
) -> str:
    """Draw a box a kind, from `label` and `value`: quartiles, and whiskers from 2 to 98 %."""
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415

    kinds = frame.group_by(label).agg(pl.len()).sort("len", label, descending=True)[label].to_list()
    figure, axes = _figure(1.3 * len(kinds), _longest_lines(frame[label]))
    values = [frame.filter(pl.col(label) == kind)["value"].to_list() for kind in kinds]
    line = {"color": _INK, "linewidth": 1}
    drawn = axes.boxplot(
        values, orientation="horizontal", positions=range(len(kinds)), widths=0.55, whis=(2, 98),
        patch_artist=True, boxprops={"edgecolor": _INK, "linewidth": 1},
        medianprops={"color": _INK, "linewidth": 2}, whiskerprops=line, capprops=line,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": _INK},
    )  # fmt: skip
    for box, kind in zip(drawn["boxes"], kinds, strict=True):
        box.set_facecolor(colours[kind])
    _name_rows(axes, kinds)
    if logarithmic and min(frame["value"]) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    return _finish(figure, axes, unit, legend=False)


@_styled
def projection(frame: pl.DataFrame, across: str, up: str, ends: tuple[str, str, str, str]) -> str:
    """Draw points seen along an axis, each location in its colour and, by side, its shape.

    Parameters
    ----------
    frame : pl.DataFrame
        `location`, and a column in mm per axis.
    across, up : str
        Columns that grow to the right and upwards; after a minus sign `up` grows downwards.
    ends : tuple of str
        What lies to the left, to the right, below and above.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and heavy

    figure = Figure(figsize=(_PROJECTION, _PROJECTION), layout="constrained")
    axes = figure.add_subplot()
    down = up.startswith("-")
    for name, colour in _LOCATION_COLOURS.items():
        points = frame.filter(pl.col("location") == name)
        if not points.is_empty():
            xs, ys = points[across].to_list(), points[up.lstrip("-")].to_list()
            axes.plot(xs, ys, _SHAPES[side_of(name)], linestyle="none", markersize=4,
                      color=colour, markeredgewidth=0)  # fmt: skip
    reach = max(20.0, 1.08 * max(frame.select(pl.col(AXES).abs().max()).row(0)))
    axes.set(xlim=(-reach, reach), ylim=(reach, -reach) if down else (-reach, reach),
             aspect="equal")  # fmt: skip
    left, right, below, above = ends
    axes.set_ylabel(f"{below} ← mm → {above}", color=_INK)
    axes.grid(visible=True, axis="y", color=_FAINT, linewidth=0.6)
    return _finish(figure, axes, f"{left} ← mm → {right}", legend=False)


def colours_of(kinds: Sequence[str], *, first: int = 0) -> Mapping[str, str]:
    """Return a colour per kind, the same in each figure that is given them."""
    return {kind: _SERIES[(first + n) % len(_SERIES)] for n, kind in enumerate(kinds)}


def _in_order(parts: pl.Series, colours: Mapping[str, str]) -> list[str]:
    there = set(parts)
    return [name for name in colours if name in there]


def mark_of(location: object) -> str:
    """Return HTML of the mark that stands for a location; empty for anything else."""
    if location not in _LOCATION_COLOURS:
        return ""
    variable = _VARIABLES[_LOCATION_COLOURS[str(location)]]
    glyph = _GLYPHS[side_of(str(location))]
    return f'<span class="mark" aria-hidden="true" style="color: {variable}">{glyph}</span> '


def side_of(location: str) -> str:
    """Return the first word of a location where that is a side, else `middle`."""
    side = location.partition(" ")[0]
    return side if side in {"Left", "Right"} else "middle"


def _figure(rows: float, lines: int) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and heavy

    row = _ROW if lines < 2 else _ROW * 1.35
    figure = Figure(figsize=(_WIDTH, 0.9 + row * max(rows, 1.5)), layout="constrained")
    return figure, figure.add_subplot()


def _longest_lines(labels: pl.Series) -> int:
    return max((len(_wrapped(str(text)).splitlines()) for text in labels), default=1)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _LABEL, break_long_words=False)) or text


def _name_rows(axes: "Axes", names: Sequence[object]) -> None:
    axes.set_yticks(range(len(names)), [_wrapped(str(name)) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.12)


def _finish(figure: "Figure", axes: "Axes", unit: str, *, legend: bool, grid: str = "x") -> str:
    axes.set_xlabel(unit, color=_INK)
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis=grid, color=_FAINT, linewidth=0.6)  # type: ignore[arg-type]
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    if legend:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, labelcolor=_INK, fontsize=9)
    return _svg(figure)


def _svg(figure: "Figure") -> str:
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=unsaid)
    return _for_a_page(buffer.getvalue())


def _for_a_page(text: str) -> str:
    """Return matplotlib's SVG as an element of an HTML page, its colours as variables."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text


def with_own_names(svg: str, name: str) -> str:
    """Return an SVG whose ids are of one figure alone: a page has several."""
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
