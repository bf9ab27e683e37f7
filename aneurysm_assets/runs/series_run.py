"""Marking one series done or failed, at once, inside a batch.

A batch step records each series itself, with its own metadata, the moment its file is safe, and
yields no output: an output would make a second event a series, blanking the first. A run of one
partition yields an ordinary result, so that its dependants run in the same run.
"""

import base64
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import dagster as dg
from pydantic import Field
from sqlalchemy.exc import DBAPIError

from aneurysm_assets.dagster_internals import (
    DATA_VERSION_TAG,
    AssetMaterializationPlannedData,
    DagsterEventBatchMetadata,
)
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import claim
from aneurysm_assets.instance.run_locks import (
    CARRIER_TAG,
    CUT_OFF_TAG,
    INTERRUPTED,
    end_dead_runs,
    hold_run,
)
from aneurysm_assets.messages import lines_in_brief
from aneurysm_assets.parallel.series_map import SeriesFailure, SeriesResult, Work, map_series
from aneurysm_assets.runs.deferred_signals import deferred_signals
from aneurysm_assets.runs.resources import Reporter, SettingsResource
from aneurysm_assets.runs.retries import remaining_after_retries
from aneurysm_assets.schema.tables import Artifact
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import remove_partials
from aneurysm_assets.storage.fetching import THREADS
from aneurysm_assets.storage.object_path import ObjectPath
from aneurysm_assets.storage.table_files import StoredPicture

_LOG = logging.getLogger(__name__)

Metadata = dict[str, dg.MetadataValue | int | float | str]

_BATCH = 100
"""Series recorded in one transaction, at most."""

_BATCH_SECONDS = 0.5
"""A series waits no longer than about this for its record."""

_DATABASE_PATIENCE_SECONDS = 600
"""How long a run of a cluster waits for a database that does not answer."""

_MOST_FAILURES = 1_000
"""Failed series that a failure's description names; its metadata name all."""


class SeriesConfig(dg.Config):
    """Which series a run takes, where it has no partition and no range of partitions.

    Dagster's ranges are contiguous, and scattered keys would cost one run each; with this a
    single run takes any set.
    """

    series: list[str] = Field(
        default_factory=list,
        description="SeriesInstanceUIDs to take when the run itself has no partitions.",
    )


@dataclass(frozen=True)
class Batch:
    """What a step does for each of its series.

    Attributes
    ----------
    table : Artifact
        What it makes.
    work : callable
        From a SeriesInstanceUID to `SeriesResult`; picklable.
    workers : int
        Processes to do it in; 0 for this one, or those that the run has anyway.
    alone : callable, optional
        From a SeriesInstanceUID to the same work with what that series needs of it and no more.
    """

    table: Artifact
    work: Work
    workers: int
    alone: Callable[[str], Work] | None = None


def settings_of_run(context: dg.AssetExecutionContext, resource: SettingsResource) -> Settings:
    """Return the settings of a run, tie run and instance to them, and end runs that were killed.

    Raises
    ------
    dg.Failure
        A setting cannot be used, or the instance keeps the progress of other data.
    """
    try:
        settings = resource.get()
        claim(context.instance, settings)
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    hold_run(context.instance, settings, context.run)
    end_dead_runs(context.instance, settings)
    return settings


@contextmanager
def fail_run_with_reason(what: str) -> Iterator[None]:
    """End a step with a sentence where the input cannot be used or the storage refuses.

    Parameters
    ----------
    what : str
        Of what the sentence is.

    Raises
    ------
    dg.Failure
        In place of `InputError` and OSError.
    """
    try:
        yield
    except (OSError, InputError) as error:
        raise dg.Failure(f"{what}: {error}", allow_retries=False) from error


