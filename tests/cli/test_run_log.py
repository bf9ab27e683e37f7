"""The log of a run: all that happened, line by line; it never stands in the run's way."""

import logging
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aneurysm_assets.cli import run_log
from aneurysm_assets.cli.run_log import RunLog
from aneurysm_assets.defs.assets import labels as labels_asset
from aneurysm_assets.errors import InputError
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.schema.tables import LABELS
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_files import StoredTable
from tests.graph import Graph

WRITTEN = SeriesResult(StoredTable(Path("x.parquet"), "parquet", 1), 2, 1, 1, notes=("odd",))
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR|CRITICAL) (.*)")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings.from_environment({"ANEURYSM_DATA": str(tmp_path), "ANEURYSM_WORKERS": "3"})


def lines(log: RunLog) -> list[tuple[str, str]]:
    """Return level and message of each line; every one has a time in UTC."""
    matches = [LINE.fullmatch(line) for line in log.path.read_text().splitlines()]
    assert all(matches)
    return [(match[1], match[2]) for match in matches]


def test_everything_that_happened_is_in_it(settings) -> None:
    with RunLog(settings, only=["1.2"], force=True) as log:
        log.begin(LABELS, 2)
        log.done(LABELS, "1.2", WRITTEN)
        log.failed(LABELS, "1.3", "row 7: Age is 'old'")
        log.summary("  series done  1")
    found = lines(log)
    assert re.match(r"aneurysm-assets \S+, dagster \S+, polars .*, Python 3", found[0][1])
    for line in (
        ("INFO", f"setting: raw = {settings.raw}"),
        ("INFO", "setting: workers = 3"),
        ("INFO", "series asked for: 1.2"),
        ("INFO", "labels: begins, 2 series"),
        ("INFO", "labels 1.2: done, 1 rows of 2 files in 0.000 s"),
        ("WARNING", "labels 1.2: 1 of its files could not be read"),
        ("WARNING", "labels 1.2: odd"),
        ("ERROR", "labels 1.3: failed: row 7: Age is 'old'"),
        ("INFO", "summary: series done  1"),
    ):
        assert line in found
    assert [text.partition(" after")[0] for _, text in found[-3:]] == [
        "labels: ends",
        "summary: series done  1",
        "ended",
    ]


def test_it_is_a_file_a_run_named_by_time_and_process(settings) -> None:
    with RunLog(settings) as log:
        pass
    assert log.path.parent == settings.data / "logs"
    stamp, process = re.fullmatch(r"run-(\d{8}T\d{6}Z)-(\d+)\.log", log.path.name).groups()
    then = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - then).total_seconds()) < 600
    assert int(process) == run_log.os.getpid()


def test_a_line_is_in_the_file_before_the_next_thing_happens(settings) -> None:
    with RunLog(settings) as log:
        log.begin(LABELS, 2)
        assert lines(log)[-1] == ("INFO", "labels: begins, 2 series")
        log.failed(LABELS, "1.3", "broken")
        assert lines(log)[-1] == ("ERROR", "labels 1.3: failed: broken")


def test_a_run_that_is_refused_leaves_nothing(settings, tmp_path) -> None:
    with pytest.raises(InputError), RunLog(settings):
        raise InputError("no such column")
    assert list(tmp_path.iterdir()) == []


def test_the_unexpected_is_there_with_its_traceback(settings) -> None:
    with pytest.raises(ZeroDivisionError), RunLog(settings) as log:
        1 / 0  # noqa: B018 - what is unexpected
    text = log.path.read_text()
    assert re.search(r"CRITICAL broke off after .* s\n    Traceback", text)
    assert "ZeroDivisionError: division by zero" in text
    assert __file__ in text


def test_so_is_what_nobody_expected_of_a_series_though_the_run_goes_on(data, monkeypatch) -> None:
    def breaks(*_: object, **__: object) -> SeriesResult:
        return 1 / 0  # what is unexpected

    monkeypatch.setattr(labels_asset, "write_labels", breaks)
    graph = Graph(data)
    with RunLog(graph.settings) as log:
        graph.run("labels", partition=graph.series[0])
    text = log.path.read_text()
    assert f" ERROR labels {graph.series[0]}: Traceback (most recent call last):\n    " in text
    assert "return 1 / 0" in text


def test_an_interrupt_is_no_fault(settings) -> None:
    with pytest.raises(KeyboardInterrupt), RunLog(settings) as log:
        raise KeyboardInterrupt
    assert "interrupted after" in lines(log)[-1][1]
    assert "Traceback" not in log.path.read_text()


def test_a_value_from_a_file_forges_no_line_and_no_control_character(settings, monkeypatch) -> None:
    # What cannot be encoded, pytest's own handler would keep, and could not hand on.
    monkeypatch.setattr(logging.getLogger("aneurysm_assets"), "propagate", False)
    with RunLog(settings) as log:
        log.begin(LABELS, 1)
        log.failed(LABELS, "1.2", "a\n2026-01-01T00:00:00.000Z INFO ended\r\x1b[31m\udcff")
    text = log.path.read_bytes().decode()
    assert "failed: a\n    2026-01-01T00:00:00.000Z INFO ended\\r\\x1b[31m\\udcff\n" in text


def test_a_log_that_cannot_be_made_stops_nothing_and_says_why(settings) -> None:
    (settings.data / "logs").write_text("in the way")
    with RunLog(settings) as log:
        log.begin(LABELS, 1)
        log.done(LABELS, "1.2", WRITTEN)
    assert log.trouble is not None
    assert log.trouble.endswith(str(log.path))


def test_a_disk_that_is_full_for_a_while_stops_nothing_and_prints_nothing(
    settings, monkeypatch, capsys
) -> None:
    write = run_log.os.write

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with RunLog(settings) as log:
        log.begin(LABELS, 3)
        monkeypatch.setattr(run_log.os, "write", full)
        log.failed(LABELS, "1.2", "lost")
        log.failed(LABELS, "1.3", "lost")
        monkeypatch.setattr(run_log.os, "write", write)
        log.failed(LABELS, "1.4", "kept")
    assert log.trouble == f"No space left on device: {log.path}"
    text = log.path.read_text()
    assert ("lost" in text, "kept" in text) == (False, True)
    assert capsys.readouterr() == ("", "")


def test_after_a_run_nothing_is_left_that_listens(settings) -> None:
    before = list(logging.getLogger("aneurysm_assets").handlers)
    with RunLog(settings):
        pass
    assert logging.getLogger("aneurysm_assets").handlers == before
