"""Which series are partitions, and what each one's status is by Dagster's record."""

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.resources import NullReporter
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.tables import DICOM_TAGS, LABELS, SERIES_TABLES, Table
from tests import record
from tests.graph import Graph

CTA = uid("sample", "CTA")


@pytest.fixture
def graph(data: Path) -> Graph:
    return Graph(data)


def status(graph: Graph, table: Table = DICOM_TAGS) -> dict[str, str]:
    return partitions.statuses(graph.instance, graph.settings, table, graph.series)


def test_series_are_registered_in_the_order_given_and_only_once() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert partitions.register(instance, ["1.3", "1.1"]) == 2
        assert partitions.register(instance, ["1.1", "1.2", "1.3"]) == 1
        assert partitions.register(instance, []) == 0
        assert partitions.registered(instance) == ["1.3", "1.1", "1.2"]


@pytest.fixture
def _an_sqlite_as_it_comes() -> Iterator[None]:
    """Have SQLite take as many variables a request as it does by default; distributors raise it."""

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)

    event.listen(Engine, "connect", limit)
    yield
    event.remove(Engine, "connect", limit)


@pytest.mark.usefixtures("_an_sqlite_as_it_comes")
def test_forty_thousand_series_are_registered_in_one_go(tmp_path) -> None:
    # More than one request takes.
    series = [f"1.2.{number}" for number in range(40_000)]
    tmp_path.joinpath("dagster").mkdir()
    with record.instance_of(tmp_path) as instance:
        assert partitions.register(instance, series) == 40_000
        assert partitions.register(instance, [*series, "1.3"]) == 1
        assert partitions.registered(instance) == [*series, "1.3"]


def test_the_partitions_have_the_name_that_users_know() -> None:
    assert partitions.series_partitions.name == "series"


def test_a_series_is_missing_then_in_progress_then_done(data) -> None:
    class Watching(NullReporter):
        def begin(self, table, series) -> None:
            seen.append(status(graph))

    seen: list[dict[str, str]] = []
    graph = Graph(data, reporter=Watching())
    assert set(status(graph).values()) == {"missing"}
    graph.run_all("dicom_tags")
    assert set(seen[0].values()) == {"in_progress"}
    assert set(status(graph).values()) == {"materialized"}
    assert set(status(graph, LABELS).values()) == {"missing"}


def test_the_series_of_a_run_by_config_are_in_progress_too_and_no_others(data) -> None:
    class Watching(NullReporter):
        def begin(self, table, series) -> None:
            seen.append(status(graph))

    seen: list[dict[str, str]] = []
    graph = Graph(data, reporter=Watching())
    chosen = [graph.series[1], graph.series[7]]
    graph.run("dicom_tags", series=chosen)
    assert [name for name, state in seen[0].items() if state == "in_progress"] == chosen
    assert set(seen[0].values()) == {"in_progress", "missing"}


def test_a_series_that_failed_is_failed_and_done_once_it_succeeds(graph, data) -> None:
    directory = data / "raw" / "series" / CTA
    directory.rename(data / "away")
    graph.run_all("dicom_tags")
    assert [name for name, state in status(graph).items() if state == "failed"] == [CTA]
    (data / "away").rename(directory)
    graph.run("dicom_tags", series=[CTA])
    assert set(status(graph).values()) == {"materialized"}


def test_a_series_whose_file_was_removed_is_missing(graph, data) -> None:
    graph.run_all("dicom_tags")
    (data / "interim" / "dicom_tags" / f"{CTA}.parquet").unlink()
    assert [name for name, state in status(graph).items() if state != "materialized"] == [CTA]
    assert status(graph)[CTA] == "missing"


def test_a_file_that_dagster_knows_nothing_of_makes_no_series_done(graph, data) -> None:
    graph.run("dicom_tags", partition=CTA)
    other = graph.series[0]
    directory = data / "interim" / "dicom_tags"
    shutil.copy(directory / f"{CTA}.parquet", directory / f"{other}.parquet")
    assert status(graph)[other] == "missing"


def test_a_series_that_is_not_registered_is_missing(graph) -> None:
    found = partitions.statuses(graph.instance, graph.settings, DICOM_TAGS, ["1.2.3"])
    assert found == {"1.2.3": "missing"}


def test_a_series_is_complete_when_it_is_done_in_all_four_tables(graph) -> None:
    assert partitions.complete(graph.instance, graph.settings) == ([], sorted(graph.series))
    names = [table.name for table in SERIES_TABLES]
    graph.run(*names[:3], partition=graph.series[0])
    graph.run(*names, series=[graph.series[4], graph.series[2]])
    done, left = partitions.complete(graph.instance, graph.settings)
    assert done == sorted([graph.series[2], graph.series[4]])
    assert left == sorted(set(graph.series) - set(done))


def test_the_unified_table_is_current_until_a_series_is_materialised_after_it(graph) -> None:
    assert not partitions.is_combined(graph.instance, graph.settings, [])
    graph.run_all("dicom_tags", "labels", "localizers", "segmentation_meta")
    assert not partitions.is_combined(graph.instance, graph.settings, graph.series)
    graph.run("unified_metadata")
    assert partitions.is_combined(graph.instance, graph.settings, graph.series)
    corners = replace(graph.settings, pixel_coordinates="corners")
    assert not partitions.is_combined(graph.instance, corners, graph.series)
    graph.run("labels", partition=CTA)
    assert not partitions.is_combined(graph.instance, graph.settings, graph.series)


def test_the_unified_table_is_not_current_while_other_series_are_complete(graph) -> None:
    graph.run_all("dicom_tags", "labels", "localizers", "segmentation_meta")
    graph.run("unified_metadata")
    assert not partitions.is_combined(graph.instance, graph.settings, graph.series[1:])
    assert not partitions.is_combined(graph.instance, graph.settings, [])


def test_a_data_version_that_dagster_gave_is_no_fingerprint(graph) -> None:
    # As a run of one partition recorded it before the assets gave versions of their own.
    for series, version in ((CTA, "0" * 64), (graph.series[0], "0" * 32)):
        graph.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "dicom_tags", partition=series, tags={"dagster/data_version": version}
            )
        )
    recorded = partitions.recorded_fingerprints(graph.instance, DICOM_TAGS)
    assert recorded == {graph.series[0]: "0" * 32}
