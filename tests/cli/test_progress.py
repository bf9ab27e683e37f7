"""Progress: bars on a terminal, lines where there is none, colours only where they are wanted."""

import io
import os
import pty
import re
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Queue

import pytest
from rich.console import Console

from aneurysm_assets.cli.main import _console
from aneurysm_assets.cli.progress import LineReporter, TerminalReporter, reporter_for
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.schema.tables import DICOM_TAGS, LABELS
from aneurysm_assets.storage.table_files import StoredTable
from tests.processes import read_to_the_end

WRITTEN = SeriesResult(StoredTable(Path("x.parquet"), "parquet", 1), 1, 0, 1)


class Time:
    """A clock that stands until it is set, and a minute that passes when it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[float] = []
        self._passes: Queue[bool] = Queue()

    def wait(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return self._passes.get(timeout=60)

    def minute_passes(self) -> None:
        self._passes.put(False)

    def end(self) -> None:
        self._passes.put(True)


class Lines(io.StringIO):
    """A stream whose lines can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.written: Queue[str] = Queue()

    def write(self, text: str) -> int:
        if text.strip():
            self.written.put(text)
        return super().write(text)

    def next(self) -> str:
        return self.written.get(timeout=60)


@pytest.fixture
def moment():
    time = Time()
    yield time
    time.end()


def test_a_table_has_a_line_at_its_begin_and_at_its_end(moment) -> None:
    lines = Lines()
    with LineReporter(lines, clock=lambda: moment.now, wait=moment.wait) as reporter:
        reporter.begin(LABELS, 2)
        moment.now = 4.0
        reporter.done(LABELS, "1.2", WRITTEN)
        reporter.failed(LABELS, "1.3", "broken")
    assert lines.getvalue().splitlines() == [
        "labels: 2 series",
        "labels: 2 of 2 series, 1 failed, 0.5 series/s, took 0:00:04",
    ]


def test_a_line_a_minute_says_how_far_it_is_though_no_series_ends(moment) -> None:
    lines = Lines()
    with LineReporter(lines, clock=lambda: moment.now, wait=moment.wait) as reporter:
        reporter.begin(DICOM_TAGS, 4000)
        assert lines.next() == "dicom_tags: 4000 series"
        moment.now = 60.0
        moment.minute_passes()
        assert lines.next() == "dicom_tags: 0 of 4000 series, 0 failed, 0.0 series/s"
        for _ in range(400):
            reporter.done(DICOM_TAGS, "1.2", WRITTEN)
        moment.now = 120.0
        moment.minute_passes()
        assert lines.next() == (
            "dicom_tags: 400 of 4000 series, 0 failed, 3.3 series/s, 0:18:00 left"
        )
    assert lines.next().startswith("dicom_tags: stopped at 400 of 4000 series")
    assert moment.asked[:2] == [60.0, 60.0]
    assert lines.getvalue().isascii()
    assert lines.getvalue().replace("\n", "").isprintable()


def test_a_table_that_has_ended_has_no_more_lines(moment) -> None:
    lines = Lines()
    with LineReporter(lines, clock=lambda: moment.now, wait=moment.wait) as reporter:
        reporter.begin(LABELS, 1)
        reporter.done(LABELS, "1.2", WRITTEN)
        reporter.begin(DICOM_TAGS, 2)
        assert [lines.next()[:6] for _ in range(3)] == ["labels", "labels", "dicom_"]
        moment.now = 60.0
        moment.minute_passes()
        assert lines.next().startswith("dicom_tags: 0 of 2")
    assert lines.getvalue().count("labels") == 2


def test_a_stream_that_takes_nothing_does_not_end_the_run(moment) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    with LineReporter(stream, clock=lambda: moment.now, wait=moment.wait) as reporter:
        reporter.begin(LABELS, 1)
        reporter.done(LABELS, "1.2", WRITTEN)
    with pytest.raises(BrokenPipeError):
        stream.close()


def shown_of_a_batch(width: int) -> str:
    """Return what a terminal gets of a table whose 20 series come at once after ten seconds."""
    now = 0.0
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    with TerminalReporter(console, clock=lambda: now) as reporter:
        reporter.begin(LABELS, 20)
        now = 10.0
        for _ in range(20):
            reporter.done(LABELS, "1.2", WRITTEN)
        now = 1000.0  # other tables take their time
    return console.file.getvalue()


def test_the_rate_on_a_terminal_is_right_though_series_come_in_batches() -> None:
    last = [line for line in shown_of_a_batch(120).splitlines() if "20/20" in line][-1]
    assert "2.0 series/s" in last


def test_a_bar_stays_on_one_line_of_a_narrow_terminal() -> None:
    assert shown_of_a_batch(40).count("\n") == 1


def shown_by(
    monkeypatch, make: Callable[[], tuple[int, int]], **variables: str
) -> tuple[type, str]:
    """Return which reporter standard error gets, and what a table with a failure looks like."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    reading, writing = make()
    with open(writing, "w") as stream:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stderr", stream)
        console = _console()
        with reporter_for(console) as reporter:
            reporter.begin(LABELS, 2)
            reporter.done(LABELS, "1.2", WRITTEN)
            reporter.failed(LABELS, "1.3", "broken")
        monkeypatch.undo()
        console.file.close()
    return type(reporter), read_to_the_end(reading)


COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7])[0-9;]*m")


def test_a_terminal_shows_bars_in_colour(monkeypatch) -> None:
    reporter, shown = shown_by(monkeypatch, pty.openpty)
    assert reporter is TerminalReporter
    assert COLOUR.search(shown)
    assert "1 failed" in shown


def test_a_terminal_shows_bars_without_colour_where_no_color_is_set(monkeypatch) -> None:
    reporter, shown = shown_by(monkeypatch, pty.openpty, NO_COLOR="1")
    assert reporter is TerminalReporter
    assert not COLOUR.search(shown)
    assert "1 failed" in shown


@pytest.mark.parametrize(
    ("make", "variables"),
    [
        (os.pipe, {}),
        (os.pipe, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}),
        (pty.openpty, {"TERM": "dumb"}),
    ],
)
def test_what_is_no_terminal_or_a_dumb_one_gets_lines_without_control_characters(
    monkeypatch, make, variables
) -> None:
    reporter, shown = shown_by(monkeypatch, make, **variables)
    assert reporter is LineReporter
    assert "\x1b" not in shown
    assert shown.splitlines()[0] == "labels: 2 series"
    assert shown.replace("\r\n", "").replace("\n", "").isprintable()
