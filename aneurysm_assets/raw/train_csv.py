"""train.csv: the labels of each series, their values and types."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import ClassVar

import polars as pl

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.raw.csv_rows import CsvRow, FieldError, SeriesCsv, quoted
from aneurysm_assets.schema.tables import LABELS, TRAIN_CSV_EXTRA

_SCHEMA = LABELS.schema
_MAX_AGE = 150

# As whole numbers are written by hand, and by pandas where a column has gaps ("57.0").
_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0+)?")


@dataclass(frozen=True)
class TrainCsv(SeriesCsv):
    """The rows of train.csv by series."""

    COLUMNS: ClassVar[tuple[str, ...]] = tuple(
        name for name in LABELS.column_names[1:] if name != TRAIN_CSV_EXTRA
    )

    def labels(self, series_instance_uid: str) -> pl.DataFrame:
        """Give one series its row of the `labels` table.

        Parameters
        ----------
        series_instance_uid : str
            Any series; one without a row in the file gets nulls.

        Returns
        -------
        pl.DataFrame
            One row with the schema of `LABELS`; PatientAge in years.

        Raises
        ------
        SeriesError
            A row of the series has a value that is not what its column holds or the wrong number
            of fields, or its rows contradict one another.
        """
        rows = self.sound_rows(series_instance_uid)
        typed = [self._typed_values(row) for row in rows]
        if len(set(typed)) > 1:
            raise SeriesError(self._conflict(rows, typed))
        values = typed[0] if typed else (None,) * (len(self.COLUMNS) + 1)
        return pl.DataFrame([(series_instance_uid, *values)], schema=_SCHEMA, orient="row")

    def _typed_values(self, row: CsvRow) -> tuple[str | int | None, ...]:
        try:
            both = zip(self.COLUMNS, row.values, strict=True)
            return (*(_label_value(column, text) for column, text in both), row.extra or None)
        except FieldError as error:
            raise SeriesError(f"{self.place(row)}: {error}") from None

    def _conflict(
        self, rows: Sequence[CsvRow], typed: Sequence[tuple[str | int | None, ...]]
    ) -> str:
        numbers = [str(row.number) for row in rows]
        differs = (len(set(values)) > 1 for values in zip(*typed, strict=True))
        columns = ", ".join(compress((*self.COLUMNS, "further columns"), differs))
        return (
            f"{self.path.name} rows {', '.join(numbers[:-1])} and {numbers[-1]} are of the same "
            f"series and contradict one another in {columns}"
        )


def _label_value(column: str, text: str) -> str | int | None:
    """Type one value of train.csv."""
    if not text:
        return None
    if _SCHEMA[column] == pl.String:
        return text
    match = _WHOLE.fullmatch(text)
    number = int(match[1]) if match else None
    if column == "PatientAge":
        if number is None or number > _MAX_AGE:
            raise FieldError(f"{column} {quoted(text)} is no whole number from 0 to {_MAX_AGE}")
    elif number not in (0, 1):
        raise FieldError(f"{column} {quoted(text)} is neither 0 nor 1")
    return number
