"""Dagster's PostgreSQL storage, writing a batch of events in one transaction.

Stock storage opens two connections per event; it does so for a batch too, except for one of
materializations, and where such a batch fails halfway Dagster's second try doubles its events. What
events say and how they are read stays; `backfill_failures` has what Dagster learns of failed runs.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self, TypedDict, Unpack

from dagster import EventLogEntry
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import Connection, NullPool, inspect, select, text

from aneurysm_assets.cluster.backfill_failures import FailureEventLogStorage, FailureRunStorage
from aneurysm_assets.cluster.dagster_internals import (
    PgTokenProvider,
    create_pg_engine,
    get_token_provider_from_config,
    pg_url_from_config,
    retry_pg_connection_fn,
)
from aneurysm_assets.dagster_internals import (
    ASSET_CHECK_EVENTS,
    ConfigurableClassData,
    SqlEventLogStorageTable,
)
from aneurysm_assets.instance.event_log import (
    BATCH_SIZE,
    BATCH_SIZE_VARIABLE,
    is_of_asset,
    latest_by_asset,
)

_INSERT = SqlEventLogStorageTable.insert().returning(
    SqlEventLogStorageTable.c.id, sort_by_parameter_order=True
)
"""Inserts rows of events and returns their ids in the order of the rows."""

_WRITERS = 7_021_462_094_371_985_401
"""The advisory lock of writers: any number that nobody else locks in this database."""

_MAKERS = _WRITERS + 1
"""The advisory lock of who makes the tables."""

_LAST_TABLES = frozenset({"runs", "instance_info", "event_logs", "jobs"})
"""Of each of Dagster's storages; where they are there, all are."""

_LOOK_AGAIN_AFTER_SECONDS = 0.2

_IDLE_MILLISECONDS = 30_000
"""After this PostgreSQL ends a silent writer. One whose host lost its power would otherwise keep
the lock until the system gives up its connection, after two hours."""


class _Database(TypedDict):
    """Which database a storage is in, as stock storages are told."""

    postgres_url: str
    should_autocreate_tables: bool
    token_provider: PgTokenProvider | None


def _database(config_value: Mapping[str, Any]) -> _Database:
    return {
        "postgres_url": pg_url_from_config(config_value),
        "should_autocreate_tables": config_value.get("should_autocreate_tables", True),
        "token_provider": get_token_provider_from_config(config_value),
    }


