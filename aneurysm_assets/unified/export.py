"""The unified table in parts that a reader can skip: `Modality_train=CTA/part-0.parquet`.

What belongs here is the layout (hive partitioning), and that it appears whole or not at all. What
the table's columns are stands in `tables`.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from aneurysm_assets.errors import InputError
from aneurysm_assets.schema.tables import UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import flush, is_alive, replace_directory, this_host
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.storage.table_files import described_schema
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.storage.table_scans import arrays_as_lists, open_table, read_table

MARKER = "_aneurysm_assets"
"""Tells a directory that this module wrote. Empty: polars takes any other file for data."""

NULL = "__HIVE_DEFAULT_PARTITION__"
"""What hive calls the partition of null."""

MOST_PARTITIONS = 200
"""Each is a file that is open while we write; macOS allows a process 256."""

_FILE = "part-0.parquet"
_LONGEST_NAME = 255  # bytes; every file system in use

_BATCH_ROWS = 8_192
_GROUP_ROWS = 32_768
_ROWS_HELD = 65_536
"""Rows that wait for their row group, over all partitions: about 100 MB."""

_Key = tuple[Any, ...]


@dataclass(frozen=True)
class Exported:
    """What an export left on disk.

    Attributes
    ----------
    directory : Path
        Where.
    rows : int
        As many as the unified table has.
    partitions : int
        Files, each in a directory of its own.
    """

    directory: Path
    rows: int
    partitions: int


def partition_columns() -> tuple[str, ...]:
    """Return the columns of the unified table whose type can name a directory."""
    return tuple(
        name
        for name, dtype in UNIFIED_METADATA.schema.items()
        if dtype in (pl.String, pl.Boolean) or dtype.is_integer()
    )


def export(settings: Settings, to: Path, by: Sequence[str], *, overwrite: bool = False) -> Exported:
    """Write the unified table hive-partitioned.

    Rows keep their order within a partition. Null is hive's `__HIVE_DEFAULT_PARTITION__`, values
    are percent-encoded, and the files do not hold the columns that they are divided by.

    Parameters
    ----------
    settings : Settings
        Where the table is.
    to : Path
        The directory to make. One that holds anything is left alone, but for `overwrite`.
    by : sequence of str
        Columns of few values, outermost first.
    overwrite : bool
        Replace a directory that an earlier export wrote.

    Returns
    -------
    Exported
        What stands there now.

    Raises
    ------
    InputError
        There is no unified table, a column cannot divide it, or `to` is not ours to replace.
    OSError
        The disk is full, the bucket cannot be read, or the like. Nothing new is there, and what
        was there is untouched.
    """
    path = find_table(settings.unified_table)
    if path is None:
        raise InputError(
            f"there is no unified table in {settings.interim}: make it with `aneurysm-assets run`"
        )
    by = list(dict.fromkeys(by))
    _check_columns(by)
    to = to.resolve()
    replaces = _check_directory(to, overwrite=overwrite)
    with _opened(path) as table:
        keys = _keys(table, by)
        names = {key: _directory(by, key) for key in keys}
        partial = _beside(to, "partial")
        try:
            rows = _write(table, by, names, partial)
            replace_directory(partial, to, _beside(to, "replaced") if replaces else None)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    _remove_leftovers(to)
    return Exported(to, rows, len(names))


class _Table:
    """The unified table as batches; a file that `run` replaces meanwhile stays the one opened.

    Lists stand in place of the arrays of fixed length that a former file holds.
    """

    def __init__(self, source: pq.ParquetFile | pa.Table) -> None:
        self._source = source
        self._held = source.schema if isinstance(source, pa.Table) else source.schema_arrow
        arrays = pl.Schema(
            pa.schema(field for field in self._held if pa.types.is_fixed_size_list(field.type))
        )
        of_file = {} if isinstance(source, pa.Table) else source.metadata.metadata or {}
        self._metadata = {key: value for key, value in of_file.items() if key != b"ARROW:schema"}
        self._as_lists = arrays_as_lists(arrays.items())

    @property
    def schema(self) -> pa.Schema:
        described = described_schema(UNIFIED_METADATA)
        known = set(described.names)
        fields = (described.field(f.name) if f.name in known else f for f in self._held)
        return pa.schema(fields, metadata=self._metadata)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        schema = self.schema if columns is None else pa.schema(map(self.schema.field, columns))
        if isinstance(self._source, pa.Table):
            batches = iter(self._source.select(schema.names).to_batches(_BATCH_ROWS))
        else:
            batches = self._source.iter_batches(_BATCH_ROWS, columns=schema.names)
        for batch in batches:
            yield (self._with_lists(batch) if columns is None else batch).cast(schema)

    def _with_lists(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self._as_lists:
            return batch
        frame = _frame(batch).with_columns(self._as_lists).rechunk()
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()[0]


@contextmanager
def _opened(path: Location) -> Iterator[_Table]:
    if path.suffix == ".csv":
        yield _Table(read_table(UNIFIED_METADATA, path).to_arrow())
        return
    with open_table(path) as file:
        yield _Table(pq.ParquetFile(file, pre_buffer=False))


def _check_columns(by: Sequence[str]) -> None:
    schema, possible = UNIFIED_METADATA.schema, partition_columns()
    for name in by:
        if name not in schema:
            raise InputError(f"--by {name!r}: the unified table has no such column")
        if name not in possible:
            raise InputError(
                f"--by {name!r}: {schema[name]} cannot name a directory; text, whole numbers and "
                "booleans can, such as Modality_train"
            )


def _keys(table: _Table, by: Sequence[str]) -> list[_Key]:
    """Return the combinations of values that there are, in their order."""
    if missing := [name for name in by if name not in table.schema.names]:
        raise InputError(
            f"--by {missing[0]!r}: the unified table on disk is of an older version and lacks it; "
            "`aneurysm-assets run --force` makes it anew"
        )
    keys: dict[_Key, None] = {}
    for batch in table.batches(by):
        keys |= dict.fromkeys(_frame(batch).unique(maintain_order=True).rows())
        if len(keys) > MOST_PARTITIONS:
            raise InputError(
                f"--by {' --by '.join(by)}: more than {MOST_PARTITIONS} partitions; divide by "
                "columns of few values, such as Modality_train"
            )
    return list(keys)


def _directory(by: Sequence[str], key: _Key) -> Path:
    parts = [f"{name}={_encoded(name, value)}" for name, value in zip(by, key, strict=True)]
    for part in parts:
        if len(part) > _LONGEST_NAME:
            raise InputError(f"--by: {part[:60]!r}... is too long for the name of a directory")
    return Path(*parts)


def _encoded(name: str, value: Any) -> str:  # noqa: ANN401 - str, int, bool or None
    if value is None:
        return NULL
    if value == NULL:
        raise InputError(f"--by {name!r}: a value is {NULL}, which every reader takes for null")
    # Of what a path could be made of, only dots stay; after `name=` they lead nowhere.
    return quote(str(value).lower() if isinstance(value, bool) else str(value), safe="")


def _write(table: _Table, by: Sequence[str], names: dict[_Key, Path], partial: Path) -> int:
    """Write all partitions below a new directory, flushed; return the number of rows."""
    partial.mkdir(parents=True)
    (partial / MARKER).touch()
    columns = [column for column in table.schema if column.name not in by]
    schema = pa.schema(columns, metadata=table.schema.metadata)
    rows = 0
    with _Writers(schema, {key: partial / name / _FILE for key, name in names.items()}) as writers:
        for batch in table.batches():
            rows += batch.num_rows
            groups = _frame(batch.select(by)).with_row_index("__row").group_by(by)
            payload = batch.select(schema.names)
            for key, group in groups:
                writers.add(key, payload.take(group["__row"].sort().to_arrow()))
    for directory, _, files in os.walk(partial, topdown=False):
        for name in files:
            flush(Path(directory, name))
        flush(Path(directory))
    return rows


@dataclass
class _Partition:
    """One open file, and the rows that wait for their row group."""

    writer: pq.ParquetWriter
    held: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0

    def write(self) -> None:
        if self.held:
            self.writer.write_table(pa.Table.from_batches(self.held))
        self.held, self.rows = [], 0


class _Writers:
    """One Parquet writer a partition. pyarrow's own `write_dataset` holds gigabytes."""

    def __init__(self, schema: pa.Schema, files: dict[_Key, Path]) -> None:
        self._schema = schema
        self._files = files
        self._partitions: dict[_Key, _Partition] = {}

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for partition in self._partitions.values():
            if kind is None:
                partition.write()
            partition.writer.close()

    def add(self, key: _Key, batch: pa.RecordBatch) -> None:
        """Take rows of a partition; write some, of whichever has most, when too many wait."""
        if key not in self._partitions:
            # Not exist_ok: on a file system that knows no case, `a` would overwrite `A`.
            self._files[key].parent.mkdir(parents=True)
            writer = pq.ParquetWriter(self._files[key], self._schema, compression="zstd")
            self._partitions[key] = _Partition(writer)
        partition = self._partitions[key]
        partition.held.append(batch)
        partition.rows += batch.num_rows
        if partition.rows >= _GROUP_ROWS:
            partition.write()
        elif sum(other.rows for other in self._partitions.values()) >= _ROWS_HELD:
            max(self._partitions.values(), key=lambda other: other.rows).write()


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - from_arrow gives a Series for arrays only
    return frame


