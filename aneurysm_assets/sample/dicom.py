"""DICOM files made from nothing: single-frame CT and MR, Enhanced MR.

Everything in them is fixed, the UIDs too, so that two samples are the same byte for byte.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian

from aneurysm_assets.sample.grid import Grid

# The root of pydicom's UIDs, which those of the real data set have too.
_ROOT = "1.2.826.0.1.3680043.8.498."

# pydicom's own would change the bytes with its version.
_IMPLEMENTATION_CLASS = UID("1.2.826.0.1.3680043.8.498.1")
_IMPLEMENTATION_NAME = "ANEURYSM_ASSETS"

_DATE, _TIME = "20200101", "120000"


def uid(*names: object) -> str:
    """Return the UID of something named, always the same, of the full 64 characters."""
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=16).digest()
    return f"{_ROOT}{10**37 + int.from_bytes(digest) % (9 * 10**37)}"


def instance_uid(series: str, number: int) -> str:
    """Return the SOPInstanceUID of a file of a series by its InstanceNumber."""
    return uid(series, number)


def decimals(values: Iterable[float], digits: int = 6) -> list[str]:
    """Return values as DS (PS3.5 section 6.2): at most 16 characters each, no negative zero."""
    return [f"{round(value, digits) + 0.0:.{digits}f}" for value in values]


def write_slices(folder: Path, series: str, grid: Grid, pixels: NDArray[np.int16]) -> None:
    """Write a CT series, one file per slice, `{SOPInstanceUID}.dcm`.

    Parameters
    ----------
    folder : Path
        The series' directory.
    series : str
        SeriesInstanceUID.
    grid : Grid
        Geometry, LPS.
    pixels : ndarray
        Slices x rows x columns, in HU.
    """
    for index, image in enumerate(pixels):
        data = _common(series, index + 1, CTImageStorage, "CT")
        _set_image(data, image, intercept=-1024)
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.KVP = "120"
        data.ConvolutionKernel = "H20f"
        data.PatientPosition = "HFS"
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "-1024", "1", "HU"
        data.WindowCenter, data.WindowWidth = "150", "700"
        data.SliceThickness = decimals([grid.spacing])[0]
        position = grid.position_of(index)
        data.ImagePositionPatient = decimals(position)
        data.ImageOrientationPatient = decimals(grid.orientation, 9)
        data.PixelSpacing = decimals(grid.pixel_spacing)
        data.SliceLocation = decimals(position)[2]
        save(data, folder)


def write_enhanced(
    folder: Path, series: str, frames: list[Grid], pixels: NDArray[np.int16], *, shared: bool
) -> None:
    """Write an Enhanced MR series: one file, its geometry in functional groups (C.7.6.16).

    Parameters
    ----------
    folder : Path
        The series' directory.
    series : str
        SeriesInstanceUID.
    frames : list of Grid
        Where each frame is: the first slice of its grid, LPS.
    pixels : ndarray
        Frames x rows x columns.
    shared : bool
        Whether orientation and pixel measures stand once in the shared groups, or in each
        frame's own. Vendors do either.
    """
    data = _common(series, 1, EnhancedMRImageStorage, "MR")
    _set_image(data, pixels, intercept=0)
    data.ImageType = ["ORIGINAL", "PRIMARY", "ANGIO", "NONE"]
    data.NumberOfFrames = str(len(frames))
    data.MagneticFieldStrength = 3.0
    data.AcquisitionDateTime = _DATE + _TIME
    data.ContentQualification = "PRODUCT"
    _set_dimensions(data, series)
    common = _pixel_value_transformation()
    if shared:
        common.update(_orientation(frames[0]))
    data.SharedFunctionalGroupsSequence = [common]
    data.PerFrameFunctionalGroupsSequence = [
        _frame_groups(grid, index, own_orientation=not shared) for index, grid in enumerate(frames)
    ]
    save(data, folder)


def save(data: Dataset, folder: Path) -> Path:
    """Write a data set with its file meta information as `{SOPInstanceUID}.dcm`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{data.SOPInstanceUID}.dcm"
    dcmwrite(path, data, enforce_file_format=True)
    return path


def _common(series: str, number: int, sop_class: UID, modality: str) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.ImplementationClassUID = _IMPLEMENTATION_CLASS
    data.file_meta.ImplementationVersionName = _IMPLEMENTATION_NAME
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID, data.SOPInstanceUID = sop_class, instance_uid(series, number)
    data.StudyDate = data.SeriesDate = data.ContentDate = _DATE
    data.StudyTime = data.SeriesTime = data.ContentTime = _TIME
    data.AccessionNumber = data.ReferringPhysicianName = data.StudyID = ""
    data.Modality, data.Manufacturer = modality, "aneurysm-assets sample"
    data.PatientName = data.PatientBirthDate = data.PatientSex = ""
    data.PatientID = uid(series, "patient")
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "made from nothing"
    data.StudyInstanceUID, data.SeriesInstanceUID = uid(series, "study"), series
    data.SeriesNumber, data.InstanceNumber = "1", str(number)
    data.FrameOfReferenceUID = uid(series, "frame of reference")
    data.PositionReferenceIndicator = ""
    return data


def _set_image(data: Dataset, pixels: NDArray[np.int16], intercept: int) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape[-2:]
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.PixelData = (pixels - intercept).astype("<u2").tobytes()


def _set_dimensions(data: Dataset, series: str) -> None:
    """Say that frames are ordered by their position in one stack (C.7.6.17)."""
    organization = uid(series, "dimensions")
    data.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    data.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=0x00209057,  # InStackPositionNumber
            FunctionalGroupPointer=0x00209111,  # FrameContentSequence
        )
    ]


def _frame_groups(grid: Grid, index: int, *, own_orientation: bool) -> Dataset:
    groups = _orientation(grid) if own_orientation else Dataset()
    groups.FrameContentSequence = [
        _item(StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[index + 1])
    ]
    groups.PlanePositionSequence = [_item(ImagePositionPatient=decimals(grid.position))]
    return groups


def _orientation(grid: Grid) -> Dataset:
    measures = _item(
        PixelSpacing=decimals(grid.pixel_spacing),
        SliceThickness=decimals([grid.spacing])[0],
        SpacingBetweenSlices=decimals([grid.spacing])[0],
    )
    plane = _item(ImageOrientationPatient=decimals(grid.orientation, 9))
    return _item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[plane])


def _pixel_value_transformation() -> Dataset:
    values = _item(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")
    return _item(PixelValueTransformationSequence=[values])


def _item(**attributes: object) -> Dataset:
    data = Dataset()
    for keyword, value in attributes.items():
        setattr(data, keyword, value)
    return data
