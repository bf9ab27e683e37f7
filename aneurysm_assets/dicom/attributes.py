"""Which DICOM attributes are read, where they stand in a file, and by which rule.

`schema.columns` defines the columns; this module says what a reader must know of each. Both
readers, `pydicom_header` and `fast_parser`, use it. To add an attribute, add its column there, a
line to `VALUE_RULES` if not every value of its VR can be, one to `GROUPS` if a functional group may
hold it, and its tag to `dictionary.KNOWN`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from dataclasses import dataclass, replace

import polars as pl

from aneurysm_assets.dicom.dictionary import look_up
from aneurysm_assets.schema.columns import COMPETITION_TAGS, EXTRA_TAGS, OPTIONAL_TAGS, SERIES_KEY
from aneurysm_assets.schema.tolerances import UNIT_COSINES

Value = int | float | str | tuple[float, ...] | None
DTYPES: Mapping[str, pl.DataType] = {
    **{column.name: column.dtype for column in (*COMPETITION_TAGS, *OPTIONAL_TAGS, *EXTRA_TAGS)},
    "NumberOfFrames": pl.Int32(),
    SERIES_KEY: pl.String(),
}
"""Each attribute that is read, by keyword, and the dtype of its column."""

FIRST_OF_SEVERAL = (
    "WindowCenter",
    "WindowWidth",
    *(
        column.name
        for column in EXTRA_TAGS
        if isinstance(column.dtype, pl.Float64) and look_up(column.name).vm != "1"
    ),
)
"""Attributes that may hold several numbers; the table keeps the first (PS3.3 C.11.2.1.2)."""

GROUPS: Mapping[str, str] = {
    "AcquisitionNumber": "FrameContentSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "EchoTime": "MREchoSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "TemporalPositionIdentifier": "FrameContentSequence",
    "TriggerTime": "CardiacSynchronizationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
}
"""The functional group macro (PS3.3 C.7.6.16.2) that holds an attribute in a multi-frame file."""

NAMES_IN_GROUP: Mapping[str, str] = {
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "EchoTime": "EffectiveEchoTime",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
    "TriggerTime": "NominalCardiacTriggerDelayTime",
}
"""The attributes that have another keyword, tag and VR in their group; units are the same."""

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
class ValueRule:
    """What the value of an attribute can be; what breaks it is read as null, with a note.

    Attributes
    ----------
    holds : callable
        Tells of a typed value, never None, whether it can be.
    text : str
        What the value has to be, as a note says it behind "is not".
    source : str
        The section of PS3.3 that says so.
    """

    holds: Callable[[Value], bool]
    text: str
    source: str


def _numbers(value: Value) -> tuple[float, ...]:
    if isinstance(value, tuple):
        return value
    return (float(value),) if isinstance(value, int | float) else ()


def _are_positive(value: Value) -> bool:
    return all(number > 0 for number in _numbers(value))


def _is_not_negative(value: Value) -> bool:
    return all(number >= 0 for number in _numbers(value))


def _is_not_zero(value: Value) -> bool:
    return 0 not in _numbers(value)


def _is_one_of(*allowed: int) -> Callable[[Value], bool]:
    return lambda value: value in allowed


def _are_units_at_right_angle(value: Value) -> bool:
    across, down = (_numbers(value)[start : start + 3] for start in (0, 3))
    product = sum(a * b for a, b in zip(across, down, strict=True))
    errors = (math.hypot(*across) - 1, math.hypot(*down) - 1, product)
    return all(abs(error) <= UNIT_COSINES for error in errors)


_POSITIVE = ValueRule(_are_positive, "positive", "C.7.6.3.1")

VALUE_RULES: Mapping[str, ValueRule] = {
    "BitsAllocated": ValueRule(_is_one_of(1, 8, 16, 32, 64), "1, 8, 16, 32 or 64", "C.7.6.3.1.1"),
    "BitsStored": _POSITIVE,
    "Columns": _POSITIVE,
    "ImageOrientationPatient": ValueRule(
        _are_units_at_right_angle,
        f"two directions of length 1 at a right angle, to {UNIT_COSINES}",
        "C.7.6.2.1.1",
    ),
    "ImagesInAcquisition": ValueRule(_are_positive, "positive", "C.7.6.1"),
    "NumberOfFrames": ValueRule(_is_not_zero, "positive", "C.7.6.6.1.1"),
    "PixelRepresentation": ValueRule(_is_one_of(0, 1), "0 or 1", "C.7.6.3"),
    "PixelSpacing": ValueRule(_are_positive, "positive", "10.7.1.3"),
    "PlanarConfiguration": ValueRule(_is_one_of(0, 1), "0 or 1", "C.7.6.3.1.3"),
    "RescaleSlope": ValueRule(_is_not_zero, "other than 0", "C.11.1.1.2"),
    "Rows": _POSITIVE,
    "SamplesPerPixel": ValueRule(_is_one_of(1, 3, 4), "1, 3 or 4", "C.7.6.3.1.1"),
    "SliceThickness": ValueRule(_are_positive, "positive", "C.7.6.2"),
    "SpacingBetweenSlices": ValueRule(_is_not_negative, "0 or more", "C.7.6.16.2.1"),
    "WindowWidth": ValueRule(_are_positive, "positive", "C.11.2.1.2.1"),
}
"""What the value of an attribute can be, where its VR allows more. The rest is text that is only
compared, or numbers of which each can be."""

BELOW: tuple[tuple[str, str, int], ...] = (
    ("BitsStored", "BitsAllocated", 0),
    ("HighBit", "BitsAllocated", 1),
)
"""Attributes that cannot be above another one less a number (C.7.6.3, PS3.5 8.1.1); the first is
then null."""


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
    rule : ValueRule or None
        What its value can be, None where each value of its VR can.
    """

    name: str
    tag: int
    vr: str
    dtype: pl.DataType
    first: bool
    rule: ValueRule | None

    def allows(self, value: Value) -> bool:
        """Tell whether a typed value can be; None, for no value, always can."""
        return value is None or self.rule is None or self.rule.holds(value)


