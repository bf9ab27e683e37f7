"""Files on disk: written beside, flushed, renamed; tables as Parquet, or CSV where that cannot be.

What a table's columns are stands in `tables`; which tables exist and when they count as done is
Dagster's to know. A table's path is given without suffix (its stem): after a write exactly one of
`.parquet` and `.csv` stands there.
"""

import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import polars as pl

from aneurysm_assets.tables import Table

Format = Literal["parquet", "csv"]

_PARTIAL = ".partial"


@dataclass(frozen=True)
class StoredTable:
    """What a write left on disk.

    Attributes
    ----------
    path : Path
        The file, with its suffix.
    format : {"parquet", "csv"}
        How it is stored.
    rows : int
        Number of rows.
    warning : str or None
        Why it is not Parquet; None where it is.
    """

    path: Path
    format: Format
    rows: int
    warning: str | None = None


@dataclass(frozen=True)
class StoredPicture:
    """A picture of a series on disk, and what is shown of it elsewhere.

    Attributes
    ----------
    path : Path
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

    path: Path
    size: int
    thumbnail: bytes
    description: str
    points: int
    points_shown: int
    layout: str


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the whole of the old one or the whole of the new one.

    Parameters
    ----------
    path : Path
        Where to. Missing directories are made.
    content : bytes
        All of it.

    Raises
    ------
    OSError
        It cannot be written. What stood there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_beside(path, lambda beside: beside.write_bytes(content))


def write_table(frame: pl.DataFrame | pl.LazyFrame, table: Table, stem: Path) -> StoredTable:
    """Write a table so that a reader sees the whole of the old one or the whole of the new one.

    Parameters
    ----------
    frame : pl.DataFrame or pl.LazyFrame
        Exactly the table's columns; a lazy frame is streamed to disk.
    table : Table
        Its schema.
    stem : Path
        Where to, without suffix. Missing directories are made.

    Returns
    -------
    StoredTable
        The file that stands there now, and a warning if that is the CSV fallback.

    Raises
    ------
    TypeError
        The frame's schema is not the table's.
    OSError, pl.exceptions.PolarsError
        Neither Parquet nor CSV can be written. What stood there before is untouched.
    """
    schema = frame.collect_schema()
    if schema != table.schema:
        raise TypeError(f"not the schema of {table.name}: {schema}")
    stem.parent.mkdir(parents=True, exist_ok=True)
    try:
        rows = _write_beside(_with_suffix(stem, "parquet"), partial(_write_parquet, frame))
    except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - CSV is tried, the cause told
        warning = f"Parquet could not be written ({_one_line(error)}); the table is CSV"
    else:
        _with_suffix(stem, "csv").unlink(missing_ok=True)
        return StoredTable(_with_suffix(stem, "parquet"), "parquet", rows)
    rows = _write_beside(_with_suffix(stem, "csv"), partial(_write_csv, frame))
    if _with_suffix(stem, "parquet").is_file():
        _with_suffix(stem, "parquet").unlink()
    return StoredTable(_with_suffix(stem, "csv"), "csv", rows, warning)


def find_table(stem: Path) -> Path | None:
    """Return the file that holds a table, or None where there is none.

    Both suffixes stand side by side only where a process was killed between writing the one and
    removing the other: the newer one is the table.
    """
    candidates = (_with_suffix(stem, "csv"), _with_suffix(stem, "parquet"))
    found = [path for path in candidates if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def find_tables(directory: Path) -> dict[str, Path]:
    """Return the tables of a directory by the last part of their stem, from one listing.

    Returns
    -------
    dict of str to Path
        Empty where the directory does not exist.
    """
    tables: dict[str, Path] = {}
    if not directory.is_dir():
        return tables
    with os.scandir(directory) as entries:
        for entry in entries:
            stem, _, suffix = entry.name.rpartition(".")
            if suffix not in {"parquet", "csv"} or stem[:1] in {"", "."} or not entry.is_file():
                continue
            twice = stem in tables
            tables[stem] = directory / entry.name
            if twice:
                tables[stem] = find_table(directory / stem) or tables[stem]
    return tables


def read_table(table: Table, path: Path) -> pl.DataFrame:
    """Read one file of a table, Parquet or CSV by its suffix, with the table's dtypes."""
    return scan_tables(table, [path]).collect()


