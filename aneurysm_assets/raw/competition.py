"""The two CSVs of the competition: train.csv and train_localizers.csv.

A file is read once, and what concerns the whole of it is settled then: its encoding, its columns,
which rows name a series at all. What concerns one series is settled when that series is asked for,
so that a bad value fails its own series and no other.

Row numbers are those an editor shows, the header being row 1. A row that spans several lines,
through a newline in quotes, has the number of its first line.
"""

import ast
import csv
import hashlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Self

import polars as pl

from aneurysm_assets.errors import InputError, SeriesError
from aneurysm_assets.schema.tables import LABELS, LOCALIZERS, SERIES_KEY
from aneurysm_assets.storage.fingerprint import fingerprint_of_rows
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.uid import is_uid

_LABELS_SCHEMA = LABELS.schema
_LOCALIZERS_SCHEMA = LOCALIZERS.schema
_LABEL_COLUMNS = LABELS.column_names[1:]
_LOCALIZER_COLUMNS = ("SOPInstanceUID", "coordinates", "location")

_MAX_SHOWN = 80
_MAX_AGE = 150
# A real literal has about 60 characters. The limit keeps `ast.parse` from input that could
# exhaust the interpreter's stack.
_MAX_LITERAL = 1_000
_MAX_FRAME = 2**31 - 1  # Int32, the dtype of frame_index

# As whole numbers are written by hand, and by pandas where a column has gaps ("57.0").
_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0+)?")

# csv forgives a space before a quoted field, not one behind it. Each quoted field is matched
# whole, so that a comma within it is not taken for its end.
_SPACE_BEHIND_QUOTED = re.compile(r'(?<![^,\s])("(?:[^"]|"")*+")[ \t]*(?=[,\r\n]|\Z)')


class _FieldError(Exception):
    """What is wrong with a field, before it is known in which row that is."""


@dataclass(frozen=True)
class RefusedRow:
    """A row that names no series, and so is not used at all.

    Attributes
    ----------
    row : int
        Line number in the file; the header is row 1.
    text : str
        What stands where the SeriesInstanceUID should be, shortened and printable.
    reason : str
        Why the row is refused.
    """

    row: int
    text: str
    reason: str


@dataclass(frozen=True)
class _Row:
    """The needed fields of one row, in order, or the fault for which they are not known."""

    number: int
    values: tuple[str, ...]
    fault: str = ""


@dataclass(frozen=True)
class _SeriesCsv:
    """What `TrainCsv` and `LocalizersCsv` share: rows by series, and the rows refused.

    Attributes
    ----------
    path : Location
        The file that was read.
    refused : tuple of RefusedRow
        Rows whose SeriesInstanceUID is no DICOM UID, in file order.
    sha256 : str
        Hexadecimal digest of the whole file.
    rows : mapping of str to sequence of _Row
        The other rows, untyped, by SeriesInstanceUID.
    """

    path: Location
    refused: tuple[RefusedRow, ...]
    sha256: str
    rows: Mapping[str, Sequence[_Row]] = field(repr=False)

    @classmethod
    def empty(cls, path: Location) -> Self:
        """Return what stands for a file that is not there: no row of any series."""
        return cls(path, refused=(), sha256="", rows={})

    @property
    def series(self) -> tuple[str, ...]:
        """The SeriesInstanceUIDs that are DICOM UIDs, in file order, each once."""
        return tuple(self.rows)

    def only(self, series_instance_uid: str) -> Self:
        """Return the same with the rows of one series alone: little to send to another process."""
        rows = self.rows.get(series_instance_uid)
        return replace(self, refused=(), rows={} if rows is None else {series_instance_uid: rows})

    def fingerprint(self, series_instance_uid: str) -> str:
        """Return the fingerprint of a series' rows, also of none; where they stand is no matter."""
        rows = self.rows.get(series_instance_uid, ())
        return fingerprint_of_rows((row.fault, *row.values) for row in rows)

    def _rows_of(self, series_instance_uid: str) -> Sequence[_Row]:
        rows = self.rows.get(series_instance_uid, ())
        for row in rows:
            if row.fault:
                raise SeriesError(f"{self._at(row)}: {row.fault}")
        return rows

    def _at(self, row: _Row) -> str:
        return f"{self.path.name} row {row.number}"


