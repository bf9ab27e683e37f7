"""Where the data stand: what `aneurysm-assets status` shows, Dagster's record held against disk."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import dagster as dg

from aneurysm_assets.instance import run_locks
from aneurysm_assets.instance.data_root import claim, open_instance
from aneurysm_assets.raw.fingerprints import (
    Fingerprints,
    fingerprints_of_previews,
    take_fingerprints,
)
from aneurysm_assets.raw.inventory import Inventory, take_inventory
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.partitions import Status, latest_metadata
from aneurysm_assets.schema.tables import (
    SERIES_PREVIEW,
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
    Table,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_files import file_names, find_table


@dataclass(frozen=True)
class AssetOverview:
    """One partitioned asset. Each known series is counted once.

    Attributes
    ----------
    done, failed, under_way, missing : int
        Series on disk by their status; `done` also where the directory has gone since.
    not_on_disk : int
        Rows of train.csv without a directory, not done.
    failed_series : list of str
        The failed ones by name.
    stale : int
        Those done whose input has changed since it was read, also by a row that is gone from
        train.csv.
    stale_series : list of str
        The stale ones by name.
    """

    done: int
    failed: int
    under_way: int
    missing: int
    not_on_disk: int
    failed_series: list[str]
    stale: int
    stale_series: list[str]


@dataclass(frozen=True)
class Overview:
    """All of it.

    Attributes
    ----------
    data, raw, interim : str
        The roots.
    series_on_disk : int
        Series that are to be taken.
    series_not_on_disk : list of str
        Rows of train.csv without a directory.
    series_vanished : list of str
        Series that Dagster knows as partitions and whose directory is gone; done ones stay done.
    unlabelled_directories : list of str
        Directories without a row.
    refused_rows : list of dict
        Rows of train.csv whose SeriesInstanceUID is no UID.
    assets : dict of str to AssetOverview
        The four partitioned assets.
    unified_metadata : dict of str to object
        Path of the table, whether it is newer than what it was combined from, and the metadata
        of its latest materialisation.
    series_quality : dict of str to object
        The metadata of its latest materialisation: how many series have which problems.
    series_preview : dict of str to object
        `done`, `stale` and `stale_series` of the pictures; empty where none was ever drawn.
    """

    data: str
    raw: str
    interim: str
    series_on_disk: int
    series_not_on_disk: list[str]
    series_vanished: list[str]
    unlabelled_directories: list[str]
    refused_rows: list[dict[str, Any]]
    assets: dict[str, AssetOverview]
    unified_metadata: dict[str, Any]
    series_quality: dict[str, Any]
    series_preview: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def take_overview(settings: Settings) -> Overview:
    """Hold the series that there are against Dagster's record.

    Raises
    ------
    InputError
        There is nothing to read, a CSV cannot be used, or the Dagster instance keeps the
        progress of other data.
    """
    inventory = take_inventory(settings)
    with open_instance(settings) as instance:
        claim(instance, settings)
        # A killed run's series would be shown as under way for ever.
        run_locks.end_dead_runs(instance, settings)
        registered = partitions.registered(instance)
        there = partitions.on_disk(registered, inventory)
        now = take_fingerprints(
            settings, sorted({*inventory.series, *there}), processes=settings.workers
        )
        keys = list(dict.fromkeys(chain(inventory.known, registered)))
        status = [partitions.statuses(instance, settings, table, keys) for table in SERIES_TABLES]
        complete, _ = partitions.split(status)
        return Overview(
            data=str(settings.data),
            raw=str(settings.raw),
            interim=str(settings.interim),
            series_on_disk=len(inventory.series),
            series_not_on_disk=list(inventory.not_on_disk),
            series_vanished=partitions.vanished(registered, inventory),
            unlabelled_directories=list(inventory.unlabelled),
            refused_rows=[asdict(row) for row in inventory.refused],
            assets={
                table.name: _of_asset(instance, inventory, table, of_table, now[table.name])
                for table, of_table in zip(SERIES_TABLES, status, strict=True)
            },
            unified_metadata=_of_unified(instance, settings, complete),
            series_quality=latest_metadata(instance, SERIES_QUALITY),
            series_preview=_of_previews(instance, settings, fingerprints_of_previews(now)),
        )


def _of_asset(
    instance: dg.DagsterInstance,
    inventory: Inventory,
    table: Table,
    status: Mapping[str, Status],
    now: Fingerprints,
) -> AssetOverview:
    gone = set(inventory.not_on_disk)
    by_status = {
        name: [uid for uid in inventory.known if status[uid] == name and uid not in gone]
        for name in ("failed", "under_way", "missing")
    }
    done = [uid for uid in inventory.known if status[uid] == "done"]
    read = sorted(uid for uid, of_series in status.items() if of_series == "done")
    stale = partitions.stale(instance, table, read, now)
    return AssetOverview(
        done=len(done),
        failed=len(by_status["failed"]),
        under_way=len(by_status["under_way"]),
        missing=len(by_status["missing"]),
        not_on_disk=len(gone - set(done)),
        failed_series=by_status["failed"],
        stale=len(stale),
        stale_series=stale,
    )


def _of_unified(
    instance: dg.DagsterInstance, settings: Settings, complete: Sequence[str]
) -> dict[str, Any]:
    path = find_table(settings.unified_table)
    metadata = latest_metadata(instance, UNIFIED_METADATA)
    if path is None or not metadata:
        return {"path": None, "up_to_date": False}
    return metadata | {"path": str(path), "up_to_date": partitions.is_combined(instance, complete)}


def _of_previews(
    instance: dg.DagsterInstance, settings: Settings, now: Fingerprints
) -> dict[str, Any]:
    drawn = sorted(instance.get_materialized_partitions(dg.AssetKey(SERIES_PREVIEW.name)))
    if not drawn:
        return {}
    there = {
        name.removesuffix(".png")
        for name in file_names(settings.interim / SERIES_PREVIEW.name)
        if name.endswith(".png")
    }
    done = [uid for uid in drawn if uid in there]
    stale = partitions.stale(instance, SERIES_PREVIEW, done, now)
    return {"done": len(done), "stale": len(stale), "stale_series": stale}
