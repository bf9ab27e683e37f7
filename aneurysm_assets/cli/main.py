"""`aneurysm-assets`: run, status, demo. A thin face of the definitions and their instance.

Worker processes import this module too (it is their parent's main module), so whatever is heavy
is imported where it is used.
"""

import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

import click
from dotenv import dotenv_values

from aneurysm_assets import settings as variables
from aneurysm_assets.cli.terminal import print_status, print_summary, say, styled
from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import names_in_brief, one_line, printable
from aneurysm_assets.parallel.worker_process import leave_out_unused
from aneurysm_assets.raw.fingerprint_processes import FingerprintProcesses
from aneurysm_assets.schema.extra_tags import TAGS
from aneurysm_assets.settings import Settings, recorded_tags
from aneurysm_assets.uid import is_uid

if TYPE_CHECKING:
    from rich.console import Console

    from aneurysm_assets.cli.run_log import RunLog
    from aneurysm_assets.cli.summary import Summary

P = ParamSpec("P")

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Directory(click.Path):
    """A directory of this machine.

    Parameters
    ----------
    or_bucket : bool
        Or the URL of a bucket, which as a path would lose a slash.
    file_okay : bool
        As of `click.Path`.
    """

    def __init__(self, *, or_bucket: bool = False, file_okay: bool = True) -> None:
        super().__init__(path_type=Path, file_okay=file_okay)
        self._or_bucket = or_bucket

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        if "://" not in str(value):
            return super().convert(value, param, ctx)
        if not self._or_bucket:
            self.fail("this is to be a directory of this machine, not a URL", param, ctx)
        return str(value)


