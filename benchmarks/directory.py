"""A series directory to its Parquet file: CPU time per image, the whole of what a worker does.

Against the plain way: pydicom, a list of dicts, polars, write. Ours also flushes the file to disk,
orders the slices and computes the geometry, which the plain way does not.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from aneurysm_assets.dicom.table import write_dicom_tags
from aneurysm_assets.parallel.worker_process import start_worker
from aneurysm_assets.settings import Settings
from benchmarks.header import FILES, FRAMES, enhanced, load_sample
from benchmarks.measure import Line, cpu_seconds, in_turn
from benchmarks.plain import series_frame


def measure(root: Path) -> Iterator[Line]:
    """Measure CT, MR and one multi-frame file, made below a root, in a process as workers are."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=start_worker) as pool:
        yield from pool.submit(_measure, root).result()


def _measure(root: Path) -> list[Line]:
    lines = []
    cases = dict(zip(("CT", "MR"), load_sample(root), strict=True))
    cases[f"one file of {FRAMES} frames"] = enhanced(root)["shared geometry"].parent
    for name, folder in cases.items():
        images = FRAMES if "frames" in name else FILES
        lines.append(_compare(name, folder, images, root / "interim"))
    return lines


def _compare(name: str, folder: Path, images: int, interim: Path) -> Line:
    raw = folder.parent.parent
    settings = Settings(data=interim, raw=raw, interim=interim, workers=1)
    interim.mkdir(exist_ok=True)
    plain = interim / "plain.parquet"
    ours, theirs = in_turn(
        lambda: cpu_seconds(lambda: write_dicom_tags(settings, folder.name)),
        lambda: cpu_seconds(lambda: series_frame(folder, raw).write_parquet(plain)),
    )
    return Line(
        f"series directory to Parquet, {name}, per image",
        1e6 * ours / images,
        "µs",
        "pydicom, dicts, polars",
        1e6 * theirs / images,
        least_ratio=15,
    )
