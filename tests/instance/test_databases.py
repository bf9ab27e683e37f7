"""The databases of a data root are whole or not there, whenever their making is cut off."""

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from aneurysm_assets.instance import databases
from aneurysm_assets.instance.databases import LOST_WITH, make_databases, reason_of
from aneurysm_assets.sample import write_sample
from tests.processes import call, started
from tests.record import instance_of

CUTS = {"connect", "execute", "commit", "close", "mkdir", "unlink", "fsync", "replace", "rename"}
"""Calls of C functions by which a database is made; a process is ended before each in turn."""

INDEX = "history/runs/index.db"


def make_seen(home: Path, see: Callable[[str], None]) -> None:
    """Make the databases; tell the name of each of these calls before it is made."""

    def profile(_: object, event: str, called: object) -> None:
        if event == "c_call" and (name := getattr(called, "__name__", "")) in CUTS:
            see(name)

    sys.setprofile(profile)
    try:
        make_databases(home)
    finally:
        sys.setprofile(None)


def make_until(home: Path, calls: int) -> bool:
    """Make the databases in a process that ends before the call of this number; tell if it did."""
    child = os.fork()
    if child == 0:
        made = 0

        def count(_: str) -> None:
            nonlocal made
            made += 1
            if made > calls:
                os._exit(9)

        make_seen(home, count)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 9


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("select name from sqlite_master where type = 'table'").fetchall()
    return {name for (name,) in rows}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a directory of databases as Dagster makes them where nothing cuts it off."""
    home = tmp_path_factory.mktemp("whole") / "dagster"
    make_databases(home)
    return home


@pytest.fixture(scope="module")
def whole(made) -> dict[str, set[str]]:
    """Return the tables of each database."""
    return {name: tables_of(made / name) for name in LOST_WITH}


def test_wherever_the_making_is_cut_off_the_next_process_finds_whole_databases(
    whole, tmp_path, is_long
) -> None:
    calls: list[str] = []
    make_seen(tmp_path / "seen", calls.append)
    assert len(calls) > 100
    # While the tables are made, and before each of the databases is put in its place.
    in_place = [number for number, name in enumerate(calls) if name == "fsync"]
    assert len(in_place) == len(LOST_WITH)
    some = [0, len(calls) // 3, 2 * len(calls) // 3, *in_place]
    for cut in range(len(calls)) if is_long else some:
        home = tmp_path / f"{cut}"
        assert make_until(home, cut)
        assert not make_until(home, sys.maxsize)
        assert {name: tables_of(home / name) for name in LOST_WITH} == whole
        assert not list(home.glob(".new-*"))


def test_databases_that_dagster_itself_left_half_made_are_made_anew(whole, tmp_path) -> None:
    for name in LOST_WITH:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with closing(sqlite3.connect(tmp_path / INDEX)) as database:
        database.execute("create table event_logs (id integer)")
        database.commit()
    make_databases(tmp_path)
    assert {name: tables_of(tmp_path / name) for name in LOST_WITH} == whole


def test_a_database_that_holds_records_is_never_replaced(tmp_path) -> None:
    make_databases(tmp_path)
    with closing(sqlite3.connect(tmp_path / "history" / "runs.db")) as database:
        database.execute("delete from alembic_version")
        database.execute("insert into runs (run_id, status) values ('kept', 'SUCCESS')")
        database.commit()
    (tmp_path / INDEX).write_bytes(b"no database")
    make_databases(tmp_path)
    with closing(sqlite3.connect(tmp_path / "history" / "runs.db")) as database:
        assert database.execute("select run_id from runs").fetchall() == [("kept",)]
    assert (tmp_path / INDEX).read_bytes() == b"no database"


def test_processes_that_begin_on_a_new_root_at_once_all_work(tmp_path) -> None:
    write_sample(tmp_path)
    commands = [started("aneurysm-assets", "status", "--data", tmp_path) for _ in range(3)]
    processes = [command.__enter__() for command in commands]
    try:
        said = [process.communicate(timeout=180) for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], said
    finally:
        for command in commands:
            command.__exit__(None, None, None)


def test_a_damaged_database_is_named_with_what_is_lost_by_it(tmp_path) -> None:
    write_sample(tmp_path)
    (tmp_path / "dagster").mkdir()
    make_databases(tmp_path / "dagster")
    path = tmp_path / "dagster" / INDEX
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    said = call("aneurysm-assets", "status", "--data", tmp_path)
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    assert f"is damaged: {path} (with it goes what is materialized" in said.stderr
    path.rename(path.with_name("away"))
    assert call("aneurysm-assets", "status", "--data", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("database is locked", "wait for it, or end it"),
        ("database or disk is full", "make room there"),
        ("disk I/O error", "make room there"),
        ("attempt to write a readonly database", "make that directory writable"),
        ("unable to open database file", "make that directory writable"),
        ("no such table: runs", "cannot be used (no such table: runs)"),
    ],
)
def test_what_sqlite_refuses_is_told_with_its_path_and_what_to_do(made, said, advice) -> None:
    error = OperationalError("insert into runs", {}, sqlite3.OperationalError(said))
    reason = reason_of(error, made)
    assert str(made) in reason
    assert advice in reason
    assert "insert" not in reason


def test_the_instance_of_a_new_root_is_usable_at_once(tmp_path) -> None:
    (tmp_path / "dagster").mkdir()
    make_databases(tmp_path / "dagster")
    with instance_of(tmp_path) as instance:
        instance.add_dynamic_partitions("series", ["1.2"])
        assert isinstance(instance, dg.DagsterInstance)
    assert databases.make_databases(tmp_path / "dagster") is None
    with instance_of(tmp_path) as instance:
        assert instance.get_dynamic_partitions("series") == ["1.2"]