def _check_directory(to: Path, *, overwrite: bool) -> bool:
    """Return whether there is something to replace; refuse what is not ours."""
    if not to.exists():
        return False
    if not to.is_dir():
        raise InputError(f"{to} is a file; --to names a directory")
    if not any(to.iterdir()):
        return False
    if not (to / MARKER).is_file():
        raise InputError(
            f"{to} is there and was not written by `aneurysm-assets export`: it is left alone"
        )
    if not overwrite:
        raise InputError(f"{to} holds an export already: --overwrite replaces it")
    for directory, _, files in os.walk(to):
        for name in files:
            path = Path(directory, name)
            if path != to / MARKER and (name != _FILE or "=" not in path.parent.name):
                raise InputError(
                    f"{path} was not written by `aneurysm-assets export`: move it away"
                )
    return True


def _beside(to: Path, what: str) -> Path:
    return to.parent / f"{to.name}.{what}-{this_host()}-{os.getpid()}"


def _remove_leftovers(to: Path) -> None:
    """Remove what killed exports to the same directory, on this machine, left beside it."""
    ours = re.compile(
        rf"{re.escape(to.name)}\.(?:partial|replaced)-{re.escape(this_host())}-([0-9]+)"
    )
    for path in to.parent.iterdir():
        match = ours.fullmatch(path.name)
        if match and (path / MARKER).is_file() and not is_alive(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)
