"""Series read from a disk and from an object store: wall time, and requests per series.

The store is SeaweedFS on loopback, on the processors of the reader: it answers sooner than any
across a network, and takes its share of the machine, more than the reader. So of a store that is
far away it is left out: a proxy gives what it answered once. What a bucket costs elsewhere follows
from the requests and from how long one takes there.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from unittest import mock

from aneurysm_assets.dicom.table import write_dicom_tags
from aneurysm_assets.parallel.pool import workers_kept
from aneurysm_assets.parallel.series_map import SeriesFailure, Work, map_series
from aneurysm_assets.raw.fingerprints import take_fingerprints
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.settings import Settings, default_workers
from aneurysm_assets.storage import object_store
from aneurysm_assets.storage.object_path import Location, ObjectPath
from benchmarks.measure import Line, in_turn, wall_seconds
from benchmarks.slow_answers import answers_late
from deploy.servers.s3 import S3Server

SERIES, FILES = 16, 200
ROUNDS = 3
THREADS = 16
MOST_AT = {20: 1e6 / 1_500, 100: None}
"""Microseconds that a header may take, by the milliseconds before the first byte of an answer:
about what S3 takes within its region, and from another one."""

FROM_THE_STORE = f"a series of {FILES} files from an S3 server on loopback, one process, wall"
"""Its line's name, for what is computed from it."""


def measure(root: Path) -> Iterator[Line]:
    """Read the same series in turn from below a root and from a bucket; tables go to the disk."""
    raw = write_load_sample(root / "load", SERIES, FILES)
    with (
        S3Server(root / "store") as server,
        mock.patch.dict(os.environ, server.variables),
    ):
        bucket = ObjectPath.parse(server.make_bucket("benchmark"))
        _upload(raw, bucket)
        series = sorted(path.name for path in (raw / "series").iterdir())
        yield from _compare(_settings(root, raw), _settings(root, bucket), series)
        for milliseconds, most in MOST_AT.items():
            yield _far_away(_settings(root, bucket), server.port, series, milliseconds, most)


def _settings(root: Path, raw: Location) -> Settings:
    return Settings(root, raw, root / "interim", default_workers())


def _compare(disk: Settings, store: Settings, series: list[str]) -> Iterator[Line]:
    mine, other = in_turn(
        lambda: wall_seconds(lambda: [write_dicom_tags(store, uid) for uid in series]),
        lambda: wall_seconds(lambda: [write_dicom_tags(disk, uid) for uid in series]),
        ROUNDS,
    )
    yield Line(
        FROM_THE_STORE,
        1e3 * mine / SERIES,
        "ms per series",
        "from a disk",
        1e3 * other / SERIES,
        note=f"{SERIES / mine:.3g} against {SERIES / other:.3g} series per second",
    )
    mine, other = in_turn(
        lambda: wall_seconds(lambda: take_fingerprints(store, series)),
        lambda: wall_seconds(lambda: take_fingerprints(disk, series)),
        ROUNDS,
    )
    what = "what has changed in the store, wall"
    yield Line(what, 1e3 * mine / SERIES, "ms per series", "on a disk", 1e3 * other / SERIES)
    requests = _requests(lambda: write_dicom_tags(store, series[0]))
    yield Line(f"a series of {FILES} files from the store", requests, "requests")


def _far_away(
    store: Settings, port: int, series: list[str], milliseconds: int, most: float | None
) -> Line:
    """Read all series by a worker process, as a run does, from a store that is far away."""
    with (
        answers_late(port, milliseconds) as late,
        mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{late}"}),
    ):
        work = partial(write_dicom_tags, store)
        with workers_kept():
            seconds = [wall_seconds(lambda: _read_all(work, series)) for _ in range(ROUNDS + 1)][1:]
    headers = len(series) * FILES
    return Line(
        f"headers from a store that answers after {milliseconds} ms, one worker, wall",
        1e6 * statistics.median(seconds) / headers,
        "µs per header",
        most=most,
        note=f"{headers / statistics.median(seconds):,.0f} per second",
    )


def _read_all(work: Work, series: list[str]) -> None:
    for item in map_series(work, series, 1):
        if item is not None and isinstance(item[1], SeriesFailure):
            raise RuntimeError(item[1].reason)


def _requests(work: Callable[[], object]) -> int:
    """Count what is asked of the store; a listing of up to a thousand names is one request."""
    asked = count()

    def counted(ask: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object, **options: object) -> object:
            next(asked)
            return ask(*arguments, **options)

        return counting

    names = ("get", "head", "list_with_delimiter", "list")
    with mock.patch.multiple(
        object_store.obstore,
        **{name: counted(getattr(object_store.obstore, name)) for name in names},
    ):
        work()
    return next(asked)


def _upload(raw: Path, bucket: ObjectPath) -> None:
    files = [path for path in raw.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(
            lambda file: (bucket / file.relative_to(raw).as_posix()).upload(file), files
        ):
            pass


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        for line in measure(Path(directory)):
            against = f"  {line.against}: {line.theirs:,.3g}" if line.theirs is not None else ""
            print(f"{line.what}: {line.ours:,.3g} {line.unit}{against}", flush=True)


if __name__ == "__main__":
    main()
