"""Materializing the series of one step: which ones, by how many processes, and which failed.

A batch step records its series by `event_recorder`; its output only says that it ended, so that
its dependants run in the same run. As an ordinary output it would make a second event per series,
which blanks the first. A run of one partition yields an ordinary result.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from pydantic import Field

from aneurysm_assets.dagster_internals import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from aneurysm_assets.messages import lines_in_brief
from aneurysm_assets.parallel.series_map import SeriesFailure, Work, map_series
from aneurysm_assets.runs.event_recorder import EventRecorder, materialize_result, record_planned
from aneurysm_assets.runs.resources import Reporter
from aneurysm_assets.runs.retries import remaining_after_retries
from aneurysm_assets.runs.run_settings import end_as_canceled
from aneurysm_assets.schema.tables import SERIES_TABLES, Artifact
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import remove_partials
from aneurysm_assets.storage.fetching import THREADS
from aneurysm_assets.storage.object_path import ObjectPath

_LOG = logging.getLogger(__name__)

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
        Processes that do the work; with 0 this process does it, or those that the run has anyway.
    alone : callable, optional
        From a SeriesInstanceUID to the same work with what that series needs of it and no more.
    """

    table: Artifact
    work: Work
    workers: int
    alone: Callable[[str], Work] | None = None


@dataclass(frozen=True)
class _Plan:
    """The series that a step takes; `is_alone` where it is the one partition of the run."""

    series: Sequence[str]
    is_alone: bool


def materialize_series(
    context: dg.AssetExecutionContext,
    config: SeriesConfig,
    reporter: Reporter,
    settings: Settings,
    batch: Batch,
) -> Iterator[dg.MaterializeResult[None] | dg.Output[None]]:
    """Do the work for each series of a run, and record each as soon as it is done.

    Parameters
    ----------
    context : dg.AssetExecutionContext
        The context of an asset partitioned by series, with `output_required=False`.
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
    dg.MaterializeResult or dg.Output
        The former for a run of one partition only; the latter records nothing.

    Raises
    ------
    dg.Failure
        A series failed, after all others were taken. It names each failed series and why, and
        Dagster does not retry it.
    """
    plan = _plan(context, config, settings, batch.table)
    reporter.begin(batch.table, len(plan.series))
    failed = yield from _take(context, reporter, settings, batch, plan)
    _finish(settings, batch.table, plan, failed)
    if not plan.is_alone:
        yield dg.Output(None, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})


def _plan(
    context: dg.AssetExecutionContext, config: SeriesConfig, settings: Settings, table: Artifact
) -> _Plan:
    """Decide which series the step takes, and record the partitions that Dagster does not know."""
    series, is_partitioned = _series_of_run(context, config)
    is_alone = is_partitioned and len(series) == 1
    if not is_alone:
        series = remaining_after_retries(context, settings, table, series)
    remove_partials(settings.interim / table.name)
    if not is_partitioned:
        record_planned(context, series)
    return _Plan(series, is_alone)


def _take(
    context: dg.AssetExecutionContext,
    reporter: Reporter,
    settings: Settings,
    batch: Batch,
    plan: _Plan,
) -> Generator[dg.MaterializeResult[None], None, dict[str, str]]:
    """Do the work for the planned series, record each, and return why which of them failed."""
    table, failed = batch.table, dict[str, str]()
    recorder = EventRecorder(context, reporter, table)
    outcomes = map_series(
        batch.work, plan.series, batch.workers, alone=batch.alone, threads=_threads(settings)
    )
    try:
        for item in outcomes:
            recorder.flush_if_due()
            if item is None:
                continue
            uid, outcome = item
            if isinstance(outcome, SeriesFailure):
                failed[uid] = outcome.reason
                _log_failure(context, table, uid, outcome)
                reporter.failed(table, uid, outcome.reason)
                continue
            for note in outcome.notes:
                context.log.warning(f"{uid}: {note}")
            if plan.is_alone:
                yield materialize_result(outcome)
                reporter.done(table, uid, outcome)
            else:
                recorder.add(uid, outcome)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        end_as_canceled(context)
        raise
    finally:
        recorder.flush()
    return failed


def _finish(settings: Settings, table: Artifact, plan: _Plan, failed: dict[str, str]) -> None:
    """Remove what dead workers did not place, and fail the step where a series failed."""
    # Others may never take this table again.
    remove_partials(settings.interim / table.name)
    if failed:
        raise _failure(table, failed, len(plan.series))


def _threads(settings: Settings) -> int:
    """Return how many threads of this process take series: with a store each of them waits."""
    if not any(isinstance(root, ObjectPath) for root in (settings.raw, settings.interim)):
        return 1
    return THREADS if settings.threads is None else settings.threads


def _log_failure(
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


def _failure(table: Artifact, failed: dict[str, str], series: int) -> dg.Failure:
    named = [f"{uid}: {reason}" for uid, reason in failed.items()]
    named = lines_in_brief(named, _MOST_FAILURES, "more, in the metadata of this failure")
    text = [f"{table.name}: {len(failed)} of {series} series failed", *named]
    if table in SERIES_TABLES:
        text.append(
            "The unified table is made of the others by the sensor `table_automation`, by the job "
            "`combine`, or by `aneurysm-assets run`, which tries the failed ones again."
        )
    return dg.Failure(
        "\n".join(text),
        metadata={"failed_series": dg.MetadataValue.json(failed)},
        allow_retries=False,
    )
