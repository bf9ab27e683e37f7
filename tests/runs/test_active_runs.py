"""Which runs of Dagster work on our assets, and which only look as if they did."""

import time
from datetime import datetime, timedelta
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._daemon.types import DaemonHeartbeat

from aneurysm_assets.instance import run_locks
from aneurysm_assets.runs import active_runs
from aneurysm_assets.settings import Settings

STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("a location"), "a repository"), "a job"
)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(tmp_path, tmp_path / "raw", tmp_path / "interim", 1)


@pytest.fixture
def instance(monkeypatch):
    monkeypatch.setattr(active_runs, "_BEGINS_WITHIN", timedelta(0))
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def add(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, asset: str = "labels") -> str:
    run = dg.DagsterRun(
        job_name="a job",
        run_id=str(uuid4()),
        status=status,
        asset_selection=frozenset([dg.AssetKey(asset)]),
        remote_job_origin=ORIGIN if status == dg.DagsterRunStatus.QUEUED else None,
    )
    return instance.add_run(run).run_id


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def in_two_minutes(patch: pytest.MonkeyPatch) -> None:
    """Let the module believe that two minutes have passed."""

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(minutes=2)

    patch.setattr(active_runs, "datetime", Later)


def beat(instance: dg.DagsterInstance, seconds_ago: float) -> None:
    instance.add_daemon_heartbeat(
        DaemonHeartbeat(time.time() - seconds_ago, "QUEUED_RUN_COORDINATOR", "one", [])
    )


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.value)
def test_a_run_that_nothing_works_on_is_ended(instance, settings, monkeypatch, status) -> None:
    in_two_minutes(monkeypatch)
    run_id = add(instance, status)
    assert active_runs.end_dead(instance, settings) == [run_id]
    assert status_of(instance, run_id) == dg.DagsterRunStatus.CANCELED
    assert active_runs.alive(instance) == []


def test_a_run_whose_process_holds_its_lock_goes_on(instance, settings) -> None:
    run_id = add(instance, dg.DagsterRunStatus.STARTED)
    run_locks.hold(settings, run_id)
    try:
        assert active_runs.end_dead(instance, settings) == []
        assert active_runs.alive(instance) == [run_id]
    finally:
        run_locks.release(settings, run_id)


def test_a_run_that_was_just_started_has_time_to_hold_its_lock(
    instance, settings, monkeypatch
) -> None:
    monkeypatch.setattr(active_runs, "_BEGINS_WITHIN", timedelta(minutes=5))
    run_id = add(instance, dg.DagsterRunStatus.STARTING)
    assert active_runs.end_dead(instance, settings) == []
    assert active_runs.alive(instance) == [run_id]


@pytest.mark.parametrize(("seconds_ago", "lives"), [(10.0, True), (600.0, False)])
def test_a_queued_run_waits_for_a_daemon_as_long_as_one_lives(
    instance, settings, monkeypatch, seconds_ago, lives
) -> None:
    run_id = add(instance, dg.DagsterRunStatus.QUEUED)
    in_two_minutes(monkeypatch)
    beat(instance, seconds_ago - 120)
    assert active_runs.end_dead(instance, settings) == ([] if lives else [run_id])


def test_a_run_of_other_assets_is_left_alone(instance, settings) -> None:
    run_id = add(instance, dg.DagsterRunStatus.STARTED, asset="of somebody else")
    assert active_runs.end_dead(instance, settings) == []
    assert status_of(instance, run_id) == dg.DagsterRunStatus.STARTED
