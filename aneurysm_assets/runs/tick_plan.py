"""What there is to do by itself now: new series, what to take and why, whether to combine.

A survey registers new series and otherwise only looks; who turns it into runs is `automation`.
"""

import json
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import Literal, Self

import dagster as dg

from aneurysm_assets.errors import InputError
from aneurysm_assets.instance import run_locks
from aneurysm_assets.instance.data_root import claim
from aneurysm_assets.raw.fingerprints import (
    Fingerprints,
    fingerprints_in_turn,
    take_light_fingerprints,
)
from aneurysm_assets.raw.inventory import Inventory, take_inventory
from aneurysm_assets.runs import active_runs, partitions
from aneurysm_assets.runs.active_runs import REQUEST_TAG
from aneurysm_assets.runs.partitions import Status
from aneurysm_assets.schema.tables import (
    DICOM_TAGS,
    LABELS,
    SERIES_TABLES,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.fingerprint import (
    UNREADABLE,
    fingerprint_of_rows,
)
from aneurysm_assets.storage.table_files import find_table

Reason = Literal["missing", "changed", "failed"]

RETRY_TAG = "aneurysm_assets/automation_retry"
"""Beside `REQUEST_TAG`: the digest of the failed series among it, where there are any."""

LISTING_SECONDS = 0.5
"""How long a survey lists directories; the next one goes on where it stopped."""

_MEMORY = "aneurysm_assets/automation"


@dataclass
class SensorState:
    """What one survey leaves to the next.

    Attributes
    ----------
    place : str
        The series at which listing goes on.
    failed : dict of str to dict of str to str
        By table and series the fingerprint with which a failed series was taken again: with the
        same it is not requested once more.
    retry : str
        What stands in `RETRY_TAG` on the runs that the survey asked for.
    retried : dict of str to dict of str to str
        What `failed` is to say once there is such a run.
    vanished : list of str
        The partitions without a directory, as last told.
    """

    place: str = ""
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    retry: str = ""
    retried: dict[str, dict[str, str]] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, instance: dg.DagsterInstance) -> Self:
        """Read it from the instance; a fresh one where there is none.

        What another version left that is not known here is passed over.
        """
        text = instance.daemon_cursor_storage.get_cursor_values({_MEMORY}).get(_MEMORY)
        known = {of.name for of in fields(cls)}
        kept = json.loads(text) if text else {}
        return cls(**{name: value for name, value in kept.items() if name in known})

    def save(self, instance: dg.DagsterInstance) -> None:
        """Keep it in the instance."""
        instance.daemon_cursor_storage.set_cursor_values({_MEMORY: json.dumps(asdict(self))})

    def settle(self, instance: dg.DagsterInstance) -> None:
        """Believe that failed series were taken again only where a run of the request was made."""
        if self.retry:
            asked = dg.RunsFilter(tags={RETRY_TAG: self.retry})
            if instance.get_runs(filters=asked, limit=1):
                for table, of_table in self.retried.items():
                    self.failed[table] = self.failed.get(table, {}) | of_table
        self.retry, self.retried = "", {}


@dataclass(frozen=True)
class TickPlan:
    """What there is to do.

    Attributes
    ----------
    registered : tuple of str
        The partitions in the order of registration.
    new : int
        How many of them this survey registered.
    vanished : tuple of str
        Partitions without a directory.
    vanished_differs : bool
        Whether those are others than a survey told before.
    take : mapping of str to mapping of Reason to tuple of str
        By table and reason the series to take. Each series has one reason a table.
    combine : bool
        Whether the unified table and what follows it are to be made.
    waits_for : str
        Why nothing is to be done though there may be something to do; empty where it is known.
    given_up : int
        Failed series that are not requested again before their input changes.
    tags : mapping of str to str
        For the runs that are requested: by them the next survey knows what became of this one.
    """

    registered: tuple[str, ...]
    new: int
    vanished: tuple[str, ...]
    vanished_differs: bool
    take: Mapping[str, Mapping[Reason, tuple[str, ...]]]
    combine: bool
    waits_for: str = ""
    given_up: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    def groups(self) -> dict[tuple[str, ...], list[str]]:
        """Return the tables by the series that each is to take, in the order of registration."""
        order = {uid: place for place, uid in enumerate(self.registered)}
        groups: dict[tuple[str, ...], list[str]] = {}
        for table, reasons in self.take.items():
            series = sorted(
                (uid for of_reason in reasons.values() for uid in of_reason), key=order.__getitem__
            )
            if series:
                groups.setdefault(tuple(series), []).append(table)
        return groups


