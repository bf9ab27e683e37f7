"""The same backfill by one Celery worker and by two, beside what a second process gains at all."""

import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import Process
from pathlib import Path
from statistics import median

import dagster as dg

from aneurysm_assets.raw.inventory import take_inventory
from aneurysm_assets.runs.partitions import register
from aneurysm_assets.sample.load import write_load_sample
from aneurysm_assets.schema.tables import SERIES_TABLES
from aneurysm_assets.settings import Settings
from benchmarks.measure import Line, in_turn, wall_seconds
from deploy.cluster import ENDED, Cluster, ClusterFailed

SERIES, FILES, SERIES_PER_RUN = 480, 200, 60
_ROUNDS = 1
_TURNS = 40_000_000


def measure(root: Path) -> Iterator[Line]:
    """Read all series with each number of workers; then let processes count.

    Yields
    ------
    Line
        Two workers against one from the first run's start to the last one's end, each worker with
        one process that reads; and what two processes that only count gain on this machine.

    Raises
    ------
    MissingProgram
        A server's program is not installed.
    """
    root.chmod(0o711)  # PostgreSQL runs as another account where we are root
    write_load_sample(root, SERIES, FILES)
    two, one = in_turn(lambda: _backfill(root, 2), lambda: _backfill(root, 1), _ROUNDS)
    spin_two, spin_one = in_turn(lambda: _spin(2), lambda: _spin(1), _ROUNDS)
    yield Line(
        f"backfill of {SERIES} series of {FILES} files, runs of {SERIES_PER_RUN}, "
        "two Celery workers, wall",
        two,
        "s",
        "one Celery worker",
        one,
        note=f"two processes that only count gain {spin_one / spin_two:.2f}x on this machine",
    )


def _backfill(root: Path, workers: int) -> float:
    with tempfile.TemporaryDirectory(dir=root) as made:
        directory = Path(made)
        directory.chmod(0o711)
        variables = {
            "ANEURYSM_RAW": str(root / "raw"),
            "ANEURYSM_INTERIM": str(directory / "interim"),
            "ANEURYSM_SERIES_PER_RUN": str(SERIES_PER_RUN),
            "ANEURYSM_WORKERS": "1",
        }
        before = dict(os.environ)
        names = [f"worker-{number}" for number in range(workers)]
        try:
            with Cluster(directory, names, variables) as cluster:
                os.environ.update(cluster.variables)
                return _seconds(cluster)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _seconds(cluster: Cluster) -> float:
    with dg.DagsterInstance.get() as instance:
        series = take_inventory(Settings.from_environment()).series
        register(instance, series)
    backfill = cluster.launch_backfill([table.name for table in SERIES_TABLES], series)
    while (state := cluster.backfill(backfill))["status"] not in ENDED:
        time.sleep(0.5)
    if state["status"] != "COMPLETED_SUCCESS":
        raise ClusterFailed(f"the backfill ended {state['status']}: {state['error']}")
    runs = state["runs"]
    return float(max(run["endTime"] for run in runs) - min(run["startTime"] for run in runs))


def _spin(processes: int) -> float:
    """Return the seconds that some counting takes, shared out among processes."""

    def all_of_them() -> None:
        running = [Process(target=_count, args=(_TURNS // processes,)) for _ in range(processes)]
        for process in running:
            process.start()
        for process in running:
            process.join()

    return median(wall_seconds(all_of_them) for _ in range(3))


def _count(turns: int) -> None:
    for _ in range(turns):
        pass
