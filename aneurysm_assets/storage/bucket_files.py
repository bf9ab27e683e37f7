"""Files of a bucket put whole and fetched whole: what tables need where they are objects.

What a table's file looks like, and that exactly one stands, belongs to `table_files` and
`table_scans`; how a bucket is asked to `object_store`. An object is read by one request, never by
several: of one that is replaced meanwhile these would give columns of two versions, which may look
right. polars' own scans of URLs read a footer and then stretches, so they are not used.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from tempfile import TemporaryFile
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source

from aneurysm_assets.storage.fetching import THREADS, in_order
from aneurysm_assets.storage.object_path import ObjectPath

_BATCH = 128
"""Objects that are read together, while the next are fetched."""

Parse = Callable[[Sequence[ObjectPath], Sequence[bytes]], pl.LazyFrame]
"""From objects and the content of each to their rows."""


def put_file(path: ObjectPath, write: Callable[[IO[bytes]], int]) -> int:
    """Put what is written to a file of this machine, whole or not at all.

    The file has no name: where this process is killed, nothing of it stays.

    Parameters
    ----------
    path : ObjectPath
        In place of what is there.
    write : callable
        Writes to the file and returns how many rows.

    Raises
    ------
    OSError
        The store does not take it, or the directory for temporary files is full. What is in the
        bucket is untouched; so it is where `write` raises.
    """
    with TemporaryFile() as file:
        rows = write(file)
        file.seek(0)
        path.put(file)
    return rows


def fetch_file(path: ObjectPath) -> IO[bytes]:
    """Return an object as a file of this machine that has no name, at its beginning.

    Raises
    ------
    OSError
        There is no such object, the store does not give it, or the directory for temporary files
        is full.
    """
    file = TemporaryFile()  # noqa: SIM115 - whoever reads it closes it
    try:
        path.download(file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def scan_objects(paths: Sequence[ObjectPath], schema: pl.Schema, parse: Parse) -> pl.LazyFrame:
    """Scan many small objects as one table, in the order given, many requests at a time.

    Parameters
    ----------
    paths : sequence of ObjectPath
        Some of them are in memory at a time.
    schema : pl.Schema
        Of each of them.
    parse : callable
        Is given some of them at a time.

    Returns
    -------
    pl.LazyFrame
        To collect it raises OSError where an object is gone or the store does not give it.
    """

    def rows(
        columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        remaining = most
        with closing(in_order(ObjectPath.read_bytes, paths, THREADS)) as contents:
            for start in range(0, len(paths), _BATCH):
                if remaining == 0:
                    return
                batch = paths[start : start + _BATCH]
                frame = parse(batch, list(islice(contents, len(batch))))
                if remaining is not None:
                    first = frame.head(remaining).collect()
                    remaining -= first.height
                    frame = first.lazy()
                frame = frame if predicate is None else frame.filter(predicate)
                yield (frame if columns is None else frame.select(columns)).collect()

    return register_io_source(rows, schema=schema, validate_schema=True, is_pure=True)
