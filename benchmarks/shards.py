"""The sharded layout of docs/scale.md: Dagster knows shards, a manifest a shard knows its series.

A simulation that writes real files and is no part of the stage. Below a data root:

    members/<shard>.parquet               the series of a shard, written once and never changed
    manifests/<table>/<shard>.parquet     a row a series that was taken: outcome, fingerprint, part
    interim/<table>/<shard>~<id>.parquet  a part: the rows of a batch, or of the whole shard

A part is written once, under a name that no other ever has; a batch is done when the manifest that
names its part is in place, which is one atomic put. What no manifest names does not exist. A
manifest is replaced, and so is read as a whole: a reader that opens it twice, as those of Parquet
do, can see the end of one and the middle of another.

What the rows are is `imagined`'s to say.
"""

import io
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import polars as pl

from aneurysm_assets.schema.tables import SERIES_KEY, Table
from aneurysm_assets.storage.table_files import find_tables, write_bytes

Read = Callable[[Sequence[str]], tuple[pl.DataFrame, Mapping[str, str]]]
"""From some series to the rows of those that can be read, and why each of the others cannot."""

Put = Callable[[Path, bytes], None]
"""Writes a file whole or not at all."""

MANIFEST = pl.Schema(
    {
        "shard": pl.String,
        SERIES_KEY: pl.String,
        "outcome": pl.String,
        "fingerprint": pl.String,
        "part": pl.String,
        "reason": pl.String,
        "whole": pl.Boolean,
    }
)
"""`outcome` is done or failed; `part` is the file with the rows, null of what failed. `whole` says
that all rows of the shard are in one part, and no others; it is the same in all of a manifest."""

_SHARD = re.compile(r"[0-9]{6}")


@dataclass(frozen=True)
class Shard:
    """One shard of one table.

    Attributes
    ----------
    root : Path
        The data root.
    table : Table
        Whose rows.
    key : str
        Six digits: the partition key.
    """

    root: Path
    table: Table
    key: str

    def __post_init__(self) -> None:
        if not _SHARD.fullmatch(self.key):
            raise ValueError(f"{self.key!r} is no shard: its key is six digits")

    @property
    def manifest_path(self) -> Path:
        """Where its manifest is."""
        return self.root / "manifests" / self.table.name / f"{self.key}.parquet"

    def manifest(self) -> pl.DataFrame:
        """Return what has been taken of it, no row where nothing has."""
        if not self.manifest_path.is_file():
            return pl.DataFrame(schema=MANIFEST)
        return _read_whole(self.manifest_path)

    def part_path(self, part: str) -> Path:
        """Where one of its files is."""
        return self.root / "interim" / self.table.name / f"{part}.parquet"

    def parts(self) -> list[str]:
        """Return the parts that are there, named by a manifest or not."""
        there = find_tables(self.root / "interim" / self.table.name)
        return [part for part in there if part.partition("~")[0] == self.key]


def assign(root: Path, series: Iterable[str], size: int) -> list[str]:
    """Put series that are in no shard yet into new ones, in the order given.

    A shard's members never change, so that later series touch no shard that is done, and two
    readers cannot see two truths. The last one of a call stays as small as it is.

    Returns
    -------
    list of str
        The keys of the new shards.
    """
    known = members(root).collect()
    new = pl.DataFrame({SERIES_KEY: list(series)}, schema={SERIES_KEY: pl.String}).join(
        known, on=SERIES_KEY, how="anti", maintain_order="left"
    )
    first = max(map(int, shard_keys(root)), default=-1) + 1
    keys = []
    for number, group in enumerate(new.unique(maintain_order=True).iter_slices(size)):
        keys.append(f"{first + number:06d}")
        frame = group.select(pl.lit(keys[-1]).alias("shard"), SERIES_KEY)
        write_bytes(root / "members" / f"{keys[-1]}.parquet", as_parquet(frame))
    return keys


def shard_keys(root: Path) -> list[str]:
    """Return the keys of all shards, in order."""
    return sorted(key for key in find_tables(root / "members") if _SHARD.fullmatch(key))


def members(root: Path) -> pl.LazyFrame:
    """Return the series of all shards: `shard` and SeriesInstanceUID."""
    schema = pl.Schema({"shard": pl.String, SERIES_KEY: pl.String})
    paths = [root / "members" / f"{key}.parquet" for key in shard_keys(root)]
    if not paths:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(paths, schema=schema, glob=False, hive_partitioning=False)


def manifests(root: Path, table: Table) -> pl.DataFrame:
    """Return what has been taken of a table, of all shards."""
    paths = sorted(find_tables(root / "manifests" / table.name).values())
    return pl.concat([pl.DataFrame(schema=MANIFEST), *map(_read_whole, paths)])


def left(root: Path, table: Table, now: pl.LazyFrame) -> pl.DataFrame:
    """Return the series that are to be taken, and why.

    Parameters
    ----------
    root : Path
        The data root.
    table : Table
        For which table.
    now : pl.LazyFrame
        SeriesInstanceUID and `fingerprint` of what is there now. What is not there cannot be
        taken, and what was done of it stays done.

    Returns
    -------
    pl.DataFrame
        `shard`, SeriesInstanceUID, `fingerprint` and `why`: missing, failed or changed.
    """
    taken = manifests(root, table).lazy().select(SERIES_KEY, "outcome", before="fingerprint")
    why = (
        pl.when(pl.col("outcome").is_null())
        .then(pl.lit("missing"))
        .when(pl.col("outcome") == "failed")
        .then(pl.lit("failed"))
        .when(pl.col("before") != pl.col("fingerprint"))
        .then(pl.lit("changed"))
    )
    return (
        members(root)
        .join(now, on=SERIES_KEY, how="inner", maintain_order="left")
        .join(taken, on=SERIES_KEY, how="left", maintain_order="left")
        .select("shard", SERIES_KEY, "fingerprint", why=why)
        .filter(pl.col("why").is_not_null())
        .collect()
    )


