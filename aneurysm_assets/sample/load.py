"""The large sample: many series of many files, as heavy to read as real ones and quick to write.

Two real headers, a CT's and an MR's, are encoded once with pydicom. A file is then their bytes
with the few elements put in that differ: encoding each with pydicom would take hours.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword

from aneurysm_assets.errors import InputError
from aneurysm_assets.sample.bundled import bundled_file
from aneurysm_assets.sample.csvs import Labels, Point, write_localizers, write_train
from aneurysm_assets.sample.dicom import decimals, instance_uid, uid
from aneurysm_assets.sample.grid import Grid
from aneurysm_assets.sample.phantom import bright_vessels
from aneurysm_assets.sample.place import replace_raw
from aneurysm_assets.sample.segmentation import VESSEL_LABELS, Flips, write_segmentation
from aneurysm_assets.schema.columns import LOCATIONS

_CT = "dicomdirtests/98892001/CT5N/2062"
_MR = "examples_overlay.dcm"

# Roughly their shares in the real data.
_MODALITIES = ("CTA", "MRA", "CTA", "MRI T2", "CTA", "MRA", "MRI T2", "CTA", "MRA", "MRI T1post")

_SEGMENTED_EVERY = 25
_SIZE = 16
_SPACING = 0.625

# In the order in which they stand in a file.
_PLACEHOLDERS: dict[str, str] = {
    "MediaStorageSOPInstanceUID": uid("placeholder", 1),
    "SOPInstanceUID": uid("placeholder", 1),
    "PatientID": uid("placeholder", 2),
    "StudyInstanceUID": uid("placeholder", 3),
    "SeriesInstanceUID": uid("placeholder", 4),
    "InstanceNumber": "987654321",
    "ImagePositionPatient": r"-9876.543210\-9876.543210\-9876.543210",
    "FrameOfReferenceUID": uid("placeholder", 5),
    "SliceLocation": "-9876.543210",
}


def write_load_sample(
    directory: Path,
    series: int,
    files: int,
    on_progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a large data set as `directory/raw`, about 4 KB a file.

    Parameters
    ----------
    directory : Path
        The data root. An earlier sample in it is replaced.
    series : int
        How many series; all have a row in train.csv, half of them an aneurysm point.
    files : int
        How many single-frame files each series has.
    on_progress : callable, optional
        Called after each series with the number of files written so far.

    Returns
    -------
    Path
        The raw root.

    Raises
    ------
    InputError
        The numbers are not positive, or `directory/raw` holds anything that the sample did not
        write, or cannot be written.
    """
    if series < 1 or files < 1:
        raise InputError(f"{series} series of {files} files: give 1 or more of each")
    return replace_raw(
        directory, partial(_fill, series=series, files=files, on_progress=on_progress)
    )


def _fill(raw: Path, series: int, files: int, on_progress: Callable[[int], None] | None) -> None:
    templates = {"CT": _ct_template(), "MR": _mr_template()}
    plans = [_plan(index, files) for index in range(series)]
    write_train(raw / "train.csv", ((plan.uid, plan.labels) for plan in plans))
    write_localizers(
        raw / "train_localizers.csv",
        ((plan.uid, point) for plan in plans for point in plan.points),
    )
    (raw / "segmentations").mkdir()
    for index, plan in enumerate(plans):
        template = templates["CT" if plan.labels.modality == "CTA" else "MR"]
        grid = template.grid(index, files)
        _write_series(raw / "series" / plan.uid, plan.uid, template, grid)
        if index % _SEGMENTED_EVERY == 0:
            _write_segmentation(raw / "segmentations", plan, grid, index)
        if on_progress is not None:
            on_progress((index + 1) * files)


@dataclass(frozen=True)
class _Plan:
    """A series before it is written: what the CSVs say of it."""

    uid: str
    labels: Labels
    points: tuple[Point, ...]
    slice_index: int


def _plan(index: int, files: int) -> _Plan:
    series = uid("load", index)
    modality = _MODALITIES[index % len(_MODALITIES)]
    slice_index = files // 2
    locations: tuple[str, ...] = ()
    if index // len(_MODALITIES) % 2 == 0 or index % _SEGMENTED_EVERY == 0:
        # The second location, on the same image, comes about as seldom as in the real data.
        count = 2 if index % 50 == 0 else 1
        locations = tuple(LOCATIONS[(index + 5 * n) % len(LOCATIONS)] for n in range(count))
    labels = Labels(18 + index % 72, ("Female", "Male")[index % 7 % 2], modality, locations)
    instance = instance_uid(series, slice_index + 1)
    points = tuple(
        Point(instance, 3.25 + 8 * n + index % 3, 5.125 + index % 4, location)
        for n, location in enumerate(locations)
    )
    return _Plan(series, labels, points, slice_index)


