"""Files of ours, each there whole or not at all; tables as Parquet, or CSV where that cannot be.

How that is done on a disk belongs to `atomic_files`; in a bucket a file is put at once.

What a table's columns are stands in `tables`; which tables exist and when they count as done is
Dagster's to know. A table's path is given without suffix (its stem): after a write one of
`.parquet` and `.csv` stands there, or where the old one could not be removed the newer counts.
"""

import csv
import errno
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from itertools import chain, groupby
from pathlib import Path
from typing import IO, Any, Literal, cast

import polars as pl
import pyarrow as pa

from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import one_line
from aneurysm_assets.schema.columns import EXTRA_TAGS
from aneurysm_assets.schema.tables import Table
from aneurysm_assets.storage.atomic_files import StagedFiles, atomic_write
from aneurysm_assets.storage.bucket_files import fetch_file, put_file, scan_objects
from aneurysm_assets.storage.object_path import Location, ObjectPath, list_directory

Format = Literal["parquet", "csv"]

_OTHER: Mapping[Format, Format] = {"parquet": "csv", "csv": "parquet"}

_LIKELY_FOOTER = 32 << 10
"""Bytes from the end of a Parquet file in which the footer of one series' table stands."""

_WRITTEN_BY = "aneurysm_assets.version"
"""Metadata of each Parquet file; those of before it have arrays where today's have lists."""

_ERROR_OF_SYSTEM = re.compile(r"\(os error (\d+)\)")

_OF_THIS_FILE = frozenset((errno.EISDIR, errno.EFBIG))
"""What stands in the place of the Parquet file, and how long a file may be: a CSV may fit."""

Stamp = tuple[tuple[str | int, ...], ...]
"""What is known of a table's file without opening it, and differs once it is replaced."""


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


def stamps_of(directory: Location) -> Mapping[str, Stamp]:
    """Return of each table of a directory, by the last part of its stem, what tells its version.

    Returns
    -------
    mapping of str to Stamp
        Names, sizes, times and inodes, or ETags; empty where the directory does not exist.

    Raises
    ------
    OSError
        The store does not tell, or the directory cannot be read.
    """
    stamps: dict[str, Stamp] = {}
    try:
        for name, stamp in sorted(_states(directory)):
            if (stem := _stem(name)) is not None:
                stamps[stem] = (*stamps.get(stem, ()), (name, *stamp))
    except FileNotFoundError:
        return {}
    return stamps


def _states(directory: Location) -> list[tuple[str, tuple[str | int, ...]]]:
    if isinstance(directory, ObjectPath):
        files = list_directory(directory).files
        return [(name, (state.st_size, state.version)) for name, state in files.items()]
    found: list[tuple[str, tuple[str | int, ...]]] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed since it was listed
                state = entry.stat()
                found.append((entry.name, (state.st_size, state.st_mtime_ns, state.st_ino)))
    return found


def find_table(stem: Location) -> Location | None:
    """Return the file that holds a table, or None where there is none.

    Both suffixes stand side by side only where a process was killed between writing the one and
    removing the other, or could not remove it: the newer one is the table.

    Raises
    ------
    OSError
        The store does not tell.
    """
    if isinstance(stem, ObjectPath):
        return _find_objects(stem.parent).get(stem.name)
    return _find_file(stem)


