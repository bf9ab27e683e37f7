"""What a retry leaves out, and that nobody else leaves out anything."""

import os
import shutil
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as db
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from aneurysm_assets.dagster_internals import SqlEventLogStorageTable
from aneurysm_assets.runs import retries
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.storage.table_names import find_tables
from tests.graph import Graph, each_once
from tests.record import SERIES_TABLES, statuses

BY_DAGSTER = {"dagster/retry_number": "1"}
FROM_FAILURE = {"dagster/is_resume_retry": "true"}
ALL_STEPS: dict[str, str] = {}


@pytest.fixture(scope="module")
def load_data(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("load")
    write_load_sample(data, series=6, files=2)
    return data


@pytest.fixture
def graph(load_data: Path, tmp_path: Path) -> Graph:
    return Graph(Path(shutil.copytree(load_data, tmp_path / "data")))


def take(
    graph: Graph, series: list[str], parent: dg.DagsterRun | None = None, **tags: str
) -> dg.DagsterRun:
    """Take a range of series in a run that may come after another; return it, ended."""
    return execute(graph, begin(graph, series, parent, **tags))


def begin(
    graph: Graph, series: list[str], parent: dg.DagsterRun | None, **tags: str
) -> dg.DagsterRun:
    """Make such a run, with all that is planned for it."""
    job = job_of(graph)
    ends = {
        "dagster/asset_partition_range_start": series[0],
        "dagster/asset_partition_range_end": series[-1],
    }
    return graph.instance.create_run_for_job(
        job,
        tags=ends | tags,
        parent_run_id=parent.run_id if parent else None,
        root_run_id=parent.root_run_id or parent.run_id if parent else None,
        asset_selection=job.asset_selection,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def execute(graph: Graph, run: dg.DagsterRun) -> dg.DagsterRun:
    execute_run(InMemoryJob(job_of(graph)), run, graph.instance, raise_on_error=False)
    return graph.instance.get_run_by_id(run.run_id)


def job_of(graph: Graph) -> dg.JobDefinition:
    return graph._job.get_subset(asset_selection={dg.AssetKey(table) for table in SERIES_TABLES})


def twice(series: list[str]) -> dict[str, int]:
    return dict.fromkeys(series, 2)


@pytest.mark.parametrize("tags", [BY_DAGSTER, FROM_FAILURE])
def test_a_retry_takes_what_the_run_before_it_did_not_finish(graph, tags) -> None:
    first = take(graph, graph.series[:2])
    assert take(graph, graph.series, first, **tags).is_success
    for table in SERIES_TABLES:
        assert graph.events(table) == each_once(graph.series)
        assert set(statuses(graph.instance, table).values()) == {"MATERIALIZED"}


def test_a_run_of_all_steps_of_an_earlier_one_takes_everything_anew(graph) -> None:
    first = take(graph, graph.series[:2])
    assert take(graph, graph.series, first, **ALL_STEPS).is_success
    for table in SERIES_TABLES:
        assert graph.events(table) == each_once(graph.series) | twice(graph.series[:2])


def test_a_retry_of_a_retry_knows_what_both_runs_before_it_did(graph) -> None:
    first = take(graph, graph.series[:2])
    second = take(graph, graph.series[:4], first, **BY_DAGSTER)
    take(graph, graph.series, second, **{"dagster/retry_number": "2"})
    for table in SERIES_TABLES:
        assert graph.events(table) == each_once(graph.series)


def test_what_was_done_before_a_run_that_a_user_started_is_not_known_to_its_retry(graph) -> None:
    earlier = take(graph, graph.series[:3])
    started = take(graph, graph.series[:2], earlier, **ALL_STEPS)
    take(graph, graph.series, started, **BY_DAGSTER)
    for table in SERIES_TABLES:
        assert graph.events(table) == each_once(graph.series) | twice(graph.series[:3])


def test_a_retry_takes_again_whose_input_has_changed_or_whose_file_is_gone(graph) -> None:
    first = take(graph, graph.series[:3])
    changed, gone, done = graph.series[:3]
    os.utime(next((graph.settings.series_root / changed).iterdir()), (1, 1))
    find_tables(graph.settings.interim / "dicom_tags")[gone].unlink()
    take(graph, graph.series, first, **BY_DAGSTER)
    assert graph.events("dicom_tags") == each_once(graph.series) | twice([changed, gone])
    assert graph.events("labels") == each_once(graph.series)
    assert done in find_tables(graph.settings.interim / "dicom_tags")


def test_where_a_retry_fails_over_one_series_what_was_done_before_it_stays_done(graph) -> None:
    first = take(graph, graph.series[:2])
    broken = graph.series[-1]
    for path in (graph.settings.series_root / broken).iterdir():
        path.unlink()
    retry = begin(graph, graph.series, first, **BY_DAGSTER)
    # As the UI does meanwhile: Dagster then keeps what it found.
    assert set(statuses(graph.instance, "dicom_tags").values()) == {"IN_PROGRESS"}
    assert not execute(graph, retry).is_success
    assert graph.with_status("dicom_tags", "FAILED") == [broken]
    assert graph.with_status("dicom_tags", "MATERIALIZED") == graph.series[:-1]


def rows_of_events(instance: dg.DagsterInstance, run_id: str) -> dict[str, Counter]:
    """Count the rows of both databases by event, run, asset and partition."""
    table, storage = SqlEventLogStorageTable, instance.event_log_storage
    rows = db.select(
        table.c.dagster_event_type, table.c.run_id, table.c.asset_key, table.c.partition
    )
    with storage.index_connection() as connection:
        index = Counter(map(tuple, connection.execute(rows)))
    with storage.run_connection(run_id) as connection:
        runs = Counter(map(tuple, connection.execute(rows)))
    return {"index": index, "runs": runs}


def test_a_retry_deletes_its_own_plan_of_materialized_series_and_no_other_row(
    graph, monkeypatch
) -> None:
    first = take(graph, graph.series[:2])
    retry = begin(graph, graph.series, first, **BY_DAGSTER)
    delete, deleted = retries._delete_planned_events, []

    def delete_and_compare(instance, run_id, key, series) -> None:
        before = rows_of_events(instance, run_id)
        delete(instance, run_id, key, series)
        after = rows_of_events(instance, run_id)
        # A Counter's difference has no negative counts, so both directions are compared.
        assert not any(after[name] - before[name] for name in before)
        deleted.append((key, {name: before[name] - after[name] for name in before}))

    monkeypatch.setattr(retries, "_delete_planned_events", delete_and_compare)
    assert execute(graph, retry).is_success
    assert sorted(key.to_user_string() for key, _ in deleted) == sorted(SERIES_TABLES)
    for key, rows in deleted:
        planned = "ASSET_MATERIALIZATION_PLANNED", retry.run_id, key.to_string()
        of_retry = Counter((*planned, uid) for uid in graph.series[:2])
        assert rows == {"index": of_retry, "runs": of_retry}
