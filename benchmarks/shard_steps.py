"""The steps of `shard_simulation`, each run as a process of its own, below ANEURYSM_DATA.

`python -m benchmarks.shard_steps STEP` prints what it measured as JSON. A step that finds other
than must be, by what is known of the steps before, fails.
"""

import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl

from aneurysm_assets.instance.data_root import open_instance
from aneurysm_assets.schema.tables import DICOM_TAGS, SERIES_KEY, SERIES_TABLES, UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_files import find_tables, write_bytes, write_table
from aneurysm_assets.unified.combine import combine
from benchmarks import shard_runs, shards
from benchmarks.imagined import Archive
from benchmarks.many_partitions import peak_mb, timed

SERIES, SIZE, IMAGES, BATCH = 1_000_000, 1_000, 4, 250
BROKEN_EVERY, CHANGED_EVERY = 10_000, 1_000
WIDE_SHARDS, WIDE_IMAGES = 20, 50

Figures = dict[str, float]


class Killed(BaseException):
    """In place of the SIGKILL of one of two hundred workers: nothing after it happens."""


def _settings() -> Settings:
    return Settings.from_environment()


def _begin(series: int, size: int) -> Figures:
    settings, figures = _settings(), Figures()
    archive = Archive(settings.data)
    archive.make(series, BROKEN_EVERY)
    uids = archive.now().collect()[SERIES_KEY]

    def begin() -> None:
        shards.assign(settings.data, uids, size)
        with open_instance(settings) as instance:
            shard_runs.register(instance, settings.data)

    timed(figures, "begin", begin)
    return figures


