"""How a run looks on a terminal: one bar a table, with rate and time left."""

from typing import Self

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
from rich.text import Text

from aneurysm_assets.tables import Product
from aneurysm_assets.workers import Written


class _Rate(ProgressColumn):
    """Series a second."""

    def render(self, task: Task) -> Text:
        """Render the rate of a task, over its whole time once it is finished."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} series/s" if speed else "", style="progress.data.speed")


class TerminalReporter:
    """Draws progress; on anything but a terminal, writes one line a table."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: dict[str, TaskID] = {}
        self._failed: dict[str, int] = {}
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[red]{task.fields[failed]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()

    def begin(self, table: Product, series: int) -> None:
        """Add a table's bar."""
        self._failed[table.name] = 0
        self._bars[table.name] = self._progress.add_task(table.name, total=series, failed="")
        if not self._console.is_terminal:
            self._console.print(f"{table.name}: {series} series")

    def done(self, table: Product, series_instance_uid: str, written: Written) -> None:
        """Advance a table's bar."""
        self._progress.advance(self._bars[table.name])

    def failed(self, table: Product, series_instance_uid: str, reason: str) -> None:
        """Advance a table's bar and count the failure."""
        self._failed[table.name] += 1
        bar = self._bars[table.name]
        self._progress.update(bar, advance=1, failed=f"{self._failed[table.name]} failed")
