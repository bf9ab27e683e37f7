"""What makes the fingerprint of an input differ, and what does not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.storage import fingerprint
from aneurysm_assets.storage.fingerprint import (
    UNREADABLE,
    fingerprint_of_directory,
    fingerprint_of_files,
    fingerprint_of_rows,
)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    directory = tmp_path / "1.2.3"
    directory.mkdir()
    for name in ("a.dcm", "b.dcm", "c"):
        (directory / name).write_bytes(name.encode())
        os.utime(directory / name, ns=(10**18, 10**18))
    return directory


def overwrite(series: Path) -> None:
    # As long as before: only the time tells.
    (series / "a.dcm").write_bytes(b"A.DCM")


def overwrite_keeping_the_time(series: Path) -> None:
    (series / "a.dcm").write_bytes(b"longer than before")
    os.utime(series / "a.dcm", ns=(10**18, 10**18))


def touch_by_a_nanosecond(series: Path) -> None:
    os.utime(series / "a.dcm", ns=(10**18, 10**18 + 1))


def add(series: Path) -> None:
    (series / "d.dcm").touch()


def remove(series: Path) -> None:
    (series / "a.dcm").unlink()


def rename(series: Path) -> None:
    (series / "a.dcm").rename(series / "d.dcm")


def swap(series: Path) -> None:
    (series / "a.dcm").rename(series / "x")
    (series / "c").rename(series / "a.dcm")
    (series / "x").rename(series / "c")


def lead_nowhere(series: Path) -> None:
    (series / "a.dcm").unlink()
    (series / "a.dcm").symlink_to("nothing")


@pytest.mark.parametrize(
    "change",
    [
        overwrite,
        overwrite_keeping_the_time,
        touch_by_a_nanosecond,
        add,
        remove,
        rename,
        swap,
        lead_nowhere,
    ],
)
def test_a_change_of_the_files_changes_the_fingerprint(series, change) -> None:
    before = fingerprint_of_directory(series)
    change(series)
    assert fingerprint_of_directory(series) != before


def test_a_copy_that_keeps_the_times_has_the_same_fingerprint(series, tmp_path) -> None:
    copy = shutil.copytree(series, tmp_path / "copy")
    assert fingerprint_of_directory(copy) == fingerprint_of_directory(series)


def test_a_link_counts_as_what_it_leads_to(series, tmp_path) -> None:
    before = fingerprint_of_directory(series)
    (series / "a.dcm").rename(tmp_path / "elsewhere")
    (series / "a.dcm").symlink_to(tmp_path / "elsewhere")
    assert fingerprint_of_directory(series) == before


def test_directories_below_do_not_count_as_they_are_not_read(series) -> None:
    before = fingerprint_of_directory(series)
    (series / "sub").mkdir()
    (series / "link").symlink_to("sub")
    assert fingerprint_of_directory(series) == before


def test_names_that_are_no_text_are_taken(series) -> None:
    Path(os.fsdecode(os.fsencode(series) + b"/\xff.dcm")).touch()
    assert len(fingerprint_of_directory(series)) == 32


def test_a_directory_that_cannot_be_listed_is_named(tmp_path) -> None:
    with pytest.raises(SeriesError, match=r"gone cannot be read: No such file"):
        fingerprint_of_directory(tmp_path / "gone")


def test_files_are_told_apart_by_name_size_and_time(series) -> None:
    paths = [series / "a.dcm", series / "b.dcm"]
    before = fingerprint_of_files(paths)
    assert fingerprint_of_files(paths) == before
    assert fingerprint_of_files(paths[:1]) != before
    touch_by_a_nanosecond(series)
    assert fingerprint_of_files(paths) != before


def test_rows_are_told_apart_however_their_fields_are_cut() -> None:
    different = [
        [],
        [[]],
        [[""]],
        [["a", "b"]],
        [["a"], ["b"]],
        [["ab"]],
        [['a", "b']],
        [["b", "a"]],
    ]
    assert len({fingerprint_of_rows(rows) for rows in different}) == len(different)
    assert fingerprint_of_rows([("a", "b")]) == fingerprint_of_rows([["a", "b"]])


def test_the_module_answers_for_many_directories_as_a_program(series, tmp_path) -> None:
    asked = [str(series), str(tmp_path / "gone")]
    answer = subprocess.run(
        [sys.executable, "-m", fingerprint.__name__],
        input=json.dumps(asked),
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(answer.stdout) == [fingerprint_of_directory(series), UNREADABLE]