def _find_file(stem: Path) -> Path | None:
    candidates = [stem.parent / f"{stem.name}.{suffix}" for suffix in ("csv", "parquet")]
    found = [path for path in candidates if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def find_tables(directory: Location) -> Mapping[str, Location]:
    """Return the tables of a directory by the last part of their stem, from one listing.

    Returns
    -------
    mapping of str to Location
        Empty where the directory does not exist.

    Raises
    ------
    OSError
        The store does not tell.
    """
    if isinstance(directory, ObjectPath):
        return _find_objects(directory)
    tables: dict[str, Path] = {}
    for stem, name in _table_files(directory):
        twice = stem in tables
        tables[stem] = directory / name
        if twice:
            tables[stem] = _find_file(directory / stem) or tables[stem]
    return tables


def names_of_tables(directory: Location) -> Set[str]:
    """Return the last part of the stem of each table of a directory, from one listing.

    Raises
    ------
    OSError
        The store does not tell.
    """
    if isinstance(directory, ObjectPath):
        return _find_objects(directory).keys()
    return {stem for stem, _ in _table_files(directory)}


def _table_files(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the stem and the name of each table's file in a directory that may not exist."""
    if not directory.is_dir():
        return
    with os.scandir(directory) as entries:
        for entry in entries:
            stem = _stem(entry.name)
            if stem is not None and entry.is_file():
                yield stem, entry.name


def _find_objects(directory: ObjectPath) -> dict[str, ObjectPath]:
    try:
        files = list_directory(directory).files
    except FileNotFoundError:
        return {}
    # The newer ones last: they stay.
    newest_last = sorted(files, key=lambda name: (files[name].modified, name))
    return {stem: directory / name for name in newest_last if (stem := _stem(name)) is not None}


def _stem(name: str) -> str | None:
    """Return the name of a table's file without its suffix; None where it is no table's."""
    stem, _, suffix = name.rpartition(".")
    return None if suffix not in {"parquet", "csv"} or stem[:1] in {"", "."} else stem


def file_names(directory: Location) -> list[str]:
    """Return the names of the files in a directory; none where it does not exist.

    Raises
    ------
    OSError
        It cannot be listed.
    """
    try:
        if isinstance(directory, ObjectPath):
            return list(list_directory(directory).files)
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except FileNotFoundError:
        return []


def read_table(table: Table, path: Location) -> pl.DataFrame:
    """Read one file of a table, Parquet or CSV by its suffix, with the table's dtypes.

    Raises
    ------
    OSError
        There is no such object, or the store does not give it.
    """
    return scan_tables(table, [path]).collect()


def open_table(path: Location) -> IO[bytes]:
    """Open a table's file to read it; it stays the one opened though it is replaced meanwhile.

    Raises
    ------
    OSError
        There is none, or it cannot be read.
    """
    return path.open("rb") if isinstance(path, Path) else fetch_file(path)


def scan_tables(table: Table, paths: Sequence[Location]) -> pl.LazyFrame:
    """Scan many files of a table as one, in the order given.

    Parameters
    ----------
    table : Table
        The schema of each of them.
    paths : sequence of Location
        Parquet and CSV files, mixed as they come; all on this machine, or all in a bucket.

    Returns
    -------
    pl.LazyFrame
        Also where there are no paths: then without rows. A single object is fetched at once, of
        many each when its turn comes; each by one request.

    Raises
    ------
    OSError
        There is no such object, or the store does not give it; of many, when it is collected.
    """
    objects = [path for path in paths if isinstance(path, ObjectPath)]
    files = [path for path in paths if isinstance(path, Path)]
    if objects and files:
        raise ValueError(f"{objects[0]} is in a bucket and {files[0]} is not: scan them apart")
    return _scan_objects(table, objects) if objects else _scan_files(table, files)


def _scan_files(table: Table, paths: Sequence[Path]) -> pl.LazyFrame:
    scans = [
        _scan_parquet(table, list(group)) if suffix == ".parquet" else _read_csvs(table, group)
        for suffix, group in groupby(paths, key=lambda path: path.suffix)
    ]
    if not scans:
        return pl.LazyFrame(schema=table.schema)
    return scans[0] if len(scans) == 1 else pl.concat(scans)


def _scan_objects(table: Table, paths: Sequence[ObjectPath]) -> pl.LazyFrame:
    if len(paths) > 1:
        return scan_objects(paths, table.schema, partial(_parse, table))
    file = fetch_file(paths[0])
    if paths[0].suffix == ".parquet":
        return _scan_parquet(table, [file])
    with file:
        return _read_csv(table, file).lazy()


def _parse(table: Table, paths: Sequence[ObjectPath], contents: Sequence[bytes]) -> pl.LazyFrame:
    scans: list[pl.LazyFrame] = []
    both = zip(paths, contents, strict=True)
    for suffix, group in groupby(both, key=lambda pair: pair[0].suffix):
        sources: list[IO[bytes]] = [io.BytesIO(content) for _, content in group]
        if suffix == ".parquet":
            scans.append(_scan_parquet(table, sources))
        else:
            scans.append(pl.concat([_read_csv(table, source) for source in sources]).lazy())
    return scans[0] if len(scans) == 1 else pl.concat(scans)


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
    tags = [name for name in table.column_names if name in _EXTRA]
    of_file = {_WRITTEN_BY: _version(), **({_TAGS: ",".join(tags)} if tags else {})}
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


def _list_columns(schema: pl.Schema) -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in schema.items() if isinstance(dtype, pl.List)}


def lists_as_json(schema: pl.Schema) -> list[pl.Expr]:
    """Return the columns that are lists as texts, as a CSV has them."""
    return [
        pl.col(name).map_batches(_to_json, return_dtype=pl.String) for name in _list_columns(schema)
    ]


def _to_json(column: pl.Series) -> pl.Series:
    texts = [None if value is None else json.dumps(value) for value in column.to_list()]
    return pl.Series(column.name, texts, dtype=pl.String)


def _scan_parquet(table: Table, sources: Sequence[Path] | Sequence[IO[bytes]]) -> pl.LazyFrame:
    """Scan files as one table; columns that an earlier version did not write are null."""
    former_names = {each.former_name: each.name for each in table.columns if each.former_name}
    first_since = {each.since: each.name for each in reversed(table.columns) if each.since}
    looked_for = (_TAGS, *former_names, *first_since.values())
    scans = []
    for (names, arrays), group in groupby(sources, key=partial(_layout, table, looked_for)):
        files = cast("list[Path] | list[IO[bytes]]", list(group))
        to_former = {former_names[name]: name for name in names if name in former_names}
        absent = {since for since, first in first_since.items() if first not in names}
        held = [each for each in table.columns if each.since not in absent]
        schema = {to_former.get(each.name, each.name): each.stored_dtype for each in held}
        schema |= dict(arrays)
        # Attributes that were asked for once, and are no more, stand in files of that time.
        others: Literal["ignore", "raise"] = "ignore" if _TAGS in names else "raise"
        scan = pl.scan_parquet(
            files, schema=schema, glob=False, hive_partitioning=False, extra_columns=others
        )
        scan = scan.with_columns(arrays_as_lists(arrays))
        if to_former or absent:
            scan = _with_nulls(scan.rename({old: new for new, old in to_former.items()}), table)
        scans.append(scan)
    return scans[0] if len(scans) == 1 else pl.concat(scans)


def _with_nulls(frame: pl.LazyFrame, table: Table) -> pl.LazyFrame:
    """Return a frame with null in the columns of a table that it lacks, in the table's order."""
    held = set(frame.collect_schema().names())
    absent = [
        pl.lit(None, each.stored_dtype).alias(each.name)
        for each in table.columns
        if each.since and each.name not in held
    ]
    return frame.with_columns(absent).select(table.column_names)


_EXTRA = {column.name for column in EXTRA_TAGS}

_TAGS = "aneurysm_assets.tags"
"""Metadata of a Parquet file that holds attributes which a user asked for: their keywords."""

_Arrays = tuple[tuple[str, pl.DataType], ...]
"""The columns of a former Parquet file that hold arrays, each with its dtype."""


def _layout(
    table: Table, looked_for: Iterable[str], source: Path | IO[bytes]
) -> tuple[tuple[str, ...], _Arrays]:
    """Return which of the names a Parquet file bears, and which of its columns are arrays."""
    names = _names_held((_WRITTEN_BY, *looked_for), source)
    if not _EXTRA.isdisjoint(names):
        # Of names that a user gives one may be part of another, or stand among values.
        held = _schema_held(source)
        names = tuple(name for name in names if name not in _EXTRA or name in held)
    if names[:1] == (_WRITTEN_BY,):
        return names[1:], ()
    return names, _former_arrays(table, source)


def _former_arrays(table: Table, source: Path | IO[bytes]) -> _Arrays:
    lengths = {c.name: c.dtype.size for c in table.columns if isinstance(c.dtype, pl.Array)}
    if not lengths:
        return ()
    return tuple(
        (name, dtype)
        for name, dtype in _schema_held(source).items()
        if isinstance(dtype, pl.Array) and math.prod(dtype.shape) == lengths.get(name)
    )


def holds_asked_tags(path: Location) -> bool:
    """Tell whether a table's file holds attributes that a user asked for, now or once."""
    return isinstance(path, Path) and path.suffix == ".parquet" and bool(_names_held([_TAGS], path))


def _schema_held(source: Path | IO[bytes]) -> Mapping[str, pl.DataType]:
    """Return the columns of a Parquet file; of a damaged one none: its scan says what is wrong."""
    try:
        return pl.read_parquet_schema(source)
    except pl.exceptions.PolarsError:
        return {}
    finally:
        if not isinstance(source, Path):
            source.seek(0)


def arrays_as_lists(arrays: Iterable[tuple[str, pl.DataType]]) -> list[pl.Expr]:
    """Return the columns of former files as those of today: lists, a matrix row by row."""
    return [_as_list(pl.col(name), dtype) for name, dtype in arrays if isinstance(dtype, pl.Array)]


def _as_list(column: pl.Expr, dtype: pl.Array) -> pl.Expr:
    if len(dtype.shape) == 1:
        return column.arr.to_list()
    rows = pl.concat_arr([column.arr.get(row) for row in range(dtype.shape[0])])
    return rows.arr.to_list().name.keep()


def _names_held(names: Iterable[str], source: Path | IO[bytes]) -> tuple[str, ...]:
    """Return which names the columns of a Parquet file, or its metadata, bear.

    The footer is searched, not parsed, which costs about 3 % of the scan. It ends with its length
    as four bytes and `PAR1` (https://parquet.apache.org/docs/file-format/); a file that breaks off
    holds no name, and its scan says what is wrong with it.
    """
    end = _end_of(source, _LIKELY_FOOTER)
    length = int.from_bytes(end[-8:-4], "little") + 8
    footer = (end if length <= len(end) else _end_of(source, length))[-length:]
    return tuple(name for name in names if name.encode() in footer)


def _end_of(source: Path | IO[bytes], most: int) -> bytes:
    if isinstance(source, Path):
        descriptor = os.open(source, os.O_RDONLY)
        try:
            return os.pread(descriptor, most, max(0, os.fstat(descriptor).st_size - most))
        finally:
            os.close(descriptor)
    source.seek(max(0, source.seek(0, os.SEEK_END) - most))
    end = source.read()
    source.seek(0)
    return end


def _read_csvs(table: Table, paths: Iterable[Path]) -> pl.LazyFrame:
    return pl.concat([_read_csv(table, path) for path in paths]).lazy()


def _read_csv(table: Table, source: Path | IO[bytes]) -> pl.DataFrame:
    lists = _list_columns(table.schema)
    as_text = {name: pl.String() if name in lists else d for name, d in table.schema.items()}
    header = _first_line(source)
    former = {each.name: each.former_name for each in table.columns if each.former_name}
    former = {name: held for name, held in former.items() if held.encode() in header}
    held = next(csv.reader([header.decode("utf-8", "replace")]), [])
    absent = {each.name for each in table.columns if each.since and each.name not in held}
    as_written = {former.get(n, n): dtype for n, dtype in as_text.items() if n not in absent}
    frame = pl.read_csv(source, schema=as_written, glob=False)
    frame = frame.rename({old: name for name, old in former.items()})
    frame = frame.with_columns(pl.lit(None, as_text[name]).alias(name) for name in absent)
    frame = frame.select(list(as_text))
    return frame.with_columns(
        pl.Series(
            name,
            [None if text is None else _from_json(text) for text in frame[name]],
            dtype=dtype,
        )
        for name, dtype in lists.items()
    )


def _from_json(text: str) -> list[Any]:
    """Return a list; of a matrix, which former files hold, its rows one after the other."""
    values: list[Any] = json.loads(text)
    return list(chain.from_iterable(values)) if values and isinstance(values[0], list) else values


def _first_line(source: Path | IO[bytes]) -> bytes:
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.readline()
    line = source.readline()
    source.seek(0)
    return line