@dataclass(frozen=True)
class _Template:
    """An encoded file, cut at the elements that differ from file to file.

    Attributes
    ----------
    chunks : tuple of bytes
        What stands before, between and after the elements of `_PLACEHOLDERS`.
    header : Dataset
        The same, decoded.
    """

    chunks: tuple[bytes, ...]
    header: Dataset

    def grid(self, index: int, files: int) -> Grid:
        """Return the geometry, LPS, of the load sample's series of this index."""
        x, y, z = 0.5 * (index % 40) - 90.0, -110.25, 0.25 * (index % 400) - 75.5
        a, b, c, d, e, f = (float(value) for value in self.header.ImageOrientationPatient)
        rows, columns = (float(value) for value in self.header.PixelSpacing)
        shape = files, _SIZE, _SIZE
        return Grid((x, y, z), (a, b, c, d, e, f), (rows, columns), _SPACING, shape)

    def file(self, values: list[str]) -> bytes:
        """Return a file with these values of the elements in `_PLACEHOLDERS`."""
        parts = [self.chunks[0]]
        for encode, value, chunk in zip(_ENCODERS, values, self.chunks[1:], strict=True):
            parts += (encode(value), chunk)
        return b"".join(parts)


def _write_series(folder: Path, series: str, template: _Template, grid: Grid) -> None:
    folder.mkdir(parents=True)
    patient, study, reference = (uid(series, name) for name in ("patient", "study", "reference"))
    start, step = np.array(grid.position), np.array(grid.position_of(1)) - grid.position
    for index in range(grid.shape[0]):
        instance = instance_uid(series, index + 1)
        position = decimals((start + index * step).tolist())
        values = [instance, instance, patient, study, series, str(index + 1)]
        values += ["\\".join(position), reference, position[2]]
        (folder / f"{instance}.dcm").write_bytes(template.file(values))


def _write_segmentation(root: Path, plan: _Plan, grid: Grid, index: int) -> None:
    labels = np.zeros(grid.shape, dtype=np.uint8)
    near = slice(max(plan.slice_index - 1, 0), plan.slice_index + 2)
    for point in plan.points:
        row, column = round(point.y), round(point.x)
        labels[near, row - 1 : row + 2, column - 1 : column + 2] = VESSEL_LABELS[point.location]
    turn = index // _SEGMENTED_EVERY
    flips: Flips = (turn % 2 == 1, turn // 2 % 2 == 1, turn // 4 % 2 == 1)
    write_segmentation(root, plan.uid, grid, (bright_vessels(labels), labels), flips)


def _ct_template() -> _Template:
    data = dcmread(bundled_file(_CT))
    # Two of its private groups less, or there would be more than 150 elements.
    _drop(data, lambda tag: tag >> 16 in (0x0027, 0x0045))
    data.RescaleType = "HU"
    return _template(data)


def _mr_template() -> _Template:
    data = dcmread(bundled_file(_MR))
    # Overlay, icon and a private blob would make up most of the file; the address is someone's.
    _drop(data, lambda tag: tag >> 24 == 0x60 or tag in (0x00880200, 0x00291110, 0x00101040))
    data.PatientName, data.PatientIdentityRemoved = "", "YES"
    data.DeidentificationMethod = "aneurysm-assets sample"
    data.SpacingBetweenSlices = str(_SPACING)
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "US"
    data.LossyImageCompression = "00"
    return _template(data)


def _template(data: Dataset) -> _Template:
    data.Rows = data.Columns = _SIZE
    data.SliceThickness = str(_SPACING)
    data.PixelData = np.arange(_SIZE * _SIZE, dtype="<u2").tobytes()
    for keyword, value in list(_PLACEHOLDERS.items())[1:]:
        setattr(data, keyword, value)
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    elements = (
        re.escape(encode(value))
        for encode, value in zip(_ENCODERS, _PLACEHOLDERS.values(), strict=True)
    )
    return _Template(tuple(re.split(b"|".join(elements), buffer.getvalue())), data)


def _drop(data: Dataset, unwanted: Callable[[int], bool]) -> None:
    for tag in [tag for tag in data.keys() if unwanted(int(tag))]:  # noqa: SIM118 - no elements
        del data[tag]


def _encoders() -> Iterator[Callable[[str], bytes]]:
    for keyword in _PLACEHOLDERS:
        tag, vr = tag_for_keyword(keyword) or 0, dictionary_VR(keyword)
        start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
        yield partial(_encode, start, b"\0" if vr == "UI" else b" ")


def _encode(start: bytes, padding: bytes, value: str) -> bytes:
    """Encode an element in Explicit VR Little Endian (PS3.5 section 7.1.2), of even length."""
    content = value.encode()
    content += padding * (len(content) % 2)
    return start + len(content).to_bytes(2, "little") + content


_ENCODERS: tuple[Callable[[str], bytes], ...] = tuple(_encoders())
