"""The real DICOM files that come with pydicom, taken as they are or given new identifiers."""

import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from aneurysm_assets.errors import InputError
from aneurysm_assets.sample.dicom import decimals, instance_uid, save, uid


def bundled_file(name: str) -> Path:
    """Return the path of a file of pydicom's test data, which its wheel carries.

    Raises
    ------
    InputError
        The installed pydicom has been stripped of it.
    """
    # Without download=False pydicom would fetch a missing file from the network.
    path = get_testdata_file(name, download=False)
    if not isinstance(path, str):
        raise InputError(
            f"pydicom's own test file {name} is not installed: reinstall pydicom from its wheel"
        )
    return Path(path)


def copy_series(folder: Path, names: list[str]) -> None:
    """Copy bundled files byte for byte, named `{SOPInstanceUID}.dcm`."""
    folder.mkdir(parents=True)
    for name in names:
        path = bundled_file(name)
        header = dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
        shutil.copyfile(path, folder / f"{header.SOPInstanceUID}.dcm")


def write_stack(
    folder: Path, series: str, name: str, count: int, changes: Mapping[str, str]
) -> None:
    """Write a bundled file `count` times as the slices of one series.

    The pixels and everything else of the header stay as they are; identifiers, number and, where
    there is one, position are each slice's own.

    Parameters
    ----------
    folder : Path
        The series' directory.
    series : str
        SeriesInstanceUID.
    name : str
        A file of pydicom's test data.
    count : int
        Number of slices.
    changes : mapping of str to str
        Keyword and value of what else is not to stay, TransferSyntaxUID among them: one of the
        same encoding of elements and pixels.
    """
    source = dcmread(bundled_file(name))
    for keyword, value in changes.items():
        in_meta = keyword == "TransferSyntaxUID"
        setattr(source.file_meta if in_meta else source, keyword, value)
    for number in range(1, count + 1):
        save(_slice(source, series, number), folder)


def _slice(source: Dataset, series: str, number: int) -> Dataset:
    data = deepcopy(source)
    data.SeriesInstanceUID = series
    data.StudyInstanceUID = uid(series, "study")
    data.PatientID = uid(series, "patient")
    data.SOPInstanceUID = instance_uid(series, number)
    data.InstanceNumber = str(number)
    if "ImagePositionPatient" in data:
        x, y, z = (float(value) for value in data.ImagePositionPatient)
        z += (number - 1) * float(data.SliceThickness)
        data.ImagePositionPatient = decimals([x, y, z])
        data.SliceLocation = decimals([z])[0]
    return data
