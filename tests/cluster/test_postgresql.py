"""Storage in PostgreSQL, held against Dagster's own; directly, and through PgBouncer."""

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventBatchMetadata,
)
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.storage.event_log import SqlEventLogStorageTable
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage
from sqlalchemy import Connection, create_engine, event, select
from sqlalchemy.exc import OperationalError

from aneurysm_assets.cluster import backfill_failures, celery_worker, postgresql
from aneurysm_assets.cluster.postgresql import BatchingPostgresEventLogStorage, PostgresStorage
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance import run_locks
from aneurysm_assets.instance.data_root import claim
from aneurysm_assets.settings import Settings
from deploy.procfile import make_home
from deploy.servers.pgbouncer import Pgbouncer
from deploy.servers.postgresql import PostgresqlServer
from tests.instance.test_event_log import (
    KEY,
    all_that_is_told,
    in_run,
    instance_at,
    recorded,
    report,
)
from tests.servers import passable_directory, skipped_where_missing

_databases = count()


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with passable_directory() as made:
        yield made


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[PostgresqlServer]:
    with skipped_where_missing(), PostgresqlServer(directory / "server") as server:
        yield server


def make_database(server: PostgresqlServer, *, like: str = "template1") -> dict[str, str]:
    """Make a database as another is, and return its environment."""
    name = f"of_a_test_{next(_databases)}"
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=server.port,
        user="dagster",
        password=server.password,
        dbname="postgres",
    )
    connection.autocommit = True
    connection.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {like}")
    connection.close()
    return server.variables | {"ANEURYSM_POSTGRES_DB": name}


@pytest.fixture
def empty_database(server: PostgresqlServer) -> dict[str, str]:
    """Return the environment of a database of the test's own, which has no tables."""
    return make_database(server)


