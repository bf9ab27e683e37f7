"""Runs of the sharded layout: Dagster's partitions are shards, and it is told of whole ones.

`python -m benchmarks.shard_runs BATCH IMAGES` takes all that is left of the archive at
ANEURYSM_DATA, as `aneurysm-assets run` does for series: one run, in which the stage's own recording
marks each shard. A simulation, and no part of the stage.
"""

import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.instance import run_locks
from aneurysm_assets.instance.data_root import open_instance
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.runs.partitions import recorded_fingerprints
from aneurysm_assets.runs.resources import NullReporter, SettingsResource
from aneurysm_assets.runs.series_run import Batch, SeriesConfig, materialize_series, settings_of_run
from aneurysm_assets.schema.tables import DICOM_TAGS, SERIES_KEY, SERIES_TABLES, Table
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_files import StoredTable
from benchmarks.imagined import Archive
from benchmarks.shards import Read, Shard, digest, left, manifests, open_shards, shard_keys, take

PARTITIONS = dg.DynamicPartitionsDefinition(name="shards")

_NAMED = 20
"""Failed series that the failure of their shard names; the manifest has all."""

_REGISTERED_AT_ONCE = 5_000


@dataclass(frozen=True)
class Plan:
    """What a run does of one table.

    Attributes
    ----------
    table : Table
        Which.
    wanted : mapping of str to pl.DataFrame
        By shard the series to take, with their fingerprint. None of them where a shard has only
        to be put in order, or to be recorded.
    read : callable
        Reads a batch.
    batch : int
        Series whose record is put at once.
    """

    table: Table
    wanted: Mapping[str, pl.DataFrame]
    read: Read
    batch: int


def register(instance: dg.DagsterInstance, root: Path) -> int:
    """Add the shards that Dagster does not know; return how many they were.

    By what is on disk: one whose members were put before its registrar was killed is not lost.
    """
    known = set(instance.get_dynamic_partitions("shards"))
    new = [key for key in shard_keys(root) if key not in known]
    for start in range(0, len(new), _REGISTERED_AT_ONCE):
        instance.add_dynamic_partitions("shards", new[start : start + _REGISTERED_AT_ONCE])
    return len(new)


def to_take(
    instance: dg.DagsterInstance, root: Path, table: Table, now: pl.LazyFrame
) -> dict[str, pl.DataFrame]:
    """Return by shard the series to take; none where only the shard's own state is not right.

    That is where a run was cut off after a shard's last batch: its parts are not yet one, or
    Dagster has not heard of what the manifest holds.
    """
    wanted = {
        str(shard): frame.select(SERIES_KEY, "fingerprint")
        for (shard,), frame in left(root, table, now).group_by("shard", maintain_order=True)
    }
    taken = manifests(root, table)
    recorded = recorded_fingerprints(instance, table)
    loose = open_shards(taken)
    nothing = pl.DataFrame(schema={SERIES_KEY: pl.String, "fingerprint": pl.String})
    for (key,), manifest in taken.group_by("shard"):
        shard = str(key)
        if shard not in wanted and (shard in loose or recorded.get(shard) != digest(manifest)):
            wanted[shard] = nothing
    return dict(sorted(wanted.items()))


def execute(
    instance: dg.DagsterInstance, settings: Settings, plans: Sequence[Plan]
) -> dg.ExecuteInProcessResult:
    """Take what is planned in one Dagster run, with an asset a table."""
    assets = [_asset(settings.data, plan) for plan in plans]
    job = dg.Definitions(assets=assets).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        run_config={
            "ops": {p.table.name: {"config": {"series": list(p.wanted)}} for p in plans},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )


def plan(
    instance: dg.DagsterInstance,
    root: Path,
    batch: int,
    images: int,
    *,
    only: Collection[str] = (),
    tables: Collection[str] = (),
) -> list[Plan]:
    """Return what there is to do, of some shards and tables or of all."""
    archive = Archive(root)
    plans = []
    for table in SERIES_TABLES:
        if tables and table.name not in tables:
            continue
        wanted = to_take(instance, root, table, archive.now())
        chosen = {key: frame for key, frame in wanted.items() if not only or key in only}
        # What comes from a CSV costs nothing to read again: a shard of it is one batch.
        series = batch if table is DICOM_TAGS else sys.maxsize
        if chosen:
            plans.append(Plan(table, chosen, archive.reader(table, images), series))
    return plans


def take_what_is_left(
    settings: Settings,
    batch: int,
    images: int,
    *,
    only: Collection[str] = (),
    tables: Collection[str] = (),
) -> dict[str, dict[str, int]]:
    """Take all that is left, as one command; return by table how many shards and series it took."""
    with open_instance(settings) as instance:
        run_locks.end_dead_runs(instance, settings)
        register(instance, settings.data)
        plans = plan(instance, settings.data, batch, images, only=only, tables=tables)
        if plans:
            execute(instance, settings, plans)
    return {
        p.table.name: {
            "shards": len(p.wanted),
            "series": sum(frame.height for frame in p.wanted.values()),
        }
        for p in plans
    }


def take_shard(root: Path, of: Plan, key: str) -> SeriesResult:
    """Take the series of one shard; what the stage's recording calls for each partition.

    Raises
    ------
    SeriesError
        Some series of it failed. The others are taken, and so are never taken again.
    """
    shard = Shard(root, of.table, key)
    manifest = take(shard, of.wanted[key], of.read, of.batch)
    failed = manifest.filter(pl.col("outcome") == "failed")
    if not failed.is_empty():
        named = failed.head(_NAMED).select(SERIES_KEY, "reason").iter_rows()
        reasons = "; ".join(f"{uid}: {reason}" for uid, reason in named)
        raise SeriesError(f"{failed.height} of {manifest.height} series failed: {reasons}")
    path = shard.part_path(str(manifest["part"].drop_nulls()[0]))
    rows = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    return SeriesResult(
        StoredTable(path, "parquet", rows), manifest.height, 0, 0, fingerprint=digest(manifest)
    )


def _asset(root: Path, of: Plan) -> dg.AssetsDefinition:
    @dg.asset(name=of.table.name, partitions_def=PARTITIONS, output_required=False)
    def asset(
        context: dg.AssetExecutionContext, config: SeriesConfig
    ) -> Iterator[dg.MaterializeResult[None]]:
        now = settings_of_run(context, SettingsResource())
        batch = Batch(of.table, partial(take_shard, root, of), workers=0)
        yield from materialize_series(context, config, NullReporter(), now, batch)

    return asset


if __name__ == "__main__":
    print(json.dumps(take_what_is_left(Settings.from_environment(), *map(int, sys.argv[1:3]))))
