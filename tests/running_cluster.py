"""A cluster as tests need it: at a pace of theirs, and asked by its instance too."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import yaml

import deploy.cluster
from aneurysm_assets.cluster.celery_worker import WORKER_TAG
from deploy.cluster import ENDED, ClusterFailed
from tests.processes import DEADLINE, wait_until

# The daemon looks for backfills every 30 seconds, and loads the project anew every 60, or as often
# as a test says. It reads what is recorded, and then asks whether runs are left: a last retry may
# end in between, and here it does. Nothing but the pace is changed by this.
QUICK = """
import sys
if any("dagster-daemon" in argument for argument in sys.orig_argv):
    import os
    import time
    import dagster._daemon.controller
    from dagster._core.execution import asset_backfill
    from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES, RunsFilter
    from dagster._core.storage.tags import BACKFILL_ID_TAG, RETRY_NUMBER_TAG

    dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2
    if "RELOAD_SECONDS" in os.environ:
        dagster._daemon.controller.RELOAD_WORKSPACE_INTERVAL = int(os.environ["RELOAD_SECONDS"])
    are_complete = asset_backfill.backfill_runs_are_complete

    def are_complete_once_retried(backfill_id, instance, logger):
        left = RunsFilter(statuses=NOT_FINISHED_STATUSES, tags={BACKFILL_ID_TAG: backfill_id})
        while (runs := instance.get_runs(left)) and all(RETRY_NUMBER_TAG in r.tags for r in runs):
            time.sleep(0.1)
        return are_complete(backfill_id, instance, logger)

    asset_backfill.backfill_runs_are_complete = are_complete_once_retried
"""

# A process that is about to put the `dicom_tags` of a series in their place waits as long as a file
# names the series: its run is in the middle for as long as a test wants it there.
HELD = """
import os, sys, time

named = os.environ.get("HELD_SERIES", "")

def is_held(path):
    directory, _, name = os.fsdecode(path).rpartition("/")
    try:
        with open(named) as series:
            return directory.endswith("/dicom_tags") and name[:-8] in series.read().split()
    except OSError:
        return False

def hold(event, arguments):
    while event == "os.rename" and is_held(arguments[1]):
        time.sleep(0.05)

if named:
    sys.addaudithook(hold)
"""

# Asks each of Dagster's storages.
READY = """
{
  assetNodes { id assetMaterializations(limit: 1) { runId } }
  runsOrError(limit: 1) { __typename }
  instance { daemonHealth { id } }
  partitionBackfillsOrError(limit: 1) { __typename }
}
"""


class Cluster(deploy.cluster.Cluster):
    """One over the series of a data root, so many per run, at a quicker pace."""

    def __init__(
        self,
        directory: Path,
        data: Path,
        workers: tuple[str, ...],
        series_per_run: int,
        reload_seconds: int = 60,
    ) -> None:
        quick = directory / "quick"
        self._held = directory / "held"
        variables = {
            "ANEURYSM_DATA": str(data),
            "ANEURYSM_SERIES_PER_RUN": str(series_per_run),
            "ANEURYSM_TABLE_AUTOMATION": "0",  # the tests count runs
            "ANEURYSM_WORKERS": "1",
            "HELD_SERIES": str(self._held),
            "RELOAD_SECONDS": str(reload_seconds),
            "PYTHONPATH": os.pathsep.join([str(quick), *_python_path()]),
        }
        super().__init__(directory, workers, variables)
        self.data = data
        self._pace(quick)

    def _pace(self, quick: Path) -> None:
        """Look for dead workers and waiting runs every second; nothing else is changed."""
        path = self.home / "dagster.yaml"
        configuration = yaml.safe_load(path.read_text())
        configuration["run_monitoring"]["poll_interval_seconds"] = 1
        configuration["run_coordinator"]["config"]["dequeue_interval_seconds"] = 1
        path.write_text(yaml.safe_dump(configuration))
        quick.mkdir()
        (quick / "sitecustomize.py").write_text(QUICK + HELD)

    @contextmanager
    def held_at(self, series: Sequence[str]) -> Iterator[None]:
        """Let each run wait, while the block lasts, before it is done with one of these series."""
        self._held.write_text("\n".join(series))
        try:
            yield
        finally:
            self._held.unlink()

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Yield the instance: one as long as the cluster, which connects anew for each question."""
        with mock.patch.dict(os.environ, self.variables):
            yield self._instance

    @cached_property
    def _instance(self) -> dg.DagsterInstance:
        return self._stack.enter_context(dg.DagsterInstance.get())

    def until_ended(self, backfill: str) -> str:
        state: dict[str, Any] = {}

        def ended() -> bool:
            state.update(self.backfill(backfill))
            return state["status"] in ENDED

        wait_until(ended, f"backfill {backfill} had ended", seconds=4 * DEADLINE, every=0.3)
        if state["error"]:
            print(state["error"]["message"])
        return state["status"]

    def until_ready(self) -> None:
        """Wait until the webserver has loaded the project, and let go of connections that ended."""
        wait_until(self._is_ready, "the webserver was ready", every=0.2)

    def _is_ready(self) -> bool:
        try:
            return bool(self.ask(READY)["assetNodes"])
        except ClusterFailed:
            return False

    @property
    def series(self) -> list[str]:
        with self.instance() as instance:
            return list(instance.get_dynamic_partitions("series"))

    def runs(self) -> list[dg.DagsterRun]:
        with self.instance() as instance:
            return instance.get_runs()


def worker_of(run: dg.DagsterRun) -> str:
    return run.tags.get(WORKER_TAG, "")


def _python_path() -> list[str]:
    return [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
