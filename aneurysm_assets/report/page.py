"""The report as one HTML file that needs nothing else: no script, no font, no network."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from urllib.parse import quote

import polars as pl

from aneurysm_assets.preview.marked_points import CLOSE_UP_MM
from aneurysm_assets.report import plots
from aneurysm_assets.report.crops import ContactSheet, Crop
from aneurysm_assets.report.grids import (
    Grid,
    by_age,
    by_location,
    crossed,
    positions,
    prevalence,
    summed,
    together,
)
from aneurysm_assets.report.listed import Listed
from aneurysm_assets.report.markup import STYLE, Html, escaped, prose, table_of
from aneurysm_assets.report.numbers import AGE, MODALITY, SEX, Check, Missing, Numbers
from aneurysm_assets.report.positions import OTHER_LOCATION, REACH_MM, Positions
from aneurysm_assets.schema.columns import LOCATIONS, SERIES_KEY
from aneurysm_assets.schema.tables import SERIES_PREVIEW, SERIES_QUALITY

_SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)

_PROJECTIONS: tuple[tuple[str, str, str, tuple[str, str, str, str]], ...] = (
    ("axial", "left", "-posterior", ("right", "left", "posterior", "anterior")),
    ("coronal", "left", "superior", ("right", "left", "inferior", "superior")),
    ("sagittal", "posterior", "superior", ("anterior", "posterior", "inferior", "superior")),
)
"""Each as it is looked at: what grows to the right, what grows upwards, and the four ends."""

_UNLISTED = 5
"""Series that are named where they are no row of this page: their UIDs are long."""

_TAIL = 10
"""Last characters of a UID, by which a link names it."""


@dataclass(frozen=True)
class Age:
    """How old the report and its tables are.

    Attributes
    ----------
    made : datetime
        When the report was made, UTC.
    combined : datetime or None
        When `unified_metadata` was materialized, UTC; None where that is not recorded.
    is_up_to_date : bool
        Whether nothing that it is combined from is newer.
    """

    made: datetime
    combined: datetime | None
    is_up_to_date: bool


@dataclass(frozen=True)
class _Section:
    """A part of the page; already HTML."""

    title: str
    body: str


def make_page(
    numbers: Numbers,
    *,
    version: str,
    age: Age,
    pictures: Set[str] = frozenset(),
    contact_sheet: ContactSheet | None = None,
) -> str:
    """Make the report.

    Parameters
    ----------
    numbers : Numbers
        What it says.
    version : str
        Of this package.
    age : Age
        When it and its tables were made.
    pictures : set of str
        Series whose picture lies in `series_preview/` beside the page.
    contact_sheet : ContactSheet, optional
        What is around points.

    Returns
    -------
    str
        HTML. Whatever comes from the data is escaped.
    """
    modalities = plots.colours_of(_ranked(numbers.by_modality, MODALITY), first=3)
    values, parts = partial(_values, modalities), partial(_parts, modalities)
    labels = (
        _modalities(numbers),
        _ages(numbers),
        _prevalence(numbers),
        _locations(numbers),
        _together(numbers),
    )
    images = (
        values("Slices per series", numbers.slices, "slices", "images", logarithmic=True),
        values("Slice spacing", numbers.spacing, "a spacing", "mm, by positions"),
        values("Slice thickness", numbers.thickness, "a thickness", "mm, by the header"),
        values("Field of view", numbers.field_of_view, "a size", "mm, the image's longer edge"),
        parts("Matrix", numbers.matrices, "matrix", "rows x columns"),
        parts("Orientation", numbers.orientations, "orientation", "plane"),
        parts("Maker", numbers.makers, "maker", "the commonest spelling"),
    )
    rows = {uid: f"series-{n}" for n, uid in enumerate(numbers.listed.frame[SERIES_KEY], start=1)}
    listed = (
        _missing(numbers.missing, rows),
        _checks(numbers, rows),
        _listed(numbers.listed, rows, pictures),
    )
    points = (_positions(numbers.positions), _crops(contact_sheet or ContactSheet()))
    numbered = count(1)
    labels_html, points_html, images_html, listed_html = (
        "".join(_as_html(next(numbered), section) for section in sections)
        for sections in (labels, points, images, listed)
    )
    key = "".join(
        f"<div><dt>{name}</dt><dd>{many:,}</dd></div>"
        for name, many in (
            ("series", numbers.series),
            ("images", numbers.images),
            ("positive series", numbers.positive_series),
            ("aneurysm points", numbers.points),
            ("kinds of problem found", len(numbers.checks)),
        )
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>RSNA Intracranial Aneurysm: the data at hand</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>RSNA Intracranial Aneurysm: the data at hand</h1>
<p class="faint">Made {age.made:%Y-%m-%d %H:%M} UTC by aneurysm_assets {escaped(version)} from
<code>unified_metadata</code> and <code>series_quality</code>: {_tables_of(age)}</p>
<dl class="key">{key}</dl>
</header>
<main>
<div class="columns">
{labels_html}
</div>
{points_html}
<div class="columns">
{images_html}
</div>
{listed_html}
</main>
</body>
</html>
"""


