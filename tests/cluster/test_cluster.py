"""A cluster: two Celery workers over PostgreSQL and Redis, backfills through daemon and webserver.

The tests are one story, in the order in which they stand: the servers are real, each process is
the one of the Procfile, and what is killed is killed with SIGKILL.
"""

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.execution.backfill import BulkActionsFilter
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import pack_value
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
from polars.testing import assert_frame_equal

from aneurysm_assets.cluster.celery_launcher import WORKER_TAG, CeleryLauncher
from aneurysm_assets.raw.inventory import take_inventory
from aneurysm_assets.runs.partitions import register
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.settings import Settings
from deploy.procfile import process_of
from tests.graph import Graph, each_once
from tests.processes import wait_until
from tests.record import ALL_TABLES, SERIES_TABLES, events, statuses
from tests.running_cluster import Cluster, worker_of
from tests.servers import passable_directory, skipped_where_missing

NAMES = ("one", "two")
IN_A_RUN = 10
SERIES = 2 * IN_A_RUN

CANCEL = """
mutation ($id: String!) {
  terminateRun(runId: $id) { __typename ... on PythonError { message } }
}
"""


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with passable_directory() as made:
        yield made


@pytest.fixture(scope="module")
def data(directory: Path) -> Path:
    write_load_sample(directory / "data", series=SERIES, files=2)
    return directory / "data"


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory) -> pl.DataFrame:
    """Return the unified table as one process on one machine makes it."""
    alone = Path(shutil.copytree(data, tmp_path_factory.mktemp("alone") / "data"))
    graph = Graph(alone)
    assert graph.run_all(*SERIES_TABLES).success
    assert graph.run("unified_metadata").success
    return unified(alone)


@pytest.fixture(scope="module")
def two(directory: Path, data: Path, expected: pl.DataFrame, is_long: bool) -> Iterator[Cluster]:
    """Return a cluster of the workers `one` and `two`, which has its series registered."""
    # The thorough suite has the project loaded anew while the database is away.
    reload = 25 if is_long else 60
    with skipped_where_missing(), Cluster(directory, data, NAMES, IN_A_RUN, reload) as made:
        with made.instance() as instance:
            register(instance, take_inventory(Settings.from_environment(made.variables)).series)
        made.until_ready()
        yield made


def unified(data: Path) -> pl.DataFrame:
    return pl.read_parquet(data / "interim" / "dicom_metadata_with_csv.parquet")


def counts(cluster: Cluster) -> dict[str, dict[str | None, int]]:
    with cluster.instance() as instance:
        return {table: dict(events(instance, table)) for table in SERIES_TABLES}


def since(cluster: Cluster, before: dict[str, dict[str | None, int]]) -> dict[str, Counter]:
    """Return how often each series was materialized since."""
    return {
        table: Counter(of_table) - Counter(before[table])
        for table, of_table in counts(cluster).items()
    }


def each_table_once(series: list[str]) -> dict[str, dict[str, int]]:
    return dict.fromkeys(SERIES_TABLES, each_once(series))


def recorded_by(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    return len(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION))


