"""The five assets in Dagster's eyes: what a run takes, what it records, what a failure costs."""

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from aneurysm_assets.definitions import build_defs
from aneurysm_assets.dicom.table import write_dicom_tags
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.runs.resources import NullReporter, SettingsResource
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.tables import (
    DICOM_TAGS,
    LABELS,
    LOCALIZERS_WITHOUT_IMAGE,
    UNIFIED_METADATA,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import StagedFiles, this_host
from aneurysm_assets.storage.table_scans import read_table
from tests.graph import Graph, each_once, failure, warnings_of
from tests.processes import wait_until
from tests.record import ALL_TABLES, SERIES_TABLES

DAMAGED = uid("sample", "damaged")
CTA = uid("sample", "CTA")
UNIFIED = "dicom_metadata_with_csv"


@pytest.fixture
def graph(data: Path) -> Graph:
    return Graph(data)


def files(data: Path, table: str) -> set[str]:
    directory = data / "interim" / table
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def unified(data: Path) -> pl.DataFrame:
    (path,) = (data / "interim").glob(f"{UNIFIED}.*")
    return read_table(UNIFIED_METADATA, path)


def contents(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


# What a run takes.


def test_a_run_of_one_partition_takes_all_five_assets(graph, data) -> None:
    result = graph.run(partition=CTA)
    assert result.success
    assert {table: graph.events(table) for table in ALL_TABLES} == {
        **{table: {CTA: 1} for table in SERIES_TABLES},
        "unified_metadata": {None: 1},
    }
    assert {table: files(data, table) for table in SERIES_TABLES} == {
        table: {f"{CTA}.parquet"} for table in SERIES_TABLES
    }
    assert unified(data)["SeriesInstanceUID"].unique().to_list() == [CTA]


@pytest.mark.parametrize("table", SERIES_TABLES)
def test_each_partitioned_asset_can_be_run_alone(graph, data, table) -> None:
    assert graph.run(table, partition=CTA).success
    assert {name: graph.events(name) for name in ALL_TABLES} == {
        name: {CTA: 1} if name == table else {} for name in ALL_TABLES
    }


def test_a_range_takes_its_partitions_in_one_run_with_one_event_each(graph, data) -> None:
    first, last = graph.series[2], graph.series[6]
    assert graph.run("dicom_tags", "labels", between=(first, last)).success
    for table in ("dicom_tags", "labels"):
        assert graph.events(table) == each_once(graph.series[2:7])
        assert graph.with_status(table, "MATERIALIZED") == graph.series[2:7]
        assert graph.with_status(table, "MISSING") == graph.series[:2] + graph.series[7:]
        assert files(data, table) == {f"{series}.parquet" for series in graph.series[2:7]}


def test_a_range_of_one_partition_has_one_event_with_its_metadata(graph) -> None:
    assert graph.run("dicom_tags", between=(CTA, CTA)).success
    assert graph.events("dicom_tags") == {CTA: 1}
    assert graph.metadata("dicom_tags", CTA)["files"] == 24


@pytest.mark.parametrize("places", [(1, 4, 9), (5,)])
def test_scattered_series_are_one_run_by_config(graph, places) -> None:
    chosen = [graph.series[place] for place in places]
    assert graph.run(*SERIES_TABLES, series=chosen).success
    for table in SERIES_TABLES:
        assert graph.events(table) == each_once(chosen)
        assert graph.with_status(table, "MATERIALIZED") == chosen
        assert graph.with_status(table, "FAILED") == []


def test_a_series_named_twice_in_the_config_is_taken_once(graph) -> None:
    assert graph.run("labels", series=[CTA, CTA]).success
    assert graph.events("labels") == {CTA: 1}


def test_a_run_without_any_series_says_how_to_give_some(graph) -> None:
    result = graph.run("labels")
    assert not result.success
    assert "choose partitions, or give `series`" in failure(result, "labels")


def test_a_run_with_partitions_and_series_in_its_config_is_refused(graph) -> None:
    result = graph.run("labels", partition=CTA, series=[DAMAGED])
    assert "give one of the two" in failure(result, "labels")
    assert graph.events("labels") == {}


def test_several_worker_processes_give_the_same_tables_and_events_as_one(data, tmp_path) -> None:
    one = Graph(data)
    many = Graph(Path(shutil.copytree(data, tmp_path / "many")), processes=2)
    for graph in (one, many):
        assert graph.run_all("dicom_tags").success
        assert graph.events("dicom_tags") == each_once(graph.series)
    for series in one.series:
        tables = [g.data / "interim" / "dicom_tags" / f"{series}.parquet" for g in (one, many)]
        assert_frame_equal(*(read_table(DICOM_TAGS, path) for path in tables))


# What it records.


def test_a_series_event_says_what_was_read(graph, data) -> None:
    graph.run(partition=DAMAGED)
    sizes = [path.stat().st_size for path in (data / "raw" / "series" / DAMAGED).iterdir()]
    metadata = graph.metadata("dicom_tags", DAMAGED)
    assert metadata.pop("seconds") > 0
    assert metadata == {
        "rows": 6,
        "dagster/partition_row_count": 6,
        "files": 6,
        "unreadable_files": 2,
        "fast_files": 4,
        "bytes": sum(sizes),
        "modality": "CT",
        "matrix": "32 x 32",
        "pixel_spacing_mm": "1.25 x 1.25",
        "slice_spacing_mm": 5.0,
        "slice_thickness_mm": 5.0,
        "plane": "axial",
        "manufacturer": "aneurysm-assets sample",
        "slices": 4,
        "volumes": 1,
        "format": "parquet",
        "path": str(data / "interim" / "dicom_tags" / f"{DAMAGED}.parquet"),
    }


@pytest.mark.parametrize(
    ("table", "rows", "read"),
    [("dicom_tags", 24, 24), ("labels", 1, 1), ("localizers", 4, 1), ("segmentation_meta", 1, 2)],
)
def test_every_partitioned_asset_records_the_same_four_facts(graph, table, rows, read) -> None:
    for how in ({"partition": CTA}, {"series": [CTA, DAMAGED]}):
        graph.run(table, **how)
        metadata = graph.metadata(table, CTA)
        assert {"rows", "files", "unreadable_files", "seconds"} <= metadata.keys()
        assert metadata.get("bytes") != 0
        assert (metadata["rows"], metadata["files"], metadata["unreadable_files"]) == (
            rows,
            read,
            0,
        )


def test_a_series_page_tells_its_labels_and_points(graph) -> None:
    graph.run(partition=CTA)
    labels, points = (graph.metadata(table, CTA) for table in ("labels", "localizers"))
    told = {name: labels[name] for name in ("age", "sex", "modality", "positive")}
    assert told == {
        "age": 61,
        "sex": "Female",
        "modality": "CTA",
        "positive": "Left Middle Cerebral Artery, Right Middle Cerebral Artery, "
        "Anterior Communicating Artery, Basilar Tip",
    }
    assert points["points"] == 4
    assert points["locations"].startswith("Right Middle Cerebral Artery, Left Middle")
    graph.run("labels", partition=graph.series[0])
    assert graph.metadata("labels", graph.series[0])["positive"] == "nowhere"


def test_a_series_without_points_or_segmentation_is_done_and_empty(graph) -> None:
    graph.run(partition=DAMAGED)
    graph.run(partition=graph.series[0])
    assert graph.metadata("segmentation_meta", DAMAGED)["rows"] == 0
    assert graph.metadata("localizers", graph.series[0])["rows"] == 0
    assert graph.metadata("localizers", DAMAGED)["rows"] == 1


def test_a_series_is_recorded_when_its_file_is_safe_and_reported_when_it_is_recorded(data) -> None:
    class Watching(NullReporter):
        def done(self, table, series_instance_uid, written) -> None:
            seen.append(series_instance_uid)
            recorded = graph.events(table.name)
            assert set(recorded) >= set(seen)
            assert set(recorded.values()) == {1}
            assert {f"{series}.parquet" for series in recorded} <= files(data, table.name)
            assert graph.with_status(table.name, "IN_PROGRESS") == [
                series for series in graph.series if series not in recorded
            ]

    seen: list[str] = []
    graph = Graph(data, reporter=Watching())
    assert graph.run_all("dicom_tags").success
    assert sorted(seen) == sorted(graph.series)


def write_the_slow_one_last(
    settings: Settings, series_instance_uid: str, staged: StagedFiles | None = None
) -> SeriesResult:
    """Write a series; one waits until a file says that the others are recorded."""
    if series_instance_uid == CTA:
        wait_until((settings.data / "others are recorded").exists, "the others were recorded")
    return write_dicom_tags(settings, series_instance_uid, staged=staged)


def test_what_is_done_is_recorded_while_a_slow_series_is_still_read(data, monkeypatch) -> None:
    class Watching(NullReporter):
        def done(self, table, series_instance_uid, written) -> None:
            if set(graph.events(table.name)) == set(graph.series) - {CTA}:
                (data / "others are recorded").touch()

    monkeypatch.setattr(
        "aneurysm_assets.defs.assets.dicom_tags.write_dicom_tags", write_the_slow_one_last
    )
    graph = Graph(data, reporter=Watching(), processes=2)
    assert graph.run_all("dicom_tags").success
    assert graph.events("dicom_tags") == each_once(graph.series)


def test_the_unified_table_says_what_it_holds(graph, data) -> None:
    graph.run_all(*SERIES_TABLES)
    assert graph.run("unified_metadata").success
    lost = graph.metadata("unified_metadata").pop("without_image")
    expected = {
        "series": 12,
        "series_left_out": 0,
        "images": 83,
        "unreadable_files": 2,
        "images_with_localizers": 7,
        "localizers_without_image": 1,
        "series_with_segmentations": 1,
        "rows": 86,
        "dagster/row_count": 86,
        "format": "parquet",
        "path": str(data / "interim" / f"{UNIFIED}.parquet"),
        "dagster/uri": (data / "interim" / f"{UNIFIED}.parquet").as_uri(),
    }
    metadata = graph.metadata("unified_metadata")
    assert {name: metadata[name] for name in expected} == expected
    assert lost.startswith(CTA)
    heading, _, *examples = metadata["examples"].splitlines()
    assert heading.startswith("| SeriesInstanceUID | InstanceNumber | Modality_train | Rows |")
    assert len(examples) == 4
    assert all(line.count("|") == heading.count("|") for line in examples)
    croissant = json.loads((data / "interim" / "croissant.json").read_text())
    table = (data / "interim" / f"{UNIFIED}.parquet").read_bytes()
    assert croissant["distribution"][0]["sha256"] == hashlib.sha256(table).hexdigest()
    without = pl.read_parquet(data / "interim" / "localizers_without_image.parquet")
    assert without.schema == LOCALIZERS_WITHOUT_IMAGE.schema
    assert without.select("SeriesInstanceUID", "reason").rows() == [
        (CTA, "no readable file of the series has this SOPInstanceUID")
    ]
    assert unified(data).height == 86
    lineage = metadata["dagster/column_lineage"].deps_by_column
    assert set(lineage) == set(unified(data).columns)
    assert [(d.asset_key.to_user_string(), d.column_name) for d in lineage["Modality_train"]] == [
        ("labels", "Modality")
    ]


def test_every_table_counts_its_rows_for_the_plots_of_the_ui(graph, data) -> None:
    graph.run_all(*SERIES_TABLES)
    for table in SERIES_TABLES:
        for series in graph.series:
            file = data / "interim" / table / f"{series}.parquet"
            rows = graph.metadata(table, series)["dagster/partition_row_count"]
            assert rows == pl.read_parquet(file).height
    assert graph.run("unified_metadata", "series_quality").success
    assert graph.metadata("unified_metadata")["dagster/row_count"] == 86
    assert graph.metadata("series_quality")["dagster/row_count"] == 12


# What a failure costs.


def no_readable_file(data: Path, series: str) -> None:
    directory = data / "raw" / "series" / series
    shutil.rmtree(directory)
    directory.mkdir()
    (directory / "page.dcm").write_text("<html>log in</html>")


def no_directory(data: Path, series: str) -> None:
    shutil.rmtree(data / "raw" / "series" / series)


def bad_coordinates(data: Path, series: str) -> None:
    with (data / "raw" / "train_localizers.csv").open("a") as file:
        file.write(f"{series},1.2.3,\"{{'x': 1.5, 'y': open('x')}}\",Basilar Tip\n")


def conflicting_rows(data: Path, series: str) -> None:
    path = data / "raw" / "train.csv"
    (row,) = (line for line in path.read_text().splitlines() if line.startswith(series))
    fields = row.split(",")
    with path.open("a") as file:
        file.write(",".join([fields[0], str(int(fields[1]) + 1), *fields[2:]]) + "\n")


def nifti_out_of_reach(data: Path, series: str) -> None:
    directory = data / "raw" / "segmentations" / series
    directory.mkdir(exist_ok=True)
    path = directory / f"{series}.nii"
    path.unlink(missing_ok=True)
    path.symlink_to("gone.nii")


FAULTS = [
    pytest.param(
        "dicom_tags", no_readable_file, "no readable DICOM image among 1 files", id="no-image"
    ),
    pytest.param("dicom_tags", no_directory, "No such file or directory", id="no-directory"),
    pytest.param("localizers", bad_coordinates, "train_localizers.csv row", id="coordinates"),
    pytest.param("labels", conflicting_rows, "contradict one another in PatientAge", id="rows"),
    pytest.param(
        "segmentation_meta", nifti_out_of_reach, "cannot be read: No such file", id="nifti"
    ),
]


@pytest.mark.parametrize(("table", "injure", "reason"), FAULTS)
@pytest.mark.parametrize("how", ["range", "config", "partition"])
def test_a_failed_series_is_named_with_its_reason_and_costs_no_other(
    data, table, injure, reason, how
) -> None:
    graph = Graph(data)
    victim = graph.series[5]
    injure(data, victim)
    if how == "range":
        result, others = graph.run_all(table), [s for s in graph.series if s != victim]
    elif how == "config":
        others = [graph.series[2], graph.series[8]]
        result = graph.run(table, series=[others[0], victim, others[1]])
    else:
        result, others = graph.run(table, partition=victim), []
    assert not result.success
    said = failure(result, table)
    assert f"{table}: 1 of {len(others) + 1} series failed\n{victim}: " in said
    assert reason in said
    assert graph.with_status(table, "FAILED") == [victim]
    assert graph.with_status(table, "MATERIALIZED") == others
    assert graph.events(table) == each_once(others)
    assert files(data, table) == {f"{series}.parquet" for series in others}


@pytest.mark.parametrize(("table", "injure", "reason"), FAULTS)
def test_a_repaired_series_is_taken_alone_and_ends_done(data, table, injure, reason) -> None:
    graph = Graph(data)
    victim = graph.series[5]
    whole = Path(shutil.copytree(data / "raw", data / "whole"))
    injure(data, victim)
    graph.run_all(table)
    shutil.rmtree(data / "raw")
    whole.rename(data / "raw")
    assert graph.run(table, partition=victim).success
    assert graph.with_status(table, "MATERIALIZED") == graph.series
    assert graph.events(table) == each_once(graph.series)


def test_a_series_that_fails_after_it_was_done_keeps_its_old_table(data) -> None:
    graph = Graph(data)
    graph.run_all("dicom_tags")
    before = contents(data / "interim")
    no_readable_file(data, CTA)
    assert not graph.run("dicom_tags", partition=CTA).success
    assert graph.with_status("dicom_tags", "FAILED") == [CTA]
    assert contents(data / "interim") == before


def test_many_failed_series_are_all_named(data) -> None:
    graph = Graph(data)
    victims = graph.series[1:11]
    for victim in victims:
        no_directory(data, victim)
    result = graph.run_all("dicom_tags")
    said = failure(result, "dicom_tags")
    assert said.startswith("dicom_tags: 10 of 12 series failed\n")
    assert [victim for victim in victims if f"\n{victim}: " not in said] == []
    assert graph.with_status("dicom_tags", "FAILED") == victims
    (event,) = (e for e in result.all_events if e.is_step_failure)
    named = event.step_failure_data.user_failure_data.metadata["failed_series"].value
    assert sorted(named) == sorted(victims)


def test_a_failed_series_is_not_tried_again_by_a_jobs_retry_policy(data) -> None:
    graph = Graph(data)
    bad_coordinates(data, CTA)
    job = dg.define_asset_job(
        "retrying", selection=["localizers"], op_retry_policy=dg.RetryPolicy(max_retries=2)
    )
    resources = {"settings": SettingsResource(data=str(data), workers="1")}
    base = build_defs(resources)
    defs = dg.Definitions.merge(base, dg.Definitions(jobs=[job]))
    result = graph.run(
        "localizers",
        between=(graph.series[0], graph.series[-1]),
        job=defs.resolve_job_def("retrying"),
    )
    assert not result.success
    kinds = [event.event_type for event in result.all_events]
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in kinds
    assert dg.DagsterEventType.STEP_RESTARTED not in kinds
    assert graph.events("localizers") == each_once(s for s in graph.series if s != CTA)


def test_a_failure_in_one_table_leaves_the_other_tables_of_the_run_alone(data) -> None:
    graph = Graph(data)
    bad_coordinates(data, CTA)
    assert not graph.run_all(*SERIES_TABLES).success
    assert {table: graph.with_status(table, "FAILED") for table in SERIES_TABLES} == {
        "dicom_tags": [],
        "labels": [],
        "localizers": [CTA],
        "segmentation_meta": [],
    }


# The unified table, and what it leaves out.


def test_the_tables_of_the_data_set_show_some_of_their_rows_and_none_of_our_internals(
    graph: Graph,
) -> None:
    assert graph.run_all(*SERIES_TABLES).success
    assert graph.run("unified_metadata", "volumes", "series_quality").success
    for table in ("unified_metadata", "volumes", "series_quality"):
        metadata = graph.metadata(table)
        heading, rule, *rows = metadata.pop("examples").splitlines()
        assert heading.startswith("| SeriesInstanceUID |")
        assert 1 <= len(rows) <= 4
        assert {line.count("|") for line in rows} == {heading.count("|")} == {rule.count("|")}
        metadata.pop("internals", None)
        assert not [name for name in metadata if "sha256" in name or "event" in name]


def test_the_unified_table_takes_only_series_that_are_done_in_all_four(data) -> None:
    graph = Graph(data)
    failed, unlocalised, file_gone, redone_and_failed = graph.series[1:5]
    no_readable_file(data, failed)
    bad_coordinates(data, unlocalised)
    graph.run_all(*SERIES_TABLES)
    (data / "interim" / "labels" / f"{file_gone}.parquet").unlink()
    nifti_out_of_reach(data, redone_and_failed)
    graph.run("segmentation_meta", partition=redone_and_failed)
    result = graph.run("unified_metadata")
    assert result.success
    taken = [graph.series[0], *graph.series[5:]]
    assert sorted(unified(data)["SeriesInstanceUID"].unique()) == sorted(taken)
    metadata = graph.metadata("unified_metadata")
    assert (metadata["series"], metadata["series_left_out"]) == (8, 4)
    assert sorted(metadata["left_out"].split("\n")) == sorted(graph.series[1:5])
    (warning,) = warnings_of(graph, result)
    assert warning.startswith("4 series are not done in all four tables")


def test_the_unified_table_checks_what_is_not_in_it(graph, data) -> None:
    def checked() -> dict[str, tuple[bool, str, int]]:
        found = graph.run("unified_metadata").get_asset_check_evaluations()
        assert {evaluation.asset_key.to_user_string() for evaluation in found} == {
            "unified_metadata"
        }
        return {
            each.check_name: (each.passed, each.severity.value, each.metadata["found"].value)
            for each in found
        }

    graph.run(*SERIES_TABLES, series=[CTA, DAMAGED])
    assert checked() == {
        "series_left_out": (False, "ERROR", len(graph.series) - 2),
        "unreadable_files": (False, "WARN", 2),
        "localizers_without_image": (False, "WARN", 1),
    }
    graph.run_all(*SERIES_TABLES)
    assert checked()["series_left_out"] == (True, "ERROR", 0)


def test_where_no_series_is_done_the_unified_table_fails_and_says_what_to_do(graph, data) -> None:
    graph.run_all("dicom_tags", "labels", "localizers")
    result = graph.run("unified_metadata")
    assert not result.success
    assert "materialize those four first" in failure(result, "unified_metadata")
    assert list((data / "interim").glob(f"*{UNIFIED}*")) == []


# The CSVs as a whole.


def test_without_train_csv_labels_are_null_and_a_warning_says_so(data) -> None:
    (data / "raw" / "train.csv").unlink()
    graph = Graph(data)
    assert len(graph.series) == 13
    result = graph.run_all(*SERIES_TABLES)
    assert result.success
    assert [text for text in warnings_of(graph, result) if "there is no" in text] == [
        f"there is no {data / 'raw' / 'train.csv'}: its columns come out null for every series"
    ]
    assert graph.metadata("labels", CTA)["files"] == 0
    assert graph.run("unified_metadata").success
    table = unified(data)
    names = {column.name for column in LABELS.columns} - {"SeriesInstanceUID", "Modality"}
    assert table.select(*names, "Modality_train").null_count().row(0) == (table.height,) * (
        len(names) + 1
    )
    assert table["SeriesInstanceUID"].n_unique() == 13


def test_without_train_localizers_csv_no_image_has_a_point_and_a_warning_says_so(data) -> None:
    (data / "raw" / "train_localizers.csv").unlink()
    graph = Graph(data)
    result = graph.run(partition=CTA)
    assert result.success
    assert any("train_localizers.csv" in text for text in warnings_of(graph, result))
    assert graph.metadata("unified_metadata")["images_with_localizers"] == 0


@pytest.mark.parametrize(
    ("name", "table"), [("train.csv", "labels"), ("train_localizers.csv", "localizers")]
)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"SeriesInstanceUID,something\n1.2,3\n", "columns missing: "),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a CSV"),
        (b"", "the file is empty"),
    ],
)
def test_a_csv_that_cannot_be_used_fails_its_own_table_alone(
    graph, data, name, table, content, said
) -> None:
    (data / "raw" / name).write_bytes(content)
    result = graph.run_all(*SERIES_TABLES)
    assert not result.success
    assert f"{name}: {said}" in failure(result, table)
    assert graph.with_status(table, "FAILED") == graph.series
    assert graph.events(table) == {}
    for other in set(SERIES_TABLES) - {table}:
        assert graph.with_status(other, "MATERIALIZED") == graph.series


