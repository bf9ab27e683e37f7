"""A tick of the automation on an instance on which there is nothing to do."""

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from aneurysm_assets.instance.data_root import open_instance
from aneurysm_assets.runs.tick_plan import SensorState, plan_tick
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.settings import Settings
from benchmarks.many_partitions import timed
from benchmarks.measure import Line
from benchmarks.stage import watched

SERIES, FILES, TICKS = 4_348, 4, 7


def measure(root: Path) -> Iterator[Line]:
    """Read many series of few files, and look what there is to do, again and again."""
    data = root / "idle"
    write_load_sample(data, SERIES, FILES)
    watched(data, is_watched=False)
    os.environ["ANEURYSM_DATA"] = str(data)
    settings = Settings.from_environment()
    state = SensorState()
    ticks: list[dict[str, float]] = []
    with open_instance(settings) as instance:
        for _ in range(TICKS):
            figures: dict[str, float] = {}
            timed(figures, "tick", lambda: plan_tick(instance, settings, state))
            ticks.append(figures)
    cpu, wall = (
        statistics.median(figures[f"tick_{clock}"] for figures in ticks[1:])
        for clock in ("cpu", "wall")
    )
    what = f"{SERIES:,} series of {FILES} files, nothing to do"
    yield Line(f"{what}: a tick of the automation, CPU", cpu, "s", note=f"wall {wall:.3g} s")
    first = ticks[0]
    note = f"wall {first['tick_wall']:.3g} s"
    yield Line(f"{what}: the first tick of a process, CPU", first["tick_cpu"], "s", note=note)
