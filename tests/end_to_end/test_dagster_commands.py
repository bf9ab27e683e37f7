"""The `dagster` commands as their users know them: from the project's root, one after another."""

import shutil
import signal
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from aneurysm_assets.runs.partitions import register
from aneurysm_assets.sample import write_load_sample
from tests.processes import call, group_of, started, wait_for_files, wait_until
from tests.record import SERIES_TABLES, events, instance_of, metadata_of, statuses

MATERIALIZE = ("dagster", "asset", "materialize", "-m", "aneurysm_assets.definitions", "--select")


class Stage:
    """What the commands are given, and what they leave: each test stands on those before it."""

    def __init__(self, project: Path, data: Path) -> None:
        self.project = project
        self.data = data

    def command(self, *arguments: object):
        return call(*arguments, cwd=self.project, ANEURYSM_DATA=self.data)

    def events(self, table: str) -> dict[str | None, int]:
        with instance_of(self.data) as instance:
            return dict(events(instance, table))

    @property
    def series(self) -> list[str]:
        with instance_of(self.data) as instance:
            return list(instance.get_dynamic_partitions("series"))

    def unified(self) -> pl.DataFrame:
        return pl.read_parquet(self.data / "interim" / "dicom_metadata_with_csv.parquet")


@pytest.fixture(scope="module")
def stage(project, sample_data, tmp_path_factory) -> Stage:
    """Return a stage whose series are registered."""
    data = tmp_path_factory.mktemp("commands") / "data"
    stage = Stage(project, Path(shutil.copytree(sample_data, data)))
    registering = stage.command(
        "dagster", "job", "execute", "-m", "aneurysm_assets.definitions", "-j", "register_series"
    )
    assert registering.returncode == 0, registering.stderr
    return stage


def test_the_job_registers_the_series_of_train_csv_that_are_on_disk(stage) -> None:
    on_disk = {path.name for path in (stage.data / "raw" / "series").iterdir()}
    labels = pl.read_csv(stage.data / "raw" / "train.csv", columns=["SeriesInstanceUID"])
    assert set(stage.series) == on_disk & set(labels["SeriesInstanceUID"])
    assert len(stage.series) == 12


def test_everything_of_one_partition_is_one_command(stage) -> None:
    chosen = stage.series[3]
    done = stage.command(*MATERIALIZE, "*", "--partition", chosen)
    assert done.returncode == 0, done.stderr
    for table in SERIES_TABLES:
        assert stage.events(table) == {chosen: 1}
    assert stage.events("unified_metadata") == {None: 1}
    assert stage.unified()["SeriesInstanceUID"].unique().to_list() == [chosen]


def test_a_range_of_two_assets_is_one_command(stage) -> None:
    before = stage.series[3]
    first, last = stage.series[5], stage.series[8]
    done = stage.command(
        *MATERIALIZE, "dicom_tags,labels", "--partition-range", f"{first}...{last}"
    )
    assert done.returncode == 0, done.stderr
    for table in ("dicom_tags", "labels"):
        assert stage.events(table) == dict.fromkeys([before, *stage.series[5:9]], 1)
    for table in ("localizers", "segmentation_meta"):
        assert stage.events(table) == {before: 1}


@pytest.mark.parametrize(
    ("selection", "last"),
    [
        pytest.param("+unified_metadata", 6, marks=pytest.mark.long),
        ("*", 7),
    ],
)
def test_a_range_of_everything_ends_with_the_table_made(stage, selection, last) -> None:
    chosen = f"{stage.series[5]}...{stage.series[last]}"
    ranged = stage.command(*MATERIALIZE, selection, "--partition-range", chosen)
    assert ranged.returncode == 0, ranged.stderr
    taken = {stage.series[3], *stage.series[5 : last + 1]}
    assert set(stage.unified()["SeriesInstanceUID"]) == taken
    with instance_of(stage.data) as instance:
        for series in stage.series[5 : last + 1]:
            assert metadata_of(instance, "dicom_tags", series)["files"] > 0


def test_a_series_that_fails_ends_the_command_with_its_reason(stage) -> None:
    chosen = stage.series[0]
    directory = stage.data / "raw" / "series" / chosen
    directory.rename(stage.data / "away")
    try:
        failed = stage.command(*MATERIALIZE, "dicom_tags", "--partition", chosen)
    finally:
        (stage.data / "away").rename(directory)
    assert failed.returncode != 0
    assert f"{directory} cannot be read: No such file or directory" in failed.stderr
    with instance_of(stage.data) as instance:
        assert statuses(instance, "dicom_tags")[chosen] == "FAILED"


def test_the_state_is_with_the_data_and_the_project_is_left_as_it_was(stage) -> None:
    assert {path.name for path in stage.data.iterdir()} == {"raw", "interim", "dagster"}
    assert not (stage.project / "data").exists()
    assert list(stage.project.glob(".tmp_dagster_home_*")) == []


def test_ctrl_c_ends_a_dagster_command_canceled_and_what_is_done_is_done(project, tmp_path) -> None:
    write_load_sample(tmp_path, series=60, files=15)
    (tmp_path / "dagster").mkdir()
    stage = Stage(project, tmp_path)
    with instance_of(tmp_path) as instance:
        register(instance, (path.name for path in (tmp_path / "raw" / "series").iterdir()))
    first, last = stage.series[0], stage.series[-1]
    with started(
        *MATERIALIZE,
        "dicom_tags",
        "--partition-range",
        f"{first}...{last}",
        cwd=project,
        output=(tmp_path / "log").open("w"),
        ANEURYSM_DATA=tmp_path,
        ANEURYSM_WORKERS=2,
    ) as process:
        wait_for_files(tmp_path / "interim" / "dicom_tags", 14, process)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        wait_until(lambda: not group_of(process), "its workers were gone")
    with instance_of(tmp_path) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(job_name="__ASSET_JOB"))
        assert run.status == dg.DagsterRunStatus.CANCELED
        done = events(instance, "dicom_tags")
        shown = statuses(instance, "dicom_tags")
    assert 0 < len(done) < 60
    assert set(done.values()) == {1}
    assert {name for name, state in shown.items() if state == "MATERIALIZED"} == set(done)
    assert set(shown.values()) == {"MATERIALIZED", "MISSING"}
