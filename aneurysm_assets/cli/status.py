"""Where the data stand: what `aneurysm-assets status` shows, Dagster's record held against disk."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import dagster as dg

from aneurysm_assets.instance import run_locks
from aneurysm_assets.instance.data_root import (
    claim,
    is_read_only,
    open_copy,
    open_instance,
)
from aneurysm_assets.instance.input_root import require_same_root
from aneurysm_assets.raw.fingerprints import (
    Fingerprints,
    fingerprints_of_previews,
    take_fingerprints,
)
from aneurysm_assets.raw.inventory import Inventory, take_inventory
from aneurysm_assets.runs import active_runs, partitions
from aneurysm_assets.runs.partitions import latest_metadata
from aneurysm_assets.runs.pending_series import Options, Status, pending_series
from aneurysm_assets.schema.tables import (
    SERIES_PREVIEW,
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_names import file_names, find_table


@dataclass(frozen=True)
class AssetOverview:
    """One partitioned asset. Each known series is counted once.

    Attributes
    ----------
    materialized, failed, in_progress, missing : int
        Series on disk by their status; `materialized` also where the directory has gone since.
    not_on_disk : int
        Rows of train.csv without a directory, not materialized.
    failed_series : list of str
        The failed ones by name.
    stale : int
        Those materialized whose input has changed since it was read, also by a row that is gone
        from train.csv.
    stale_series : list of str
        The stale ones by name.
    """

    materialized: int
    failed: int
    in_progress: int
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
        Series that Dagster knows as partitions and whose directory is gone; they stay materialized.
    unlabelled_directories : list of str
        Directories without a row.
    refused_rows : list of dict
        Rows of train.csv whose SeriesInstanceUID is no UID.
    assets : dict of str to AssetOverview
        The four partitioned assets.
    unified_metadata : dict of str to object
        Path of the table, whether it is newer than what it was combined from, and the metadata
        of its latest materialization.
    series_quality : dict of str to object
        The metadata of its latest materialization: how many series have which problems.
    series_preview : dict of str to object
        `materialized`, `stale` and `stale_series` of the pictures; empty where none was ever drawn.
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
    require_same_root(settings)
    inventory = take_inventory(settings)
    with _record(settings) as instance:
        registered = partitions.registered(instance)
        options = Options(inventory.series)
        current = take_fingerprints(settings, inventory.series, processes=settings.workers)
        keys = list(dict.fromkeys(chain(inventory.known, registered)))
        status = {
            table.name: partitions.statuses(instance, settings, table, keys)
            for table in SERIES_TABLES
        }
        tables = partitions.table_states(instance, status, current)
        changed = pending_series(tables, options).with_reason("changed")
        complete = partitions.complete_of(instance, settings, inventory, status)
        vanished = partitions.vanished(registered, inventory)
        return Overview(
            data=str(settings.data),
            raw=str(settings.raw),
            interim=str(settings.interim),
            series_on_disk=len(inventory.series),
            series_not_on_disk=list(inventory.not_on_disk),
            series_vanished=vanished,
            unlabelled_directories=list(inventory.unlabelled),
            refused_rows=[asdict(row) for row in inventory.refused],
            assets={
                table: _asset_overview(inventory, status[table], sorted(changed[table]))
                for table in status
            },
            unified_metadata=_unified_status(instance, settings, complete, vanished),
            series_quality=latest_metadata(instance, SERIES_QUALITY),
            series_preview=_preview_status(instance, settings, fingerprints_of_previews(current)),
        )


@contextmanager
def _record(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the record; where it cannot be written, a copy, which shows dead runs as they stand."""
    if is_read_only(settings):
        with open_copy(settings) as instance:
            yield instance
        return
    with open_instance(settings) as instance:
        claim(instance, settings)
        # The series of a killed run would be shown as in progress for ever.
        run_locks.end_dead_runs(instance, settings)
        active_runs.end_dead(instance, settings)
        yield instance


def _asset_overview(
    inventory: Inventory, status: Mapping[str, Status], stale: list[str]
) -> AssetOverview:
    not_on_disk = set(inventory.not_on_disk)
    by_status: dict[Status, list[str]] = {
        name: [uid for uid in inventory.known if status[uid] == name]
        for name in ("materialized", "failed", "in_progress", "missing")
    }
    failed, in_progress, missing = (
        [uid for uid in by_status[name] if uid not in not_on_disk]
        for name in ("failed", "in_progress", "missing")
    )
    return AssetOverview(
        materialized=len(by_status["materialized"]),
        failed=len(failed),
        in_progress=len(in_progress),
        missing=len(missing),
        not_on_disk=len(not_on_disk - set(by_status["materialized"])),
        failed_series=failed,
        stale=len(stale),
        stale_series=stale,
    )


def _unified_status(
    instance: dg.DagsterInstance,
    settings: Settings,
    complete: Sequence[str],
    vanished: Sequence[str],
) -> dict[str, Any]:
    path = find_table(settings.unified_table)
    metadata = latest_metadata(instance, UNIFIED_METADATA)
    if path is None or not metadata:
        return {"path": None, "up_to_date": False}
    return metadata | {
        "path": str(path),
        "up_to_date": partitions.is_combined(instance, settings, complete, vanished),
    }


def _preview_status(
    instance: dg.DagsterInstance, settings: Settings, current: Fingerprints
) -> dict[str, Any]:
    drawn = sorted(instance.get_materialized_partitions(dg.AssetKey(SERIES_PREVIEW.name)))
    if not drawn:
        return {}
    on_disk = {
        name.removesuffix(".png")
        for name in file_names(settings.interim / SERIES_PREVIEW.name)
        if name.endswith(".png")
    }
    materialized = [uid for uid in drawn if uid in on_disk]
    stale = partitions.changed(instance, SERIES_PREVIEW, materialized, current)
    return {"materialized": len(materialized), "stale": len(stale), "stale_series": stale}
