"""The `series` partitions: which exist, which are done, which are to be taken.

The only record of progress is Dagster's own: a series is done when its latest planned
materialization happened and its file is where it was put.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, cast

import dagster as dg
from sqlalchemy import func, select

from aneurysm_assets.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    DATA_VERSION_TAG,
    SqlEventLogStorage,
    SqlEventLogStorageTable,
)
from aneurysm_assets.errors import InputError
from aneurysm_assets.raw.fingerprints import Fingerprints
from aneurysm_assets.raw.inventory import Inventory, take_inventory
from aneurysm_assets.runs.pending_series import Status, TableState
from aneurysm_assets.schema.tables import (
    DATASET_TABLES,
    DICOM_TAGS,
    LABELS,
    LOCALIZERS,
    SERIES_TABLES,
    UNIFIED_METADATA,
    Artifact,
    Table,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.fingerprint import fingerprint_of_rows
from aneurysm_assets.storage.table_names import names_of_tables

series_partitions = dg.DynamicPartitionsDefinition(name="series")

INTERNALS = "internals"
"""In a materialization's metadata: what we read again, as JSON, which the UI shows on a click."""

COMBINED_SERIES = "series_sha256"
"""In the unified table's internals: the digest of the series that it was combined from."""

COMBINED_UPSTREAM = "upstream_event"
"""In the unified table's internals: the latest event of the series' tables before these were read.

What was recorded after it may have been read before it was replaced, whatever the table's own event
is later than. A file is in its place before its event has a number, so nothing up to it was."""

PIXEL_COORDINATES = "pixel_coordinates"
"""In the unified table's internals: what whole x and y of a point were taken for."""

# Dagster gives a data version of its own, of another length, where it is given none.
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")

# One request with more keys than SQLite takes variables fails; one per key is slow.
_REGISTERED_AT_ONCE = 5_000

_STATUS: Mapping[dg.AssetPartitionStatus | None, Status] = {
    dg.AssetPartitionStatus.MATERIALIZED: "materialized",
    dg.AssetPartitionStatus.FAILED: "failed",
    dg.AssetPartitionStatus.IN_PROGRESS: "in_progress",
    None: "missing",
}


def register(instance: dg.DagsterInstance, series: Iterable[str]) -> int:
    """Add series as partitions, in the order given; ranges of partitions follow that order.

    Returns
    -------
    int
        How many were new.
    """
    name = _name()
    known = set(instance.get_dynamic_partitions(name))
    new = [uid for uid in series if uid not in known]
    for start in range(0, len(new), _REGISTERED_AT_ONCE):
        instance.add_dynamic_partitions(name, new[start : start + _REGISTERED_AT_ONCE])
    return len(new)


def registered(instance: dg.DagsterInstance) -> list[str]:
    """Return the partition keys in the order in which they were registered."""
    return list(instance.get_dynamic_partitions(_name()))


def statuses(
    instance: dg.DagsterInstance, settings: Settings, table: Table, series: Sequence[str]
) -> dict[str, Status]:
    """Return the status of each series in one of the partitioned tables.

    Parameters
    ----------
    instance : dg.DagsterInstance
        Keeps the record.
    settings : Settings
        Where the files are.
    table : Table
        One of `tables.SERIES_TABLES`.
    series : sequence of str
        SeriesInstanceUIDs, registered or not.

    Returns
    -------
    dict of str to Status
        `missing` also where it was materialized and its file has been removed since.
    """
    recorded = instance.get_status_by_partition(
        dg.AssetKey(table.name), list(series), series_partitions
    )
    files = names_of_tables(settings.interim / table.name)
    found: dict[str, Status] = {}
    for uid in series:
        status = _STATUS[(recorded or {}).get(uid)]
        found[uid] = "missing" if status == "materialized" and uid not in files else status
    return found


def table_states(
    instance: dg.DagsterInstance,
    status: Mapping[str, Mapping[str, Status]],
    current: Mapping[str, Fingerprints],
    retried: Mapping[str, Fingerprints] | None = None,
) -> dict[str, TableState]:
    """Return what is known of the series in each of the partitioned tables.

    Parameters
    ----------
    instance : dg.DagsterInstance
        Keeps the record of what was read.
    status, current : mapping of str to mapping
        By table: where each series stands, and the fingerprints of the input as it is now.
    retried : mapping of str to mapping of str to str, optional
        By table: the fingerprints with which failed series were retried already.
    """
    return {
        table.name: TableState(
            status[table.name],
            recorded_fingerprints(instance, table),
            current[table.name],
            retried=None if retried is None else retried[table.name],
        )
        for table in SERIES_TABLES
    }


