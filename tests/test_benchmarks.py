"""What the documents say about speed is what was measured."""

import os
from pathlib import Path

import pytest

from aneurysm_assets.schema.tables import UNIFIED_METADATA, VOLUMES
from aneurysm_assets.storage.object_path import list_directory
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.storage.table_scans import read_table
from benchmarks import dagster_events, many_partitions, million, tick
from benchmarks.__main__ import NAMES
from benchmarks.measure import Line
from benchmarks.report import Results
from benchmarks.slow_answers import answers_late
from benchmarks.stage import Seen, throughput
from tests.graph import Graph
from tests.record import SERIES_TABLES

ROOT = Path(__file__).parent.parent

BEGIN, END = "<!-- benchmarks: made by `make bench` -->", "<!-- benchmarks: end -->"


def test_the_documents_figures_are_those_of_the_results() -> None:
    results = Results.read(ROOT / "benchmarks" / "results.json")
    document = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    part = document.split(BEGIN)[1].split(END)[0]
    assert set(results.programs) == set(NAMES)
    assert part.strip() == results.as_markdown(), "run `make bench`"


@pytest.mark.parametrize(
    ("line", "is_met"),
    [
        (Line("a", 1, "s"), None),
        (Line("a", 1, "s", "b", 10, least_ratio=10), True),
        (Line("a", 1, "s", "b", 9.9, least_ratio=10), False),
        (Line("a", 2, "ms", most=2), True),
        (Line("a", 2.1, "ms", most=2), False),
        (Line("a", 2.1, "ms", "b", 100, least_ratio=10, most=2), False),
        (Line("a", 0, "files", most=0), True),
    ],
)
def test_a_promise_is_kept_where_each_part_of_it_is(line: Line, is_met: bool | None) -> None:
    assert line.is_met is is_met


def test_a_promise_that_is_not_kept_is_shown_as_such() -> None:
    results = Results()
    results.put("one", [Line("slow", 1, "s", "b", 2, least_ratio=10)])
    assert "at least 10x: **not met**" in results.as_markdown()
    assert "2x" in results.as_text()


def test_the_table_replaces_the_one_before_and_nothing_else(tmp_path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    results = Results()
    results.put("one", [Line("a", 1, "s")])
    for _ in range(2):
        results.write_into(document)
        text = document.read_text()
        assert text.startswith(f"before\n\n{BEGIN}\n")
        assert text.endswith(f"{END}\n\nafter\n")
        assert "old" not in text
        assert results.as_markdown() in text


def test_results_are_read_as_they_were_written_and_other_programs_stay(tmp_path) -> None:
    path = tmp_path / "results.json"
    first = Results()
    first.put("one", [Line("a", 1, "s")])
    first.write(path)
    again = Results.read(path)
    again.put("two", [Line("b", 2, "s", note="µ")])
    again.write(path)
    assert [line.what for line in Results.read(path).lines()] == ["a", "b"]
    assert Results.read(path).programs["one"] == first.programs["one"]


@pytest.mark.parametrize(
    ("program", "size"),
    [
        (dagster_events, {"SERIES": 6}),
        (many_partitions, {"COUNTS": (6,)}),
        (tick, {"SERIES": 6, "TICKS": 2}),
    ],
    ids=["dagster_events", "many_partitions", "tick"],
)
def test_a_program_whose_data_nobody_has_runs_as_the_product_is_now(
    program, size, tmp_path, monkeypatch
) -> None:
    for name in ("ANEURYSM_DATA", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")  # programs set these for themselves: they are put back after
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)  # as `make bench` has it
    for name, value in size.items():
        monkeypatch.setattr(program, name, value)
    lines = list(program.measure(tmp_path))
    assert lines
    assert all(line.what and line.unit for line in lines)


def test_the_store_that_answers_late_gives_what_the_server_gave_once(s3_server, bucket) -> None:
    def ask() -> None:
        assert (bucket / "x").read_bytes() == b"content"
        assert (bucket / "x").read_range(3, 4) == b"tent"
        assert "x" in list_directory(bucket).files
        with pytest.raises(FileNotFoundError):
            (bucket / "y").read_bytes()

    (bucket / "x").write_bytes(b"content")
    with answers_late(s3_server.port, 1) as late, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{late}")
        ask()
        s3_server.stop()
        try:
            ask()
        finally:
            s3_server.start()


def test_the_tables_whose_making_is_measured_are_those_that_a_run_makes(data) -> None:
    graph = Graph(data)
    graph.run_all(*SERIES_TABLES)
    graph.run("unified_metadata", "volumes")
    for name, table, stem in (
        ("unified", UNIFIED_METADATA, graph.settings.unified_table),
        ("volumes", VOLUMES, graph.settings.volumes_table),
    ):
        million.make(name, data)
        measured, made = find_table(data / name), find_table(stem)
        assert measured is not None
        assert made is not None
        assert read_table(table, measured).equals(read_table(table, made))


def test_throughput_is_of_the_part_that_is_asked_for() -> None:
    seen = Seen(tables=[(0, 0), (10, 50), (11, 60), (12, 100)])
    assert throughput(seen, 0.5, 0.6) == pytest.approx(10)
    assert throughput(seen, 0.6, 1.0) == pytest.approx(40)
