"""How a run looks: bars on a terminal, lines in a log; each table with its rate and time left."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.runs.resources import Reporter
from aneurysm_assets.schema.tables import Artifact

_LINE_SECONDS = 60.0


class _Rate(ProgressColumn):
    """Series per second, over a table's whole time.

    Not rich's own speed: series are reported in batches, which it takes for thousands per second.
    """

    def render(self, task: Task) -> Text:
        """Render the rate of a task."""
        seconds = task.elapsed if task.finished_time is None else task.finished_time
        rate = f"{task.completed / seconds:.1f} series/s" if seconds and task.completed else ""
        return Text(rate, style="progress.data.speed")


class TerminalReporter:
    """Draws a bar a table.

    Parameters
    ----------
    console : Console
        Where to.
    clock : callable
        Seconds, from any beginning.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bars: dict[str, TaskID] = {}
        self._failed: dict[str, int] = {}
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _Rate(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[red]{task.fields[failed]}"),
            console=console,
            get_time=clock,
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()

    def begin(self, table: Artifact, series: int) -> None:
        """Add a table's bar."""
        self._failed[table.name] = 0
        self._bars[table.name] = self._progress.add_task(table.name, total=series, failed="")

    def done(self, table: Artifact, series_instance_uid: str, written: SeriesResult) -> None:
        """Advance a table's bar."""
        self._progress.advance(self._bars[table.name])

    def failed(self, table: Artifact, series_instance_uid: str, reason: str) -> None:
        """Advance a table's bar and count the failure."""
        self._failed[table.name] += 1
        bar = self._bars[table.name]
        self._progress.update(bar, advance=1, failed=f"{self._failed[table.name]} failed")


class LineReporter:
    """Writes progress to what is no terminal (a log, cron, Slurm): no control characters.

    A line when a table begins, one per minute for each that is under way, also while no series
    comes to its end, and one when it ends.

    Parameters
    ----------
    stream : text file
        Where to.
    clock : callable
        Seconds, from any beginning.
    wait : callable, optional
        Waits so many seconds; true when there is no more to wait for.
    """

    def __init__(
        self,
        stream: IO[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._lock = threading.Lock()
        self._in_progress: dict[str, _Count] = {}

    def __enter__(self) -> Self:
        """Begin to write."""
        threading.Thread(target=self._each_minute, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Say where the tables were left that did not come to their end."""
        with self._lock:
            self._stopped.set()
            for name, count in self._in_progress.items():
                self._say(f"{name}: stopped at {count.so_far(self._clock())}")
            self._in_progress.clear()

    def begin(self, table: Artifact, series: int) -> None:
        """Say that a table begins."""
        with self._lock:
            self._in_progress[table.name] = _Count(series, self._clock())
            self._say(f"{table.name}: {series} series")

    def done(self, table: Artifact, series_instance_uid: str, written: SeriesResult) -> None:
        """Count a series."""
        self._count(table, failed=False)

    def failed(self, table: Artifact, series_instance_uid: str, reason: str) -> None:
        """Count a series as failed."""
        self._count(table, failed=True)

    def _count(self, table: Artifact, *, failed: bool) -> None:
        with self._lock:
            count = self._in_progress[table.name]
            count.done += 1
            count.failed += failed
            if count.done == count.series:
                del self._in_progress[table.name]
                now = self._clock()
                took = _duration(now - count.begun)
                self._say(f"{table.name}: {count.so_far(now)}, took {took}")

    def _each_minute(self) -> None:
        # A thread: reports come when a series ends, and one series may take longer than a minute.
        while not self._wait(_LINE_SECONDS):
            with self._lock:
                now = self._clock()
                for name, count in self._in_progress.items():
                    self._say(f"{name}: {count.so_far(now)}{count.time_left(now)}")

    def _say(self, line: str) -> None:
        # A log that is full, or a reader that has gone, must not end the run.
        with suppress(OSError, ValueError):
            print(line, file=self._stream, flush=True)


@dataclass
class _Count:
    """How far a table is."""

    series: int
    begun: float
    done: int = 0
    failed: int = 0

    def so_far(self, now: float) -> str:
        rate = f", {self.done / (now - self.begun):.1f} series/s" if now > self.begun else ""
        return f"{self.done} of {self.series} series, {self.failed} failed{rate}"

    def time_left(self, now: float) -> str:
        if not self.done:
            return ""
        return f", {_duration((now - self.begun) / self.done * (self.series - self.done))} left"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


class Reporters:
    """Several reporters, told one after the other."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def begin(self, table: Artifact, series: int) -> None:
        """Tell each."""
        for reporter in self._reporters:
            reporter.begin(table, series)

    def done(self, table: Artifact, series_instance_uid: str, written: SeriesResult) -> None:
        """Tell each."""
        for reporter in self._reporters:
            reporter.done(table, series_instance_uid, written)

    def failed(self, table: Artifact, series_instance_uid: str, reason: str) -> None:
        """Tell each."""
        for reporter in self._reporters:
            reporter.failed(table, series_instance_uid, reason)


def reporter_for(console: Console) -> TerminalReporter | LineReporter:
    """Return bars for a terminal that can draw them, and lines for everything else."""
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalReporter(console)
    return LineReporter(console.file)
