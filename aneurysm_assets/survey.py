"""What there is to do by itself now: new series, what to take and why, whether to combine.

A survey registers new series and otherwise only looks; who turns it into runs is `automation`.
"""

import json
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Literal, Self

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from aneurysm_assets import liveness, partitions
from aneurysm_assets.extraction.census import take_census
from aneurysm_assets.extraction.fingerprint import UNREADABLE, fingerprint_or_unreadable
from aneurysm_assets.fingerprints import Fingerprints, take_light_fingerprints
from aneurysm_assets.instance import claim
from aneurysm_assets.partitions import Status
from aneurysm_assets.settings import Settings
from aneurysm_assets.store import find_table
from aneurysm_assets.tables import (
    DICOM_TAGS,
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
)

Reason = Literal["missing", "changed", "failed"]

RUN_TAG = "aneurysm_assets/automation"
"""On the runs requested by themselves: `series` or `combine`."""

LISTING_SECONDS = 0.5
"""How long a survey lists directories; the next one goes on where it stopped."""

_MEMORY = "aneurysm_assets/automation"

_OURS = {dg.AssetKey(table.name) for table in (*SERIES_TABLES, UNIFIED_METADATA, SERIES_QUALITY)}

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass
class Memory:
    """What one survey leaves to the next.

    Attributes
    ----------
    place : str
        The series at which listing goes on.
    failed : dict of str to dict of str to str
        By table and series the fingerprint with which a failed series was requested again: with
        the same it is not requested once more.
    vanished : list of str
        The partitions without a directory, as last told.
    requested : str
        Which series the last run was requested for, shortened.
    combined : list of int
        What the last requested combination was to combine.
    """

    place: str = ""
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    vanished: list[str] = field(default_factory=list)
    requested: str = ""
    combined: list[int] = field(default_factory=list)

    @classmethod
    def load(cls, instance: dg.DagsterInstance) -> Self:
        """Read it from the instance; a fresh one where there is none."""
        text = instance.daemon_cursor_storage.get_cursor_values({_MEMORY}).get(_MEMORY)
        return cls(**json.loads(text)) if text else cls()

    def save(self, instance: dg.DagsterInstance) -> None:
        """Keep it in the instance."""
        instance.daemon_cursor_storage.set_cursor_values({_MEMORY: json.dumps(asdict(self))})


@dataclass(frozen=True)
class Survey:
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
    """

    registered: tuple[str, ...]
    new: int
    vanished: tuple[str, ...]
    vanished_differs: bool
    take: Mapping[str, Mapping[Reason, tuple[str, ...]]]
    combine: bool
    waits_for: str = ""

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


def survey(
    instance: dg.DagsterInstance, settings: Settings, *, seconds: float = LISTING_SECONDS
) -> Survey:
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
    Survey
        Nothing to do while a run or a backfill of the same assets is under way: batches follow
        each other, and the unified table is combined between them.

    Raises
    ------
    InputError
        There is nothing to read, a CSV cannot be used, or the instance keeps other data's progress.
    """
    claim(instance, settings)
    liveness.end_dead_runs(instance, settings)
    memory = Memory.load(instance)
    census = take_census(settings)
    new = partitions.register(instance, census.series)
    vanished = partitions.vanished(instance, census)
    differs = vanished != memory.vanished
    memory.vanished = vanished
    registered = partitions.registered(instance)
    waits_for = _under_way(instance)
    take: dict[str, dict[Reason, tuple[str, ...]]] = {}
    combine = False
    if not waits_for:
        status = {
            table.name: partitions.statuses(instance, settings, table, registered)
            for table in SERIES_TABLES
        }
        take = _to_take(instance, settings, census.series, status, memory, seconds=seconds)
        waits_for = _drop_in_vain(instance, take, memory)
        if not _any_series(take):
            combine = _to_combine(instance, settings, status, memory)
    memory.save(instance)
    return Survey(tuple(registered), new, tuple(vanished), differs, take, combine, waits_for)


def _under_way(instance: dg.DagsterInstance) -> str:
    """Return what works on our assets now, empty where nothing does."""
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED)):
        if run.asset_selection is None or run.asset_selection & _OURS:
            return f"run {run.run_id}"
    active = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    backfills = instance.get_backfills(filters=active, limit=1)
    return f"backfill {backfills[0].backfill_id}" if backfills else ""


