"""`dataset_report` in Dagster's eyes."""

from pathlib import Path

import pytest

from aneurysm_assets.assets import dataset_report as asset
from aneurysm_assets.extraction.errors import InputError
from aneurysm_assets.sample.dicom import uid
from tests.graph import Graph, failure
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
    assert "| CTA | 1 |" in metadata["by_modality"]
    assert "| `localizer_without_image` | WARN | 1 |" in metadata["checks"]
    assert CTA in path.read_text(encoding="utf-8")


def test_it_is_made_where_there_is_neither_csv_nor_segmentation(graph, data) -> None:
    for name in ("train.csv", "train_localizers.csv"):
        (data / "raw" / name).unlink()
    graph.run(*SERIES_TABLES, series=[TOF])
    assert graph.run(*UPSTREAM, REPORT).success
    metadata = graph.metadata(REPORT)
    assert (metadata["series"], metadata["points"], metadata["positive_series"]) == (1, 0, 0)
    assert "| MR (header) | 1 |" in metadata["by_modality"]


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
