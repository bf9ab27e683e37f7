"""Dagster's SQLite event log, writing a batch of events in one transaction a database.

Stock storage opens, writes and commits two databases for each event, which is most of what a
partition costs; it opens the index for each question, of which a run has hundreds, and SQLite moves
its log into it each time that the last connection closes; and for each statement it makes an
SQLAlchemy engine, which compiles it anew. What the events say is not touched here, nor how they are
read. That of PostgreSQL is in `postgresql`, and shares what is public here.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any, Self

from dagster import EventLogEntry
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, Pool, QueuePool

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
"""Events that Dagster collects before it hands them on, where nobody says otherwise."""

BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"

_SINGLY = {*ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}
"""Events for which storage does more than insert a row: they keep the stock way."""

_ENGINES = 8
"""Kept at most: one a run's database, and a server reads those of many runs."""

INSERT = SqlEventLogStorageTable.insert().returning(
    SqlEventLogStorageTable.c.id, sort_by_parameter_order=True
)
"""Inserts rows of events and returns their ids in the order of the rows."""


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """`SqliteEventLogStorage` with a `store_event_batch` of its own.

    Where a batch fails, Dagster writes its events one by one. A process killed between the two
    databases leaves events in the run's log that the index does not know, as stock storage does:
    such a partition counts as not materialised.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Open or create the storage in `base_dir`."""
        return cls(inst_data=inst_data, **config_value)

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Before the rest, which connects.
        self._engine_of_run = lru_cache(_ENGINES)(self._make_engine)
        super().__init__(base_dir, inst_data)
        # In this thread: two that asked for the first time at once might make one each.
        _ = self._engine_of_index
        # Dagster sends batches only where this is set, and asks for it at each event.
        os.environ.setdefault(BATCH_SIZE_VARIABLE, str(BATCH_SIZE))

    def has_table(self, table_name: str) -> bool:
        """Tell whether the index has a table; Dagster asks before most of what it reads."""
        engine = self._engine_of_index
        with engine.connect() as connection:
            return bool(engine.dialect.has_table(connection, table_name))

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """Open a database for one transaction, as stock storage does, with an engine that is kept.

        The index stays open. A run's database is closed each time: only then is its file changed,
        which is what the UI watches to show the run's log as it grows.
        """
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def dispose(self) -> None:
        """Close the index."""
        super().dispose()
        self._engine_of_index.dispose()

    @cached_property
    def _engine_of_index(self) -> Engine:
        # Nothing in a process that has it open may open its file otherwise: closing a file gives up
        # the locks of all who have it open in the process.
        return self._make_engine(INDEX_SHARD_NAME, poolclass=QueuePool)

    def _engine(self, shard: str) -> Engine:
        return self._engine_of_index if shard == INDEX_SHARD_NAME else self._engine_of_run(shard)

    def _make_engine(self, shard: str, poolclass: type[Pool] = NullPool) -> Engine:
        return create_engine(
            self.conn_string_for_shard(shard),
            poolclass=poolclass,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        )

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
            for run_id, of_run in _by_run(events, rows).items():
                with self.run_connection(run_id) as connection:
                    ids = list(connection.scalars(INSERT, of_run))
                # Only now: what was rolled back is not ours to delete, whoever has its ids.
                written[run_id] = ids
            indexed = [i for i, event in enumerate(events) if is_asset_event(event)]
            if indexed:
                self._index([events[i] for i in indexed], [rows[i] for i in indexed])
        except Exception:
            self._take_back(written)
            raise

    def _take_back(self, written: Mapping[str, Sequence[int]]) -> None:
        """Delete rows of the runs' databases, or Dagster's second try would double them.

        Where that fails too, they stay: the run's log shows them twice, the index, which is what
        counts, once.
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
            ids = list(connection.scalars(INSERT, rows))
            self._store_asset_event_tags(connection, events, ids)
            for event, event_id in latest_of_assets(events, ids):
                self._store_asset_event(connection, event, event_id)


def _by_run(
    events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    by_run: dict[str, list[dict[str, Any]]] = {}
    for event, row in zip(events, rows, strict=True):
        by_run.setdefault(event.run_id, []).append(row)
    return by_run


def latest_of_assets(
    events: Sequence[EventLogEntry], ids: Sequence[int]
) -> list[tuple[EventLogEntry, int]]:
    """Return the latest asset event of each asset and type, with its id, by asset.

    An asset's own row keeps these: the earlier ones of a batch would only be overwritten. In the
    order of the assets, so that two writers never wait for each other's rows.
    """
    latest = {
        (str(event.get_dagster_event().asset_key), event.dagster_event_type): (event, event_id)
        for event, event_id in zip(events, ids, strict=True)
        if is_asset_event(event)
    }
    return sorted(
        latest.values(), key=lambda each: (str(each[0].get_dagster_event().asset_key), each[1])
    )


def is_asset_event(event: EventLogEntry) -> bool:
    """Tell whether an event is about an asset, and so concerns more than the log of its run."""
    return event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS


def _is_stored_singly(event: EventLogEntry) -> bool:
    return event.is_dagster_event and event.dagster_event_type in _SINGLY
