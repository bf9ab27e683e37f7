"""When a backfill of a cluster has failed: once Dagster finds so twice, and no run in between.

Dagster's daemon reads first what the runs of a backfill recorded, and then whether any is left. A
retry that ends between the two has recorded what was not seen, and is not left; nor is a run that
failed a moment ago, before it is known to be retried (dagster-io/dagster#34204). The backfill ends
failed with every series done, and what was to come after them does not. The more partitions the
longer is the time between. What a run records is not touched here.
"""

import logging
from functools import cached_property

import dagster as dg
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster_postgres import PostgresRunStorage

_LOG = logging.getLogger(__name__)


class BackfillRunStorage(PostgresRunStorage):
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
