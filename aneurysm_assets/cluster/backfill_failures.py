"""Storages that tell Dagster's daemon of failed runs and backfills only once that is certain.

The daemon reads what the runs of a backfill recorded, and then whether any run is unfinished. It
misses a retry that ends between the two, and a run that failed but is not yet known to be retried
(dagster-io/dagster#34204); the more partitions, the longer the time between. The backfill would end
failed though every series is materialized, and its dependants would not run.

What a run records belongs to `postgresql`.
"""

import logging
import time
from collections.abc import Mapping, Set
from functools import cached_property
from itertools import takewhile

import dagster as dg
from dagster import EventLogEntry
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage
from sqlalchemy import select

from aneurysm_assets.cluster.dagster_internals import (
    BACKFILL_ID_TAG,
    BULK_ACTION_TERMINAL_STATUSES,
    PartitionBackfill,
    RunsTable,
)
from aneurysm_assets.dagster_internals import BulkActionStatus

_LOG = logging.getLogger(__name__)

_STATE_FOLLOWS_WITHIN_SECONDS = 60
"""After this, the process that stored the failure is taken to be dead, and no state to follow."""


_UNFINISHED = [
    status.value
    for status in dg.DagsterRunStatus
    if status
    not in {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
]


class FailureRunStorage(PostgresRunStorage):
    """`PostgresRunStorage` that stores a backfill as failed when the daemon finds so twice.

    The daemon looks at an unfinished backfill every 30 seconds. It counts as failed when no run was
    added between two such findings.
    """

    @cached_property
    def _runs_when_failed(self) -> dict[str, set[str]]:
        """Run ids of each backfill when it was last found failed."""
        return {}

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        """Store the state of a backfill, unless it is found failed for the first time."""
        backfill = partition_backfill.backfill_id
        if self._is_found_failed(partition_backfill):
            runs = set(self.get_run_ids(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill})))
            if self._runs_when_failed.get(backfill) != runs:
                self._runs_when_failed[backfill] = runs
                _LOG.info(
                    "backfill %s seems to have failed: the daemon checks it once more", backfill
                )
                return
        if partition_backfill.status in BULK_ACTION_TERMINAL_STATUSES:
            self._runs_when_failed.pop(backfill, None)
        super().update_backfill(partition_backfill)

    def _is_found_failed(self, backfill: PartitionBackfill) -> bool:
        """Tell whether this state is failed and the stored one is not."""
        if backfill.status != BulkActionStatus.COMPLETED_FAILED or not backfill.is_asset_backfill:
            return False
        stored = self.get_backfill(backfill.backfill_id)
        return stored is not None and stored.status != BulkActionStatus.COMPLETED_FAILED


class FailureEventLogStorage(PostgresEventLogStorage):
    """`PostgresEventLogStorage` that shows a run's failure once the run's state is stored too."""

    @cached_property
    def _without_state_since(self) -> dict[str, float]:
        """When each failed run was first seen without its new state, by the monotonic clock."""
        return {}

    def get_logs_for_all_runs_by_log_id(
        self,
        after_cursor: int = -1,
        dagster_event_type: dg.DagsterEventType | set[dg.DagsterEventType] | None = None,
        limit: int | None = None,
    ) -> Mapping[int, EventLogEntry]:
        """Return the events of all runs after an id, up to the first failure without its state.

        Dagster stores the event that a run failed, and some connections later the run's new state.
        Its daemon asks here once which runs failed. It would never retry one that it still finds
        STARTED, and the run's backfill would never end.
        """
        found = super().get_logs_for_all_runs_by_log_id(after_cursor, dagster_event_type, limit)
        failed = {
            event.run_id
            for event in found.values()
            if event.dagster_event_type == dg.DagsterEventType.RUN_FAILURE
        }
        stateless = self._without_state(failed)
        return dict(takewhile(lambda each: each[1].run_id not in stateless, found.items()))

    def _without_state(self, failed: Set[str]) -> Set[str]:
        """Return the failed runs whose new state is not stored yet and may still come."""
        unfinished = select(RunsTable.c.run_id).where(
            RunsTable.c.run_id.in_(failed),
            RunsTable.c.status.in_(_UNFINISHED),
        )
        stateless: Set[str] = set()
        if failed:
            with self.index_connection() as connection:
                stateless = set(connection.scalars(unfinished))
        # Not the clock of the host that stored the event, which may differ.
        now = time.monotonic()
        since = {run: self._without_state_since.get(run, now) for run in stateless}
        self._without_state_since = since
        return {run for run in stateless if now - since[run] < _STATE_FOLLOWS_WITHIN_SECONDS}
