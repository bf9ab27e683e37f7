"""The sharded layout that docs/scale.md proposes keeps what it promises, in small.

It is a simulation in `benchmarks`; its files, manifests and Dagster's record are real.
"""

import json
import random
import signal
from collections import Counter
from io import BytesIO
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from aneurysm_assets.schema.tables import DICOM_TAGS, LABELS, SERIES_KEY
from aneurysm_assets.settings import Settings
from benchmarks import shards
from benchmarks.imagined import Archive
from benchmarks.report import Results
from benchmarks.scale_costs import costs
from benchmarks.shard_runs import take_what_is_left
from benchmarks.shard_simulation import measure
from benchmarks.shard_steps import Killed, KillingPut
from benchmarks.sharded import BEGIN, END, PROGRAMS, write_into
from benchmarks.sharded import tables as tables_of_document
from tests.processes import call, started, wait_until
from tests.record import events, instance_of

ROOT = Path(__file__).parent.parent

SERIES, SIZE, BATCH, IMAGES = 2_000, 100, 25, 2
TAGS = DICOM_TAGS.name


def archive_at(root: Path, series: int = SERIES, size: int = SIZE, broken_every: int = 500):
    archive = Archive(root)
    archive.make(series, broken_every)
    shards.assign(root, uids(archive), size)
    (root / "reads").mkdir()
    return archive


def uids(archive: Archive) -> list[str]:
    return archive.now().collect()[SERIES_KEY].to_list()


def committed(root: Path) -> set[str]:
    """Return the series that a manifest says are done, read with nothing of the layout's code."""
    done: set[str] = set()
    for path in (root / "manifests" / TAGS).glob("[0-9]*.parquet"):
        # Read at once, as it may be replaced meanwhile.
        manifest = pl.read_parquet(BytesIO(path.read_bytes()))
        done |= set(manifest.filter(pl.col("outcome") == "done")[SERIES_KEY])
    return done


def reads(root: Path, table: str = TAGS) -> Counter[str]:
    """Return how often each series was read since the last time this was asked."""
    path = root / "reads" / table
    told = Counter(path.read_text().split()) if path.exists() else Counter()
    path.unlink(missing_ok=True)
    return told


def tables(root: Path, table: str = TAGS) -> pl.DataFrame:
    """Return all rows, and see that each shard has them in the one file that there is of it."""
    directory = root / "interim" / table
    paths = sorted(directory.glob("[0-9]*"))
    assert [path.name.partition("~")[0] for path in paths] == shards.shard_keys(root)
    return pl.concat(pl.read_parquet(path, glob=False) for path in paths)


def status(root: Path, table: str = TAGS) -> dict[str, str]:
    with instance_of(root) as instance:
        keys = instance.get_dynamic_partitions("shards")
        partitions = dg.DynamicPartitionsDefinition(name="shards")
        found = instance.get_status_by_partition(dg.AssetKey(table), keys, partitions) or {}
        return {key: found[key].value if found.get(key) else "MISSING" for key in keys}


def environment(root: Path) -> dict[str, object]:
    """Return what a process needs over a data root; the programs are not installed."""
    return {"ANEURYSM_DATA": root, "PYTHONPATH": ROOT}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANEURYSM_DATA", str(tmp_path))
    return tmp_path


def take_all(root: Path, images: int = IMAGES) -> dict[str, dict[str, int]]:
    return take_what_is_left(Settings.from_environment(), BATCH, images)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    archive_at(root, broken_every=SERIES + 1)
    run = call("python", "-m", "benchmarks.shard_runs", BATCH, IMAGES, **environment(root))
    assert run.returncode == 0, run.stderr
    return root


def test_killed_at_random_moments_each_resume_takes_exactly_the_rest(tmp_path, undisturbed) -> None:
    root, seed = tmp_path, random.randrange(10**6)
    chance = random.Random(seed)
    archive = archive_at(root, broken_every=SERIES + 1)
    command = ("python", "-m", "benchmarks.shard_runs", BATCH, IMAGES)
    for moment in sorted(chance.sample(range(1, SERIES), 3)):
        before = committed(root)
        with started(*command, **environment(root)) as process:
            wait_until(lambda m=moment: len(committed(root)) >= m, f"{moment} of {seed}", process)
            process.send_signal(signal.SIGKILL)
            process.wait()
        read = reads(root)
        assert before.isdisjoint(read), f"seed {seed}"
        assert set(read.values()) <= {1}
        # What a kill costs is one batch, and no more.
        assert len(set(read) - committed(root)) <= BATCH
    before = committed(root)
    last = call(*command, **environment(root))
    assert last.returncode == 0, last.stderr
    # Nothing is left where a late kill came after the last batch: the end is asserted below.
    assert reads(root) == dict.fromkeys(set(uids(archive)) - before, 1), f"seed {seed}"
    assert_frame_equal(tables(root), tables(undisturbed))
    assert set(status(root).values()) == {"MATERIALIZED"}
    assert set(status(root, LABELS.name).values()) == {"MATERIALIZED"}


