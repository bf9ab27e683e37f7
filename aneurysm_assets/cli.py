"""`aneurysm-assets`: run, status, sample. A thin face of the definitions and their instance.

Worker processes import this module too (it is their parent's main module), so whatever is heavy
is imported where it is used.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click
from dotenv import load_dotenv

from aneurysm_assets import settings as variables
from aneurysm_assets.extraction.errors import InputError
from aneurysm_assets.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from aneurysm_assets.overview import Overview
    from aneurysm_assets.runner import Summary

P = ParamSpec("P")

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_LISTED = 10


def _paths(command: Callable[P, None]) -> Callable[..., None]:
    """Add the options of the roots; they reach Dagster's side, and workers, as environment."""

    @click.option(
        "--data",
        type=click.Path(path_type=Path),
        help=f"Root of raw/, interim/ and dagster/.  [default: {variables.DATA}, or data]",
    )
    @click.option("--raw", type=click.Path(path_type=Path), help="Input, if it is not DATA/raw.")
    @click.option(
        "--interim", type=click.Path(path_type=Path), help="Output, if it is not DATA/interim."
    )
    @wraps(command)
    def with_paths(
        data: Path | None, raw: Path | None, interim: Path | None, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        _load_dotenv()
        _export({variables.DATA: data, variables.RAW: raw, variables.INTERIM: interim})
        command(*args, **kwargs)

    return with_paths


def _load_dotenv() -> None:
    # As every `dagster` command does: a .env in the working directory goes before the environment.
    load_dotenv(Path.cwd() / ".env", override=True)


def _export(values: dict[str, Any]) -> None:
    os.environ.update({name: str(value) for name, value in values.items() if value is not None})


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aneurysm-assets")
def cli() -> None:
    """Make one typed table of the RSNA Intracranial Aneurysm Detection data.

    Progress is kept by Dagster, in DATA/dagster (or DAGSTER_HOME): what is done is not done
    again, here or in the Dagster UI.
    """


@cli.command()
@_paths
@click.option("--workers", type=click.IntRange(min=1), help="Reader processes.  [default: CPUs]")
@click.option("--unlabelled", is_flag=True, help="Take directories without a train.csv row too.")
@click.option("--series", multiple=True, metavar="UID", help="Take this series only. Repeatable.")
@click.option("--force", is_flag=True, help="Take series again that are done.")
def run(workers: int | None, unlabelled: bool, series: tuple[str, ...], force: bool) -> None:
    """Materialise every series that is on disk and not done, or has changed, then combine.

    Exits with 0 when nothing failed, 1 when a series failed, 2 when the input or the options
    cannot be used, 130 when interrupted.
    """
    _export({variables.WORKERS: workers, variables.UNLABELLED: "1" if unlabelled else None})
    summary = _run(Settings.from_environment(), series, force)
    _print_summary(summary)
    sys.exit(1 if summary.problems else 0)


@cli.command()
@_paths
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--unlabelled", is_flag=True, help="Count directories without a train.csv row too.")
def status(as_json: bool, unlabelled: bool) -> None:
    """Show per asset how many series are done, failed, missing and not on disk.

    Stale are those of the done ones whose input has changed since it was read.
    """
    _export({variables.UNLABELLED: "1" if unlabelled else None})
    from aneurysm_assets.overview import take_overview

    with _trouble_told("run it again once that is mended"):
        overview = take_overview(Settings.from_environment())
    if as_json:
        click.echo(json.dumps(overview.as_dict(), indent=2))
    else:
        _print_status(overview)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--series", type=click.IntRange(min=1), help="Series of a larger one, for load.")
@click.option("--files", type=click.IntRange(min=1), help="Files a series of a larger one.")
def sample(directory: Path, series: int | None, files: int | None) -> None:
    """Write a small data set of the RSNA shape as DIRECTORY/raw, ready for --data DIRECTORY.

    A raw that this command did not write is never touched.
    """
    if (series is None) != (files is None):
        raise click.UsageError("--series and --files go together")
    from aneurysm_assets.sample import write_load_sample, write_sample

    if series is None or files is None:
        raw = write_sample(directory)
    else:
        with click.progressbar(length=series, label="series", file=sys.stderr) as bar:
            raw = write_load_sample(directory, series, files, on_progress=lambda _: bar.update(1))
    click.echo(f"wrote {raw}: try `aneurysm-assets run --data {directory}`")


def main() -> None:
    """Run the command line: bad input ends with a sentence and exit status 2."""
    try:
        cli(standalone_mode=False)
    except InputError as error:
        _fail(str(error), 2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail(
            "interrupted; what is done is done: run the same command again to go on", _INTERRUPTED
        )


def _fail(message: str, status: int) -> None:
    click.echo(f"aneurysm-assets: {message}", err=True)
    sys.exit(status)


def _console() -> "Console":
    """Return a console on a copy of standard error.

    Dagster redirects the real one into a step's log while the step runs.
    """
    from rich.console import Console

    return Console(file=os.fdopen(os.dup(sys.stderr.fileno()), "w"), highlight=False)


def _run(settings: Settings, series: tuple[str, ...], force: bool) -> "Summary":
    from aneurysm_assets.progress import TerminalReporter
    from aneurysm_assets.runner import run as run_stage

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with (
        _trouble_told("what is done is done: run it again"),
        TerminalReporter(_console()) as reporter,
    ):
        return run_stage(settings, reporter, only=series, force=force)


@contextmanager
def _trouble_told(what_now: str) -> Iterator[None]:
    """End with a sentence where the disk or Dagster's record lets us down."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OSError, SQLAlchemyError) as error:
        reason = " ".join(str(error).split())[:300]
        _fail(f"could not go on ({reason}); {what_now}", 1)


def _print_summary(summary: "Summary") -> None:
    census, combined = summary.census, summary.combined
    if not census.has_train_csv:
        click.echo("warning: there is no train.csv: all series on disk are taken, labels are null")
    if summary.interrupted_runs:
        click.echo(f"took up what {summary.interrupted_runs} killed run(s) had left")
    for problem in summary.problems:
        of = f" {problem.series_instance_uid}" if problem.series_instance_uid else ""
        click.echo(f"failed: {problem.table}{of}: {problem.reason}")
    for row in census.refused:
        click.echo(f"refused: train.csv row {row.row}: {row.text}: {row.reason}")
    _print_listed("not on disk", census.not_on_disk)
    if census.has_train_csv:
        _print_listed("directory without a train.csv row", census.unlabelled)
    _print_listed("no series", census.foreign)
    rows: dict[str, object] = {
        "series done": summary.done,
        "series done before": summary.skipped,
        "series changed and taken again": summary.changed,
        "series failed": len(summary.failed_series),
        "series under way in another run": summary.under_way,
        "series not on disk": len(census.not_on_disk),
        "images": combined.get("images", 0),
        "unreadable files": combined.get("unreadable_files", 0),
        "images with localizers": combined.get("images_with_localizers", 0),
        "localizers without an image": combined.get("localizers_without_image", 0),
        "series with segmentations": combined.get("series_with_segmentations", 0),
    }
    if summary.headers:
        share = f"{summary.fast_headers / summary.headers:.1%} of {summary.headers}"
        rows["headers read without pydicom"] = share
    for name, value in rows.items():
        click.echo(f"{name:>32}  {value}")
    click.echo(f"{'table':>32}  {summary.table or 'none: no series is done in all four tables'}")


def _print_listed(what: str, names: tuple[str, ...]) -> None:
    for name in names[:_LISTED]:
        click.echo(f"{what}: {name!a}" if not name.isprintable() else f"{what}: {name}")
    if len(names) > _LISTED:
        click.echo(f"{what}: and {len(names) - _LISTED} more (`aneurysm-assets status --json`)")


def _print_status(overview: "Overview") -> None:
    columns = ("done", "stale", "failed", "under way", "missing", "not on disk")
    click.echo(f"{'':<20}" + "".join(f"{name:>13}" for name in columns))
    for name, asset in overview.assets.items():
        counts = (
            *(asset.done, asset.stale, asset.failed),
            *(asset.under_way, asset.missing, asset.not_on_disk),
        )
        click.echo(f"{name:<20}" + "".join(f"{count:>13}" for count in counts))
    _print_listed("vanished from disk", tuple(overview.series_vanished))
    unified = overview.unified_metadata
    if unified["path"] is None:
        click.echo("unified_metadata: not there yet")
    else:
        state = "up to date" if unified["up_to_date"] else "older than what it is made from"
        click.echo(f"unified_metadata: {unified['rows']} rows, {state}, {unified['path']}")


if __name__ == "__main__":
    main()
