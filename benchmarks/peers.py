"""Other readers that a user might pick: time per file, and the values that differ from pydicom's.

Each reads the same values, of those it can give, of the same files: a CT and an MR series of the
load sample and, for the values, every test file that comes with pydicom and that pydicom itself
reads as an image. Needs the extra `bench`.
"""

import importlib.util
import logging
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.data import get_testdata_files
from pydicom.datadict import tag_for_keyword

from aneurysm_assets.dicom.attributes import PER_FRAME
from aneurysm_assets.dicom.fast_parser.reader import SeriesReader
from aneurysm_assets.dicom.header import ROW
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.schema.columns import SERIES_KEY
from benchmarks.header import FILES, load_sample
from benchmarks.measure import Line, cpu_seconds, in_turn
from benchmarks.plain import TOP, typed_value

Values = dict[str, Any]
_OURS = "ours"
_PEERS = {
    "pydicom": "pydicom",
    "dicomsdl": "dicomsdl",
    "python-gdcm": "gdcm",
    "dicom-csv": "dicom_csv",
}
"""Packages, and the modules that they bring."""

NAMES = (*TOP, "TransferSyntaxUID")


def measure(root: Path) -> Iterator[Line]:
    """Time every reader that is installed, and count what differs."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    files = [str(path) for folder in load_sample(root) for path in sorted(folder.iterdir())]
    expected = {path: _pydicom(path) for path in _test_files()}
    for name, module in _PEERS.items():
        if importlib.util.find_spec(module) is None:
            raise SystemExit(f"{name} is not installed: pip install -e '.[bench]'")
        read = _reader(name)
        ours, theirs = in_turn(
            lambda: cpu_seconds(lambda: _read_all(files)),
            lambda read=read: cpu_seconds(lambda: [read(path) for path in files]),
            3,
        )
        yield Line(
            f"{2 * FILES} CT and MR files, per file",
            1e6 * ours / len(files),
            "µs",
            name,
            1e6 * theirs / len(files),
            note=str(_compared(name, expected)),
        )
    own = _compared(_OURS, expected)
    what = "values that are missing, or other than pydicom's"
    yield Line(what, own.missing + own.other, "", most=0, note=str(own))


def _read_all(files: list[str]) -> None:
    reader = SeriesReader(len(files))
    for path in files:
        reader.read(path)


def _test_files() -> list[str]:
    found = []
    for path in sorted(get_testdata_files()):
        try:
            header = dcmread(path, stop_before_pixels=True)
            is_image = "Rows" in header and PER_FRAME not in header
            [header.get(name) for name in TOP]
        except Exception:  # noqa: BLE001 - what pydicom itself cannot read is no measure
            continue
        if is_image and not path.endswith("DICOMDIR"):
            found.append(path)
    return found


def _ours(path: str) -> Values:
    walked = SeriesReader().read(path)
    if walked is not None:
        return dict(zip(ROW, walked.rows[0], strict=False))
    header = read_header(path)
    of_file = {"NumberOfFrames": header.number_of_frames, SERIES_KEY: header.series_instance_uid}
    return dict(header.images[0]) | of_file


def _pydicom(path: str) -> Values:
    data = dcmread(path, stop_before_pixels=True, specific_tags=list(TOP))
    values = {name: data.get(name) for name in TOP}
    values["TransferSyntaxUID"] = data.file_meta.get("TransferSyntaxUID")
    typed = {name: typed_value(value) for name, value in values.items()}
    # The tables hold the first window of several, and no number that is none.
    for name in ("WindowCenter", "WindowWidth"):
        typed[name] = typed[name][0] if isinstance(typed[name], list) else typed[name]
    if isinstance(typed["NumberOfFrames"], str):
        typed["NumberOfFrames"] = None
    # Nor a distance of 0 between pixels (PS3.3 10.7.1.1), which four files of one image tell.
    if any(distance == 0 for distance in typed["PixelSpacing"] or ()):
        typed["PixelSpacing"] = None
    return typed


@dataclass
class _Compared:
    """How a reader's values stand to pydicom's."""

    files: int = 0
    not_read: int = 0
    crashed: int = 0
    missing: int = 0
    other: int = 0

    def __str__(self) -> str:
        return (
            f"of {self.files} test files {self.not_read} not read, {self.crashed} crash it; "
            f"values: {self.missing} missing, {self.other} other than pydicom's"
        )


def _compared(name: str, expected: dict[str, Values]) -> _Compared:
    compared = _Compared(files=len(expected))
    for values, read in zip(expected.values(), _read_apart(name, list(expected)), strict=True):
        if isinstance(read, str):
            compared.crashed += read == "crashed"
            compared.not_read += read != "crashed"
            continue
        for keyword in NAMES:
            if _is_empty(values[keyword]) and _is_empty(read.get(keyword)):
                continue
            if _is_empty(read.get(keyword)):
                compared.missing += 1
            elif not _same(read[keyword], values[keyword]):
                compared.other += 1
    return compared


def _read_apart(name: str, paths: list[str]) -> Iterator[Values | str]:
    """Read files in another process, for a reader may crash; then it is a word what it came to."""
    pool = _pool()
    for path in paths:
        try:
            yield pool.submit(_read, name, path).result()
        except BrokenProcessPool:
            pool = _pool()
            yield "crashed"
        except Exception as error:  # noqa: BLE001 - that it fails is what is counted
            yield type(error).__name__
    pool.shutdown()


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))


def _read(name: str, path: str) -> Values:
    read = _reader(name)(path)
    return {name: typed_value(value) for name, value in read.items() if name in NAMES}


def _is_empty(value: Any) -> bool:  # noqa: ANN401 - a value of any reader
    return value is None or (isinstance(value, str | list | tuple) and len(value) == 0)


def _same(value: Any, expected: Any) -> bool:  # noqa: ANN401 - values of any reader
    if isinstance(expected, list):
        parts = value.split("\\") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            parts = [parts]
        return len(parts) == len(expected) and all(map(_same, parts, expected))
    if isinstance(expected, int | float):
        # Of several windows the first is as good as all.
        value = value.split("\\")[0] if isinstance(value, str) else value
        value = value[0] if isinstance(value, list | tuple) else value
        try:
            return float(value) == float(expected)
        except (TypeError, ValueError):
            return False
    if isinstance(value, list | tuple):
        value = "\\".join(map(str, value))
    return str(value).strip() == str(expected).strip()


@cache
def _reader(name: str) -> Callable[[str], Values]:
    readers = {
        _OURS: lambda: _ours,
        "pydicom": lambda: _pydicom,
        "dicomsdl": _dicomsdl,
        "python-gdcm": _gdcm,
        "dicom-csv": _dicom_csv,
    }
    return readers[name]()


def _dicomsdl() -> Callable[[str], Values]:
    import dicomsdl

    def read(path: str) -> Values:
        data = dicomsdl.open(path)
        return {name: getattr(data, name) for name in NAMES}

    return read


def _gdcm() -> Callable[[str], Values]:
    import gdcm

    tags = {name: gdcm.Tag(*divmod(tag_for_keyword(name) or 0, 1 << 16)) for name in TOP}
    pixels = gdcm.Tag(0x7FE0, 0x0010)

    def read(path: str) -> Values:
        reader = gdcm.Reader()
        reader.SetFileName(path)
        if not reader.ReadUpToTag(pixels):
            raise ValueError(path)
        text = gdcm.StringFilter()
        text.SetFile(reader.GetFile())
        data = reader.GetFile().GetDataSet()
        values = {
            name: text.ToString(tag) for name, tag in tags.items() if data.FindDataElement(tag)
        }
        syntax = reader.GetFile().GetHeader().GetDataSetTransferSyntax()
        return values | {"TransferSyntaxUID": str(syntax.GetString())}

    return read


def _dicom_csv() -> Callable[[str], Values]:
    from dicom_csv import get_file_meta

    def read(path: str) -> Values:
        (values,) = get_file_meta(path, force=False)
        if not values["NoError"]:
            raise ValueError(path)
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            numbers = [values[f"{name}{n}"] for n in range(6) if f"{name}{n}" in values]
            values[name] = numbers or None
        return values

    return read
