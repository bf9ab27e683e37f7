"""Dagster's events as JSON: the same text that Dagster makes, sooner where many are alike.

The two events per series and table differ from those of the others in a few texts and numbers.
All else is taken from one that Dagster serialized; what has another form is left to Dagster.
"""

import json
from typing import Any

import dagster as dg
from dagster import EventLogEntry, MetadataValue

from aneurysm_assets.dagster_internals import (
    AssetMaterializationPlannedData,
    StepMaterializationData,
    serialize_value,
)

Told = dg.AssetMaterialization | AssetMaterializationPlannedData

_MARK = "\0mark"
"""Stands for a text, in what Dagster serializes: no event has it."""

_MARKED_NUMBER, _MARKED_TIME = 2**62 + 1, 1.5e300

_LEAVES = {
    dg.TextMetadataValue: ("text", dg.TextMetadataValue(_MARK), _MARK),
    dg.PathMetadataValue: ("path", dg.PathMetadataValue(_MARK), _MARK),
    dg.IntMetadataValue: ("value", dg.IntMetadataValue(_MARKED_NUMBER), _MARKED_NUMBER),
    dg.FloatMetadataValue: ("value", dg.FloatMetadataValue(_MARKED_TIME), _MARKED_TIME),
    dg.JsonMetadataValue: ("data", dg.JsonMetadataValue({_MARK: _MARK}), {_MARK: _MARK}),
}
"""Metadata that hold one value: the value's name, and what stands for it."""


class EventSerializer:
    """Serializes the events of a storage; keeps the forms of those of one run."""

    def __init__(self) -> None:
        self._run_id = ""
        self._forms: dict[object, str | None] = {}
        self._entries: dict[tuple[str, type], str] = {}

    def row(self, entry: EventLogEntry, timestamp: object) -> dict[str, Any]:
        """Return the row of an event in the table of events, as Dagster's storage makes it."""
        event, told = entry.dagster_event, _told(entry)
        # Dagster's events look up their type for each of these.
        of = told or event
        key = of.asset_key if of is not None else None
        return {
            "run_id": entry.run_id,
            "event": self.serialize(entry),
            "dagster_event_type": event.event_type_value if event is not None else None,
            "timestamp": timestamp,
            "step_key": event.step_key if event is not None else entry.step_key,
            "asset_key": key.to_string() if key else None,
            "partition": (of.partition or None) if of is not None else None,
        }

    def serialize(self, entry: EventLogEntry) -> str:
        """Return the JSON of an event, as Dagster's `serialize_value` does."""
        told = _told(entry)
        if told is None:
            return serialize_value(entry)
        if entry.run_id != self._run_id:
            self._run_id = entry.run_id
            self._forms.clear()
        alike = _what_is_alike(entry, told)
        form = self._forms.get(alike, "")
        if form == "":
            # The first of a form shows whether it is understood.
            text = serialize_value(entry)
            form = _form(entry, told)
            self._forms[alike] = form if self._filled(form, entry, told) == text else None
            return text
        return (self._filled(form, entry, told) if form else None) or serialize_value(entry)

    def _filled(self, form: str, entry: EventLogEntry, told: Told) -> str | None:
        values = {"time": json.dumps(entry.timestamp), "partition": json.dumps(told.partition)}
        if isinstance(told, dg.AssetMaterialization):
            entries = [self._entry(label, value) for label, value in told.metadata.items()]
            if None in entries:
                return None
            values["entries"] = f"[{', '.join(map(str, entries))}]"
            values["tags"] = _json(told.tags)
        return form % values

    def _entry(self, label: str, value: MetadataValue[Any]) -> str | None:
        """Return the JSON of one entry of the metadata, None where its kind is not known."""
        kind = type(value)
        if kind not in _LEAVES:
            return None
        name, marked, mark = _LEAVES[kind]
        form = self._entries.get((label, kind))
        if form is None:
            text = serialize_value(dg.AssetMaterialization("any", metadata={label: marked}))
            inner = text[text.index("[", text.index('"metadata_entries"')) + 1 :]
            inner = inner[: inner.rindex("]")]
            form = _escaped(inner).replace(json.dumps(mark), "%s")
            self._entries[label, kind] = form
        return form % _json(getattr(value, name))


def _json(value: object) -> str:
    # An encoder that sorts is made anew each time.
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else json.dumps(value)


def _told(entry: EventLogEntry) -> Told | None:
    """Return what an event tells of a partition; None where it is of another kind."""
    event = entry.dagster_event
    data = event.event_specific_data if event is not None else None
    told: Told | None = None
    if isinstance(data, StepMaterializationData) and not data.asset_lineage:
        told = data.materialization
    elif isinstance(data, AssetMaterializationPlannedData) and not data.partitions_subset:
        told = data
    return told if told is not None and told.partition is not None else None


def _what_is_alike(entry: EventLogEntry, told: Told) -> object:
    event = entry.get_dagster_event()
    return (
        entry._replace(timestamp=0.0, dagster_event=None),
        event._replace(event_specific_data=None, logging_tags=None),
        tuple((event.logging_tags or {}).items()),
        told.asset_key,
        told.description if isinstance(told, dg.AssetMaterialization) else None,
        type(told),
    )


def _form(entry: EventLogEntry, told: Told) -> str:
    """Return the JSON of an event with names of `%` where it has values of its own."""
    event = entry.get_dagster_event()
    marked = told._replace(partition=_MARK)
    data: StepMaterializationData | AssetMaterializationPlannedData
    if isinstance(marked, dg.AssetMaterialization):
        data = StepMaterializationData(marked._replace(metadata={}, tags={_MARK: _MARK}), [])
    else:
        data = marked
    text = serialize_value(
        entry._replace(
            timestamp=_MARKED_TIME, dagster_event=event._replace(event_specific_data=data)
        )
    )
    mark = json.dumps(_MARK)
    return (
        _escaped(text)
        .replace(f"{{{mark}: {mark}}}", "%(tags)s")
        .replace(mark, "%(partition)s")
        .replace(json.dumps(_MARKED_TIME), "%(time)s")
        .replace('"metadata_entries": []', '"metadata_entries": %(entries)s')
    )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
