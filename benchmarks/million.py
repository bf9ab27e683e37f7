"""All series of the data set in one run, and again with nothing to do, and the combine alone.

4,348 series of 230 or 231 files, 1,001,306 in all, of about 4 KB. The combine is held against a
bare scan to sink of the same 4 x 4,348 files.
"""

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from aneurysm_assets.raw.fingerprint_processes import FingerprintProcesses
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.schema.tables import SERIES_TABLES, UNIFIED_METADATA, VOLUMES
from aneurysm_assets.settings import Settings, default_workers
from aneurysm_assets.storage.table_files import write_table
from aneurysm_assets.storage.table_names import find_tables
from aneurysm_assets.storage.table_scans import scan_tables
from aneurysm_assets.unified.combine import (
    combine,
    describe,
    points_without_image,
    scan_unified,
)
from aneurysm_assets.unified.volumes import volumes_of
from benchmarks.measure import Line, in_turn, wall_seconds
from benchmarks.stage import throughput, watched

SERIES, FILES, ALL_FILES = 4_348, 230, 1_001_306


def measure(root: Path) -> Iterator[Line]:
    """Write the files below a root, 4 GB, and run."""
    data = root / "million"
    raw = write_load_sample(data, SERIES, FILES)
    _fill_up(raw, ALL_FILES - SERIES * FILES)
    seen = watched(data)
    start, end = throughput(seen, 0.05, 0.25), throughput(seen, 0.75, 0.95)
    what = f"{SERIES:,} series, {ALL_FILES:,} files in one run"
    yield Line(f"{what}, wall", seen.seconds, "s")
    yield Line(f"{what}, peak memory of all processes", seen.peak_mb, "MB", most=1_500)
    yield Line(f"{what}, series/s at the start over those at the end", start / end, "", most=1.1)
    again = [watched(data, is_watched=False).seconds for _ in range(5)]
    nothing = "run with nothing to do"
    yield Line(nothing, statistics.median(again), "s", "the full run", seen.seconds, least_ratio=50)
    looking = statistics.median(wall_seconds(lambda: _look(data)) for _ in range(5))
    yield Line(f"{nothing}, of it to look at each file", looking, "s")
    opened = _opened(data)
    yield Line(f"{nothing}, DICOM files opened", opened, "files", most=0)
    yield from _combine(data)
    yield from _volumes(data)


def _fill_up(raw: Path, files: int) -> None:
    """Give one file more, a copy under another name, to each of the first series."""
    for folder in sorted((raw / "series").iterdir())[:files]:
        source = min(folder.iterdir())
        (folder / "one_more.dcm").write_bytes(source.read_bytes())


def _look(data: Path) -> None:
    """Take the names, sizes and times of all DICOM files, as a run does and with nothing beside."""
    settings = _settings(data)
    with FingerprintProcesses(
        settings, _series(settings), default_workers()
    ) as fingerprint_processes:
        fingerprint_processes.answers()


def _opened(data: Path) -> float:
    """Count the DICOM files that a run opens, by Python's own audit of every open."""
    program = (
        "import sys, atexit\n"
        "seen = set()\n"
        "sys.addaudithook(lambda event, args: event == 'open' and str(args[0]).endswith('.dcm') "
        "and seen.add(args[0]))\n"
        "atexit.register(lambda: print(len(seen), file=sys.stderr))\n"
        f"sys.argv = ['aneurysm-assets', 'run', '--data', {str(data)!r}]\n"
        "from aneurysm_assets.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        # With one worker the directories are listed in that process, where it is seen.
        env=os.environ | {"ANEURYSM_WORKERS": "1"},
    )
    return float(done.stderr.split()[-1])


def _combine(data: Path) -> Iterator[Line]:
    settings = _settings(data)
    series = _series(settings)
    ours, bare = in_turn(
        lambda: wall_seconds(lambda: _unified(settings, series)),
        lambda: wall_seconds(lambda: _scan_to_sink(settings)),
        3,
    )
    what = f"unified_metadata, {ALL_FILES:,} images"
    yield Line(f"{what}, wall", ours, "s", "bare scan to sink", bare, least_ratio=0.5)
    yield Line(f"{what}, peak memory", _alone("unified", data)[1], "MB", most=1_000)


def _volumes(data: Path) -> Iterator[Line]:
    seconds, peaks = zip(*(_alone("volumes", data) for _ in range(3)), strict=True)
    what = f"volumes, {ALL_FILES:,} images"
    yield Line(f"{what}, wall", statistics.median(seconds), "s", most=5)
    yield Line(f"{what}, peak memory", max(peaks), "MB", most=1_000)


def _unified(settings: Settings, series: list[str]) -> None:
    unified = combine(settings, series)
    stored = write_table(unified.frame, UNIFIED_METADATA, settings.data / "unified")
    table = scan_tables(UNIFIED_METADATA, [stored.path])
    describe(points_without_image(unified.points, table), table)


def _scan_to_sink(settings: Settings) -> None:
    for table in SERIES_TABLES:
        paths = list(find_tables(settings.interim / table.name).values())
        scan = pl.scan_parquet(paths, schema=table.schema, glob=False, hive_partitioning=False)
        scan.sink_parquet(settings.data / "bare.parquet")


def _alone(table: str, data: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory in MB of a process that makes nothing but a table."""
    command = [sys.executable, "-m", "benchmarks.million", table, str(data)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def make(table: str, data: Path) -> None:
    """Make one table of the data set, of what a run has made below a data root."""
    settings = _settings(data)
    if table == "volumes":
        write_table(volumes_of(scan_unified(settings)), VOLUMES, settings.data / "volumes")
    else:
        _unified(settings, _series(settings))


def _settings(data: Path) -> Settings:
    return Settings(data, data / "raw", data / "interim", 1)


def _series(settings: Settings) -> list[str]:
    return sorted(find_tables(settings.interim / SERIES_TABLES[0].name))


if __name__ == "__main__":
    made = wall_seconds(lambda: make(sys.argv[1], Path(sys.argv[2])))
    print(made, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
