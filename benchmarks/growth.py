"""What a further series costs, as there are more of them: 250, 1,000 and 4,000 of 51 files.

The slope from the second size to the third over that from the first to the second: 1 is a straight
line. The start of a run is in neither.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

from aneurysm_assets.sample import write_load_sample
from benchmarks.measure import Line
from benchmarks.stage import forget, watched

SERIES = (250, 1_000, 4_000)
FILES = 51
ROUNDS = 1


def measure(root: Path) -> Iterator[Line]:
    """Write each size below a root, 1.1 GB for all, and run them in turn."""
    roots = [root / f"growth-{number}" for number in SERIES]
    for data, number in zip(roots, SERIES, strict=True):
        write_load_sample(data, number, FILES)
    seconds = [[_run(data) for data in roots] for _ in range(ROUNDS)]
    few, some, many = (statistics.median(of_size) for of_size in zip(*seconds, strict=True))
    first = (some - few) / (SERIES[1] - SERIES[0])
    second = (many - some) / (SERIES[2] - SERIES[1])
    what = f"a further series of {FILES} files, of {SERIES[1]:,} to {SERIES[2]:,}, wall"
    against = f"of {SERIES[0]:,} to {SERIES[1]:,}"
    yield Line(what, 1e3 * second, "ms per series", against, 1e3 * first, least_ratio=1 / 1.1)


def _run(data: Path) -> float:
    forget(data)
    return watched(data, is_watched=False).seconds