def _first() -> Figures:
    """Take three fifths of the shards, undisturbed."""
    settings, figures = _settings(), Figures()
    keys = shards.shard_keys(settings.data)
    keys = keys[: len(keys) * 3 // 5]
    timed(
        figures,
        "first",
        lambda: shard_runs.take_what_is_left(settings, BATCH, IMAGES, only=frozenset(keys)),
    )
    return figures | {"shards": len(keys), "events": _events(settings)}


def _events(settings: Settings) -> int:
    """Count the events of the last run."""
    with open_instance(settings) as instance:
        (run,) = instance.get_runs(limit=1)
        return len(instance.all_logs(run.run_id))


def _cut_off() -> Figures:
    """Leave a fifth of the shards as workers leave them that are killed at a random put."""
    settings, chance = _settings(), random.Random(6)
    keys = shards.shard_keys(settings.data)
    keys = keys[len(keys) * 3 // 5 : len(keys) * 4 // 5]
    with open_instance(settings) as instance:
        tags, *_ = shard_runs.plan(instance, settings.data, BATCH, IMAGES, only=frozenset(keys))
    committed: list[str] = []
    for key in keys:
        # Two puts a batch, and two more where all becomes one file.
        puts = 2 * -(-tags.wanted[key].height // BATCH) + 2
        put = KillingPut(chance.randrange(puts))
        try:
            shards.take(shards.Shard(settings.data, DICOM_TAGS, key), *_of(tags, key), put)
        except Killed:
            # Known from what was put, and not from what the manifests say.
            batches = min(put.manifests, puts // 2 - 1)
            committed += tags.wanted[key][SERIES_KEY].head(batches * BATCH).to_list()
    (settings.data / "committed.json").write_text(json.dumps(committed))
    return {"shards": len(keys)}


def _of(plan: shard_runs.Plan, key: str) -> tuple[pl.DataFrame, shards.Read, int]:
    return plan.wanted[key], plan.read, plan.batch


class KillingPut:
    """Puts so many files and then ends all, with the next one half-written beside its place."""

    def __init__(self, puts: int) -> None:
        self._left = puts
        self.manifests = 0

    def __call__(self, path: Path, content: bytes) -> None:
        """Put a file."""
        if not self._left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}@nowhere:1.partial").write_bytes(
                content[: len(content) // 2]
            )
            raise Killed
        self._left -= 1
        write_bytes(path, content)
        self.manifests += "manifests" in path.parts


def _decide() -> Figures:
    """Decide what is left, and see that it is what must be left."""
    settings, figures = _settings(), Figures()
    archive = Archive(settings.data)
    # Some changed since; of the two fifths that nobody took they are missing anyway.
    changed = archive.change(CHANGED_EVERY)
    found = {}
    with open_instance(settings) as instance:
        keys = shards.shard_keys(settings.data)

        def of_table(number: int) -> None:
            table = SERIES_TABLES[number]
            found[table.name] = shard_runs.to_take(instance, settings.data, table, archive.now())

        timed(figures, "one", lambda: of_table(0))
        timed(figures, "four", lambda: list(map(of_table, range(4))))
        timed(
            figures,
            "status",
            lambda: instance.get_status_by_partition(
                dg.AssetKey(DICOM_TAGS.name), keys, shard_runs.PARTITIONS
            ),
        )
    peak = peak_mb()
    wanted = [uid for frame in found[DICOM_TAGS.name].values() for uid in frame[SERIES_KEY]]
    done = set(_members(settings, 0, 3)) | set(
        json.loads((settings.data / "committed.json").read_text())
    )
    done -= {*archive.broken(), *changed}
    expected = set(archive.now().collect()[SERIES_KEY]) - done
    _expect(len(wanted) == len(set(wanted)) and set(wanted) == expected, "what is left")
    return figures | {
        "peak_mb": peak,
        "series": len(wanted),
        "shards": len(found[DICOM_TAGS.name]),
    }


def _members(settings: Settings, first: int, last: int) -> list[str]:
    """Return the series of the shards between two fifths."""
    keys = shards.shard_keys(settings.data)
    keys = keys[len(keys) * first // 5 : len(keys) * last // 5]
    frame = shards.members(settings.data).filter(pl.col("shard").is_in(keys)).collect()
    return frame[SERIES_KEY].to_list()


def _resume() -> Figures:
    """Take all that is left: after it only what cannot be read is."""
    settings, figures = _settings(), Figures()
    taken: dict[str, dict[str, int]] = {}
    timed(
        figures,
        "resume",
        lambda: taken.update(shard_runs.take_what_is_left(settings, BATCH, IMAGES)),
    )
    left = shards.left(settings.data, DICOM_TAGS, Archive(settings.data).now())
    broken = Archive(settings.data).broken()
    _expect(left[SERIES_KEY].to_list() == broken, "after the resume only what is broken is left")
    _expect(set(left["why"]) == {"failed"}, "it failed")
    return figures | {"series": taken[DICOM_TAGS.name]["series"]}


def _mend() -> Figures:
    settings = _settings()
    archive = Archive(settings.data)
    broken = len(archive.broken())
    archive.mend()
    figures = _take("mend")
    _expect(figures["series"] == broken, "only what had failed was taken")
    return figures


def _change() -> Figures:
    """Change some of all, when all is done, and take one table of them."""
    settings = _settings()
    # Every other table's fingerprint stands for the same files here: they are taken after.
    changed = Archive(settings.data).change(CHANGED_EVERY)
    figures = _take("change", [DICOM_TAGS.name])
    _expect(figures["series"] == len(changed), "only what had changed was taken")
    shard_runs.take_what_is_left(settings, BATCH, IMAGES)
    return figures


def _take(name: str, tables: Sequence[str] = ()) -> Figures:
    settings, figures = _settings(), Figures()
    taken: dict[str, dict[str, int]] = {}
    timed(
        figures,
        name,
        lambda: taken.update(shard_runs.take_what_is_left(settings, BATCH, IMAGES, tables=tables)),
    )
    return figures | {name: float(count) for name, count in taken[DICOM_TAGS.name].items()}


def _idle() -> Figures:
    settings, figures = _settings(), Figures()
    taken: dict[str, dict[str, int]] = {}
    timed(
        figures,
        "idle",
        lambda: taken.update(shard_runs.take_what_is_left(settings, BATCH, IMAGES)),
    )
    _expect(not taken, "nothing is left")
    return figures


def _wide() -> Figures:
    settings, figures = _settings(), Figures()
    Archive(settings.data).mend()
    timed(figures, "wide", lambda: shard_runs.take_what_is_left(settings, BATCH, WIDE_IMAGES))
    return figures


def _apart() -> Figures:
    """Write series of one shard each into a file of its own, as the stage does."""
    settings = _settings()
    (path, *_) = (settings.interim / DICOM_TAGS.name).iterdir()
    sizes = [
        write_table(rows, DICOM_TAGS, settings.data / "apart" / str(uid)).path.stat().st_size
        for (uid,), rows in pl.read_parquet(path, glob=False).group_by(SERIES_KEY)
    ]
    return {"series": len(sizes), "bytes": sum(sizes) / len(sizes)}


def _combine() -> Figures:
    """Combine by the stage's own code, a shard at a time."""
    settings, figures = _settings(), Figures()

    def by_shard() -> None:
        view, keys = _view(settings)
        for key in keys:
            frame = combine(view, [key]).frame
            write_table(frame, UNIFIED_METADATA, settings.data / "unified" / key)

    timed(figures, "combine", by_shard)
    return figures | {"rows": _rows_below(settings.data / "unified")}


def _combine_all() -> Figures:
    """Combine by the stage's own code, all at once."""
    settings, figures = _settings(), Figures()
    stem = settings.data / "in_one" / "unified"

    def at_once() -> None:
        frame = combine(*_view(settings)).frame
        write_table(frame, UNIFIED_METADATA, stem)

    timed(figures, "combine", at_once)
    return figures | {"rows": _rows_below(stem.parent)}


def _view(settings: Settings) -> tuple[Settings, list[str]]:
    """Return settings under which each whole shard looks like a series to `combine`.

    It finds files by name, and would have to be given them; links stand in for that here.
    """
    view = settings.data / "view"
    shutil.rmtree(view, ignore_errors=True)
    for table in SERIES_TABLES:
        (view / table.name).mkdir(parents=True)
    found = shards.whole_shards(settings.data, SERIES_TABLES)
    for key, parts in found.items():
        for name, path in parts.items():
            (view / name / f"{key}.parquet").symlink_to(path)
    return replace(settings, interim=view), list(found)


def _rows_below(directory: Path) -> int:
    """Count the rows, and see that they are one an image or more."""
    frame = pl.scan_parquet(list(find_tables(directory).values()), glob=False)
    counted = frame.select(rows=pl.len(), series=pl.col(SERIES_KEY).n_unique()).collect()
    known = shards.members(_settings().data).select(pl.len()).collect().item()
    _expect(counted["series"].item() == known, "every series is combined")
    return int(counted["rows"].item())


def _ask() -> Figures:
    settings, figures = _settings(), Figures()
    paths = list(find_tables(settings.data / "unified").values())
    positive = pl.col("localizer_index").is_not_null()
    timed(
        figures,
        "ask",
        lambda: pl.scan_parquet(paths, glob=False).filter(positive).select(pl.len()).collect(),
    )
    return figures


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise RuntimeError(f"the simulation is wrong: not so that {what}")


STEPS: dict[str, Callable[[], Figures]] = {
    "first": _first,
    "cut_off": _cut_off,
    "decide": _decide,
    "resume": _resume,
    "mend": _mend,
    "change": _change,
    "idle": _idle,
    "wide": _wide,
    "apart": _apart,
    "combine": _combine,
    "combine_all": _combine_all,
    "ask": _ask,
}

if __name__ == "__main__":
    step, *sizes = sys.argv[1:]
    found = _begin(*map(int, sizes)) if step == "begin" else STEPS[step]()
    print(json.dumps({"peak_mb": peak_mb()} | found))
