"""Which series a retried run leaves out: those that earlier runs recorded with the same input.

Dagster retries a run that lost its worker with the same range of partitions. A run that a user
starts, also of all steps of an earlier one, is no retry and takes all its series.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from aneurysm_assets.dagster_internals import (
    DATA_VERSION_TAG,
    RESUME_RETRY_TAG,
    RETRY_NUMBER_TAG,
    SqlEventLogStorage,
    SqlEventLogStorageTable,
)
from aneurysm_assets.errors import InputError
from aneurysm_assets.raw.fingerprints import fingerprints_of_previews, take_fingerprints
from aneurysm_assets.schema.tables import SERIES_PREVIEW, Artifact, Table
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_names import names_of_tables

_SERIES_PER_STATEMENT = 500
"""Well below the number of variables that a statement in SQLite may have."""


def remaining_after_retries(
    context: dg.AssetExecutionContext,
    settings: Settings,
    product: Artifact,
    series: Sequence[str],
) -> list[str]:
    """Return the series that a run has to take; a retry skips those that are materialized already.

    The plan of this run for the series it skips is deleted, too: where the retry fails over another
    series, Dagster would show a series as failed that is materialized and was planned once more.

    Parameters
    ----------
    context : dg.AssetExecutionContext
        The context of a step of the run.
    settings : Settings
        Where the input and the tables are.
    product : Artifact
        What the run makes.
    series : sequence of str
        The SeriesInstanceUIDs with which the run was started.

    Returns
    -------
    list of str
        Those to take, in the same order.
    """
    recorded: dict[str, str] = {}
    for run in _predecessors(context.instance, context.run):
        recorded = _fingerprints_recorded_by(context.instance, run, context.asset_key) | recorded
    wanted = set(series)
    on_disk = [uid for uid in _with_file(settings, product, recorded) if uid in wanted]
    if not on_disk:
        return list(series)
    try:
        prints = take_fingerprints(settings, on_disk, processes=settings.workers)
    except InputError as error:
        context.log.warning(f"the run takes all series, as it cannot compare their input: {error}")
        return list(series)
    current = (
        fingerprints_of_previews(prints)
        if product.name == SERIES_PREVIEW.name
        else prints[product.name]
    )
    materialized = {uid for uid in on_disk if recorded[uid] == current[uid]}
    _delete_planned_events(
        context.instance, context.run.run_id, context.asset_key, sorted(materialized)
    )
    context.log.info(
        f"{len(materialized)} of {len(series)} series were materialized before this retry"
    )
    return [uid for uid in series if uid not in materialized]


def _predecessors(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[dg.DagsterRun]:
    """Yield the runs that a run continues, the latest first; none where the run is no retry."""
    latest: dg.DagsterRun | None = run
    while latest is not None and latest.parent_run_id is not None and _is_retry(latest):
        latest = instance.get_run_by_id(latest.parent_run_id)
        if latest is not None:
            yield latest


def _is_retry(run: dg.DagsterRun) -> bool:
    # Dagster itself started it, or a user did by "re-execute from failure".
    return RETRY_NUMBER_TAG in run.tags or run.tags.get(RESUME_RETRY_TAG) == "true"


def _fingerprints_recorded_by(
    instance: dg.DagsterInstance, run: dg.DagsterRun, key: dg.AssetKey
) -> dict[str, str]:
    """Return the fingerprint with which a run recorded each series."""
    recorded: dict[str, str] = {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        materialization = entry.asset_materialization
        if materialization is None or materialization.asset_key != key:
            continue
        if materialization.partition is not None:
            tags = materialization.tags or {}
            recorded[materialization.partition] = tags.get(DATA_VERSION_TAG, "")
    return recorded


def _with_file(settings: Settings, product: Artifact, recorded: dict[str, str]) -> list[str]:
    directory = settings.interim / product.name
    if isinstance(product, Table):
        return sorted(recorded.keys() & names_of_tables(directory))
    return [uid for uid in recorded if (directory / f"{uid}.png").is_file()]


def _delete_planned_events(
    instance: dg.DagsterInstance, run_id: str, key: dg.AssetKey, series: Sequence[str]
) -> None:
    """Delete from the event log that a run plans some series of an asset, and nothing else.

    Dagster has no event that takes a plan back, and takes the latest plan of a partition for its
    state as soon as the run has failed.
    """
    storage, table = instance.event_log_storage, SqlEventLogStorageTable
    if not isinstance(storage, SqlEventLogStorage):
        return
    for start in range(0, len(series), _SERIES_PER_STATEMENT):
        planned = table.delete().where(
            table.c.run_id == run_id,
            table.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
            table.c.asset_key == key.to_string(),
            table.c.partition.in_(series[start : start + _SERIES_PER_STATEMENT]),
        )
        # Two databases in SQLite, one and the same in PostgreSQL.
        with storage.run_connection(run_id) as connection:
            connection.execute(planned)
        with storage.index_connection() as connection:
            connection.execute(planned)
