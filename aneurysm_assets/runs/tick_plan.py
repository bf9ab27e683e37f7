"""What one tick of the sensor does: it registers new series and plans the runs to request.

Which series each table needs is decided in `pending_series`; how runs are made of the plan belongs
to `defs.automation`.
"""

import json
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import Any, Self

import dagster as dg

from aneurysm_assets.instance import run_locks
from aneurysm_assets.instance.data_root import claim
from aneurysm_assets.instance.input_root import record_input, require_input
from aneurysm_assets.raw.fingerprints import (
    Fingerprints,
    fingerprints_in_turn,
    take_light_fingerprints,
)
from aneurysm_assets.raw.inventory import Inventory, take_inventory
from aneurysm_assets.runs import active_runs, partitions
from aneurysm_assets.runs.active_runs import REQUEST_TAG
from aneurysm_assets.runs.pending_series import (
    Options,
    PendingSeries,
    Status,
    TableState,
    pending_series,
)
from aneurysm_assets.schema.tables import DICOM_TAGS, SERIES_TABLES
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_names import find_table

RETRY_TAG = "aneurysm_assets/automation_retry"
"""Beside `REQUEST_TAG`: the digest of the failed series that a request retries, where any."""

LISTING_SECONDS = 0.5
"""How long a tick lists directories; the next tick goes on where this one stopped."""

_STATE_BEFORE_CURSORS = "aneurysm_assets/automation"
"""Where version 0.1 kept the sensor's state; a data root of its time goes on with it."""

Retried = dict[str, dict[str, str]]
"""By table and series the fingerprint with which a failed series was retried."""


@dataclass
class SensorState:
    """What one tick leaves to the next: the sensor's cursor.

    Attributes
    ----------
    place : str
        The series at which listing goes on.
    failed : dict of str to dict of str to str
        By table and series the fingerprint with which a failed series was retried: with the same
        fingerprint it is not requested once more.
    retry : str
        The `RETRY_TAG` of the runs that the last tick requested.
    retried : dict of str to dict of str to str
        What `failed` will say once there is a run with that tag.
    vanished : list of str
        The partitions without a directory, as last told.
    """

    place: str = ""
    failed: Retried = field(default_factory=dict)
    retry: str = ""
    retried: Retried = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, cursor: str | None, instance: dg.DagsterInstance) -> Self:
        """Read the state from a cursor, without one from where version 0.1 kept it.

        What another version wrote that is not known here is passed over.
        """
        if cursor is None:
            kept = instance.daemon_cursor_storage.get_cursor_values({_STATE_BEFORE_CURSORS})
            cursor = kept.get(_STATE_BEFORE_CURSORS)
        try:
            values: Any = json.loads(cursor or "{}")
        except ValueError:
            values = {}  # the cursor of an automation sensor, which version 0.1 was
        known = {attribute.name for attribute in fields(cls)}
        return cls(**{name: value for name, value in dict(values).items() if name in known})

    def as_cursor(self) -> str:
        """Return the state as a cursor can hold it."""
        return json.dumps(asdict(self))

    def confirm_retries(self, instance: dg.DagsterInstance) -> None:
        """Count failed series as retried only where a run of the request was made."""
        if self.retry:
            requested = dg.RunsFilter(tags={RETRY_TAG: self.retry})
            if instance.get_runs(filters=requested, limit=1):
                for table, fingerprints in self.retried.items():
                    self.failed[table] = self.failed.get(table, {}) | fingerprints
        self.retry, self.retried = "", {}


