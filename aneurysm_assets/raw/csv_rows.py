"""The rows of a CSV by the series they name; the one reader of both CSVs of the competition.

A file is read once, and what concerns the whole of it is settled then: its encoding, its columns,
which rows name a series at all. What concerns one series is settled when that series is asked for,
so that a bad value fails its own series and no other. What the columns mean does not belong here.

Row numbers are those an editor shows, the header being row 1. A row that spans several lines,
through a newline in quotes, has the number of its first line.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

from aneurysm_assets.errors import InputError, SeriesError
from aneurysm_assets.messages import names_in_brief, printable
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.storage.fingerprint import fingerprint_of_rows
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.uid import is_uid

_MAX_SHOWN_CHARACTERS = 80
_MAX_SHOWN_COLUMNS = 40

# csv accepts a space before a quoted field, not one behind it. Each quoted field is matched
# whole, so that a comma within it is not taken for its end.
_SPACE_BEHIND_QUOTED = re.compile(r'(?<![^,\s])("(?:[^"]|"")*+")[ \t]*(?=[,\r\n]|\Z)')


_MOST_BYTES = 200_000_000
"""Of a CSV: that of the competition has 0.5 MB; one of this size takes some 2 GB in memory."""


class FieldError(Exception):
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
class CsvRow:
    """The needed fields of one row, or what is wrong with the row.

    Attributes
    ----------
    number : int
        Line number in the file; the header is row 1.
    values : tuple of str
        The fields, stripped, in the order of the columns asked for; none where there is a fault.
    fault : str
        Why the fields are not known; empty where they are.
    extra : str
        The fields of all other columns as a JSON object by header name, null for an empty one;
        empty where the file has no other column.
    """

    number: int
    values: tuple[str, ...]
    fault: str = ""
    extra: str = ""


@dataclass(frozen=True)
class SeriesCsv:
    """A CSV whose rows each name a series. A subclass says which columns it needs.

    Attributes
    ----------
    path : Location
        The file that was read.
    refused : tuple of RefusedRow
        Rows whose SeriesInstanceUID is no DICOM UID, in file order.
    sha256 : str
        Hexadecimal digest of the whole file.
    rows : mapping of str to sequence of CsvRow
        The other rows, untyped, by SeriesInstanceUID.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ()
    """The columns that the file must have beside SeriesInstanceUID, in the order of the values."""

    path: Location
    refused: tuple[RefusedRow, ...]
    sha256: str
    rows: Mapping[str, Sequence[CsvRow]] = field(repr=False)

    @classmethod
    def read(cls, path: Location) -> Self:
        """Read a file.

        Parameters
        ----------
        path : Location
            The file, UTF-8 with or without a byte-order mark, any line ends.

        Returns
        -------
        SeriesCsv
            Its rows by series.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        InputError
            The file cannot be read, is no CSV, or lacks columns.
        """
        try:
            _refuse_unbounded(path)
            data = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        refused, rows = _rows_by_series(path, data, cls.COLUMNS)
        return cls(path, refused, hashlib.sha256(data).hexdigest(), rows)

    @classmethod
    def empty(cls, path: Location) -> Self:
        """Return what stands for a file that does not exist: no row of any series."""
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
        """Return the fingerprint of a series' rows, wherever in the file they are; also of none."""
        rows = self.rows.get(series_instance_uid, ())
        return fingerprint_of_rows(
            (row.fault, *row.values, *([row.extra] if row.extra else [])) for row in rows
        )

    def extra_note(self, column: str) -> str:
        """Say which further columns the file has and in which column they are kept, or nothing."""
        texts = {row.extra for rows in self.rows.values() for row in rows if row.extra}
        names = dict.fromkeys(name for text in sorted(texts) for name in json.loads(text))
        if not names:
            return ""
        shown = names_in_brief([shortened(name) for name in names], _MAX_SHOWN_COLUMNS)
        return f"{self.path} has further columns, kept in {column}: {shown}"

    def sound_rows(self, series_instance_uid: str) -> Sequence[CsvRow]:
        """Return a series' rows in file order.

        Raises
        ------
        SeriesError
            One of them has a fault.
        """
        rows = self.rows.get(series_instance_uid, ())
        for row in rows:
            if row.fault:
                raise SeriesError(f"{self.place(row)}: {row.fault}")
        return rows

    def place(self, row: CsvRow) -> str:
        """Return where a row is, for a message."""
        return f"{self.path.name} row {row.number}"


