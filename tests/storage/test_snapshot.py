"""A table that is made while another run replaces what it is made from."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from aneurysm_assets.defs.assets import dataset_report, series_quality, unified_metadata
from aneurysm_assets.runs import partitions
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import LABELS, LOCALIZERS, SERIES_TABLES, UNIFIED_METADATA
from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.storage.snapshot import InputsChanged, InputSnapshot, retry_if_replaced
from aneurysm_assets.storage.table_files import write_table
from aneurysm_assets.storage.table_names import file_names, find_table
from aneurysm_assets.storage.table_scans import read_table
from tests.graph import Graph, failure

CTA, MR = uid("sample", "CTA"), uid("sample", "MRA")


@pytest.fixture(params=["disk", "bucket"])
def graph(request, data: Path, monkeypatch) -> Graph:
    """Return a graph whose four tables are done."""
    if request.param == "bucket":
        bucket = request.getfixturevalue("bucket")
        monkeypatch.setenv("ANEURYSM_INTERIM", f"{bucket}/interim")
    graph = Graph(data)
    graph.run_all(*SERIES_TABLES_NAMES)
    return graph


SERIES_TABLES_NAMES = [table.name for table in SERIES_TABLES]


def taken_again(graph: Graph, age: int) -> None:
    """Replace the labels of a series, as a run beside does."""
    stem = graph.settings.table_of_series(LABELS.name, CTA)
    there = find_table(stem)
    assert there is not None
    write_table(
        read_table(LABELS, there).with_columns(PatientAge=pl.lit(age, pl.Int32)), LABELS, stem
    )


def age_in(path: Location | None) -> int:
    assert path is not None
    unified = read_table(UNIFIED_METADATA, path)
    return unified.filter(pl.col(SERIES_KEY) == CTA)["PatientAge"].unique().item()


def after(function: Callable, *happen: Callable[[], None]) -> Callable:
    """Return the function, after whose calls one thing after the other happens."""
    left = list(happen)

    def called(*arguments, **named):
        result = function(*arguments, **named)
        if left:
            left.pop(0)()
        return result

    return called


def test_a_series_that_is_taken_again_meanwhile_is_in_the_table_as_it_is_now(
    graph: Graph, monkeypatch
) -> None:
    combine = after(unified_metadata.combine, lambda: taken_again(graph, 71))
    monkeypatch.setattr(unified_metadata, "combine", combine)
    assert graph.run("unified_metadata").success
    assert age_in(find_table(graph.settings.unified_table)) == 71
    assert partitions.is_combined(
        graph.instance, graph.settings, partitions.complete(graph.instance, graph.settings)[0]
    )


def test_a_series_that_is_taken_again_and_again_leaves_the_table_as_it_was(
    graph: Graph, monkeypatch
) -> None:
    assert graph.run("unified_metadata").success
    before = age_in(find_table(graph.settings.unified_table))
    combine = unified_metadata.combine
    twice = after(combine, lambda: taken_again(graph, 71), lambda: taken_again(graph, 72))
    monkeypatch.setattr(unified_metadata, "combine", twice)
    result = graph.run("unified_metadata")
    assert not result.success
    assert f"{CTA}: taken again by another run" in failure(result, "unified_metadata")
    assert age_in(find_table(graph.settings.unified_table)) == before
    assert not [name for name in file_names(graph.settings.interim) if "partial" in name]


def test_what_is_recorded_after_the_tables_were_read_makes_the_unified_table_old(
    graph: Graph, monkeypatch
) -> None:
    # When the table is in its place, and its own event is still to come.
    again = after(unified_metadata.describe, lambda: graph.run("labels", partition=CTA))
    with monkeypatch.context() as patch:
        patch.setattr(unified_metadata, "describe", again)
        assert graph.run("unified_metadata").success
    complete, _ = partitions.complete(graph.instance, graph.settings)
    assert CTA in complete
    assert not partitions.is_combined(graph.instance, graph.settings, complete)
    assert graph.run("unified_metadata").success
    assert partitions.is_combined(graph.instance, graph.settings, complete)


def test_the_quality_is_of_one_state_of_the_tables(graph: Graph, monkeypatch) -> None:
    assert graph.run("unified_metadata").success
    stem = graph.settings.table_of_series(LOCALIZERS.name, CTA)

    def without_points() -> None:
        write_table(LOCALIZERS.schema.to_frame(), LOCALIZERS, stem)

    def unified_again() -> None:
        taken_again(graph, ages.pop())
        assert graph.run("unified_metadata").success

    ages = [71, 72]
    assess = series_quality.assess_series
    monkeypatch.setattr(series_quality, "assess_series", after(assess, without_points))
    assert graph.run("series_quality").success
    twice = after(assess, unified_again, unified_again)
    monkeypatch.setattr(series_quality, "assess_series", twice)
    result = graph.run("series_quality")
    assert not result.success
    assert "dicom_metadata_with_csv: taken again" in failure(result, "series_quality")


def test_the_report_is_of_one_state_of_the_tables(data: Path, monkeypatch) -> None:
    graph = Graph(data)
    graph.run_all(*SERIES_TABLES_NAMES)
    assert graph.run("unified_metadata", "series_quality").success
    rows = []

    def fewer() -> None:
        path = find_table(graph.settings.unified_table)
        some = read_table(UNIFIED_METADATA, path).filter(pl.col(SERIES_KEY) == CTA)
        rows.append(some.height)
        write_table(some, UNIFIED_METADATA, graph.settings.unified_table)

    read = dataset_report.take_numbers
    monkeypatch.setattr(dataset_report, "take_numbers", after(read, fewer))
    assert graph.run("dataset_report").success
    assert graph.metadata("dataset_report")["series"] == 1


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path: Path) -> Location:
    if request.param == "disk":
        return tmp_path
    bucket = request.getfixturevalue("bucket")
    assert isinstance(bucket, ObjectPath)
    return bucket


def labels(age: int) -> pl.DataFrame:
    row = dict.fromkeys(LABELS.column_names) | {SERIES_KEY: "1.2", "PatientAge": age}
    return pl.DataFrame([row], schema=LABELS.schema)


def test_a_table_that_is_found_to_be_of_the_past_is_never_put_in_its_place(place: Location) -> None:
    def refuse() -> None:
        raise InputsChanged("again")

    frames: list[pl.DataFrame | pl.LazyFrame] = [labels(2), labels(2).lazy()]
    for frame in frames:
        with pytest.raises(InputsChanged):
            write_table(frame, LABELS, place / "d" / "t", check=refuse)
        assert file_names(place / "d") == []
    write_table(labels(1), LABELS, place / "d" / "t")
    with pytest.raises(InputsChanged):
        write_table(labels(2).lazy(), LABELS, place / "d" / "t", check=refuse)
    assert file_names(place / "d") == ["t.parquet"]
    assert read_table(LABELS, place / "d" / "t.parquet").equals(labels(1))


def test_what_looks_broken_as_it_was_replaced_makes_no_table_csv(tmp_path: Path) -> None:
    source = write_table(labels(1), LABELS, tmp_path / "in" / "t").path
    broken = pl.scan_parquet(source, schema=LABELS.schema).map_batches(
        lambda frame: frame.select(pl.col("PatientAge").cast(pl.Int8) // 0).fill_null("no")
    )
    sources = InputSnapshot.now({tmp_path / "in": ["t"]})
    write_table(labels(2), LABELS, tmp_path / "in" / "t")
    with pytest.raises(InputsChanged, match="t: taken again"):
        write_table(broken, LABELS, tmp_path / "out", check=sources.require_same)
    assert file_names(tmp_path) == []


def test_what_stays_the_same_is_the_same_and_what_is_beside_it_does_not_matter(
    place: Location,
) -> None:
    for name in ("a", "b"):
        write_table(labels(1), LABELS, place / "d" / name)
    sources = InputSnapshot.now({place / "d": ["a", "gone"], place / "nothing": ["a"]})
    write_table(labels(2), LABELS, place / "d" / "b")
    sources.require_same()
    write_table(labels(2), LABELS, place / "d" / "gone")
    with pytest.raises(InputsChanged, match=r"^gone: "):
        sources.require_same()
    write_table(labels(2), LABELS, place / "d" / "a")
    with pytest.raises(InputsChanged, match=r"^a, gone: "):
        sources.require_same()


def test_of_many_that_were_replaced_some_are_named(tmp_path: Path) -> None:
    names = [f"1.{number:02}" for number in range(12)]
    sources = InputSnapshot.now({tmp_path: names})
    for name in names:
        (tmp_path / f"{name}.csv").touch()
    with pytest.raises(InputsChanged, match=r"^1\.00, .*1\.09 and 2 more: "):
        sources.require_same()


def test_what_is_of_two_states_is_made_once_more_and_no_oftener() -> None:
    made = []

    def make() -> None:
        made.append(None)
        raise InputsChanged("again")

    with pytest.raises(InputsChanged):
        retry_if_replaced(make)
    assert len(made) == 2