# A key that is no UID.


@pytest.mark.parametrize("table", SERIES_TABLES)
@pytest.mark.parametrize("key", ["../../etc", "/tmp/1.2.3", "1.2.3/../4", "1..2", "*", "1.2.3\n"])
def test_a_key_that_is_no_uid_fails_and_touches_nothing(graph, data, tmp_path, table, key) -> None:
    graph.instance.add_dynamic_partitions("series", [key])
    before = contents(tmp_path)
    for how in ({"partition": key}, {"series": [key]}):
        result = graph.run(table, **how)
        assert not result.success
        assert f"partition key {key!r} is no DICOM UID" in failure(result, table)
    after = {name for name in contents(tmp_path) if not name.startswith("data/dagster")}
    assert after == set(before)


# Parquet, and CSV where Parquet cannot be.


def obstruct(path: Path) -> None:
    # A directory where the file should go: the Parquet file cannot take its name.
    path.mkdir(parents=True)


@pytest.mark.parametrize("table", SERIES_TABLES)
def test_where_parquet_cannot_be_written_a_csv_is_and_everything_reads_it(
    data, tmp_path, table
) -> None:
    plain = Graph(Path(shutil.copytree(data, tmp_path / "plain")))
    graph = Graph(data)
    obstruct(data / "interim" / table / f"{CTA}.parquet")
    result = graph.run(partition=CTA)
    assert result.success
    metadata = graph.metadata(table, CTA)
    assert metadata["format"] == "csv"
    assert metadata["path"].endswith(f"{CTA}.csv")
    assert "Parquet could not be written" in metadata["notes"]
    assert any("Parquet could not be written" in text for text in warnings_of(graph, result))
    assert plain.run(partition=CTA).success
    assert_frame_equal(unified(data), unified(plain.data))


