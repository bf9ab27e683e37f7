"""What works on our assets now, and how the last run requested by itself ended.

Only the record is looked at, and runs that never began are ended; what is to be done then belongs
to `tick_plan`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import dagster as dg

from aneurysm_assets.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    AUTO_RETRY_RUN_ID_TAG,
    WILL_RETRY_TAG,
    BulkActionsFilter,
    BulkActionStatus,
)
from aneurysm_assets.instance import run_locks
from aneurysm_assets.schema.tables import ALL_TABLES
from aneurysm_assets.settings import Settings

RUN_TAG = "aneurysm_assets/automation"
"""On the runs requested by themselves: `series` or `combine`."""

REQUEST_TAG = "aneurysm_assets/automation_request"
"""On those runs too: the digest of all that the tick requested, to know the same request again."""

OURS = {dg.AssetKey(table.name) for table in ALL_TABLES}

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

_ACTIVE = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]

_BEGINS_WITHIN = timedelta(minutes=5)
"""A run holds its lock some seconds after it was started."""

_DAEMON_LIVES = timedelta(seconds=90)
"""A living daemon tells each half a minute that it lives."""

_RETRIED_WITHIN = timedelta(minutes=10)
"""Dagster's daemon retries a failed run within seconds; one it forgot is not waited for."""


def in_progress(instance: dg.DagsterInstance, settings: Settings) -> str:
    """Return what works on our assets now, empty where nothing does.

    A run that was killed before it held its lock would be waited for for ever: it is ended.
    """
    if run_locks.is_held(settings, run_locks.RUN):
        return "`aneurysm-assets run`"
    for record in instance.get_run_records(filters=dg.RunsFilter(statuses=_UNFINISHED)):
        run = record.dagster_run
        if not _is_ours(instance, run):
            continue
        age = datetime.now(UTC) - record.update_timestamp
        lives = (
            run.status == dg.DagsterRunStatus.QUEUED
            or age < _BEGINS_WITHIN
            or not run_locks.is_judged_here(instance, run)
            or run_locks.is_held(settings, run.run_id)
        )
        if lives:
            return f"run {run.run_id}"
        run_locks.end_killed(instance, run)
    if waiting := _to_be_retried(instance):
        return f"the retry of run {waiting}"
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=_ACTIVE)):
        if backfill.asset_selection is None or OURS & set(backfill.asset_selection):
            return f"backfill {backfill.backfill_id}"
    return ""


def end_dead(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """End our runs that nothing works on, so that none of their series stays in progress.

    These are runs of this host whose process was killed before it held its lock, and runs that wait
    for a daemon where none lives.

    Returns
    -------
    list of str
        Their ids. They become CANCELED: what they materialized stays, the rest is missing.
    """
    statuses = [*_UNFINISHED, dg.DagsterRunStatus.NOT_STARTED]
    ended = []
    for record in instance.get_run_records(filters=dg.RunsFilter(statuses=statuses)):
        run = record.dagster_run
        age = datetime.now(UTC) - record.update_timestamp
        is_new = age < _BEGINS_WITHIN
        if run.status == dg.DagsterRunStatus.QUEUED:
            is_new = age < _DAEMON_LIVES or _daemon_lives(instance)
        if is_new or not run_locks.is_judged_here(instance, run):
            continue
        if run_locks.is_held(settings, run.run_id) or not _is_ours(instance, run):
            continue
        run_locks.end_killed(instance, run)
        ended.append(run.run_id)
    return ended


def alive(instance: dg.DagsterInstance) -> list[str]:
    """Return the ids of our runs that are not finished; dead ones are to be ended before."""
    records = instance.get_run_records(filters=dg.RunsFilter(statuses=_UNFINISHED))
    return [r.dagster_run.run_id for r in records if _is_ours(instance, r.dagster_run)]


def _daemon_lives(instance: dg.DagsterInstance) -> bool:
    now = datetime.now(UTC).timestamp()
    beats = instance.get_daemon_heartbeats().values()
    return any(now - beat.timestamp < _DAEMON_LIVES.total_seconds() for beat in beats)


def _to_be_retried(instance: dg.DagsterInstance) -> str:
    """Return a failed run that Dagster will retry and has not yet; empty where there is none."""
    if not instance.run_retries_enabled:
        return ""
    failed = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=datetime.now(UTC) - _RETRIED_WITHIN,
    )
    for run in instance.get_runs(filters=failed):
        if AUTO_RETRY_RUN_ID_TAG not in run.tags and _is_ours(instance, run):
            return run.run_id
    return ""


def _is_ours(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    if run.asset_selection is None and run.execution_plan_snapshot_id is None:
        return True
    return bool(OURS & assets_of_run(instance, run))


def assets_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[dg.AssetKey]:
    """Return the assets that a run is to make."""
    if run.asset_selection is not None:
        return set(run.asset_selection)
    if run.execution_plan_snapshot_id is None:
        return set()
    # A run of a whole job: each of our assets is a step of its own, with the asset's name.
    plan = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    return {dg.AssetKey(step) for step in plan.step_keys_to_execute}


def unsuccessful(
    instance: dg.DagsterInstance, kind: Literal["series", "combine"]
) -> list[dg.DagsterRun]:
    """Return those runs of the last request of a kind that failed or were canceled, latest first.

    One that ended with `dagster dev` is none of these: it only goes on later.
    """
    runs = instance.get_runs(filters=dg.RunsFilter(tags={RUN_TAG: kind}), limit=1)
    if runs and (request := runs[0].tags.get(REQUEST_TAG)):
        runs = instance.get_runs(filters=dg.RunsFilter(tags={RUN_TAG: kind, REQUEST_TAG: request}))
    ends = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    return [
        run
        for run in runs
        if run.status in ends and run.tags.get(run_locks.CUT_OFF_TAG) != run_locks.INTERRUPTED
    ]


def canceled_by_user(run: dg.DagsterRun) -> bool:
    """Tell whether somebody canceled a run, and not the end of its process."""
    return (
        run.status == dg.DagsterRunStatus.CANCELED and run.tags.get(run_locks.CUT_OFF_TAG) is None
    )


def series_of(run: dg.DagsterRun, registered: Sequence[str]) -> dict[str, set[str]]:
    """Return by table the series that a run requested by itself was to take."""
    tables = [key.to_user_string() for key in run.asset_selection or ()]
    ends = [
        run.tags.get(tag)
        for tag in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
    ]
    if all(end in registered for end in ends):
        start, end = (registered.index(str(uid)) for uid in ends)
        return {table: set(registered[start : end + 1]) for table in tables}
    config: Mapping[str, Any] = run.run_config
    ops = config.get("ops", {})
    return {table: set(ops.get(table, {}).get("config", {}).get("series", ())) for table in tables}
