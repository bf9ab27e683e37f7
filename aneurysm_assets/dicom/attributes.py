"""Which DICOM attributes are read, where they stand in a file, and as what they come out.

The columns themselves are `tables`'; here is only what a reader must know of each. Both readers,
`header` (pydicom) and `walk` (bytes), take it from here, so a tag is added by its line in `tables`,
and by one more here if functional groups hold it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl
from pydicom.datadict import dictionary_VR, tag_for_keyword

from aneurysm_assets.schema.tables import COMPETITION_TAGS, OPTIONAL_TAGS, SERIES_KEY

Value = int | float | str | tuple[float, ...] | None
PixelData = Literal["whole", "cut", "none"]

MAX_FRAMES = 100_000
"""No scanner writes more frames into one file; a header that claims so is damaged."""


def can_hold(frames: int, size: int) -> bool:
    """Tell whether a file of so many bytes may have so many frames.

    A damaged NumberOfFrames must not become rows without end: beyond a thousand, a frame takes
    at least the eight bytes of an item's header.
    """
    return frames <= _FRAMES_TAKEN_ON_TRUST or frames <= size // 8


_FRAMES_TAKEN_ON_TRUST = 1_000

DTYPES: Mapping[str, pl.DataType] = {
    **{column.name: column.dtype for column in (*COMPETITION_TAGS, *OPTIONAL_TAGS)},
    "NumberOfFrames": pl.Int32(),
    SERIES_KEY: pl.String(),
}
"""Each attribute that is read, by keyword, and the dtype of its column."""

FIRST_OF_SEVERAL = ("WindowCenter", "WindowWidth")
"""Numbers that a header may give several of, of which the table keeps the first (C.11.2.1.2)."""

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
"""The attributes of which `geometry_source` tells where they were found."""

SOURCES = ("per_frame", "shared", "top_level")
"""Where an attribute of a functional group may stand, the nearest to the image first."""

PER_FRAME = "PerFrameFunctionalGroupsSequence"
SHARED = "SharedFunctionalGroupsSequence"

PIXEL_DATA_BITS: Mapping[int, int] = {0x7FE00008: 32, 0x7FE00009: 64, 0x7FE00010: 0}
"""Float, double float and plain pixel data, with the bits a sample that the first two imply."""


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
        Its value representation by the dictionary, and so in Implicit VR (PS3.5 7.1.3).
    dtype : pl.DataType
        Of its column.
    first : bool
        Whether the first of several numbers is taken, and not the lot refused.
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
"""Where in a row of values an attribute stands."""

SLOT_OF_TAG: Mapping[int, int] = {attribute.tag: slot for slot, attribute in enumerate(ATTRIBUTES)}

VRS: tuple[bytes, ...] = tuple(attribute.vr.encode() for attribute in ATTRIBUTES)
"""The VR of each slot, as a file has it."""

FRAME_INDEX, GEOMETRY_SOURCE = len(ATTRIBUTES), len(ATTRIBUTES) + 1

ROW: tuple[str, ...] = (*DTYPES, "frame_index", "geometry_source")
"""What the values of one image are, in order."""