def materialize_series(
    context: dg.AssetExecutionContext,
    config: SeriesConfig,
    reporter: Reporter,
    settings: Settings,
    batch: Batch,
) -> Iterator[dg.MaterializeResult[None]]:
    """Do the work for each series of a run, and record each as soon as it is done.

    Parameters
    ----------
    context : dg.AssetExecutionContext
        Of an asset partitioned by series, with `output_required=False`.
    config : SeriesConfig
        The series of a run without partitions.
    reporter : Reporter
        Told of each series after it is recorded.
    settings : Settings
        Where the tables are.
    batch : Batch
        What to do for each series.

    Yields
    ------
    dg.MaterializeResult
        For a run of one partition only.

    Raises
    ------
    dg.Failure
        A series failed, after all others were taken. It names each failed series and why, and
        Dagster does not retry it.
    """
    table = batch.table
    series, is_partitioned = _series_of_run(context, config)
    is_alone = is_partitioned and len(series) == 1
    if not is_alone:
        series = remaining_after_retries(context, settings, table, series)
    remove_partials(settings.interim / table.name)
    if not is_partitioned:
        _plan(context, series)
    reporter.begin(table, len(series))
    failed: dict[str, str] = {}
    recorder = _Recorder(context, reporter, table)
    try:
        for result in map_series(
            batch.work, series, batch.workers, alone=batch.alone, threads=_threads(settings)
        ):
            recorder.flush_if_due()
            if result is None:
                continue
            uid, outcome = result
            if isinstance(outcome, SeriesFailure):
                failed[uid] = outcome.reason
                _tell_failed(context, table, uid, outcome)
                reporter.failed(table, uid, outcome.reason)
                continue
            for note in outcome.notes:
                context.log.warning(f"{uid}: {note}")
            if is_alone:
                yield dg.MaterializeResult(
                    metadata=_metadata(outcome), data_version=_data_version(outcome)
                )
                reporter.done(table, uid, outcome)
            else:
                recorder.add(uid, outcome)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        _end_as_canceled(context)
        raise
    finally:
        recorder.flush()
    # A worker that died has left what it had not placed; others may never take this table again.
    remove_partials(settings.interim / table.name)
    if failed:
        raise _failure(table, failed, len(series))


def _threads(settings: Settings) -> int:
    """Return by how many threads series are taken in this process: a store makes each one wait."""
    if not any(isinstance(root, ObjectPath) for root in (settings.raw, settings.interim)):
        return 1
    return THREADS if settings.threads is None else settings.threads


def _tell_failed(
    context: dg.AssetExecutionContext,
    table: Artifact,
    series_instance_uid: str,
    failed: SeriesFailure,
) -> None:
    context.log.error(f"{series_instance_uid}: {failed.reason}")
    if failed.traceback:
        _LOG.error("%s %s: %s", table.name, series_instance_uid, failed.traceback)


def _series_of_run(
    context: dg.AssetExecutionContext, config: SeriesConfig
) -> tuple[Sequence[str], bool]:
    if context.has_partition_key or context.has_partition_key_range:
        if config.series:
            raise dg.Failure(
                "this run has partitions and `series` in its config: give one of the two",
                allow_retries=False,
            )
        return list(context.partition_keys), True
    if not config.series:
        raise dg.Failure(
            "this run has no series: choose partitions, or give `series` in the config",
            allow_retries=False,
        )
    return list(dict.fromkeys(config.series)), False


def _plan(context: dg.AssetExecutionContext, series: Sequence[str]) -> None:
    """Say which partitions are to come, as Dagster itself does for a run that has partitions.

    Without it a series that fails, or is cut off, would leave no trace in its status.
    """
    batch_id = str(uuid4())
    for index, uid in enumerate(series):
        event = dg.DagsterEvent.build_asset_materialization_planned_event(
            context.run.job_name,
            context.get_step_execution_context().step.key,
            AssetMaterializationPlannedData(context.asset_key, partition=uid),
        )
        context.instance.report_dagster_event(
            event,
            context.run.run_id,
            logging.DEBUG,
            batch_metadata=DagsterEventBatchMetadata(batch_id, index == len(series) - 1),
        )


