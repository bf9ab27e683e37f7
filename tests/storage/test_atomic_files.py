"""Files that are there whole or not at all, one by one and many together."""

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from aneurysm_assets.storage.atomic_files import (
    StagedFiles,
    atomic_write,
    batch_commit,
    is_alive,
    remove_partials,
    this_host,
)


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def write(
    path: Path, text: str, staged: StagedFiles | None = None, instead_of: Path | None = None
) -> int:
    return atomic_write(
        path, lambda partial: partial.write_text(text), instead_of=instead_of, staged=staged
    )


def place_three_of_which_b_gets_no_place(directory: Path, staged: StagedFiles) -> OSError:
    """Write a, b and c, place all but b, which cannot be, and return why."""
    for name in "abc":
        write(directory / name, name, staged)
    (directory / "b").mkdir()
    errors = batch_commit(staged)
    assert errors.keys() == {directory / name for name in "abc"}
    assert (errors[directory / "a"], errors[directory / "c"]) == (None, None)
    error = errors[directory / "b"]
    assert error is not None
    return error


def test_what_is_written_together_is_nowhere_until_all_is_placed(tmp_path: Path) -> None:
    write(tmp_path / "a", "old")
    with StagedFiles() as staged:
        for name in "abc":
            assert write(tmp_path / name, f"new {name}", staged) == 5
        assert (tmp_path / "a").read_text() == "old"
        assert not (tmp_path / "b").exists()
        paths = [tmp_path / name for name in "abc"]
        assert list(staged.paths) == paths
        assert batch_commit(staged) == dict.fromkeys(paths)
        assert contents(tmp_path) == {name: f"new {name}" for name in "abc"}
    assert contents(tmp_path) == {name: f"new {name}" for name in "abc"}
    write(tmp_path / "a", "at once")
    assert (tmp_path / "a").read_text() == "at once"


