"""A series directory to its Parquet file: CPU time an image, the whole of what a worker does.

Against the plain way: pydicom, a list of dicts, polars, write. Ours also flushes the file to disk,
orders the slices and computes the geometry, which the plain way does not.
"""

from collections.abc import Iterator
from pathlib import Path

from aneurysm_assets.settings import Settings
from aneurysm_assets.writers import write_dicom_tags
from benchmarks.header import FILES, FRAMES, enhanced, load_sample
from benchmarks.measure import Line, cpu_seconds, in_turn
from benchmarks.plain import series_frame


def measure(root: Path) -> Iterator[Line]:
    """Measure CT, MR and one multi-frame file, made below a root."""
    cases = dict(zip(("CT", "MR"), load_sample(root), strict=True))
    cases[f"one file of {FRAMES} frames"] = enhanced(root)["shared geometry"].parent
    for name, folder in cases.items():
        yield _compare(name, folder, FRAMES if "frames" in name else FILES, root / "interim")


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
        f"series directory to Parquet, {name}, an image",
        1e6 * ours / images,
        "µs",
        "pydicom, dicts, polars",
        1e6 * theirs / images,
        least_ratio=None if "frames" in name else 15,
    )
