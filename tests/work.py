"""What worker processes do in tests: importable by name, as a spawned process must."""

import errno
import importlib
import importlib.util
import os
import select
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.parallel.series_map import SeriesResult, map_series
from aneurysm_assets.storage.atomic_files import StagedFiles
from aneurysm_assets.storage.table_files import StoredTable, write_bytes

DEADLINE = 60
"""Seconds after which a wait has failed. Nothing that works comes near it."""

_kept_open: list[IO[str]] = []


def written(series: str, **_: object) -> SeriesResult:
    table = StoredTable(Path(f"/interim/{series}.parquet"), "parquet", rows=len(series))
    return SeriesResult(
        table, files=1, unreadable_files=0, bytes=10, notes=(series, str(os.getpid()))
    )


def write_file(directory: Path, series: str, staged: StagedFiles | None = None) -> SeriesResult:
    """Write a file of that name; then fail, or let its place be taken, if the name says so."""
    write_bytes(directory / series, series.encode(), staged=staged)
    if series == "taken":
        (directory / series).mkdir()
    return fail(series)


def write_in_a_directory_that_closes(
    directory: Path, series: str, staged: StagedFiles | None = None
) -> SeriesResult:
    """Write a file; from the tenth series on nothing of the directory can be changed any more."""
    if int(series) >= 10:
        Path.replace = Path.unlink = _refuse  # type: ignore[method-assign, assignment]
    write_bytes(directory / series, series.encode(), staged=staged)
    return written(series)


def _refuse(path: Path, *_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system", str(path))


def load_arrow_and_nibabel(series: str, **_: object) -> SeriesResult:
    """Note what is loaded once pyarrow and nibabel are at work, and that pydicom can be still."""
    pa.array([series])
    importlib.import_module("nibabel")
    loaded = sorted({"pandas", "pydicom"} & sys.modules.keys())
    findable = importlib.util.find_spec("pydicom") is not None
    return replace(written(series), notes=(f"loaded: {loaded}", f"pydicom is there: {findable}"))


def note_process(series: str, **_: object) -> SeriesResult:
    """Note which process does it, and whether it has a module that nothing here needs."""
    return replace(written(series), notes=(str(os.getpid()), str("colorsys" in sys.modules)))


def take_long(series: str, **_: object) -> SeriesResult:
    """Take longer than a task may, if the name of the series says so."""
    until = time.monotonic() + 0.15 * series.startswith("long")
    while time.monotonic() < until:
        pass
    return written(series)


def fail(series: str, **_: object) -> SeriesResult:
    """Fail in the way that the first word of the series says; other series are written."""
    error = errors(series).get(series.partition(" ")[0])
    if error is not None:
        raise error
    if series.startswith("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if series.startswith("exits"):
        os._exit(0)
    return written(series)


def errors(series: str) -> dict[str, BaseException]:
    return {
        "series": SeriesError(f"{series} has no files"),
        "full": OSError(errno.ENOSPC, "No space left on device", f"/interim/{series}"),
        "unnamed": OSError(errno.EIO, "Input/output error"),
        "polars": OSError("No space left on device (os error 28)"),
        "bare": OSError(),
        "value": ValueError(f"what {series} is"),
        "panic": pl.exceptions.PanicException("index out of bounds"),
        "unpicklable": Unpicklable(series),
    }


class Unpicklable(Exception):  # noqa: N818
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.function = lambda: text


def die_at_the_start() -> None:
    """Begin a worker process as one begins for which there is no memory."""
    os._exit(1)


def announce(fifo: Path, text: str) -> None:
    """Write a line to a FIFO, and keep it open until this process ends."""
    stream = fifo.open("w", buffering=1)
    _kept_open.append(stream)
    stream.write(f"{text}\n")


def block(fifo: Path, series: str, **_: object) -> SeriesResult:
    """Say over the FIFO which process has begun which series, and never end."""
    announce(fifo, f"{os.getpid()} {series}")
    while True:
        signal.pause()


def block_but(first: str, fifo: Path, series: str, **_: object) -> SeriesResult:
    return written(series) if series == first else block(fifo, series)


def die_then_block(fifo: Path, state: Path, series: str, **_: object) -> SeriesResult:
    """Kill the first process that has this series, and block the second one."""
    if series != "dies":
        return written(series)
    if state.exists():
        return block(fifo, series)
    state.touch()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def wait_for_release(gate: Path, series: str, **_: object) -> SeriesResult:
    """End a series named `slow` only once somebody has opened the gate, a FIFO."""
    if series == "slow":
        descriptor = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
        ready, _, _ = select.select([descriptor], [], [], DEADLINE)
        os.close(descriptor)
        if not ready:
            raise TimeoutError("nobody opened the gate")
    return written(series)


def announce_and_wait(fifo: Path, gate: Path, series: str, **_: object) -> SeriesResult:
    if series == "slow":
        announce(fifo, str(os.getpid()))
    return wait_for_release(gate, series)


def main(kind: str, fifo: str, state: str) -> None:
    """Map series that block, as a process that a test can interrupt or kill."""
    work = partial(block, Path(fifo))
    if kind == "alone":
        work = partial(die_then_block, Path(fifo), Path(state))
    series = ["dies", *map(str, range(20))]
    for uid, outcome in filter(None, map_series(work, series, 2)):
        print(uid, outcome, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
