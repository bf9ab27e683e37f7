"""The events of a batch, which we make, held against those that Dagster makes of a partition."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._serdes import serialize_value

from tests.graph import Graph
from tests.record import SERIES_TABLES

OF_THE_MOMENT = {"timestamp", "run_id", "pid", "seconds"}
OF_THE_STEP = {
    # The event has the same text as its message, which is what is shown.
    "user_message",
    # What Dagster says of inputs that it does not make; an asset that logs events has none of it.
    "dagster/code_version",
    "dagster/data_version_is_user_provided",
    "dagster/input_data_version/raw/series",
    "dagster/input_data_version/raw/train_csv",
    "dagster/input_data_version/raw/train_localizers_csv",
    "dagster/input_data_version/raw/segmentations",
    "dagster/input_event_pointer/raw/series",
    "dagster/input_event_pointer/raw/train_csv",
    "dagster/input_event_pointer/raw/train_localizers_csv",
    "dagster/input_event_pointer/raw/segmentations",
}


@pytest.fixture
def graph(data: Path) -> Graph:
    return Graph(data)


@pytest.mark.parametrize("table", SERIES_TABLES)
def test_a_series_of_a_batch_is_recorded_as_dagster_records_a_run_of_it_alone(
    graph: Graph, table: str
) -> None:
    alone = {uid: stored(graph, graph.run(table, partition=uid), uid) for uid in graph.series[:3]}
    batch = graph.run_all(table)
    for uid, events in alone.items():
        assert events.keys() == {"ASSET_MATERIALIZATION", "ASSET_MATERIALIZATION_PLANNED"}
        assert stored(graph, batch, uid) == events


@pytest.mark.parametrize("table", SERIES_TABLES)
def test_series_that_a_run_names_in_its_config_are_planned_as_dagster_plans_partitions(
    graph: Graph, table: str
) -> None:
    by_range, named = graph.run_all(table), graph.run(table, series=graph.series)
    for uid in graph.series:
        assert stored(graph, named, uid) == stored(graph, by_range, uid)


def stored(graph: Graph, result: dg.ExecuteInProcessResult, uid: str) -> dict[str, Any]:
    """Return what storage holds of a series of a run, by type, but for what is of the moment."""
    found = {}
    for entry in graph.instance.all_logs(result.run_id):
        event = entry.dagster_event
        if event is not None and event.asset_key and event.partition == uid:
            found[event.event_type_value] = lasting(json.loads(serialize_value(entry)))
    return found


def lasting(value: Any) -> Any:
    """Leave out, at any depth, fields and metadata that differ from run to run."""
    if isinstance(value, list):
        return [lasting(v) for v in value if not is_of_the_moment(v)]
    if isinstance(value, dict):
        left_out = OF_THE_MOMENT | OF_THE_STEP
        return {k: lasting(v) for k, v in value.items() if k not in left_out}
    return value


def is_of_the_moment(value: Any) -> bool:
    return isinstance(value, dict) and value.get("label") in OF_THE_MOMENT
