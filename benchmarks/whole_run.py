"""`aneurysm-assets run` as a whole, and where its time goes, against a plain loop over the values.

1,263 series of 21 to 81 files, 51 on average, CT and MR; the phases are read from the run's log.
The plain loop reads the same values with pydicom, one file after the other, and keeps none; it
does so on every fifth series, and is taken five times.
"""

import logging
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.schema.tables import DICOM_TAGS
from benchmarks.measure import Line, wall_seconds
from benchmarks.plain import values_of
from benchmarks.stage import seconds_anew

SERIES, FEWEST, MOST = 1_263, 21, 81
EVERY = 5
ROUNDS = 5


@dataclass(frozen=True)
class Phases:
    """Seconds of a run: to its first series, of the headers, of the light tables, of all after."""

    start: float
    headers: float
    light: float
    rest: float


def measure(root: Path) -> Iterator[Line]:
    """Write the files below a root, 400 MB, and run both in turn."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    data = root / "whole"
    files = write_input(data)
    runs, plain = [], []
    for _ in range(ROUNDS):
        runs.append(run_once(data))
        plain.append(EVERY * wall_seconds(lambda: _read_plainly(data / "raw" / "series")))
    what = f"aneurysm-assets run, {SERIES:,} series, {files:,} files"
    ours = statistics.median(seconds for seconds, _ in runs)
    theirs = statistics.median(plain)
    yield Line(f"{what}, wall", ours, "s", "plain pydicom loop", theirs, least_ratio=12)
    phases = [phases for _, phases in runs]
    start = statistics.median(each.start for each in phases)
    yield Line("of it: from start to the first series", start, "s", most=1.2)
    headers = statistics.median(each.headers for each in phases)
    yield Line("of it: dicom_tags", headers, "s")
    yield Line(
        "of it: labels, localizers, segmentation_meta, of dicom_tags' time",
        statistics.median(each.light / each.headers for each in phases),
        "",
        most=0.2,
    )
    yield Line(
        "of it: unified_metadata, series_quality, volumes, checks, of dicom_tags' time",
        statistics.median(each.rest / each.headers for each in phases),
        "",
        most=0.3,
    )


def write_input(data: Path) -> int:
    """Write the series below a data root; return how many files they have."""
    raw = write_load_sample(data, SERIES, MOST)
    total = 0
    for index, folder in enumerate(sorted((raw / "series").iterdir())):
        kept = FEWEST + index % (MOST - FEWEST + 1)
        for path in sorted(folder.iterdir())[kept:]:
            path.unlink()
        total += kept
    return total


def run_once(data: Path) -> tuple[float, Phases]:
    """Run with nothing done before; return the seconds of all, and of each phase."""
    begun = time.time()
    seconds = seconds_anew(data)
    return seconds, _phases(max((data / "logs").iterdir()), begun, seconds)


def _phases(log: Path, begun: float, seconds: float) -> Phases:
    lines = log.read_text().splitlines(keepends=True)
    marks = (f" {DICOM_TAGS.name}: begins", f" {DICOM_TAGS.name}: ends", ": begin\n")
    first, last, combine = (
        next(_time_of(line) for line in lines if mark in line) - begun for mark in marks
    )
    return Phases(start=first, headers=last - first, light=combine - last, rest=seconds - combine)


def _time_of(line: str) -> float:
    stamp = line.split(maxsplit=1)[0].removesuffix("Z")
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()


def _read_plainly(series_root: Path) -> None:
    for folder in sorted(series_root.iterdir())[::EVERY]:
        for path in sorted(folder.iterdir()):
            values_of(str(path))
