"""What a million series cost, computed from what was measured: no figure here is a guess of ours.

Every line says by which formula. What is not measured here stands below as an assumption or a list
price, with where it is from.
"""

from collections.abc import Iterator, Mapping

from benchmarks import object_store
from benchmarks.many_partitions import COUNTS
from benchmarks.measure import Line
from benchmarks.report import Results
from benchmarks.shard_steps import (
    BATCH,
    SERIES,
    SIZE,
    WIDE_IMAGES,
    WIDE_SHARDS,
)

FILES = 50 * SERIES
TABLES = 4
SHARDS = SERIES // SIZE

GET_PRICE, PUT_PRICE = 0.0004 / 1000, 0.005 / 1000
"""US dollars a request, S3 Standard, us-east-1; a LIST costs as a PUT."""

KEYS_A_LIST = 1_000
GETS_A_SECOND = 5_500
"""Of one prefix, before S3 has split it further."""

LATENCY_SECONDS, IN_FLIGHT = 0.1, 64
"""Assumed: the lower end of what AWS says of small objects, and so many at once in a worker."""

FIRST_RANGES = (16, 64)
"""KB of a file that are fetched first."""


def costs(scale: Results, stage: Results) -> dict[str, list[Line]]:
    """Return what the layouts, the reading and the storage cost.

    Parameters
    ----------
    scale : Results
        Of `python -m benchmarks.sharded`.
    stage : Results
        Of `python -m benchmarks`.

    Raises
    ------
    KeyError
        A figure that a formula takes was not measured.
    """
    measured = {line.what: line.ours for line in (*scale.lines(), *stage.lines())}
    return {
        "now": list(_a_partition_a_series(measured)),
        "shards": list(_in_shards(measured)),
        "reading": list(_reading(measured)),
        "storage": list(_storage()),
    }


def _a_partition_a_series(measured: Mapping[str, float]) -> Iterator[Line]:
    most, before = COUNTS[-1], COUNTS[-2]
    last = f"{most:,} partitions of one asset"
    times = f"{SERIES / most:g} x"
    yield Line(
        "Dagster events", 2 * TABLES * SERIES, "", note="planned and materialised, four tables"
    )
    record = measured[f"{last}: plan and record a partition, CPU"]
    yield Line(
        "recording them, CPU",
        record * TABLES * SERIES / 3.6e6,
        "h",
        note=f"{record:.3g} ms a partition and table",
    )
    stored = measured[f"{last}: Dagster's databases"] / most * 1e3
    yield Line(
        "Dagster's databases",
        stored * TABLES * SERIES / 1e6,
        "GB",
        note=f"{stored:.3g} KB a partition and table",
    )
    decision = measured[f"{last}: resume decision of one table, all together, CPU"]
    yield Line(
        "resume decision, CPU",
        decision * SERIES / most * TABLES,
        "s",
        note=f"a straight line: {times} that of {most:,} partitions, four tables",
    )
    peaks = [
        measured[f"{n:,} partitions of one asset: resume decision, peak memory"]
        for n in (before, most)
    ]
    slope = (peaks[1] - peaks[0]) / (most - before)
    yield Line(
        "resume decision, peak memory of one table",
        peaks[1] + slope * (SERIES - most),
        "MB",
        note=f"a straight line through {before:,} and {most:,} partitions",
    )
    yield Line("tables on disk", TABLES * SERIES, "files", note="one a series and table")
    wide = f"{WIDE_SHARDS} shards of {SIZE:,} series, {WIDE_IMAGES} images each"
    size = measured[f"{wide}: dicom_tags in a file a series, as the stage has it, a series"]
    yield Line("dicom_tags on disk", size * SERIES / 1e6, "GB", note=f"{size:.3g} KB a series")


