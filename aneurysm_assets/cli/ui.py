"""Serves the Dagster UI of a data root: a webserver and a daemon that live as long as the command.

They are Dagster's own processes, each in a session of its own: a Ctrl-C reaches this process only,
which then ends both, with the runs that they began. Where it is killed, the system ends them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO

import yaml

from aneurysm_assets import settings as variables
from aneurysm_assets.dagster_internals import serialize_value
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import claim, open_instance, write_dagster_yaml
from aneurysm_assets.instance.input_root import require_same_root
from aneurysm_assets.instance.run_locks import AlreadyRunning, hold, release
from aneurysm_assets.instance.run_origin import CODE_LOCATION, MODULE
from aneurysm_assets.messages import printable
from aneurysm_assets.parallel.parent_death import ended_with_us
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import atomic_write

HOST = "127.0.0.1"

USUAL_PORT = 3000

_LOOK_EVERY = 0.1
"""Seconds between two looks at whether it answers, or whether a part has ended."""

_ENDS_WITHIN = 20.0
"""Seconds that a part has to end its runs; then what is left of it is killed."""

_LAST_LINES = 5

_LOCK = "ui"


class PartEndedError(Exception):
    """The webserver or the daemon ended by itself; the text says which, and what it said last."""


@dataclass(frozen=True)
class _Part:
    """A process of Dagster's, with all that it starts."""

    name: str
    process: "subprocess.Popen[bytes]"

    def require_running(self, log: Path) -> None:
        if self.process.poll() is not None:
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
            raise PartEndedError(
                f"the {self.name} ended by itself ({self.process.returncode}); its log is {log}:\n"
                + "\n".join(map(printable, last))
            )

    def send(self, signal_number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal_number)


def serve(
    settings: Settings,
    port: int | None,
    *,
    ready: Callable[[str, Path], None],
    ending: Callable[[], None],
) -> None:
    """Serve the UI until an interrupt.

    Parameters
    ----------
    settings : Settings
        Those of the environment; the instance is the one that `aneurysm-assets run` uses.
    port : int or None
        On the loopback address. Where it is not given, the usual one, or a free one.
    ready : callable
        Told the address and the log once the UI answers.
    ending : callable
        Called before the webserver and the daemon are ended, which takes some seconds.

    Raises
    ------
    InputError
        There is no data root, it is not the one of the settings, its UI is open already, or the
        port is taken.
    PartEndedError
        The webserver or the daemon ended by itself.
    OSError
        The data root cannot be written.
    """
    _require_data_root(settings)
    require_same_root(settings)
    _require_alone(settings)
    port = _free_port(port)
    with open_instance(settings) as instance:
        claim(instance, settings)
        reference = serialize_value(instance.get_ref())
    write_dagster_yaml(settings)
    log = _log_path(settings)
    commands = {
        "webserver": ("dagster_webserver", "--host", HOST, "--port", str(port)),
        "daemon": ("dagster._daemon", "run"),
    }
    workspace = str(_write_workspace(settings))
    shared = ("--workspace", workspace, "--instance-ref", reference, "--log-format", "json")
    with ExitStack() as stack:
        stack.callback(release, settings, _LOCK)
        stack.enter_context(_interrupted_by_signals())
        output = stack.enter_context(log.open("ab"))
        parts = stack.enter_context(_ended_together())
        stack.callback(ending)
        for name, command in commands.items():
            parts.append(_Part(name, _started((*command, *shared), settings, output)))
        url = f"http://{HOST}:{port}"
        while not _answers(url):
            _watch(parts, log)
        _address(settings).write_text(url, encoding="utf-8")
        ready(url, log)
        while True:
            _watch(parts, log)


def _require_data_root(settings: Settings) -> None:
    if not settings.dagster_home.is_dir() and not _is_there(settings):
        raise InputError(
            f"{settings.data} is no data root: it has neither raw/ nor dagster/. Say which by "
            f"--data or {variables.DATA}; `aneurysm-assets sample try` makes one to try"
        )


def _require_alone(settings: Settings) -> None:
    """Refuse a second daemon on the same state: both would begin the same runs."""
    address = _address(settings)
    try:
        hold(settings, _LOCK)
    except AlreadyRunning as error:
        try:
            where = f" at {address.read_text(encoding='utf-8')}"
        except OSError:
            where = ""  # it does not answer yet
        raise InputError(
            f"the Dagster UI of {settings.data} is open already{where}: open that, or end it first"
        ) from error
    address.unlink(missing_ok=True)


def _address(settings: Settings) -> Path:
    return settings.dagster_home / "ui_address"


def _is_there(settings: Settings) -> bool:
    return not isinstance(settings.raw, Path) or settings.raw.is_dir()


def _free_port(port: int | None) -> int:
    """Return the port that is given, else the usual one or, where that is taken, a free one."""
    for number in (port,) if port else (USUAL_PORT, 0):
        with socket.socket() as taken:
            # As the webserver does: a connection of before that lingers does not count.
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind((HOST, number))
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                return int(taken.getsockname()[1])
    raise InputError(f"port {port} of {HOST} cannot be used ({reason}): give another by --port")


def _write_workspace(settings: Settings) -> Path:
    """Name our code location as a project's `pyproject.toml` does: sensors are on or off by it."""
    location = {"module_name": MODULE, "location_name": CODE_LOCATION}
    content = yaml.safe_dump({"load_from": [{"python_module": location}]})
    path = settings.dagster_home / "workspace.yaml"
    atomic_write(path, lambda partial: partial.write_text(content, encoding="utf-8"))
    return path


def _log_path(settings: Settings) -> Path:
    folder = settings.data / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"ui-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.log"


def _started(
    module: Sequence[str], settings: Settings, output: IO[bytes]
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - modules of Dagster's
        [*ended_with_us(), sys.executable, "-m", *module],
        # Not where the command is typed: Python would import what lies there, and Dagster read the
        # .env, which the command has read, and which would go before its options.
        cwd=settings.dagster_home,
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _environment(settings: Settings) -> Mapping[str, str]:
    """Return the environment of the parts: the same settings, from wherever they are read."""
    roots = {variables.RAW: settings.raw, variables.INTERIM: settings.interim}
    given = {name: str(root) for name, root in roots.items() if os.environ.get(name)}
    home = os.environ.get("DAGSTER_HOME") or str(settings.dagster_home)
    search = [str(Path(path).absolute()) for path in _python_path()]
    return {
        **os.environ,
        **given,
        **({"PYTHONPATH": os.pathsep.join(search)} if search else {}),
        variables.DATA: str(settings.data),
        "DAGSTER_HOME": str(Path(home).absolute()),
        "PYTHONUNBUFFERED": "1",
    }


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _watch(parts: Sequence[_Part], log: Path) -> None:
    for part in parts:
        part.require_running(log)
    time.sleep(_LOOK_EVERY)


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Take an end of the terminal, or of the session, as an interrupt."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    # SIGINT too: what a shell starts in the background ignores it.
    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ended_together() -> Iterator[list[_Part]]:
    """End the parts that were added, and all that they started, whatever happens meanwhile."""
    parts: list[_Part] = []
    try:
        yield parts
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must leave nothing behind
        for part in parts:
            part.send(signal.SIGINT)
        end = time.monotonic() + _ENDS_WITHIN
        for part in parts:
            with suppress(subprocess.TimeoutExpired):
                part.process.wait(max(0.0, end - time.monotonic()))
        for part in parts:
            part.send(signal.SIGKILL)
            part.process.wait()