@dataclass
class _Found:
    """What is to be taken by table and reason, and of the failed series with which input."""

    take: dict[str, dict[Reason, tuple[str, ...]]] = field(default_factory=dict)
    retried: dict[str, dict[str, str]] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)


def survey(
    instance: dg.DagsterInstance, settings: Settings, *, seconds: float = LISTING_SECONDS
) -> TickPlan:
    """Register new series and find what there is to do.

    Parameters
    ----------
    instance : dg.DagsterInstance
        Keeps the record.
    settings : Settings
        Where the data are.
    seconds : float
        How long directories are listed for changed files; each survey lists at least one, and
        the next goes on behind the last. What is missing, and what changed in the CSVs and the
        segmentations, every survey finds.

    Returns
    -------
    TickPlan
        Nothing to do while a run or a backfill of the same assets is under way: batches follow
        each other, and the unified table is combined between them.

    Raises
    ------
    InputError
        There is nothing to read, a CSV cannot be used, train.csv is gone though labels were read
        from it, or the instance keeps other data's progress.
    """
    claim(instance, settings)
    run_locks.end_dead_runs(instance, settings)
    memory = SensorState.load(instance)
    memory.settle(instance)
    inventory = take_inventory(settings)
    _refuse_without_train_csv(instance, inventory)
    new = partitions.register(instance, inventory.series)
    registered = partitions.registered(instance)
    vanished = partitions.vanished(registered, inventory)
    differs = vanished != memory.vanished
    memory.vanished = vanished
    waits_for = active_runs.under_way(instance, settings)
    found, combine, tags = _Found(), "", {}
    if not waits_for:
        status = {
            table.name: partitions.statuses(instance, settings, table, registered)
            for table in SERIES_TABLES
        }
        found = _to_take(instance, settings, inventory, status, memory, seconds=seconds)
        upstream, *_ = partitions.latest_events(instance)
        request = _digest(upstream, _untaken(found.take))
        waits_for = _drop_in_vain(instance, found, request, registered)
        tags = {REQUEST_TAG: request}
        if any(found.retried.values()):
            memory.retried, memory.retry = found.retried, _digest(upstream, found.retried)
            tags[RETRY_TAG] = memory.retry
        if not _any_series(found.take):
            combine, waits_too = _to_combine(instance, settings, status)
            tags, waits_for = {REQUEST_TAG: combine}, waits_for or waits_too
    memory.save(instance)
    return TickPlan(
        tuple(registered),
        new=new,
        vanished=tuple(vanished),
        vanished_differs=differs,
        take=found.take,
        combine=bool(combine),
        waits_for=waits_for,
        given_up=len(found.given_up),
        tags=tags,
    )


def _refuse_without_train_csv(instance: dg.DagsterInstance, inventory: Inventory) -> None:
    """Take no series to be unlabelled while train.csv is away: who replaces it may be between."""
    if inventory.has_train_csv:
        return
    no_row = fingerprint_of_rows(())
    recorded = partitions.recorded_fingerprints(instance, LABELS)
    if any(of_series != no_row for of_series in recorded.values()):
        raise InputError(
            "train.csv was there when the labels were read and is gone: put it back, or run "
            "`aneurysm-assets run`"
        )