def _paths(command: Callable[P, None]) -> Callable[..., None]:
    """Add the options of the roots; they reach Dagster's side, and workers, as environment."""

    @click.option(
        "--data",
        type=_Directory(),
        help=f"Root of raw/, interim/ and dagster/.  [default: {variables.DATA}, or data]",
    )
    @click.option(
        "--raw",
        type=_Directory(or_bucket=True),
        help="Input, if it is not DATA/raw; also s3://BUCKET/….",
    )
    @click.option(
        "--interim",
        type=_Directory(or_bucket=True),
        help="Output, if it is not DATA/interim; also s3://BUCKET/….",
    )
    @wraps(command)
    def with_paths(
        data: Path | None,
        raw: Path | str | None,
        interim: Path | str | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        if others := _load_dotenv():
            click.echo(
                f"aneurysm-assets: of .env these variables are not taken: {names_in_brief(others)} "
                "(docs/command-line.md says which are)",
                err=True,
            )
        _export({variables.DATA: data, variables.RAW: raw, variables.INTERIM: interim})
        tag = kwargs.get("tag")
        if isinstance(tag, tuple) and tag:
            _export({TAGS: ",".join(map(str, tag))})
        if TAGS not in os.environ and (known := recorded_tags()):
            _export({TAGS: known})
        command(*args, **kwargs)

    return with_paths


def _load_dotenv() -> list[str]:
    """Take our variables of a .env in the working directory; return the names of the others.

    As with every `dagster` command they go before the environment. What else stands there is not
    taken: PYTHONPATH or LD_PRELOAD would run code of whoever wrote the working directory.
    """
    found = dotenv_values(Path.cwd() / ".env")
    ours = [n for n in found if n.startswith(variables.PREFIXES) or n == "DAGSTER_HOME"]
    _export({name: found[name] for name in ours})
    return sorted(found.keys() - set(ours))


def _export(values: dict[str, Any]) -> None:
    os.environ.update({name: str(value) for name, value in values.items() if value is not None})


def _complete_series(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    from aneurysm_assets.cli.completion import series_to_take

    _load_dotenv()
    given = {variables.DATA: "data", variables.RAW: "raw", variables.UNLABELLED: "unlabelled"}
    typed = {name: context.params.get(option) for name, option in given.items()}
    # Flags that are not typed are False: the environment's value stays.
    environment = {name: str(value) for name, value in typed.items() if value}
    return series_to_take({**os.environ, **environment}, incomplete)


def _complete_column(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from aneurysm_assets.unified.export import partition_columns

    # bash inserts what it is given as it is: a name with spaces would become several words.
    names = (name for name in partition_columns() if " " not in name)
    return [name for name in names if name.startswith(incomplete)]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`aneurysm-assets COMMAND --help` has examples.",
)
@click.version_option(package_name="aneurysm-assets")
def cli() -> None:
    """Make one typed table of the RSNA Intracranial Aneurysm Detection data.

    Progress is kept by Dagster, in DATA/dagster (or DAGSTER_HOME): what is done is not done
    again, here or in the Dagster UI.

    \b
    Examples:
      aneurysm-assets sample try         a small data set, to try it on
      aneurysm-assets run --data try     read it; again, to go on
      aneurysm-assets status --data try  what is done, failed and left
    """


@cli.command(short_help="Read every series that is not done, and combine.")
@_paths
@click.option("--workers", type=click.IntRange(min=1), help="Reader processes.  [default: CPUs]")
@click.option(
    "--threads",
    type=click.IntRange(0, 256),
    help="Threads a process that fetch files ahead.  [default: as many as the disk is worth]",
)
@click.option("--unlabelled", is_flag=True, help="Take directories without a train.csv row too.")
@click.option(
    "--series",
    multiple=True,
    metavar="UID",
    shell_complete=_complete_series,
    help="Take this series only. Repeatable.",
)
@click.option(
    "--tag",
    multiple=True,
    metavar="KEYWORD",
    help="Read this DICOM attribute too, such as RepetitionTime. Repeatable; what was read without "
    f"it is read again; '' for none.  [default: {TAGS}, else those of before]",
)
@click.option("--force", is_flag=True, help="Take series again that are done.")
@click.option(
    "--replace-raw",
    is_flag=True,
    help="Go on with another input than before; what is not in it leaves the table.",
)
def run(  # noqa: PLR0917 - click gives each option by its name
    workers: int | None,
    threads: int | None,
    unlabelled: bool,
    series: tuple[str, ...],
    tag: tuple[str, ...],
    force: bool,
    replace_raw: bool,
) -> None:
    """Materialize every series that is on disk and not done, or has changed, then combine.

    Exits with 0 when nothing failed, 1 when a series failed, 2 when the input or the options
    cannot be used, 130 when interrupted. DATA/logs keeps a log of each run. Where there is no
    terminal, progress is a line per minute.

    \b
    Examples:
      aneurysm-assets run
      aneurysm-assets run --raw /mnt/rsna --workers 8
      aneurysm-assets run --raw s3://rsna/raw --interim s3://mine/interim
      aneurysm-assets run --series 1.2.826.0.1 --force
      nohup aneurysm-assets run > run.out 2>&1 &
    """
    _export(
        {
            variables.WORKERS: workers,
            variables.THREADS: threads,
            variables.UNLABELLED: "1" if unlabelled else None,
        }
    )
    from aneurysm_assets.parallel.pool import workers_begun

    settings = Settings.from_environment()
    done = [] if force else _with_tables(settings)
    # Begun before the imports, which take about as long.
    with (
        FingerprintProcesses(settings, done, settings.workers) as listing,
        workers_begun(*_worth_workers(settings, series, done)),
        _exit_with_reason("what is done is done: run it again"),
    ):
        with _no_collection():
            from aneurysm_assets.cli.run_log import RunLog

        with RunLog(settings, only=series, force=force) as log:
            # Where none was asked for, what is to be asked about is known later.
            begun = listing if isinstance(settings.interim, Path) else None
            summary = _run(
                settings, log, only=series, force=force, replace_raw=replace_raw, listing=begun
            )
            print_summary(summary, log)
    sys.exit(1 if summary.problems else 0)


def _worth_workers(
    settings: Settings, only: Sequence[str], done: Sequence[str]
) -> tuple[int, Sequence[str]]:
    """Return how many workers certainly have something to do, and what they need for it."""
    from aneurysm_assets.parallel.pool import WORTH_A_POOL

    root = settings.series_root
    if not isinstance(root, Path) or not isinstance(settings.interim, Path):
        return 0, ()  # whether the store answers is asked where the answer can be told
    try:
        series = set(os.listdir(root))  # noqa: PTH208 - only the names
    except OSError:
        return 0, ()
    pending = (series & set(only) if only else series).difference(done)
    modules = ["aneurysm_assets.dicom.table"]
    if settings.segmentations_root.is_dir():
        modules.append("aneurysm_assets.nifti.table")
    return (settings.workers if len(pending) >= WORTH_A_POOL else 0), modules


def _with_tables(settings: Settings) -> list[str]:
    """Return the series of which there is a table, done or not; none where those are in a bucket.

    Whether that answers is asked where the answer can be told.
    """
    if not isinstance(settings.interim, Path):
        return []
    try:
        names = os.listdir(settings.interim / "dicom_tags")  # noqa: PTH208 - only the names
    except OSError:
        return []
    series = (name.rpartition(".")[0] for name in names)
    return sorted({uid for uid in series if is_uid(uid)})


@cli.command(short_help="Show what is done, failed, missing and not on disk.")
@_paths
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--unlabelled", is_flag=True, help="Count directories without a train.csv row too.")
def status(as_json: bool, unlabelled: bool) -> None:
    """Show per asset how many series are done, failed, missing and not on disk.

    Stale are those of the done ones whose input has changed since it was read.

    \b
    Examples:
      aneurysm-assets status
      aneurysm-assets status --json | jq -r '.assets.dicom_tags.failed_series[]'
    """
    _export({variables.UNLABELLED: "1" if unlabelled else None})
    with _no_collection():
        from aneurysm_assets.cli.status import take_overview

    with _exit_with_reason("run it again once that is mended"):
        overview = take_overview(Settings.from_environment())
    if as_json:
        click.echo(json.dumps(overview.as_dict(), indent=2))
    else:
        print_status(overview)


@cli.command(short_help="Open the Dagster UI on the same state.")
@_paths
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    help="Port of 127.0.0.1.  [default: 3000, or a free one]",
)
def ui(port: int | None) -> None:
    """Serve the Dagster UI of the data root until Ctrl-C, to this machine only.

    Its webserver and daemon work on the state that `run` works on. The address is printed once it
    answers. Ctrl-C ends both, and the runs that were started there; what is done is done. Exits
    with 0 then, with 1 when one of the two ended by itself, with 2 when the data root or the port
    cannot be used. DATA/logs keeps what they say.

    \b
    Examples:
      aneurysm-assets ui
      aneurysm-assets ui --data try --port 3333
    """
    with _exit_with_reason("nothing was started"):
        from aneurysm_assets.cli.ui import PartEndedError, serve

        try:
            serve(
                Settings.from_environment(),
                port,
                ready=_print_address,
                ending=lambda: click.echo("ending the webserver and the daemon: some seconds"),
            )
        except KeyboardInterrupt:
            click.echo("ended")
        except PartEndedError as error:
            _fail(str(error), 1)


def _print_address(url: str, log: Path) -> None:
    click.echo(f"the Dagster UI is at {styled(url, 'green')}; Ctrl-C ends it (log: {log})")


@cli.command(short_help="Remove series whose directory is gone.")
@_paths
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(yes: bool) -> None:
    """Remove series whose directory is gone: their partitions, tables and rows.

    They are listed, and nothing is removed before you agree. Partitions that were added by hand and
    have no directory go too. A root that is empty or not there is no directory that is gone: then
    nothing is removed.

    \b
    Examples:
      aneurysm-assets prune
      aneurysm-assets prune --yes
    """
    with _no_collection():
        from aneurysm_assets.cli.runner import prune as prune_series
        from aneurysm_assets.cli.runner import vanished_series
        from aneurysm_assets.runs.resources import NullReporter

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with _exit_with_reason("run it again"):
        settings = Settings.from_environment()
        keys = vanished_series(settings)
        if not keys:
            click.echo("no series that was read is without its directory: nothing to remove")
            return
        for key in keys:
            say(key)
        if not (yes or _is_agreed(f"Remove {len(keys)} series with their tables and rows?")):
            _fail("nothing was removed", 1)
        summary = prune_series(settings, NullReporter(), keys)
    for problem in summary.problems:
        say(str(problem), "red")
    say(f"removed {len(keys)} series; the table is {summary.table or 'gone with them'}")
    sys.exit(1 if summary.problems else 0)


def _is_agreed(question: str) -> bool:
    try:
        return click.confirm(question)
    except click.Abort:  # nobody is there to answer
        return False


@cli.command(short_help="Write the table as CSV, per series, or in parts.")
@_paths
@click.option(
    "--to",
    required=True,
    type=_Directory(),
    metavar="PATH",
    help="File to make (.csv, .parquet), or with --by a directory; there whole, or not at all.",
)
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    shell_complete=_complete_column,
    help="Divide by this, in a directory. Repeatable.",
)
@click.option(
    "--rows",
    type=click.Choice(["image", "series"]),
    default="image",
    help="What a row of the file is.  [default: image]",
)
@click.option(
    "--as",
    "script",
    type=click.Choice(["01_create_meta_data"]),
    help="The 55 columns of the script that this replaces, a row per file.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export; nothing else ever is.")
