"""Which DICOM attributes are read, where they stand in a file, and by which rule.

`schema.columns` defines the columns; this module says what a reader must know of each. Both
readers, `pydicom_header` and `fast_parser`, use it. To add an attribute, add its column there,
and a line to `GROUPS` if a functional group may hold it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from pydicom.datadict import dictionary_VR, tag_for_keyword

from aneurysm_assets.schema.columns import COMPETITION_TAGS, OPTIONAL_TAGS, SERIES_KEY

Value = int | float | str | tuple[float, ...] | None
DTYPES: Mapping[str, pl.DataType] = {
    **{column.name: column.dtype for column in (*COMPETITION_TAGS, *OPTIONAL_TAGS)},
    "NumberOfFrames": pl.Int32(),
    SERIES_KEY: pl.String(),
}
"""Each attribute that is read, by keyword, and the dtype of its column."""

FIRST_OF_SEVERAL = ("WindowCenter", "WindowWidth")
"""Attributes that may hold several numbers; the table keeps the first (PS3.3 C.11.2.1.2)."""

GROUPS: Mapping[str, str] = {
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
}
"""The functional group macro (PS3.3 C.7.6.16.2) that holds an attribute in a multi-frame file."""

GEOMETRY = (
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
)
"""The attributes whose place in the file the column `geometry_source` names."""

PER_FRAME = "PerFrameFunctionalGroupsSequence"
SHARED = "SharedFunctionalGroupsSequence"

PIXEL_DATA_BITS: Mapping[int, int] = {0x7FE00008: 32, 0x7FE00009: 64, 0x7FE00010: 0}
"""Tags of pixel data, with the bits per sample it implies; 0 where BitsAllocated says."""


@dataclass(frozen=True)
class Attribute:
    """One attribute that is read.

    Attributes
    ----------
    name : str
        Its keyword (PS3.6).
    tag : int
        Group and element, as 0xggggeeee.
    vr : str
        Its value representation in PS3.6, which holds in Implicit VR (PS3.5 7.1.3).
    dtype : pl.DataType
        The dtype of its column.
    first : bool
        Whether the first of several numbers counts; otherwise several numbers are malformed.
    """

    name: str
    tag: int
    vr: str
    dtype: pl.DataType
    first: bool


def tag_of(keyword: str) -> int:
    """Return the tag of a keyword of PS3.6 as 0xggggeeee.

    Raises
    ------
    ValueError
        There is no such keyword.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no DICOM keyword")
    return tag


ATTRIBUTES: tuple[Attribute, ...] = tuple(
    Attribute(name, tag_of(name), dictionary_VR(name), dtype, name in FIRST_OF_SEVERAL)
    for name, dtype in DTYPES.items()
)
"""Everything that is read, in the order of `DTYPES`."""

SLOTS: Mapping[str, int] = {attribute.name: slot for slot, attribute in enumerate(ATTRIBUTES)}
"""The slot of an attribute: its index in a row of values."""

SLOT_OF_TAG: Mapping[int, int] = {attribute.tag: slot for slot, attribute in enumerate(ATTRIBUTES)}

VRS: tuple[bytes, ...] = tuple(attribute.vr.encode() for attribute in ATTRIBUTES)
"""The VR of each slot, as a file has it."""
