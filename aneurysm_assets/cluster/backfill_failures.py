"""What Dagster's daemon is told of runs and backfills of a cluster that fail: each in its time.

A backfill has failed once the daemon finds so twice, and no run in between. It reads first what the
runs of a backfill recorded, and then whether any is left. A retry that ends between the two has
recorded what was not seen, and is not left; nor is a run that failed a moment ago, before it is
known to be retried (dagster-io/dagster#34204). The backfill ends failed with every series done, and
what was to come after them does not. The more partitions the longer is the time between.

That a run failed is told once its state says so too. What a run records is not touched here.
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
"""After which nobody waits for it: who stored that the run failed was killed before its state."""


_UNFINISHED = [
    status.value
    for status in dg.DagsterRunStatus
    if status
    not in {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
]


class FailureRunStorage(PostgresRunStorage):
    """`PostgresRunStorage` that takes the daemon's word for a failed backfill the second time.

    The daemon looks again at a backfill that is not stored as ended, 30 seconds later, and sees
    what was recorded meanwhile.
    """

    @cached_property
    def _runs_when_failed(self) -> dict[str, set[str]]:
        """Which runs each backfill had when it was found failed."""
        return {}

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        """Store the state of a backfill; leave it as it is where it is found failed only once."""
        backfill = partition_backfill.backfill_id
        if self._is_found_failed(partition_backfill):
            runs = set(self.get_run_ids(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill})))
            if self._runs_when_failed.get(backfill) != runs:
                self._runs_when_failed[backfill] = runs
                _LOG.info("backfill %s seems to have failed: it is looked at again", backfill)
                return
        if partition_backfill.status in BULK_ACTION_TERMINAL_STATUSES:
            self._runs_when_failed.pop(backfill, None)
        super().update_backfill(partition_backfill)

    def _is_found_failed(self, backfill: PartitionBackfill) -> bool:
        """Tell whether this is a verdict, and not what has been stored before."""
        if backfill.status != BulkActionStatus.COMPLETED_FAILED or not backfill.is_asset_backfill:
            return False
        stored = self.get_backfill(backfill.backfill_id)
        return stored is not None and stored.status != BulkActionStatus.COMPLETED_FAILED


class FailureEventLogStorage(PostgresEventLogStorage):
    """`PostgresEventLogStorage` that tells of a run's failure when its state is there too."""

    @cached_property
    def _to_end_since(self) -> dict[str, float]:
        """Since when each run that failed was seen without its state, by our clock."""
        return {}

    def get_logs_for_all_runs_by_log_id(
        self,
        after_cursor: int = -1,
        dagster_event_type: dg.DagsterEventType | set[dg.DagsterEventType] | None = None,
        limit: int | None = None,
    ) -> Mapping[int, EventLogEntry]:
        """Return the events of all runs after an id, up to the first whose run is yet to end by it.

        Dagster stores that a run failed and then, some connections later, the run's new state. Its
        daemon asks here which runs failed, and asks once: one that it finds still STARTED it would
        never retry, and the run's backfill would never end.
        """
        found = super().get_logs_for_all_runs_by_log_id(after_cursor, dagster_event_type, limit)
        failed = {
            event.run_id
            for event in found.values()
            if event.dagster_event_type == dg.DagsterEventType.RUN_FAILURE
        }
        to_end = self._yet_to_end(failed)
        return dict(takewhile(lambda each: each[1].run_id not in to_end, found.items()))

    def _yet_to_end(self, failed: Set[str]) -> Set[str]:
        """Return those of some runs whose state is still to follow, of which that can be hoped."""
        unfinished = select(RunsTable.c.run_id).where(
            RunsTable.c.run_id.in_(failed),
            RunsTable.c.status.in_(_UNFINISHED),
        )
        to_end: Set[str] = set()
        if failed:
            with self.index_connection() as connection:
                to_end = set(connection.scalars(unfinished))
        # By our clock, not the one of the host that stored the event.
        now = time.monotonic()
        since = {run: self._to_end_since.get(run, now) for run in to_end}
        self._to_end_since = since
        return {run for run in to_end if now - since[run] < _STATE_FOLLOWS_WITHIN_SECONDS}