def _to_take(
    instance: dg.DagsterInstance,
    settings: Settings,
    inventory: Inventory,
    status: Mapping[str, Mapping[str, Status]],
    memory: SensorState,
    *,
    seconds: float,
) -> _Found:
    there = sorted(partitions.on_disk(status[DICOM_TAGS.name], inventory))
    listed = [uid for uid in there if status[DICOM_TAGS.name][uid] in {"done", "failed"}]
    now: dict[str, Fingerprints] = {
        DICOM_TAGS.name: _list_some(settings, listed, memory, seconds),
        **take_light_fingerprints(settings, there),
    }
    found = _Found()
    for table in SERIES_TABLES:
        of_table, prints = status[table.name], now[table.name]
        readable = {uid: text for uid, text in prints.items() if text != UNREADABLE}
        # Also where the row is gone from train.csv: the labels of those are wrong now.
        done = [uid for uid in there if of_table[uid] == "done"]
        failed = [uid for uid in inventory.series if of_table[uid] == "failed"]
        known = {u: text for u, text in memory.failed.get(table.name, {}).items() if u in failed}
        again = {u: prints[u] for u in failed if u in prints and known.get(u) != prints[u]}
        memory.failed[table.name] = known
        found.retried[table.name] = again
        found.given_up.update(known.keys() - again.keys())
        found.take[table.name] = {
            "missing": tuple(uid for uid in inventory.series if of_table[uid] == "missing"),
            # One that cannot be listed just now, as its disk is away, stays as it is.
            "changed": tuple(partitions.stale(instance, table, done, readable)),
            "failed": tuple(again),
        }
    return found


def _list_some(
    settings: Settings, series: Sequence[str], memory: SensorState, seconds: float
) -> dict[str, str]:
    """Return the fingerprints of some series, from where the last survey stopped."""
    start = bisect_left(series, memory.place)
    end = time.monotonic() + seconds
    found: dict[str, str] = {}
    in_turn = fingerprints_in_turn(settings, (*series[start:], *series[:start]))
    for uid, fingerprint in in_turn:
        if found and time.monotonic() > end:
            memory.place = uid
            break
        found[uid] = fingerprint
    return found


def _any_series(take: Mapping[str, Mapping[Reason, Sequence[str]]]) -> bool:
    return any(series for reasons in take.values() for series in reasons.values())


def _drop_in_vain(
    instance: dg.DagsterInstance, found: _Found, request: str, registered: Sequence[str]
) -> str:
    """Drop what the last run was to take and did not; return what to wait for.

    Without this a run that cannot begin would be requested again at each tick, and one that its
    user canceled half a minute later. A series that was taken and failed is none of these.
    """
    ended = active_runs.unsuccessful(instance, "series")
    if not ended or not _any_series(_untaken(found.take)):
        return ""
    canceled = [run for run in ended if active_runs.canceled_by_user(run)]
    if ended[0].tags.get(REQUEST_TAG) == request:
        for reasons in found.take.values():
            reasons |= {"missing": (), "changed": ()}
    for run in canceled:
        _drop_series_of(run, found, registered)
    if _any_series(_untaken(found.take)):
        return ""
    if canceled:
        return f"someone to take what is left of run {canceled[0].run_id}, which was canceled"
    return f"someone to mend what run {ended[0].run_id} failed of"


def _drop_series_of(run: dg.DagsterRun, found: _Found, registered: Sequence[str]) -> None:
    for table, series in active_runs.series_of(run, registered).items():
        of_table = found.take.get(table, {})
        for reason, uids in of_table.items():
            if reason != "failed":
                of_table[reason] = tuple(uid for uid in uids if uid not in series)


def _untaken(
    take: Mapping[str, Mapping[Reason, Sequence[str]]],
) -> dict[str, dict[Reason, Sequence[str]]]:
    return {table: {**reasons, "failed": ()} for table, reasons in take.items()}


def _to_combine(
    instance: dg.DagsterInstance, settings: Settings, status: Mapping[str, Mapping[str, Status]]
) -> tuple[str, str]:
    """Return what a combination is requested for, else what to wait for; both may be empty."""
    complete, _ = partitions.split(list(status.values()))
    if not complete:
        return "", ""
    upstream, unified, quality = partitions.latest_events(instance)
    series = partitions.digest(complete)
    there = all(map(find_table, (settings.unified_table, settings.quality_table)))
    if there and partitions.is_combined(instance, complete) and unified < quality:
        return "", ""
    request = _digest(upstream, series)
    ended = active_runs.unsuccessful(instance, "combine")
    # Not compared with the unified table: it may be made each time, and its quality fail.
    if ended and ended[0].tags.get(REQUEST_TAG) == request:
        return "", f"someone to mend what run {ended[0].run_id} failed of"
    return request, ""


def _digest(*parts: object) -> str:
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