class _Recorder:
    """Records done series in batches: one transaction for many, and none later than a moment.

    What a kill can lose is the record of series whose files are whole; they are read once more.
    """

    def __init__(
        self, context: dg.AssetExecutionContext, reporter: Reporter, table: Artifact
    ) -> None:
        self._context = context
        self._reporter = reporter
        self._table = table
        self._pending: list[tuple[str, SeriesResult]] = []
        self._since = 0.0

    def add(self, series_instance_uid: str, written: SeriesResult) -> None:
        """Take a series whose file is safe on disk."""
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append((series_instance_uid, written))
        if written.seconds >= _BATCH_SECONDS:
            # The next may take as long, and where it is read in this process nobody asks meanwhile.
            self.flush()
        else:
            self.flush_if_due()

    def flush_if_due(self) -> None:
        """Record what has waited its time."""
        waited = time.monotonic() - self._since
        if self._pending and (len(self._pending) >= _BATCH or waited >= _BATCH_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Record all that waits; a Ctrl-C meanwhile takes effect after."""
        if self._pending:
            _stop_if_ended(self._context)
        batch_id = str(uuid4())
        with deferred_signals():
            pending, self._pending = self._pending, []
            for index, (uid, written) in enumerate(pending):
                dg.DagsterEvent.asset_materialization(
                    self._context.get_step_execution_context(),
                    dg.AssetMaterialization(
                        self._context.asset_key,
                        partition=uid,
                        metadata=_metadata(written),
                        tags={DATA_VERSION_TAG: written.fingerprint} if written.fingerprint else {},
                    ),
                    DagsterEventBatchMetadata(batch_id, index == len(pending) - 1),
                )
            for uid, written in pending:
                self._reporter.done(self._table, uid, written)


def _stop_if_ended(context: dg.AssetExecutionContext) -> None:
    """Stop where Dagster took the worker of this run for dead: a retry has the rest by now.

    A worker that was cut off from the network, or frozen, would go on where it stopped, and record
    what the retry records too.
    """
    if CARRIER_TAG not in context.run.tags:
        return
    run = _run_now(context)
    if run is None or run.is_finished:
        raise dg.DagsterExecutionInterruptedError


def _run_now(context: dg.AssetExecutionContext) -> dg.DagsterRun | None:
    """Return what Dagster says of the run; a database that is away is waited for.

    What it could not record would be lost, and its run fail for good: a step that fails is not
    retried, as the same input would fail again.
    """
    until = time.monotonic() + _DATABASE_PATIENCE_SECONDS
    while True:
        try:
            run: dg.DagsterRun | None = context.instance.get_run_by_id(context.run.run_id)
        except Exception as error:
            # Storage wraps it in a class of a package that only a cluster has, after some seconds.
            if not isinstance(error.__cause__ or error, DBAPIError) or time.monotonic() > until:
                raise
            _LOG.warning("the database does not answer: waiting for it")
        else:
            return run


def _end_as_canceled(context: dg.AssetExecutionContext) -> None:
    """Let an interrupted run end CANCELED: the series it did not reach are missing, not failed.

    One of several hosts that goes down leaves its run to another: that run fails, and is retried.
    """
    if CARRIER_TAG in context.run.tags:
        return
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.status == dg.DagsterRunStatus.STARTED:
        # Nobody canceled it in the UI: its process is to end, as `dagster dev` does.
        context.instance.add_run_tags(run.run_id, {CUT_OFF_TAG: INTERRUPTED})
        context.instance.report_run_canceling(run)


def _data_version(written: SeriesResult) -> dg.DataVersion | None:
    return dg.DataVersion(written.fingerprint) if written.fingerprint else None


def _metadata(written: SeriesResult) -> Metadata:
    # The picture first: in the UI it is behind a link, which is to be the first thing seen.
    metadata: Metadata = _of_picture(written.picture) if written.picture is not None else {}
    metadata |= {
        "files": written.files,
        "unreadable_files": written.unreadable_files,
        "bytes": written.bytes,
        "seconds": round(written.seconds, 4),
    }
    if written.table is not None:
        metadata["dagster/partition_row_count"] = metadata["rows"] = written.table.rows
        metadata["format"] = written.table.format
        metadata["path"] = dg.MetadataValue.path(str(written.table.path))
    if written.fast_files is not None:
        metadata["fast_files"] = written.fast_files
    if written.csv_sha256:
        metadata["csv_sha256"] = written.csv_sha256
    if written.notes:
        metadata["notes"] = dg.MetadataValue.text("\n".join(written.notes))
    return metadata


def _of_picture(picture: StoredPicture) -> Metadata:
    encoded = base64.b64encode(picture.thumbnail).decode("ascii")
    return {
        "preview": dg.MetadataValue.md(
            f"![{picture.description}](data:image/jpeg;base64,{encoded})"
        ),
        "points": picture.points,
        "points_shown": picture.points_shown,
        "layout": picture.layout,
        "picture_bytes": picture.size,
        "path": dg.MetadataValue.path(str(picture.path)),
    }


def _failure(table: Artifact, failed: dict[str, str], series: int) -> dg.Failure:
    named = [f"{uid}: {reason}" for uid, reason in failed.items()]
    named = lines_in_brief(named, _MOST_FAILURES, "more, in the metadata of this failure")
    return dg.Failure(
        "\n".join([f"{table.name}: {len(failed)} of {series} series failed", *named]),
        metadata={"failed_series": dg.MetadataValue.json(failed)},
        allow_retries=False,
    )
