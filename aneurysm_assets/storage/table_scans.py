"""Tables read from their files: those of today, and those that earlier versions of ours wrote.

How they are written belongs to `table_files`, which takes from here what marks a file as of today;
which file holds a table belongs to `table_names`.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import IO, Any, Literal, cast

import polars as pl

from aneurysm_assets.schema.columns import EXTRA_TAGS
from aneurysm_assets.schema.tables import Table
from aneurysm_assets.storage.bucket_files import fetch_file, scan_objects
from aneurysm_assets.storage.object_path import Location, ObjectPath

WRITTEN_BY = "aneurysm_assets.version"
"""Metadata of each Parquet file; those of before it have arrays where today's have lists."""

EXTRA_NAMES = frozenset(column.name for column in EXTRA_TAGS)
"""The columns of attributes that a user can ask for."""

ASKED_TAGS = "aneurysm_assets.tags"
"""Metadata of a Parquet file that holds attributes which a user asked for: their keywords."""

_LIKELY_FOOTER = 32 << 10
"""Bytes from the end of a Parquet file in which the footer of one series' table stands."""


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


def _scan_parquet(table: Table, sources: Sequence[Path] | Sequence[IO[bytes]]) -> pl.LazyFrame:
    """Scan files as one table; columns that an earlier version did not write are null."""
    former_names = {each.former_name: each.name for each in table.columns if each.former_name}
    first_since = {each.since: each.name for each in reversed(table.columns) if each.since}
    looked_for = (ASKED_TAGS, *former_names, *first_since.values())
    scans = []
    for (names, arrays), group in groupby(sources, key=partial(_layout, table, looked_for)):
        files = cast("list[Path] | list[IO[bytes]]", list(group))
        to_former = {former_names[name]: name for name in names if name in former_names}
        absent = {since for since, first in first_since.items() if first not in names}
        held = [each for each in table.columns if each.since not in absent]
        schema = {to_former.get(each.name, each.name): each.stored_dtype for each in held}
        schema |= dict(arrays)
        # Attributes that were asked for once, and are no more, stand in files of that time.
        others: Literal["ignore", "raise"] = "ignore" if ASKED_TAGS in names else "raise"
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


_Arrays = tuple[tuple[str, pl.DataType], ...]
"""The columns of a former Parquet file that hold arrays, each with its dtype."""


def _layout(
    table: Table, looked_for: Iterable[str], source: Path | IO[bytes]
) -> tuple[tuple[str, ...], _Arrays]:
    """Return which of the names a Parquet file bears, and which of its columns are arrays."""
    names = _names_held((WRITTEN_BY, *looked_for), source)
    if not EXTRA_NAMES.isdisjoint(names):
        # Of names that a user gives one may be part of another, or stand among values.
        held = _schema_held(source)
        names = tuple(name for name in names if name not in EXTRA_NAMES or name in held)
    if names[:1] == (WRITTEN_BY,):
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
    return (
        isinstance(path, Path)
        and path.suffix == ".parquet"
        and bool(_names_held([ASKED_TAGS], path))
    )


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


def list_columns(schema: pl.Schema) -> dict[str, pl.DataType]:
    """Return the columns that are lists, which a CSV has as texts."""
    return {name: dtype for name, dtype in schema.items() if isinstance(dtype, pl.List)}


def _read_csvs(table: Table, paths: Iterable[Path]) -> pl.LazyFrame:
    return pl.concat([_read_csv(table, path) for path in paths]).lazy()


def _read_csv(table: Table, source: Path | IO[bytes]) -> pl.DataFrame:
    lists = list_columns(table.schema)
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
