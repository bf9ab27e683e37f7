"""`aneurysm-assets` with its roots in a bucket: what a run on a disk makes, whatever happens."""

import json
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from _pytest.mark import ParameterSet
from polars.testing import assert_frame_equal

from aneurysm_assets.cli.main import main
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import claim, open_instance
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.tables import SERIES_TABLES, UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.object_path import Location, ObjectPath, list_directory
from aneurysm_assets.storage.table_names import file_names, find_table, find_tables
from aneurysm_assets.storage.table_scans import read_table
from deploy.servers.process import free_ports
from deploy.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from tests.bucket import impatient, upload
from tests.graph import Graph
from tests.processes import call, call_here, group_of, started, wait_until
from tests.record import ALL_TABLES, events, instance_of, metadata_of, statuses

CTA, BIG_ENDIAN = uid("sample", "CTA"), uid("sample", "big endian")

S3_VARIABLES = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:{port}",
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}

# Enough for a run to be in the middle of them when something happens.
SERIES = 60


class Stage:
    """A data root on this machine whose raw and interim roots are where they are said to be."""

    def __init__(self, data: Path, raw: Location, interim: Location) -> None:
        self.data = data
        self.raw = raw
        self.interim = interim
        self.roots = ("--data", data, "--raw", raw, "--interim", interim)

    @property
    def settings(self) -> Settings:
        return Settings(self.data, self.raw, self.interim, workers=1)

    def run(self) -> subprocess.CompletedProcess:
        return call("aneurysm-assets", "run", *self.roots, "--workers", 2)

    def run_here(self) -> subprocess.CompletedProcess:
        return call_here("run", *self.roots, "--workers", 1)

    def status(self) -> dict:
        shown = call_here("status", *self.roots, "--json")
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout)

    def unified(self) -> pl.DataFrame:
        path = find_table(self.settings.unified_table)
        assert path is not None
        return read_table(UNIFIED_METADATA, path)

    def events(self) -> dict[str, Counter]:
        with instance_of(self.data) as instance:
            return {table: events(instance, table) for table in ALL_TABLES}


@pytest.fixture(scope="module")
def on_disk(sample_data: Path, tmp_path_factory) -> Stage:
    """Return the sample, run on a disk."""
    data = Path(shutil.copytree(sample_data, tmp_path_factory.mktemp("on_disk") / "data"))
    stage = Stage(data, data / "raw", data / "interim")
    assert stage.run_here().returncode == 0
    return stage


@pytest.fixture
def in_bucket(on_disk: Stage, bucket: ObjectPath, tmp_path: Path) -> Stage:
    """Return the sample in a bucket, with the output there too, not run yet."""
    upload(on_disk.raw, bucket / "raw")
    return Stage(tmp_path / "data", bucket / "raw", bucket / "out" / "interim")


