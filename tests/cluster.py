"""A cluster on this machine: real PostgreSQL and Redis, webserver, daemon, and Celery workers."""

import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import yaml

from aneurysm_assets.celery_worker import WORKER_TAG
from deploy.procfile import make_home, process_of
from deploy.servers.postgresql import PostgresqlServer
from deploy.servers.process import ServerProcess, answers, free_ports
from deploy.servers.redis import RedisServer
from tests.processes import DEADLINE, wait_until
from tests.test_backfill import ENDED, LAUNCH, STATE

# The daemon looks for backfills every 30 seconds; nothing but the pace is changed by this.
QUICK = """
import sys
if any("dagster-daemon" in argument for argument in sys.orig_argv):
    import dagster._daemon.controller
    dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1
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


class Cluster:
    """Its servers, and the processes over one data root."""

    def __init__(
        self, directory: Path, postgresql: PostgresqlServer, redis: RedisServer, data: Path
    ) -> None:
        self.data = data
        self.postgresql = postgresql
        self.redis = redis
        self.home = make_home(directory / "home")
        self._pace()
        (self.port,) = free_ports(1)
        self.variables = {
            **postgresql.variables,
            **redis.variables,
            "ANEURYSM_DATA": str(data),
            "ANEURYSM_SERIES_PER_RUN": "50",
            "ANEURYSM_WORKERS": "1",
            "ANEURYSM_CELERY_WORKERS": "2",
            "ANEURYSM_COMPUTE_LOGS": str(self.home / "compute_logs"),
            "DAGSTER_WEBSERVER_PORT": str(self.port),
            "PYTHONPATH": os.pathsep.join([str(self.home / "quick"), *_python_path()]),
        }
        self.workers: dict[str, ServerProcess] = {}

    def _pace(self) -> None:
        """Look for dead workers and waiting runs every three seconds; nothing else is changed."""
        path = self.home / "dagster.yaml"
        configuration = yaml.safe_load(path.read_text())
        configuration["run_monitoring"]["poll_interval_seconds"] = 3
        configuration["run_coordinator"]["config"]["dequeue_interval_seconds"] = 1
        path.write_text(yaml.safe_dump(configuration))
        (self.home / "quick").mkdir()
        (self.home / "quick" / "sitecustomize.py").write_text(QUICK)

    def process(self, kind: str, *arguments: str, name: str = "") -> ServerProcess:
        ready: Callable[[], bool] = lambda: True  # noqa: E731
        if kind == "webserver":
            ready = lambda: answers(self.port)  # noqa: E731
        return process_of(kind, self.home, self.variables, *arguments, name=name, ready=ready)

    def start_worker(self, name: str) -> ServerProcess:
        worker = self.process("worker", "--hostname", f"{name}@here", name=name)
        worker.start()
        self.workers[name] = worker
        return worker

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with (
            mock.patch.dict(os.environ, self.variables | {"DAGSTER_HOME": str(self.home)}),
            dg.DagsterInstance.get() as instance,
        ):
            yield instance

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def launch_backfill(self, tables: tuple[str, ...], series: list[str]) -> str:
        given = {"assetSelection": [{"path": [t]} for t in tables], "partitionNames": series}
        (launched,) = self.ask(LAUNCH, given=given).values()
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return launched["backfillId"]

    def until_ended(self, backfill: str) -> str:
        state: dict[str, Any] = {}

        def ended() -> bool:
            state.update(self.ask(STATE, id=backfill)["partitionBackfillOrError"])
            time.sleep(0.2)
            return state["status"] in ENDED

        wait_until(ended, f"backfill {backfill} had ended", seconds=4 * DEADLINE)
        return state["status"]

    def is_ready(self) -> bool:
        try:
            return bool(self.ask(READY)["assetNodes"])
        except OSError:
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


@contextmanager
def cluster(directory: Path, data: Path, workers: tuple[str, ...]) -> Iterator[Cluster]:
    with ExitStack() as stack:
        postgresql = stack.enter_context(PostgresqlServer(directory / "postgresql"))
        redis = stack.enter_context(RedisServer(directory / "redis"))
        made = Cluster(directory, postgresql, redis, data)
        for worker in workers:
            stack.callback(made.start_worker(worker).kill)
        for kind in ("daemon", "webserver"):
            process = made.process(kind)
            stack.callback(process.kill)
            process.start()
        yield made