@dataclass(frozen=True)
class TrainCsv(_SeriesCsv):
    """train.csv: the labels of each series."""

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
        rows = self._rows_of(series_instance_uid)
        typed = [self._typed(row) for row in rows]
        if len(set(typed)) > 1:
            raise SeriesError(self._conflict(rows, typed))
        values = typed[0] if typed else (None,) * len(_LABEL_COLUMNS)
        return pl.DataFrame([(series_instance_uid, *values)], schema=_LABELS_SCHEMA, orient="row")

    def _typed(self, row: _Row) -> tuple[str | int | None, ...]:
        try:
            return tuple(
                _label_value(column, text)
                for column, text in zip(_LABEL_COLUMNS, row.values, strict=True)
            )
        except _FieldError as error:
            raise SeriesError(f"{self._at(row)}: {error}") from None

    def _conflict(self, rows: Sequence[_Row], typed: Sequence[tuple[str | int | None, ...]]) -> str:
        numbers = [str(row.number) for row in rows]
        differs = (len(set(values)) > 1 for values in zip(*typed, strict=True))
        columns = ", ".join(compress(_LABEL_COLUMNS, differs))
        return (
            f"{self.path.name} rows {', '.join(numbers[:-1])} and {numbers[-1]} are of the same "
            f"series and contradict one another in {columns}"
        )


@dataclass(frozen=True)
class LocalizersCsv(_SeriesCsv):
    """train_localizers.csv: the aneurysm points of each series."""

    def localizers(self, series_instance_uid: str) -> pl.DataFrame:
        """Give one series its rows of the `localizers` table.

        Parameters
        ----------
        series_instance_uid : str
            Any series; one without a row in the file gets an empty table.

        Returns
        -------
        pl.DataFrame
            One row a point, in file order, repeated rows kept, with the schema of `LOCALIZERS`;
            x and y in pixels.

        Raises
        ------
        SeriesError
            A row of the series has coordinates that cannot be read, a SOPInstanceUID that is no
            DICOM UID, or the wrong number of fields.
        """
        points = [
            (series_instance_uid, *self._point(row)) for row in self._rows_of(series_instance_uid)
        ]
        if not points:
            return _LOCALIZERS_SCHEMA.to_frame()
        return pl.DataFrame(points, schema=_LOCALIZERS_SCHEMA, orient="row")

    def _point(self, row: _Row) -> tuple[str, float, float, int | None, str | None]:
        instance, coordinates, location = row.values
        if not is_uid(instance):
            raise SeriesError(
                f"{self._at(row)}: SOPInstanceUID {_quoted(instance)} is no DICOM UID"
            )
        try:
            return instance, *_coordinates(coordinates), location or None
        except _FieldError as error:
            raise SeriesError(f"{self._at(row)}: {error}") from None


def read_train_csv(path: Location) -> TrainCsv:
    """Read train.csv.

    Parameters
    ----------
    path : Location
        The file, UTF-8 with or without a byte-order mark, any line ends.

    Returns
    -------
    TrainCsv
        Its rows by series.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    InputError
        The file cannot be read, is no CSV, or lacks columns.
    """
    return TrainCsv(path, *_read(path, _LABEL_COLUMNS))


def read_localizers_csv(path: Location) -> LocalizersCsv:
    """Read train_localizers.csv.

    Parameters
    ----------
    path : Location
        The file, UTF-8 with or without a byte-order mark, any line ends.

    Returns
    -------
    LocalizersCsv
        Its rows by series.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    InputError
        The file cannot be read, is no CSV, or lacks columns.
    """
    return LocalizersCsv(path, *_read(path, _LOCALIZER_COLUMNS))


def _read(
    path: Location, columns: Sequence[str]
) -> tuple[tuple[RefusedRow, ...], str, dict[str, list[_Row]]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    records = _records(path, _text(path, data))
    _, header = next(records, (0, []))
    places = _places(path, header, (SERIES_KEY, *columns))
    refused: list[RefusedRow] = []
    rows: dict[str, list[_Row]] = {}
    for number, fields in records:
        uid = fields[places[0]] if places[0] < len(fields) else ""
        if is_uid(uid):
            rows.setdefault(uid, []).append(_row(number, fields, len(header), places[1:]))
        else:
            reason = "is no DICOM UID (digits and dots, at most 64 characters)"
            refused.append(RefusedRow(number, _shown(uid), f"{SERIES_KEY} {reason}"))
    return tuple(refused), hashlib.sha256(data).hexdigest(), rows


def _row(number: int, fields: Sequence[str], width: int, places: Sequence[int]) -> _Row:
    if len(fields) != width:
        return _Row(number, (), f"has {len(fields)} fields where the header has {width}")
    return _Row(number, tuple(fields[place] for place in places))


def _text(path: Location, data: bytes) -> str:
    """Decode a file, or say what it is instead of a CSV."""
    if not data.strip():
        raise InputError(f"{path}: the file is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: not a CSV in UTF-8: byte 0x{data[error.start]:02x} in row {row} is no text"
        ) from None
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}: not a CSV: row {row} has a zero byte, as binary files do")
    if text.lstrip().startswith("<"):
        raise InputError(
            f"{path}: not a CSV but a page of HTML or XML, beginning with "
            f"{_quoted(text.lstrip())}: perhaps a download that asked for a login"
        )
    return text


