"""`dataset_report` in Dagster's eyes."""

import re
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from aneurysm_assets.defs.assets import dataset_report as asset
from aneurysm_assets.errors import InputError
from aneurysm_assets.sample.dicom import uid
from tests.graph import Graph, failure, warnings_of
from tests.record import SERIES_TABLES

CTA, TOF = uid("sample", "CTA"), uid("sample", "enhanced shared")
REPORT = "dataset_report"
UPSTREAM = ("unified_metadata", "series_quality")


@pytest.fixture
def graph(data: Path) -> Graph:
    return Graph(data)


def test_the_report_is_one_file_and_its_counts_are_numbers_to_plot(graph, data) -> None:
    graph.run(*SERIES_TABLES, series=[CTA, TOF])
    assert graph.run(*UPSTREAM, REPORT).success
    metadata = graph.metadata(REPORT)
    path = data / "interim" / "dataset_report.html"
    assert metadata["path"] == str(path)
    assert metadata["bytes"] == path.stat().st_size
    counts = {
        "series": 2,
        "images": 36,
        "files": 25,
        "points": 5,
        "positive_series": 2,
        "series_not_on_disk": 1,
        "series_without_row": 1,
        "series_not_in_table": len(graph.series) - 2,
        "localizer_without_image": 1,
    }
    assert {name: metadata[name] for name in counts} == counts
    assert metadata["up_to_date"] is True
    assert "| `localizer_without_image` | WARN | 1 |" in metadata["checks"]
    assert CTA in path.read_text(encoding="utf-8")


def test_the_metadata_have_the_same_table_as_each_figure_of_the_page(graph, data) -> None:
    graph.run(*SERIES_TABLES, series=[CTA, TOF])
    assert graph.run(*UPSTREAM, REPORT).success
    metadata = graph.metadata(REPORT)
    page = (data / "interim" / "dataset_report.html").read_text(encoding="utf-8")
    # The last two, of checks and of series, have more to them there.
    on_page = re.findall(r"<table>.*?</table>", page, re.DOTALL)[:-2]
    names = ("by_modality", "by_age", "prevalence", "by_location", "together", "positions",
             "slices", "spacing", "thickness", "field_of_view", "matrices",
             "orientations", "makers", "missing")  # fmt: skip
    for name, table in zip(names, on_page, strict=True):
        lines = [line[2:-2].split(" | ") for line in metadata[name].splitlines()]
        cells = re.findall(r"<t[hd](?: [^>]*)?>(?:<span.*?</span> )?([^<]*)", table)
        assert [cell.strip() for line in (lines[0], *lines[2:]) for cell in line] == [
            re.sub(r"[^\w ()\-.%,]", "_", cell) for cell in cells
        ], name


def test_a_table_of_many_rows_is_cut_in_the_metadata_and_says_so() -> None:
    text = asset._markdown(("a|b", "n"), [(f"x{n}", n) for n in range(40)])
    assert text.startswith("| a_b | n |\n|---|---|\n| x0 | 0 |\n")
    assert text.endswith("| x29 | 29 |\n\nand 10 more rows, on the page")


def test_a_report_of_tables_that_are_not_up_to_date_says_so(graph, data) -> None:
    graph.run(*SERIES_TABLES, series=[CTA])
    graph.run(*UPSTREAM)
    graph.run(*SERIES_TABLES, series=[TOF])
    assert graph.run(REPORT).success
    assert graph.metadata(REPORT)["up_to_date"] is False
    page = (data / "interim" / "dataset_report.html").read_text(encoding="utf-8")
    assert "They are not up to date" in page
    event = graph.instance.get_latest_materialization_event(dg.AssetKey("unified_metadata"))
    assert graph.metadata(REPORT)["tables_of"] == pytest.approx(event.timestamp, abs=0.001)
    assert f"tables of {datetime.fromtimestamp(event.timestamp, UTC):%Y-%m-%d %H:%M} UTC" in page


def test_it_is_made_where_there_is_neither_csv_nor_segmentation(graph, data) -> None:
    for name in ("train.csv", "train_localizers.csv"):
        (data / "raw" / name).unlink()
    graph.run(*SERIES_TABLES, series=[TOF])
    assert graph.run(*UPSTREAM, REPORT).success
    metadata = graph.metadata(REPORT)
    assert (metadata["series"], metadata["points"], metadata["positive_series"]) == (1, 0, 0)
    assert "| MR (header) | 1 | 1 |" in metadata["by_modality"]


def test_it_is_made_from_the_tables_where_the_raw_files_are_gone(graph, data) -> None:
    graph.run(*SERIES_TABLES, series=[TOF])
    graph.run(*UPSTREAM)
    (data / "raw" / "series").rename(data / "elsewhere")
    assert graph.run(REPORT).success
    assert "series_not_on_disk" not in graph.metadata(REPORT)


def test_without_the_tables_it_fails_and_says_which_is_missing(graph) -> None:
    assert "there is no unified_metadata yet" in failure(graph.run(REPORT), REPORT)
    graph.run(*SERIES_TABLES, series=[TOF])
    graph.run("unified_metadata")
    assert "there is no series_quality yet" in failure(graph.run(REPORT), REPORT)


def test_without_matplotlib_it_says_what_to_install(graph, monkeypatch) -> None:
    def missing() -> None:
        raise InputError("matplotlib is not installed: install it")

    monkeypatch.setattr(asset, "require_matplotlib", missing)
    assert "matplotlib is not installed: install it" in failure(graph.run(REPORT), REPORT)
    both = graph.run(*SERIES_TABLES, "unified_metadata", REPORT, partition=TOF)
    assert both.success
    assert "left out: matplotlib is not installed: install it" in warnings_of(graph, both)