def _tables_of(age: Age) -> str:
    when = f"tables of {age.combined:%Y-%m-%d %H:%M} UTC" if age.combined else "tables of no date"
    if age.is_up_to_date:
        return f"{when}."
    return (
        f'{when}. <b class="bad">They are not up to date</b>: series were taken since. Run '
        "<code>aneurysm-assets run</code>, or materialize both tables, then this report again."
    )


def _as_html(number: int, section: _Section) -> str:
    figures = count(1)
    body = _SVG.sub(
        lambda found: plots.with_own_names(found[0], f"f{number}-{next(figures)}"), section.body
    )
    return (
        f'<section aria-labelledby="h{number}">\n<h2 id="h{number}">{section.title}</h2>\n'
        f"{body}\n</section>"
    )


def _ranked(frame: pl.DataFrame, column: str) -> list[str]:
    """Return the kinds of a column of counts, the commonest first."""
    counts = frame.group_by(column).agg(pl.col("count").sum())
    return counts.sort("count", column, descending=[True, False])[column].to_list()


def _sexes(numbers: Numbers) -> Mapping[str, str]:
    return plots.colours_of(_ranked(numbers.by_modality, SEX))


def _modalities(numbers: Numbers) -> _Section:
    frame = numbers.by_modality
    return _drawn(
        "Series by modality and sex",
        frame,
        lambda: plots.stacked(frame, MODALITY, SEX, "series", _sexes(numbers)),
        crossed(frame, MODALITY, SEX),
    )


def _ages(numbers: Numbers) -> _Section:
    frame = numbers.by_age
    return _drawn(
        "Series by age",
        frame,
        lambda: plots.columns(frame, AGE, SEX, "age in years", _sexes(numbers)),
        by_age(frame),
        "no series has an age: is there a train.csv?",
    )


def _locations(numbers: Numbers) -> _Section:
    frame = numbers.by_location
    drawn = frame.filter(pl.sum_horizontal("series", "points").sum() > 0)
    return _drawn(
        "Positives by location",
        drawn,
        lambda: plots.bars(drawn, "location", ("series", "points"), "series, and points on them"),
        by_location(drawn),
        "no series is positive, or there is no train.csv",
    )


def _prevalence(numbers: Numbers) -> _Section:
    frame = numbers.prevalence
    return _drawn(
        "Prevalence by age, sex and modality",
        frame,
        lambda: plots.intervals(frame),
        prevalence(frame),
        "no series has a label: is there a train.csv?",
        explained="Positive series among those whose label is known. Dots are the shares, lines "
        "their 95 % intervals (Wilson), wide where there are few series.",
    )


def _together(numbers: Numbers) -> _Section:
    grid = together(numbers.together)
    title = "Locations that occur together"
    if not grid.rows:
        return _Section(title, '<p class="faint">No series is positive at two locations.</p>')
    return _Section(title, table_of(grid.header, grid.rows))


def _positions(positions_: Positions) -> _Section:
    title, frame = "Where the points lie", positions_.frame
    if frame.is_empty():
        return _Section(title, '<p class="faint">Nothing to show: no point has a place.</p>')
    drawn = "".join(
        f"<div><h3>{name}</h3>"
        f"{_labelled(plots.projection(frame, across, up, ends), f'{title}, {name}')}</div>"
        for name, across, up, ends in _PROJECTIONS
    )
    shown = (name for name in (*LOCATIONS, OTHER_LOCATION) if name in set(frame["location"]))
    key = "".join(f"<li>{plots.mark_of(name)}{escaped(name)}</li>" for name in shown)
    caption = _caption(
        "Patient axes (LPS), mm from the centre of the point's own images: halfway between the "
        "outermost image centres of its group of one orientation, matrix and pixel spacing. "
        "Heads are not registered to each other: how the field of view was laid is part of the "
        f"scatter. {_left_out(positions_)} Circles are left, triangles right, squares in the "
        "middle; a location's mark is the same on all of the page."
    )
    grid = positions(frame)
    return _Section(
        title,
        f'<figure><div class="three">{drawn}</div><ul class="marks">{key}</ul>{caption}</figure>\n'
        f"{table_of(grid.header, grid.rows)}",
    )