@pytest.fixture(scope="module")
def with_tables(server: PostgresqlServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a database with Dagster's tables: a copy of it takes far less than to make them."""
    made = make_database(server)
    with instance_at(tmp_path_factory.mktemp("with_tables"), storage(made)) as instance:
        assert instance.get_runs_count() == 0
    return made["ANEURYSM_POSTGRES_DB"]


@pytest.fixture
def database(server: PostgresqlServer, with_tables: str) -> dict[str, str]:
    """Return the environment of a database of the test's own, which has Dagster's tables."""
    return make_database(server, like=with_tables)


def storage(variables: dict[str, str], *, stock: bool = False) -> dict[str, Any]:
    config = {
        "postgres_db": {
            "scheme": "postgresql+psycopg2",
            "hostname": variables["ANEURYSM_POSTGRES_HOST"],
            "port": int(variables["ANEURYSM_POSTGRES_PORT"]),
            "db_name": variables["ANEURYSM_POSTGRES_DB"],
            "username": variables["ANEURYSM_POSTGRES_USER"],
            "password": variables["ANEURYSM_POSTGRES_PASSWORD"],
        }
    }
    custom = {
        "module": "aneurysm_assets.cluster.postgresql",
        "class": "PostgresStorage",
        "config": config,
    }
    return {
        "storage": {"postgres": config} if stock else {"custom": custom},
        "telemetry": {"enabled": False},
    }


@pytest.fixture
def instance(database: dict[str, str], tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with instance_at(tmp_path / "ours", storage(database)) as instance:
        yield instance


def plan(instance: dg.DagsterInstance, run_id: str, series: list[str]) -> None:
    """Say what is to come, as Dagster does when it makes a run."""
    for index, uid in enumerate(series):
        instance.report_dagster_event(
            DagsterEvent.build_asset_materialization_planned_event(
                "job", "dicom_tags", AssetMaterializationPlannedData(KEY, partition=uid)
            ),
            run_id,
            batch_metadata=DagsterEventBatchMetadata("planned", index == len(series) - 1),
        )


def test_all_that_is_told_of_a_batch_is_what_stock_storage_tells(
    database, server, tmp_path, series_of_three_batches
) -> None:
    series = series_of_three_batches
    stock = server.variables
    told = []
    for place, overrides in (("ours", storage(database)), ("stock", storage(stock, stock=True))):
        with instance_at(tmp_path / place, overrides) as instance:
            plan(instance, "run", series)
            report(instance, "run", series)
            told.append(all_that_is_told(instance, "run", series))
    assert told[0] == told[1]
    assert told[0]["recorded"] == dict.fromkeys(series, 1)


def test_of_storages_that_begin_at_once_on_an_empty_database_one_makes_the_tables(
    empty_database, monkeypatch
) -> None:
    two = threading.Barrier(2, timeout=2)  # passed where two make tables at the same time
    met = []
    make = PostgresRunStorage._init_db

    def make_with_another(self: PostgresRunStorage) -> None:
        with suppress(threading.BrokenBarrierError):
            met.append(two.wait())
        make(self)

    monkeypatch.setattr(PostgresRunStorage, "_init_db", make_with_another)
    given = storage(empty_database)["storage"]["custom"]["config"]
    with ThreadPoolExecutor(4) as threads:
        opened = [threads.submit(PostgresStorage.from_config_value, None, given) for _ in range(4)]
    assert [each.result().run_storage.get_runs() for each in opened] == [[]] * 4
    assert not met


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_through_a_pool_of_connections_the_same_is_told(
    database, server, directory, tmp_path, series_of_three_batches, mode
) -> None:
    series = series_of_three_batches
    told = []
    with skipped_where_missing(), Pgbouncer(directory / mode, server, mode) as pool:
        through = database | {"ANEURYSM_POSTGRES_PORT": str(pool.port)}
        with instance_at(tmp_path / "through", storage(through)) as instance:
            instance.optimize_for_webserver(10_000, 300, 5)
            plan(instance, "run", series)
            report(instance, "run", series)
            told.append(all_that_is_told(instance, "run", series))
        with instance_at(tmp_path / "direct", storage(database)) as instance:
            told.append(all_that_is_told(instance, "run", series))
    assert told[0] == told[1]
    assert told[0]["recorded"] == dict.fromkeys(series, 1)


def test_stock_storage_is_a_matter_of_configuration(server, instance, tmp_path) -> None:
    assert isinstance(instance.event_log_storage, BatchingPostgresEventLogStorage)
    with instance_at(tmp_path / "stock", storage(server.variables, stock=True)) as stock:
        assert type(stock.event_log_storage) is PostgresEventLogStorage


def test_a_batch_is_one_connection_and_one_transaction(instance) -> None:
    report(instance, "run", ["1.1", "1.2"])
    engine = instance.event_log_storage._engine
    seen: list[str] = []
    event.listen(engine, "connect", lambda *_: seen.append("connect"))
    event.listen(engine, "commit", lambda *_: seen.append("commit"))
    report(instance, "run", [f"1.2.{number}" for number in range(100)])
    plan(instance, "run", [f"1.3.{number}" for number in range(100)])
    assert seen == ["connect", "commit"] * 2


def test_a_batch_that_fails_is_written_singly_and_each_event_once(
    instance, monkeypatch, capsys
) -> None:
    store = BatchingPostgresEventLogStorage._store_asset_event_tags
    left = [1]

    def fail_once(self, *given) -> None:
        if left[0]:
            left[0] -= 1
            raise OperationalError("INSERT", {}, Exception("the connection is gone"))
        store(self, *given)

    monkeypatch.setattr(BatchingPostgresEventLogStorage, "_store_asset_event_tags", fail_once)
    series = ["1.1", "1.2", "1.3"]
    report(instance, "run", series)
    assert recorded(instance) == dict.fromkeys(series, 1)
    assert in_run(instance, "run") == dict.fromkeys(series, 1)
    assert "the connection is gone" in capsys.readouterr().err


@pytest.mark.parametrize("series", [["1.1", "1.2", "1.3"], ["1.4"]])
def test_a_batch_whose_commit_was_not_confirmed_is_stored_once(
    instance, monkeypatch, capsys, series
) -> None:
    report(instance, "earlier", ["0.1"])
    transaction = BatchingPostgresEventLogStorage.index_transaction
    left = [1]

    @contextmanager
    def unconfirmed(self) -> Iterator[Connection]:
        with transaction(self) as connection:
            yield connection
        if left[0]:
            left[0] -= 1
            raise OperationalError("COMMIT", {}, Exception("the connection is gone"))

    monkeypatch.setattr(BatchingPostgresEventLogStorage, "index_transaction", unconfirmed)
    if len(series) == 1:
        with pytest.raises(OperationalError):
            report(instance, "run", series)
    else:
        report(instance, "run", series)
        assert "the connection is gone" in capsys.readouterr().err
    report(instance, "run", ["2.1", "2.2"])
    assert in_run(instance, "run") == dict.fromkeys([*series, "2.1", "2.2"], 1)
    assert recorded(instance) == dict.fromkeys(["0.1", *series, "2.1", "2.2"], 1)


def test_a_writer_that_falls_silent_does_not_hold_up_the_others_for_ever(
    database, instance, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(postgresql, "_IDLE_MILLISECONDS", 300)
    with (
        instance_at(tmp_path / "silent", storage(database)) as silent,
        pytest.raises(OperationalError),
        silent.event_log_storage._as_writer(),
    ):
        report(instance, "run", ["1.1", "1.2"])
    assert recorded(instance) == {"1.1": 1, "1.2": 1}


def test_a_batch_and_a_check_need_no_second_connection_while_others_wait_for_theirs(
    database, instance
) -> None:
    engine = create_engine(
        instance.event_log_storage.postgres_url,
        isolation_level="AUTOCOMMIT",
        pool_size=1,
        max_overflow=0,
        pool_timeout=1,
    )
    instance.event_log_storage._engine = engine
    report(instance, "run", ["1.1", "1.2"])
    definitions = dg.Definitions(assets=[an_asset], asset_checks=[a_check])
    job = definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance).success
    engine.dispose()


def test_a_worker_waits_for_a_database_that_is_away(
    database, server, directory, monkeypatch
) -> None:
    for name, value in database.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ANEURYSM_REDIS_URL", "memory://")
    monkeypatch.setenv("ANEURYSM_CELERY_WORKERS", "1")
    monkeypatch.setenv("ANEURYSM_COMPUTE_LOGS", str(directory / "logs"))
    monkeypatch.setenv("DAGSTER_HOME", str(make_home(directory / "home")))
    monkeypatch.setattr(celery_worker, "_ASK_AGAIN_AFTER_SECONDS", 0.0)
    server.stop()
    monkeypatch.setattr(celery_worker._LOG, "warning", lambda *_, **__: server.start())
    count = celery_worker._retry_while_database_is_away(lambda instance: instance.get_runs_count())
    assert count == 0


@dg.asset
def an_asset() -> None: ...


@dg.asset_check(asset=an_asset)
def a_check() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def test_a_run_with_a_check_ends_as_anywhere(instance) -> None:
    definitions = dg.Definitions(assets=[an_asset], asset_checks=[a_check])
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance
    )
    assert instance.get_run_by_id(result.run_id).status == dg.DagsterRunStatus.SUCCESS
    (history,) = instance.event_log_storage.get_asset_check_execution_history(
        a_check.check_key, limit=10
    )
    assert history.status.value == "SUCCEEDED"
    assert instance.get_latest_materialization_event(an_asset.key) is not None


def test_an_instance_that_hosts_share_keeps_one_path_of_tables(instance, tmp_path) -> None:
    ours, theirs = (
        Settings.from_environment({"ANEURYSM_DATA": str(tmp_path / name)}) for name in "ab"
    )
    claim(instance, ours)
    claim(instance, ours)
    # Neither exists on this host; the other may have it.
    with pytest.raises(InputError, match="all hosts of an instance need the tables at the same"):
        claim(instance, theirs)


def test_a_run_outside_of_celery_says_on_which_host_it_lives(instance, tmp_path) -> None:
    settings = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path)})
    run = dg.DagsterRun("job", status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    assert not run_locks.is_judged_here(instance, run)
    run_locks.hold_run(instance, settings, run)
    run_locks.release(settings, run.run_id)
    tagged = instance.get_run_by_id(run.run_id)
    assert tagged.tags == {run_locks.HOST_TAG: run_locks.host()}
    assert run_locks.is_judged_here(instance, tagged)


@pytest.mark.parametrize("waited_for", [True, False])
def test_that_a_run_failed_is_told_once_the_run_is_a_failed_one_or_was_to_be_long_ago(
    instance, monkeypatch, waited_for: bool
) -> None:
    run = dg.DagsterRun("job", status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    told: list[list[str]] = []

    def tell() -> None:
        found = instance.event_log_storage.get_logs_for_all_runs_by_log_id(
            dagster_event_type={dg.DagsterEventType.RUN_FAILURE}
        )
        told.append([each.run_id for each in found.values()])

    if not waited_for:
        monkeypatch.setattr(backfill_failures, "_STATE_FOLLOWS_WITHIN_SECONDS", -1)
    state = type(instance.run_storage).handle_run_event

    def in_between(*arguments: object) -> None:
        tell()
        state(*arguments)

    monkeypatch.setattr(type(instance.run_storage), "handle_run_event", in_between)
    instance.report_run_failed(run)
    tell()
    assert told == [[] if waited_for else [run.run_id], [run.run_id]]


def found_failed(instance: dg.DagsterInstance, backfill: str) -> BulkActionStatus:
    """Do what Dagster's daemon does where it finds that a backfill has failed; return what is."""
    looked_at = instance.get_backfill(backfill).with_failure_count(0)
    instance.update_backfill(looked_at)  # how far it is, before whether that is the end
    instance.update_backfill(looked_at.with_status(BulkActionStatus.COMPLETED_FAILED))
    return instance.get_backfill(backfill).status


def add_backfill(instance: dg.DagsterInstance, backfill: str, **kind: object) -> None:
    instance.add_backfill(
        PartitionBackfill(backfill, BulkActionStatus.REQUESTED, False, {}, 0.0, **kind)
    )


def test_a_backfill_has_failed_once_it_is_found_so_twice_with_no_run_in_between(instance) -> None:
    requested, failed = BulkActionStatus.REQUESTED, BulkActionStatus.COMPLETED_FAILED
    for backfill in ("one", "other"):
        add_backfill(instance, backfill, serialized_asset_backfill_data="{}")
    for _ in range(2):
        instance.add_run(dg.DagsterRun("job", tags={BACKFILL_ID_TAG: "one"}))
        assert found_failed(instance, "one") == requested
    assert found_failed(instance, "other") == requested
    assert found_failed(instance, "one") == failed
    assert found_failed(instance, "other") == failed
    # What is stored already is no verdict: a migration of Dagster's writes it once more.
    instance.update_backfill(instance.get_backfill("one").with_failure_count(3))
    assert instance.get_backfill("one").failure_count == 3


def test_a_backfill_of_a_job_which_waits_for_no_retry_has_failed_when_it_is_found_so(
    instance,
) -> None:
    add_backfill(instance, "one", partition_names=[])
    assert found_failed(instance, "one") == BulkActionStatus.COMPLETED_FAILED


def _report_many(root: str, overrides: dict[str, Any], number: int) -> None:
    with instance_at(Path(root), overrides) as instance:
        for batch in range(15):
            start = number * 1_000 + batch * 20
            report(instance, f"run{number}", [f"1.{start + i}" for i in range(20)])
            instance.report_engine_event("between", run_id=f"run{number}", job_name="job")


def _ids(instance: dg.DagsterInstance) -> set[int]:
    with instance.event_log_storage.index_connection() as connection:
        return set(connection.scalars(select(SqlEventLogStorageTable.c.id)))


def test_several_writers_at_once_lose_nothing_and_no_event_appears_behind_one_that_was_seen(
    database, instance, tmp_path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [
        spawn.Process(target=_report_many, args=(str(tmp_path / str(n)), storage(database), n))
        for n in range(3)
    ]
    for writer in writers:
        writer.start()
    seen: set[int] = set()
    while any(writer.is_alive() for writer in writers):
        now = _ids(instance)
        # Dagster asks for what is above the highest that it saw: what is below must be there.
        assert not {new for new in now - seen if seen and new < max(seen)}
        seen = now
        writers[0].join(0.01)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert recorded(instance) == {f"1.{n * 1_000 + i}": 1 for n in range(3) for i in range(300)}