def changed(
    instance: dg.DagsterInstance,
    artifact: Artifact,
    materialized: Iterable[str],
    current: Fingerprints,
) -> list[str]:
    """Return those of the materialized series whose input is no longer what was read, in order."""
    state = TableState(
        dict.fromkeys(materialized, "materialized"),
        recorded_fingerprints(instance, artifact),
        current,
    )
    return [uid for uid in state.status if state.is_changed(uid)]


def recorded_fingerprints(instance: dg.DagsterInstance, table: Artifact) -> dict[str, str]:
    """Return the fingerprint of what each series' latest materialization read, by one query.

    A series that was materialized before fingerprints were recorded is not there.
    """
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(table.name),
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        [DATA_VERSION_TAG],
    )
    versions = {uid: of_series[DATA_VERSION_TAG] for uid, of_series in tags.items()}
    return {uid: text for uid, text in versions.items() if _FINGERPRINT.fullmatch(text)}


def require_csvs(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Refuse where a CSV is gone whose rows are in the tables: all of them would become null.

    What `input_root` recorded says it as well; version 0.1 recorded nothing there.

    Raises
    ------
    InputError
        Labels or points were read from a CSV that is not there.
    """
    no_row = fingerprint_of_rows(())
    for table, csv in ((LABELS, settings.train_csv), (LOCALIZERS, settings.localizers_csv)):
        if csv.is_file():
            continue
        if any(version != no_row for version in recorded_fingerprints(instance, table).values()):
            raise InputError(
                f"{csv} is gone, from which {table.name} was read: nothing was changed; put it "
                "back, or begin another data root without it"
            )


def vanished(keys: Iterable[str], inventory: Inventory) -> list[str]:
    """Return those partitions whose directory is gone, sorted; what is done of them stays done."""
    return sorted(set(keys) - {*inventory.series, *inventory.unlabelled})


def asked_for(keys: Iterable[str], inventory: Inventory, settings: Settings) -> list[str]:
    """Return those partitions that a fresh run could know, in their order.

    A series whose row left train.csv leaves the unified table; one whose directory alone is gone
    stays, as people delete what they have read.
    """
    if settings.unlabelled or not inventory.has_train_csv:
        return list(keys)
    known = set(inventory.known)
    return [uid for uid in keys if uid in known]


def complete(instance: dg.DagsterInstance, settings: Settings) -> tuple[list[str], list[str]]:
    """Split the partitions into those done in every table and those not, both sorted.

    A series that lacks its labels or its points would look like one without an aneurysm, so the
    unified table takes only whole ones. A series whose row left train.csv is in neither.

    Where the input is not there, nothing is known to have left it.
    """
    keys = registered(instance)
    with suppress(InputError):  # who reads the input has refused before
        keys = asked_for(keys, take_inventory(settings), settings)
    status = {table.name: statuses(instance, settings, table, keys) for table in SERIES_TABLES}
    return split(with_kept_tables(instance, settings, status).values())


def complete_of(
    instance: dg.DagsterInstance,
    settings: Settings,
    inventory: Inventory,
    status: Mapping[str, Mapping[str, Status]],
) -> list[str]:
    """Return the complete series as `complete` does, from statuses that are known already."""
    keys = asked_for(next(iter(status.values())), inventory, settings)
    of_keys = {name: {uid: of_table[uid] for uid in keys} for name, of_table in status.items()}
    done, _ = split(with_kept_tables(instance, settings, of_keys).values())
    return done


def with_kept_tables(
    instance: dg.DagsterInstance,
    settings: Settings,
    status: Mapping[str, Mapping[str, Status]],
) -> dict[str, Mapping[str, Status]]:
    """Return statuses in which a series that is taken again counts by the table that it has.

    Its table is whole, the old one or the new one: it does not leave the unified table meanwhile.
    """
    kept: dict[str, Mapping[str, Status]] = {}
    for table in SERIES_TABLES:
        of_table = status[table.name]
        if "in_progress" in of_table.values():
            kept_tables = recorded_fingerprints(instance, table).keys() & names_of_tables(
                settings.interim / table.name
            )
            of_table = {
                uid: "materialized" if found == "in_progress" and uid in kept_tables else found
                for uid, found in of_table.items()
            }
        kept[table.name] = of_table
    return kept


def vanished_now(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """Return the partitions whose directory is gone; none where the input itself is not there."""
    with suppress(InputError):
        return vanished(registered(instance), take_inventory(settings))
    return []


def split(of_tables: Iterable[Mapping[str, Status]]) -> tuple[list[str], list[str]]:
    """Split series into those done in every one of some tables and those not, both sorted.

    Parameters
    ----------
    of_tables : iterable of mapping of str to Status
        The status of the same series in each table.
    """
    tables = list(of_tables)
    keys = set().union(*tables)
    complete = {uid for uid in keys if all(status[uid] == "materialized" for status in tables)}
    return sorted(complete), sorted(keys - complete)


def recorded_files(instance: dg.DagsterInstance) -> dict[str, int]:
    """Return how many files each series had when its `dicom_tags` was last materialized."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"{type(storage).__name__}: event logs in a database are supported")
    events = SqlEventLogStorageTable.c
    latest = (
        select(func.max(events.id))
        .where(
            events.asset_key == dg.AssetKey(DICOM_TAGS.name).to_string(),
            events.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            events.partition.is_not(None),
        )
        .group_by(events.partition)
    )
    query = select(events.partition, events.event).where(events.id.in_(latest))
    files: dict[str, int] = {}
    with storage.index_connection() as connection:
        for uid, event in connection.execute(query):
            # To make Dagster's objects of each would take ten times as long as all else.
            of_event = json.loads(event)["dagster_event"]["event_specific_data"]
            for entry in of_event["materialization"]["metadata_entries"]:
                if entry["label"] == "files":
                    files[uid] = int(entry["entry_data"]["value"])
    return files


def selection_of_run(
    keys: Sequence[str], series: Sequence[str]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return by what a single run takes some series: tags of a range, else an asset's config.

    Parameters
    ----------
    keys : sequence of str
        All partitions in the order of registration, which ranges follow.
    series : sequence of str
        Some of them, in that order.

    Returns
    -------
    tags : dict of str to str
        Empty where the series are scattered.
    config : dict of str to object
        `recording.SeriesConfig`; empty where they are a range.
    """
    start = keys.index(series[0])
    if list(keys[start : start + len(series)]) != list(series):
        return {}, {"series": list(series)}
    tags = {ASSET_PARTITION_RANGE_START_TAG: series[0], ASSET_PARTITION_RANGE_END_TAG: series[-1]}
    return tags, {}


def latest_metadata(instance: dg.DagsterInstance, table: Table) -> dict[str, Any]:
    """Return the metadata of an unpartitioned asset's latest materialization, or nothing.

    Its internals are among it, which version 0.1 had there. What Dagster keeps for its UI,
    `dagster/…`, is left out: not all of it can be JSON.
    """
    event = instance.get_latest_materialization_event(dg.AssetKey(table.name))
    if event is None or event.asset_materialization is None:
        return {}
    metadata = event.asset_materialization.metadata
    values = {name: v.value for name, v in metadata.items() if not name.startswith("dagster/")}
    return values | dict(cast("Mapping[str, Any]", values.pop(INTERNALS, {})))


def digest(series: Iterable[str], vanished: Iterable[str] = ()) -> str:
    """Return the digest of a set of series, and of which of them are without a directory."""
    known = set(series)
    marked = (f"{uid} vanished" for uid in known & set(vanished))
    return sha256("\n".join(sorted([*known, *marked])).encode()).hexdigest()


def is_combined(
    instance: dg.DagsterInstance,
    settings: Settings,
    complete_now: Iterable[str],
    vanished_now: Iterable[str] = (),
) -> bool:
    """Tell whether the unified table is of the series complete now, as their tables are.

    A series that failed since, or whose table is gone, makes nothing newer and is to leave it.
    """
    metadata = latest_metadata(instance, UNIFIED_METADATA)
    if metadata.get(COMBINED_SERIES) != digest(complete_now, vanished_now):
        return False
    if metadata.get(PIXEL_COORDINATES, "centres") != settings.pixel_coordinates:
        return False
    upstream, unified, _ = latest_events(instance)
    return upstream <= int(metadata.get(COMBINED_UPSTREAM, unified))


def latest_events(instance: dg.DagsterInstance) -> tuple[int, int, int]:
    """Return the latest events of the series' tables, of the unified table and of what follows it.

    Of the tables that follow it the one that was made first counts.
    """
    groups = (SERIES_TABLES, DATASET_TABLES)
    keys = [dg.AssetKey(table.name) for tables in groups for table in tables]
    latest = {
        record.asset_entry.asset_key: record.asset_entry.last_materialization_storage_id or 0
        for record in instance.get_asset_records(keys)
    }
    upstream, dataset = (
        [latest.get(dg.AssetKey(table.name), 0) for table in tables] for tables in groups
    )
    return max(upstream), dataset[0], min(dataset[1:])


def _name() -> str:
    if series_partitions.name is None:
        raise RuntimeError("the series partitions have a name")
    return series_partitions.name