def _crops(sheet: ContactSheet) -> _Section:
    title = "Points as drawn"
    told = f'<p class="faint">{_why_no_more(sheet)}</p>'
    if not sheet.crops:
        return _Section(title, told)
    crops = "".join(map(_crop, sheet.crops))
    return _Section(title, f'{told}\n<div class="crops">{crops}</div>')


def _crop(crop: Crop) -> str:
    data = base64.b64encode(crop.jpeg).decode("ascii")
    named = f"point {crop.number}, {crop.location}, of {crop.series}"
    return (
        f'<figure><img alt="{escaped(named)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{plots.mark_of(crop.location)}{escaped(crop.location)}<br>"
        f'<a href="{_path_of_picture(crop.series)}" title="{escaped(crop.series)}">'
        f"<code>{escaped(_shortened(crop.series))}</code></a></figcaption></figure>"
    )


def _why_no_more(sheet: ContactSheet) -> str:
    """Say where the crops are from, and why there are not more."""
    if not sheet.series:
        return "No series has a point."
    some = (
        f"{len(sheet.crops)} points, by turns from each location, cut from the pictures of their "
        f"series: {CLOSE_UP_MM:g} mm where the pixel spacing is known, less at an image's edge."
        if sheet.crops
        else "No point can be shown."
    )
    reasons = [
        f"{many:,} {why}."
        for many, why in (
            (
                sheet.without_picture,
                f"of {sheet.series:,} series with points have no picture: materialize "
                f"{SERIES_PREVIEW.name} for them",
            ),
            (
                sheet.without_points,
                "pictures were drawn by an earlier version, which did not keep where points are: "
                f"materialize {SERIES_PREVIEW.name} again",
            ),
            (sheet.unreadable, "pictures cannot be read"),
        )
        if many
    ]
    return " ".join([some, *reasons])


def _left_out(found: Positions) -> str:
    """Say how many points are drawn, and why not the others."""
    drawn = found.frame.height
    whole = drawn + found.without_place + found.out_of_reach
    reasons = [
        f"{many:,} {why}"
        for many, why in (
            (found.without_place, "without a place in mm, or on images that span no depth"),
            (found.out_of_reach, f"further than {REACH_MM:g} mm from the centre"),
        )
        if many
    ]
    return f"{drawn:,} of {whole:,} points are drawn{''.join(f'; {r}' for r in reasons)}."


def _values(
    colours: Mapping[str, str],
    title: str,
    frame: pl.DataFrame,
    column: str,
    unit: str,
    *,
    logarithmic: bool = False,
) -> _Section:
    return _drawn(
        title,
        frame,
        lambda: plots.boxes(frame, MODALITY, unit, colours, logarithmic=logarithmic),
        summed(frame),
        f"no series has {column}",
        explained="Boxes hold the middle half of the series, with the median; lines reach from "
        "2 to 98 %, dots are the series beyond.",
    )


def _parts(
    colours: Mapping[str, str], title: str, frame: pl.DataFrame, column: str, unit: str
) -> _Section:
    return _drawn(
        f"{title} by modality",
        frame,
        lambda: plots.stacked(frame, column, MODALITY, f"series ({unit})", colours),
        crossed(frame, column, MODALITY),
    )


def _drawn(
    title: str,
    frame: pl.DataFrame,
    draw: Callable[[], str],
    grid: Grid,
    nothing: str = "there are no series",
    *,
    explained: str = "",
) -> _Section:
    """Return a figure and its table, or a sentence where there is nothing to draw."""
    if frame.is_empty():
        return _Section(title, f'<p class="faint">Nothing to show: {nothing}.</p>')
    table = table_of(grid.header, grid.rows)
    caption = _caption(explained) if explained else ""
    return _Section(title, f"<figure>{_labelled(draw(), title)}{caption}</figure>\n{table}")


