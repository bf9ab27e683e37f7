"""Which runs are alive: a run's process holds a lock for as long as it lives.

Dagster learns from a run's own process that the run ended. A killed process tells nothing, and its
series would stay in progress for ever; the system releases its lock, which shows that it is gone.

A lock tells about this host alone. A run that a launcher brings to some host holds no lock: the
launcher finds out itself (`cluster.celery_launcher`), and nothing here ends it.
"""

import socket
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

from aneurysm_assets.dagster_internals import InMemoryRunStorage, SqliteRunStorage
from aneurysm_assets.settings import Settings

RUN = "run"
"""Name of the lock of `aneurysm-assets run`."""

CUT_OFF_TAG = "aneurysm_assets/cut_off"
"""On runs that are CANCELED because their process ended, and not because a user canceled them."""

KILLED, INTERRUPTED = "killed", "interrupted"
"""Values of that tag."""

CARRIER_TAG = "aneurysm_assets/carrier"
"""On runs whose launcher finds out whether they are alive: what brings them to a host."""

HOST_TAG = "aneurysm_assets/host"
"""On the other runs of an instance that several hosts share: the host that has their lock."""

_held: dict[str, FileLock] = {}
"""Locks of the runs of this process; the system releases them when it ends, however it ends."""


class AlreadyRunning(Exception):  # noqa: N818 - a state of the world, not a fault
    """Another process does the same on the same data."""


def hold_run(instance: dg.DagsterInstance, settings: Settings, run: dg.DagsterRun) -> None:
    """Hold the lock of a run that this process executes, unless its launcher watches it."""
    if CARRIER_TAG in run.tags:
        return
    if is_shared(instance) and run.tags.get(HOST_TAG) != host():
        instance.add_run_tags(run.run_id, {HOST_TAG: host()})
    hold(settings, run.run_id)


def is_judged_here(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Tell whether the locks of this host say if a run is alive.

    They do not if its launcher watches it, nor if it may be on another host.
    """
    if CARRIER_TAG in run.tags:
        return False
    return not is_shared(instance) or run.tags.get(HOST_TAG) == host()


def host() -> str:
    """Return the name of this host."""
    return socket.gethostname()


def is_shared(instance: dg.DagsterInstance) -> bool:
    """Tell whether several hosts may use an instance: SQLite files are for one host."""
    return not isinstance(instance.run_storage, SqliteRunStorage | InMemoryRunStorage)


def hold(settings: Settings, name: str) -> None:
    """Hold a lock until this process ends; a second time changes nothing.

    Parameters
    ----------
    settings : Settings
        The data that the lock is about.
    name : str
        A run's id, or the name of something else that one process does at a time.

    Raises
    ------
    AlreadyRunning
        Another process holds it.
    """
    if name in _held:
        return
    lock = _lock(settings, name)
    try:
        with _guard(settings):
            lock.acquire(blocking=False)
    except Timeout as error:
        raise AlreadyRunning(f"another process holds {lock.lock_file}") from error
    _held[name] = lock


def release(settings: Settings, name: str) -> None:
    """Release a lock before this process ends; do nothing if it is not held."""
    lock = _held.pop(name, None)
    if lock is not None:
        _path(settings, name).unlink(missing_ok=True)
        lock.release()


def is_held(settings: Settings, name: str) -> bool:
    """Tell whether a live process, this one too, holds a lock."""
    if name in _held:
        return True
    if not _path(settings, name).exists():
        return False
    with _guard(settings):
        lock = _lock(settings, name)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
    return False


def end_killed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Tell Dagster that a run's process is gone: it becomes CANCELED."""
    was_queued = run.status == dg.DagsterRunStatus.QUEUED
    # A run in CANCELING ended as its user wished.
    if run.status != dg.DagsterRunStatus.CANCELING:
        instance.add_run_tags(run.run_id, {CUT_OFF_TAG: KILLED})
    reason = "No daemon was there to begin the run." if was_queued else None
    instance.report_run_canceled(run, message=reason or "The run's process was killed.")


def end_dead_runs(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """Tell Dagster of the runs whose process was killed, so that none stays in progress.

    Returns
    -------
    list of str
        Their ids. They become CANCELED: what they materialized stays, the rest is missing.
    """
    locks = _path(settings, "").parent
    if not locks.is_dir():
        return []
    with _guard(settings):
        return [path.stem for path in locks.glob("*.lock") if _end_if_dead(instance, path)]


def _end_if_dead(instance: dg.DagsterInstance, path: Path) -> bool:
    if path.stem in _held:
        return False
    recorded = instance.get_run_by_id(path.stem)
    if recorded is None or not is_judged_here(instance, recorded):
        return False
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    # Read once more, as its process may have recorded its end before it released the lock.
    run = instance.get_run_by_id(path.stem)
    was_cut_off = run is not None and not run.is_finished
    if run is not None and was_cut_off:
        end_killed(instance, run)
    path.unlink(missing_ok=True)
    lock.release()
    return was_cut_off


def _guard(settings: Settings) -> FileLock:
    """Return the lock that protects the making of locks: a new lock file is not held at once."""
    path = _path(settings, "").with_name("guard")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False)


def _lock(settings: Settings, name: str) -> FileLock:
    path = _path(settings, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False)


def _path(settings: Settings, name: str) -> Path:
    return settings.dagster_home / "locks" / f"{name}.lock"
