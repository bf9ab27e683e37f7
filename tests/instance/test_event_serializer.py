"""The JSON of an event is that of Dagster, to the byte."""

import json
import math

import dagster as dg
from dagster import EventLogEntry
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._serdes import deserialize_value, serialize_value
from hypothesis import given, settings
from hypothesis import strategies as st

from aneurysm_assets.instance.event_serializer import EventSerializer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["%s", "%(time)s", "100 %", '"', "\\", "é", "\n", "metadata_entries", "[]", ""]
)
NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**40), 2**40)
VALUES = (
    TEXTS.map(dg.MetadataValue.text)
    | TEXTS.map(dg.MetadataValue.path)
    | TEXTS.map(dg.MetadataValue.md)
    | st.integers(-(2**60), 2**60).map(dg.MetadataValue.int)
    | st.floats().map(dg.MetadataValue.float)
    | st.booleans().map(dg.MetadataValue.bool)
    | st.dictionaries(TEXTS, TEXTS | NUMBERS | st.none(), max_size=3).map(dg.MetadataValue.json)
)
METADATA = st.dictionaries(TEXTS.filter(bool), VALUES, max_size=5)
TAGS = st.dictionaries(
    st.sampled_from(["dagster/data_version", "b", "a"]),
    st.from_regex(r"\A[a-z0-9._-]{0,9}\Z"),
    max_size=2,
)


def entry_of(
    data: object, *, message: str = "made", time: float = 1.5, run: str = "r"
) -> EventLogEntry:
    is_planned = isinstance(data, AssetMaterializationPlannedData)
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    if is_planned:
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    event = dg.DagsterEvent(
        event_type_value=kind.value,
        job_name="job",
        event_specific_data=data,
        message=message,
        logging_tags={"job_name": "100 % job"},
        step_key="step",
    )
    return EventLogEntry(None, 10, "", run, time, "step", "job", event)


def materialized(uid: str | None, metadata, tags=None, asset="labels", **about) -> EventLogEntry:
    told = dg.AssetMaterialization(asset, partition=uid, metadata=metadata, tags=tags)
    return entry_of(StepMaterializationData(told), **about)


@given(st.lists(st.tuples(TEXTS | st.none(), METADATA, TAGS, TEXTS, NUMBERS), max_size=6))
@settings(max_examples=200)
def test_events_are_serialized_as_by_dagster_whatever_they_hold(told) -> None:
    serializer = EventSerializer()
    for uid, metadata, tags, message, time in told:
        entry = materialized(uid, metadata, tags, message=message, time=float(time))
        assert serializer.serialize(entry) == serialize_value(entry)


@given(st.lists(st.tuples(TEXTS | st.none(), TEXTS), max_size=6))
def test_planned_events_are_serialized_as_by_dagster(told) -> None:
    serializer = EventSerializer()
    for uid, run in told:
        entry = entry_of(AssetMaterializationPlannedData(dg.AssetKey("a"), uid), run=run)
        assert serializer.serialize(entry) == serialize_value(entry)


def test_what_cannot_be_told_by_its_form_is_left_to_dagster() -> None:
    serializer = EventSerializer()
    message = EventLogEntry(None, 10, "a message", "r", 1.0, None, "job", None)
    unfit = materialized("1.2", {"n": math.nan, "more": {"a": [1, {"b": None}]}})
    for entry in (message, unfit, message, unfit):
        assert serializer.serialize(entry) == serialize_value(entry)


def test_most_events_of_a_run_are_not_serialized_by_dagster(monkeypatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(
        "aneurysm_assets.instance.event_serializer.serialize_value",
        lambda value: calls.append(value) or serialize_value(value),
    )
    serializer = EventSerializer()
    for number in range(100):
        metadata = {"rows": number, "path": dg.MetadataValue.path(f"{number}.parquet")}
        text = serializer.serialize(materialized(f"1.{number}", metadata, {"a": str(number)}))
        assert json.loads(text)["dagster_event"]
        assert isinstance(deserialize_value(text), EventLogEntry)
    assert len(calls) < 10


def test_the_row_of_an_event_tells_its_asset_and_its_partition() -> None:
    serializer = EventSerializer()
    for asset in ("labels", "localizers"):
        row = serializer.row(materialized("1.2", {}, asset=asset), 1)
        assert (row["asset_key"], row["partition"]) == (f'["{asset}"]', "1.2")
        assert json.loads(row["event"])["timestamp"] == 1.5