def test_dagster_has_one_event_a_shard_and_table_and_none_a_series(undisturbed) -> None:
    keys = shards.shard_keys(undisturbed)
    assert len(keys) == SERIES // SIZE
    with instance_of(undisturbed) as instance:
        for table in ("dicom_tags", "labels", "localizers", "segmentation_meta"):
            assert events(instance, table) == dict.fromkeys(keys, 1)


def test_a_failed_series_is_named_makes_its_shard_red_and_is_retried_alone(here) -> None:
    archive = archive_at(here)
    broken = archive.broken()
    take_all(here)
    reads(here)
    assert 1 < len(broken) < SERIES // SIZE
    assert Counter(status(here).values())["FAILED"] == len(broken)
    assert set(tables(here)[SERIES_KEY]) == set(uids(archive)) - set(broken)
    taken = take_all(here)
    assert taken == {TAGS: {"shards": len(broken), "series": len(broken)}}
    assert reads(here) == dict.fromkeys(broken, 1)
    with instance_of(here) as instance:
        log = "".join(entry.user_message for entry in instance.all_logs(last_run(instance)))
    assert all(uid in log for uid in broken)
    archive.mend()
    take_all(here)
    assert reads(here) == dict.fromkeys(broken, 1)
    assert set(status(here).values()) == {"MATERIALIZED"}
    assert set(tables(here)[SERIES_KEY]) == set(uids(archive))
    assert take_all(here) == {}


def last_run(instance: dg.DagsterInstance) -> str:
    (run,) = instance.get_runs(limit=1)
    return run.run_id


def test_changed_series_are_taken_alone_and_their_rows_replace_the_former_ones(here) -> None:
    archive = archive_at(here, broken_every=SERIES + 1)
    take_all(here)
    reads(here)
    changed = archive.change(97)
    take_all(here, images=IMAGES + 1)
    assert reads(here) == dict.fromkeys(changed, 1)
    rows = tables(here).group_by(SERIES_KEY).len()
    expected = {uid: IMAGES + (uid in changed) for uid in uids(archive)}
    assert dict(rows.iter_rows()) == expected


def test_new_series_get_a_shard_of_their_own_and_touch_no_other(here) -> None:
    archive = archive_at(here, series=SERIES, broken_every=SERIES + 1)
    known = uids(archive)
    take_all(here)
    members = shards.members(here).collect()
    archive.make(SERIES + 30, broken_every=SERIES + 31)
    new = set(uids(archive)) - set(known)
    assert shards.assign(here, uids(archive), SIZE) == [f"{SERIES // SIZE:06d}"]
    assert shards.assign(here, uids(archive), SIZE) == []
    after = shards.members(here).collect()
    assert_frame_equal(after.head(members.height), members)
    assert set(after.tail(30)[SERIES_KEY]) == new
    reads(here)
    # Their fingerprints are as they were: what is taken is what is new.
    take_all(here)
    assert set(reads(here)) == new


def test_a_registrar_killed_between_its_shards_is_followed_by_one_that_adds_the_rest(here) -> None:
    archive = Archive(here)
    archive.make(250, 1_000)
    shards.assign(here, uids(archive)[:100], 100)
    assert shards.assign(here, uids(archive), 100) == ["000001", "000002"]
    assert shards.members(here).collect()[SERIES_KEY].to_list() == uids(archive)


