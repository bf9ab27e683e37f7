"""What Dagster itself costs a partition and asset, embedded against stock storage."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from dagster._core.instance import InstanceRef

from aneurysm_assets.definitions import build_defs
from aneurysm_assets.instance.data_root import CONFIG
from aneurysm_assets.raw.tables import write_labels
from aneurysm_assets.raw.train_csv import TrainCsv
from aneurysm_assets.runs.partitions import register
from aneurysm_assets.runs.resources import SettingsResource
from benchmarks.measure import Line, in_turn, wall_seconds

SERIES = 400


def measure(root: Path) -> Iterator[Line]:
    """Materialize `labels` (a null row each) for many series, minus the writing of the files."""
    ours, stock = in_turn(
        lambda: _partition(root, embedded=True), lambda: _partition(root, embedded=False), 3
    )
    yield Line(
        f"Dagster's own work per partition and asset, {SERIES} partitions",
        ours,
        "ms",
        "stock SQLite storage",
        stock,
        least_ratio=10,
        most=2,
    )


def _partition(below: Path, *, embedded: bool) -> float:
    with tempfile.TemporaryDirectory(dir=below) as directory:
        root = Path(directory)
        series = [f"1.2.{number}" for number in range(SERIES)]
        for uid in series:
            (root / "raw" / "series" / uid).mkdir(parents=True)
        os.environ["ANEURYSM_DATA"] = directory
        os.environ.pop("DAGSTER_EVENT_BATCH_SIZE", None)
        (root / "dagster").mkdir()
        overrides = dict(CONFIG) if embedded else {"telemetry": {"enabled": False}}
        reference = InstanceRef.from_dir(str(root / "dagster"), overrides=overrides)
        job = build_defs({"settings": SettingsResource(data=directory)})
        implicit = job.resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.from_ref(reference) as instance:
            register(instance, series)

            def run(first: str, last: str) -> None:
                implicit.execute_in_process(
                    instance=instance,
                    asset_selection=[dg.AssetKey("labels")],
                    tags={
                        "dagster/asset_partition_range_start": first,
                        "dagster/asset_partition_range_end": last,
                    },
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                )

            few = wall_seconds(lambda: run(series[0], series[1]))
            writes = wall_seconds(lambda: _files_only(root, series[2:]))
            many = wall_seconds(lambda: run(series[2], series[-1]))
        return (many - few - writes) / (SERIES - 4) * 1000


def _files_only(root: Path, series: list[str]) -> None:
    settings = SettingsResource(data=str(root), interim=str(root / "apart")).get()
    empty = TrainCsv.empty(settings.train_csv)
    for uid in series:
        write_labels(settings, empty, uid)
