"""train_localizers.csv: the aneurysm points of each series, read from Python literals."""

import ast
import math
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.raw.csv_rows import CsvRow, FieldError, SeriesCsv, quoted, shortened
from aneurysm_assets.schema.tables import LOCALIZERS
from aneurysm_assets.uid import is_uid

_SCHEMA = LOCALIZERS.schema

# A real literal has about 60 characters. The limit keeps `ast.parse` from input that could
# exhaust the interpreter's stack.
_MAX_LITERAL = 1_000
_MAX_FRAME = 2**31 - 1  # Int32, the dtype of frame_index


@dataclass(frozen=True)
class LocalizersCsv(SeriesCsv):
    """The rows of train_localizers.csv by series."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("SOPInstanceUID", "coordinates", "location")

    def localizers(self, series_instance_uid: str) -> pl.DataFrame:
        """Give one series its rows of the `localizers` table.

        Parameters
        ----------
        series_instance_uid : str
            Any series; one without a row in the file gets an empty table.

        Returns
        -------
        pl.DataFrame
            One row per point, in file order, repeated rows kept, with the schema of `LOCALIZERS`;
            x and y in pixels.

        Raises
        ------
        SeriesError
            A row of the series has coordinates that cannot be read, a SOPInstanceUID that is no
            DICOM UID, or the wrong number of fields.
        """
        points = [
            (series_instance_uid, *self._point(row)) for row in self.sound_rows(series_instance_uid)
        ]
        if not points:
            return LOCALIZERS.without_rows
        return pl.DataFrame(points, schema=_SCHEMA, orient="row")

    def _point(self, row: CsvRow) -> tuple[str, float, float, int | None, str | None, str | None]:
        instance, coordinates, location = row.values
        if not is_uid(instance):
            raise SeriesError(
                f"{self.place(row)}: SOPInstanceUID {quoted(instance)} is no DICOM UID"
            )
        try:
            return instance, *_coordinates(coordinates), location or None, row.extra or None
        except FieldError as error:
            raise SeriesError(f"{self.place(row)}: {error}") from None


def _coordinates(text: str) -> tuple[float, float, int | None]:
    """Read a point from its Python dict literal.

    Returns
    -------
    tuple of float, float and int or None
        x along columns and y along rows, in pixels; the 0-based frame, None without one.
    """
    try:
        point = _dict_literal(text)
        return _pixel("x", point["x"]), _pixel("y", point["y"]), _frame(point.get("f"))
    except FieldError as error:
        raise FieldError(f"coordinates {quoted(text)}: {error}") from None


def _dict_literal(text: str) -> dict[str, object]:
    """Evaluate a literal that is a dict of x, y and at most f, and of nothing else."""
    if len(text) > _MAX_LITERAL:
        raise FieldError(f"{len(text)} characters are too many")
    try:
        tree = ast.parse(text, mode="eval")
        value = ast.literal_eval(tree)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise FieldError("no Python literal") from None
    if not isinstance(value, dict) or not isinstance(tree.body, ast.Dict):
        raise FieldError("no dict such as {'x': 258.4, 'y': 261.4}")
    if not {"x", "y"} <= value.keys() <= {"x", "y", "f"}:
        keys = shortened(", ".join(map(str, value)))
        raise FieldError(f"the keys must be x, y and at most f, not: {keys or 'none'}")
    # Python lets the last of two equal keys win: a reading that looks right and is a guess.
    if len(tree.body.keys) != len(value):
        raise FieldError("a key is given twice")
    return value


def _pixel(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError(f"{key} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FieldError(f"{key} is not finite")
    return number


def _frame(value: object) -> int | None:
    if value is None:
        return None
    frame = _pixel("f", value)
    if not frame.is_integer() or not 0 <= frame <= _MAX_FRAME:
        raise FieldError("f is no 0-based frame")
    return int(frame)