def export(
    to: Path,
    by: tuple[str, ...],
    rows: Literal["image", "series"],
    script: str | None,
    overwrite: bool,
) -> None:
    """Write the unified table as one file, or hive-partitioned by columns.

    A file has a row per image, or per series with its labels, segmentation, geometry and problems.
    In a CSV, lists are JSON. docs/command-line.md has a query for each reader of parts. There a
    value stands in the name of its directory, not in the file; null is __HIVE_DEFAULT_PARTITION__.

    \b
    Examples:
      aneurysm-assets export --to series.csv --rows series
      aneurysm-assets export --to images.csv
      aneurysm-assets export --to parts --by Modality_train --by PatientSex
      aneurysm-assets export --to parts --by orientation_plane --overwrite
      aneurysm-assets export --to old.csv --as 01_create_meta_data
    """
    from aneurysm_assets.unified.export import export as export_table
    from aneurysm_assets.unified.one_file import SUFFIXES, export_file

    if by and rows != "image":
        raise click.UsageError("--by divides the rows of images: it does not go with --rows series")
    if script and (by or rows != "image"):
        raise click.UsageError(f"--as {script} says what a row is: leave --by and --rows out")
    if not by and to.suffix not in SUFFIXES:
        raise click.UsageError(f"--to {to}: name a .csv or .parquet file, or columns by --by")
    if by and to.suffix in SUFFIXES:
        raise click.UsageError(f"--to {to}: with --by name a folder, which gets a file per part")
    settings = Settings.from_environment()
    with _exit_with_reason(f"what was at {to} before is untouched"):
        if not by:
            written = export_file(settings, to, "file" if script else rows, overwrite=overwrite)
            say(f"wrote {written} rows to {to}")
            return
        exported = export_table(settings, to, by, overwrite=overwrite)
    say(f"wrote {exported.rows} rows in {exported.partitions} files to {exported.directory}")


