"""A whole cluster on this machine: servers, webserver, daemon and workers, on free loopback ports.

For the demonstration, benchmarks and tests. What each process is stands in `procfile`, what each
server is in `servers`; what is done with the cluster belongs to whoever starts it.
"""

import json
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from celery import Celery

from deploy.procfile import make_home, process_of
from deploy.servers.postgresql import PostgresqlServer
from deploy.servers.process import ServerProcess, answers, free_ports
from deploy.servers.redis import RedisServer

ENDED = frozenset({"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "CANCELED", "FAILED"})
"""The states of a backfill after which nothing comes."""

LAUNCH = """
mutation ($given: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $given) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
  }
}
"""
"""What the UI sends to launch a backfill."""

STATE = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill {
      status
      error { message }
      runs(limit: 1000) { id status startTime endTime assetSelection { path } tags { key value } }
    }
    ... on PythonError { message }
  }
}
"""
"""What the UI asks of a backfill."""


class ClusterFailed(Exception):  # noqa: N818 - a state of the machine, not a fault
    """The cluster did not do what was asked of it; the text says what it answered."""


class Cluster:
    """Servers and processes, as a context manager; all of them end with it.

    Parameters
    ----------
    directory : Path
        Of everything they keep. PostgreSQL may run as another account, which must be able to pass
        through the directories above.
    workers : sequence of str
        The names of the Celery workers, as if each were a host.
    variables : mapping of str to str
        Of the processes, on top of our environment and of what leads to the servers: where the
        data are, and the like.

    Raises
    ------
    MissingProgram
        A server's program is not installed.
    """

    def __init__(
        self, directory: Path, workers: Sequence[str], variables: Mapping[str, str]
    ) -> None:
        self.home = make_home(directory / "home")
        self.postgresql = PostgresqlServer(directory / "postgresql")
        self.redis = RedisServer(directory / "redis")
        (self.port,) = free_ports(1)
        temporary = directory / "tmp"
        temporary.mkdir()
        self.variables = {
            # What processes that are ended at once leave there goes with the directory.
            "TMPDIR": str(temporary),
            "ANEURYSM_CELERY_WORKERS": str(len(workers)),
            "ANEURYSM_COMPUTE_LOGS": str(self.home / "compute_logs"),
            "ANEURYSM_DATA": str(directory / "data"),
            **self.postgresql.variables,
            **self.redis.variables,
            **variables,
            "DAGSTER_HOME": str(self.home),
        }
        self.workers = {
            name: self._process("worker", name, "-n", f"{name}@here") for name in workers
        }
        self._daemon = self._process("daemon")
        self._webserver = self._process("webserver", "webserver", "--port", str(self.port))
        self._stack = ExitStack()

    def _process(self, kind: str, name: str = "", *arguments: str) -> ServerProcess:
        ready = {"webserver": lambda: answers(self.port), "worker": lambda: self._has_worker(name)}
        return process_of(
            kind,
            self.home,
            self.variables,
            *arguments,
            name=name,
            ready=ready.get(kind, lambda: True),
        )

    def _has_worker(self, name: str) -> bool:
        control = Celery(broker=self.redis.url).control
        return bool(control.ping(destination=[f"{name}@here"], timeout=1.0))

    def __enter__(self) -> Self:
        """Start everything, and wait until the webserver and each worker answer."""
        with ExitStack() as stack:
            for server in (self.postgresql, self.redis):
                stack.enter_context(server)
            processes = (*self.workers.values(), self._daemon, self._webserver)
            for process in processes:
                stack.callback(process.kill)
                process.begin()
            for process in processes:
                process.wait_until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self._stack.close()

    @property
    def url(self) -> str:
        """Where the Dagster UI is."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Send a GraphQL query to the webserver, as the UI does, and return its data.

        Raises
        ------
        ClusterFailed
            It does not answer, or with an error.
        """
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own webserver
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                answer: dict[str, Any] = json.load(response)
        except OSError as error:
            raise ClusterFailed(f"the webserver does not answer: {error}") from error
        if "errors" in answer:
            raise ClusterFailed(f"the webserver answers: {answer['errors']}")
        data: dict[str, Any] = answer["data"]
        return data

    def launch_backfill(self, assets: Sequence[str], partitions: Sequence[str]) -> str:
        """Launch a backfill as the UI does, and return its id.

        Raises
        ------
        ClusterFailed
            It is refused.
        """
        given = {
            "assetSelection": [{"path": [name]} for name in assets],
            "partitionNames": list(partitions),
        }
        launched = self.ask(LAUNCH, given=given)["launchPartitionBackfill"]
        if launched["__typename"] != "LaunchBackfillSuccess":
            raise ClusterFailed(f"the backfill was refused: {launched}")
        return str(launched["backfillId"])

    def backfill(self, backfill_id: str) -> dict[str, Any]:
        """Return the status of a backfill and its runs.

        Raises
        ------
        ClusterFailed
            There is no such backfill, or the webserver does not answer.
        ServerFailed
            The daemon, which works on backfills, has ended by itself.
        """
        self._daemon.require_running()
        found = self.ask(STATE, id=backfill_id)["partitionBackfillOrError"]
        if found["__typename"] != "PartitionBackfill":
            raise ClusterFailed(f"backfill {backfill_id}: {found}")
        state: dict[str, Any] = found
        return state