@pytest.mark.parametrize("names", ["a", "abc"])
def test_each_file_is_flushed_before_it_takes_its_place_and_the_directory_once_after_all(
    names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    flush, replace = os.fsync, Path.replace

    def recording_flush(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        flush(descriptor)
        steps.append("directory" if inode == tmp_path.stat().st_ino else f"flush {inode}")

    def recording_replace(path: Path, target: Path) -> Path:
        steps.append(f"rename {path.stat().st_ino}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", recording_flush)
    monkeypatch.setattr(Path, "replace", recording_replace)
    with StagedFiles() as staged:
        for name in names:
            write(tmp_path / name, name, staged)
        assert steps == []
        batch_commit(staged)
    assert steps.pop() == "directory"
    for name in names:
        inode = (tmp_path / name).stat().st_ino
        assert steps.index(f"flush {inode}") < steps.index(f"rename {inode}")
    assert len(steps) == 2 * len(names)


def test_a_file_that_does_not_get_its_place_says_why_and_the_others_get_theirs(
    tmp_path: Path,
) -> None:
    with StagedFiles() as staged:
        error = place_three_of_which_b_gets_no_place(tmp_path, staged)
    assert error.errno == errno.EISDIR
    (tmp_path / "b").rmdir()
    assert contents(tmp_path) == {"a": "a", "c": "c"}


def test_where_names_cannot_be_made_safe_no_file_of_the_directory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def failing_flush(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == (tmp_path / "bad").stat().st_ino:
            raise OSError(errno.EIO, "Input/output error")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", failing_flush)
    with StagedFiles() as staged:
        for name in ("good", "bad"):
            (tmp_path / name).mkdir()
            write(tmp_path / name / "file", name, staged)
        errors = batch_commit(staged)
    assert errors[tmp_path / "good" / "file"] is None
    bad = errors[tmp_path / "bad" / "file"]
    assert bad is not None
    assert bad.errno == errno.EIO


def test_what_a_file_stands_instead_of_goes_once_it_is_placed_and_not_before(
    tmp_path: Path,
) -> None:
    (tmp_path / "t.csv").write_text("old")
    with StagedFiles() as staged:
        write(tmp_path / "t.parquet", "new", staged, instead_of=tmp_path / "t.csv")
        assert (tmp_path / "t.csv").read_text() == "old"
        batch_commit(staged)
    assert contents(tmp_path) == {"t.parquet": "new"}


def test_the_old_one_goes_only_when_the_names_in_the_directory_are_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, flush = tmp_path / "t.csv", os.fsync
    old.write_text("old")
    was_there: list[bool] = []

    def recording_flush(descriptor: int) -> None:
        flush(descriptor)
        was_there.append(old.exists())

    monkeypatch.setattr(os, "fsync", recording_flush)
    write(tmp_path / "t.parquet", "new", instead_of=old)
    assert was_there == [True, True]
    assert contents(tmp_path) == {"t.parquet": "new"}


def test_an_old_one_that_cannot_be_removed_is_no_failure_of_the_new_one(
    tmp_path: Path, refuse_to_remove: None
) -> None:
    (tmp_path / "t.csv").write_text("old")
    write(tmp_path / "t.parquet", "new", instead_of=tmp_path / "t.csv")
    assert contents(tmp_path) == {"t.csv": "old", "t.parquet": "new"}


@pytest.fixture
def refuse_to_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)


def test_what_cannot_be_placed_nor_removed_is_no_more_than_a_reason(
    tmp_path: Path, refuse_to_remove: None
) -> None:
    with StagedFiles() as staged:
        error = place_three_of_which_b_gets_no_place(tmp_path, staged)
        assert (error.errno, error.filename) == (errno.EISDIR, str(tmp_path / "b"))
        write(tmp_path / "d", "never placed", staged)


def test_what_nobody_expected_is_a_reason_too_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, names = os.fsync, "abcdefgh"
    for name in names:
        (tmp_path / f"{name}.csv").write_text("old")

    def fail_for_two(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not is_directory and os.pread(descriptor, 1, 0) in {b"a", b"h"}:
            raise MemoryError("no more")
        flush(descriptor)

    with StagedFiles() as staged:
        for name in names:
            write(tmp_path / name, name, staged, instead_of=tmp_path / f"{name}.csv")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail_for_two)
            errors = batch_commit(staged)
    assert [str(error) for error in errors.values() if error is not None] == [
        f"[Errno {errno.EIO}] It was not placed (MemoryError: no more): '{tmp_path / name}'"
        for name in "ah"
    ]
    placed = {name: name for name in names if name not in "ah"}
    assert contents(tmp_path) == placed | {"a.csv": "old", "h.csv": "old"}


def test_without_threads_to_be_had_files_are_placed_one_by_one(
    tmp_path: Path, no_threads_to_be_had: None
) -> None:
    with StagedFiles() as staged:
        for name in "abc":
            write(tmp_path / name, name, staged)
        assert batch_commit(staged) == {tmp_path / name: None for name in "abc"}
    assert contents(tmp_path) == {name: name for name in "abc"}


@pytest.mark.parametrize("together", [False, True])
def test_what_the_disk_refuses_at_the_last_is_told_with_the_file(
    together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error: OSError | None = None
    if together:
        with StagedFiles() as staged:
            write(tmp_path / "a", "a", staged)
            error = batch_commit(staged)[tmp_path / "a"]
    else:
        with pytest.raises(OSError, match="No space") as raised:
            write(tmp_path / "a", "a")
        error = raised.value
    assert error is not None
    assert (error.errno, error.filename) == (errno.ENOSPC, str(tmp_path / "a"))
    assert contents(tmp_path) == {}


def test_a_directory_in_the_place_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError, match=str(tmp_path / "a")):
        atomic_write(tmp_path / "a", lambda _: pytest.fail("it was written"))


def test_what_is_discarded_or_not_committed_leaves_nothing_and_the_old_one_stays(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a", "old")

    with suppress(KeyboardInterrupt), StagedFiles() as staged:
        write(tmp_path / "a", "new", staged)
        write(tmp_path / "b", "new", staged)
        staged.discard([tmp_path / "b"])
        assert staged.paths == (tmp_path / "a",)
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"a": "old"}


def test_only_partial_files_of_dead_processes_of_this_machine_are_removed(tmp_path: Path) -> None:
    host = this_host()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    dead = process.pid
    kept = {
        f".t.parquet@{host}:{os.getpid()}.partial",
        f".t.parquet@other-{host}:{dead}.partial",
        f".t.parquet@{host}:none.partial",
        f".t.parquet@{host}:{10**30}.partial",
        ".t.partial",
        f"t.parquet@{host}:{dead}.partial",
        f".t.parquet@{host}:{dead}",
        "t.parquet",
    }
    removed = {f".t.{suffix}@{host}:{dead}.partial" for suffix in ("parquet", "csv")}
    for name in kept | removed:
        (tmp_path / name).touch()
    assert remove_partials(tmp_path) == 2
    assert contents(tmp_path).keys() == kept
    assert remove_partials(tmp_path / "missing") == 0


def test_a_partial_file_of_another_machine_is_removed_once_nobody_can_be_writing_it(
    tmp_path: Path,
) -> None:
    old, new = (tmp_path / f".{name}.parquet@{this_host()}-other:1.partial" for name in "ab")
    old.touch()
    new.touch()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(old, (two_days_ago, two_days_ago))
    assert remove_partials(tmp_path) == 1
    assert contents(tmp_path).keys() == {new.name}


def test_machines_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_host()
    read_text = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path: "another" if path.name == "boot_id" else read_text(path),
    )
    assert this_host.__wrapped__() != here


def test_partial_files_that_cannot_be_removed_stay_and_are_no_error(
    tmp_path: Path, refuse_to_remove: None
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    partial = tmp_path / f".t.parquet@{this_host()}:{process.pid}.partial"
    partial.touch()
    assert remove_partials(tmp_path) == 0
    assert contents(tmp_path).keys() == {partial.name}


def test_a_process_of_which_nothing_can_be_learned_is_taken_to_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert is_alive(os.getppid())


def test_a_process_lives_until_it_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_alive(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_alive(process.pid)
    assert not is_alive(process.pid)

    def not_ours(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_ours)
    assert is_alive(process.pid)


def test_a_process_that_was_killed_is_not_alive_though_nobody_has_asked_how_it_ended() -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert is_alive(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process.pid)
    process.wait()


def test_the_number_of_a_thread_is_no_process() -> None:
    numbers: list[int] = []
    thread = threading.Thread(target=lambda: (numbers.append(threading.get_native_id()), go.wait()))
    go = threading.Event()
    thread.start()
    try:
        while not numbers:
            thread.join(0.01)
        assert not is_alive(numbers[0])
    finally:
        go.set()
        thread.join()
