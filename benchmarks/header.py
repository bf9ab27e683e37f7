"""Header to typed values: CPU time per file, against pydicom reading the same values.

Warm cache, one process. A reader starts anew with each series, as a run does: what it takes to
learn a series' layout is in the figures.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.data import get_testdata_file

from aneurysm_assets.dicom.attributes import PER_FRAME
from aneurysm_assets.dicom.fast_parser.reader import SeriesReader
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.sample.dicom import write_enhanced
from aneurysm_assets.sample.grid import Grid
from benchmarks.measure import Line, cpu_seconds, in_turn
from benchmarks.plain import values_of

FILES, FRAMES = 200, 300
ROUNDS = 7

_REAL_SERIES = (
    "98892003/MR1",
    "98892003/MR2",
    "98892003/MR700",
    "98892001/CT5N",
    "77654033/CT2",
    "TINY_ALPHA/PT000000/ST000000/SE000000",
)

Series = Sequence[str]


def measure(root: Path) -> Iterator[Line]:
    """Measure every kind of header, on files made below a root."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    yield from _single_frame(root)
    yield from _bundled()
    yield from _multi_frame(root)


def _single_frame(root: Path) -> Iterator[Line]:
    for name, folder in zip(("CT", "MR"), load_sample(root), strict=True):
        files = _files(folder)
        elements = len(dcmread(files[0]))
        what = f"header to values, {name}, {FILES} files of {elements} elements, per file"
        yield _values(what, [files], len(files), 20)


def _bundled() -> Iterator[Line]:
    root = Path(str(get_testdata_file("DICOMDIR", download=False))).parent
    series = [_files(root / name) for name in _REAL_SERIES]
    for folder, files in zip(_REAL_SERIES, series, strict=True):
        what = f"header to values, pydicom's {folder[:13]}, {len(files)} files, per file"
        yield _values(what, [files], len(files), None)
    count = sum(map(len, series))
    what = f"header to values, pydicom's {len(series)} series, {count} files, per file"
    yield _values(what, series, count, 5)


def _multi_frame(root: Path) -> Iterator[Line]:
    for name, path in enhanced(root).items():
        what = f"header to values, {FRAMES} frames, {name}, per frame"
        yield _values(what, [[str(path)]], FRAMES, 5)


def _values(what: str, series: Sequence[Series], count: int, least: float | None) -> Line:
    return _compare(
        what,
        lambda: [_read(files) for files in series],
        lambda: [[values_of(path) for path in files] for files in series],
        count,
        least,
    )


def _compare(
    what: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    count: int,
    least: float | None,
) -> Line:
    seconds = in_turn(lambda: cpu_seconds(ours), lambda: cpu_seconds(theirs), ROUNDS)
    mine, other = (1e6 * median / count for median in seconds)
    return Line(what, mine, "µs", "pydicom", other, least_ratio=least)


def _read(files: Series) -> None:
    reader = SeriesReader(len(files))
    for path in files:
        if reader.read(path) is None:
            raise RuntimeError(f"{path} is not read by its bytes")


def _files(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir()) if path.name != "README"]


def load_sample(root: Path) -> tuple[Path, Path]:
    """Return a series of CT and one of MR of the load sample."""
    series = root / "load" / "raw" / "series"
    if not series.is_dir():
        write_load_sample(root / "load", 2, FILES)
    by_modality = {dcmread(_files(f)[0]).Modality: f for f in series.iterdir()}
    return by_modality["CT"], by_modality["MR"]


def enhanced(root: Path) -> dict[str, Path]:
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