def test_a_later_good_parquet_replaces_the_csv(graph, data) -> None:
    path = data / "interim" / "labels" / f"{CTA}.parquet"
    obstruct(path)
    graph.run("labels", partition=CTA)
    path.rmdir()
    graph.run("labels", partition=CTA)
    assert files(data, "labels") == {path.name}
    assert graph.metadata("labels", CTA)["format"] == "parquet"
    assert "notes" not in graph.metadata("labels", CTA)


def test_the_unified_table_falls_back_to_csv_too(graph, data) -> None:
    graph.run_all(*SERIES_TABLES)
    graph.run("unified_metadata")
    whole = unified(data)
    (data / "interim" / f"{UNIFIED}.parquet").unlink()
    obstruct(data / "interim" / f"{UNIFIED}.parquet")
    result = graph.run("unified_metadata")
    assert result.success
    assert graph.metadata("unified_metadata")["format"] == "csv"
    assert any("Parquet could not be written" in text for text in warnings_of(graph, result))
    stored = read_table(UNIFIED_METADATA, data / "interim" / f"{UNIFIED}.csv")
    assert stored.schema == UNIFIED_METADATA.schema
    assert_frame_equal(stored, whole)


def test_a_table_that_can_be_written_in_neither_way_fails_its_series_alone(graph, data) -> None:
    for suffix in ("parquet", "csv"):
        obstruct(data / "interim" / "localizers" / f"{CTA}.{suffix}")
    result = graph.run_all("localizers")
    assert f"{CTA}: Is a directory" in failure(result, "localizers")
    assert graph.with_status("localizers", "FAILED") == [CTA]
    assert [name for name in files(data, "localizers") if name.startswith(".")] == []
    assert graph.run("localizers", partition=graph.series[0]).success


