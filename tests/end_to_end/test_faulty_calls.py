"""One call of the system fails in a run: a calm run after it makes what a fresh one makes.

The run that fails is a real process; which call of which kind fails is counted over all its
processes.
"""

import errno
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_histories import Root, require_equal
from tests.faults import Fault, FaultyCalls
from tests.made_up import ct, multi_frame, segmented, write
from tests.processes import call, call_here

ERRORS = {
    "open": (errno.EIO, errno.EACCES, errno.ENOENT, errno.ESTALE, errno.EMFILE),
    "read": (errno.EIO, errno.ESTALE, errno.ENOTCONN),
    "write": (errno.EIO, errno.ENOSPC, errno.EROFS),
    "fsync": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.EACCES, errno.ENOSPC),
}
FOLDERS = {
    "raw": ("open", "read"),
    "interim": ("write", "rename"),
    "dagster": ("read", "write", "fsync"),
}
"""The input, the tables, and Dagster's record: with the calls that fail in the usual suite."""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> FaultyCalls:
    return FaultyCalls(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("raw") / "raw"
    first = ct("first", 3).point(1, 4, 4)
    write(made, [segmented(first, {(4, 4, 1): 7}), multi_frame("second", 3)])
    return made


def some_faults(counted: dict[str, int], kinds: tuple[str, ...]) -> Iterator[Fault]:
    """Yield a fault of each kind, at random: a disk that refuses once, or from there on."""
    chance = random.Random(20261128)
    for kind in kinds:
        times = chance.choice((1, 1000))
        yield Fault(kind, chance.randint(1, counted[kind]), chance.choice(ERRORS[kind]), times)


def all_faults(counted: dict[str, int]) -> Iterator[Fault]:
    for kind, most in counted.items():
        yield from (Fault(kind, n, e) for n in range(1, most + 1) for e in ERRORS[kind])


def run(data: Path, variables: dict[str, str]) -> subprocess.CompletedProcess:
    return call("aneurysm-assets", "run", "--data", data, "--workers", 1, **variables)


@pytest.mark.parametrize("folder", FOLDERS)
def test_after_a_call_that_failed_a_calm_run_makes_what_a_fresh_one_does(
    raw, faulty, tmp_path, monkeypatch, is_long, folder: str
) -> None:
    fresh = tmp_path / "fresh" / "data"
    shutil.copytree(raw, fresh / "raw")
    done = run(fresh, faulty.variables(fresh / folder))
    assert done.returncode == 0, done.stdout + done.stderr
    counted = faulty.counted()
    assert all(counted[kind] for kind in FOLDERS[folder])
    expected = Root(fresh, monkeypatch).tables()
    for fault in all_faults(counted) if is_long else some_faults(counted, FOLDERS[folder]):
        data = Path(shutil.copytree(raw, tmp_path / "tried" / "data" / "raw")).parent
        first = run(data, faulty.variables(data / folder, fault))
        said = f"{fault}\n{first.stdout[-3000:]}\n{first.stderr[-3000:]}"
        assert "Traceback" not in first.stdout + first.stderr, said
        if first.returncode == 0:
            require_equal(Root(data, monkeypatch).tables(), expected)
        calm = call_here("run", "--data", data, "--workers", 1)
        assert calm.returncode == 0, f"{said}\n{calm.stdout}\n{calm.stderr}"
        require_equal(Root(data, monkeypatch).tables(), expected)
        assert not list(data.rglob("*.partial")), fault
        shutil.rmtree(data.parent)