def tag_of(keyword: str) -> int:
    """Return the tag of a keyword of PS3.6 as 0xggggeeee.

    Raises
    ------
    ValueError
        There is no such keyword.
    """
    return look_up(keyword).tag


ATTRIBUTES: tuple[Attribute, ...] = tuple(
    Attribute(
        name,
        tag_of(name),
        look_up(name).vr,
        dtype,
        name in FIRST_OF_SEVERAL,
        VALUE_RULES.get(name),
    )
    for name, dtype in DTYPES.items()
)
"""Everything that is read, in the order of `DTYPES`."""

IN_GROUPS: tuple[Attribute, ...] = tuple(
    replace(
        attribute,
        tag=tag_of(NAMES_IN_GROUP.get(attribute.name, attribute.name)),
        vr=look_up(NAMES_IN_GROUP.get(attribute.name, attribute.name)).vr,
    )
    for attribute in ATTRIBUTES
)
"""`ATTRIBUTES` as a functional group has them."""

SLOTS: Mapping[str, int] = {attribute.name: slot for slot, attribute in enumerate(ATTRIBUTES)}
"""The slot of an attribute: its index in a row of values."""

SLOT_OF_TAG: Mapping[int, int] = {attribute.tag: slot for slot, attribute in enumerate(ATTRIBUTES)}

VRS: tuple[bytes, ...] = tuple(attribute.vr.encode() for attribute in ATTRIBUTES)
"""The VR of each slot, as a file has it."""

_BELOW_SLOTS = tuple((SLOTS[name], SLOTS[bound], less) for name, bound, less in BELOW)

BOUND_SLOTS = frozenset(slot for first, second, _ in _BELOW_SLOTS for slot in (first, second))
"""The slots of which `drop_above_bound` looks at the values."""


def drop_above_bound(row: MutableSequence[Value]) -> Iterator[str]:
    """Set to None what is above its bound in `BELOW`; yield a note for each.

    Parameters
    ----------
    row : mutable sequence
        Values by slot.
    """
    for slot, bound_slot, less in _BELOW_SLOTS:
        value, bound = row[slot], row[bound_slot]
        if isinstance(value, int) and isinstance(bound, int) and value > bound - less:
            row[slot] = None
            other = ATTRIBUTES[bound_slot].name
            yield f"{ATTRIBUTES[slot].name}: {value} cannot be with {other} {bound}"
