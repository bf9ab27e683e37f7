"""Whatever happened to the input, the table is what a fresh run makes, or the command refuses.

Each history is played on a data root of its own, and its tables are compared with those of a fresh
one over the input as it is in the end.
"""

import csv
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from _pytest.mark import ParameterSet
from polars.testing import assert_frame_equal

from aneurysm_assets.cli import runner
from aneurysm_assets.cli.status import take_overview
from aneurysm_assets.cli.terminal import summary_lines
from aneurysm_assets.defs.assets import labels as labels_module
from aneurysm_assets.defs.assets import unified_metadata as unified_module
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import open_instance
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.resources import NullReporter
from aneurysm_assets.schema.tables import SERIES_QUALITY, SERIES_TABLES, UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage import table_files
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.storage.table_scans import read_table
from tests.graph import Graph, failure
from tests.made_up import ct, mr, multi_frame, uid_of, write
from tests.processes import SCRIPTS, call, call_here

FIRST, SECOND, THIRD = (uid_of(name) for name in ("first", "second", "third"))


class Root:
    """A data root, and what is done to it."""

    def __init__(self, data: Path, patch: pytest.MonkeyPatch) -> None:
        self.data = data
        self._patch = patch

    @property
    def raw(self) -> Path:
        return self.data / "raw"

    def settings(self, **variables: str) -> Settings:
        self._patch.setenv("ANEURYSM_DATA", str(self.data))
        self._patch.setenv("ANEURYSM_WORKERS", "1")
        for name in ("ANEURYSM_RAW", "ANEURYSM_INTERIM"):
            self._patch.delenv(name, raising=False)
        for name, value in variables.items():
            self._patch.setenv(name, value)
        return Settings.from_environment()

    def run(self, *, replace_raw: bool = False, **variables: str) -> runner.Summary:
        settings = self.settings(**variables)
        return runner.run(settings, NullReporter(), replace_raw=replace_raw)

    def tables(self) -> list[pl.DataFrame]:
        settings = self.settings()
        found = []
        for table, stem in (
            (UNIFIED_METADATA, settings.unified_table),
            (SERIES_QUALITY, settings.quality_table),
        ):
            path = find_table(stem)
            assert path is not None
            found.append(read_table(table, path))
        return found

    def without_row(self, series: str) -> None:
        path = self.raw / "train.csv"
        header, *rows = csv.reader(path.read_text().splitlines())
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *(row for row in rows if row[0] != series)])

    def without_directory(self, series: str) -> None:
        shutil.rmtree(self.raw / "series" / series)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory) -> Path:
    """A data root on which a run has read everything."""
    data = tmp_path_factory.mktemp("history") / "data"
    write(data / "raw", [ct("first").point(2, 4, 4), mr("second"), multi_frame("third")])
    with pytest.MonkeyPatch.context() as patch:
        summary = Root(data, patch).run()
    assert (summary.materialized, summary.problems) == (3, [])
    return data


@pytest.fixture
def root(first_run, tmp_path, monkeypatch) -> Root:
    return Root(Path(shutil.copytree(first_run, tmp_path / "data")), monkeypatch)


class Fresh:
    """The tables that fresh runs make; of each input one is made."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tables: dict[str, list[pl.DataFrame]] = {}

    def add(self, root: Root) -> list[pl.DataFrame]:
        """Take the tables of a root on which one run has read everything."""
        return self._tables.setdefault(content_of(root.raw), root.tables())

    def of(self, root: Root, raw: Path | None = None) -> list[pl.DataFrame]:
        """Return the tables of a fresh run over the input as it is now."""
        content = content_of(raw or root.raw)
        if content in self._tables:
            return self._tables[content]
        other = Root(self._directory / content, root._patch)
        shutil.copytree(raw or root.raw, other.raw)
        other.run()
        return self.add(other)


def content_of(raw: Path) -> str:
    """Return a digest of all files' names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(path for path in raw.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(raw)} {len(content)} ".encode() + content)
    return digest.hexdigest()


@pytest.fixture(scope="module")
def fresh(first_run, tmp_path_factory) -> Fresh:
    fresh = Fresh(tmp_path_factory.mktemp("fresh"))
    with pytest.MonkeyPatch.context() as patch:
        fresh.add(Root(first_run, patch))
    return fresh


