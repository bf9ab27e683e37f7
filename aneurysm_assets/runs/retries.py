"""What a retried run leaves out: the series that the runs before it recorded, with the same input.

Dagster retries a run that lost its worker with the same range of partitions. A run that a user
starts, also of all steps of an earlier one, is no retry and takes all its series anew.
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
from aneurysm_assets.storage.table_files import names_of_tables

_AT_ONCE = 500


def remaining_after_retries(
    context: dg.AssetExecutionContext,
    settings: Settings,
    product: Artifact,
    series: Sequence[str],
) -> list[str]:
    """Return the series that a run has to take: of a retry, those not done before it.

    What is left out is no longer planned for this run either: Dagster would show a series FAILED
    that is done and planned again, where the retry fails over another.

    Parameters
    ----------
    context : dg.AssetExecutionContext
        Of the run.
    settings : Settings
        Where inputs and tables are.
    product : Artifact
        What the run makes.
    series : sequence of str
        Those the run was started with.

    Returns
    -------
    list of str
        In their order.
    """
    recorded: dict[str, str] = {}
    for run in _predecessors(context.instance, context.run):
        recorded = _recorded_by(context.instance, run, context.asset_key) | recorded
    wanted = set(series)
    there = [uid for uid in _with_file(settings, product, recorded) if uid in wanted]
    if not there:
        return list(series)
    try:
        prints = take_fingerprints(settings, there, processes=settings.workers)
    except InputError as error:
        context.log.warning(f"all series are taken again, as their input cannot be told: {error}")
        return list(series)
    now = (
        fingerprints_of_previews(prints)
        if product.name == SERIES_PREVIEW.name
        else prints[product.name]
    )
    done = {uid for uid in there if recorded[uid] == now[uid]}
    _delete_planned_events(context.instance, context.run.run_id, context.asset_key, sorted(done))
    context.log.info(f"{len(done)} of {len(series)} series were done before this retry")
    return [uid for uid in series if uid not in done]


def _predecessors(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[dg.DagsterRun]:
    """Yield the runs that a run goes on with, the latest first; of one that is no retry, none."""
    latest: dg.DagsterRun | None = run
    while latest is not None and latest.parent_run_id is not None and _goes_on(latest):
        latest = instance.get_run_by_id(latest.parent_run_id)
        if latest is not None:
            yield latest


def _goes_on(run: dg.DagsterRun) -> bool:
    # By Dagster itself, or by a user's "re-execute from failure".
    return RETRY_NUMBER_TAG in run.tags or run.tags.get(RESUME_RETRY_TAG) == "true"


def _recorded_by(
    instance: dg.DagsterInstance, run: dg.DagsterRun, key: dg.AssetKey
) -> dict[str, str]:
    """Return by series the fingerprint with which a run recorded it."""
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
    storage, table = instance.event_log_storage, SqlEventLogStorageTable
    if not isinstance(storage, SqlEventLogStorage):
        return
    for start in range(0, len(series), _AT_ONCE):
        planned = table.delete().where(
            table.c.run_id == run_id,
            table.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
            table.c.asset_key == key.to_string(),
            table.c.partition.in_(series[start : start + _AT_ONCE]),
        )
        # Two databases in SQLite, one and the same in PostgreSQL.
        with storage.run_connection(run_id) as connection:
            connection.execute(planned)
        with storage.index_connection() as connection:
            connection.execute(planned)
