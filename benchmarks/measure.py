"""How it is measured and printed: medians, and ratios of runs taken in turn within one run."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """One measured figure against another.

    Attributes
    ----------
    what : str
        What was done.
    against : str
        What it is compared with.
    ours, theirs : float
        Medians, in `unit`.
    unit : str
        Of both.
    budget : str
        What is promised of the ratio or the figure, and empty where nothing is.
    """

    what: str
    against: str
    ours: float
    theirs: float
    unit: str
    budget: str = ""

    @property
    def ratio(self) -> float:
        """How many times less ours is."""
        return self.theirs / self.ours if self.ours else float("inf")


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this process that some work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def wall_seconds(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(
    ours: Callable[[], float], theirs: Callable[[], float], rounds: int = 5
) -> tuple[float, float]:
    """Measure two things in turn, after one round that does not count; return both medians."""
    pairs = [(ours(), theirs()) for _ in range(rounds + 1)][1:]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def report(lines: Sequence[Line], results: Path | None = None) -> None:
    """Print a table, and write it as JSON beside the machine it was measured on."""
    print(f"{'what':<58}{'ours':>12}{'theirs':>12}{'ratio':>9}  budget")
    for line in lines:
        print(
            f"{line.what + ' vs ' + line.against:<58.57}{line.ours:>12.4g}{line.theirs:>12.4g}"
            f"{line.ratio:>8.1f}x  {line.budget} [{line.unit}]"
        )
    if results is not None:
        machine = {
            "python": sys.version.split()[0],
            "cpus": os.cpu_count(),
            "system": platform.platform(),
        }
        rows = [asdict(line) | {"ratio": line.ratio} for line in lines]
        results.write_text(json.dumps({"machine": machine, "lines": rows}, indent=2))
