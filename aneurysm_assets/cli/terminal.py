"""What a person reads in the terminal: lines in colour, the end of a run, the status.

The lines of a run that goes on belong to `progress`, the commands and their options to `main`.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from aneurysm_assets import settings as variables
from aneurysm_assets.cli.program import command_name
from aneurysm_assets.messages import MOST_NAMES, lines_in_brief, names_in_brief, printable

if TYPE_CHECKING:
    from aneurysm_assets.cli.run_log import RunLog
    from aneurysm_assets.cli.status import Overview
    from aneurysm_assets.cli.summary import Summary

_FREQUENT = 3
"""Kinds of problems that are named."""


def _no_color() -> bool:
    """Tell whether colours are unwanted even on a terminal (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def styled(text: str, colour: str | None) -> str:
    """Return a text in a colour, where colours are wanted."""
    # Where the output is no terminal, click.echo takes the colours out again.
    return text if colour is None or _no_color() else click.style(text, fg=colour)


def say(line: str, colour: str | None = None) -> None:
    """Print one line, whatever the names in it."""
    click.echo(styled(printable(line), colour))


def print_summary(summary: "Summary", log: "RunLog") -> None:
    """Print what a run did and where to look now; the log has the same lines."""
    for line, colour in summary_lines(summary):
        log.summary(line)
        say(line, colour)
    kept = printable(log.path if log.trouble is None else f"not whole: {log.trouble}")
    log.summary(f"{'log':>32}  {kept}")
    click.echo(f"{'log':>32}  {styled(kept, 'yellow' if log.trouble else None)}")
    click.echo(f"to see it in the Dagster UI: {_ui_command()}")


def _ui_command() -> str:
    """Return what opens the UI on the same data from here."""
    data = os.environ.get(variables.DATA)
    return f"{command_name()} ui" + (f" --data {shlex.quote(data)}" if data else "")


def summary_lines(summary: "Summary") -> Iterator[tuple[str, str | None]]:
    """Yield the lines of the closing summary, each with its colour."""
    inventory = summary.inventory
    if not inventory.has_train_csv:
        warning = "warning: there is no train.csv: all series on disk are taken, labels are null"
        yield warning, "yellow"
    if summary.interrupted_runs:
        yield f"took up what {summary.interrupted_runs} killed run(s) had left", None
    if notes := summary.combined.get("notes"):
        yield f"warning: unified_metadata: {notes}; the next run tries again", "yellow"
    for problem in summary.problems:
        yield str(problem), "red"
    for row in inventory.refused:
        yield f"refused: train.csv row {row.row}: {row.text}: {row.reason}", "yellow"
    for what, names in (
        ("not on disk", inventory.not_on_disk),
        (
            "directory without a train.csv row",
            inventory.unlabelled if inventory.has_train_csv else (),
        ),
        ("no series", inventory.foreign),
        ("read, and its directory is gone since", tuple(summary.vanished)),
        ("left to a live run of Dagster", tuple(summary.live_runs)),
    ):
        yield from ((line, None) for line in _listed(what, names))
    if summary.vanished:
        yield "they stay in the table; `aneurysm-assets prune` removes them", None
    for name, value in _summary_rows(summary).items():
        bad = name == "failed" and value
        yield f"{name:>34}  {value}", "red" if bad else None


def _summary_rows(summary: "Summary") -> dict[str, object]:
    combined = summary.combined
    rows: dict[str, object] = {
        "series": summary.series,
        "of them materialized": summary.materialized,
        "materialized before": summary.skipped,
        "failed": summary.failed,
        "in progress in another run": summary.in_progress,
        **({"left, run it again": summary.left} if summary.left else {}),
        **({"kept, their directory is gone": summary.kept} if summary.kept else {}),
        "not on disk": summary.not_on_disk,
        "changed and read again": summary.changed,
        "images": combined.get("images", 0),
        "unreadable files": combined.get("unreadable_files", 0),
        "images with localizers": combined.get("images_with_localizers", 0),
        "localizers without an image": combined.get("localizers_without_image", 0),
        "series with segmentations": combined.get("series_with_segmentations", 0),
    }
    if summary.quality:
        rows["series with problems"] = _problems(summary.quality)
    if summary.headers:
        share = f"{summary.fast_headers / summary.headers:.1%} of {summary.headers}"
        rows["headers read without pydicom"] = share
    rows["table"] = summary.table or "none: no series is materialized in all four tables"
    if summary.table and not summary.materialized + summary.skipped + summary.kept:
        rows["table"] = f"{summary.table}, of before: no series is materialized in all four now"
    return rows


def _problems(quality: Mapping[str, Any]) -> str:
    """Tell how many series have problems, and which are the most frequent."""
    counts = sorted(quality["problems"].items(), key=lambda item: (-item[1], item[0]))
    named = [f"{name} {count}" for name, count in counts]
    kinds = f" ({names_in_brief(named, _FREQUENT, 'more kinds')})" if named else ""
    return f"{quality['series_with_problems']}{kinds}"


def _listed(what: str, names: tuple[str, ...]) -> Iterator[str]:
    for name in lines_in_brief(names, MOST_NAMES, "more (`aneurysm-assets status --json`)"):
        yield f"{what}: {name}"


def print_status(overview: "Overview") -> None:
    """Print what is done, failed and missing, a line per table."""
    columns = ("materialized", "stale", "failed", "in progress", "missing", "not on disk")
    click.echo(f"{'':<20}" + "".join(f"{name:>13}" for name in columns))
    for name, asset in overview.assets.items():
        counts = (
            *(asset.materialized, asset.stale, asset.failed),
            *(asset.in_progress, asset.missing, asset.not_on_disk),
        )
        line = f"{name:<20}" + "".join(f"{count:>13}" for count in counts)
        say(line, "red" if asset.failed else None)
    for line in _listed("vanished from disk", tuple(overview.series_vanished)):
        say(line)
    if pictures := overview.series_preview:
        state = f"pictures of {pictures['materialized']} series, {pictures['stale']} out of date"
        click.echo(f"series_preview: {state}")
        for line in _listed("picture out of date", tuple(pictures["stale_series"])):
            say(line)
    unified = overview.unified_metadata
    if unified["path"] is None:
        click.echo("unified_metadata: not there yet")
    else:
        state = "up to date" if unified["up_to_date"] else "not up to date"
        say(f"unified_metadata: {unified['rows']} rows, {state}, {unified['path']}")
    if overview.series_quality:
        click.echo(f"series_quality: series with problems: {_problems(overview.series_quality)}")