def _in_shards(measured: Mapping[str, float]) -> Iterator[Line]:
    what = f"{SERIES:,} series, {SIZE:,} a shard"
    wide = f"{WIDE_SHARDS} shards of {SIZE:,} series, {WIDE_IMAGES} images each"
    yield Line(
        "Dagster events", 2 * TABLES * SHARDS, "", note="planned and materialised, four tables"
    )
    stored = measured[f"{what}: Dagster's databases"]
    yield Line("Dagster's databases", stored, "MB", note="measured, after all runs above")
    for name in ("resume decision, four tables, CPU", "resume decision, peak memory"):
        unit = "s" if name.endswith("CPU") else "MB"
        yield Line(name, measured[f"{what}: {name}"], unit, note="measured")
    written = measured[f"{wide}: write and record a shard, CPU"]
    yield Line(
        "writing and recording all shards, CPU",
        written * SHARDS / 3.6e6,
        "h",
        note=f"{written:,.0f} ms a shard of {WIDE_IMAGES} images a series, making up its rows too",
    )
    size = measured[f"{wide}: tables, a series"]
    yield Line("tables on disk", size * SERIES / 1e6, "GB", note=f"{size:.3g} KB a series")
    yield Line(
        "files",
        SHARDS * (2 * TABLES + 2),
        "files",
        note="a shard: its members, a table and a manifest each of four, the unified table",
    )
    row = measured[f"{wide}: unified table, a row"]
    yield Line("unified table", row * FILES / 1e9, "GB", note=f"{row:.3g} B a row, a row a file")
    combined = measured[f"{wide}: combine, a file a shard, a million rows, CPU"]
    yield Line(
        "combine, a file a shard, CPU",
        combined * FILES / 1e6 / 60,
        "min",
        note=f"{combined:.3g} s a million rows",
    )


def _reading(measured: Mapping[str, float]) -> Iterator[Line]:
    image = measured["series directory to Parquet, CT, an image"]
    yield Line(
        "read from local disk, CPU", image * FILES / 3.6e9, "h", note=f"{image:.3g} µs an image"
    )
    cold = measured["cold cache, 0.5 MB files, 2 workers, wall a file"]
    yield Line(
        "read from local disk, nothing in memory, two workers, wall",
        cold * FILES / 3.6e9,
        "h",
        note=f"{cold:.3g} µs a file",
    )
    run = measured["4,348 series, 1,001,306 files in one run, wall"] / 1_001_306 * 1e6
    yield Line(
        "whole stage as it is now on local disk, two workers, wall",
        run * FILES / 3.6e9,
        "h",
        note=f"{run:.3g} µs a file: a run of 230 files a series, small ones in memory",
    )
    listed = measured["run with nothing to do"] / 1_001_306 * 1e6
    yield Line(
        "run with nothing to do, wall",
        listed * FILES / 60e6,
        "min",
        note=f"{listed:.3g} µs a file, with the start of the program",
    )
    waited = LATENCY_SECONDS / IN_FLIGHT
    yield Line(
        "read from S3 by one worker, waiting alone",
        waited * FILES / 3600,
        "h",
        note=f"files x {LATENCY_SECONDS * 1e3:g} ms / {IN_FLIGHT} in flight; assumed, not measured",
    )
    at_hand = measured[object_store.FROM_THE_STORE] / object_store.FILES
    yield Line(
        "read from an S3 server on loopback by one process, wall",
        at_hand * FILES / 3600e3,
        "h",
        note=f"{at_hand:.3g} ms a file, measured, with the server on the same processors",
    )
    yield Line(
        "read from S3, least time by its rate for one prefix",
        FILES / GETS_A_SECOND / 3600,
        "h",
        note=f"files / {GETS_A_SECOND:,} a second, by however many workers",
    )
    for first in FIRST_RANGES:
        yield Line(
            f"fetched with a first range of {first} KB",
            FILES * first / 1e9,
            "TB",
            note="files x range",
        )


def _storage() -> Iterator[Line]:
    yield _requests("GET, a first range of each file", FILES, GET_PRICE, "files")
    yield _requests("LIST, series by series", SERIES, PUT_PRICE, "a look at all files: series")
    flat = FILES // KEYS_A_LIST
    yield _requests(
        "LIST, all keys in a row", flat, PUT_PRICE, "a look at all files: files / 1,000"
    )
    yield _requests("PUT, a partition a series", TABLES * SERIES, PUT_PRICE, "four tables")
    batches = -(-SIZE // BATCH)
    # Of dicom_tags rows and manifest a batch, and both once more; of the others both once.
    puts = SHARDS * (2 * batches + 2 + 2 * (TABLES - 1) + 2)
    note = f"{puts // SHARDS} a shard, members and unified table among them"
    yield _requests("PUT, in shards", puts, PUT_PRICE, note)


def _requests(what: str, count: int, price: float, note: str) -> Line:
    return Line(what, count * price, "US$", note=f"{count:,} requests: {note}")
