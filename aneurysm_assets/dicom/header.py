"""What a header is once it is read: its values, its images, and why a file cannot be used.

Both readers, `pydicom_header` and `fast_parser`, return what stands here. How they obtain it is
their own.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aneurysm_assets.dicom.attributes import ATTRIBUTES, DTYPES, Value
from aneurysm_assets.limits import MAX_FRAMES

PixelData = Literal["whole", "cut", "none", "unknown"]

PLACES = ("per_frame", "shared", "top_level")
"""Where a header may hold an attribute of a functional group, the nearest to the image first."""

FRAME_INDEX, GEOMETRY_SOURCE = len(ATTRIBUTES), len(ATTRIBUTES) + 1

ROW: tuple[str, ...] = (*DTYPES, "frame_index", "geometry_source")
"""The names of an image's values, in the order of a row."""

NO_DICOM = "is no DICOM file"
NO_IMAGE = "is DICOM but no image: it has neither Rows nor pixel data"
NO_REGULAR_FILE = "is no regular file, or a link to nothing"
"""Why a file has no image, as `read_error` says it after the file's name."""

_FRAMES_BELIEVED = 1_000
"""Up to so many frames are believed whatever the size of the file."""


@dataclass(frozen=True)
class Header:
    """The values of one file.

    Attributes
    ----------
    images : list of dict
        One dict per image: each of the 25 tags, the optional tags, `frame_index` and
        `geometry_source`, typed as in `tables.DICOM_TAGS`; None where absent, empty or malformed.
    number_of_frames : int or None
        NumberOfFrames (0028,0008), None where absent.
    series_instance_uid : str or None
        SeriesInstanceUID (0020,000E) of the header itself.
    pixel_data : {"whole", "cut", "none", "unknown"}
        Whether the file holds as many bytes of pixel data as it declares. An encapsulated
        stream declares no length and counts as whole. Unknown behind a damaged element.
    malformed : list of str
        One text per value that is not what its tag requires, such values being None above, and
        per element that breaks the order of PS3.5.
    """

    images: list[dict[str, Value]]
    number_of_frames: int | None
    series_instance_uid: str | None
    pixel_data: PixelData
    malformed: list[str] = field(default_factory=list)


def number_of_images(number_of_frames: Value, per_frame_items: int, size: int) -> int | None:
    """Return how many images a file holds, None where that cannot be true.

    A damaged NumberOfFrames must not become rows without end: beyond a thousand, a frame takes
    at least the eight bytes of an item's header (PS3.5 7.5).

    Parameters
    ----------
    number_of_frames : int or None
        NumberOfFrames (0028,0008); where it is no number, the items are counted.
    per_frame_items : int
        Items of PerFrameFunctionalGroupsSequence.
    size : int
        Bytes of the file.
    """
    if not isinstance(number_of_frames, int):
        return max(1, per_frame_items) if per_frame_items <= MAX_FRAMES else None
    believed = number_of_frames <= _FRAMES_BELIEVED or number_of_frames <= size // 8
    if not 0 <= number_of_frames <= MAX_FRAMES or not believed:
        return None
    return max(1, number_of_frames)


def geometry_source(used: Collection[str]) -> str | None:
    """Return the column `geometry_source` for the `PLACES` that gave geometry."""
    return "+".join(place for place in PLACES if place in used) or None


def needed_bytes(top: Mapping[str, Value], frames: int, bits: int) -> float:
    """Return the bytes that native pixels take (PS3.5 8.1.1), infinity where the header is silent.

    Parameters
    ----------
    top : mapping of str to Value
        Rows, Columns, SamplesPerPixel and BitsAllocated by keyword.
    frames : int
        Images in the file.
    bits : int
        Bits per sample, 0 where BitsAllocated says.
    """
    factors = [top[name] for name in ("Rows", "Columns", "SamplesPerPixel")]
    factors.append(bits or top["BitsAllocated"])
    if not all(isinstance(factor, int) for factor in factors):
        return math.inf
    return math.prod(int(factor) for factor in factors if isinstance(factor, int)) * frames / 8
