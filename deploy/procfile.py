"""The processes of a cluster as `Procfile` has them, to be started on one machine.

For the demonstration and for tests; on real hosts a supervisor (systemd, foreman) does this.
"""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.servers.process import ServerProcess

PROCFILE = Path(__file__).with_name("Procfile")
CONFIGURATION = Path(__file__).with_name("dagster.yaml")


def commands() -> dict[str, list[str]]:
    """Return the command of each kind of process: `webserver`, `daemon` and `worker`."""
    lines = (line.partition(":") for line in PROCFILE.read_text().splitlines())
    return {kind.strip(): shlex.split(command) for kind, _, command in lines}


def make_home(directory: Path) -> Path:
    """Make a DAGSTER_HOME with the configuration of a cluster."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIGURATION.name).write_text(CONFIGURATION.read_text())
    return directory


def process_of(
    kind: str,
    home: Path,
    variables: Mapping[str, str],
    *arguments: str,
    name: str = "",
    ready: Callable[[], bool] = lambda: True,
) -> ServerProcess:
    """Return a process that is not yet started.

    Parameters
    ----------
    kind : str
        Which of `commands`.
    home : Path
        Its DAGSTER_HOME, where it also runs and has its log.
    variables : mapping of str to str
        On top of our environment.
    arguments : str
        Behind those of the Procfile.
    name : str
        What it is called, where there are several of a kind.
    ready : callable
        Whether it does what it is for; that it has begun where not given.
    """
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
    return ServerProcess(
        name or kind,
        [*commands()[kind], *arguments],
        home / f"{name or kind}.log",
        ready,
        environment={**os.environ, **variables, "DAGSTER_HOME": str(home), "PATH": path},
        cwd=home,
    )
