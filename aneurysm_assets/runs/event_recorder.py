"""How the series of a run are recorded as Dagster's events, with their metadata.

A batch step records each series itself, with its own metadata, the moment its file is safe.
"""

import base64
import logging
import os
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from uuid import uuid4

import dagster as dg
from sqlalchemy.exc import DBAPIError

from aneurysm_assets.dagster_internals import (
    DATA_VERSION_TAG,
    AssetMaterializationPlannedData,
    DagsterEventBatchMetadata,
    StepMaterializationData,
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
    step = context.get_step_execution_context().step.key
    events = [
        dg.DagsterEvent.build_asset_materialization_planned_event(
            context.run.job_name,
            step,
            AssetMaterializationPlannedData(context.asset_key, partition=uid),
        )
        for uid in series
    ]
    _report_together(context, events)


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
        with deferred_signals():
            pending, self._pending = self._pending, []
            _report_together(self._context, list(_materialized(self._context, pending)))
            for uid, result in pending:
                self._reporter.done(self._table, uid, result)


def _materialized(
    context: dg.AssetExecutionContext, results: Sequence[tuple[str, SeriesResult]]
) -> Iterator[dg.DagsterEvent]:
    """Yield the events that Dagster makes of materializations, without logging each.

    What is the same in all is checked once: Dagster checks every value of every event.
    """
    step = context.get_step_execution_context()
    any_series = dg.AssetMaterialization(context.asset_key)
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name=step.job_name,
        step_handle=step.step.handle,
        node_handle=step.step.node_handle,
        step_kind_value=step.step.kind.value,
        logging_tags=step.event_tags,
        event_specific_data=StepMaterializationData(any_series, []),
        message=f"Materialized value {any_series.label}.",
        pid=os.getpid(),
    )
    for uid, result in results:
        of_series = any_series._replace(
            partition=uid,
            metadata={name: _value(value) for name, value in _metadata(result).items()},
            tags={DATA_VERSION_TAG: result.fingerprint} if result.fingerprint else {},
        )
        yield event._replace(event_specific_data=StepMaterializationData(of_series, []))


def _value(value: dg.MetadataValue | float | str) -> dg.MetadataValue:
    return value if isinstance(value, dg.MetadataValue) else _plain_value(value)


@lru_cache(maxsize=1_000, typed=True)
def _plain_value(value: float | str) -> dg.MetadataValue:
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(value)


def _report_together(context: dg.AssetExecutionContext, events: Sequence[dg.DagsterEvent]) -> None:
    batch_id = str(uuid4())
    for index, event in enumerate(events):
        context.instance.report_dagster_event(
            event,
            context.run.run_id,
            logging.DEBUG,
            batch_metadata=DagsterEventBatchMetadata(batch_id, index == len(events) - 1),
        )


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
