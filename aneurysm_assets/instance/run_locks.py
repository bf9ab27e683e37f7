"""Which runs are alive: a run's process holds a lock for as long as it lives.

Dagster learns that a run ended from the run's own process. One that is killed tells nothing, and
its series would stay "in progress" for ever; its lock is gone with it, and so we know.

A lock tells of this host alone. Of a run that a launcher carries to some host the launcher itself
finds out (`celery_launcher`): it holds no lock, and nothing here ends it.
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
"""On runs that ended CANCELED with their process and not by a user's cancel."""

KILLED, INTERRUPTED = "killed", "interrupted"
"""Values of that tag."""

CARRIER_TAG = "aneurysm_assets/carrier"
"""On runs of a launcher that looks after them: what carries them to a host."""

HOST_TAG = "aneurysm_assets/host"
"""On the other runs of an instance that several hosts share: whose locks tell of them."""

_held: dict[str, FileLock] = {}
"""Locks of the runs of this process: released by its end, whatever ends it."""


class AlreadyRunning(Exception):  # noqa: N818 - a state of the world, not a fault
    """Another process does the same on the same data."""


def hold_run(instance: dg.DagsterInstance, settings: Settings, run: dg.DagsterRun) -> None:
    """Hold the lock of a run that this process executes, unless its launcher looks after it."""
    if CARRIER_TAG in run.tags:
        return
    if is_shared(instance) and run.tags.get(HOST_TAG) != host():
        instance.add_run_tags(run.run_id, {HOST_TAG: host()})
    hold(settings, run.run_id)


def is_judged_here(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Tell whether the locks of this host say if a run is alive.

    They do not where a launcher looks after it, nor where it may be on another host.
    """
    if CARRIER_TAG in run.tags:
        return False
    return not is_shared(instance) or run.tags.get(HOST_TAG) == host()


def host() -> str:
    """Return the name of this host."""
    return socket.gethostname()


def is_shared(instance: dg.DagsterInstance) -> bool:
    """Tell whether several hosts may use an instance: a file of SQLite is of one."""
    return not isinstance(instance.run_storage, SqliteRunStorage | InMemoryRunStorage)


def hold(settings: Settings, name: str) -> None:
    """Hold a lock until this process ends; a second time changes nothing.

    Parameters
    ----------
    settings : Settings
        The data it is about.
    name : str
        A run's id, or what else only one process may do at a time.

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
    """Let go of a lock before this process ends; of one not held, do nothing."""
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
    # One that its user was canceling ended as the user wished.
    if run.status != dg.DagsterRunStatus.CANCELING:
        instance.add_run_tags(run.run_id, {CUT_OFF_TAG: KILLED})
    instance.report_run_canceled(run, message="The run's process was killed.")


def end_dead_runs(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """Tell Dagster of the runs whose process was killed, so that none stays in progress.

    Returns
    -------
    list of str
        Their ids. They become CANCELED: what they had done stays done, the rest is missing.
    """
    locks = _path(settings, "").parent
    if not locks.is_dir():
        return []
    with _guard(settings):
        return [path.stem for path in locks.glob("*.lock") if _end_if_dead(instance, path)]


def _end_if_dead(instance: dg.DagsterInstance, path: Path) -> bool:
    if path.stem in _held:
        return False
    begun = instance.get_run_by_id(path.stem)
    if begun is None or not is_judged_here(instance, begun):
        return False
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    # Read after its process is known to be gone: what it last said of itself stands.
    run = instance.get_run_by_id(path.stem)
    was_cut_off = run is not None and not run.is_finished
    if run is not None and was_cut_off:
        end_killed(instance, run)
    path.unlink(missing_ok=True)
    lock.release()
    return was_cut_off


def _guard(settings: Settings) -> FileLock:
    """Return the lock under which locks are made and judged: a new one is not held at once."""
    path = _path(settings, "").with_name("guard")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False)


def _lock(settings: Settings, name: str) -> FileLock:
    path = _path(settings, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False)


def _path(settings: Settings, name: str) -> Path:
    return settings.dagster_home / "locks" / f"{name}.lock"
