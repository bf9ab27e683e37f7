"""Events per second on Dagster's storages: stock and ours, SQLite and PostgreSQL.

What a partition costs is two events: that it is planned, and that it is materialized.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventBatchMetadata,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.instance import InstanceRef

from aneurysm_assets.instance.data_root import CONFIG
from benchmarks.measure import Line, wall_seconds
from deploy.servers.postgresql import DATABASE, USER, PostgresqlServer
from deploy.servers.process import MissingProgram

PARTITIONS = 200
AT_ONCE = 100
ROUNDS = 3

_KEY = dg.AssetKey("labels")
_STOCK_SQLITE: Mapping[str, Any] = {"telemetry": {"enabled": False}}


def measure(root: Path) -> Iterator[Line]:
    """Record partitions on each storage in turn, and give the medians."""
    with _postgresql(root) as server:
        storages: dict[str, tuple[Mapping[str, Any], str]] = {
            "ours SQLite": (CONFIG, "200"),
            "stock SQLite": (_STOCK_SQLITE, "0"),
        }
        if server is not None:
            storages["ours PostgreSQL"] = (_of_postgresql(server, stock=False), "200")
            storages["stock PostgreSQL"] = (_of_postgresql(server, stock=True), "0")
            storages["stock PostgreSQL, DAGSTER_EVENT_BATCH_SIZE set"] = (
                _of_postgresql(server, stock=True),
                "200",
            )
        seconds: dict[str, list[float]] = {name: [] for name in storages}
        for turn in range(ROUNDS + 1):
            for name, (overrides, batch) in storages.items():
                taken = _seconds(root, overrides, batch)
                if turn:  # the first makes the tables, and does not count
                    seconds[name].append(taken)
    rates = {name: 2 * PARTITIONS / statistics.median(taken) for name, taken in seconds.items()}
    for name in rates:
        if name.startswith("ours"):
            yield from _lines(name, rates)


def _lines(name: str, rates: Mapping[str, float]) -> Iterator[Line]:
    kind = name.removeprefix("ours ")
    for against, rate in rates.items():
        if against.startswith(f"stock {kind}"):
            yield Line(
                f"Dagster's events per second, {kind}",
                round(1000 / rates[name], 3),
                "ms per event",
                against,
                round(1000 / rate, 3),
                note=f"{rates[name]:,.0f} against {rate:,.0f} per second",
            )


@contextmanager
def _postgresql(root: Path) -> Iterator[PostgresqlServer | None]:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        # Not below `root`: another account's server has to pass through.
        Path(directory).chmod(0o711)
        try:
            server = PostgresqlServer(Path(directory) / "server")
        except MissingProgram as missing:
            print(f"left out: {missing}", file=sys.stderr)
            yield None
            return
        with server:
            yield server


def _of_postgresql(server: PostgresqlServer, *, stock: bool) -> Mapping[str, Any]:
    config = {
        "postgres_db": {
            "scheme": "postgresql+psycopg2",
            "hostname": "127.0.0.1",
            "port": server.port,
            "db_name": DATABASE,
            "username": USER,
            "password": server.password,
        }
    }
    custom = {
        "module": "aneurysm_assets.cluster.postgresql",
        "class": "PostgresStorage",
        "config": config,
    }
    storage = {"postgres": config} if stock else {"custom": custom}
    return {"storage": storage, "telemetry": {"enabled": False}}


def _seconds(below: Path, overrides: Mapping[str, Any], batch: str) -> float:
    with tempfile.TemporaryDirectory(dir=below) as directory:
        os.environ["ANEURYSM_DATA"] = directory
        (Path(directory) / "dagster").mkdir()
        reference = InstanceRef.from_dir(f"{directory}/dagster", overrides=dict(overrides))
        series = [f"1.2.{number}" for number in range(PARTITIONS)]
        with dg.DagsterInstance.from_ref(reference) as instance:
            os.environ["DAGSTER_EVENT_BATCH_SIZE"] = batch
            instance.get_asset_records([_KEY])
            return wall_seconds(lambda: _record(instance, series))


def _record(instance: dg.DagsterInstance, series: Sequence[str]) -> None:
    """Plan all at once, as Dagster does, and record in batches, as a step of ours does."""
    _report(instance, [_planned(uid) for uid in series])
    for start in range(0, len(series), AT_ONCE):
        _report(instance, [_materialized(uid) for uid in series[start : start + AT_ONCE]])


def _report(instance: dg.DagsterInstance, events: Sequence[DagsterEvent]) -> None:
    for index, event in enumerate(events):
        of_batch = DagsterEventBatchMetadata("batch", index == len(events) - 1)
        instance.report_dagster_event(event, "run", batch_metadata=of_batch)


def _planned(uid: str) -> DagsterEvent:
    data = AssetMaterializationPlannedData(_KEY, partition=uid)
    return DagsterEvent.build_asset_materialization_planned_event("job", "labels", data)


def _materialized(uid: str) -> DagsterEvent:
    materialization = dg.AssetMaterialization(
        _KEY, partition=uid, metadata={"rows": 1}, tags={DATA_VERSION_TAG: f"v{uid}"}
    )
    return DagsterEvent(
        event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name="job",
        event_specific_data=StepMaterializationData(materialization),
    )
