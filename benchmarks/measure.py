"""How it is measured: medians, and ratios of runs taken in turn within one run."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One measured figure, alone or against another.

    Attributes
    ----------
    what : str
        What was done.
    ours : float
        Median, in `unit`.
    unit : str
        Of `ours` and `theirs`.
    against : str
        What it is compared with; empty where nothing is.
    theirs : float or None
        Median of that.
    least_ratio : float or None
        How many times less ours is to be than theirs, at least.
    most : float or None
        What `ours` is to be at most, in `unit`.
    note : str
        What else a reader has to know.
    """

    what: str
    ours: float
    unit: str
    against: str = ""
    theirs: float | None = None
    least_ratio: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times less ours is."""
        return None if self.theirs is None or not self.ours else self.theirs / self.ours

    @property
    def is_met(self) -> bool | None:
        """Whether what was promised is kept; None where nothing was."""
        kept = []
        if self.least_ratio is not None:
            kept.append((self.ratio or 0) >= self.least_ratio)
        if self.most is not None:
            kept.append(self.ours <= self.most)
        return all(kept) if kept else None


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
