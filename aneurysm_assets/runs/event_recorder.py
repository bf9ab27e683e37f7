"""How the series of a run are recorded as Dagster's events, with their metadata.

A batch step records each series itself, with its own metadata, the moment its file is safe.
"""

import base64
import logging
import time
from collections.abc import Sequence
from uuid import uuid4

import dagster as dg
from sqlalchemy.exc import DBAPIError

from aneurysm_assets.dagster_internals import (
    DATA_VERSION_TAG,
    AssetMaterializationPlannedData,
    DagsterEventBatchMetadata,
)
from aneurysm_assets.instance.run_locks import CARRIER_TAG
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.runs.deferred_signals import deferred_signals
from aneurysm_assets.runs.partitions import INTERNALS
from aneurysm_assets.runs.resources import Reporter
from aneurysm_assets.schema.tables import Artifact
from aneurysm_assets.storage.table_files import StoredPicture

_LOG = logging.getLogger(__name__)

Metadata = dict[str, dg.MetadataValue | int | float | str]

_BATCH = 100
"""Series recorded in one transaction, at most."""

_BATCH_SECONDS = 0.5
"""A series waits no longer than about this for its record."""

_DATABASE_PATIENCE_SECONDS = 600
"""How long a run of a cluster waits for a database that does not answer."""


def record_planned(context: dg.AssetExecutionContext, series: Sequence[str]) -> None:
    """Record which partitions a run will make, as Dagster does for a run that has partitions.

    Without these events a series that fails, or is cut off, would leave no trace in its status.

    Parameters
    ----------
    context : dg.AssetExecutionContext
        The context of the step that makes them.
    series : sequence of str
        Their SeriesInstanceUIDs.
    """
    batch_id = str(uuid4())
    for index, uid in enumerate(series):
        event = dg.DagsterEvent.build_asset_materialization_planned_event(
            context.run.job_name,
            context.get_step_execution_context().step.key,
            AssetMaterializationPlannedData(context.asset_key, partition=uid),
        )
        context.instance.report_dagster_event(
            event,
            context.run.run_id,
            logging.DEBUG,
            batch_metadata=DagsterEventBatchMetadata(batch_id, index == len(series) - 1),
        )


class EventRecorder:
    """Records materialized series in batches: many in one transaction, none later than a moment.

    A kill can lose the record of series whose files are whole; the next run reads them once more.

    Parameters
    ----------
    context : dg.AssetExecutionContext
        The context of the step that makes the series.
    reporter : Reporter
        Told of each series after it is recorded.
    table : Artifact
        What the step makes.
    """

    def __init__(
        self, context: dg.AssetExecutionContext, reporter: Reporter, table: Artifact
    ) -> None:
        self._context = context
        self._reporter = reporter
        self._table = table
        self._pending: list[tuple[str, SeriesResult]] = []
        self._since = 0.0

    def add(self, series_instance_uid: str, result: SeriesResult) -> None:
        """Accept a series whose file is safe on disk."""
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append((series_instance_uid, result))
        if result.seconds >= _BATCH_SECONDS:
            # The next may take as long, and where this process reads it nobody asks meanwhile.
            self.flush()
        else:
            self.flush_if_due()

    def flush_if_due(self) -> None:
        """Record the pending series where they are many, or have waited long enough."""
        waited = time.monotonic() - self._since
        if self._pending and (len(self._pending) >= _BATCH or waited >= _BATCH_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Record all pending series; a Ctrl-C meanwhile takes effect after.

        Raises
        ------
        dg.DagsterExecutionInterruptedError
            Dagster has ended this run meanwhile: a retry makes the pending series.
        """
        if self._pending:
            _stop_if_ended(self._context)
        batch_id = str(uuid4())
        with deferred_signals():
            pending, self._pending = self._pending, []
            for index, (uid, result) in enumerate(pending):
                dg.DagsterEvent.asset_materialization(
                    self._context.get_step_execution_context(),
                    dg.AssetMaterialization(
                        self._context.asset_key,
                        partition=uid,
                        metadata=_metadata(result),
                        tags={DATA_VERSION_TAG: result.fingerprint} if result.fingerprint else {},
                    ),
                    DagsterEventBatchMetadata(batch_id, index == len(pending) - 1),
                )
            for uid, result in pending:
                self._reporter.done(self._table, uid, result)


def materialize_result(result: SeriesResult) -> dg.MaterializeResult[None]:
    """Return what the step of a run of one partition yields: the same that a batch records."""
    return dg.MaterializeResult(metadata=_metadata(result), data_version=_data_version(result))


def _stop_if_ended(context: dg.AssetExecutionContext) -> None:
    """Stop where Dagster believed the worker of this run dead: a retry has the rest by now.

    A worker that was cut off from the network, or frozen, would go on where it stopped, and record
    what the retry records too.
    """
    if CARRIER_TAG not in context.run.tags:
        return
    run = _latest_run(context)
    if run is None or run.is_finished:
        raise dg.DagsterExecutionInterruptedError


def _latest_run(context: dg.AssetExecutionContext) -> dg.DagsterRun | None:
    """Return the run as Dagster's database has it, waiting where the database is away.

    What could not be recorded would be lost, and the run fail for good: a step that fails is not
    retried, as the same input would fail again.
    """
    until = time.monotonic() + _DATABASE_PATIENCE_SECONDS
    while True:
        try:
            run: dg.DagsterRun | None = context.instance.get_run_by_id(context.run.run_id)
        except Exception as error:
            # Storage wraps it in a class of a package that only a cluster has, after some seconds.
            if not isinstance(error.__cause__ or error, DBAPIError) or time.monotonic() > until:
                raise
            _LOG.warning("the database does not answer: waiting for it")
        else:
            return run


def _data_version(result: SeriesResult) -> dg.DataVersion | None:
    return dg.DataVersion(result.fingerprint) if result.fingerprint else None


def _metadata(result: SeriesResult) -> Metadata:
    # The picture stands first: the UI shows it behind a link, which users are to see at once.
    metadata: Metadata = _picture_metadata(result.picture) if result.picture is not None else {}
    metadata |= {
        **result.about,
        "files": result.files,
        "unreadable_files": result.unreadable_files,
        **({"bytes": result.bytes} if result.bytes else {}),
        "seconds": round(result.seconds, 4),
    }
    if result.table is not None:
        metadata["dagster/partition_row_count"] = metadata["rows"] = result.table.rows
        metadata["format"] = result.table.format
        metadata["path"] = dg.MetadataValue.path(str(result.table.path))
    if result.fast_files is not None:
        metadata["fast_files"] = result.fast_files
    if result.notes:
        metadata["notes"] = dg.MetadataValue.text("\n".join(result.notes))
    if result.csv_sha256:
        metadata[INTERNALS] = dg.MetadataValue.json({"csv_sha256": result.csv_sha256})
    return metadata


def _picture_metadata(picture: StoredPicture) -> Metadata:
    encoded = base64.b64encode(picture.thumbnail).decode("ascii")
    return {
        "preview": dg.MetadataValue.md(
            f"![{picture.description}](data:image/jpeg;base64,{encoded})"
        ),
        "points": picture.points,
        "points_shown": picture.points_shown,
        "layout": picture.layout,
        "picture_bytes": picture.size,
        "path": dg.MetadataValue.path(str(picture.path)),
    }
