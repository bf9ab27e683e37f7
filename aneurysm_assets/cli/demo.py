"""What `aneurysm-assets demo` shows: the sample, one line per series, and what to open next."""

from collections.abc import Iterator
from shlex import quote
from time import monotonic

import polars as pl

from aneurysm_assets.cli.program import command_name
from aneurysm_assets.cli.runner import draw, run
from aneurysm_assets.cli.summary import Summary
from aneurysm_assets.runs.resources import NullReporter
from aneurysm_assets.sample import write_sample
from aneurysm_assets.sample.place import MARKER
from aneurysm_assets.sample.small import HEAD
from aneurysm_assets.schema.columns import ANEURYSM_PRESENT, SERIES_KEY
from aneurysm_assets.schema.tables import DATASET_REPORT, SERIES_PREVIEW
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.unified.one_file import scan_per_series

Line = tuple[str, str | None]
"""A text, and its colour on a terminal."""

_UNKNOWN = "-"
_NUMBERS = ("images", "spacing mm", "age", "points")


def demo(settings: Settings) -> Iterator[Line]:
    """Make everything of the sample below a data root, and tell what there is.

    Parameters
    ----------
    settings : Settings
        Those of the environment, which Dagster's side reads too.

    Yields
    ------
    tuple of str and str or None
        A line as soon as it is true, and its colour.

    Raises
    ------
    InputError
        What is below the data root cannot be used, or is not the sample.
    """
    raw = settings.data / "raw"
    begun = monotonic()
    if (raw / MARKER).is_file():
        yield f"{raw} is there: it is used as it is", None
    else:
        write_sample(settings.data, with_head=True)
        yield f"wrote a sample of made-up and public series to {raw} ({_since(begun)})", None
    begun = monotonic()
    summary = run(settings, NullReporter())
    yield from _problems(summary)
    known = summary.materialized + summary.skipped
    yield f"read the headers, labels and points of {known} series ({_since(begun)})", None
    begun = monotonic()
    drawn = draw(settings, NullReporter())
    yield from _problems(drawn)
    if not drawn.problems:
        yield f"drew their pictures and the report ({_since(begun)})", None
    if summary.table:
        yield "", None
        yield from series_lines(series_rows(settings))
    yield "", None
    yield from _next(settings)


def series_rows(settings: Settings) -> pl.DataFrame:
    """Return ten columns of one row per series, as text."""
    matrix = pl.concat_str("Rows", pl.lit(" x "), "Columns")
    return (
        scan_per_series(settings)
        .select(
            series=pl.lit("…") + pl.col(SERIES_KEY).str.tail(8),
            modality="Modality_train",
            images="images",
            matrix=matrix,
            plane="orientation_plane",
            age="PatientAge",
            sex="PatientSex",
            aneurysm=pl.col(ANEURYSM_PRESENT).replace_strict({0: "no", 1: "yes"}, default=None),
            points="points",
            **{"spacing mm": pl.col("slice_spacing_mm").round(2)},
        )
        .select(
            *("series", "modality", "images", "matrix", "spacing mm"),
            *("plane", "age", "sex", "aneurysm", "points"),
        )
        .with_columns(pl.all().cast(pl.String).fill_null(_UNKNOWN))
        .collect()
    )


def series_lines(rows: pl.DataFrame) -> Iterator[Line]:
    """Yield a heading and a line per row, in columns; positives stand out."""
    widths = {
        name: max(len(name), *map(len, rows[name])) if rows.height else len(name)
        for name in rows.columns
    }

    def line(values: dict[str, str]) -> str:
        cells = (
            value.rjust(widths[name]) if name in _NUMBERS else value.ljust(widths[name])
            for name, value in values.items()
        )
        return "  ".join(cells).rstrip()

    yield line({name: name for name in rows.columns}), "cyan"
    for row in rows.iter_rows(named=True):
        yield line(row), "yellow" if row["aneurysm"] == "yes" else None


def _problems(summary: Summary) -> Iterator[Line]:
    for problem in summary.problems:
        yield str(problem), "red"


def _next(settings: Settings) -> Iterator[Line]:
    table = find_table(settings.unified_table)
    report = settings.interim / f"{DATASET_REPORT.name}.html"
    picture = settings.interim / SERIES_PREVIEW.name / f"{HEAD.uid}.png"
    yield "Three things to open:", "cyan"
    if table is not None:
        yield f"  the table   {table}", "green"
    if report.exists():
        yield f"  the report  {report}", "green"
    yield f"  Dagster     {command_name()} ui --data {quote(str(settings.data))}", "green"
    if picture.exists():
        yield f"and a head with two aneurysms: {picture}", None


def _since(begun: float) -> str:
    return f"{monotonic() - begun:.0f} s"