def take(
    shard: Shard, wanted: pl.DataFrame, read: Read, batch: int, put: Put = write_bytes
) -> pl.DataFrame:
    """Take some series of a shard, and leave all its rows in one part.

    One process at a time takes a shard. Killed at any instant, what a manifest named stays done.

    Parameters
    ----------
    shard : Shard
        Which one.
    wanted : pl.DataFrame
        SeriesInstanceUID and `fingerprint` of the series to take.
    read : callable
        Reads a batch of them.
    batch : int
        Series whose record is put at once: what a kill can cost.
    put : callable
        How a file is written.

    Returns
    -------
    pl.DataFrame
        The manifest.
    """
    manifest = shard.manifest()
    _remove_unnamed(shard, manifest)
    for group in wanted.iter_slices(batch):
        rows, failed = read(group[SERIES_KEY].to_list())
        part = _new_part(shard)
        put(shard.part_path(part), as_parquet(rows))
        is_first = manifest.is_empty()
        others = manifest.join(group, on=SERIES_KEY, how="anti", maintain_order="left")
        manifest = pl.concat([others, _outcomes(shard, group, part, failed)]).with_columns(
            whole=pl.lit(is_first and group.height == wanted.height)
        )
        put(shard.manifest_path, as_parquet(manifest))
    return manifest if manifest["whole"].all() else _compact(shard, manifest, put)


def open_shards(taken: pl.DataFrame) -> set[str]:
    """Return the shards, of those with some manifests, that were cut off before they were whole."""
    return set(taken.filter(~pl.col("whole"))["shard"].to_list())


def whole_shards(root: Path, tables: Iterable[Table]) -> dict[str, dict[str, Path]]:
    """Return by shard and table the one part of those that are whole in each of some tables.

    A shard that is being taken again, or was cut off in that, waits until it is whole.
    """
    found: dict[str, dict[str, Path]] = {}
    for table in tables:
        rows = manifests(root, table).filter("whole", pl.col("part").is_not_null())
        for key, part in rows.select("shard", "part").unique().iter_rows():
            found.setdefault(key, {})[table.name] = Shard(root, table, key).part_path(part)
    names = {table.name for table in tables}
    return {key: parts for key, parts in sorted(found.items()) if parts.keys() == names}


def digest(manifest: pl.DataFrame) -> str:
    """Return the fingerprint of all that a shard's rows were made from."""
    done = manifest.filter(pl.col("outcome") == "done").sort(SERIES_KEY)
    content = "\n".join((*done[SERIES_KEY], *done["fingerprint"]))
    return blake2b(content.encode(), digest_size=16).hexdigest()


def _new_part(shard: Shard) -> str:
    return f"{shard.key}~{uuid.uuid4().hex[:12]}"


def _outcomes(
    shard: Shard, group: pl.DataFrame, part: str, failed: Mapping[str, str]
) -> pl.DataFrame:
    reasons = pl.DataFrame(
        {SERIES_KEY: list(failed), "reason": list(failed.values())},
        schema={SERIES_KEY: pl.String, "reason": pl.String},
    )
    is_done = pl.col("reason").is_null()
    return group.join(reasons, on=SERIES_KEY, how="left", maintain_order="left").select(
        pl.lit(shard.key).alias("shard"),
        SERIES_KEY,
        outcome=pl.when(is_done).then(pl.lit("done")).otherwise(pl.lit("failed")),
        fingerprint="fingerprint",
        part=pl.when(is_done).then(pl.lit(part)),
        reason="reason",
        whole=pl.lit(value=False),
    )


def _compact(shard: Shard, manifest: pl.DataFrame, put: Put) -> pl.DataFrame:
    """Put the rows of all parts into one, then the manifest that says so, and tidy up."""
    done = manifest.filter(pl.col("part").is_not_null())
    frames = [
        pl.read_parquet(shard.part_path(str(part)), glob=False).join(
            of_part, on=SERIES_KEY, how="semi", maintain_order="left"
        )
        for (part,), of_part in done.group_by("part")
    ]
    rows = pl.concat([pl.DataFrame(schema=shard.table.schema), *frames])
    part = _new_part(shard)
    put(shard.part_path(part), as_parquet(rows.sort(SERIES_KEY, maintain_order=True)))
    named = pl.when(pl.col("part").is_not_null()).then(pl.lit(part))
    manifest = manifest.with_columns(part=named, whole=pl.lit(value=True))
    put(shard.manifest_path, as_parquet(manifest))
    _remove_unnamed(shard, manifest)
    return manifest


def _remove_unnamed(shard: Shard, manifest: pl.DataFrame) -> None:
    """Remove the parts of batches that were cut off, and those that compaction has replaced."""
    for part in set(shard.parts()) - _named(manifest):
        shard.part_path(part).unlink()


def _named(manifest: pl.DataFrame) -> set[str]:
    return set(manifest["part"].drop_nulls().to_list())


def as_parquet(frame: pl.DataFrame) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()


def _read_whole(path: Path) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(path.read_bytes()))
