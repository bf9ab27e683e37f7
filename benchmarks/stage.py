"""`aneurysm-assets` as a user starts it, timed and watched from outside with all its processes."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

_COMMAND = Path(sys.executable).parent / "aneurysm-assets"
_COUNT_EVERY = 0.25
_WEIGH_EVERY = 4
"""Of those looks: to see the memory of all processes takes a good part of one."""


@dataclass
class Seen:
    """What was seen of a command.

    Attributes
    ----------
    seconds : float
        Wall time.
    peak_mb : float
        The most memory of all its processes together, looked at once a second: each page counted
        once (PSS).
    tables : list of (float, int)
        Seconds since the start, and how many series `dicom_tags` had by then.
    """

    seconds: float = 0.0
    peak_mb: float = 0.0
    tables: list[tuple[float, int]] = field(default_factory=list)


def watched(data: Path, *, is_watched: bool = True) -> Seen:
    """Run the stage on a data root to its end.

    Raises
    ------
    RuntimeError
        It did not end well.
    """
    seen = Seen()
    log = data / "run.log"
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            [_COMMAND, "run", "--data", data], stdout=output, stderr=subprocess.STDOUT
        )
        while is_watched and process.poll() is None:
            if len(seen.tables) % _WEIGH_EVERY == 0:
                seen.peak_mb = max(seen.peak_mb, sum(map(_pss_mb, _family(process.pid))))
            seen.tables.append((time.perf_counter() - start, _count(data / "interim/dicom_tags")))
            with suppress(subprocess.TimeoutExpired):
                process.wait(_COUNT_EVERY)
        process.wait()
    seen.seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: see {log}")
    return seen


def forget(data: Path) -> None:
    """Put aside all that a run has made.

    It is not removed: before it gives out an inode, ext4 looks at each that was removed in the last
    minutes, which took an eighth of the processor's time of the run that followed.
    """
    aside = Path(mkdtemp(prefix="forgotten-", dir=data))
    for name in ("interim", "dagster"):
        with suppress(FileNotFoundError):
            (data / name).rename(aside / name)


def seconds_anew(data: Path) -> float:
    """Forget all that a run has made, and run; return the wall time."""
    forget(data)
    return watched(data, is_watched=False).seconds


def throughput(seen: Seen, first: float, last: float) -> float:
    """Return the series per second between two parts, 0 to 1, of all series."""
    total = seen.tables[-1][1]
    start, end = (
        next(seconds for seconds, count in seen.tables if count >= part * total)
        for part in (first, last)
    )
    return (last - first) * total / (end - start)


def _count(directory: Path) -> int:
    return len(os.listdir(directory)) if directory.is_dir() else 0  # noqa: PTH208 - only how many


def _family(head: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
        children.setdefault(parent, []).append(int(stat.parent.name))
    family, left = [], [head]
    while left:
        family.append(left.pop())
        left += children.get(family[-1], [])
    return family


def _pss_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0  # it has just ended
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
