"""The fingerprints of all inputs: which series a change makes stale, and that it is recorded."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from aneurysm_assets.dicom import series
from aneurysm_assets.errors import InputError
from aneurysm_assets.raw import fingerprint_processes
from aneurysm_assets.raw.fingerprints import take_fingerprints
from aneurysm_assets.runs import event_recorder, partitions
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.tables import DICOM_TAGS, SERIES_TABLES
from tests.graph import Graph
from tests.record import materializations

CTA, DAMAGED = uid("sample", "CTA"), uid("sample", "damaged")


@pytest.fixture(scope="module")
def graph(sample_data: Path, tmp_path_factory) -> Graph:
    """Return the sample with every series done, to be left as it is."""
    graph = Graph(Path(shutil.copytree(sample_data, tmp_path_factory.mktemp("done") / "data")))
    names = [table.name for table in SERIES_TABLES]
    assert graph.run_all(*names).success
    return graph


def stale(graph: Graph, data: Path) -> dict[str, list[str]]:
    """Return the series of each table that are stale were `data`, a copy, the graph's own."""
    settings = replace(graph.settings, data=data, raw=data / "raw")
    now = take_fingerprints(settings, graph.series)
    found = {
        table.name: partitions.changed(graph.instance, table, graph.series, now[table.name])
        for table in SERIES_TABLES
    }
    return {name: series for name, series in found.items() if series}


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.M)
    assert count
    path.write_text(text)


def rewrite_a_file(raw: Path) -> None:
    path = next((raw / "series" / CTA).glob("*.dcm"))
    path.write_bytes(path.read_bytes())


def change_a_row(raw: Path) -> None:
    edit(raw / "train.csv", rf"^({re.escape(CTA)}),\d+,", r"\1,33,")


def move_a_row(raw: Path) -> None:
    header, *rows = (raw / "train.csv").read_text().splitlines()
    (raw / "train.csv").write_text("\n".join([header, *reversed(rows)]))


def lose_a_row(raw: Path) -> None:
    edit(raw / "train.csv", rf"^{re.escape(CTA)},.*\n", "")


def lose_train_csv(raw: Path) -> None:
    (raw / "train.csv").unlink()


def lose_the_points(raw: Path) -> None:
    edit(raw / "train_localizers.csv", rf"^{re.escape(CTA)},.*\n", "")


def add_a_segmentation(raw: Path) -> None:
    directory = raw / "segmentations" / DAMAGED
    directory.mkdir()
    (directory / f"{DAMAGED}.nii").touch()


def add_a_flat_segmentation(raw: Path) -> None:
    (raw / "segmentations" / f"{DAMAGED}_cowseg.nii.gz").touch()


def move_a_segmentation_out_of_its_directory(raw: Path) -> None:
    name = f"{CTA}_cowseg.nii"
    (raw / "segmentations" / CTA / name).rename(raw / "segmentations" / name)


def add_litter(raw: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", f"._{CTA}.nii"):
        (raw / "segmentations" / name).touch()
        (raw / "segmentations" / CTA / name).touch()


def add_a_file_that_is_not_read(raw: Path) -> None:
    (raw / "segmentations" / DAMAGED).mkdir()
    (raw / "segmentations" / DAMAGED / "notes").touch()


EVERY = "every series"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, {}),
        (rewrite_a_file, {"dicom_tags": [CTA]}),
        (change_a_row, {"labels": [CTA]}),
        (move_a_row, {}),
        (lose_a_row, {"labels": [CTA]}),
        (lose_train_csv, {"labels": EVERY}),
        (lose_the_points, {"localizers": [CTA]}),
        (add_a_segmentation, {"segmentation_meta": [DAMAGED]}),
        (add_a_flat_segmentation, {"segmentation_meta": [DAMAGED]}),
        (move_a_segmentation_out_of_its_directory, {"segmentation_meta": [CTA]}),
        (add_litter, {}),
        (add_a_file_that_is_not_read, {}),
    ],
)
def test_a_change_makes_exactly_what_was_made_from_it_stale(graph, data, change, expected) -> None:
    change(data / "raw")
    every = {name: graph.series if of == EVERY else of for name, of in expected.items()}
    assert stale(graph, data) == every


def test_labels_taken_without_train_csv_are_stale_once_there_is_one(data) -> None:
    csv = data / "raw" / "train.csv"
    csv.rename(data / "kept")
    graph = Graph(data)
    assert graph.run_all("labels").success
    (data / "kept").rename(csv)
    unlabelled = uid("sample", "unlabelled")
    assert stale(graph, data) == {"labels": [s for s in graph.series if s != unlabelled]}


def test_what_is_taken_again_is_no_longer_stale(data) -> None:
    graph = Graph(data)
    assert graph.run("dicom_tags", partition=CTA).success
    rewrite_a_file(data / "raw")
    assert stale(graph, data) == {"dicom_tags": [CTA]}
    assert graph.run("dicom_tags", partition=CTA).success
    assert stale(graph, data) == {}


