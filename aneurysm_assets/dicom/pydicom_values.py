"""Values of a data set of pydicom, typed as our columns; None and a note where that cannot be.

Which attributes there are, and what a value must be, belongs to `attributes`; whether a file is
believed at all to `pydicom_header`.
"""

import math
from collections.abc import Mapping, Sequence

import polars as pl
from pydicom import Dataset
from pydicom.multival import MultiValue

from aneurysm_assets.dicom.attributes import (
    ATTRIBUTES,
    DTYPES,
    FIRST_OF_SEVERAL,
    GEOMETRY,
    GROUPS,
    NAMES_IN_GROUP,
    SLOTS,
    Attribute,
    Value,
)
from aneurysm_assets.dicom.header import PLACES, geometry_source
from aneurysm_assets.limits import MAX_VALUE_BYTES
from aneurysm_assets.messages import one_line


def image_of(
    top: Mapping[str, Value], groups: Sequence[Dataset | None], malformed: list[str]
) -> dict[str, Value]:
    """Return the values of one image, the attributes of functional groups from the nearest.

    Parameters
    ----------
    top : mapping of str to Value
        Of the top level.
    groups : sequence of Dataset or None
        The image's items of the functional groups, PerFrame and Shared (PS3.3 C.7.6.16).
    malformed : list of str
        Gets a note for each value that cannot be.
    """
    image = dict(top)
    used = set()
    for name, sequence in GROUPS.items():
        keyword = NAMES_IN_GROUP.get(name, name)
        found: Value = top[name]
        place = PLACES[-1]
        for group, group_place in zip(groups, PLACES, strict=False):
            items = group.get(sequence) if group is not None else None
            if items and not _is_empty(items[0], keyword):
                found, place = value_of(items[0], name, malformed, keyword), group_place
                break
        image[name] = found
        if name in GEOMETRY and found is not None:
            used.add(place)
    image["geometry_source"] = geometry_source(used)
    return image


def _is_empty(dataset: Dataset, name: str) -> bool:
    if name not in dataset:
        return True
    if _is_too_long(dataset, name):
        return False
    try:
        return dataset[name].is_empty
    except Exception:  # noqa: BLE001 - not convertible is not empty: `value_of` records the reason
        return False


def _is_too_long(dataset: Dataset, name: str) -> bool:
    """Tell whether a value takes long to decode; it is not, to find out."""
    value = getattr(dataset.get_item(name), "value", None)
    return isinstance(value, bytes) and len(value) > MAX_VALUE_BYTES


def value_of(dataset: Dataset, name: str, malformed: list[str], keyword: str = "") -> Value:
    """Return a tag's value typed as its column, None and a note where that cannot be."""
    keyword = keyword or name
    if keyword not in dataset:
        return None
    try:
        if _is_too_long(dataset, keyword):
            raise ValueError(f"has more than {MAX_VALUE_BYTES} bytes")  # noqa: TRY301 - as below
        value = dataset[keyword].value
        if name in FIRST_OF_SEVERAL and isinstance(value, MultiValue | list) and value:
            value = value[0]
        return _allowed(_typed(value, DTYPES[name]), ATTRIBUTES[SLOTS[name]])
    except Exception as error:  # noqa: BLE001 - pydicom raises many types; the reason is recorded
        malformed.append(f"{keyword}: {one_line(error, 100)}")
        return None


def _allowed(value: Value, attribute: Attribute) -> Value:
    if attribute.rule is not None and not attribute.allows(value):
        numbers = value if isinstance(value, tuple) else (value,)
        shown = "\\".join(map(str, numbers))
        raise ValueError(f"{shown} is not {attribute.rule.text}")
    return value


def _typed(value: object, dtype: pl.DataType) -> Value:
    several = value if isinstance(value, MultiValue | list) else None
    if value is None or value == "" or (several is not None and not several):
        return None
    if isinstance(dtype, pl.Array):
        numbers = tuple(_finite(item) for item in several or ())
        if len(numbers) != dtype.size:
            raise ValueError(f"{value!r} is not {dtype.size} numbers")
        return numbers
    if isinstance(dtype, pl.String):
        if not all(isinstance(item, str) for item in ([value] if several is None else several)):
            raise ValueError(f"{value!r} is no text")
        # The backslash is what separates the values of a text in DICOM itself (PS3.5 6.4).
        return str(value) if several is None else "\\".join(str(item) for item in several)
    if several is not None:
        raise ValueError(f"{value!r} is not one value")
    number = _finite(value)
    if isinstance(dtype, pl.Float64):
        return number
    if not number.is_integer() or not -(2**31) <= number < 2**31:
        raise ValueError(f"{value!r} is no whole number of 32 bits")
    return int(number)


def _finite(value: object) -> float:
    number = float(str(value)) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number
