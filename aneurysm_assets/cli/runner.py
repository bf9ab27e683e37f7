"""One run over the data: register, materialize what is not done, combine, sum up.

A Dagster user could do all of this by hand; nothing is recorded but by Dagster. How a run looks
on a terminal belongs to `terminal` and `progress`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any
from uuid import uuid4

import dagster as dg

from aneurysm_assets.cli.summary import Problem, Summary
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance import run_locks
from aneurysm_assets.instance.data_root import claim, open_instance
from aneurysm_assets.instance.input_root import record_input, require_input
from aneurysm_assets.instance.run_origin import record_origin
from aneurysm_assets.messages import one_line
from aneurysm_assets.parallel.pool import workers_kept
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.raw.fingerprint_processes import FingerprintProcesses
from aneurysm_assets.raw.fingerprints import take_fingerprints
from aneurysm_assets.raw.inventory import Inventory, take_inventory
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.runs import active_runs, partitions, pruning
from aneurysm_assets.runs.partitions import latest_metadata
from aneurysm_assets.runs.pending_series import Options, Status, TableState, pending_series
from aneurysm_assets.runs.resources import Reporter
from aneurysm_assets.schema.tables import (
    DATASET_REPORT,
    DATASET_TABLES,
    SERIES_PREVIEW,
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
    Artifact,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.unified.croissant import CROISSANT

STARTED_BY = "aneurysm_assets/started_by"
"""The tag that tells a run of the command line from those of the UI."""

_LOG = logging.getLogger(__name__)


class _Collector:
    """A reporter that keeps the failures, counts headers, and passes everything on."""

    def __init__(self, reporter: Reporter, summary: Summary) -> None:
        self._reporter = reporter
        self._summary = summary

    def begin(self, table: Artifact, series: int) -> None:
        self._reporter.begin(table, series)

    def done(self, table: Artifact, series_instance_uid: str, written: SeriesResult) -> None:
        if written.fast_files is not None:
            self._summary.headers += written.files
            self._summary.fast_headers += written.fast_files
        self._reporter.done(table, series_instance_uid, written)

    def failed(self, table: Artifact, series_instance_uid: str, reason: str) -> None:
        self._summary.problems.append(Problem(table.name, series_instance_uid, reason))
        self._reporter.failed(table, series_instance_uid, reason)


def check_input(settings: Settings) -> Inventory:
    """Read what decides which series there are, and write nothing.

    Raises
    ------
    InputError
        There is nothing to read, or a CSV cannot be used.
    """
    inventory = take_inventory(settings)
    with suppress(FileNotFoundError):
        LocalizersCsv.read(settings.localizers_csv)
    if not inventory.series:
        hint = " (--unlabelled takes the directories without a row)" if inventory.unlabelled else ""
        raise InputError(
            f"no series of {settings.train_csv} is on disk in {settings.series_root}{hint}"
            if inventory.has_train_csv
            else f"there is no series directory in {settings.series_root}"
        )
    return inventory


def run(
    settings: Settings,
    reporter: Reporter,
    *,
    only: Sequence[str] = (),
    force: bool = False,
    replace_raw: bool = False,
    listing: FingerprintProcesses | None = None,
) -> Summary:
    """Materialize every series that is on disk and not done, or stale, then combine.

    Parameters
    ----------
    settings : Settings
        Those of the environment: Dagster's side reads it too.
    reporter : Reporter
        Told of each series.
    only : sequence of str
        Take these series alone; all that are on disk where empty.
    force : bool
        Take done ones again.
    replace_raw : bool
        Go on with another raw root than the recorded one; series that are not in it are removed.
    listing : FingerprintProcesses, optional
        Into what has changed, where it was begun before.

    Returns
    -------
    Summary
        What was done, skipped and failed.

    Raises
    ------
    InputError
        The input or the options cannot be used; nothing was written.
    """
    require_input(settings, replace_raw=replace_raw)
    inventory = check_input(settings)
    wanted = _wanted(inventory, only)
    with _alone(settings), open_instance(settings) as instance:
        stage = _Run(instance, settings, reporter, inventory, listing)
        return stage.take(wanted, force=force, replace_raw=replace_raw)


def draw(settings: Settings, reporter: Reporter) -> Summary:
    """Draw the picture of every series that is read, and write the report.

    Raises
    ------
    InputError
        The input cannot be used.
    """
    require_input(settings)
    inventory = check_input(settings)
    with _alone(settings), open_instance(settings) as instance:
        return _Run(instance, settings, reporter, inventory, None).draw()


def vanished_series(settings: Settings) -> list[str]:
    """Return the partitions without a directory, also such as somebody added by hand.

    Raises
    ------
    InputError
        The input cannot be used: nothing can be told of it.
    """
    require_input(settings)
    inventory = take_inventory(settings)
    with open_instance(settings) as instance:
        claim(instance, settings)
        return partitions.vanished(partitions.registered(instance), inventory)


def prune(settings: Settings, reporter: Reporter, keys: Sequence[str]) -> Summary:
    """Remove partitions with all that was made of them, and combine the rest anew.

    Raises
    ------
    InputError
        The input cannot be used, or a run works on the data.
    """
    inventory = take_inventory(settings)
    with _alone(settings), open_instance(settings) as instance:
        claim(instance, settings)
        pruning.prune(instance, settings, keys)
        return _Run(instance, settings, reporter, inventory, None).combine()


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Refuse to work beside another `aneurysm-assets run` on the same data."""
    try:
        run_locks.hold(settings, run_locks.RUN)
    except run_locks.AlreadyRunning as error:
        raise InputError(f"another `aneurysm-assets run` works on {settings.data}") from error
    try:
        yield
    finally:
        run_locks.release(settings, run_locks.RUN)