@cli.command(short_help="Write a small data set to try it on.")
@click.argument("directory", type=_Directory(file_okay=False))
@click.option("--series", type=click.IntRange(min=1), help="Series of a larger one, for load.")
@click.option("--files", type=click.IntRange(min=1), help="Files per series of a larger one.")
def sample(directory: Path, series: int | None, files: int | None) -> None:
    """Write a small data set of the RSNA shape as DIRECTORY/raw, ready for --data DIRECTORY.

    A raw that this command did not write is never touched.

    \b
    Examples:
      aneurysm-assets sample try
      aneurysm-assets sample load --series 500 --files 200
    """
    if (series is None) != (files is None):
        raise click.UsageError("--series and --files go together")
    from aneurysm_assets.sample import write_load_sample, write_sample

    if series is None or files is None:
        raw = write_sample(directory, with_head=True)
    else:
        with click.progressbar(length=series, label="series", file=sys.stderr) as bar:
            raw = write_load_sample(directory, series, files, on_progress=lambda _: bar.update(1))
    say(f"wrote {raw}: try `aneurysm-assets run --data {directory}`")


@cli.command(short_help="See all of it work on a sample.")
@click.argument("directory", type=_Directory(file_okay=False), default="demo")
def demo(directory: Path) -> None:
    """Write a sample, read it, draw its pictures and report, and print a line per series.

    All of it stands below DIRECTORY (demo), whatever the environment says of other data. A second
    time goes on from there. Exits with 1 when anything failed.

    \b
    Examples:
      aneurysm-assets demo
      aneurysm-assets demo try
    """
    for name in (variables.RAW, variables.INTERIM, TAGS, "DAGSTER_HOME"):
        os.environ.pop(name, None)
    _export({variables.DATA: directory})
    with _no_collection():
        from aneurysm_assets.cli.demo import demo as show

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with _exit_with_reason("run it again"):
        failures = 0
        for line, colour in show(Settings.from_environment()):
            say(line, colour)
            failures += colour == "red"
    sys.exit(1 if failures else 0)


