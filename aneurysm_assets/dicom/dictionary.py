"""Tag, VR and multiplicity of the keywords that are read (PS3.6), without pydicom.

Importing pydicom takes longer than reading a series, and of its dictionary few lines are needed;
of any other keyword it is asked.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """A line of the dictionary.

    Attributes
    ----------
    tag : int
        Group and element, as 0xggggeeee.
    vr, vm : str
        Value representation and multiplicity.
    """

    tag: int
    vr: str
    vm: str


KNOWN = {
    "AcquisitionNumber": Entry(0x00200012, "IS", "1"),
    "AcquisitionTime": Entry(0x00080032, "TM", "1"),
    "BitsAllocated": Entry(0x00280100, "US", "1"),
    "BitsStored": Entry(0x00280101, "US", "1"),
    "CardiacSynchronizationSequence": Entry(0x00189118, "SQ", "1"),
    "Columns": Entry(0x00280011, "US", "1"),
    "ContentTime": Entry(0x00080033, "TM", "1"),
    "DiffusionBValue": Entry(0x00189087, "FD", "1"),
    "EchoTime": Entry(0x00180081, "DS", "1"),
    "EffectiveEchoTime": Entry(0x00189082, "FD", "1"),
    "FrameAcquisitionNumber": Entry(0x00209156, "US", "1"),
    "FrameContentSequence": Entry(0x00209111, "SQ", "1"),
    "FrameOfReferenceUID": Entry(0x00200052, "UI", "1"),
    "FrameVOILUTSequence": Entry(0x00289132, "SQ", "1"),
    "HighBit": Entry(0x00280102, "US", "1"),
    "ImageOrientationPatient": Entry(0x00200037, "DS", "6"),
    "ImagePositionPatient": Entry(0x00200032, "DS", "3"),
    "ImageType": Entry(0x00080008, "CS", "2-n"),
    "ImagesInAcquisition": Entry(0x00201002, "IS", "1"),
    "InstanceCreationTime": Entry(0x00080013, "TM", "1"),
    "InstanceNumber": Entry(0x00200013, "IS", "1"),
    "LargestImagePixelValue": Entry(0x00280107, "US or SS", "1"),
    "MRDiffusionSequence": Entry(0x00189117, "SQ", "1"),
    "MREchoSequence": Entry(0x00189114, "SQ", "1"),
    "Manufacturer": Entry(0x00080070, "LO", "1"),
    "MediaStorageSOPInstanceUID": Entry(0x00020003, "UI", "1"),
    "Modality": Entry(0x00080060, "CS", "1"),
    "NominalCardiacTriggerDelayTime": Entry(0x00209153, "FD", "1"),
    "NumberOfFrames": Entry(0x00280008, "IS", "1"),
    "PatientID": Entry(0x00100020, "LO", "1"),
    "PerFrameFunctionalGroupsSequence": Entry(0x52009230, "SQ", "1"),
    "PhotometricInterpretation": Entry(0x00280004, "CS", "1"),
    "PixelMeasuresSequence": Entry(0x00289110, "SQ", "1"),
    "PixelRepresentation": Entry(0x00280103, "US", "1"),
    "PixelSpacing": Entry(0x00280030, "DS", "2"),
    "PixelValueTransformationSequence": Entry(0x00289145, "SQ", "1"),
    "PlanarConfiguration": Entry(0x00280006, "US", "1"),
    "PlaneOrientationSequence": Entry(0x00209116, "SQ", "1"),
    "PlanePositionSequence": Entry(0x00209113, "SQ", "1"),
    "RescaleIntercept": Entry(0x00281052, "DS", "1"),
    "RescaleSlope": Entry(0x00281053, "DS", "1"),
    "RescaleType": Entry(0x00281054, "LO", "1"),
    "Rows": Entry(0x00280010, "US", "1"),
    "SOPClassUID": Entry(0x00080016, "UI", "1"),
    "SOPInstanceUID": Entry(0x00080018, "UI", "1"),
    "SamplesPerPixel": Entry(0x00280002, "US", "1"),
    "SeriesInstanceUID": Entry(0x0020000E, "UI", "1"),
    "SharedFunctionalGroupsSequence": Entry(0x52009229, "SQ", "1"),
    "SliceLocation": Entry(0x00201041, "DS", "1"),
    "SliceThickness": Entry(0x00180050, "DS", "1"),
    "SmallestImagePixelValue": Entry(0x00280106, "US or SS", "1"),
    "SpacingBetweenSlices": Entry(0x00180088, "DS", "1"),
    "SpecificCharacterSet": Entry(0x00080005, "CS", "1-n"),
    "StudyInstanceUID": Entry(0x0020000D, "UI", "1"),
    "TemporalPositionIdentifier": Entry(0x00200100, "IS", "1"),
    "TemporalPositionIndex": Entry(0x00209128, "UL", "1"),
    "TransferSyntaxUID": Entry(0x00020010, "UI", "1"),
    "TriggerTime": Entry(0x00181060, "DS", "1"),
    "WindowCenter": Entry(0x00281050, "DS", "1-n"),
    "WindowWidth": Entry(0x00281051, "DS", "1-n"),
}
"""By keyword; a test holds them against pydicom."""


def look_up(keyword: str) -> Entry:
    """Return the line of a keyword.

    Raises
    ------
    ValueError
        There is no such keyword.
    """
    if keyword in KNOWN:
        return KNOWN[keyword]
    from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword  # noqa: PLC0415

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no DICOM keyword")
    return Entry(tag, dictionary_VR(tag), dictionary_VM(tag))
