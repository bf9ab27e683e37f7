"""A server and its process: started until it answers, and ended whatever happens to us.

What a server is started with stands in the module of that server.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aneurysm_assets.parallel.parent_death import ended_with_us

_LOOK_EVERY_SECONDS = 0.05

_READY_WITHIN_SECONDS = 180.0


class MissingProgram(Exception):  # noqa: N818 - a state of the machine, not a fault
    """A server's program is not installed; the text says which package has it."""


class ServerFailed(Exception):  # noqa: N818 - as above
    """A server ended, or did not answer in time; the text has the end of its log."""


def find_program(name: str, package: str, directories: Sequence[Path] = ()) -> str:
    """Return the path of a program.

    Parameters
    ----------
    name : str
        The program.
    package : str
        What to install where it is missing.
    directories : sequence of Path
        Where to look beside PATH, before it.

    Raises
    ------
    MissingProgram
        It is nowhere.
    """
    places = os.pathsep.join([*map(str, directories), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=places)
    if found is None:
        raise MissingProgram(f"{name} is not installed: it is in {package}")
    return found


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port of the loopback address."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


class ServerProcess:
    """A process in the foreground, with its log in a file.

    Parameters
    ----------
    name : str
        What it is called in messages.
    command : sequence of str
        Program and arguments.
    log : Path
        Its output, appended.
    ready : callable
        Whether it answers.
    environment : mapping of str to str, optional
        Instead of ours.
    user : str, optional
        Who it runs as, where we are root.
    cwd : Path, optional
        Where it runs.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        ready: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._ready = ready
        self._environment = environment
        self._user = user
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process.

        Raises
        ------
        ServerFailed
            It is not started.
        """
        if self._process is None:
            raise ServerFailed(f"{self.name} is not started")
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises
        ------
        ServerFailed
            It ended, or did not answer in time; then it is ended.
        """
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """Start it without waiting, where several are to start side by side."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the servers of this package
                [*ended_with_us(), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._environment is None else dict(self._environment),
                user=self._user,
                cwd=self._cwd,
                start_new_session=True,  # a Ctrl-C is ours; we end it in our order
            )

    def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises
        ------
        ServerFailed
            It ended, or did not answer in time; then it is ended.
        """
        until = time.monotonic() + _READY_WITHIN_SECONDS
        while not self._ready():
            self.require_running()
            if time.monotonic() > until:
                self.kill()
                raise ServerFailed(f"{self.name} does not answer:\n{self._end_of_log()}")
            time.sleep(_LOOK_EVERY_SECONDS)

    def require_running(self) -> None:
        """Make sure that it has not ended by itself.

        Raises
        ------
        ServerFailed
            It has.
        """
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            raise ServerFailed(f"{self.name} ended with {code}:\n{self._end_of_log()}")

    def stop(self, seconds: float = 20, by: signal.Signals = signal.SIGTERM) -> None:
        """End it as it wants to be ended; kill it where it does not end within the time."""
        if self._process is None:
            return
        self._signal(by)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it and what it started at once, as a power cut would."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL, group=True)
        self._process.wait()
        self._process = None

    def _signal(self, number: signal.Signals, *, group: bool = False) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        if group:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def _end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Server:
    """A server as a context manager, which starts and stops it.

    Parameters
    ----------
    process : ServerProcess
        What it runs as; stopped, it can be started again.
    """

    def __init__(self, process: ServerProcess) -> None:
        self._process = process

    def __enter__(self) -> Self:
        """Start it; where that fails, or is interrupted, end what is there of it."""
        with ExitStack() as stack:
            stack.callback(self.kill)
            self.start()
            stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it does what it is for.

        Raises
        ------
        ServerFailed
            It ended, or did not answer in time.
        """
        self._process.start()

    def stop(self) -> None:
        """End it as it wants to be ended."""
        self._process.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
