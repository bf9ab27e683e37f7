"""Makes the table of a series from the rows of its images, column by column.

Rows are lists of values in a fixed order and become Arrow arrays: one dict per row, or Python
objects whose types polars has to guess, would cost more than reading the headers.
"""

from collections.abc import Sequence
from operator import itemgetter

import polars as pl
import pyarrow as pa

from aneurysm_assets.dicom.attributes import SLOTS, Value
from aneurysm_assets.dicom.fast_parser.walk import Walked
from aneurysm_assets.dicom.header import ROW
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import DICOM_TAGS

_FILE_COLUMNS = ("dicom_path", "file_size", "pixel_data_short", "header_notes", "read_error")
_COLUMNS = (*ROW, *_FILE_COLUMNS)

_SCHEMA = DICOM_TAGS.arrow_schema

_LONGEST_NOTES = 1_000
"""Characters of `header_notes`."""

_IS_SHORT = {"whole": False, "cut": True, "none": None, "unknown": None}
"""`pixel_data_short` by what is known of a file's pixel data."""

_INSTANCE_NUMBER = itemgetter(SLOTS["InstanceNumber"])


class SeriesColumns:
    """Collects the images of a series, file by file, and makes its table of them.

    Parameters
    ----------
    series_instance_uid : str
        The SeriesInstanceUID, which is the name of the series' directory.
    """

    def __init__(self, series_instance_uid: str) -> None:
        self._series = series_instance_uid
        self._rows: list[list[Value]] = []

    def add(self, file: Walked, dicom_path: str, notes: Sequence[str]) -> None:
        """Add the images of one file.

        Parameters
        ----------
        file : Walked
            What it holds. Its rows are changed.
        dicom_path : str
            As in the table.
        notes : sequence of str
            What in its header is not as DICOM has it.
        """
        header_notes = "; ".join(notes)[:_LONGEST_NOTES] or None
        of_file = (dicom_path, file.size, _IS_SHORT[file.pixel_data], header_notes, None)
        for row in file.rows:
            row.extend(of_file)
        self._rows += file.rows

    def add_unreadable(self, dicom_path: str, file_size: int, read_error: str) -> None:
        """Add a file that cannot be read."""
        self._rows.append([*[None] * len(ROW), dicom_path, file_size, None, None, read_error])

    def to_frame(self) -> pl.DataFrame:
        """Return the table, with the schema of `tables.DICOM_TAGS`.

        Returns
        -------
        pl.DataFrame
            In the order of InstanceNumber, images without one last; images of the same number in
            the order in which they were added. Columns without a value are null.
        """
        rows = sorted(self._rows, key=_sort_key)
        columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {}
        columns["header_series_instance_uid"] = self._foreign_uids(columns.pop(SERIES_KEY, ()))
        columns[SERIES_KEY] = (self._series,) * len(rows)
        arrays = [_array(columns.get(field.name), field.type, len(rows)) for field in _SCHEMA]
        # Through Arrow's C interface: `pl.from_arrow` takes four times as long.
        return pl.DataFrame(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))

    def _foreign_uids(self, own: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(None if uid == self._series else uid for uid in own)


def _sort_key(row: list[Value]) -> tuple[bool, Value]:
    number = _INSTANCE_NUMBER(row)
    return number is None, number or 0


def _array(values: Sequence[Value] | None, dtype: pa.DataType, count: int) -> pa.Array:
    """Return a column; most hold one value in all rows, which is quick to repeat."""
    first = values[0] if values else None
    if not values or values.count(first) < count:
        return pa.array(values, dtype) if values else pa.nulls(count, dtype)
    if first is None:
        return pa.nulls(count, dtype)
    return pa.repeat(pa.scalar(first, dtype), count)