def in_the_middle(cluster: Cluster, runs: int = 1) -> dict[str, dg.DagsterRun]:
    """Wait until so many runs are held in the middle; return them by the names of their workers.

    All that a run has done is recorded by then: it is in no transaction.
    """
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    found: list[dg.DagsterRun] = []

    def are_held() -> bool:
        with cluster.instance() as instance:
            found[:] = instance.get_runs(filters=started)
            return [recorded_by(instance, run) for run in found] == [IN_A_RUN // 2] * runs

    wait_until(are_held, f"{runs} runs were held in the middle", every=0.2)
    return {worker_of(run).removesuffix("@here"): run for run in found}


def held_in_the_middle(cluster: Cluster) -> AbstractContextManager[None]:
    """Let each run of a backfill wait, while the block lasts, when it has done half of its series.

    It has one process, which takes them in their order.
    """
    return cluster.held_at(cluster.series[IN_A_RUN // 2 :: IN_A_RUN])


def until_failed(cluster: Cluster, *runs: dg.DagsterRun) -> None:
    wait_until(
        lambda: all(has_failed(cluster, run) for run in runs), "the runs had failed", every=0.1
    )


def retry_of(cluster: Cluster, run: dg.DagsterRun) -> dg.DagsterRun:
    """Return the run by which Dagster retried another, ended."""
    with cluster.instance() as instance:
        (retry,) = [each for each in instance.get_runs() if each.parent_run_id == run.run_id]
        return retry


def has_failed(cluster: Cluster, run: dg.DagsterRun) -> bool:
    with cluster.instance() as instance:
        return instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def said(cluster: Cluster, text: str) -> int:
    """Return how often processes of the cluster have said something, in their logs or a step's."""
    logs = [path for path in cluster.home.rglob("*") if path.suffix in {".log", ".err"}]
    return sum(path.read_text(errors="replace").count(text) for path in logs)


def assert_all_is_done(cluster: Cluster) -> None:
    with cluster.instance() as instance:
        for table in SERIES_TABLES:
            assert set(statuses(instance, table).values()) == {"MATERIALIZED"}, table


def test_a_backfill_of_everything_over_two_workers_is_as_one_machine_makes_it(
    two, expected
) -> None:
    backfill = two.launch_backfill(ALL_TABLES, two.series)
    assert two.until_ended(backfill) == "COMPLETED_SUCCESS"
    runs = [run for run in two.runs() if dg.AssetKey("dicom_tags") in run.asset_selection]
    assert len(runs) == SERIES / IN_A_RUN
    assert {worker_of(run) for run in runs} == {"one@here", "two@here"}
    assert counts(two) == each_table_once(two.series)
    assert_all_is_done(two)
    assert_frame_equal(unified(two.data), expected)


def test_a_run_that_the_queue_hands_out_twice_runs_once(two) -> None:
    before = counts(two)
    run = two.runs()[0]
    with two.instance() as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, CeleryLauncher)
        args = ExecuteRunArgs(run.job_code_origin, run.run_id, instance.get_ref())
        launcher.celery.send_task(
            "execute_job",
            kwargs={"execute_job_args_packed": pack_value(args)},
            queue="dagster",
        )
    wait_until(lambda: said(two, "was handed out again"), "a worker had refused it", every=0.1)
    assert counts(two) == before
    assert [each.status for each in two.runs() if each.run_id == run.run_id] == [run.status]


def test_workers_killed_or_frozen_in_the_middle_lose_nothing_and_nothing_is_done_twice(
    two, expected
) -> None:
    # Between two runs the database goes away, and comes back with all that it had.
    two.postgresql.stop()
    two.postgresql.start()
    two.until_ready()
    before = counts(two)
    assert before == each_table_once(two.series)
    with held_in_the_middle(two):
        backfill = two.launch_backfill(ALL_TABLES, two.series)
        runs = in_the_middle(two, 2)
        two.workers["one"].kill()
        os.killpg(two.workers["two"].pid, signal.SIGSTOP)
        until_failed(two, *runs.values())
    # The one that was taken for dead comes back, and records nothing more of that run.
    os.killpg(two.workers["two"].pid, signal.SIGCONT)
    two.workers["one"].start()
    assert two.until_ended(backfill) == "COMPLETED_SUCCESS"

    # Those done before the backfill were asked for again, and each was taken again once.
    assert since(two, before) == each_table_once(two.series)
    assert_all_is_done(two)
    assert_frame_equal(unified(two.data), expected)
    with two.instance() as instance:
        for run in runs.values():
            dead, retry = instance.get_run_by_id(run.run_id), retry_of(two, run)
            of_both = IN_A_RUN * len(SERIES_TABLES)
            assert dead.status == dg.DagsterRunStatus.FAILURE
            assert 0 < recorded_by(instance, dead) < of_both
            assert recorded_by(instance, retry) == of_both - recorded_by(instance, dead)
        assert len(instance.get_backfills(filters=BulkActionsFilter())) == 2


def test_a_worker_that_is_told_to_end_leaves_its_run_to_another(two) -> None:
    before, series = counts(two), two.series[:IN_A_RUN]
    with held_in_the_middle(two):
        backfill = two.launch_backfill(SERIES_TABLES, series)
        ((worker, run),) = in_the_middle(two).items()
        two.workers[worker].stop(by=signal.SIGTERM)
    assert two.until_ended(backfill) == "COMPLETED_SUCCESS"
    assert since(two, before) == each_table_once(series)
    (other,) = two.workers.keys() - {worker}
    assert worker_of(retry_of(two, run)) == f"{other}@here"


def test_a_database_that_goes_away_in_the_middle_of_a_run_is_waited_for(two, is_long) -> None:
    before, series = counts(two), two.series[:IN_A_RUN]
    with held_in_the_middle(two):
        backfill = two.launch_backfill(SERIES_TABLES, series)
        (run,) = in_the_middle(two).values()
        two.postgresql.stop()
    # Each time it says so it has asked for some six seconds.
    times = 5 if is_long else 2
    wait_until(
        lambda: said(two, "the database does not answer: waiting") >= times, "the run waited"
    )
    two.postgresql.start()
    two.until_ready()
    assert two.until_ended(backfill) == "COMPLETED_SUCCESS"
    assert since(two, before) == each_table_once(series)
    with two.instance() as instance:
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS


def test_a_run_that_is_canceled_in_the_ui_ends_canceled_and_is_not_retried(two) -> None:
    before, series = counts(two), two.series[:IN_A_RUN]
    with held_in_the_middle(two):
        backfill = two.launch_backfill(SERIES_TABLES, series)
        (run,) = in_the_middle(two).values()
        assert two.ask(CANCEL, id=run.run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    two.until_ended(backfill)
    with two.instance() as instance:
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.CANCELED
        assert not [each for each in instance.get_runs() if each.parent_run_id == run.run_id]
    taken = since(two, before)
    assert 0 < sum(map(Counter.total, taken.values())) < IN_A_RUN * len(SERIES_TABLES)
    # What it had not reached is still as it was before: done.
    assert_all_is_done(two)


def unloadable() -> dg.DagsterRun:
    """Return a run whose code is on no host."""
    pointer = ModuleCodePointer("is_on_no_host", "defs")
    origin = JobPythonOrigin("job", RepositoryPythonOrigin(sys.executable, pointer))
    return dg.DagsterRun("job", job_code_origin=origin)


def test_a_run_whose_process_ends_before_it_begins_fails_and_is_not_waited_for(two) -> None:
    run = unloadable()
    with two.instance() as instance:
        instance.add_run(run)
        instance.run_launcher.launch_run(LaunchRunContext(run, None))
    until_failed(two, run)


def test_a_run_that_a_worker_took_and_did_not_begin_fails_as_the_worker_comes_back(two) -> None:
    two.workers["one"].kill()
    run, retry = unloadable(), unloadable()
    taken = {WORKER_TAG: "one@here", DAGSTER_CELERY_TASK_ID_TAG: run.run_id}
    with two.instance() as instance:
        # The retry of such a run has its tags, until it is handed out itself.
        for each in (run, retry):
            instance.add_run(each.with_tags(taken))
    two.workers["one"].start()
    until_failed(two, run)
    # The later one is looked at first.
    assert not has_failed(two, retry)


def test_a_second_worker_of_one_name_ends_with_a_sentence_and_touches_nothing(two) -> None:
    run = unloadable().with_tags({WORKER_TAG: "one@here"})
    with two.instance() as instance:
        instance.add_run(run.with_tags({DAGSTER_CELERY_TASK_ID_TAG: run.run_id}))
    second = process_of("worker", two.home, two.variables, "-n", "one@here", name="second")
    second.start()
    try:
        unreaped = os.WEXITED | os.WNOWAIT | os.WNOHANG
        wait_until(lambda: os.waitid(os.P_PID, second.pid, unreaped), "it had ended")
        assert "a worker one@here runs already" in second.log.read_text()
    finally:
        second.kill()
    assert not has_failed(two, run)


def test_a_backfill_in_which_a_series_fails_ends_failed_and_the_others_of_it_are_done(two) -> None:
    broken, *others = series = two.series[:5]
    for path in (two.data / "raw" / "series" / broken).iterdir():
        path.write_bytes(b"no DICOM")
    before = counts(two)
    backfill = two.launch_backfill(("dicom_tags",), series)
    assert two.until_ended(backfill) == "COMPLETED_FAILED"
    assert since(two, before)["dicom_tags"] == each_once(others)
