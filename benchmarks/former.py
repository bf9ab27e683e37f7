"""`aneurysm-assets run` against the single script that it replaces, rebuilt: wall, all included.

The script reads whole files and decodes the pixels, reads both CSVs for each series, keeps one
pandas table with lists as strings, and writes all of it anew after each series. The files have
real size, 512 x 512; their pixels are holes, so that no disk is waited for, which favours the
script: it reads 128 times the bytes.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pydicom import dcmread

from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.schema.columns import COMPETITION_TAGS, SERIES_KEY
from benchmarks.large import enlarge
from benchmarks.measure import Line, wall_seconds
from benchmarks.stage import seconds_anew

SERIES, FILES = 500, 200


def measure(root: Path) -> Iterator[Line]:
    """Run both on the same files below a root: ours three times, the script, so slow, once."""
    data = root / "former"
    raw = write_load_sample(data, SERIES, FILES)
    for path in (raw / "series").rglob("*.dcm"):
        enlarge(path, sparse=True)
    seconds = [seconds_anew(data) for _ in range(3)]
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    theirs = wall_seconds(lambda: _script(raw, data / "former.parquet"))
    yield Line(
        f"aneurysm-assets run, {SERIES} series x {FILES} files of 0.5 MB, wall",
        sorted(seconds)[1],
        "s",
        "the former script, rebuilt",
        theirs,
        least_ratio=50,
    )


def _script(raw: Path, table: Path) -> None:
    every = pd.DataFrame()
    for folder in sorted((raw / "series").iterdir()):
        train = pd.read_csv(raw / "train.csv")
        localizers = pd.read_csv(raw / "train_localizers.csv")
        rows = pd.DataFrame([_row(path) for path in sorted(folder.glob("*.dcm"))])
        rows = rows.merge(train, on=SERIES_KEY, how="left", suffixes=("_dicom", "_train"))
        rows = rows.merge(localizers, on=[SERIES_KEY, "SOPInstanceUID"], how="left")
        every = pd.concat([every, rows], ignore_index=True)
        every.to_parquet(table)


def _row(path: Path) -> dict[str, str | None]:
    data = dcmread(path)
    pixels = data.pixel_array
    row: dict[str, str | None] = {SERIES_KEY: path.parent.name, "shape": str(pixels.shape)}
    for column in COMPETITION_TAGS:
        value = data.get(column.name)
        row[column.name] = None if value is None else str(value)
    return row