def _records(path: Location, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the stripped fields of each row that is not blank, the header first."""
    text = _SPACE_BEHIND_QUOTED.sub(r"\1", text)
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    number = 1
    try:
        for fields in reader:
            stripped = [value.strip() for value in fields]
            if any(stripped):
                yield number, stripped
            number = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}: not a well-formed CSV: the row that begins at row {number} "
            f"cannot be told apart: {error}"
        ) from None


def _places(path: Location, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Find where the needed columns stand."""
    found = ", ".join(_shown(name) for name in header[:40])
    if missing := [column for column in columns if column not in header]:
        raise InputError(f"{path}: columns missing: {', '.join(missing)}; found: {found}")
    if repeated := [column for column in columns if header.count(column) > 1]:
        raise InputError(f"{path}: columns more than once: {', '.join(repeated)}; found: {found}")
    return [header.index(column) for column in columns]


def _label_value(column: str, text: str) -> str | int | None:
    """Type one value of train.csv."""
    if not text:
        return None
    if _LABELS_SCHEMA[column] == pl.String:
        return text
    match = _WHOLE.fullmatch(text)
    number = int(match[1]) if match else None
    if column == "PatientAge":
        if number is None or number > _MAX_AGE:
            raise _FieldError(f"{column} {_quoted(text)} is no whole number from 0 to {_MAX_AGE}")
    elif number not in (0, 1):
        raise _FieldError(f"{column} {_quoted(text)} is neither 0 nor 1")
    return number


def _coordinates(text: str) -> tuple[float, float, int | None]:
    """Read a point from its Python dict literal.

    Returns
    -------
    tuple of float, float and int or None
        x along columns and y along rows, in pixels; the 0-based frame, None where there is none.
    """
    try:
        point = _dict_literal(text)
        return _pixel("x", point["x"]), _pixel("y", point["y"]), _frame(point.get("f"))
    except _FieldError as error:
        raise _FieldError(f"coordinates {_quoted(text)}: {error}") from None


def _dict_literal(text: str) -> dict[str, object]:
    """Evaluate a literal that is a dict of x, y and at most f, and of nothing else."""
    if len(text) > _MAX_LITERAL:
        raise _FieldError(f"{len(text)} characters are too many")
    try:
        tree = ast.parse(text, mode="eval")
        value = ast.literal_eval(tree)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise _FieldError("no Python literal") from None
    if not isinstance(value, dict) or not isinstance(tree.body, ast.Dict):
        raise _FieldError("no dict such as {'x': 258.4, 'y': 261.4}")
    if not {"x", "y"} <= value.keys() <= {"x", "y", "f"}:
        keys = _shown(", ".join(map(str, value)))
        raise _FieldError(f"the keys must be x, y and at most f, not: {keys or 'none'}")
    # Python lets the last of two equal keys win: a reading that looks right and is a guess.
    if len(tree.body.keys) != len(value):
        raise _FieldError("a key is given twice")
    return value


def _pixel(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _FieldError(f"{key} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _FieldError(f"{key} is not finite")
    return number


def _frame(value: object) -> int | None:
    if value is None:
        return None
    frame = _pixel("f", value)
    if not frame.is_integer() or not 0 <= frame <= _MAX_FRAME:
        raise _FieldError("f is no 0-based frame")
    return int(frame)


def _shown(text: str) -> str:
    """Make any text fit for one line of a message."""
    shown = text[: _MAX_SHOWN + 1]
    if not shown.isprintable():
        shown = repr(shown)[1:-1]
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…"


def _quoted(text: str) -> str:
    shown = _shown(text)
    quote = '"' if "'" in shown else "'"
    return f"{quote}{shown}{quote}"
