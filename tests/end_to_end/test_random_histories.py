"""Any history of a data root, step by step at random, ends in the table that a fresh run makes."""

import csv
import json
import shutil
from pathlib import Path
from uuid import uuid4

import dagster as dg
import polars as pl
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from polars.testing import assert_frame_equal

from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import open_instance
from aneurysm_assets.schema.tables import SERIES_TABLES
from tests.end_to_end.test_histories import Root
from tests.graph import Graph
from tests.made_up import MadeUp, ct, mr, multi_frame, train_row, uid_of, write

NAMES = ("first", "second", "third", "fourth")
SERIES = st.sampled_from(NAMES)
TABLE = st.sampled_from([table.name for table in SERIES_TABLES])


def made_up() -> dict[str, MadeUp]:
    made = (
        ct("first", 3).point(1, 4, 4),
        mr("second", 3),
        multi_frame("third", 3),
        ct("fourth", 2),
    )
    return dict(zip(NAMES, made, strict=True))


@dg.job
def a_job() -> None: ...


class History(RuleBasedStateMachine):
    """A data root, what is done to it and to its input, and what its table is to be then."""

    pool: Path
    """Raw data of all series."""
    roots: Path
    """Where each history has its data root."""
    fresh: dict[str, tuple[pl.DataFrame, pl.DataFrame]]
    """The tables that fresh runs made, by the input."""
    counts: dict[str, int]
    """How many steps of which kind were taken."""

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._made = made_up()
        self.root = Root(self.roots / uuid4().hex, self._patch)
        self.ages: dict[str, int] = {}
        self.with_points: set[str] = set()
        self.on_disk: dict[str, str] = {}
        self.complete: set[str] = set()

    def teardown(self) -> None:
        try:
            self._run_and_compare()
        finally:
            self._patch.undo()
            shutil.rmtree(self.root.data)

    # What is done to the input.

    @initialize(names=st.sets(SERIES, min_size=1))
    def begin(self, names: set[str]) -> None:
        (self.root.raw / "series").mkdir(parents=True)
        for name in sorted(names):
            self.add(name)

    @rule(name=SERIES)
    def add(self, name: str) -> None:
        self._place(name)
        self.ages.setdefault(name, 50)
        if self._made[name].points:
            self.with_points.add(name)
        self._write_csvs()

    @rule(name=SERIES)
    def directory_goes(self, name: str) -> None:
        shutil.rmtree(self._directory(name), ignore_errors=True)
        self.on_disk.pop(name, None)

    @rule(name=SERIES)
    def directory_is_emptied(self, name: str) -> None:
        if name in self.on_disk:
            for path in self._directory(name).iterdir():
                path.unlink()
            self.on_disk[name] = "empty"

    @rule(name=SERIES)
    def file_is_cut(self, name: str) -> None:
        if self.on_disk.get(name) == "whole":
            first, *others = sorted(self._directory(name).iterdir())
            first.write_bytes(first.read_bytes()[:200])
            # Of a series of one file no image is left, as of an empty directory.
            self.on_disk[name] = "cut" if others else "empty"

    @rule(name=SERIES)
    def mend(self, name: str) -> None:
        if name in self.on_disk:
            self._place(name)

    @rule(name=SERIES)
    def row_goes(self, name: str) -> None:
        if len(self.ages) > 1:
            self.ages.pop(name, None)
            self._write_csvs()

    @rule(name=SERIES, age=st.integers(20, 90))
    def row_changes(self, name: str, age: int) -> None:
        self.ages[name] = age
        self._write_csvs()

    @rule(name=SERIES)
    def points_go_or_come(self, name: str) -> None:
        if self._made[name].points:
            self.with_points ^= {name}
            self._write_csvs()

    # What is done to the data root.

    @rule(name=SERIES, table=TABLE, kept=st.sampled_from([None, 0, 100]))
    def table_is_damaged(self, name: str, table, kept: int | None) -> None:
        path = self.root.data / "interim" / table / f"{uid_of(name)}.parquet"
        if name in self.on_disk and path.is_file():
            path.unlink() if kept is None else path.write_bytes(path.read_bytes()[:kept])

    @rule()
    def unified_table_goes(self) -> None:
        for path in (self.root.data / "interim").glob("*.parquet"):
            path.unlink()

    @rule(name=SERIES, table=TABLE)
    def run_is_killed(self, name: str, table) -> None:
        if name not in self.complete or name not in self.on_disk:
            return
        run_id = str(uuid4())
        with open_instance(self.root.settings()) as instance:
            instance.create_run_for_job(a_job, run_id=run_id, status=dg.DagsterRunStatus.STARTED)
            planned = AssetMaterializationPlannedData(dg.AssetKey(table), partition=uid_of(name))
            event = DagsterEvent.build_asset_materialization_planned_event("a_job", table, planned)
            instance.report_dagster_event(event, run_id)
        (self.root.data / "dagster" / "locks" / f"{run_id}.lock").touch()

    @rule()
    def combine_by_dagster(self) -> None:
        if not self.complete:
            return
        with open_instance(self.root.settings()) as instance:
            Graph(self.root.data, instance=instance).run("unified_metadata", "series_quality")

    @rule()
    def root_is_moved(self) -> None:
        self.root.data = self.root.data.rename(self.roots / uuid4().hex)

    @rule()
    def run(self) -> None:
        self._run_and_compare()

    @rule()
    def run_twice(self) -> None:
        self._run_and_compare()
        if self.complete and self.ages.keys() & self.on_disk.keys():
            again = self.root.run()
            assert again.materialized == 0, "nothing is done twice"

    # What is right.

    def _run_and_compare(self) -> None:
        wanted = {n: state for n, state in self.on_disk.items() if n in self.ages}
        if not wanted:
            with pytest.raises(InputError):
                self.root.run()
            return
        whole = {name for name, state in wanted.items() if state != "empty"}
        kept = {name for name in self.complete if name in self.ages and name not in self.on_disk}
        summary = self.root.run()
        assert {p.series_instance_uid for p in summary.problems} == {
            uid_of(name) for name in wanted.keys() - whole
        }
        self.complete = whole | kept
        if not self.complete:
            return  # every series failed, and that was said: the table of before is left
        unified, quality = self.root.tables()
        assert set(unified["SeriesInstanceUID"]) == {uid_of(name) for name in self.complete}
        gone = set(unified.filter("directory_vanished")["SeriesInstanceUID"])
        assert gone == {uid_of(name) for name in kept}
        if whole:
            there = ~pl.col("SeriesInstanceUID").is_in([uid_of(name) for name in kept])
            expected, expected_quality = self._fresh()
            assert_frame_equal(unified.filter(there), expected)
            known = pl.col("SeriesInstanceUID").is_in(list(expected["SeriesInstanceUID"].unique()))
            assert_frame_equal(quality.filter(known), expected_quality.filter(known))
        for name in kept & self.ages.keys():
            ages = unified.filter(pl.col("SeriesInstanceUID") == uid_of(name))["PatientAge"]
            assert ages.unique().to_list() == [self.ages[name]]

    def _fresh(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        key = json.dumps(
            [sorted(self.ages.items()), sorted(self.with_points), sorted(self.on_disk.items())]
        )
        if key not in self.fresh:
            other = Root(self.roots / uuid4().hex, self._patch)
            shutil.copytree(self.root.raw, other.raw)
            other.run()
            unified, quality = other.tables()
            self.fresh[key] = (unified, quality)
            shutil.rmtree(other.data)
        return self.fresh[key]

    def _directory(self, name: str) -> Path:
        return self.root.raw / "series" / uid_of(name)

    def _place(self, name: str) -> None:
        shutil.rmtree(self._directory(name), ignore_errors=True)
        shutil.copytree(self.pool / "series" / uid_of(name), self._directory(name))
        self.on_disk[name] = "whole"

    def _write_csvs(self) -> None:
        with (self.root.raw / "train.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["SeriesInstanceUID", *train_row("")])
            writer.writeheader()
            for name, age in sorted(self.ages.items()):
                train = self._made[name].train or {}
                writer.writerow({"SeriesInstanceUID": uid_of(name), **train, "PatientAge": age})
        with (self.root.raw / "train_localizers.csv").open("w", newline="") as file:
            points = csv.writer(file)
            points.writerow(["SeriesInstanceUID", "SOPInstanceUID", "coordinates", "location"])
            for name in sorted(self.with_points):
                points.writerows([uid_of(name), *point] for point in self._made[name].points)


def test_whatever_is_done_the_table_is_that_of_a_fresh_run(tmp_path, is_long) -> None:
    write(tmp_path / "pool", made_up().values())
    (tmp_path / "roots").mkdir()
    machine = type(
        "Here", (History,), {"pool": tmp_path / "pool", "roots": tmp_path / "roots", "fresh": {}}
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=200 if is_long else 3,
            stateful_step_count=40 if is_long else 20,
            derandomize=not is_long,  # what a change breaks shows by the change, not by chance
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            report_multiple_bugs=False,
        ),
    )
