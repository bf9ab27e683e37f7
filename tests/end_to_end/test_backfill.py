"""Backfills as the UI launches them, through a real `dagster dev`: webserver, daemon, run workers.

The server runs from a fresh copy of the project with no variable set. The tests are one story, in
the order in which they stand.
"""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from aneurysm_assets.sample.dicom import uid
from deploy.cluster import ENDED, LAUNCH, STATE
from tests.dagster_dev import QUICK_DAEMON, dagster_dev
from tests.graph import Graph
from tests.processes import wait_until
from tests.record import ALL_TABLES, SERIES_TABLES, events, instance_of, metadata_of, statuses

# Far apart in the order of registration: a backfill of the two is two runs.
ONE, OTHER = uid("sample", "CTA"), uid("sample", "damaged")

AGAIN = """
mutation ($given: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $given) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""

ASSETS = """
{
  workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } }
  assetNodes {
    assetKey { path }
    isPartitioned
    assetPartitionStatuses { ... on DefaultPartitionStatuses { failedPartitions } }
  }
}
"""

RUN_JOB = """
mutation ($job: String!) {
  launchRun(executionParams: {
    selector: {
      repositoryLocationName: "aneurysm_assets", repositoryName: "__repository__", jobName: $job
    }
    runConfigData: {}
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""


# The sensor that is on by default ticks every 30 seconds; here at each of the daemon's rounds.
QUICK_SENSOR = """
    import dagster._daemon.sensor
    dagster._daemon.sensor.is_under_min_interval = lambda *_: False
"""


class Server:
    """A `dagster dev` and the data of its project."""

    def __init__(self, project: Path, url: str) -> None:
        self.project = project
        self.data = project / "data"
        self._url = f"{url}/graphql"

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def is_ready(self) -> bool:
        try:
            return bool(self.ask(ASSETS)["assetNodes"])
        except OSError:
            return False

    def backfill(self, series: list[str]) -> tuple[str, dict[str, Any]]:
        """Launch a backfill of all assets as the UI does, and wait for its end."""
        return self._until_ended(
            LAUNCH,
            {
                "assetSelection": [{"path": [table]} for table in ALL_TABLES],
                "partitionNames": series,
            },
        )

    def reexecute(self, backfill: str) -> tuple[str, dict[str, Any]]:
        """Do what the UI's "Re-execute from failure" does, and wait for its end."""
        return self._until_ended(AGAIN, {"parentRunId": backfill, "strategy": "FROM_FAILURE"})

    def _until_ended(self, mutation: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        (launched,) = self.ask(mutation, given=given).values()
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        backfill = launched["backfillId"]
        state: dict[str, Any] = {}

        def ended() -> bool:
            state.update(self.ask(STATE, id=backfill)["partitionBackfillOrError"])
            return state["status"] in ENDED

        wait_until(ended, f"backfill {backfill} had ended")
        return backfill, state

    def failed(self) -> dict[str, list[str]]:
        """Return the failed partitions that the UI shows, by asset."""
        shown = {
            node["assetKey"]["path"][-1]: node["assetPartitionStatuses"]["failedPartitions"]
            for node in self.ask(ASSETS)["assetNodes"]
            if node["isPartitioned"]
        }
        return {name: sorted(series) for name, series in shown.items() if series}

    @property
    def series(self) -> list[str]:
        with instance_of(self.data) as instance:
            return list(instance.get_dynamic_partitions("series"))

    def events(self) -> dict[str, dict[str | None, int]]:
        with instance_of(self.data) as instance:
            return {table: dict(events(instance, table)) for table in ALL_TABLES}

    def unified(self) -> pl.DataFrame:
        table = self.data / "interim" / "dicom_metadata_with_csv.parquet"
        return pl.read_parquet(table.read_bytes())  # as it is now: it may be replaced meanwhile


@pytest.fixture(scope="module")
def server(project, sample_data, tmp_path_factory) -> Iterator[Server]:
    quick = QUICK_DAEMON.rstrip() + QUICK_SENSOR
    directory = tmp_path_factory.mktemp("backfill")
    with dagster_dev(project, sample_data, directory, quick=quick) as dev:
        server = Server(dev.project, dev.url)
        wait_until(server.is_ready, "the server had loaded the project")
        yield server


@pytest.fixture(scope="module")
def expected(sample_data, tmp_path_factory) -> pl.DataFrame:
    """Return the unified table of the sample, as one process makes it."""
    data = tmp_path_factory.mktemp("expected") / "data"
    graph = Graph(Path(shutil.copytree(sample_data, data)))
    assert graph.run_all(*SERIES_TABLES).success
    assert graph.run("unified_metadata").success
    return pl.read_parquet(data / "interim" / "dicom_metadata_with_csv.parquet")


def twice(series: list[str]) -> dict[str, int]:
    return dict.fromkeys(series, 2)


def test_dagster_dev_loads_the_project_and_keeps_its_state_under_data_dagster(server) -> None:
    answer = server.ask(ASSETS)
    (location,) = answer["workspaceOrError"]["locationEntries"]
    assert location == {"name": "aneurysm_assets", "loadStatus": "LOADED"}
    assert {"/".join(node["assetKey"]["path"]) for node in answer["assetNodes"]} == {
        *ALL_TABLES,
        *("volumes", "series_quality", "series_preview", "dataset_report"),
        *("raw/series", "raw/train_csv", "raw/train_localizers_csv", "raw/segmentations"),
    }
    assert (server.data / "dagster" / "history" / "runs.db").is_file()


def test_the_job_in_the_ui_registers_the_series(server) -> None:
    launched = server.ask(RUN_JOB, job="register_series")["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    wait_until(lambda: len(server.series) == 12, "the job had registered the series")


def test_a_backfill_of_everything_ends_with_every_table_right(server, expected) -> None:
    _, state = server.backfill(server.series)
    assert state["status"] == "COMPLETED_SUCCESS"
    once = dict.fromkeys(server.series, 1)
    assert server.events() == dict.fromkeys(SERIES_TABLES, once) | {"unified_metadata": {None: 1}}
    assert server.failed() == {}
    for table in SERIES_TABLES:
        directory = server.data / "interim" / table
        assert {path.name for path in directory.iterdir()} == {f"{s}.parquet" for s in once}
    assert_frame_equal(server.unified(), expected)


@pytest.fixture(scope="module")
def away(server) -> Path:
    """Empty two series and backfill everything again; return where the two are kept."""
    raw, away = server.data / "raw" / "series", server.project / "away"
    away.mkdir()
    for series in (ONE, OTHER):
        (raw / series).rename(away / series)
        (raw / series).mkdir()
    _, state = server.backfill(server.series)
    assert state["status"] == "COMPLETED_FAILED"
    return away


def test_after_a_backfill_in_which_series_failed_exactly_those_are_shown_failed(
    server, away
) -> None:
    assert server.failed() == {"dicom_tags": sorted([ONE, OTHER])}
    others = [series for series in server.series if series not in {ONE, OTHER}]
    events = server.events()
    events.pop("unified_metadata")
    assert events == {
        **dict.fromkeys(SERIES_TABLES, twice(server.series)),
        "dicom_tags": twice(others) | {ONE: 1, OTHER: 1},
    }


def test_the_table_is_then_made_of_the_rest_without_a_click(server, away) -> None:
    wait_until(lambda: server.unified()["SeriesInstanceUID"].n_unique() == 10, "it was combined")
    assert not {ONE, OTHER} & set(server.unified()["SeriesInstanceUID"])


def mend(server: Server, away: Path, series: str) -> None:
    (server.data / "raw" / "series" / series).rmdir()
    (away / series).rename(server.data / "raw" / "series" / series)


def test_a_backfill_of_the_failed_series_takes_only_those(server, away) -> None:
    before = server.events()
    mend(server, away, ONE)
    backfill, state = server.backfill([ONE, OTHER])
    assert state["status"] == "COMPLETED_FAILED"
    assert server.failed() == {"dicom_tags": [OTHER]}
    now = server.events()
    for table in SERIES_TABLES:
        taken = {s: now[table][s] - before[table][s] for s in server.series}
        only = {ONE: 1} if table == "dicom_tags" else {ONE: 1, OTHER: 1}
        assert {s: n for s, n in taken.items() if n} == only

    # What is left of it is re-executed from the UI, once it can succeed.
    mend(server, away, OTHER)
    _, state = server.reexecute(backfill)
    assert state["status"] == "COMPLETED_SUCCESS"
    assert server.failed() == {}
    last = server.events()
    last.pop("unified_metadata")
    assert last.pop("dicom_tags") == now["dicom_tags"] | {OTHER: now["dicom_tags"][OTHER] + 1}
    assert last == {table: now[table] for table in last}


def test_after_the_last_backfill_the_unified_table_is_whole_and_current(server, expected) -> None:
    assert_frame_equal(server.unified(), expected)
    with instance_of(server.data) as instance:
        assert metadata_of(instance, "unified_metadata")["series"] == 12
        for table in SERIES_TABLES:
            assert set(statuses(instance, table).values()) == {"MATERIALIZED"}


def test_nothing_is_written_beside_the_data(server, project) -> None:
    names = {path.name for path in server.project.iterdir()} - {"away", "data"}
    ours = {name for name in names if not name.startswith(".tmp_dagster_home_")}
    assert ours == {path.name for path in project.iterdir()}
    assert {path.name for path in server.data.iterdir()} == {"raw", "interim", "dagster"}
