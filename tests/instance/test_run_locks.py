"""Which runs are alive: a lock lives as long as its process, and a dead run is ended."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from aneurysm_assets.instance import run_locks
from aneurysm_assets.settings import Settings
from tests.processes import started

RUN = "2f6a3fc8-4c1b-4c0e-9d0e-5a2b7c9d1e3f"

HOLD = """
import sys, time
from aneurysm_assets.instance import run_locks
from aneurysm_assets.settings import Settings
run_locks.hold(Settings.from_environment(), sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"ANEURYSM_DATA": str(tmp_path)})


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@contextmanager
def other_process_holding(settings: Settings, name: str) -> Iterator[subprocess.Popen]:
    with started("python", "-c", HOLD, name, ANEURYSM_DATA=settings.data) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def locks(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.dagster_home / "locks").glob("*.lock"))


@dg.job
def a_job() -> None: ...


def begin_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return instance.create_run_for_job(a_job, run_id=RUN, status=dg.DagsterRunStatus.STARTED)


def status_of(instance: dg.DagsterInstance) -> dg.DagsterRunStatus:
    return instance.get_run_by_id(RUN).status


def test_holding_twice_in_one_process_changes_nothing(settings) -> None:
    run_locks.hold(settings, "name")
    run_locks.hold(settings, "name")
    run_locks.release(settings, "name")
    assert locks(settings) == []


def test_releasing_what_is_not_held_does_nothing(settings) -> None:
    run_locks.release(settings, "name")
    assert locks(settings) == []


def test_what_another_process_holds_cannot_be_held(settings) -> None:
    with (
        other_process_holding(settings, "name"),
        pytest.raises(run_locks.AlreadyRunning, match=r"another process holds .*name\.lock"),
    ):
        run_locks.hold(settings, "name")


def test_two_data_roots_can_be_worked_on_at_the_same_time(settings, tmp_path) -> None:
    other = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path / "other")})
    with other_process_holding(other, "name"):
        run_locks.hold(settings, "name")
        run_locks.release(settings, "name")


def test_a_killed_process_lets_go(settings) -> None:
    with other_process_holding(settings, "name") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        run_locks.hold(settings, "name")
        run_locks.release(settings, "name")


def test_the_run_of_a_killed_process_is_canceled_and_leaves_no_lock(settings, instance) -> None:
    begin_run(instance)
    with other_process_holding(settings, RUN) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run_locks.end_dead_runs(instance, settings) == [RUN]
    assert status_of(instance) == dg.DagsterRunStatus.CANCELED
    assert locks(settings) == []
    assert run_locks.end_dead_runs(instance, settings) == []


def test_the_run_of_a_live_process_is_left_alone(settings, instance) -> None:
    begin_run(instance)
    with other_process_holding(settings, RUN):
        assert run_locks.end_dead_runs(instance, settings) == []
        assert status_of(instance) == dg.DagsterRunStatus.STARTED
        assert locks(settings) == [f"{RUN}.lock"]


def test_the_run_of_this_process_is_left_alone(settings, instance) -> None:
    begin_run(instance)
    run_locks.hold(settings, RUN)
    try:
        assert run_locks.end_dead_runs(instance, settings) == []
        assert status_of(instance) == dg.DagsterRunStatus.STARTED
    finally:
        run_locks.release(settings, RUN)


def test_the_lock_of_a_run_that_ended_by_itself_is_cleared_away(settings, instance) -> None:
    run = begin_run(instance)
    instance.report_run_failed(run)
    with other_process_holding(settings, RUN) as process:
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert run_locks.end_dead_runs(instance, settings) == []
    assert status_of(instance) == dg.DagsterRunStatus.FAILURE
    assert locks(settings) == []


def test_locks_that_are_no_run_of_this_instance_are_left_alone(settings, instance) -> None:
    with other_process_holding(settings, "run"):
        assert run_locks.end_dead_runs(instance, settings) == []
        assert locks(settings) == ["run.lock"]


def test_where_nothing_was_ever_run_there_is_nothing_to_end(settings, instance) -> None:
    assert run_locks.end_dead_runs(instance, settings) == []
    assert list(settings.data.iterdir()) == []


@pytest.fixture
def shared(monkeypatch) -> None:
    """Have the instance count as one that several hosts use."""
    monkeypatch.setattr(run_locks, "is_shared", lambda _: True)


def test_a_run_of_another_host_is_left_alone_though_its_lock_can_be_had_here(
    settings, instance, shared
) -> None:
    begin_run(instance)
    instance.add_run_tags(RUN, {run_locks.HOST_TAG: "another"})
    with other_process_holding(settings, RUN) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run_locks.end_dead_runs(instance, settings) == []
    assert status_of(instance) == dg.DagsterRunStatus.STARTED
    assert locks(settings) == [f"{RUN}.lock"]


def test_a_run_of_this_host_ends_with_its_process_also_where_others_share_the_instance(
    settings, instance, shared
) -> None:
    run_locks.hold_run(instance, settings, begin_run(instance))
    run_locks.release(settings, RUN)
    with other_process_holding(settings, RUN) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run_locks.end_dead_runs(instance, settings) == [RUN]


def test_a_run_that_its_launcher_looks_after_holds_no_lock_and_is_not_judged(
    settings, instance
) -> None:
    begin_run(instance)
    instance.add_run_tags(RUN, {run_locks.CARRIER_TAG: "celery"})
    run = instance.get_run_by_id(RUN)
    run_locks.hold_run(instance, settings, run)
    assert locks(settings) == []
    assert not run_locks.is_judged_here(instance, run)


def test_a_run_of_one_machine_gets_no_tag_of_its_host(settings, instance) -> None:
    run_locks.hold_run(instance, settings, begin_run(instance))
    run_locks.release(settings, RUN)
    assert run_locks.HOST_TAG not in instance.get_run_by_id(RUN).tags