def test_one_series_and_a_batch_record_the_same_data_versions(graph) -> None:
    now = take_fingerprints(graph.settings, graph.series)
    for table in SERIES_TABLES:
        assert partitions.recorded_fingerprints(graph.instance, table) == now[table.name]
        assert graph.run(table.name, partition=CTA).success
        assert partitions.recorded_fingerprints(graph.instance, table) == now[table.name]


def test_a_materialisation_has_the_fingerprint_as_its_data_version(graph) -> None:
    now = take_fingerprints(graph.settings, [CTA])["dicom_tags"]
    events = materializations(graph.instance, "dicom_tags")
    assert {e.tags[DATA_VERSION_TAG] for e in events if e.partition == CTA} == {now[CTA]}


def test_a_file_that_changes_while_its_series_is_read_makes_it_stale(data, monkeypatch) -> None:
    read = series.read_series

    def read_then_change(directory: Path, root: Path, threads: int | None):
        table = read(directory, root, threads)
        rewrite_a_file(data / "raw")
        return table

    monkeypatch.setattr(series, "read_series", read_then_change)
    graph = Graph(data)
    assert graph.run("dicom_tags", partition=CTA).success
    assert stale(graph, data) == {"dicom_tags": [CTA]}


def test_what_was_materialised_before_there_were_data_versions_is_not_stale(
    data, monkeypatch
) -> None:
    monkeypatch.setattr(event_recorder, "_data_version", lambda _: None)
    graph = Graph(data)
    with monkeypatch.context() as patch:
        patch.setattr("aneurysm_assets.dicom.table.fingerprint_of_series", lambda *_: "")
        patch.setattr("aneurysm_assets.dicom.series.fingerprint_of_directory", lambda *_: "")
        assert graph.run_all("dicom_tags").success
    assert partitions.recorded_fingerprints(graph.instance, DICOM_TAGS) == {}
    rewrite_a_file(data / "raw")
    assert stale(graph, data) == {}


def test_the_hash_of_each_whole_csv_is_recorded(graph) -> None:
    digests = {
        name: hashlib.sha256((graph.settings.raw / name).read_bytes()).hexdigest()
        for name in ("train.csv", "train_localizers.csv")
    }
    for table, csv in (("labels", "train.csv"), ("localizers", "train_localizers.csv")):
        assert graph.metadata(table, CTA)["internals"] == {"csv_sha256": digests[csv]}
    assert "internals" not in graph.metadata("dicom_tags", CTA)
    assert graph.run("unified_metadata").success
    unified = graph.metadata("unified_metadata")["internals"]
    assert unified["train_csv_sha256"] == digests["train.csv"]
    assert unified["train_localizers_csv_sha256"] == digests["train_localizers.csv"]


def test_many_directories_are_listed_by_several_processes_alike(graph, monkeypatch) -> None:
    alone = take_fingerprints(graph.settings, graph.series)
    monkeypatch.setattr(fingerprint_processes, "_WORTH_PROCESSES", 2)
    assert take_fingerprints(graph.settings, graph.series, processes=3) == alone
    # More of them than series.
    few = take_fingerprints(graph.settings, graph.series[:2], processes=3)
    assert few["dicom_tags"] == {s: alone["dicom_tags"][s] for s in graph.series[:2]}


def test_modules_in_the_working_directory_are_not_those_of_the_processes(
    graph, monkeypatch, tmp_path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    (tmp_path / "aneurysm_assets.py").write_text("raise SystemExit(9)")
    alone = take_fingerprints(graph.settings, graph.series)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(fingerprint_processes, "_WORTH_PROCESSES", 2)
    assert take_fingerprints(graph.settings, graph.series, processes=2) == alone


def test_a_package_that_only_this_process_has_on_its_path_is_found(graph, monkeypatch) -> None:
    root = Path(fingerprint_processes.__file__).parents[2]
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(fingerprint_processes, "_WORTH_PROCESSES", 2)
    with fingerprint_processes.FingerprintProcesses(graph.settings, graph.series, 2) as asked:
        assert set(asked.answers()) == set(graph.series)
    assert str(root) in fingerprint_processes._environment()["PYTHONPATH"].split(":")


def test_where_no_process_can_be_started_the_directories_are_listed_all_the_same(
    graph, monkeypatch
) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    alone = take_fingerprints(graph.settings, graph.series)
    monkeypatch.setattr(fingerprint_processes, "_WORTH_PROCESSES", 2)
    monkeypatch.setattr(fingerprint_processes.subprocess, "Popen", none_left)
    assert take_fingerprints(graph.settings, graph.series, processes=2) == alone


def test_a_series_that_cannot_be_listed_is_stale_so_that_taking_it_says_why(graph, data) -> None:
    shutil.rmtree(data / "raw" / "series" / CTA)
    (data / "raw" / "series" / CTA).touch()
    segmentations = data / "raw" / "segmentations"
    shutil.rmtree(segmentations)
    segmentations.symlink_to("segmentations")
    assert stale(graph, data) == {"dicom_tags": [CTA], "segmentation_meta": graph.series}


def test_a_csv_that_cannot_be_used_is_told(graph, data) -> None:
    (data / "raw" / "train.csv").write_text("<html>")
    with pytest.raises(InputError, match=r"train\.csv"):
        stale(graph, data)
