"""`kill -9` at any instant: nothing done is done again, nothing half-written is read."""

import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from aneurysm_assets.instance.event_log import BATCH_SIZE_VARIABLE
from aneurysm_assets.sample import write_load_sample
from tests.graph import Graph
from tests.processes import call, call_here, group_of, started, wait_until
from tests.record import ALL_TABLES, SERIES_TABLES, events, instance_of, statuses

# Enough that recording them takes many batches of so many events.
SERIES = 120
BATCH = 12

# Where a run is killed: when so many series of a table have their file, or are recorded, which is a
# moment later and in batches. Each run takes up what the one before it had left, so together they
# are killed at the start, in the middle and near the end of a table that worker processes write, in
# those written in the run's own process, and while the unified table is being written.
MOMENTS = [
    ("dicom_tags", "records", 1),
    ("localizers", "files", SERIES // 3),
    ("unified_metadata", "files", 1),
]
MORE_MOMENTS = [
    ("dicom_tags", "files", 1),
    *MOMENTS[:1],
    ("dicom_tags", "files", SERIES - 3),
    ("labels", "records", 1),
    *MOMENTS[1:2],
    ("segmentation_meta", "records", 1),
    *MOMENTS[2:],
]
# That at which something of dicom_tags is certainly recorded and not all.
IN_THE_MIDDLE = MOMENTS[0]


class Killed:
    """A data root on which runs were killed one after another, and what was seen each time."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.moments: list[tuple[str, str, int]] = []
        self.runs: list[str] = []
        self.events: list[dict[str, Counter]] = []
        self.files: list[dict[str, set[str]]] = []
        self.status: dict[str, Any] = {}
        self.last_was_cut_off = False

    def kill_at(self, table: str, what: str, count: int) -> None:
        """Run until so much of a table is there, and kill the run, not its workers."""
        self.moments.append((table, what, count))
        with (
            (self.data / "log").open("w") as log,
            started(
                *("aneurysm-assets", "run", "--data", self.data, "--workers", 2),
                output=log,
                **{BATCH_SIZE_VARIABLE: BATCH},
            ) as process,
        ):
            there = self._files_of if what == "files" else self._records_of
            wait_until(lambda: len(there(table)) >= count, f"{table} had {count} {what}", process)
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_until(lambda: not group_of(process), "its worker processes had ended")
        with instance_of(self.data) as instance:
            (latest,) = instance.get_runs(limit=1)
            self.last_was_cut_off = latest.status == dg.DagsterRunStatus.STARTED
            if self.last_was_cut_off:
                self.runs.append(latest.run_id)
            self.events.append({name: events(instance, name) for name in ALL_TABLES})
        self.files.append({name: self._files_of(name) for name in SERIES_TABLES})

    def in_the_middle(self, table: str) -> Counter:
        """Return what was recorded of a table when the run was killed in the middle."""
        return self.events[self.moments.index(IN_THE_MIDDLE)][table]

    def _files_of(self, table: str) -> set[str]:
        if table in SERIES_TABLES:
            return {path.stem for path in (self.data / "interim" / table).glob("[0-9]*")}
        # Also while it is still being written, beside its place.
        return {
            path.name for path in unified(self.data).parent.glob(f"*{unified(self.data).name}*")
        }

    def _records_of(self, table: str) -> set[str | None]:
        if not self._files_of("dicom_tags"):
            return set()  # there may be no record yet
        with instance_of(self.data) as instance:
            return set(events(instance, table))

    def resume(self) -> str:
        resumed = call("aneurysm-assets", "run", "--data", self.data, "--workers", 2)
        assert resumed.returncode == 0, resumed.stderr
        return resumed.stdout


def unified(data: Path) -> Path:
    return data / "interim" / "dicom_metadata_with_csv.parquet"


def tables_of_series(data: Path) -> list[Path]:
    files = [path for path in (data / "interim").rglob("[0-9]*.*") if not path.name.startswith(".")]
    return sorted(path.relative_to(data) for path in files)


@pytest.fixture(scope="module")
def load_data(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("load")
    write_load_sample(data, series=SERIES, files=2)
    return data


@pytest.fixture(scope="module")
def uninterrupted(load_data, tmp_path_factory) -> Path:
    """Return a data root whose tables were made undisturbed."""
    data = Path(shutil.copytree(load_data, tmp_path_factory.mktemp("uninterrupted") / "data"))
    graph = Graph(data)
    assert graph.run_all(*SERIES_TABLES).success
    assert graph.run("unified_metadata").success
    return data


@pytest.fixture(scope="module")
def killed(load_data, tmp_path_factory, is_long) -> Killed:
    """Return a data root on which a run was killed at every one of the moments."""
    data = Path(shutil.copytree(load_data, tmp_path_factory.mktemp("killed") / "data"))
    killed = Killed(data)
    for moment in MORE_MOMENTS if is_long else MOMENTS:
        killed.kill_at(*moment)
        if moment == IN_THE_MIDDLE:
            shown = call_here("status", "--data", data, "--json")
            killed.status = json.loads(shown.stdout)["assets"]
    return killed


@pytest.fixture(scope="module")
def resumed(killed) -> str:
    """Return what a last run, which nobody kills, said."""
    return killed.resume()


def test_every_table_that_has_its_name_is_whole_however_the_run_ended(killed) -> None:
    # Before anything had a chance to tidy up after the last kill.
    for path in tables_of_series(killed.data):
        pl.read_parquet(killed.data / path)
    if unified(killed.data).exists():
        pl.read_parquet(unified(killed.data))


def test_at_each_kill_whatever_was_recorded_was_whole_on_disk_and_recorded_once(killed) -> None:
    for recorded, on_disk in zip(killed.events, killed.files, strict=True):
        for table in SERIES_TABLES:
            assert set(recorded[table]) <= on_disk[table]
            assert set(recorded[table].values()) <= {1}
    assert 0 < len(killed.in_the_middle("dicom_tags")) < SERIES


def test_status_after_a_kill_counts_what_is_done_and_shows_nothing_in_progress(killed) -> None:
    for table in SERIES_TABLES:
        asset, done = killed.status[table], len(killed.in_the_middle(table))
        assert (asset["materialized"], asset["missing"]) == (done, SERIES - done)
        assert (asset["in_progress"], asset["failed"]) == (0, 0)


def test_each_series_has_exactly_one_event_a_table_over_all_runs(killed, resumed) -> None:
    series = {path.name: 1 for path in (killed.data / "raw" / "series").iterdir()}
    with instance_of(killed.data) as instance:
        for table in SERIES_TABLES:
            assert events(instance, table) == series
            assert set(statuses(instance, table).values()) == {"MATERIALIZED"}


def test_the_unified_table_is_recorded_once_all_series_are_done(killed, resumed) -> None:
    with instance_of(killed.data) as instance:
        assert events(instance, "unified_metadata") == {None: 1}


def test_every_killed_run_is_canceled_by_the_next(killed, resumed) -> None:
    assert len(killed.runs) >= len(killed.moments) - 1
    with instance_of(killed.data) as instance:
        for run_id in killed.runs:
            assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.CANCELED
    assert list((killed.data / "dagster" / "locks").glob("*.lock")) == []


def test_the_run_that_goes_on_says_so(killed, resumed) -> None:
    assert ("took up what 1 killed run(s) had left" in resumed) == killed.last_was_cut_off


def test_no_partial_file_remains_after_the_resume(killed, resumed) -> None:
    interim = killed.data / "interim"
    assert [path for path in interim.rglob("*") if path.name.startswith(".")] == []


def test_the_result_is_as_if_nothing_had_been_killed(killed, resumed, uninterrupted) -> None:
    assert tables_of_series(killed.data) == tables_of_series(uninterrupted)
    for path in tables_of_series(killed.data):
        assert_frame_equal(
            pl.read_parquet(killed.data / path), pl.read_parquet(uninterrupted / path)
        )
    assert_frame_equal(
        pl.read_parquet(unified(killed.data)), pl.read_parquet(unified(uninterrupted))
    )
