"""The SQLite databases of a data root: made whole or not at all, and what is wrong with one.

Dagster creates its tables one by one in place. A process that is killed meanwhile, or two that
begin at once, would leave databases that no command can use. What is written to them belongs to
`event_log`, where they are to `data_root`.
"""

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from aneurysm_assets.dagster_internals import DagsterSqliteStorage
from aneurysm_assets.messages import one_line

_RUNS, _INDEX, _SCHEDULES = "history/runs.db", "history/runs/index.db", "schedules/schedules.db"

LOST_WITH = {
    _RUNS: "the list of runs and backfills",
    _INDEX: "what is materialized: every series is read again",
    _SCHEDULES: "which sensors are on",
}
"""By database, what is lost with it; its tables in `interim` stay."""

_RECORDS = {_RUNS: "runs", _INDEX: "event_logs", _SCHEDULES: "instigators"}

_NEW = ".new-"


def make_databases(home: Path) -> None:
    """Make the databases that are not there, or were left half-made, and put each in place whole.

    Parameters
    ----------
    home : Path
        The directory of Dagster's state, `<data>/dagster`. Processes that begin there at once wait
        for one another.

    Raises
    ------
    OSError
        The directory cannot be written.
    """
    is_left = any(home.glob(f"{_NEW}*"))  # by a process that was killed, or one makes them now
    if not is_left and all(_is_whole(home / name) for name in LOST_WITH):
        return
    (home / "locks").mkdir(parents=True, exist_ok=True)
    with FileLock(home / "locks" / "databases"):
        missing = [name for name in LOST_WITH if not _is_whole(home / name)]
        for left in home.glob(f"{_NEW}*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=_NEW, dir=home) as beside:
            with _migrations_read_once():
                DagsterSqliteStorage(beside).dispose()
            for name in missing:
                _put_in_place(Path(beside) / name, home / name)


@contextmanager
def _migrations_read_once() -> Iterator[None]:
    """Let Alembic read Dagster's migrations once in the block: some ninety files at every question.

    Dagster asks six times as it makes its databases.
    """
    read = ScriptDirectory.from_config
    known: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in known:
            known[place] = read(config)
        return known[place]

    ScriptDirectory.from_config = from_config  # type: ignore[method-assign]
    try:
        yield
    finally:
        ScriptDirectory.from_config = read  # type: ignore[method-assign]


def _put_in_place(new: Path, path: Path) -> None:
    try:
        with closing(sqlite3.connect(new)) as database:
            database.execute("pragma wal_checkpoint(truncate)")
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"the database cannot be written ({error})", str(path)) from error
    with new.open("rb") as file:
        os.fsync(file.fileno())
    path.parent.mkdir(parents=True, exist_ok=True)
    for log in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        log.unlink(missing_ok=True)  # of the half-made one: SQLite would play it into the new one
    new.replace(path)


def _is_whole(path: Path) -> bool:
    """Tell whether a database was made to its end; one that holds records, or is damaged, was."""
    if not path.is_file():
        return False
    try:
        with closing(_open_to_read(path)) as database:
            return (
                # Both are Dagster's last steps when it makes a database.
                _has_rows(database, "alembic_version") and _has_rows(database, "secondary_indexes")
            ) or any(_has_rows(database, table) for table in _RECORDS.values())
    except sqlite3.Error:
        return path.stat().st_size > 0


def _open_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _has_rows(database: sqlite3.Connection, table: str) -> bool:
    named = database.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone()
    return named is not None and bool(
        database.execute(f"select 1 from {table} limit 1").fetchone()  # noqa: S608 - ours
    )


def reason_of(error: SQLAlchemyError, home: Path) -> str:
    """Say what is wrong with Dagster's record, at which path, and what to do.

    Parameters
    ----------
    error : SQLAlchemyError
        What SQLAlchemy raised.
    home : Path
        The directory of Dagster's state.
    """
    said = str(error.orig) if isinstance(error, DBAPIError) else one_line(error)
    if "locked" in said:
        return f"another process holds a database in {home} ({said}): wait for it, or end it"
    if "full" in said or "disk I/O" in said:
        return f"the disk of {home} does not take what is written ({said}): make room there"
    if "readonly" in said or "unable to open" in said:
        return f"a database in {home} cannot be written ({said}): make that directory writable"
    damaged = [f"{home / name} (with it goes {LOST_WITH[name]})" for name in _damaged(home)]
    if damaged:
        return (
            f"Dagster's record is damaged: {', '.join(damaged)}; the tables are whole: restore "
            "the file from a backup, or move it away and a new one is made"
        )
    return f"Dagster's record in {home} cannot be used ({said})"


def _damaged(home: Path) -> list[str]:
    return [name for name in LOST_WITH if (home / name).is_file() and not _is_sound(home / name)]


def _is_sound(path: Path) -> bool:
    try:
        with closing(_open_to_read(path)) as database:
            return bool(database.execute("pragma quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error:
        return False