@pytest.mark.parametrize("puts", range(10))
@pytest.mark.parametrize("again", [False, True], ids=["new shard", "shard taken before"])
def test_killed_at_any_put_a_shard_ends_as_if_nothing_had_been(here, puts, again) -> None:
    # 100 series in batches of 25 are 10 puts: rows and manifest of each, and both of the one file.
    archive = archive_at(here, series=100, broken_every=101)
    shard = shards.Shard(here, DICOM_TAGS, "000000")
    if again:
        shards.take(shard, archive.now().collect(), archive.reader(DICOM_TAGS, 1), BATCH)
        former = archive.now().collect()
        archive.change(1)
        assert former["fingerprint"].to_list() != archive.now().collect()["fingerprint"].to_list()
    read, wanted = archive.reader(DICOM_TAGS, IMAGES), archive.now().collect()
    with pytest.raises(Killed):
        shards.take(shard, wanted, read, BATCH, KillingPut(puts))
    left = shards.left(here, DICOM_TAGS, archive.now())
    assert left.height == 100 - min(puts // 2, 4) * BATCH
    reads(here)
    take_all(here)
    assert reads(here) == dict.fromkeys(left[SERIES_KEY], 1)
    assert take_all(here) == {}
    counted = tables(here).group_by(SERIES_KEY).len()
    assert dict(counted.iter_rows()) == dict.fromkeys(uids(archive), IMAGES)


@pytest.mark.parametrize("key", ["", "1", "../../etc", "0000000", "00000a", "000000\n"])
def test_what_is_no_shard_becomes_no_path(tmp_path, key) -> None:
    with pytest.raises(ValueError, match="six digits"):
        shards.Shard(tmp_path, DICOM_TAGS, key)


def test_a_run_says_what_it_took(tmp_path) -> None:
    archive_at(tmp_path, series=100, size=50, broken_every=101)
    run = call("python", "-m", "benchmarks.shard_runs", BATCH, IMAGES, **environment(tmp_path))
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)[TAGS] == {"shards": 2, "series": 100}


def test_the_documents_figures_are_those_of_the_results() -> None:
    scale = Results.read(ROOT / "benchmarks" / "scale.json")
    stage = Results.read(ROOT / "benchmarks" / "results.json")
    document = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert set(scale.programs) == set(PROGRAMS)
    for name, part in tables_of_document(scale, stage).items():
        shown = document.split(BEGIN.format(name))[1].split(END.format(name))[0]
        how = "run `python -m benchmarks.sharded --only-document --document docs/scale.md`"
        assert shown.strip() == part, how


def test_what_is_computed_follows_from_what_was_measured() -> None:
    scale = Results.read(ROOT / "benchmarks" / "scale.json")
    stage = Results.read(ROOT / "benchmarks" / "results.json")
    before = {line.what: line.ours for lines in costs(scale, stage).values() for line in lines}
    assert before["Dagster events"] == 8_000  # that of shards, the later of the two
    assert before["GET, a first range of each file"] == pytest.approx(20)
    assert before["LIST, series by series"] == pytest.approx(5)
    assert before["PUT, a partition a series"] == pytest.approx(20)
    assert before["PUT, in shards"] == pytest.approx(18_000 * 0.005 / 1_000)
    assert before["read from S3, least time by its rate for one prefix"] == pytest.approx(
        2.525, 1e-3
    )
    (line,) = (
        line
        for line in stage.programs["directory"]["lines"]
        if line["what"] == "series directory to Parquet, CT, an image"
    )
    line["ours"] *= 2
    after = {line.what: line.ours for lines in costs(scale, stage).values() for line in lines}
    doubled = "read from local disk, CPU"
    assert after[doubled] == pytest.approx(2 * before[doubled])
    assert {what for what in after if after[what] != before[what]} == {doubled}


def test_a_figure_that_was_not_measured_is_not_made_up() -> None:
    scale = Results.read(ROOT / "benchmarks" / "scale.json")
    with pytest.raises(KeyError):
        costs(scale, Results())


def test_a_document_without_a_place_for_a_table_is_refused(tmp_path) -> None:
    document = tmp_path / "scale.md"
    document.write_text("nothing\n")
    with pytest.raises(ValueError, match="wide"):
        write_into(document, {"wide": "| a |"})
    assert document.read_text() == "nothing\n"


def test_the_simulation_runs_to_its_end_in_small_and_checks_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    lines = {line.what: line for line in measure(tmp_path, series=20_000, size=1_000)}
    assert lines["20,000 series, 1,000 a shard: resume decision, one table, CPU"].note.endswith(
        "series in 20 shards to take"
    )
    assert not list(tmp_path.iterdir())