def shortened(text: str) -> str:
    """Return any text printable and short enough for one line of a message."""
    shown = printable(text[: _MAX_SHOWN_CHARACTERS + 1])
    if len(shown) <= _MAX_SHOWN_CHARACTERS:
        return shown
    return shown[: _MAX_SHOWN_CHARACTERS - 1] + "…"


def quoted(text: str) -> str:
    """Return any text shortened and in quotes."""
    shown = shortened(text)
    quote = '"' if "'" in shown else "'"
    return f"{quote}{shown}{quote}"


def _refuse_unbounded(path: Location) -> None:
    """Refuse what would be read for ever, or would fill the memory.

    Raises
    ------
    OSError
        It is not there, or cannot be looked at.
    InputError
        It is no regular file, or a too large one.
    """
    state = path.stat()
    if isinstance(path, Path) and not path.is_file():
        what = "a directory" if path.is_dir() else "no regular file"
        raise InputError(f"{path}: is {what}: put the CSV itself there")
    if state.st_size > _MOST_BYTES:
        raise InputError(
            f"{path}: has {state.st_size:,} bytes, and a CSV of at most {_MOST_BYTES:,} is read: "
            "is it the right file?"
        )


def _rows_by_series(
    path: Location, data: bytes, columns: Sequence[str]
) -> tuple[tuple[RefusedRow, ...], dict[str, list[CsvRow]]]:
    records = _records(path, _text(path, data))
    _, header = next(records, (0, []))
    uid_index, *indices = _column_indices(path, header, (SERIES_KEY, *columns))
    known = {uid_index, *indices}
    others = {i: _unique_name(header, i) for i in range(len(header)) if i not in known}
    refused: list[RefusedRow] = []
    rows: dict[str, list[CsvRow]] = {}
    for number, fields in records:
        uid = fields[uid_index] if uid_index < len(fields) else ""
        if is_uid(uid):
            rows.setdefault(uid, []).append(_row(number, fields, header, indices, others))
        else:
            reason = "is no DICOM UID (digits and dots, at most 64 characters)"
            refused.append(RefusedRow(number, shortened(uid), f"{SERIES_KEY} {reason}"))
    return tuple(refused), rows


def _unique_name(header: Sequence[str], index: int) -> str:
    """Return a column's name; with its place where it has none or shares it with another."""
    name = header[index]
    if name and header.count(name) == 1:
        return name
    while not name or name in header:
        name = f"{name} (column {index + 1})".strip()
    return name


def _extra(others: Mapping[int, str], header: Sequence[str], fields: Sequence[str]) -> str:
    # An unnamed column without a value, as of a comma at the end of each line, says nothing.
    extra = {
        name: fields[index] or None
        for index, name in others.items()
        if fields[index] or header[index]
    }
    return json.dumps(extra, ensure_ascii=False) if extra else ""


def _row(
    number: int,
    fields: Sequence[str],
    header: Sequence[str],
    indices: Sequence[int],
    others: Mapping[int, str],
) -> CsvRow:
    if len(fields) != len(header):
        return CsvRow(number, (), f"has {len(fields)} fields where the header has {len(header)}")
    values = tuple(fields[index] for index in indices)
    return CsvRow(number, values, extra=_extra(others, header, fields))


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
            f"{quoted(text.lstrip())}: perhaps a download that asked for a login"
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


def _column_indices(path: Location, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Return the index of each needed column in the header."""
    found = names_in_brief([shortened(name) for name in header], _MAX_SHOWN_COLUMNS)
    if missing := [column for column in columns if column not in header]:
        raise InputError(f"{path}: columns missing: {', '.join(missing)}; found: {found}")
    if repeated := [column for column in columns if header.count(column) > 1]:
        raise InputError(f"{path}: columns more than once: {', '.join(repeated)}; found: {found}")
    return [header.index(column) for column in columns]
