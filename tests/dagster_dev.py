"""A real `dagster dev`: webserver, daemon and run workers, over a clone of the project."""

import shutil
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.processes import started, wait_until

# The daemon looks for new backfills every 30 seconds and for queued runs every 5; nothing but the
# pace is changed by this.
QUICK_DAEMON = """
import sys
if "dagster._daemon" in sys.orig_argv:
    import dagster._daemon.controller
    dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1
    from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
    QueuedRunCoordinator.dequeue_interval_seconds = 1
"""


class Dev(NamedTuple):
    """Where it runs, and where it answers."""

    project: Path
    url: str


@contextmanager
def dagster_dev(
    project: Path,
    sample_data: Path,
    directory: Path,
    *,
    quick: str = QUICK_DAEMON,
    prepare: Callable[[Path], None] | None = None,
) -> Iterator[Dev]:
    """Start it over copies of both with no variable set; yield once it answers, then end it.

    Parameters
    ----------
    project, sample_data : Path
        The fixtures of `conftest`.
    directory : Path
        An empty one, for the copies and the log.
    quick : str
        Code that its processes begin with, to set their pace.
    prepare : callable, optional
        Called with the copy of the project, which holds the data, before it is started.
    """
    (directory / "quick").mkdir()
    (directory / "quick" / "sitecustomize.py").write_text(quick)
    # Without what a command of another test may have left there.
    ignored = shutil.ignore_patterns("data")
    clone = Path(shutil.copytree(project, directory / "project", ignore=ignored))
    shutil.copytree(sample_data, clone / "data")
    if prepare is not None:
        prepare(clone)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (
        (directory / "log").open("w") as log,
        started(
            *("dagster", "dev", "-h", "127.0.0.1", "-p", port),
            cwd=clone,
            output=log,
            PYTHONPATH=directory / "quick",
        ) as process,
    ):
        wait_until(lambda: _answers(f"{url}/server_info"), f"it answered: {log.name}", process)
        yield Dev(clone, url)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.status == 200
    except OSError:
        return False
