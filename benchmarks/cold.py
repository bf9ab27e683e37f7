"""Files of 0.5 MB that are not in memory: wall time per file, against pydicom in one process.

Ours is the way of a run: worker processes and threads by default, each series written. The clock
starts with the first result, when the processes are there; a run of hours pays for that once.
"""

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import perf_counter

from aneurysm_assets.dicom.table import write_dicom_tags
from aneurysm_assets.parallel.series_map import SeriesResult, map_series
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.settings import Settings, default_workers
from benchmarks.large import drop_pages, enlarge
from benchmarks.measure import Line, wall_seconds
from benchmarks.plain import values_of

SERIES, FILES = 12, 200
ROUNDS = 3


def measure(root: Path) -> Iterator[Line]:
    """Write 1.2 GB below a root, and read the headers, all pages dropped before each round."""
    raw = write_load_sample(root / "cold", SERIES, FILES)
    folders = sorted((raw / "series").iterdir())
    files = [path for folder in folders for path in sorted(folder.iterdir())]
    for path in files:
        enlarge(path, sparse=False)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        drop_pages(files)
        ours.append(_by_workers(root / "cold", [folder.name for folder in folders]))
        drop_pages(files)
        seconds = wall_seconds(lambda: [values_of(str(path)) for path in files])
        theirs.append(1e6 * seconds / len(files))
    yield Line(
        f"cold cache, 0.5 MB files, {default_workers()} workers, wall per file",
        statistics.median(ours),
        "µs",
        "pydicom, one process",
        statistics.median(theirs),
        least_ratio=10,
    )


def _by_workers(data: Path, series: list[str]) -> float:
    settings = Settings(data, data / "raw", data / "interim", default_workers())
    start, counted = 0.0, 0
    for result in map_series(partial(write_dicom_tags, settings), series, settings.workers):
        if result is None:
            continue
        outcome = result[1]
        if not isinstance(outcome, SeriesResult):
            raise TypeError(outcome.reason)
        if start:
            counted += outcome.files
        else:
            start = perf_counter()
    return 1e6 * (perf_counter() - start) / counted
