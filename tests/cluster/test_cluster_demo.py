"""`make cluster-demo` as it is run: what it prints, and that nothing of it stays."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers.process import MissingProgram, find_program
from tests.conftest import ROOT
from tests.running_cluster import QUICK

SAMPLE_SERIES = 12


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return a directory for the demonstration's, which other accounts may pass through."""
    for name in ("initdb", "redis-server", "weed"):
        try:
            find_program(
                name, "", [*Path("/usr/lib/postgresql").glob("*/bin"), Path(sys.executable).parent]
            )
        except MissingProgram:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"{name} is not installed")
    made = Path(tempfile.mkdtemp(prefix="demo-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def quick(tmp_path: Path) -> str:
    """Return a PYTHONPATH with which the daemon looks for backfills every 2 seconds, not 30."""
    (tmp_path / "sitecustomize.py").write_text(QUICK)
    return os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])


def demonstration(temporary: Path, quick: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.cluster_demo"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": quick},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_behind(temporary: Path) -> list[str]:
    """Return the processes that have the directory in their command or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue  # it has ended
        if str(temporary).encode() in told:
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def test_the_demonstration_takes_the_sample_by_two_workers_and_leaves_nothing(
    temporary: Path, quick: str
) -> None:
    process = demonstration(temporary, quick)
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    for table in ("dicom_tags", "labels", "localizers", "segmentation_meta"):
        assert f"{table}: {SAMPLE_SERIES} series materialized, each once" in told
    assert re.search(r"worker-1@here: \d+ runs", told)
    assert re.search(r"worker-2@here: \d+ runs", told)
    assert re.search(r"s3://demonstration/interim/dicom_metadata_with_csv.parquet: \d+ rows", told)
    assert list(temporary.iterdir()) == []
    assert left_behind(temporary) == []


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, "watch it at"),
        pytest.param(signal.SIGINT, "watch it at", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, "starting PostgreSQL", marks=pytest.mark.long),
    ],
)
def test_stopped_in_the_middle_the_demonstration_stops_all_that_it_started(
    temporary: Path, quick: str, number: signal.Signals, moment: str
) -> None:
    process = demonstration(temporary, quick)
    assert process.stdout is not None
    for line in process.stdout:
        if moment in line:
            break
    assert left_behind(temporary)
    process.send_signal(number)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "everything that was started is stopped" in told
    assert "Traceback" not in told
    assert list(temporary.iterdir()) == []
    assert left_behind(temporary) == []