def scan_tables(table: Table, paths: Sequence[Path]) -> pl.LazyFrame:
    """Scan many files of a table as one, in the order given.

    Parameters
    ----------
    table : Table
        The schema of each of them.
    paths : sequence of Path
        Parquet and CSV files, mixed as they come.

    Returns
    -------
    pl.LazyFrame
        Also where there are no paths: then without rows.
    """
    scans = [
        _scan_parquet(table, list(group)) if suffix == ".parquet" else _read_csvs(table, group)
        for suffix, group in groupby(paths, key=lambda path: path.suffix)
    ]
    if not scans:
        return pl.LazyFrame(schema=table.schema)
    return scans[0] if len(scans) == 1 else pl.concat(scans)


def remove_partials(directory: Path) -> int:
    """Remove what killed processes of this machine left half-written.

    Returns
    -------
    int
        How many files were removed. Those of processes that live are left alone.
    """
    removed = 0
    for path in directory.glob(f".*{_PARTIAL}") if directory.is_dir() else ():
        host, _, process = path.name.removesuffix(_PARTIAL).rpartition("@")[2].rpartition(":")
        if host == this_host() and process.isdecimal() and not is_alive(int(process)):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def is_alive(process: int) -> bool:
    """Tell whether a process of this machine exists; where that cannot be told, say it does."""
    if os.name == "nt":  # there, signal 0 is not a question but an interrupt
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _with_suffix(stem: Path, suffix: Format) -> Path:
    # Not Path.with_suffix: a UID's last component would be taken for a suffix.
    return stem.parent / f"{stem.name}.{suffix}"


def _write_beside(path: Path, write: Callable[[Path], int]) -> int:
    beside = path.parent / f".{path.name}@{this_host()}:{os.getpid()}{_PARTIAL}"
    try:
        written = write(beside)
        flush(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush(path.parent)
    return written


def flush(path: Path) -> None:
    """Wait until a file, or the names in a directory, are safe on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def this_host() -> str:
    """Return the name of this machine, as part of a file name."""
    return socket.gethostname().replace("/", "_")


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _write_parquet(frame: pl.DataFrame | pl.LazyFrame, path: Path) -> int:
    if isinstance(frame, pl.DataFrame):
        frame.write_parquet(path)
        return frame.height
    frame.sink_parquet(path, maintain_order=True)
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def _write_csv(frame: pl.DataFrame | pl.LazyFrame, path: Path) -> int:
    frame = frame.lazy().collect()
    frame.with_columns(_arrays_as_json(frame.schema)).write_csv(path, quote_style="non_numeric")
    return frame.height


def _array_columns(schema: pl.Schema) -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in schema.items() if isinstance(dtype, pl.Array | pl.List)}


def _arrays_as_json(schema: pl.Schema) -> list[pl.Expr]:
    return [
        pl.col(name).map_batches(_to_json, return_dtype=pl.String)
        for name in _array_columns(schema)
    ]


def _to_json(column: pl.Series) -> pl.Series:
    texts = [None if value is None else json.dumps(value) for value in _as_lists(column)]
    return pl.Series(column.name, texts, dtype=pl.String)


def _as_lists(column: pl.Series) -> Iterable[Any]:
    # Series.to_list gives Series for the inner arrays of a two-dimensional one; Arrow gives lists.
    return column.to_arrow().to_pylist()  # type: ignore[no-any-return]


def _scan_parquet(table: Table, paths: list[Path]) -> pl.LazyFrame:
    return pl.scan_parquet(paths, schema=table.schema, glob=False, hive_partitioning=False)


def _read_csvs(table: Table, paths: Iterable[Path]) -> pl.LazyFrame:
    return pl.concat([_read_csv(table, path) for path in paths]).lazy()


def _read_csv(table: Table, path: Path) -> pl.DataFrame:
    arrays = _array_columns(table.schema)
    as_text = {name: pl.String() if name in arrays else d for name, d in table.schema.items()}
    frame = pl.read_csv(path, schema=as_text, glob=False)
    return frame.with_columns(
        pl.Series(
            name,
            [None if text is None else json.loads(text) for text in frame[name]],
            dtype=dtype,
        )
        for name, dtype in arrays.items()
    )