# What remains of a process that was killed.


def test_a_run_removes_the_partial_files_of_dead_processes_and_no_others(graph, data) -> None:
    directory = data / "interim" / "localizers"
    directory.mkdir(parents=True)
    host = this_host()
    dead, alive = (
        directory / f".1.2.parquet@{host}:{pid}.partial" for pid in (4194305, os.getpid())
    )
    elsewhere = directory / ".1.2.parquet@another-host:1.partial"
    for path in (dead, alive, elsewhere):
        path.touch()
    graph.run("localizers", partition=CTA)
    assert files(data, "localizers") == {alive.name, elsewhere.name, f"{CTA}.parquet"}


def write_and_be_killed_with_the_last(
    settings: Settings, series_instance_uid: str, staged: StagedFiles | None = None
) -> SeriesResult:
    """Write a series; with one of them the process dies, before what it wrote has its place."""
    written = write_dicom_tags(settings, series_instance_uid, staged=staged)
    if series_instance_uid == CTA:
        os.kill(os.getpid(), signal.SIGKILL)
    return written


def test_what_a_worker_was_writing_when_it_died_is_gone_when_its_run_ends(
    data, monkeypatch
) -> None:
    monkeypatch.setattr(
        "aneurysm_assets.defs.assets.dicom_tags.write_dicom_tags", write_and_be_killed_with_the_last
    )
    graph = Graph(data, processes=2)
    assert "the worker process died" in failure(graph.run_all("dicom_tags"), "dicom_tags")
    others = set(graph.series) - {CTA}
    assert graph.events("dicom_tags") == each_once(others)
    assert {name for name in files(data, "dicom_tags") if not name.endswith(".parquet")} == set()


@pytest.mark.parametrize("table", ["dicom_tags", "labels"])
def test_in_workers_too_a_csv_is_written_where_parquet_cannot_be(data, table) -> None:
    graph = Graph(data, processes=2)
    obstruct(data / "interim" / table / f"{CTA}.parquet")
    assert graph.run_all(table).success
    assert graph.metadata(table, CTA)["format"] == "csv"
    assert graph.events(table) == each_once(graph.series)