@cli.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options, series and columns.

    \b
    Examples:
      eval "$(aneurysm-assets completion bash)"    in ~/.bashrc
      eval "$(aneurysm-assets completion zsh)"     in ~/.zshrc, after compinit
      aneurysm-assets completion fish | source     in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None  # noqa: S101 - click has these three
    click.echo(complete(cli, {}, "aneurysm-assets", "_ANEURYSM_ASSETS_COMPLETE").source())


def main() -> None:
    """Run the command line: bad input ends with a sentence and exit status 2."""
    leave_out_unused()
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
    lines = "\n".join(map(printable, message.split("\n")))
    click.echo(f"{styled('aneurysm-assets:', 'red')} {lines}", err=True)
    sys.exit(status)


def _console() -> "Console":
    """Return a console on a copy of standard error.

    Dagster redirects the real one into a step's log while the step runs.
    """
    from rich.console import Console

    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w")
    # Said outright, or rich would take FORCE_COLOR, which many CIs set, for a terminal.
    return Console(file=stream, highlight=False, force_terminal=stream.isatty())


def _run(
    settings: Settings,
    log: "RunLog",
    *,
    only: tuple[str, ...],
    force: bool,
    replace_raw: bool,
    listing: FingerprintProcesses | None,
) -> "Summary":
    with _no_collection():
        from aneurysm_assets.cli.progress import Reporters, reporter_for
        from aneurysm_assets.cli.runner import run as run_stage

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with reporter_for(_console()) as reporter:
        return run_stage(
            settings,
            Reporters(reporter, log),
            only=only,
            force=force,
            replace_raw=replace_raw,
            listing=listing,
        )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Import without looking for garbage, of which modules have none: a quarter of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _exit_with_reason(what_now: str) -> Iterator[None]:
    """End with a sentence where the disk or Dagster's record lets us down."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except OSError as error:
        named = error.strerror and error.filename
        reason = f"{error.strerror}: {error.filename}" if named else error
        _fail(f"could not go on ({one_line(reason)}); {what_now}", 1)
    except SQLAlchemyError as error:
        from aneurysm_assets.instance.databases import reason_of

        reason = reason_of(error, Settings.from_environment().dagster_home)
        _fail(f"could not go on: {reason}; {what_now}", 1)


if __name__ == "__main__":
    main()