@dataclass(frozen=True)
class TickPlan:
    """What a tick found to do.

    Attributes
    ----------
    state : SensorState
        For the next tick.
    registered : tuple of str
        The partitions in the order of registration.
    new : int
        How many of them this tick registered.
    vanished : tuple of str
        Partitions without a directory.
    vanished_differs : bool
        Whether those are others than an earlier tick told.
    pending : PendingSeries
        The series to take.
    combine : bool
        Whether the unified table and what follows it are to be made.
    waits_for : str
        Why nothing is requested though there may be something to do; empty where it is known.
    tags : mapping of str to str
        For the runs that are requested: by them the next tick knows what became of this one.
    """

    state: SensorState
    registered: tuple[str, ...]
    new: int
    vanished: tuple[str, ...]
    vanished_differs: bool
    pending: PendingSeries
    combine: bool
    waits_for: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def plan_tick(
    instance: dg.DagsterInstance,
    settings: Settings,
    state: SensorState,
    *,
    reads: bool = True,
    seconds: float = LISTING_SECONDS,
) -> TickPlan:
    """Register new series and find what there is to do.

    Parameters
    ----------
    instance : dg.DagsterInstance
        Keeps the record.
    settings : Settings
        Where the data are.
    state : SensorState
        What the tick before left; it is changed.
    reads : bool
        Whether series are requested; without, only what they are combined to.
    seconds : float
        How long directories are listed for changed files. Each tick lists at least one, and the
        next goes on behind the last. What is missing, and what changed in the CSVs and the
        segmentations, every tick finds.

    Returns
    -------
    TickPlan
        Nothing to do while a run or a backfill of the same assets is in progress: batches follow
        one another, and the unified table is combined between them.

    Raises
    ------
    InputError
        There is nothing to read, a CSV cannot be used, train.csv is gone though labels were read
        from it, or the instance keeps other data's progress.
    """
    require_input(settings)
    claim(instance, settings)
    partitions.require_csvs(instance, settings)
    record_input(settings)
    run_locks.end_dead_runs(instance, settings)
    state.confirm_retries(instance)
    inventory = take_inventory(settings)
    new = partitions.register(instance, inventory.series)
    registered = partitions.registered(instance)
    vanished = partitions.vanished(registered, inventory)
    vanished_differs = vanished != state.vanished
    state.vanished = vanished
    pending, combine = PendingSeries({}), False
    tags: dict[str, str] = {}
    waits_for = active_runs.in_progress(instance, settings)
    if not waits_for:
        status = {
            table.name: partitions.statuses(instance, settings, table, registered)
            for table in SERIES_TABLES
        }
        if reads:
            pending, tags, waits_for = _series_to_request(
                instance, settings, inventory, status, state, seconds=seconds
            )
        if not pending:
            combine, tags, waits_to_combine = _combination_to_request(
                instance, settings, inventory, status
            )
            waits_for = waits_for or waits_to_combine
    return TickPlan(
        state,
        tuple(registered),
        new=new,
        vanished=tuple(vanished),
        vanished_differs=vanished_differs,
        pending=pending,
        combine=combine,
        waits_for=waits_for,
        tags=tags,
    )


def _series_to_request(
    instance: dg.DagsterInstance,
    settings: Settings,
    inventory: Inventory,
    status: Mapping[str, Mapping[str, Status]],
    state: SensorState,
    *,
    seconds: float,
) -> tuple[PendingSeries, dict[str, str], str]:
    """Return the series to request, the tags of their runs, and what is waited for instead."""
    tables = _table_states(instance, settings, inventory, status, state, seconds=seconds)
    registered = list(status[DICOM_TAGS.name])
    kept = set(registered) & set(inventory.not_on_disk)
    options = Options(wanted=inventory.series, without_directory=kept, skip_unreadable=True)
    pending = pending_series(tables, options)
    upstream, *_ = partitions.latest_events(instance)
    request = _digest(upstream, pending.with_reason("missing", "changed"))
    pending, waits_for = _without_unsuccessful(instance, pending, request, registered)
    tags = {REQUEST_TAG: request}
    retried = {
        table: {uid: tables[table].current[uid] for uid in series}
        for table, series in pending.with_reason("failed").items()
    }
    if any(retried.values()):
        state.retried, state.retry = retried, _digest(upstream, retried)
        tags[RETRY_TAG] = state.retry
    return pending, tags, waits_for