class BatchingPostgresEventLogStorage(FailureEventLogStorage):
    """`PostgresEventLogStorage` that writes events in transactions, one transaction at a time.

    Events get ascending ids as they are inserted, and readers see them once they are committed.
    Dagster's daemon and its cache of partition statuses ask for events after the highest id that
    they saw, and would never see an event that is committed later with a lower id. So one writer
    waits for another. When a batch fails, Dagster writes its events one by one; those stored after
    all, as the connection broke while the commit was being confirmed, are not stored twice.
    """

    def __init__(
        self,
        *,
        inst_data: ConfigurableClassData | None = None,
        **database: Unpack[_Database],
    ) -> None:
        # Before the rest, which connects.
        self._writing = threading.local()
        super().__init__(inst_data=inst_data, **database)
        self._known_tables: set[str] = set()
        self._in_doubt: set[str] = set()
        # Dagster sends batches only where this is set, and asks for it at each event.
        os.environ.setdefault(BATCH_SIZE_VARIABLE, str(BATCH_SIZE))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Open or create the storage at the URL."""
        return cls(inst_data=inst_data, **_database(config_value))

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event."""
        if event.is_dagster_event and event.dagster_event_type in ASSET_CHECK_EVENTS:
            # Storage does more for them than insert a row.
            with self._as_writer():
                super().store_event(event)
            return
        self._store([event])

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in one transaction.

        Parameters
        ----------
        events : sequence of EventLogEntry
            Of any runs and types, in order.

        Raises
        ------
        Exception
            What PostgreSQL raises. Then all or nothing of the batch is stored, and events given
            once more, together or singly, are stored once.
        """
        if any(event.dagster_event_type in ASSET_CHECK_EVENTS for event in events):
            for event in events:
                self.store_event(event)
            return
        self._store(events)

    def _store(self, events: Sequence[EventLogEntry]) -> None:
        rows = [self._event_to_row(event) for event in events]
        texts = {row["event"] for row in rows}
        in_doubt = not self._in_doubt.isdisjoint(texts)
        self._in_doubt.update(texts)
        with self._as_writer() as connection:
            # With the lock held, the transaction of a broken connection is known to be over.
            stored = _stored(connection, rows) if in_doubt else set()
            remaining = [
                each for each in zip(events, rows, strict=True) if each[1]["event"] not in stored
            ]
            if remaining:
                self._insert(connection, *map(list, zip(*remaining, strict=True)))
        self._in_doubt.difference_update(texts)

    def _insert(
        self, connection: Connection, events: list[EventLogEntry], rows: list[dict[str, Any]]
    ) -> None:
        ids = list(connection.scalars(_INSERT, rows))
        asset_events = [
            (event, event_id)
            for event, row, event_id in zip(events, rows, ids, strict=True)
            if is_of_asset(row)
        ]
        if asset_events:
            self._store_asset_event_tags(connection, *zip(*asset_events, strict=True))
        for event, event_id in latest_by_asset(events, rows, ids):
            self._store_asset_event(connection, event, event_id)

    @contextmanager
    def _as_writer(self) -> Iterator[Connection]:
        """Yield a transaction; no other connection writes events until it ends."""
        with self.index_transaction() as connection:
            # Both end with the transaction: PgBouncer may hand its connection to another after.
            connection.execute(
                text(
                    "SELECT set_config('idle_in_transaction_session_timeout', "
                    f"'{_IDLE_MILLISECONDS}', true), pg_advisory_xact_lock({_WRITERS})"
                )
            )
            self._writing.connection = connection
            try:
                yield connection
            finally:
                self._writing.connection = None

    def _connect(self) -> AbstractContextManager[Connection]:
        """Return the connection of the transaction that this thread is in, or another.

        Each writer that waits for the lock occupies a connection of PgBouncer's pool. If the one
        that holds the lock needed a second one and the pool was used up, all would wait for ever.
        """
        connection = getattr(self._writing, "connection", None)
        return super()._connect() if connection is None else nullcontext(connection)

    def has_table(self, table_name: str) -> bool:
        """Tell whether a table exists; Dagster asks at each batch, a connection answers once."""
        if table_name not in self._known_tables and super().has_table(table_name):
            self._known_tables.add(table_name)
        return table_name in self._known_tables


def _stored(connection: Connection, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Return the texts of those events that are stored."""
    table = SqlEventLogStorageTable
    found = select(table.c.event).where(
        table.c.run_id.in_({row["run_id"] for row in rows}),
        table.c.event.in_([row["event"] for row in rows]),
    )
    return set(connection.scalars(found))


@contextmanager
def _one_maker_of_tables(database: _Database) -> Iterator[None]:
    """Let one process at a time make the tables, where they are missing.

    The processes of a new cluster begin together. Dagster's own storages try again for a second,
    and after one of the errors that PostgreSQL has for two makers only; others end the process.
    """
    if not database["should_autocreate_tables"]:
        yield
        return
    engine = create_pg_engine(
        database["postgres_url"], database["token_provider"], poolclass=NullPool
    )
    while True:
        with retry_pg_connection_fn(engine.connect) as connection:
            made = _LAST_TABLES.issubset(inspect(connection).get_table_names())
            if not made and connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_MAKERS})")):
                yield
                return
        if made:
            break
        # Without a connection: PgBouncer's pool may have none left for the one that makes them.
        time.sleep(_LOOK_AGAIN_AFTER_SECONDS)
    yield


class PostgresStorage(DagsterPostgresStorage):
    """`DagsterPostgresStorage` with the event log above and `FailureRunStorage`.

    Processes that begin at once on an empty database wait for the one that makes its tables.
    """

    def __init__(
        self,
        *,
        inst_data: ConfigurableClassData | None = None,
        **database: Unpack[_Database],
    ) -> None:
        with _one_maker_of_tables(database):
            super().__init__(inst_data=inst_data, **database)
            self._event_log_storage = BatchingPostgresEventLogStorage(**database)
            self._run_storage = FailureRunStorage(**database)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Open or create the storage at the URL."""
        return cls(inst_data=inst_data, **_database(config_value))

    @property
    def event_storage_data(self) -> ConfigurableClassData | None:
        """How another process opens the same event log."""
        if self.inst_data is None:
            return None
        return ConfigurableClassData(
            BatchingPostgresEventLogStorage.__module__,
            BatchingPostgresEventLogStorage.__name__,
            self.inst_data.config_yaml,
        )
