"""Processes as the tests need them: each heads a group of its own, and none outlives its test."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from unittest import mock

from aneurysm_assets.cli import main

SCRIPTS = Path(sys.executable).parent

# Far beyond what any of the tests takes: a test that hangs ends, and says over what.
DEADLINE = 180


@contextmanager
def started(
    *command: object, cwd: Path | None = None, output: IO[str] | int | None = None, **variables
) -> Iterator[subprocess.Popen]:
    """Start a script of this environment as the head of a group; kill what is left of it after.

    Its standard output and error go to pipes, or both to `output`. `variables` come on top of the
    environment, which `conftest` keeps free of the user's own settings.
    """
    name, *arguments = map(str, command)
    process = subprocess.Popen(
        [str(SCRIPTS / name), *arguments],
        cwd=cwd,
        env=os.environ | {name: str(value) for name, value in variables.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if output is None else output,
        stderr=subprocess.PIPE if output is None else subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def call(*command: object, cwd: Path | None = None, **variables) -> subprocess.CompletedProcess:
    """Run a script to its end, and return what it said."""
    with started(*command, cwd=cwd, **variables) as process:
        out, err = process.communicate(timeout=DEADLINE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def call_here(*arguments: object, **variables) -> subprocess.CompletedProcess:
    """Run `aneurysm-assets` in this process, and return what it said.

    For tests of what it makes and says, as a process of its own takes seconds to import everything;
    not of what a process is: its end, its environment, what it imports. An error that the program
    does not explain is raised.
    """
    command = ["aneurysm-assets", *map(str, arguments)]
    log = logging.getLogger("dagster")
    level = log.level
    code: object = 0
    with (
        # Files, as progress is written to a descriptor.
        TemporaryFile("w+") as out,
        TemporaryFile("w+") as err,
        mock.patch.dict(os.environ, {name: str(value) for name, value in variables.items()}),
        mock.patch("sys.argv", command),
        # What it leaves out is for a process that does nothing else.
        mock.patch.object(main, "leave_out_unused"),
    ):
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main.main()
            except SystemExit as ended:
                code = ended.code
            finally:
                log.setLevel(level)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read())
    return subprocess.CompletedProcess(command, int(str(code or 0)), *said)


def wait_until(
    condition: Callable[[], object],
    what: str,
    process: subprocess.Popen | None = None,
    *,
    seconds: float = DEADLINE,
    every: float = 0.01,
) -> None:
    """Wait for an event that can be seen; give up when `process`, which is to cause it, ends.

    Where it costs others their time to look, look less often: `every` is in seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"ended with {process.returncode} before {what}")
        if time.monotonic() > end:
            raise AssertionError(f"{seconds} s passed before {what}")
        time.sleep(every)


def wait_for_files(directory: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until a directory holds so many finished tables."""

    def there() -> bool:
        return len(list(directory.glob("[0-9]*.parquet"))) >= count

    wait_until(there, f"{count} files were in {directory}", process)


def group_of(process: subprocess.Popen) -> list[int]:
    """Return the live processes of a group, but for the head that was waited for."""
    if not Path("/proc/self/stat").exists():
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 0)
            return [process.pid]
        return []
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in brackets, may hold anything.
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(group) == process.pid and state != "Z":
                members.append(int(stat.parent.name))
    return members


def read_to_the_end(reading: int) -> str:
    """Read what a terminal, or a pipe, was told; the end of a terminal is an error."""
    shown = b""
    with suppress(OSError):
        while part := os.read(reading, 100_000):
            shown += part
    os.close(reading)
    return shown.decode()