def _to_take(
    instance: dg.DagsterInstance,
    settings: Settings,
    series: Sequence[str],
    status: Mapping[str, Mapping[str, Status]],
    memory: Memory,
    *,
    seconds: float,
) -> dict[str, dict[Reason, tuple[str, ...]]]:
    done_or_failed = [uid for uid in series if status[DICOM_TAGS.name][uid] in {"done", "failed"}]
    now: dict[str, Fingerprints] = {
        DICOM_TAGS.name: _list_some(settings, done_or_failed, memory, seconds),
        **take_light_fingerprints(settings, series),
    }
    take: dict[str, dict[Reason, tuple[str, ...]]] = {}
    for table in SERIES_TABLES:
        of_table, prints = status[table.name], now[table.name]
        readable = {uid: text for uid, text in prints.items() if text != UNREADABLE}
        done = [uid for uid in series if of_table[uid] == "done"]
        failed = [uid for uid in series if of_table[uid] == "failed"]
        take[table.name] = {
            "missing": tuple(uid for uid in series if of_table[uid] == "missing"),
            # One that cannot be listed just now, as its disk is away, stays as it is.
            "changed": tuple(partitions.stale(instance, table, done, readable)),
            "failed": _once_for_each_input(memory, table.name, failed, prints),
        }
    return take


def _once_for_each_input(
    memory: Memory, table: str, failed: Sequence[str], now: Fingerprints
) -> tuple[str, ...]:
    """Return the failed series that were not yet requested again with the input they have now."""
    known = {uid: text for uid, text in memory.failed.get(table, {}).items() if uid in failed}
    again = {uid: now[uid] for uid in failed if uid in now and known.get(uid) != now[uid]}
    memory.failed[table] = known | again
    return tuple(again)


def _list_some(
    settings: Settings, series: Sequence[str], memory: Memory, seconds: float
) -> dict[str, str]:
    """Return the fingerprints of some series, from where the last survey stopped."""
    start = bisect_left(series, memory.place)
    end = time.monotonic() + seconds
    found: dict[str, str] = {}
    for uid in (*series[start:], *series[:start]):
        if found and time.monotonic() > end:
            memory.place = uid
            break
        found[uid] = fingerprint_or_unreadable(f"{settings.series_root}/{uid}")
    return found


def _any_series(take: Mapping[str, Mapping[Reason, Sequence[str]]]) -> bool:
    return any(series for reasons in take.values() for series in reasons.values())


def _drop_in_vain(
    instance: dg.DagsterInstance,
    take: dict[str, dict[Reason, tuple[str, ...]]],
    memory: Memory,
) -> str:
    """Drop what the last run was to take and failed before it took any; return what to wait for.

    Without this a run that cannot begin would be requested again at each tick. A series that was
    taken and failed is none of these.
    """
    untaken = {table: {**reasons, "failed": ()} for table, reasons in take.items()}
    if not _any_series(untaken):
        return ""
    requested = sha256(json.dumps(untaken, sort_keys=True).encode()).hexdigest()
    again, memory.requested = requested == memory.requested, requested
    failed = _last_failed(instance, "series") if again else None
    if failed is None:
        return ""
    for reasons in take.values():
        reasons |= {"missing": (), "changed": ()}
    return f"someone to mend what run {failed} failed of"


def _to_combine(
    instance: dg.DagsterInstance,
    settings: Settings,
    status: Mapping[str, Mapping[str, Status]],
    memory: Memory,
) -> bool:
    """Tell whether the unified table, or what follows it, is older than what it is made from."""
    if not _any_complete(status.values()):
        return False
    upstream, unified, quality = _latest(instance)
    there = all(map(find_table, (settings.unified_table, settings.quality_table)))
    if there and upstream < unified < quality:
        return False
    state = [upstream, unified, quality]
    if state == memory.combined and _last_failed(instance, "combine"):
        return False
    memory.combined = state
    return True


def _any_complete(status: Iterable[Mapping[str, Status]]) -> bool:
    first, *others = status
    return any(
        of == "done" and all(other[uid] == "done" for other in others) for uid, of in first.items()
    )


def _latest(instance: dg.DagsterInstance) -> tuple[int, int, int]:
    """Return the latest events of the series' tables, of the unified table and of its quality."""
    latest = {
        record.asset_entry.asset_key: record.asset_entry.last_materialization_storage_id or 0
        for record in instance.get_asset_records(list(_OURS))
    }
    upstream, unified, quality = (
        max(latest.get(dg.AssetKey(table.name), 0) for table in tables)
        for tables in (SERIES_TABLES, (UNIFIED_METADATA,), (SERIES_QUALITY,))
    )
    return upstream, unified, quality


def _last_failed(instance: dg.DagsterInstance, kind: Literal["series", "combine"]) -> str | None:
    """Return the id of the last requested run of a kind if it failed."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={RUN_TAG: kind}), limit=1)
    failed = bool(runs) and runs[0].status == dg.DagsterRunStatus.FAILURE
    return runs[0].run_id if failed else None