def require_equal(found: list[pl.DataFrame], expected: list[pl.DataFrame]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_frame_equal(one, other, check_row_order=True)


def row_goes(root: Root) -> None:
    root.without_row(SECOND)
    root.run()


def row_goes_and_comes_back(root: Root) -> None:
    kept = (root.raw / "train.csv").read_text()
    root.without_row(SECOND)
    root.run()
    (root.raw / "train.csv").write_text(kept)
    root.run()


def row_and_directory_go(root: Root) -> None:
    root.without_row(FIRST)
    root.without_directory(FIRST)
    root.run()


def directory_goes_and_is_pruned(root: Root) -> None:
    root.without_directory(THIRD)
    assert root.run().vanished == [THIRD]
    assert runner.vanished_series(root.settings()) == [THIRD]
    runner.prune(root.settings(), NullReporter(), [THIRD])


def series_without_a_row_is_taken_and_then_not(root: Root) -> None:
    root.without_row(SECOND)
    root.run(ANEURYSM_UNLABELLED="1")
    root._patch.delenv("ANEURYSM_UNLABELLED")
    root.run()


def point_goes(root: Root) -> None:
    path = root.raw / "train_localizers.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    root.run()


HISTORIES: list[Callable[[Root], None]] = [
    row_goes,
    row_goes_and_comes_back,
    row_and_directory_go,
    directory_goes_and_is_pruned,
    series_without_a_row_is_taken_and_then_not,
    point_goes,
]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_the_table_is_what_a_fresh_run_makes_where(history, root, fresh) -> None:
    history(root)
    found = root.tables()
    require_equal(found, fresh.of(root))


def test_a_series_whose_directory_is_gone_stays_and_each_run_says_so(root) -> None:
    before, quality = root.tables()
    kept = shutil.copytree(root.raw / "series" / SECOND, root.data / "kept")
    root.without_directory(SECOND)
    is_gone = pl.col("SeriesInstanceUID") == SECOND
    for _ in range(2):
        assert root.run().vanished == [SECOND]
        unified, found = root.tables()
        assert_frame_equal(unified, before.with_columns(directory_vanished=is_gone))
        assert found.filter("directory_vanished")["SeriesInstanceUID"].to_list() == [SECOND]
        assert "the directory is gone" in found.filter(is_gone)["findings"].item()
    shutil.copytree(kept, root.raw / "series" / SECOND, copy_function=shutil.copy2)
    root.run()
    require_equal(root.tables(), [before, quality])


def test_a_label_that_changes_after_the_directory_is_gone_changes_in_the_table(root) -> None:
    root.without_directory(FIRST)
    root.run()
    path = root.raw / "train.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    for row in rows:
        row[header.index("PatientAge")] = "77"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    assert root.run().problems == []
    unified, _ = root.tables()
    assert unified["PatientAge"].unique().to_list() == [77]
    assert unified.filter("directory_vanished")["SeriesInstanceUID"].unique().to_list() == [FIRST]


def test_a_table_that_had_to_be_csv_is_said_and_is_parquet_again_by_the_next_run(
    root, monkeypatch
) -> None:
    before = root.tables()
    root.settings().unified_table.with_suffix(".parquet").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(table_files, "_write_parquet", broken)
        summary = root.run()
    assert summary.table is not None
    assert summary.table.endswith(".csv")
    (warning,) = (line for line, _ in summary_lines(summary) if line.startswith("warning: unif"))
    assert "Parquet could not be written (ComputeError: no compressor)" in warning
    root.run()
    assert not list(root.settings().interim.glob("*.csv"))
    require_equal(root.tables(), before)


def broken(*_: object) -> int:
    raise pl.exceptions.ComputeError("no compressor")


def damages() -> Iterator[ParameterSet]:
    """Yield each table with each damage: in the usual suite that read last, and that most read."""
    usual = {(SERIES_TABLES[0], 0.5), (SERIES_TABLES[-1], 0.0)}
    for table, kept in product(SERIES_TABLES, (0.0, 0.5)):
        name = f"{'half' if kept else 'empty'}-{table.name}"
        marks = () if (table, kept) in usual else pytest.mark.long
        yield pytest.param(table, kept, id=name, marks=marks)


@pytest.mark.parametrize(("table", "kept"), damages())
def test_a_table_that_is_damaged_is_made_again_from_its_series(root, table, kept) -> None:
    before = root.tables()
    path = root.settings().interim / table.name / f"{SECOND}.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    root.settings().unified_table.with_suffix(".parquet").unlink()
    with open_instance(root.settings()) as instance:
        graph = Graph(root.data, instance=instance)
        said = failure(graph.run("unified_metadata"), "unified_metadata")
        assert f"{table.name}/{SECOND}.parquet" in said
        assert "taken again by `aneurysm-assets run`" in said
    path.write_bytes(b"")
    summary = root.run()
    assert (summary.materialized, summary.problems) == (1, [])
    require_equal(root.tables(), before)


def test_a_run_on_a_full_disk_says_so_and_one_with_room_completes(root, tmp_path, is_long) -> None:
    # A limit on the size of a file fails the databases, the tables and the log as a full disk does.
    for kilobytes in range(8, 1_200, 20) if is_long else (110, 650):
        full = Root(tmp_path / f"{kilobytes}", root._patch)
        shutil.copytree(root.raw, full.raw)
        command = ("aneurysm-assets", "run", "--data", full.data, "--workers", 1)
        limit = ("prlimit", f"--fsize={kilobytes << 10}", SCRIPTS / command[0], *command[1:])
        said = subprocess.run(list(map(str, limit)), capture_output=True, text=True, check=False)
        assert said.returncode == 1, said
        assert "Traceback" not in said.stderr
        assert full.run().problems == []
        require_equal(full.tables(), root.tables())


def test_a_pruned_series_leaves_no_partition_and_no_file(root) -> None:
    root.without_directory(SECOND)
    said = call_here("prune", "--data", root.data, "--yes")
    assert said.returncode == 0, said.stderr
    assert SECOND in said.stdout
    assert not list((root.data / "interim").rglob(f"*{SECOND}*"))
    with open_instance(root.settings()) as instance:
        assert sorted(partitions.registered(instance)) == sorted([FIRST, THIRD])
    again = call_here("prune", "--data", root.data)
    assert "nothing to remove" in again.stdout


def test_nothing_is_pruned_before_the_user_agrees(root) -> None:
    before = root.tables()
    root.without_directory(SECOND)
    said = call("aneurysm-assets", "prune", "--data", root.data)
    assert said.returncode == 1
    require_equal(root.tables(), before)


def test_a_partition_that_was_added_by_hand_can_be_removed(root) -> None:
    with open_instance(root.settings()) as instance:
        partitions.register(instance, ["1.2.3.4", "../no uid"])
    assert runner.vanished_series(root.settings()) == ["../no uid", "1.2.3.4"]
    runner.prune(root.settings(), NullReporter(), ["../no uid", "1.2.3.4"])
    assert runner.vanished_series(root.settings()) == []


def test_where_no_setting_names_the_input_that_of_before_is_used(root, tmp_path) -> None:
    shutil.copytree(root.raw, tmp_path / "elsewhere")
    other = Root(tmp_path / "other", root._patch)
    other.run(ANEURYSM_RAW=str(tmp_path / "elsewhere"))
    before = other.tables()
    assert other.settings().raw == tmp_path / "elsewhere"
    assert other.run().skipped == 3
    require_equal(other.tables(), before)
    assert take_overview(other.settings()).assets["labels"].materialized == 3


def test_another_input_is_refused_by_name_and_changes_nothing(root, tmp_path) -> None:
    before = root.tables()
    write(tmp_path / "raw", [ct("other")])
    settings = root.settings(ANEURYSM_RAW=str(tmp_path / "raw"))
    for refuse in (
        lambda: runner.run(settings, NullReporter()),
        lambda: take_overview(settings),
    ):
        with pytest.raises(InputError, match=r"were read from .*, not from .*--replace-raw"):
            refuse()
    require_equal(root.tables(), before)


def test_another_input_that_is_meant_takes_the_place_of_the_old_one(root, tmp_path, fresh) -> None:
    shutil.copytree(root.raw / "series" / FIRST, tmp_path / "raw" / "series" / FIRST)
    write(tmp_path / "more", [ct("other"), ct("first").point(2, 4, 4)])
    shutil.rmtree(tmp_path / "raw")
    shutil.copytree(tmp_path / "more", tmp_path / "raw")
    root.run(replace_raw=True, ANEURYSM_RAW=str(tmp_path / "raw"))
    found = root.tables()
    assert set(found[0]["SeriesInstanceUID"]) == {FIRST, uid_of("other")}
    require_equal(found, fresh.of(root, tmp_path / "raw"))
    assert root.settings().raw == tmp_path / "raw"


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_a_root_that_is_absent_or_empty_changes_nothing(root, kind) -> None:
    before = root.tables()
    shutil.rmtree(root.raw / "series")
    if kind == "empty":
        (root.raw / "series").mkdir()
    with pytest.raises(InputError, match="nothing was changed"):
        root.run()
    with pytest.raises(InputError, match="nothing was changed"):
        runner.vanished_series(root.settings())
    require_equal(root.tables(), before)


@pytest.mark.parametrize("name", ["train.csv", "train_localizers.csv"])
def test_a_csv_that_is_gone_after_it_was_read_is_refused(root, name) -> None:
    before = root.tables()
    (root.raw / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is gone"):
        root.run()
    require_equal(root.tables(), before)
    said = call_here("run", "--data", root.data)
    assert said.returncode == 2
    assert f"{name} is gone" in said.stderr


@pytest.mark.parametrize("asset", ["labels", "unified_metadata"])
def test_a_step_of_dagster_refuses_another_input_too(root, tmp_path, asset) -> None:
    before = root.tables()
    write(tmp_path / "raw", [ct("other")])
    root.settings(ANEURYSM_RAW=str(tmp_path / "raw"))
    graph = Graph(root.data)
    result = graph.run(asset, partition=uid_of("other") if asset == "labels" else None)
    assert "were read from" in failure(result, asset)
    require_equal(root.tables(), before)


def test_a_csv_that_goes_while_a_run_works_makes_no_label_null(root, monkeypatch) -> None:
    before = root.tables()
    settings_of_run = labels_module.settings_of_run

    def without_csv(*given):
        settings = settings_of_run(*given)
        settings.train_csv.rename(root.data / "kept.csv")
        return settings

    train = root.raw / "train.csv"
    header, *rows = csv.reader(train.read_text().splitlines())
    rows[0][header.index("PatientAge")] = "77"
    with train.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    with monkeypatch.context() as patch:
        patch.setattr(labels_module, "settings_of_run", without_csv)
        summary = root.run()
    reasons = [problem.reason for problem in summary.problems if problem.table == "labels"]
    assert reasons
    assert all("train.csv" in reason and "is gone" in reason for reason in reasons)
    require_equal(root.tables(), before)
    (root.data / "kept.csv").rename(train)


def test_an_interrupt_while_the_table_is_made_cancels_the_run(root, monkeypatch) -> None:
    root.settings().unified_table.with_suffix(".parquet").unlink()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unified_module, "combine", interrupted)
        with pytest.raises(KeyboardInterrupt):
            root.run()
    with open_instance(root.settings()) as instance:
        assert instance.get_runs(limit=1)[0].status == dg.DagsterRunStatus.CANCELED
    assert root.run().problems == []


def test_an_error_that_nobody_expected_is_told_with_its_reason(root, monkeypatch) -> None:
    root.settings().unified_table.with_suffix(".parquet").unlink()

    def broken_join(*_: object) -> None:
        raise ZeroDivisionError("no slices between them")

    with monkeypatch.context() as patch:
        patch.setattr(unified_module, "combine", broken_join)
        (problem,) = root.run().problems
    assert "ZeroDivisionError: no slices between them" in problem.reason
    assert "Error occurred while executing" not in problem.reason


def test_a_data_root_whose_databases_cannot_be_named_is_refused_at_once(
    root, tmp_path, monkeypatch
) -> None:
    data = Path(shutil.copytree(root.raw, tmp_path / "a?b" / "raw")).parent
    with pytest.raises(InputError, match="'\\?'"):
        Root(data, monkeypatch).run()
    assert not list(tmp_path.glob("a"))
