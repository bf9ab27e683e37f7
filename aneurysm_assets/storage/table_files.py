"""Files of ours written, each there whole or not at all: tables as Parquet, or CSV where it must.

How that is done on a disk belongs to `atomic_files`; in a bucket a file is put at once. Which file
holds a table belongs to `table_names`, how one is read to `table_scans`, what its columns are to
`schema.tables`; which tables exist and when they count as done is Dagster's to know.
"""

import errno
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Literal

import polars as pl
import pyarrow as pa

from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import one_line
from aneurysm_assets.schema.tables import Table
from aneurysm_assets.storage.atomic_files import StagedFiles, atomic_write
from aneurysm_assets.storage.bucket_files import put_file
from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.storage.table_scans import (
    ASKED_TAGS,
    EXTRA_NAMES,
    WRITTEN_BY,
    list_columns,
)

Format = Literal["parquet", "csv"]

_OTHER: Mapping[Format, Format] = {"parquet": "csv", "csv": "parquet"}

_ERROR_OF_SYSTEM = re.compile(r"\(os error (\d+)\)")

_OF_THIS_FILE = frozenset((errno.EISDIR, errno.EFBIG))
"""What stands in the place of the Parquet file, and how long a file may be: a CSV may fit."""


@dataclass(frozen=True)
class StoredTable:
    """What a write left.

    Attributes
    ----------
    path : Location
        The file, with its suffix.
    format : {"parquet", "csv"}
        How it is stored.
    rows : int
        Number of rows.
    warning : str or None
        Why it is not Parquet; None where it is.
    """

    path: Location
    format: Format
    rows: int
    warning: str | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warning, where there is one."""
        return (self.warning,) if self.warning else ()


@dataclass(frozen=True)
class StoredPicture:
    """A picture of a series, and what is shown of it elsewhere.

    Attributes
    ----------
    path : Location
        The PNG.
    size : int
        Its bytes.
    thumbnail : bytes
        The same small, as JPEG.
    description : str
        What it shows, in a line, for those who cannot see it.
    points, points_shown : int
        Aneurysm points of the series, and those of them that are marked.
    layout : str
        `planes` or `montage`.
    """

    path: Location
    size: int
    thumbnail: bytes
    description: str
    points: int
    points_shown: int
    layout: str


def write_bytes(path: Location, content: bytes, *, staged: StagedFiles | None = None) -> None:
    """Write a file so that a reader sees the whole of the old one or the whole of the new one.

    Parameters
    ----------
    path : Location
        Where to. Missing directories are made.
    content : bytes
        All of it.
    staged : StagedFiles, optional
        Where a file of a disk waits for `batch_commit`; without it the file is put in its place.

    Raises
    ------
    OSError
        It cannot be written. What stood there before is untouched.
    """
    if isinstance(path, ObjectPath):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: partial.write_bytes(content), staged=staged)


def write_table(
    frame: pl.DataFrame | pl.LazyFrame,
    table: Table,
    stem: Location,
    *,
    metadata: Mapping[str, str] | None = None,
    check: Callable[[], None] | None = None,
    staged: StagedFiles | None = None,
) -> StoredTable:
    """Write a table so that a reader sees the whole of the old one or the whole of the new one.

    Parameters
    ----------
    frame : pl.DataFrame or pl.LazyFrame
        Exactly the table's columns; a lazy frame is streamed to disk, for a bucket to that of the
        temporary files.
    table : Table
        Its schema.
    stem : Location
        Where to, without suffix. Missing directories are made.
    metadata : mapping of str to str, optional
        Of a table of the whole data set: metadata of the Parquet file, in which each field then has
        its column's description, unit and source. In a table per series they would be most of it.
    check : callable, optional
        Called when all of the frame is written beside its place, or could not be: whether what it
        was made of is still the same. What it raises keeps the table from its place.
    staged : StagedFiles, optional
        Where a file of a disk waits for `batch_commit`; without it the file is put in its place.

    Returns
    -------
    StoredTable
        The file that stands there now, or after `batch_commit`, and a warning if that is the CSV
        fallback.

    Raises
    ------
    TypeError
        The frame's schema is not the table's.
    InputError
        From `check`. What stood there before is untouched.
    OSError, pl.exceptions.PolarsError
        The disk or the bucket refused twice, or neither Parquet nor CSV can be written. What stood
        there before is untouched.
    """
    _require_schema(frame, table)
    if isinstance(stem, Path):
        stem.parent.mkdir(parents=True, exist_ok=True)
    checked = check or (lambda: None)
    write = _followed_by(checked, partial(_write_parquet, frame, table, metadata))
    for is_last in (False, True):
        try:
            return _write(stem, "parquet", write, staged)
        except InputError:
            raise
        except (Exception, pl.exceptions.PanicException) as error:
            checked()  # a file that is replaced while it is read may look like a broken one
            # The store or the disk, not the format: CSV would fare no better.
            if isinstance(stem, ObjectPath) and isinstance(error, OSError):
                raise
            of_machine = _said_by_machine(error, stem)
            if of_machine is None:
                reason = f"{type(error).__name__}: {one_line(error)}"
                break
            if is_last:
                raise of_machine from error
    stored = _write(stem, "csv", _followed_by(checked, partial(_write_csv, frame)), staged)
    return replace(stored, warning=f"Parquet could not be written ({reason}); the table is CSV")


def _require_schema(frame: pl.DataFrame | pl.LazyFrame, table: Table) -> None:
    if isinstance(frame, pl.DataFrame):  # to compare schemas takes ten times as long
        names, types = frame.columns, frame.dtypes
    else:
        schema = frame.collect_schema()
        names, types = schema.names(), schema.dtypes()
    if names != table.schema.names() or types != table.schema.dtypes():
        raise TypeError(f"not the schema of {table.name}: {dict(zip(names, types, strict=True))}")


def _said_by_machine(error: BaseException, stem: Location) -> OSError | None:
    """Return what the system said where it, and not the format, kept a file from being written.

    Polars has the system's errors in the text of its own.
    """
    told = _ERROR_OF_SYSTEM.search(str(error))
    number = error.errno if isinstance(error, OSError) else None
    number = int(told[1]) if told else number
    if number is None or number in _OF_THIS_FILE or isinstance(error, IsADirectoryError):
        return None
    return OSError(number, os.strerror(number), str(stem))


def _followed_by(
    check: Callable[[], None], write: Callable[[Path | IO[bytes]], int]
) -> Callable[[Path | IO[bytes]], int]:
    def write_and_check(to: Path | IO[bytes]) -> int:
        rows = write(to)
        check()
        return rows

    return write_and_check


def _write(
    stem: Location,
    suffix: Format,
    write: Callable[[Path | IO[bytes]], int],
    staged: StagedFiles | None,
) -> StoredTable:
    """Write a table in one format, and remove it in the other."""
    # Not Path.with_suffix: a UID's last component would be taken for a suffix.
    name, other = f"{stem.name}.{suffix}", f"{stem.name}.{_OTHER[suffix]}"
    if isinstance(stem, Path):
        other_path = stem.parent / other
        rows = atomic_write(stem.parent / name, write, instead_of=other_path, staged=staged)
    else:
        rows = put_file(stem.parent / name, write)
        (stem.parent / other).unlink(missing_ok=True)
    return StoredTable(stem.parent / name, suffix, rows)


def _write_parquet(
    frame: pl.DataFrame | pl.LazyFrame,
    table: Table,
    metadata: Mapping[str, str] | None,
    to: Path | IO[bytes],
) -> int:
    tags = [name for name in table.column_names if name in EXTRA_NAMES]
    of_file = {WRITTEN_BY: _version(), **({ASKED_TAGS: ",".join(tags)} if tags else {})}
    of_file |= metadata or {}
    schema = None if metadata is None else described_schema(table)
    if isinstance(frame, pl.DataFrame):
        if metadata is None:
            _write_rows(frame, table, of_file, to)
        else:
            frame.write_parquet(to, metadata=of_file, arrow_schema=schema)
        return frame.height
    frame.sink_parquet(to, maintain_order=True, metadata=of_file, arrow_schema=schema)
    if not isinstance(to, Path):
        to.seek(0)
    return int(pl.scan_parquet(to, glob=False).select(pl.len()).collect().item())


def _write_rows(
    frame: pl.DataFrame, table: Table, of_file: dict[str, str], to: Path | IO[bytes]
) -> None:
    """Write the rows of a series, of which many have none."""
    if frame.height:
        # They are read whole, and soon: a fifth of the time for as many bytes.
        frame.write_parquet(to, compression="lz4", statistics=False, metadata=of_file)
        return
    content = _without_rows(table, tuple(of_file.items()))
    if isinstance(to, Path):
        to.write_bytes(content)
    else:
        to.write(content)


@cache
def _without_rows(table: Table, of_file: tuple[tuple[str, str], ...]) -> bytes:
    file = io.BytesIO()
    table.without_rows.write_parquet(file, metadata=dict(of_file))
    return file.getvalue()


@cache
def _version() -> str:
    return version("aneurysm-assets")


@cache
def described_schema(table: Table) -> pa.Schema:
    """Return a table's Arrow schema, in which fields tell description, unit and source."""
    return pa.schema(
        table.arrow_schema.field(column.name).with_metadata(
            {
                key: text
                for key, text in (
                    ("description", column.description),
                    ("unit", column.unit),
                    ("source", column.source),
                )
                if text
            }
        )
        for column in table.columns
    )


def _write_csv(frame: pl.DataFrame | pl.LazyFrame, to: Path | IO[bytes]) -> int:
    frame = frame.lazy().collect()
    frame.with_columns(lists_as_json(frame.schema)).write_csv(to, quote_style="non_numeric")
    return frame.height


def lists_as_json(schema: pl.Schema) -> list[pl.Expr]:
    """Return the columns that are lists as texts, as a CSV has them."""
    return [
        pl.col(name).map_batches(_to_json, return_dtype=pl.String) for name in list_columns(schema)
    ]


def _to_json(column: pl.Series) -> pl.Series:
    texts = [None if value is None else json.dumps(value) for value in column.to_list()]
    return pl.Series(column.name, texts, dtype=pl.String)
