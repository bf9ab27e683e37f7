"""Dagster's SQLite event log, writing a batch of events in one transaction per database.

Stock storage opens, writes and commits two databases per event, which is most of what a partition
costs, and opens the index for each of the hundreds of queries of a run; SQLite then moves its log
to the file each time. Here the index, and the database of the run that is written, stay open, and
the latter is made in one transaction. What events say and how they are read stays.
`cluster.postgresql` has the event log of PostgreSQL, and shares what is public here.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Self

from dagster import DagsterEventType, EventLogEntry
from sqlalchemy import Connection, Engine, create_engine, func, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from aneurysm_assets.dagster_internals import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    INDEX_SHARD_NAME,
    SQLITE_BUSY_TIMEOUT_SECONDS,
    ConfigurableClassData,
    SqlEventLogStorageTable,
    SqliteEventLogStorage,
)

BATCH_SIZE = 200
"""How many events Dagster collects before it stores them, unless the environment says."""

BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"

_STORED_SINGLY = {*ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}
"""Types of events for which stock storage does more than insert a row."""

_OF_ASSETS = {kind.value for kind in ASSET_EVENTS}

_LAST_OF_RUN = {
    DagsterEventType.RUN_SUCCESS,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_CANCELED,
}


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """`SqliteEventLogStorage` with a `store_event_batch` of its own.

    When a batch fails, Dagster writes its events one by one. A process killed between the two
    databases leaves events in the run's log that the index does not have, as stock storage does:
    such a partition counts as not materialized.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Open or create the storage in `base_dir`."""
        return cls(inst_data=inst_data, **config_value)

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        # Made now: two threads that asked at once for the first time might make one each.
        _ = self._engine_of_index
        self._written_run: str | None = None
        self._engine_of_run: Engine | None = None
        # Dagster sends batches only where this is set, and asks for it at each event.
        os.environ.setdefault(BATCH_SIZE_VARIABLE, str(BATCH_SIZE))

    def has_table(self, table_name: str) -> bool:
        """Tell whether the index has a table; Dagster asks before most of what it reads."""
        engine = self._engine_of_index
        with engine.connect() as connection:
            return bool(engine.dialect.has_table(connection, table_name))

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """Begin a transaction of a database: of an open one, else of one opened for it."""
        engine = self._engine_of(shard)
        if engine is None:
            with super()._connect(shard) as connection:
                yield connection
            return
        with self._db_lock:
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        """Make the tables of a run's database at once, as the index has them.

        Dagster makes one after the other, and SQLite waits for the disk after each.
        """
        is_of_run = engine is self._engine_of_run
        # Where another process makes it at this moment, Dagster waits for that.
        with suppress(OperationalError):
            if is_of_run and _copy_tables(self._engine_of_index, engine):
                return
        super()._initdb(engine, for_index_shard)

    def _engine_of(self, shard: str) -> Engine | None:
        if shard == INDEX_SHARD_NAME:
            return self._engine_of_index
        return self._engine_of_run if shard == self._written_run else None

    def dispose(self) -> None:
        """Close the databases that are open."""
        super().dispose()
        self._close_run()
        self._engine_of_index.dispose()

    def wipe(self) -> None:
        """Forget all events: files of runs go."""
        self._close_run()
        super().wipe()

    @cached_property
    def _engine_of_index(self) -> Engine:
        return self._open(INDEX_SHARD_NAME)

    def _open(self, shard: str) -> Engine:
        # While it is open, no other code of this process may open its file: closing a file releases
        # all locks that the process has on it.
        return create_engine(
            self.conn_string_for_shard(shard),
            poolclass=QueuePool,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        )

    @contextmanager
    def _written(self, run_id: str) -> Iterator[None]:
        """Open the database of a run, and keep it open until that of another is written."""
        if run_id != self._written_run:
            self._close_run()
            with self._db_lock:
                self._written_run, self._engine_of_run = run_id, self._open(run_id)
        yield
        # The UI watches the file to show the log as it grows, and SQLite leaves it alone for long.
        with suppress(OSError):
            os.utime(self.path_for_shard(run_id))

    def _close_run(self) -> None:
        with self._db_lock:
            if self._engine_of_run is not None:
                self._engine_of_run.dispose()
            self._written_run, self._engine_of_run = None, None

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event, as stock storage does."""
        with self._written(event.run_id):
            super().store_event(event)
        if event.is_dagster_event and event.dagster_event_type in _LAST_OF_RUN:
            self._close_run()

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in one transaction of each run's database and one of the index.

        Parameters
        ----------
        events : sequence of EventLogEntry
            Of any runs and types, in order.

        Raises
        ------
        Exception
            What SQLite raises. Then nothing of the batch is stored.
        """
        if any(map(_is_stored_singly, events)):
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        written: dict[str, list[int]] = {}
        try:
            for run_id, rows_of_run in _by_run(events, rows).items():
                with self._written(run_id), self.run_connection(run_id) as connection:
                    ids = _insert(connection, rows_of_run)
                # After the commit: ids of a transaction rolled back may be another writer's now.
                written[run_id] = ids
            indexed = [i for i, row in enumerate(rows) if is_of_asset(row)]
            if indexed:
                self._index([events[i] for i in indexed], [rows[i] for i in indexed])
        except Exception:
            self._delete_from_run_logs(written)
            raise

    def _delete_from_run_logs(self, written: Mapping[str, Sequence[int]]) -> None:
        """Delete rows of the runs' databases, or Dagster's second try would double them.

        If that fails too, the run's log shows these events twice; the index, which statuses are
        read from, has them once.
        """
        table = SqlEventLogStorageTable
        for run_id, ids in written.items():
            try:
                with self.run_connection(run_id) as connection:
                    connection.execute(table.delete().where(table.c.id.in_(ids)))
            except SQLAlchemyError as error:
                sys.stderr.write(f"events of run {run_id} stay twice in its log: {error}\n")

    def _index(self, events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]]) -> None:
        with self.index_transaction() as connection:
            ids = _insert(connection, rows)
            self._store_asset_event_tags(connection, events, ids)
            for event, event_id in latest_by_asset(events, rows, ids):
                self._store_asset_event(connection, event, event_id)


def _copy_tables(index: Engine, of_run: Engine) -> bool:
    """Make the tables of one database in another that has none, and tell whether that was done."""
    with index.connect() as connection:
        made = "select name, sql from sqlite_master where sql is not null"
        statements = {str(name): str(sql) for name, sql in connection.exec_driver_sql(made)}
        if "alembic_version" not in statements:  # it was wiped
            return False
        revision = connection.exec_driver_sql("select version_num from alembic_version").scalar()
    with of_run.connect() as connection:
        connection.exec_driver_sql("pragma journal_mode=wal")
        connection.exec_driver_sql("begin immediate")
        if connection.exec_driver_sql("select 1 from sqlite_master").first():
            return False
        for name, statement in statements.items():
            if not name.startswith("sqlite_"):  # SQLite makes those of its own
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("insert into alembic_version values (?)", (revision,))
        connection.commit()
    return True


def _by_run(
    events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    by_run: dict[str, list[dict[str, Any]]] = {}
    for event, row in zip(events, rows, strict=True):
        by_run.setdefault(event.run_id, []).append(row)
    return by_run


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Insert rows of events, and return their ids in their order."""
    connection.execute(SqlEventLogStorageTable.insert(), rows)
    # Each is one more than the highest (sqlite.org/autoinc.html), and nobody else writes meanwhile.
    last = connection.scalars(select(func.max(SqlEventLogStorageTable.c.id))).one()
    return list(range(last - len(rows) + 1, last + 1))


def latest_by_asset(
    events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]], ids: Sequence[int]
) -> list[tuple[EventLogEntry, int]]:
    """Return the latest asset event of each asset and type, with its id, by asset.

    An asset's own row keeps these; earlier ones of a batch would only be overwritten. All writers
    keep to the order of the assets, so that no two wait for each other's rows.
    """
    latest = {
        (row["asset_key"], row["dagster_event_type"]): (event, event_id)
        for event, row, event_id in zip(events, rows, ids, strict=True)
        if is_of_asset(row)
    }
    return [latest[key] for key in sorted(latest, key=lambda key: (key[0], latest[key][1]))]


def is_of_asset(row: Mapping[str, Any]) -> bool:
    """Tell whether an event is about an asset, and so concerns more than the log of its run."""
    return row["dagster_event_type"] in _OF_ASSETS


def _is_stored_singly(event: EventLogEntry) -> bool:
    return event.is_dagster_event and event.dagster_event_type in _STORED_SINGLY
