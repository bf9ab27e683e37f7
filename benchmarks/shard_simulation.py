"""A million made-up series in a thousand shards: registered, cut off, resumed and combined.

Files, manifests and Dagster's record are real, at a few images a series; the rows of some shards
are made at full width too, by which all others are scaled. Each step is a process of its own, so
that its memory is its own, and checks its result against what is known of what was done.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.many_partitions import megabytes_below
from benchmarks.measure import Line
from benchmarks.shard_steps import (
    IMAGES,
    SERIES,
    SIZE,
    WIDE_IMAGES,
    WIDE_SHARDS,
    Figures,
)


def measure(root: Path, series: int = SERIES, size: int = SIZE) -> Iterator[Line]:
    """Go through the life of an archive, 2 GB on disk."""
    data = root / "archive"
    what = f"{series:,} series, {size:,} a shard"

    def step(name: str) -> Figures:
        return _alone(name, data)

    begun = _alone("begin", data, series, size)
    yield _cpu(f"{what}: put series into shards, and register them", begun, "begin")
    first = step("first")
    per_shard = 1000 / first["shards"]
    note = f"4 tables, {first['shards']:,.0f} shards, {IMAGES} images a series"
    yield _cpu(
        f"{what}: write and record a shard", first, "first", factor=per_shard, unit="ms", note=note
    )
    yield Line(f"{what}: Dagster's events a shard", first["events"] / first["shards"], "")
    yield Line(f"{what}: the run, peak memory", first["peak_mb"], "MB")
    cut = step("cut_off")
    yield Line(
        f"{what}: shards cut off at a random put", cut["shards"], "shards", note="of dicom_tags"
    )
    decided = step("decide")
    wanted = f"{decided['series']:,.0f} series in {decided['shards']:,.0f} shards to take"
    yield _cpu(f"{what}: resume decision, one table", decided, "one", note=wanted)
    yield _cpu(f"{what}: resume decision, four tables", decided, "four")
    yield Line(f"{what}: resume decision, peak memory", decided["peak_mb"], "MB")
    yield _cpu(f"{what}: Dagster's own status of the shards, one table", decided, "status")
    resumed = step("resume")
    yield _cpu(f"{what}: resume", resumed, "resume", note=f"{resumed['series']:,.0f} series")
    again = step("mend")
    alone = f"{again['series']:,.0f} series in {again['shards']:,.0f} shards"
    yield _cpu(f"{what}: take what had failed, alone", again, "mend", note=alone)
    changed = step("change")
    touched = f"{changed['series']:,.0f} series touch {changed['shards']:,.0f} shards, one table"
    yield _cpu(f"{what}: take 0.1 % that changed", changed, "change", note=touched)
    idle = step("idle")
    yield _cpu(f"{what}: run with nothing to do", idle, "idle", note="fingerprints given")
    yield Line(f"{what}: manifests of four tables", megabytes_below(data / "manifests"), "MB")
    yield Line(f"{what}: Dagster's databases", megabytes_below(data / "dagster"), "MB")
    by_shard = step("combine")
    yield _cpu(f"{what}: combine, a file a shard", by_shard, "combine", note=_rows(by_shard))
    yield Line(f"{what}: combine, a file a shard, peak memory", by_shard["peak_mb"], "MB")
    one = step("combine_all")
    yield _cpu(f"{what}: combine, one scan to one file", one, "combine", note=_rows(one))
    yield Line(f"{what}: combine, one scan to one file, peak memory", one["peak_mb"], "MB")
    asked = step("ask")
    yield _cpu(f"{what}: count positive images over all combined files", asked, "ask")
    shutil.rmtree(data)


def measure_wide(root: Path) -> Iterator[Line]:
    """Make some shards with as many images a series as real ones have, by which to scale."""
    data = root / "wide"
    series = WIDE_SHARDS * SIZE
    what = f"{WIDE_SHARDS} shards of {SIZE:,} series, {WIDE_IMAGES} images each"
    _alone("begin", data, series, SIZE)
    made = _alone("wide", data)
    yield _cpu(
        f"{what}: write and record a shard", made, "wide", factor=1000 / WIDE_SHARDS, unit="ms"
    )
    size = megabytes_below(data / "interim") / series * 1e3
    yield Line(f"{what}: tables, a series", size, "KB")
    apart = _alone("apart", data)
    yield Line(
        f"{what}: dicom_tags in a file a series, as the stage has it, a series",
        apart["bytes"] / 1e3,
        "KB",
        note=f"mean of {apart['series']:,.0f}",
    )
    yield Line(f"{what}: the run, peak memory", made["peak_mb"], "MB")
    for name, said in (("combine", "a file a shard"), ("combine_all", "one scan to one file")):
        figures = _alone(name, data)
        a_million = 1e6 / figures["rows"]
        yield _cpu(f"{what}: combine, {said}, a million rows", figures, "combine", factor=a_million)
        yield Line(f"{what}: combine, {said}, peak memory", figures["peak_mb"], "MB")
    row = megabytes_below(data / "unified") * 1e6 / (series * WIDE_IMAGES)
    yield Line(f"{what}: unified table, a row", row, "B")
    shutil.rmtree(data)


def _cpu(
    what: str,
    figures: Figures,
    name: str,
    *,
    factor: float = 1,
    unit: str = "s",
    note: str = "",
) -> Line:
    wall = f"wall {figures[f'{name}_wall'] * factor:.3g} {unit}"
    note = f"{wall}; {note}" if note else wall
    return Line(f"{what}, CPU", figures[f"{name}_cpu"] * factor, unit, note=note)


def _rows(figures: Figures) -> str:
    return f"{figures['rows']:,.0f} rows"


def _alone(step: str, data: Path, *sizes: int) -> Figures:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.shard_steps", step, *map(str, sizes)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"ANEURYSM_DATA": str(data)},
    )
    figures: Figures = json.loads(done.stdout)
    return figures