def _labelled(svg: str, title: str) -> str:
    """Name a figure for those who do not see it."""
    return svg.replace("<svg", f'<svg role="img" aria-label="{escaped(title)}; table below"', 1)


def _caption(text: str) -> str:
    return f'<figcaption class="faint">{text}</figcaption>'


def _missing(missing: Sequence[Missing], rows: Mapping[str, str]) -> _Section:
    lines = (
        (Html(escaped(item.what) + _named(item.series, item.count, rows)), item.count, item.of)
        for item in missing
    )
    return _Section("What is missing", table_of(("what", "count", "of"), lines))


def _checks(numbers: Numbers, rows: Mapping[str, str]) -> _Section:
    title = "What the checks found"
    if not numbers.checks:
        sentence = f"None of {numbers.checked} kinds of problem was found."
        return _Section(title, f"<p>{sentence}</p>")
    frame = pl.DataFrame({"check": [c.name for c in numbers.checks],
                          "series": [c.found for c in numbers.checks]})  # fmt: skip
    figure = plots.bars(frame, "check", ("series",), "series")
    lines = [(_check(check, rows), check.found, check.checked) for check in numbers.checks]
    ids = [f"check-{check.name}" for check in numbers.checks]
    table = table_of(("check", "series", "of"), lines, ids)
    return _Section(title, f"<figure>{_labelled(figure, title)}</figure>\n{table}")


def _check(check: Check, rows: Mapping[str, str]) -> Html:
    severity = ' <b class="bad">ERROR</b>' if check.severity == "ERROR" else ""
    line = f"<code>{escaped(check.name)}</code>{severity}<br>{prose(check.description)}"
    return Html(line + _named(check.series, check.found, rows))


def _named(series: Sequence[str], many: int, rows: Mapping[str, str]) -> str:
    """Name the first of some series: by links to their rows, else by their whole UIDs."""
    links = [
        f'<a href="#{rows[uid]}" title="{escaped(uid)}"><code>{escaped(_shortened(uid))}</code></a>'
        for uid in series
        if uid in rows
    ]
    others = [f"<code>{escaped(uid)}</code>" for uid in series if uid not in rows][:_UNLISTED]
    if not links and not others:
        return ""
    left = many - len(links) - len(others)
    more = [f"and {left:,} more"] if left > 0 else []
    return f'<span class="named">{" ".join([*links, *others, *more])}</span>'


def _shortened(uid: str) -> str:
    return uid if len(uid) <= _TAIL + 4 else f"\u2026{uid[-_TAIL:]}"


def _listed(listed: Listed, rows: Mapping[str, str], pictures: Set[str]) -> _Section:
    title = "Series with problems"
    if listed.frame.is_empty():
        return _Section(title, "<p>No series has a problem.</p>")
    left = listed.total - listed.frame.height
    rest = (
        f"The first {listed.frame.height:,} of {listed.total:,} series, those with errors and with "
        f"many problems before the others; the other {left:,} are"
        if left
        else f"All {listed.total:,} of them are also"
    )
    drawn = any(uid in pictures for uid in rows)
    beside = f" Pictures are in <code>{SERIES_PREVIEW.name}</code> beside this page." * drawn
    sentence = (
        f"{rest} in <code>{SERIES_QUALITY.name}</code>, which has a column per problem: a filter "
        f"on it excludes series; none is left out of the tables by itself.{beside}"
    )
    lines = [
        (Html(f"<code>{escaped(uid)}</code>{_picture(uid, pictures)}"), modality, _links(problems))
        for uid, modality, problems in listed.frame.iter_rows()
    ]
    table = table_of(("series", MODALITY, "problems"), lines, list(rows.values()))
    return _Section(title, f'<p class="faint">{sentence}</p>\n{table}')


def _picture(uid: str, pictures: Set[str]) -> str:
    if uid not in pictures:
        return ""
    return f' <a href="{_path_of_picture(uid)}">picture</a>'


def _path_of_picture(uid: str) -> str:
    return escaped(quote(f"{SERIES_PREVIEW.name}/{uid}.png"))


def _links(problems: Sequence[str]) -> Html:
    return Html(", ".join(f'<a href="#check-{name}"><code>{name}</code></a>' for name in problems))