@pytest.fixture(scope="module")
def first_run(
    on_disk: Stage, s3_server: S3Server, tmp_path_factory
) -> tuple[Stage, subprocess.CompletedProcess]:
    """Return the sample in a bucket with its output, and what the run said that made it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.variables.items():
            patch.setenv(name, value)
        bucket = ObjectPath.parse(s3_server.make_bucket("bucket-of-a-story"))
        upload(on_disk.raw, bucket / "raw")
        data = tmp_path_factory.mktemp("in_bucket") / "data"
        stage = Stage(data, bucket / "raw", bucket / "out" / "interim")
        return stage, stage.run()


@pytest.fixture
def ran(first_run, s3_server: S3Server, monkeypatch) -> Stage:
    """Return the sample in a bucket, run there: the tests with it are a story in their order."""
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    stage, done = first_run
    assert done.returncode == 0, done.stderr
    return stage


@pytest.fixture(scope="module")
def load(tmp_path_factory) -> Stage:
    """Return many small series, run on a disk."""
    data = tmp_path_factory.mktemp("load")
    write_load_sample(data, series=SERIES, files=2)
    stage = Stage(data, data / "raw", data / "interim")
    graph = Graph(data)
    assert graph.run_all(*(table.name for table in SERIES_TABLES)).success
    assert graph.run("unified_metadata").success
    return stage


@pytest.fixture
def load_in_bucket(load: Stage, bucket: ObjectPath, tmp_path: Path) -> Stage:
    upload(load.raw, bucket / "raw")
    return Stage(tmp_path / "data", bucket / "raw", bucket / "interim")


def refused(process: subprocess.CompletedProcess) -> str:
    """Return the sentence with which a command refused its input."""
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert SECRET_KEY not in process.stderr
    return process.stderr


def test_with_both_roots_in_a_bucket_every_table_is_the_one_of_a_disk(
    ran: Stage, on_disk: Stage
) -> None:
    in_bucket = ran
    assert_frame_equal(in_bucket.unified(), on_disk.unified())
    for table in SERIES_TABLES:
        there = find_tables(in_bucket.settings.interim / table.name)
        local = find_tables(on_disk.settings.interim / table.name)
        assert {uid: path.name for uid, path in there.items()} == {
            uid: path.name for uid, path in local.items()
        }
        for series, path in there.items():
            assert_frame_equal(read_table(table, path), read_table(table, local[series]))
        assert len(file_names(in_bucket.settings.interim / table.name)) == len(there)
    quality = find_table(in_bucket.settings.quality_table)
    assert str(quality) == f"{in_bucket.interim}/series_quality.parquet"
    assert in_bucket.events() == on_disk.events()
    ours, disks = in_bucket.status(), on_disk.status()
    assert ours["assets"] == disks["assets"]
    assert ours["unified_metadata"]["up_to_date"]
    again = in_bucket.run_here()
    assert again.returncode == 0, again.stderr
    assert in_bucket.events() == on_disk.events()


def test_what_is_recorded_and_told_names_the_bucket_and_no_secret(ran: Stage, first_run) -> None:
    in_bucket, done = first_run
    with instance_of(in_bucket.data) as instance:
        of_series = metadata_of(instance, "dicom_tags", CTA)
        unified = metadata_of(instance, "unified_metadata")
    assert of_series["path"] == f"{in_bucket.interim}/dicom_tags/{CTA}.parquet"
    assert unified["path"] == f"{in_bucket.interim}/dicom_metadata_with_csv.parquet"
    assert f"{in_bucket.interim}/dicom_metadata_with_csv.parquet" in done.stdout
    kept = [path.read_bytes() for path in in_bucket.data.rglob("*") if path.is_file()]
    assert any(str(in_bucket.interim).encode() in content for content in kept)
    assert not any(SECRET_KEY.encode() in content for content in kept)
    assert SECRET_KEY not in done.stdout + done.stderr
    # Nothing but Dagster's state and the logs is on this machine.
    assert {path.name for path in in_bucket.data.iterdir()} == {"dagster", "logs"}


@pytest.mark.parametrize("in_the_bucket", ["raw", "interim"])
def test_one_root_may_be_in_a_bucket_and_the_other_on_a_disk(
    in_bucket: Stage, on_disk: Stage, in_the_bucket: str
) -> None:
    mixed = Stage(
        in_bucket.data,
        in_bucket.raw if in_the_bucket == "raw" else on_disk.raw,
        in_bucket.interim if in_the_bucket == "interim" else in_bucket.data / "interim",
    )
    done = mixed.run_here()
    assert done.returncode == 0, done.stderr
    assert_frame_equal(mixed.unified(), on_disk.unified())
    again = mixed.run_here()
    assert again.returncode == 0, again.stderr
    assert mixed.events() == on_disk.events()


def log_of(stage: Stage) -> Path:
    return stage.data.parent / "log"


@contextmanager
def begun(stage: Stage) -> Iterator[subprocess.Popen]:
    """Start a run that says what it has to say in its log, for something to happen to it."""
    with (
        log_of(stage).open("w") as output,
        started("aneurysm-assets", "run", *stage.roots, "--workers", 2, output=output) as process,
    ):
        yield process


def test_a_run_killed_in_the_middle_goes_on_and_takes_each_series_once(
    load_in_bucket: Stage, load: Stage
) -> None:
    stage = load_in_bucket
    tables = stage.settings.interim / "dicom_tags"
    with begun(stage) as process:
        wait_until(lambda: len(find_tables(tables)) >= SERIES // 3, "a third was there", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not group_of(process), "its worker processes had ended")
    for path in find_tables(tables).values():
        assert read_table(SERIES_TABLES[0], path).height
    recorded = stage.events()["dicom_tags"]
    assert set(recorded) <= set(find_tables(tables))
    done = stage.run_here()
    assert done.returncode == 0, done.stderr
    series = Counter(dict.fromkeys(find_tables(tables), 1))
    assert len(series) == SERIES
    recorded = stage.events()
    assert {table.name: recorded[table.name] for table in SERIES_TABLES} == dict.fromkeys(
        (table.name for table in SERIES_TABLES), series
    )
    assert_frame_equal(stage.unified(), load.unified())


def test_a_store_that_is_down_in_the_middle_of_a_run_costs_no_series(
    load_in_bucket: Stage, load: Stage, s3_server: S3Server
) -> None:
    stage = load_in_bucket
    tables = stage.settings.interim / "dicom_tags"
    with begun(stage) as process:
        wait_until(lambda: find_tables(tables), "a table was there", process)
        s3_server.stop()
        back = threading.Timer(6, s3_server.start)
        back.start()
        back.join()
        process.wait(300)
    again = stage.run_here()
    assert again.returncode == 0, again.stderr
    assert log_of(stage).read_text().count("Traceback") == 0
    recorded, assets = stage.events(), stage.status()["assets"]
    for table in SERIES_TABLES:
        assert set(recorded[table.name].values()) == {1}
        assert assets[table.name]["materialized"] == SERIES
    assert_frame_equal(stage.unified(), load.unified())


def test_export_reads_the_table_of_a_bucket_and_writes_a_directory(
    ran: Stage, on_disk: Stage, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    done = call_here("export", *ran.roots, "--to", parts, "--by", "Modality_train")
    assert done.returncode == 0, done.stderr
    written = pl.scan_parquet(parts, hive_schema={"Modality_train": pl.String}).collect()
    key = ["dicom_path", "frame_index", "localizer_index"]
    assert_frame_equal(written.sort(key), on_disk.unified().sort(key), check_column_order=False)


def test_the_report_and_the_pictures_are_written_to_the_bucket(ran: Stage) -> None:
    in_bucket = ran
    roots = {
        "ANEURYSM_DATA": in_bucket.data,
        "ANEURYSM_RAW": in_bucket.raw,
        "ANEURYSM_INTERIM": in_bucket.interim,
        "DAGSTER_HOME": in_bucket.data / "dagster",
    }
    module = ("-m", "aneurysm_assets.definitions")
    done = call("dagster", "job", "execute", *module, "-j", "write_dataset_report", **roots)
    assert done.returncode == 0, done.stderr
    page = (in_bucket.settings.interim / "dataset_report.html").read_bytes()
    assert b"</html>" in page
    done = call(
        *("dagster", "asset", "materialize", *module, "--select", "series_preview"),
        *("--partition", CTA),
        **roots,
    )
    assert done.returncode == 0, done.stderr
    picture = (in_bucket.settings.interim / "series_preview" / f"{CTA}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert in_bucket.status()["series_preview"] == {
        "materialized": 1,
        "stale": 0,
        "stale_series": [],
    }


def unusable() -> Iterator[ParameterSet]:
    """Yield each command with each root that cannot be used: in the usual suite each pair once."""
    usual = {
        ("run", "raw", "credentials"),
        ("run", "interim", "bucket"),
        ("status", "raw", "bucket"),
        ("status", "interim", "credentials"),
    }
    for given in product(["run", "status"], ["raw", "interim"], ["credentials", "bucket"]):
        yield pytest.param(*given, marks=() if given in usual else pytest.mark.long)


@pytest.mark.parametrize(("command", "root", "what"), unusable())
def test_a_bucket_that_cannot_be_used_is_said_in_a_sentence_and_nothing_recorded(
    bucket: ObjectPath, on_disk: Stage, tmp_path: Path, command: str, root: str, what: str
) -> None:
    stage = Stage(tmp_path / "data", on_disk.raw, tmp_path / "data" / "interim")
    wrong = {}
    if what == "credentials":
        setattr(stage, root, bucket / root)
        wrong = {"AWS_SECRET_ACCESS_KEY": "pa55word"}
    else:
        setattr(stage, root, ObjectPath.parse("s3://nowhere-at-all/x"))
    stage = Stage(stage.data, stage.raw, stage.interim)
    said = refused(call("aneurysm-assets", command, *stage.roots, **wrong))
    assert ("credentials" if what == "credentials" else "no such bucket") in said
    assert "pa55word" not in said
    if (stage.data / "dagster").exists():
        assert not any(stage.events().values())
    assert not (stage.data / "logs").exists()


@pytest.mark.parametrize("root", ["raw", "interim"])
def test_a_store_that_is_down_is_said_in_a_sentence_once_it_was_waited_for(
    on_disk: Stage, tmp_path: Path, monkeypatch, capfd, root: str
) -> None:
    (port,) = free_ports(1)  # where nobody listens
    for name, value in S3_VARIABLES.items():
        monkeypatch.setenv(name, value.format(port=port))
    stage = Stage(tmp_path / "data", on_disk.raw, tmp_path / "data" / "interim")
    setattr(stage, root, ObjectPath.parse("s3://bucket/x"))
    stage = Stage(stage.data, stage.raw, stage.interim)
    for variable, value in zip(("DATA", "RAW", "INTERIM"), stage.roots[1::2], strict=True):
        monkeypatch.setenv(f"ANEURYSM_{variable}", str(value))  # as the command exports them
    for command in ("run", "status"):
        monkeypatch.setattr("sys.argv", ["aneurysm-assets", command])
        with impatient(), pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        said = capfd.readouterr().err
        assert "does not answer" in said
        assert "Traceback" not in said
        assert SECRET_KEY not in said
    assert not (stage.data / "interim").exists()


def test_while_a_store_is_away_what_was_done_is_neither_vanished_nor_missing(
    ran: Stage,
) -> None:
    in_bucket = ran
    before = in_bucket.events(), in_bucket.status()
    for command in ("run", "status"):
        refused(call("aneurysm-assets", command, *in_bucket.roots, AWS_ACCESS_KEY_ID="somebody"))
    assert (in_bucket.events(), in_bucket.status()) == before
    with instance_of(in_bucket.data) as instance:
        assert set(statuses(instance, "dicom_tags").values()) == {"MATERIALIZED"}


def test_an_object_that_is_removed_is_missing_and_one_that_changed_is_stale(
    ran: Stage, on_disk: Stage
) -> None:
    in_bucket = ran
    before = in_bucket.events()
    gone = find_tables(in_bucket.settings.interim / "labels")[CTA]
    assert isinstance(gone, ObjectPath)
    gone.unlink()
    assert isinstance(in_bucket.raw, ObjectPath)
    directory = in_bucket.raw / "series" / BIG_ENDIAN
    name = next(iter(list_directory(directory).files))
    (directory / name).write_bytes((directory / name).read_bytes() + b"\0\0")
    assets = in_bucket.status()["assets"]
    assert assets["labels"]["missing"] == 1
    assert assets["dicom_tags"]["stale_series"] == [BIG_ENDIAN]
    assert not any(assets[name]["stale"] for name in assets if name != "dicom_tags")
    done = in_bucket.run_here()
    assert done.returncode == 0, done.stderr
    after = in_bucket.events()
    assert after["labels"] - before["labels"] == Counter({CTA: 1})
    assert after["dicom_tags"] - before["dicom_tags"] == Counter({BIG_ENDIAN: 1})
    assert after["localizers"] == before["localizers"]
    assert_frame_equal(in_bucket.unified().drop("file_size"), on_disk.unified().drop("file_size"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--raw", f"s3://{ACCESS_KEY}:{SECRET_KEY}@bucket/raw"),
        ("run", "--interim", f"s3://bucket/interim?X-Amz-Signature={SECRET_KEY}"),
        ("status", "--raw", f"https://{SECRET_KEY}@host/bucket"),
        ("run", "--data", "s3://bucket/data"),
        ("export", "--to", "s3://bucket/parts", "--by", "PatientSex"),
        ("sample", "s3://bucket/sample"),
    ],
)
def test_urls_with_secrets_and_urls_where_directories_belong_are_refused(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(call_here(*arguments))
    assert list(tmp_path.iterdir()) == []


def opened_claim(data: Path, interim: Location, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("ANEURYSM_DATA", str(data))
        patch.setenv("ANEURYSM_INTERIM", str(interim))
        settings = Settings.from_environment()
        with open_instance(settings) as instance:
            claim(instance, settings)


def test_an_instance_keeps_the_progress_of_one_place_in_a_bucket_until_that_is_empty(
    bucket: ObjectPath, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    opened_claim(data, bucket / "one", monkeypatch)
    (bucket / "one" / "t.parquet").write_bytes(b"")
    opened_claim(data, bucket / "one", monkeypatch)
    for other in (bucket / "two", data / "interim"):
        with pytest.raises(InputError, match=rf"keeps the progress of {bucket}/one, not of"):
            opened_claim(data, other, monkeypatch)
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "pa55word")
        with pytest.raises(InputError, match="keeps the progress of"):
            opened_claim(data, data / "interim", monkeypatch)
    (bucket / "one" / "t.parquet").unlink()
    opened_claim(data, data / "interim", monkeypatch)
    (data / "interim").mkdir()
    with pytest.raises(InputError, match=rf"not of {bucket}/two"):
        opened_claim(data, bucket / "two", monkeypatch)
