"""The event log that writes in batches, held against Dagster's own on the same events."""

import multiprocessing
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.events import (
    DagsterEvent,
    DagsterEventBatchMetadata,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.instance import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError

from aneurysm_assets.instance.data_root import CONFIG
from aneurysm_assets.instance.event_log import BatchingSqliteEventLogStorage
from tests.processes import wait_until

KEY = dg.AssetKey("dicom_tags")
PARTITIONS = dg.DynamicPartitionsDefinition(name="series")
STOCK = {"telemetry": {"enabled": False}}


@contextmanager
def instance_at(root: Path, overrides=CONFIG) -> Iterator[dg.DagsterInstance]:
    root.mkdir(parents=True, exist_ok=True)
    with dg.DagsterInstance.from_ref(
        InstanceRef.from_dir(str(root), overrides=dict(overrides))
    ) as instance:
        yield instance


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ANEURYSM_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "dagster"


def report(instance: dg.DagsterInstance, run_id: str, series: list[str]) -> None:
    """Record series as a batch step does."""
    for index, uid in enumerate(series):
        materialization = dg.AssetMaterialization(
            KEY, partition=uid, metadata={"rows": index}, tags={DATA_VERSION_TAG: f"v{uid}"}
        )
        event = DagsterEvent(
            event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name="job",
            event_specific_data=StepMaterializationData(materialization),
        )
        instance.report_dagster_event(
            event,
            run_id,
            batch_metadata=DagsterEventBatchMetadata(run_id, index == len(series) - 1),
        )


def recorded(instance: dg.DagsterInstance) -> Counter[str | None]:
    page = instance.fetch_materializations(KEY, limit=10_000)
    return Counter(record.asset_materialization.partition for record in page.records)


def in_run(instance: dg.DagsterInstance, run_id: str) -> Counter[str | None]:
    return Counter(
        entry.asset_materialization.partition
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    )


def all_that_is_told(instance: dg.DagsterInstance, run_id: str, series: list[str]) -> dict:
    """Return what Dagster and its UI read of the events, but for times and ids."""
    instance.add_dynamic_partitions("series", series)
    (record,) = instance.get_asset_records([KEY])
    latest = record.asset_entry.last_materialization_record
    storage = instance.event_log_storage
    return {
        "statuses": instance.get_status_by_partition(KEY, series, PARTITIONS),
        "recorded": recorded(instance),
        "in run": in_run(instance, run_id),
        "latest": latest.asset_materialization,
        "latest id is of the index": record.asset_entry.last_materialization_storage_id
        == max(r.storage_id for r in instance.fetch_materializations(KEY, limit=1).records),
        "partitions": instance.get_materialized_partitions(KEY),
        "versions": storage.get_latest_tags_by_partition(
            KEY, DagsterEventType.ASSET_MATERIALIZATION, tag_keys=[DATA_VERSION_TAG]
        ),
        "of one": instance.get_latest_data_version_record(
            KEY, partition_key=series[0]
        ).asset_materialization.metadata,
        "stats": instance.get_run_stats(run_id).materializations,
    }


def test_all_that_is_told_of_a_batch_is_what_stock_storage_tells(
    root, tmp_path, series_of_three_batches
) -> None:
    series = series_of_three_batches
    told = []
    for place, overrides in ((root, CONFIG), (tmp_path / "stock", STOCK)):
        with instance_at(place, overrides) as instance:
            report(instance, "run", series)
            told.append(all_that_is_told(instance, "run", series))
    assert told[0] == told[1]
    assert told[0]["recorded"] == dict.fromkeys(series, 1)


def test_the_embedded_default_writes_in_batches_and_stock_storage_is_a_matter_of_configuration(
    root, tmp_path
) -> None:
    with instance_at(root) as instance:
        assert isinstance(instance.event_log_storage, BatchingSqliteEventLogStorage)
    with instance_at(tmp_path / "stock", STOCK) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage


def test_a_batch_is_one_transaction_of_each_database(root, monkeypatch) -> None:
    opened = []
    connect = BatchingSqliteEventLogStorage._connect
    with instance_at(root) as instance:
        report(instance, "run", ["1.1", "1.2"])
        monkeypatch.setattr(
            BatchingSqliteEventLogStorage,
            "_connect",
            lambda self, shard: (opened.append(shard), connect(self, shard))[1],
        )
        report(instance, "run", [f"1.2.{number}" for number in range(100)])
    assert Counter(opened) == {"run": 1, "index": 1}


def failing(times: int) -> Callable:
    """Return a way into the index that fails so often, and then is the usual one."""
    index = BatchingSqliteEventLogStorage._index
    left = [times]

    def fail(self, events, rows) -> None:
        if left[0]:
            left[0] -= 1
            raise OperationalError("INSERT", {}, Exception("database is locked"))
        index(self, events, rows)

    return fail


def test_a_batch_that_fails_is_written_singly_and_each_event_once(
    root, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(BatchingSqliteEventLogStorage, "_index", failing(1))
    series = ["1.1", "1.2", "1.3"]
    with instance_at(root) as instance:
        report(instance, "run", series)
        assert recorded(instance) == dict.fromkeys(series, 1)
        assert in_run(instance, "run") == dict.fromkeys(series, 1)
        report(instance, "run", ["1.4", "1.5"])
        assert in_run(instance, "run") == dict.fromkeys([*series, "1.4", "1.5"], 1)
    assert "database is locked" in capsys.readouterr().err


def test_what_was_rolled_back_is_not_deleted_under_another_writers_ids(root, monkeypatch) -> None:
    connect = BatchingSqliteEventLogStorage._connect
    others = []

    @contextmanager
    def fail_to_commit(self, shard: str):
        if shard != "run" or others:
            with connect(self, shard) as connection:
                yield connection
            return
        others.append("9.1")
        with connect(self, shard) as connection:
            yield connection
            connection.rollback()
        with instance_at(root) as another:
            report(another, "run", ["9.1", "9.2"])
        raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    with instance_at(root) as instance:
        report(instance, "run", ["1.1", "1.2"])
        monkeypatch.setattr(BatchingSqliteEventLogStorage, "_connect", fail_to_commit)
        report(instance, "run", ["2.1", "2.2"])
        expected = dict.fromkeys(["1.1", "1.2", "2.1", "2.2", "9.1", "9.2"], 1)
        assert (recorded(instance), in_run(instance, "run")) == (expected, expected)


def test_where_taking_back_fails_the_index_has_each_event_once_all_the_same(
    root, monkeypatch, capsys
) -> None:
    series = ["1.1", "1.2"]
    monkeypatch.setattr(BatchingSqliteEventLogStorage, "_index", failing(1))
    with instance_at(root) as instance:
        report(instance, "run", ["0.1", "0.2"])
        assert recorded(instance) == {"0.1": 1, "0.2": 1}
    monkeypatch.setattr(BatchingSqliteEventLogStorage, "_index", failing(1))
    with instance_at(root) as instance:
        with instance.event_log_storage.run_connection("run") as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER keep BEFORE DELETE ON event_logs "
                "BEGIN SELECT RAISE(ABORT, 'no deletes'); END"
            )
        report(instance, "run", series)
        assert recorded(instance) == dict.fromkeys([*series, "0.1", "0.2"], 1)
    assert "stay twice in its log" in capsys.readouterr().err


def test_events_for_which_storage_does_more_than_insert_keep_the_stock_way(root) -> None:
    with instance_at(root) as instance:
        result = a_job.execute_in_process(instance=instance)
        (success,) = instance.all_logs(result.run_id, of_type=DagsterEventType.RUN_SUCCESS)
        instance.event_log_storage.store_event_batch([success, success])
        of_type = DagsterEventType.RUN_SUCCESS
        assert len(instance.all_logs(result.run_id, of_type=of_type)) == 3
        assert len(instance.fetch_run_status_changes(of_type, limit=10).records) == 3


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job
def a_job() -> None:
    nothing()


def _report_many(root: str, number: int) -> None:
    with instance_at(Path(root)) as instance:
        for batch in range(10):
            start = number * 1_000 + batch * 20
            report(instance, f"run{number}", [f"1.{start + i}" for i in range(20)])


def test_several_processes_at_once_lose_and_double_nothing(root, monkeypatch) -> None:
    with instance_at(root) as instance:
        report(instance, "first", ["2.1", "2.2"])
        spawn = multiprocessing.get_context("spawn")
        writers = [
            spawn.Process(target=_report_many, args=(str(root), number)) for number in range(3)
        ]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            # As a webserver does meanwhile: every read finds whole events, none of them twice.
            assert set(recorded(instance).values()) == {1}
            writers[0].join(0.01)
            instance.get_asset_records([KEY])
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        expected = {f"1.{n * 1_000 + i}": 1 for n in range(3) for i in range(200)}
        assert recorded(instance) == expected | {"2.1": 1, "2.2": 1}
        for number in range(3):
            assert sum(in_run(instance, f"run{number}").values()) == 200


def test_the_index_is_opened_by_one_engine_also_after_it_was_wiped(root, monkeypatch) -> None:
    made: list[str] = []

    def make(database: str, **options) -> Engine:
        made.append(database)
        return create_engine(database, **options)

    monkeypatch.setattr("aneurysm_assets.instance.event_log.create_engine", make)
    with instance_at(root) as instance:
        for number in range(5):
            report(instance, "run", [f"1.2.{number}"])
        assert len(instance.get_materialized_partitions(KEY)) == 5
        # As `dagster instance` does: what is kept must not hold on to a database that is gone.
        instance.event_log_storage.wipe()
        report(instance, "run", ["1.3"])
        assert instance.get_materialized_partitions(KEY) == {"1.3"}
    assert len([database for database in made if database.endswith("index.db")]) == 1


def opened_now(root: Path) -> set[str]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    paths = {link.readlink() for link in links if link.exists()}
    return {path.name for path in paths if path.suffix == ".db" and root in path.parents}


def test_the_index_stays_open_until_the_storage_is_disposed_of(root) -> None:
    with instance_at(root) as instance:
        report(instance, "run", ["1.2"])
        for _ in range(3):
            assert recorded(instance) == {"1.2": 1}
            assert opened_now(root) == {"index.db", "run.db"}
    assert opened_now(root) == set()
    assert not list(root.rglob("*.db-wal"))


def test_one_run_is_open_at_a_time_and_none_once_it_has_ended(root) -> None:
    with instance_at(root) as instance:
        report(instance, "first", ["1.2"])
        report(instance, "second", ["1.3"])
        assert opened_now(root) == {"index.db", "second.db"}
        run = a_job.execute_in_process(instance=instance)
        assert opened_now(root) == {"index.db"}
        assert len(instance.all_logs(run.run_id)) > 3
        assert in_run(instance, "first") == {"1.2": 1}


def test_the_database_of_a_run_is_the_one_that_dagster_makes(root, tmp_path) -> None:
    made = {}
    for name, place, overrides in (("ours", root, CONFIG), ("stock", tmp_path / "stock", STOCK)):
        with instance_at(place, overrides) as instance:
            report(instance, "run", ["1.2"])
            path = instance.event_log_storage.path_for_shard("run")
            with closing(sqlite3.connect(path)) as database:
                tables = database.execute("select type, name, sql from sqlite_master").fetchall()
                revision = database.execute("select version_num from alembic_version").fetchall()
                mode = database.execute("pragma journal_mode").fetchone()
            made[name] = set(tables), revision, mode
    assert len(made["ours"][0]) > 10
    assert made["ours"] == made["stock"]


def test_a_database_of_a_run_that_another_process_makes_too_is_made_as_dagster_does(
    root, monkeypatch
) -> None:
    def refuse(*_: Engine) -> bool:
        raise OperationalError("BEGIN", {}, Exception("database is locked"))

    monkeypatch.setattr("aneurysm_assets.instance.event_log._copy_tables", refuse)
    with instance_at(root) as instance:
        report(instance, "run", ["1.2"])
        assert in_run(instance, "run") == {"1.2": 1}


def test_an_index_that_names_no_revision_as_older_dagsters_left_it_is_written_to(root) -> None:
    with instance_at(root) as instance:
        report(instance, "first", ["1.2"])
        index = instance.event_log_storage.path_for_shard("index")
    with closing(sqlite3.connect(index)) as database:
        database.execute("drop table alembic_version")
    with instance_at(root) as instance:
        report(instance, "second", ["1.3"])
        assert recorded(instance) == {"1.2": 1, "1.3": 1}
        assert in_run(instance, "second") == {"1.3": 1}


def test_who_reads_the_record_waits_for_nobody_who_writes(root, monkeypatch) -> None:
    monkeypatch.setattr("aneurysm_assets.instance.event_log.SQLITE_BUSY_TIMEOUT_SECONDS", 0)
    with instance_at(root) as instance:
        report(instance, "run", ["1.2"])
        index = instance.event_log_storage.path_for_shard("index")
    with closing(sqlite3.connect(index, isolation_level=None)) as database:
        database.execute("begin immediate")
        with instance_at(root) as instance:
            assert recorded(instance) == {"1.2": 1}


def test_the_ui_is_told_of_each_event_of_a_run_as_it_is_stored(root) -> None:
    told: Counter[str | None] = Counter()

    def tell(event: dg.EventLogEntry, _: str) -> None:
        told[event.asset_materialization.partition] += 1

    with instance_at(root) as instance, instance_at(root) as of_ui:
        report(instance, "run", ["1.0"])
        of_ui.watch_event_logs("run", None, tell)
        for number in range(1, 4):
            report(instance, "run", [f"1.{number}"])
            wait_until(lambda: len(told) > number, "the event was told")  # noqa: B023
    assert told == dict.fromkeys(("1.0", "1.1", "1.2", "1.3"), 1)


def test_what_another_process_records_is_seen_by_one_that_has_the_index_open(root) -> None:
    with instance_at(root) as instance:
        report(instance, "run", ["0.1"])
        assert len(recorded(instance)) == 1
        other = multiprocessing.get_context("spawn").Process(
            target=_report_many, args=(str(root), 1)
        )
        other.start()
        other.join()
        assert other.exitcode == 0
        assert len(recorded(instance)) == 201
