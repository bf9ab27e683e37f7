"""Header to typed values, and series directory to polars frame: CPU time a file, against pydicom.

Warm cache, one process. A reader starts anew with each series, as a run does: what it takes to
learn a series' layout is in the figures.

    python -m benchmarks.header [results.json]
"""

import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.data import get_testdata_file

from aneurysm_assets.extraction.reader import SeriesReader
from aneurysm_assets.extraction.series import read_series
from aneurysm_assets.extraction.wanted import DTYPES, GROUPS, PER_FRAME, SHARED
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.sample.dicom import write_enhanced
from aneurysm_assets.sample.grid import Grid
from aneurysm_assets.tables import DICOM_TAGS, SERIES_KEY
from benchmarks.measure import Line, cpu_seconds, in_turn, report

FILES, FRAMES = 200, 300
ROUNDS = 7

_TOP = tuple(name for name in DTYPES if name != "TransferSyntaxUID")
_REAL_SERIES = (
    "98892003/MR1",
    "98892003/MR2",
    "98892003/MR700",
    "98892001/CT5N",
    "77654033/CT2",
    "TINY_ALPHA/PT000000/ST000000/SE000000",
)

Series = Sequence[str]


def main() -> None:
    """Measure everything, print it, and write it as JSON where a path is given."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        lines = [*_single_frame(root), *_bundled(), *_multi_frame(root), *_frames(root)]
    report(lines, Path(sys.argv[1]) if len(sys.argv) > 1 else None)


def _single_frame(root: Path) -> Iterable[Line]:
    for name, folder in zip(("CT", "MR"), _load_sample(root), strict=True):
        files = _files(folder)
        elements = len(dcmread(files[0]))
        what = f"header to values, {name}, {FILES} files of {elements} elements, a file"
        yield _values(what, [files], len(files), "20x, aim 40x")


def _bundled() -> Iterable[Line]:
    root = Path(str(get_testdata_file("DICOMDIR", download=False))).parent
    series = [_files(root / name) for name in _REAL_SERIES]
    for folder, files in zip(_REAL_SERIES, series, strict=True):
        what = f"header to values, pydicom's {folder[:13]}, {len(files)} files, a file"
        yield _values(what, [files], len(files), "5x, aim 20x")
    count = sum(map(len, series))
    what = f"header to values, pydicom's {len(series)} series, {count} files, a file"
    yield _values(what, series, count, "5x, aim 20x")


def _multi_frame(root: Path) -> Iterable[Line]:
    for name, path in _enhanced(root).items():
        what = f"header to values, {FRAMES} frames, {name}, a frame"
        yield _values(what, [[str(path)]], FRAMES, "5x, aim 20x")


def _frames(root: Path) -> Iterable[Line]:
    cases = dict(zip(("CT", "MR"), _load_sample(root), strict=True))
    cases |= {f"{FRAMES} frames": _enhanced(root)["shared geometry"].parent}
    for name, folder in cases.items():
        raw = folder.parent.parent
        count = FRAMES if "frames" in name else FILES
        yield _compare(
            f"directory to polars frame, {name}, an image",
            lambda folder=folder, raw=raw: read_series(folder, raw),
            lambda folder=folder, raw=raw: _plain_frame(folder, raw),
            count,
            "",
        )


def _values(what: str, series: Sequence[Series], count: int, budget: str) -> Line:
    return _compare(
        what,
        lambda: [_read(files) for files in series],
        lambda: [[_plain_values(path) for path in files] for files in series],
        count,
        budget,
    )


def _compare(
    what: str, ours: Callable[[], object], theirs: Callable[[], object], count: int, budget: str
) -> Line:
    seconds = in_turn(lambda: cpu_seconds(ours), lambda: cpu_seconds(theirs), ROUNDS)
    mine, other = (1e6 * median / count for median in seconds)
    return Line(what, "pydicom", mine, other, "us", budget)


def _read(files: Series) -> None:
    reader = SeriesReader(len(files))
    for path in files:
        if reader.read(path) is None:
            raise RuntimeError(f"{path} is not read by its bytes")


def _plain_values(path: str) -> list[dict[str, Any]]:
    """Read the same values with pydicom, as one would."""
    data = dcmread(path, stop_before_pixels=True, specific_tags=[*_TOP, PER_FRAME, SHARED])
    values = {name: data.get(name) for name in _TOP}
    values["TransferSyntaxUID"] = data.file_meta.get("TransferSyntaxUID")
    shared = data.get(SHARED)
    common = values | (_group_values(shared[0]) if shared else {})
    return [common | _group_values(frame) for frame in data.get(PER_FRAME) or ()] or [common]


def _group_values(groups: Dataset) -> dict[str, Any]:
    values = {}
    for name, sequence in GROUPS.items():
        items = groups.get(sequence)
        if items and name in items[0]:
            values[name] = items[0].get(name)
    return values


def _plain_frame(folder: Path, raw: Path) -> pl.DataFrame:
    """Make the same table from a list of dicts."""
    rows = []
    for path in sorted(folder.iterdir()):
        about = {
            SERIES_KEY: folder.name,
            "dicom_path": path.relative_to(raw).as_posix(),
            "file_size": path.stat().st_size,
        }
        for index, values in enumerate(_plain_values(str(path))):
            typed = {name: _plainly_typed(value) for name, value in values.items()}
            rows.append(typed | about | {"frame_index": index})
    columns = {name: [row.get(name) for row in rows] for name in DICOM_TAGS.column_names}
    return pl.DataFrame(columns, schema=DICOM_TAGS.schema).sort("InstanceNumber")


def _plainly_typed(value: Any) -> Any:  # noqa: ANN401 - pydicom's values are of any type
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    return [float(number) for number in value]


def _files(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir()) if path.name != "README"]


def _load_sample(root: Path) -> tuple[Path, Path]:
    """Return a series of CT and one of MR of the load sample."""
    series = root / "load" / "raw" / "series"
    if not series.is_dir():
        write_load_sample(root / "load", 2, FILES)
    by_modality = {dcmread(_files(f)[0]).Modality: f for f in series.iterdir()}
    return by_modality["CT"], by_modality["MR"]


def _enhanced(root: Path) -> dict[str, Path]:
    """Return Enhanced MR files, each the only one of a series, by what is in their groups."""
    made = {}
    for name, shared in (("shared geometry", True), ("own geometry", False)):
        folder = root / "enhanced" / "series" / f"1.2.{int(shared)}"
        if not folder.is_dir():
            grids = [_grid(index) for index in range(FRAMES)]
            pixels = np.zeros((FRAMES, 16, 16), np.int16)
            write_enhanced(folder, folder.name, grids, pixels, shared=shared)
        made[name] = next(folder.iterdir())
    for name, undefined in (("all groups", False), ("all groups, undefined length", True)):
        path = root / "enhanced" / "series" / f"1.3.{int(undefined)}" / "rich.dcm"
        if not path.is_file():
            path.parent.mkdir()
            _write_rich(made["own geometry"], path, undefined)
        made[name] = path
    return made


def _grid(index: int) -> Grid:
    position = (-90.5 + 0.03 * index, -110.25, 0.7 * index - 75.5)
    return Grid(position, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.5, 0.5), 0.7, (1, 16, 16))


def _write_rich(source: Path, path: Path, undefined: bool) -> None:
    """Write a file again with as many functional groups a frame as a scanner has."""
    data = dcmread(source)
    for index, frame in enumerate(data[PER_FRAME].value):
        _nest(frame, "MRTimingAndRelatedParametersSequence", RepetitionTime=25.5, FlipAngle=18.0)
        _nest(frame, "MREchoSequence", EffectiveEchoTime=3.5 + index / 100)
        _nest(frame, "MRAveragesSequence", NumberOfAverages=1.0)
        _nest(frame, "MRImageFrameTypeSequence", FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"])
        _nest(frame, "FrameVOILUTSequence", WindowCenter="350", WindowWidth=str(700 + index))
        _nest(frame, "FrameAnatomySequence", FrameLaterality="U")
        _nest(frame, "MRMetaboliteMapSequence", MetaboliteMapDescription=f"frame {index}")
    if undefined:
        _make_undefined(data)
    dcmwrite(path, data)


def _nest(frame: Dataset, name: str, **values: object) -> None:
    group = Dataset()
    for keyword, value in values.items():
        setattr(group, keyword, value)
    setattr(frame, name, [group])


def _make_undefined(data: Dataset) -> None:
    for element in data:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _make_undefined(item)


if __name__ == "__main__":
    main()