def _table_states(
    instance: dg.DagsterInstance,
    settings: Settings,
    inventory: Inventory,
    status: Mapping[str, Mapping[str, Status]],
    state: SensorState,
    *,
    seconds: float,
) -> dict[str, TableState]:
    """Return what is known of each table; what `state` says of series that no longer fail goes."""
    of_headers = status[DICOM_TAGS.name]
    on_disk = [uid for uid in inventory.series if uid in of_headers]
    kept = [uid for uid in inventory.not_on_disk if uid in of_headers]
    worth_listing = [uid for uid in on_disk if of_headers[uid] in {"materialized", "failed"}]
    current: dict[str, Fingerprints] = {
        DICOM_TAGS.name: _list_some(settings, worth_listing, state, seconds),
        **take_light_fingerprints(settings, [*on_disk, *kept]),
    }
    state.failed = {
        table.name: {
            uid: fingerprint
            for uid, fingerprint in state.failed.get(table.name, {}).items()
            if uid in inventory.series and status[table.name].get(uid) == "failed"
        }
        for table in SERIES_TABLES
    }
    return partitions.table_states(instance, status, current, state.failed)


def _list_some(
    settings: Settings, series: Sequence[str], state: SensorState, seconds: float
) -> dict[str, str]:
    """Return the fingerprints of some series, from where the last tick stopped."""
    start = bisect_left(series, state.place)
    end = time.monotonic() + seconds
    listed: dict[str, str] = {}
    in_turn = fingerprints_in_turn(settings, (*series[start:], *series[:start]))
    for uid, fingerprint in in_turn:
        if listed and time.monotonic() > end:
            state.place = uid
            break
        listed[uid] = fingerprint
    return listed


def _without_unsuccessful(
    instance: dg.DagsterInstance, pending: PendingSeries, request: str, registered: Sequence[str]
) -> tuple[PendingSeries, str]:
    """Leave out what the last request was to take and did not; say what is waited for then.

    Without this the sensor would request a run that cannot begin at each tick, and a run that its
    user canceled half a minute later. A series that was taken and failed is neither.
    """
    ended = active_runs.unsuccessful(instance, "series")
    if not ended or not any(pending.with_reason("missing", "changed").values()):
        return pending, ""
    canceled = [run for run in ended if active_runs.canceled_by_user(run)]
    if ended[0].tags.get(REQUEST_TAG) == request:
        pending = pending.without(pending.reasons, ("missing", "changed"))
    for run in canceled:
        pending = pending.without(active_runs.series_of(run, registered), ("missing", "changed"))
    if any(pending.with_reason("missing", "changed").values()):
        return pending, ""
    if canceled:
        return pending, (
            f"someone to take the rest of run {canceled[0].run_id}, which was canceled"
        )
    return pending, f"someone to mend the cause for which run {ended[0].run_id} failed"


def _combination_to_request(
    instance: dg.DagsterInstance,
    settings: Settings,
    inventory: Inventory,
    status: Mapping[str, Mapping[str, Status]],
) -> tuple[bool, dict[str, str], str]:
    """Return whether to combine, the tags of its run, and what is waited for instead."""
    complete = partitions.complete_of(instance, settings, inventory, status)
    if not complete:
        return False, {}, ""
    upstream, unified, quality = partitions.latest_events(instance)
    vanished = partitions.vanished(status[DICOM_TAGS.name], inventory)
    series = partitions.digest(complete, vanished)
    on_disk = all(map(find_table, settings.dataset_tables))
    if (
        on_disk
        and unified < quality
        and partitions.is_combined(instance, settings, complete, vanished)
    ):
        return False, {}, ""
    request = _digest(upstream, series)
    ended = active_runs.unsuccessful(instance, "combine")
    # Not compared with the unified table: it may be made each time, and its quality fail.
    if ended and ended[0].tags.get(REQUEST_TAG) == request:
        return False, {}, f"someone to mend the cause for which run {ended[0].run_id} failed"
    return True, {REQUEST_TAG: request}, ""


def _digest(*parts: object) -> str:
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