def _wanted(inventory: Inventory, only: Sequence[str]) -> list[str]:
    on_disk = set(inventory.series)
    for uid in only:
        if uid in on_disk:
            continue
        if uid in inventory.not_on_disk:
            raise InputError(f"series {uid} is in train.csv and its directory is not on disk")
        if uid in inventory.unlabelled:
            raise InputError(f"series {uid} has no row in train.csv: take it with --unlabelled")
        raise InputError(f"series {uid!r} is neither in train.csv nor on disk")
    return sorted(set(only)) or list(inventory.series)


class _Run:
    """One run over an open instance."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        settings: Settings,
        reporter: Reporter,
        inventory: Inventory,
        listing: FingerprintProcesses | None,
    ) -> None:
        self._listing = listing
        self._in_progress: set[str] = set()
        self._instance = instance
        self._settings = settings
        self._summary = Summary(inventory)
        self._reporter = _Collector(reporter, self._summary)

    @cached_property
    def _job(self) -> dg.JobDefinition:
        # Where nothing is to be done, the definitions take longer to import than all the rest.
        from aneurysm_assets.definitions import build_defs

        definitions = build_defs({"reporter": self._reporter})
        job = definitions.resolve_implicit_global_asset_job_def()
        record_origin(self._instance, job)
        return job

    def take(self, wanted: Sequence[str], *, force: bool, replace_raw: bool) -> Summary:
        """Materialize what is left of the wanted series, then combine.

        Parameters
        ----------
        wanted : sequence of str
            The series that are asked for.
        force : bool
            Whether materialized series are taken, too.
        replace_raw : bool
            Whether series whose directory is gone are removed first.

        Returns
        -------
        Summary
            What was done, skipped and failed.
        """
        claim(self._instance, self._settings)
        if not replace_raw:
            partitions.require_csvs(self._instance, self._settings)
        record_input(self._settings)
        summary = self._summary
        dead = run_locks.end_dead_runs(self._instance, self._settings)
        dead += active_runs.end_dead(self._instance, self._settings)
        summary.interrupted_runs = len(dead)
        if replace_raw:
            known = partitions.registered(self._instance)
            gone = partitions.vanished(known, summary.inventory)
            pruning.prune(self._instance, self._settings, gone)
        partitions.register(self._instance, summary.inventory.series)
        registered = partitions.registered(self._instance)
        summary.vanished = partitions.vanished(registered, summary.inventory)
        kept: set[str] = set()
        if set(wanted) == set(summary.inventory.series):
            kept = set(summary.vanished) & set(summary.inventory.not_on_disk)
        options = Options(wanted, kept, force=force)
        taken, status = self._take_pending(registered, options)
        complete = self._complete(status)
        if not self._combine(complete):
            # Tables that could not be read are gone, and their series are missing now.
            before = len(summary.problems)
            once_more, status = self._take_pending(registered, Options(wanted, kept))
            if once_more:
                first, since = summary.problems[:before], summary.problems[before:]
                summary.problems = [p for p in first if p.series_instance_uid] + since
                taken |= once_more
                complete = self._complete(status)
                self._combine(complete)
        self._count(set(wanted), taken, set(complete))
        return summary

    def _count(self, wanted: set[str], taken: set[str], complete: set[str]) -> None:
        """Count each series of the inventory once: the numbers add up to `Summary.series`."""
        summary = self._summary
        failed = summary.failed_series.keys() & wanted - complete
        # Where their former tables are there, these are in the unified one meanwhile.
        in_progress = wanted & self._in_progress - failed
        done = wanted & complete - in_progress
        summary.failed = len(failed)
        summary.in_progress = len(in_progress)
        summary.materialized = len(done & taken)
        summary.skipped = len(done - taken)
        summary.left = len(wanted - done - failed - in_progress)
        if wanted == set(summary.inventory.series):
            not_on_disk = set(summary.inventory.not_on_disk)
            summary.kept = len(not_on_disk & complete)
            summary.not_on_disk = len(not_on_disk - complete)

    def draw(self) -> Summary:
        """Make what no table needs: the pictures, and the report of the tables."""
        registered = partitions.registered(self._instance)
        tags, config = partitions.selection_of_run(registered, registered)
        self._execute([SERIES_PREVIEW.name], tags=tags, config=config)
        self._execute([DATASET_REPORT.name])
        return self._summary

    def _take_pending(
        self, registered: Sequence[str], options: Options
    ) -> tuple[set[str], Mapping[str, Mapping[str, Status]]]:
        """Materialize what is pending; return which series, and how all stand then."""
        summary = self._summary
        status = self._statuses(registered)
        pending = pending_series(self._table_states(status, options), options)
        self._in_progress = set(pending.in_progress)
        if pending.in_progress:
            summary.live_runs = active_runs.alive(self._instance)
        summary.changed += len(set().union(*pending.with_reason("changed").values()))
        taken: set[str] = set()
        with workers_kept():
            for series, tables in pending.runs(registered).items():
                taken.update(series)
                tags, config = partitions.selection_of_run(registered, series)
                self._execute(tables, tags=tags, config=config)
        return taken, self._statuses(registered) if taken else status

    def combine(self) -> Summary:
        """Combine what is complete now, and read nothing; of nothing there is no table."""
        complete = self._complete(self._statuses(partitions.registered(self._instance)))
        self._combine(complete)
        if not complete:
            for stem in self._settings.dataset_tables:
                path = find_table(stem)
                if path is not None:
                    path.unlink()
            (self._settings.interim / CROISSANT).unlink(missing_ok=True)
        return self._summary

    def _complete(self, status: Mapping[str, Mapping[str, Status]]) -> list[str]:
        inventory = self._summary.inventory
        return partitions.complete_of(self._instance, self._settings, inventory, status)

    def _statuses(self, registered: Sequence[str]) -> dict[str, Mapping[str, Status]]:
        """Return the status of every partition in each of the partitioned tables."""
        return {
            table.name: partitions.statuses(self._instance, self._settings, table, registered)
            for table in SERIES_TABLES
        }

    def _table_states(
        self, status: Mapping[str, Mapping[str, Status]], options: Options
    ) -> dict[str, TableState]:
        """Return what is known of each table; inputs are looked at where that decides anything."""
        may_have_changed = set() if options.force else set(options.wanted)
        may_have_changed |= set(options.without_directory)
        to_look_at = sorted(
            {
                uid
                for of_table in status.values()
                for uid, found in of_table.items()
                if found == "materialized" and uid in may_have_changed
            }
        )
        if not to_look_at:
            return {table: TableState(of_table) for table, of_table in status.items()}
        current = take_fingerprints(
            self._settings, to_look_at, processes=self._settings.workers, listing=self._listing
        )
        return partitions.table_states(self._instance, status, current)

    def _combine(self, complete: Sequence[str]) -> bool:
        """Combine where that is not done already; tell whether nothing failed."""
        summary = self._summary
        paths = [find_table(stem) for stem in self._settings.dataset_tables]
        # A table that could not be written as Parquet is made again until it can.
        on_disk = all(path is not None and path.name.endswith(".parquet") for path in paths)
        names = [table.name for table in DATASET_TABLES]
        known = partitions.registered(self._instance)
        vanished = partitions.vanished(known, summary.inventory)
        if complete and not (
            on_disk and partitions.is_combined(self._instance, self._settings, complete, vanished)
        ):
            _LOG.info("%s: begin", ", ".join(names))
            self._execute(names)
            _LOG.info("%s: end", ", ".join(names))
        path = find_table(self._settings.unified_table)
        combined = latest_metadata(self._instance, UNIFIED_METADATA)
        if path is not None and combined:
            summary.table = str(path)
            summary.combined = combined
        summary.quality = latest_metadata(self._instance, SERIES_QUALITY)
        return not any(p.series_instance_uid is None for p in summary.problems)

    def _execute(
        self,
        tables: Sequence[str],
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Execute a Dagster run in this process; what fails becomes a problem of the summary."""
        known = len(self._summary.problems)
        run_id = str(uuid4())
        run_locks.hold(self._settings, run_id)
        try:
            result = self._job.execute_in_process(
                instance=self._instance,
                asset_selection=[dg.AssetKey(table) for table in tables],
                tags={STARTED_BY: "aneurysm-assets run", **(tags or {})},
                run_config={
                    "ops": {table: {"config": config} for table in tables} if config else {},
                    # The log is in the instance for who wants it; a terminal shows the progress.
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                run_id=run_id,
                raise_on_error=False,
            )
        except KeyboardInterrupt:
            run = self._instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                self._instance.report_run_canceled(run, message="Interrupted from the keyboard.")
            run_locks.release(self._settings, run_id)
            raise
        # Before the lock goes: where the end of the run could not be recorded, as on a full disk,
        # the lock that this process leaves shows the next one that the run is dead.
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            run_locks.release(self._settings, run_id)
        if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
            raise KeyboardInterrupt
        if not result.success:
            self._explain(result, known)

    def _explain(self, result: dg.ExecuteInProcessResult, known: int) -> None:
        """Add the failures of steps in which no series failed: the series' own are known."""
        with_series = {problem.table for problem in self._summary.problems[known:]}
        for event in result.all_events:
            if event.is_step_failure and event.step_key not in with_series:
                reason = _reason_of(event)
                self._summary.problems.append(Problem(str(event.step_key), None, reason))


def _reason_of(failure: dg.DagsterEvent) -> str:
    """Return why a step failed; of what nobody expected, the log has the traceback."""
    data = failure.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    if error is None:
        return "failed without a reason"
    _LOG.error("%s failed: %s", failure.step_key, error.to_string())
    while error.cause is not None:  # Dagster's own errors say in which step, and not what
        error = error.cause
    return (
        f"{one_line(error.message)} (unexpected, the log of this run has the traceback: run it "
        "again, and report it where it comes again)"
    )
