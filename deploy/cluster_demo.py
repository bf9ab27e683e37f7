"""`make cluster-demo`: the sample in a bucket, a backfill over two workers, and what landed.

Everything is started on loopback, in a temporary directory, and is gone at the end. What it starts
and how stands in `cluster` and `servers`.
"""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import dagster as dg
import polars as pl

from aneurysm_assets.cluster.celery_launcher import WORKER_TAG
from aneurysm_assets.raw.inventory import take_inventory
from aneurysm_assets.runs.partitions import register
from aneurysm_assets.sample import write_sample
from aneurysm_assets.schema.tables import ALL_TABLES, SERIES_TABLES, UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.storage.table_scans import read_table
from deploy.cluster import ENDED, Cluster, ClusterFailed
from deploy.servers.process import MissingProgram, ServerFailed
from deploy.servers.s3 import S3Server

_WORKERS = ("worker-1", "worker-2")
_SERIES_PER_RUN = 3
_LOOK_EVERY_SECONDS = 1.0
_PATIENCE_SECONDS = 600


def main() -> int:
    """Run the demonstration; return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _directory() as directory:
            return _demonstrate(directory)
    except MissingProgram as error:
        _say(f"{error}. On Debian: apt-get install postgresql redis-server")
        return 1
    except (ServerFailed, ClusterFailed) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted: everything that was started is stopped")
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aneurysm-cluster-") as made:
        directory = Path(made)
        directory.chmod(0o711)  # PostgreSQL runs as another account where we are root
        yield directory


def _demonstrate(directory: Path) -> int:
    _say("starting the object store")
    with S3Server(directory / "s3") as store:
        os.environ.update(store.variables)
        bucket = ObjectPath.parse(store.make_bucket("demonstration"))
        _put_sample(directory / "sample", bucket / "raw")
        variables = {
            "ANEURYSM_RAW": str(bucket / "raw"),
            "ANEURYSM_INTERIM": str(bucket / "interim"),
            "ANEURYSM_SERIES_PER_RUN": str(_SERIES_PER_RUN),
            "ANEURYSM_WORKERS": "1",
        }
        _say(f"starting PostgreSQL, Redis, webserver, daemon, {' and '.join(_WORKERS)}")
        with Cluster(directory, _WORKERS, variables) as cluster:
            os.environ.update(cluster.variables)
            return _backfill(cluster, Settings.from_environment())


def _put_sample(sample: Path, raw: ObjectPath) -> None:
    write_sample(sample)
    files = [path for path in sorted((sample / "raw").rglob("*")) if path.is_file()]
    for path in files:
        (raw / path.relative_to(sample / "raw").as_posix()).upload(path)
    _say(f"{len(files)} files of the sample are in {raw}")


def _backfill(cluster: Cluster, settings: Settings) -> int:
    with dg.DagsterInstance.get() as instance:
        series = take_inventory(settings).series
        register(instance, series)
        assets = [table.name for table in ALL_TABLES]
        backfill = cluster.launch_backfill(assets, series)
        _say(f"backfill {backfill} of {len(series)} series; watch it at {cluster.url}")
        state = _wait(cluster, backfill)
        _tell_runs(state)
        _tell_events(instance)
    table = find_table(settings.unified_table)
    if state["status"] != "COMPLETED_SUCCESS" or table is None:
        _say(f"the backfill ended {state['status']}: {state['error'] or 'see the runs above'}")
        return 1
    _tell_tables(settings, table)
    return 0


def _wait(cluster: Cluster, backfill: str) -> dict[str, Any]:
    told: dict[str, str] = {}
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        state = cluster.backfill(backfill)
        for run in sorted(state["runs"], key=lambda run: run["startTime"] or 0):
            if told.get(run["id"]) != run["status"] != "NOT_STARTED":
                told[run["id"]] = run["status"]
                _say(f"run {run['id'][:8]} {run['status']:<9} {_worker_of(run)}".rstrip())
        if state["status"] in ENDED:
            return state
        time.sleep(_LOOK_EVERY_SECONDS)
    raise ClusterFailed(f"the backfill has not ended after {_PATIENCE_SECONDS} s")


def _worker_of(run: dict[str, Any]) -> str:
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    return str(tags.get(WORKER_TAG, ""))


def _tell_runs(state: dict[str, Any]) -> None:
    runs = Counter(_worker_of(run) for run in state["runs"])
    seconds: Counter[str] = Counter()
    for run in state["runs"]:
        seconds[_worker_of(run)] += (run["endTime"] or 0) - (run["startTime"] or 0)
    _say("")
    for worker, count in sorted(runs.items()):
        _say(f"{worker or 'no worker'}: {count} runs, {seconds[worker]:.1f} s")


def _tell_events(instance: dg.DagsterInstance) -> None:
    for table in SERIES_TABLES:
        counts = Counter(
            record.partition_key
            for record in instance.fetch_materializations(
                dg.AssetKey(table.name), limit=1_000
            ).records
        )
        _say(
            f"{table.name}: {len(counts)} series materialized, each "
            f"{'once' if set(counts.values()) == {1} else 'as often as ' + str(dict(counts))}"
        )


def _tell_tables(settings: Settings, table: Location) -> None:
    unified = read_table(UNIFIED_METADATA, table)
    _say(f"{table}: {unified.height} rows of {unified.width} columns")
    columns = ["SeriesInstanceUID", "InstanceNumber", "Modality_dicom", "x", "y", "location"]
    with pl.Config(tbl_hide_dataframe_shape=True, fmt_str_lengths=24):
        _say(str(unified.filter(pl.col("x").is_not_null()).select(columns).head()))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
