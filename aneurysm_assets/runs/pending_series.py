"""Which series each table still needs, and why: the one decision of `run`, `status` and the sensor.

It is pure: what Dagster recorded and what is on disk is asked by the callers, and handed in.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.storage.fingerprint import UNREADABLE

Status = Literal["materialized", "failed", "in_progress", "missing"]
"""Dagster's word for where a series stands in one table; `missing` also where its file is gone."""

Reason = Literal["missing", "failed", "changed", "forced"]

REASONS: Mapping[Reason, str] = {
    "missing": "on disk, and not materialized",
    "failed": "failed, and not yet retried with this input",
    "changed": "the input is no longer what was read",
    "forced": "materialized, and asked for by --force",
}
"""What each reason means, for people."""


@dataclass(frozen=True)
class TableState:
    """What is known of the series in one table.

    Attributes
    ----------
    status : mapping of str to Status
        By SeriesInstanceUID, in the order of registration.
    recorded : mapping of str to str
        The fingerprint of what each series' latest materialization read. A series that was
        materialized before fingerprints were recorded is not in it, and never counts as changed:
        it would mean to read all files again for no known reason.
    current : mapping of str to str
        The fingerprints of the input as it is now; `UNREADABLE` where it cannot be listed. A
        series that is not in it, as its directory is gone or was not looked at, is not changed.
    retried : mapping of str to str or None
        The fingerprints with which failed series were retried already; None where a failed series
        is retried each time.
    """

    status: Mapping[str, Status]
    recorded: Mapping[str, str] = field(default_factory=dict)
    current: Mapping[str, str] = field(default_factory=dict)
    retried: Mapping[str, str] | None = None

    def is_changed(self, series_instance_uid: str) -> bool:
        """Tell whether a series is materialized from an input that is no longer what it was."""
        current = self.current.get(series_instance_uid)
        return (
            current is not None
            and self.status.get(series_instance_uid) == "materialized"
            and self.recorded.get(series_instance_uid, current) != current
        )


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes
    ----------
    wanted : collection of str
        Series to have materialized: those of `--series`, else all that the inventory says.
    without_directory : collection of str
        Series whose directory is gone and whose row is there: what is read from the CSVs and the
        segmentations is kept up to date, so that no old label stands in the table.
    force : bool
        Whether wanted series that are materialized are taken all the same.
    skip_unreadable : bool
        Whether an input that cannot be listed for now counts as unchanged. The sensor looks again
        in half a minute; a person who starts a run wants to be told that it cannot be read.
    """

    wanted: Collection[str]
    without_directory: Collection[str] = ()
    force: bool = False
    skip_unreadable: bool = False


@dataclass(frozen=True)
class PendingSeries:
    """What is left to do.

    Attributes
    ----------
    reasons : mapping of str to mapping of str to Reason
        By table and series why it is to be taken; one reason per series and table, in the order
        of the table's statuses.
    in_progress : frozenset of str
        Wanted series that another run works on in some table: they are left to it there.
    given_up : frozenset of str
        Wanted series that failed again with the same input in some table: they wait for another.
    """

    reasons: Mapping[str, Mapping[str, Reason]]
    in_progress: frozenset[str] = frozenset()
    given_up: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Tell whether any series is to be taken."""
        return any(self.reasons.values())

    def with_reason(self, *reasons: Reason) -> dict[str, dict[str, Reason]]:
        """Return the series that are to be taken for some reasons, by table."""
        return {
            table: {uid: reason for uid, reason in series.items() if reason in reasons}
            for table, series in self.reasons.items()
        }

    def runs(self, registered: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
        """Return the tables by the series that each needs, so that each group is one run.

        Parameters
        ----------
        registered : sequence of str
            All partitions in the order of registration, which the series of a run keep.
        """
        order = {uid: place for place, uid in enumerate(registered)}
        groups: dict[tuple[str, ...], list[str]] = {}
        for table, reasons in self.reasons.items():
            if reasons:
                series = tuple(sorted(reasons, key=order.__getitem__))
                groups.setdefault(series, []).append(table)
        return groups

    def without(
        self, tables: Mapping[str, Iterable[str]], reasons: Collection[Reason]
    ) -> "PendingSeries":
        """Return the plan without some series of some tables, where they are taken for a reason."""
        dropped = {table: set(series) for table, series in tables.items()}
        return replace(
            self,
            reasons={
                table: {
                    uid: reason
                    for uid, reason in series.items()
                    if reason not in reasons or uid not in dropped.get(table, ())
                }
                for table, series in self.reasons.items()
            },
        )


def pending_series(tables: Mapping[str, TableState], options: Options) -> PendingSeries:
    """Decide which series each table still needs.

    A wanted series is taken where it is `missing` or `failed`, where its input changed, and with
    `force` in any case; but never where another run has it in progress.

    Parameters
    ----------
    tables : mapping of str to TableState
        By the name of the table.
    options : Options
        What is asked for.

    Returns
    -------
    PendingSeries
        Each table of `tables` is in it, also where it needs nothing.
    """
    wanted = set(options.wanted)
    headers = tables.get(DICOM_TAGS.name, TableState({})).status
    kept = {uid for uid in options.without_directory if headers.get(uid) == "materialized"}
    reasons: dict[str, dict[str, Reason]] = {table: {} for table in tables}
    in_progress: set[str] = set()
    given_up: set[str] = set()
    for table, state in tables.items():
        for uid, status in state.status.items():
            reason: Reason | None = None
            if uid not in wanted and (uid not in kept or table == DICOM_TAGS.name):
                continue
            if status == "in_progress":
                in_progress.add(uid)
            elif _waits_for_other_input(state, uid):
                given_up.add(uid)
            else:
                reason = _reason(state, uid, options)
            if reason is not None:
                reasons[table][uid] = reason
    return PendingSeries(reasons, frozenset(in_progress), frozenset(given_up))


def _reason(state: TableState, uid: str, options: Options) -> Reason | None:
    """Return why a wanted series is to be taken that no run has in progress."""
    status = state.status[uid]
    if status == "missing":
        return "missing"
    if status == "failed":
        # One retry per input needs to know the input.
        return "failed" if state.retried is None or uid in state.current else None
    is_forced = options.force and uid not in options.without_directory
    return _if_changed(state, uid, options) or ("forced" if is_forced else None)


def _if_changed(state: TableState, uid: str, options: Options) -> Reason | None:
    if options.skip_unreadable and state.current.get(uid) == UNREADABLE:
        return None
    return "changed" if state.is_changed(uid) else None


def _waits_for_other_input(state: TableState, uid: str) -> bool:
    """Tell whether a failed series was retried with the input that it has now."""
    if state.status[uid] != "failed" or state.retried is None or uid not in state.retried:
        return False
    return state.current.get(uid, state.retried[uid]) == state.retried[uid]
