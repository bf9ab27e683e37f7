"""One partition per series: how registration, recording and resume grow with their number.

The record is made by the stage's own code on its embedded storage; the work itself is an empty file
a series, so that what is left is what Dagster and the file system take. Every figure is of a
process of its own.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path

import dagster as dg

from aneurysm_assets.defs.assets.decorators import series_asset
from aneurysm_assets.defs.assets.raw import RAW_SERIES
from aneurysm_assets.instance.data_root import open_instance
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.resources import NullReporter, SettingsResource
from aneurysm_assets.runs.run_settings import settings_of_run
from aneurysm_assets.runs.series_run import Batch, SeriesConfig, materialize_series
from aneurysm_assets.schema.tables import LABELS
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import StagedFiles
from aneurysm_assets.storage.table_files import StoredTable
from benchmarks.measure import Line

COUNTS = (4_348, 40_000, 100_000)
"""Series: from those of the data set to the most that Dagster recommends."""

_UID_ROOT = "1.2.826.0.1.3680043.8.498."
_RANGE = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def made_up_uid(number: int) -> str:
    """Return a SeriesInstanceUID of 64 characters that no order gives away, always the same."""
    digest = blake2b(number.to_bytes(8), digest_size=16).digest()
    return f"{_UID_ROOT}{10**37 + int.from_bytes(digest) % (9 * 10**37)}"


def measure(root: Path) -> Iterator[Line]:
    """Fill an instance for each number of series, and ask it what is left."""
    for count in COUNTS:
        data = root / str(count)
        filled = _alone("fill", data, count)
        asked = _alone("ask", data, count)
        what = f"{count:,} partitions of one asset"
        yield Line(f"{what}: register them, CPU", filled["register_cpu"], "s")
        yield Line(
            f"{what}: plan and record a partition, CPU",
            filled["run_cpu"] / count * 1000,
            "ms",
            note=f"wall {filled['run_wall'] / count * 1000:.3g} ms",
        )
        yield Line(f"{what}: the run that records them, peak memory", filled["peak_mb"], "MB")
        for name, said in (
            ("keys", "list the keys"),
            ("status", "`get_status_by_partition`, first time in a process"),
            ("status_again", "`get_status_by_partition`, again"),
            ("fingerprints", "recorded fingerprints"),
            ("decision", "resume decision of one table, all together"),
        ):
            wall = asked[f"{name}_wall"]
            yield Line(f"{what}: {said}, CPU", asked[f"{name}_cpu"], "s", note=f"wall {wall:.3g} s")
        yield Line(f"{what}: resume decision, peak memory", asked["peak_mb"], "MB")
        yield Line(f"{what}: Dagster's databases", asked["database_mb"], "MB")
        shutil.rmtree(data)


def timed(figures: dict[str, float], name: str, work: Callable[[], object]) -> None:
    """Add the wall time and the CPU time, of this process and its ended children, of some work."""
    wall, cpu = time.perf_counter(), cpu_of_all()
    work()
    figures[f"{name}_wall"] = time.perf_counter() - wall
    figures[f"{name}_cpu"] = cpu_of_all() - cpu


def cpu_of_all() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_mb() -> float:
    """Return the most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def megabytes_below(root: Path) -> float:
    """Return the size of all files below a directory."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6


def _alone(what: str, data: Path, count: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.many_partitions", what, data, str(count)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"ANEURYSM_DATA": str(data)},
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _fill(count: int) -> dict[str, float]:
    settings = Settings.from_environment()
    series = sorted(made_up_uid(number) for number in range(count))
    (settings.data / "raw" / "series" / series[0]).mkdir(parents=True)  # a run needs an input
    figures: dict[str, float] = {}
    with open_instance(settings) as instance:
        timed(figures, "register", lambda: partitions.register(instance, series))
        timed(figures, "run", lambda: _record(instance, series))
    return figures | {"peak_mb": peak_mb()}


def _record(instance: dg.DagsterInstance, series: list[str]) -> None:
    @series_asset(LABELS, reads=RAW_SERIES)
    def labels(
        context: dg.AssetExecutionContext, config: SeriesConfig
    ) -> Iterator[dg.MaterializeResult[None]]:
        run_settings = settings_of_run(context, SettingsResource())
        directory = run_settings.interim / LABELS.name
        directory.mkdir(parents=True, exist_ok=True)
        batch = Batch(LABELS, partial(_empty_file, directory), workers=0)
        yield from materialize_series(context, config, NullReporter(), run_settings, batch)

    job = dg.Definitions(assets=[labels]).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        tags=dict(zip(_RANGE, (series[0], series[-1]), strict=True)),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    if not result.success:
        raise RuntimeError("the run that fills the instance failed")


def _empty_file(directory: Path, uid: str, *, staged: StagedFiles | None = None) -> SeriesResult:
    path = directory / f"{uid}.parquet"
    path.touch()
    fingerprint = blake2b(uid.encode(), digest_size=16).hexdigest()
    return SeriesResult(StoredTable(path, "parquet", 1), 1, 0, 0, fingerprint=fingerprint)


def _ask(count: int) -> dict[str, float]:
    settings = Settings.from_environment()
    figures: dict[str, float] = {}
    with open_instance(settings) as instance:
        keys = partitions.registered(instance)

        def status() -> object:
            return instance.get_status_by_partition(
                dg.AssetKey(LABELS.name), keys, partitions.series_partitions
            )

        timed(figures, "keys", lambda: partitions.registered(instance))
        timed(figures, "status", status)
        timed(figures, "status_again", status)
        timed(figures, "fingerprints", lambda: partitions.recorded_fingerprints(instance, LABELS))
        timed(figures, "decision", lambda: _decide(instance, settings, count))
    home = megabytes_below(settings.dagster_home)
    return figures | {"peak_mb": peak_mb(), "database_mb": home}


def _decide(instance: dg.DagsterInstance, settings: Settings, count: int) -> None:
    """Decide what is left of one table, and see that it is what is known to be left: one."""
    keys = partitions.registered(instance)
    found = partitions.statuses(instance, settings, LABELS, keys)
    done = [uid for uid, status in found.items() if status == "materialized"]
    current = {uid: blake2b(uid.encode(), digest_size=16).hexdigest() for uid in done}
    current[done[0]] = "0" * 32
    stale = partitions.changed(instance, LABELS, done, current)
    if len(done) != count or stale != done[:1]:
        raise RuntimeError(f"{len(done)} of {count} done, {len(stale)} stale: expected all and 1")


if __name__ == "__main__":
    steps = {"fill": _fill, "ask": _ask}
    print(json.dumps(steps[sys.argv[1]](int(sys.argv[3]))))
