"""The plain way: what a person writes with pydicom, pandas and polars, reading the same values."""

from pathlib import Path
from typing import Any

import polars as pl
from pydicom import Dataset, dcmread

from aneurysm_assets.dicom.attributes import DTYPES, GROUPS, PER_FRAME, SHARED
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import DICOM_TAGS

TOP = tuple(name for name in DTYPES if name != "TransferSyntaxUID")


def values_of(path: str) -> list[dict[str, Any]]:
    """Read the wanted values of each image of a file with pydicom."""
    data = dcmread(path, stop_before_pixels=True, specific_tags=[*TOP, PER_FRAME, SHARED])
    values = {name: data.get(name) for name in TOP}
    values["TransferSyntaxUID"] = data.file_meta.get("TransferSyntaxUID")
    shared = data.get(SHARED)
    common = values | (_group_values(shared[0]) if shared else {})
    return [common | _group_values(frame) for frame in data.get(PER_FRAME) or ()] or [common]


def series_frame(folder: Path, raw: Path) -> pl.DataFrame:
    """Make `dicom_tags`, but for what is computed of a series, from a list of dicts."""
    rows = []
    for path in sorted(folder.iterdir()):
        about = {
            SERIES_KEY: folder.name,
            "dicom_path": path.relative_to(raw).as_posix(),
            "file_size": path.stat().st_size,
        }
        for index, values in enumerate(values_of(str(path))):
            typed = {name: typed_value(value) for name, value in values.items()}
            rows.append(typed | about | {"frame_index": index})
    columns = {name: [row.get(name) for row in rows] for name in DICOM_TAGS.column_names}
    return pl.DataFrame(columns, schema=DICOM_TAGS.schema, strict=False).sort("InstanceNumber")


def typed_value(value: Any) -> Any:  # noqa: ANN401 - pydicom's values are of any type
    """Return a value of pydicom as a plain one."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    if any(isinstance(part, str) and not hasattr(part, "real") for part in value):
        return "\\".join(map(str, value))
    return [float(number) for number in value]


def _group_values(groups: Dataset) -> dict[str, Any]:
    values = {}
    for name, sequence in GROUPS.items():
        items = groups.get(sequence)
        if items and name in items[0]:
            values[name] = items[0].get(name)
    return values
