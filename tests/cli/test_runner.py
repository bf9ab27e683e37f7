"""One run over the data, in the test's own process: what it takes, leaves and refuses."""

import os
import shutil
from collections import defaultdict
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

from aneurysm_assets.cli import runner
from aneurysm_assets.cli.status import take_overview
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance import data_root
from aneurysm_assets.runs.resources import NullReporter
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.settings import Settings
from tests.processes import started
from tests.record import SERIES_TABLES, events, instance_of

CTA, DAMAGED = uid("sample", "CTA"), uid("sample", "damaged")
UNLABELLED, NOT_ON_DISK = uid("sample", "unlabelled"), uid("sample", "not on disk")

HOLD = """
import sys, time
from aneurysm_assets.instance import run_locks
from aneurysm_assets.settings import Settings
run_locks.hold(Settings.from_environment(), sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


class Taken(NullReporter):
    """Remembers what was taken."""

    def __init__(self) -> None:
        self.series: dict[str, list[str]] = defaultdict(list)

    def done(self, table, series_instance_uid, written) -> None:
        self.series[table.name].append(series_instance_uid)


def settings_of(data: Path, patch: pytest.MonkeyPatch) -> Settings:
    patch.setenv("ANEURYSM_DATA", str(data))
    patch.setenv("ANEURYSM_WORKERS", "1")
    return Settings.from_environment()


@pytest.fixture
def settings(data: Path, monkeypatch) -> Settings:
    return settings_of(data, monkeypatch)


@pytest.fixture(scope="module")
def two_done_once(sample_data, tmp_path_factory) -> Path:
    data = Path(shutil.copytree(sample_data, tmp_path_factory.mktemp("two_done") / "data"))
    for directory in (data / "raw" / "series").iterdir():
        if directory.name not in {CTA, DAMAGED}:
            shutil.rmtree(directory)
    with pytest.MonkeyPatch.context() as patch:
        assert runner.run(settings_of(data, patch), NullReporter()).problems == []
    return data


@pytest.fixture
def two_done(two_done_once: Path, tmp_path: Path, monkeypatch) -> Settings:
    """Return settings of data that hold two series, both done."""
    return settings_of(Path(shutil.copytree(two_done_once, tmp_path / "data")), monkeypatch)


def run(settings: Settings, **options) -> tuple[runner.Summary, dict[str, list[str]]]:
    taken = Taken()
    return runner.run(settings, taken, **options), dict(taken.series)


def files(root: Path) -> set[Path]:
    return set(root.rglob("*"))


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ("1.2.3", "series '1.2.3' is neither in train.csv nor on disk"),
        ("../etc", "series '../etc' is neither in train.csv nor on disk"),
        (UNLABELLED, f"series {UNLABELLED} has no row in train.csv: take it with --unlabelled"),
        (NOT_ON_DISK, f"series {NOT_ON_DISK} is in train.csv and its directory is not on disk"),
    ],
)
def test_a_series_that_cannot_be_taken_is_refused_with_the_reason(settings, series, said) -> None:
    before = files(settings.data)
    with pytest.raises(InputError) as refused:
        run(settings, only=[CTA, series])
    assert str(refused.value) == said
    assert files(settings.data) == before


@pytest.mark.parametrize("name", ["train.csv", "train_localizers.csv"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"SeriesInstanceUID\n1.2\n", "columns missing: "),
        (b"\x89PNG\r\n\x1a\n\x00\x01", "not a CSV"),
        (b"<html>", "not a CSV but a page of HTML"),
        (b"", "the file is empty"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_before_anything_is_written(
    settings, name, content, said
) -> None:
    (settings.raw / name).write_bytes(content)
    before = files(settings.data)
    with pytest.raises(InputError) as refused:
        run(settings)
    assert f"{settings.raw / name}: {said}" in str(refused.value)
    assert files(settings.data) == before


def test_data_without_a_series_to_take_are_refused_with_what_may_help(settings) -> None:
    for directory in settings.series_root.iterdir():
        if directory.name != UNLABELLED:
            shutil.rmtree(directory)
    with pytest.raises(InputError, match=r"no series of .*train\.csv is on disk .*--unlabelled"):
        run(settings)
    shutil.rmtree(settings.series_root / UNLABELLED)
    settings.train_csv.unlink()
    with pytest.raises(InputError, match="holds no series, so nothing was changed"):
        run(settings)


def test_a_series_that_is_new_on_disk_is_taken_alone(two_done) -> None:
    shutil.copytree(two_done.series_root / CTA, two_done.series_root / NOT_ON_DISK)
    summary, taken = run(two_done)
    assert taken == {table: [NOT_ON_DISK] for table in SERIES_TABLES}
    assert (summary.materialized, summary.skipped, summary.problems) == (1, 2, [])
    assert summary.combined["series"] == 3


def test_a_removed_table_is_made_again_and_no_other(two_done) -> None:
    (two_done.interim / "labels" / f"{CTA}.parquet").unlink()
    summary, taken = run(two_done)
    assert taken == {"labels": [CTA]}
    assert (summary.materialized, summary.skipped) == (1, 1)


def test_a_removed_unified_table_is_combined_again_and_no_series_taken(two_done) -> None:
    (two_done.interim / "dicom_metadata_with_csv.parquet").unlink()
    summary, taken = run(two_done)
    assert taken == {}
    assert Path(summary.table).is_file()
    with instance_of(two_done.data) as instance:
        assert events(instance, "unified_metadata") == {None: 2}


def test_a_directory_that_is_gone_takes_nothing_from_what_is_done(two_done) -> None:
    shutil.rmtree(two_done.series_root / CTA)
    summary, taken = run(two_done)
    assert taken == {}
    assert summary.combined["series"] == 2
    assert CTA in summary.inventory.not_on_disk
    overview = take_overview(two_done)
    assert {asset.materialized for asset in overview.assets.values()} == {2}


def test_a_series_that_failed_since_it_was_combined_leaves_the_unified_table(two_done) -> None:
    for path in (two_done.series_root / CTA).iterdir():
        path.unlink()
    summary, _ = run(two_done)
    assert list(summary.failed_series) == [CTA]
    assert summary.combined["series"] == 1
    assert take_overview(two_done).unified_metadata["up_to_date"] is True


def test_a_table_that_is_gone_is_not_called_up_to_date(two_done) -> None:
    (two_done.interim / "labels" / f"{CTA}.parquet").unlink()
    assert take_overview(two_done).unified_metadata["up_to_date"] is False
    (two_done.interim / "labels" / f"{DAMAGED}.parquet").unlink()
    assert take_overview(two_done).unified_metadata["up_to_date"] is False


def without_row(settings: Settings, series: str) -> None:
    lines = settings.train_csv.read_text().splitlines(keepends=True)
    settings.train_csv.write_text("".join(x for x in lines if not x.startswith(series)))


@pytest.mark.parametrize("force", [False, True])
def test_a_series_whose_row_left_train_csv_leaves_the_table_and_is_not_read(
    two_done, force
) -> None:
    without_row(two_done, CTA)
    summary, taken = run(two_done, force=force)
    assert {uid for series in taken.values() for uid in series} == ({DAMAGED} if force else set())
    assert summary.changed == 0
    assert summary.combined["series"] == 1
    table = pl.read_parquet(two_done.interim / "dicom_metadata_with_csv.parquet")
    assert set(table["SeriesInstanceUID"]) == {DAMAGED}
    assert run(two_done)[1] == {}


def test_nothing_that_is_not_a_series_problem_is_lost(two_done) -> None:
    # The unified table can be written in neither way.
    for suffix in ("parquet", "csv"):
        path = two_done.interim / f"dicom_metadata_with_csv.{suffix}"
        path.unlink(missing_ok=True)
        path.mkdir()
    summary, _ = run(two_done)
    (problem,) = summary.problems
    assert (problem.table, problem.series_instance_uid) == ("unified_metadata", None)
    assert problem.reason.startswith("the unified table: ")
    assert "Is a directory" in problem.reason


def test_series_that_lack_different_tables_are_taken_only_where_they_lack_them(two_done) -> None:
    (two_done.interim / "labels" / f"{CTA}.parquet").unlink()
    (two_done.interim / "localizers" / f"{DAMAGED}.parquet").unlink()
    summary, taken = run(two_done)
    assert taken == {"labels": [CTA], "localizers": [DAMAGED]}
    assert (summary.materialized, summary.skipped) == (2, 0)


def test_series_in_progress_in_another_run_are_left_to_it_while_it_lives(two_done) -> None:
    run_id = "2f6a3fc8-4c1b-4c0e-9d0e-5a2b7c9d1e3f"
    (two_done.interim / "labels" / f"{CTA}.parquet").unlink()
    with started("python", "-c", HOLD, run_id, ANEURYSM_DATA=two_done.data) as process:
        assert process.stdout.readline() == "held\n"
        with instance_of(two_done.data) as instance:
            begin(instance, run_id, "labels", CTA)
        for options in ({}, {"force": True, "only": [CTA]}):
            summary, taken = run(two_done, **options)
            assert "labels" not in taken
            assert summary.in_progress == 1
        assert take_overview(two_done).assets["labels"].in_progress == 1
    summary, taken = run(two_done)
    assert taken == {"labels": [CTA]}
    assert summary.interrupted_runs == 1


def test_a_series_that_is_taken_again_stays_in_the_table_as_long_as_its_file_is_there(
    two_done,
) -> None:
    run_id = "2f6a3fc8-4c1b-4c0e-9d0e-5a2b7c9d1e3f"
    with started("python", "-c", HOLD, run_id, ANEURYSM_DATA=two_done.data) as process:
        assert process.stdout.readline() == "held\n"
        with instance_of(two_done.data) as instance:
            begin(instance, run_id, "labels", CTA)
        (two_done.interim / "dicom_metadata_with_csv.parquet").unlink()
        summary, taken = run(two_done)
        assert (taken, summary.in_progress) == ({}, 1)
        table = pl.read_parquet(two_done.interim / "dicom_metadata_with_csv.parquet")
        assert set(table["SeriesInstanceUID"]) == {CTA, DAMAGED}


@dg.job
def a_job() -> None: ...


def begin(instance: dg.DagsterInstance, run_id: str, table: str, series: str) -> None:
    """Record that a run has begun that will materialize a series."""
    instance.create_run_for_job(a_job, run_id=run_id, status=dg.DagsterRunStatus.STARTED)
    planned = AssetMaterializationPlannedData(dg.AssetKey(table), partition=series)
    event = DagsterEvent.build_asset_materialization_planned_event("a_job", table, planned)
    instance.report_dagster_event(event, run_id)


def test_the_overview_of_a_data_root_that_cannot_be_written_writes_nothing(
    two_done, monkeypatch
) -> None:
    expected = take_overview(two_done)
    before = {path: path.stat().st_mtime_ns for path in two_done.data.rglob("*")}
    # A directory of this machine's own that even root cannot write is not to be had everywhere.
    monkeypatch.setattr(data_root.os, "access", lambda _, mode, **__: mode != os.W_OK)
    assert take_overview(two_done) == expected
    assert {path: path.stat().st_mtime_ns for path in two_done.data.rglob("*")} == before


def test_before_any_run_every_series_on_disk_is_missing(settings) -> None:
    overview = take_overview(settings)
    for asset in overview.assets.values():
        assert (asset.materialized, asset.missing, asset.not_on_disk) == (0, 12, 1)
    assert overview.unified_metadata == {"path": None, "up_to_date": False}
