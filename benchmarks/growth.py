"""What a further series costs, as there are more of them: 250, 1,000 and 4,000 of 51 files.

The slope from the second size to the third over that from the first to the second: 1 is a straight
line. The start of a run is in neither.
"""

from collections.abc import Iterator
from pathlib import Path

from aneurysm_assets.sample import write_load_sample
from benchmarks.measure import Line
from benchmarks.stage import seconds_anew

SERIES = (250, 1_000, 4_000)
FILES = 51


def measure(root: Path) -> Iterator[Line]:
    """Write each size below a root, 1.1 GB for all, and run each once."""
    roots = [root / f"growth-{number}" for number in SERIES]
    for data, number in zip(roots, SERIES, strict=True):
        write_load_sample(data, number, FILES)
    few, some, many = map(seconds_anew, roots)
    first = (some - few) / (SERIES[1] - SERIES[0])
    second = (many - some) / (SERIES[2] - SERIES[1])
    what = f"a further series of {FILES} files, of {SERIES[1]:,} to {SERIES[2]:,}, wall"
    against = f"of {SERIES[0]:,} to {SERIES[1]:,}"
    yield Line(what, 1e3 * second, "ms per series", against, 1e3 * first, least_ratio=1 / 1.1)
