"""`aneurysm-assets` as a user runs it: a process, its exit status, what it says and leaves."""

import ast
import errno
import json
import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import nibabel as nib
import pandas as pd
import polars as pl
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.multival import MultiValue

from aneurysm_assets.cli.main import cli
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.columns import COMPETITION_TAGS
from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.storage.table_scans import read_table
from tests.processes import (
    DEADLINE,
    call,
    call_here,
    group_of,
    read_to_the_end,
    started,
    wait_for_files,
    wait_until,
)
from tests.record import ALL_TABLES, SERIES_TABLES, events, instance_of, metadata_of, statuses

CTA, DAMAGED = uid("sample", "CTA"), uid("sample", "damaged")
UNLABELLED, NOT_ON_DISK = uid("sample", "unlabelled"), uid("sample", "not on disk")

# Series of a run that is interrupted: some more than are in the workers' hands.
LOAD = 16

# Lines of a summary, and what clears a terminal, as a name.
FORGED = f"\x1b[2JA\nfailed: labels 1.2: nothing\n{' ' * 28}failed  0"

# As few processes as do: what is told apart here is not how many read.
QUICKLY = ("--workers", 1)


def run(data: Path, *arguments: object, **variables: object) -> subprocess.CompletedProcess:
    return call("aneurysm-assets", "run", "--data", data, *QUICKLY, *arguments, **variables)


def run_here(data: Path, *arguments: object, **variables: object) -> subprocess.CompletedProcess:
    return call_here("run", "--data", data, *QUICKLY, *arguments, **variables)


def status(data: Path, *arguments: object, **variables: object) -> dict:
    shown = call_here("status", "--data", data, "--json", *arguments, **variables)
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def keep_series(data: Path, *series: str) -> None:
    """Leave these series alone on disk, for speed."""
    for directory in (data / "raw" / "series").iterdir():
        if directory.name not in series:
            shutil.rmtree(directory)


def events_of(data: Path) -> dict[str, dict[str | None, int]]:
    with instance_of(data) as instance:
        return {table: dict(events(instance, table)) for table in ALL_TABLES}


PARTS = (
    "of them materialized",
    "materialized before",
    "failed",
    "in progress in another run",
    "left, run it again",
    "kept, their directory is gone",
    "not on disk",
)


def summary(done: subprocess.CompletedProcess) -> dict[str, str]:
    """Return the closing summary: each name and its value; its series add up."""
    lines = (line for line in done.stdout.splitlines() if line.startswith(" "))
    rows = (line.strip().rsplit("  ", 1) for line in lines)
    found = {name.strip(): value for name, value in rows}
    assert int(found["series"]) == sum(int(found[part]) for part in PARTS if part in found)
    return found


def tree(root: Path) -> dict[str, int | None]:
    """Return all files below a root with their times of change."""
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns if path.is_file() else None
        for path in root.rglob("*")
    }


def log_of(data: Path) -> Path:
    """Return the log of the only run there was."""
    (log,) = (data / "logs").iterdir()
    return log


def said_in_a_sentence(process: subprocess.CompletedProcess) -> str:
    assert "Traceback" not in process.stderr
    assert process.stderr.startswith("aneurysm-assets: ")
    assert process.stderr.count("\n") == 1
    return process.stderr


@pytest.fixture(scope="module")
def first_run(sample_data, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Return a data root on which `run` was run once, with several workers, and what it said."""
    data = tmp_path_factory.mktemp("finished") / "data"
    shutil.copytree(sample_data, data)
    return data, call("aneurysm-assets", "run", "--data", data, "--workers", 2)


@pytest.fixture
def finished(first_run, tmp_path) -> Path:
    """Return a data root of the test's own on which `run` was run once."""
    return Path(shutil.copytree(first_run[0], tmp_path / "data"))


# run, on data that are as they should be.


def test_run_makes_everything_and_sums_up(first_run) -> None:
    data, done = first_run
    assert done.returncode == 0, done.stderr
    assert summary(done) == {
        "series": "13",
        "of them materialized": "12",
        "materialized before": "0",
        "failed": "0",
        "in progress in another run": "0",
        "not on disk": "1",
        "changed and read again": "0",
        "images": "83",
        "unreadable files": "2",
        "images with localizers": "7",
        "localizers without an image": "1",
        "series with segmentations": "1",
        "series with problems": (
            "8 (mixed_orientation 2, too_few_slices 2, header_series_differs 1 and 9 more kinds)"
        ),
        "headers read without pydicom": "87.3% of 63",
        "table": str(data / "interim" / "dicom_metadata_with_csv.parquet"),
        "log": str(log_of(data)),
    }
    assert f"not on disk: {NOT_ON_DISK}" in done.stdout
    assert f"directory without a train.csv row: {UNLABELLED}" in done.stdout
    table = pl.read_parquet(data / "interim" / "dicom_metadata_with_csv.parquet")
    assert (table.height, table["SeriesInstanceUID"].n_unique()) == (86, 12)


def test_run_is_quiet_where_there_is_no_terminal(first_run) -> None:
    _, done = first_run
    lines = done.stderr.splitlines()
    assert lines[::2] == [f"{table}: 12 series" for table in SERIES_TABLES]
    for table, line in zip(SERIES_TABLES, lines[1::2], strict=True):
        assert line.startswith(f"{table}: 12 of 12 series, 0 failed, ")
    assert "\x1b" not in done.stdout + done.stderr


def test_run_keeps_a_log_of_all_that_happened(first_run) -> None:
    data, done = first_run
    log = log_of(data).read_text()
    for table in SERIES_TABLES:
        assert f" INFO {table}: begins, 12 series\n" in log
        assert f" INFO {table} {CTA}: done, " in log
        assert f" INFO {table}: ends after " in log
    assert " INFO unified_metadata, volumes, series_quality: end\n" in log
    assert f" WARNING dicom_tags {DAMAGED}: 2 of its files could not be read\n" in log
    for line in done.stdout.splitlines()[:-1]:
        assert f" INFO summary: {line.strip()}\n" in log
    assert re.search(r" INFO ended after [0-9.]+ s\n\Z", log)


def test_run_records_each_series_once_in_the_instance_that_belongs_to_the_data(first_run) -> None:
    data, _ = first_run
    series = {path.name for path in (data / "raw" / "series").iterdir()} - {UNLABELLED}
    once = dict.fromkeys(series, 1)
    assert events_of(data) == dict.fromkeys(SERIES_TABLES, once) | {"unified_metadata": {None: 1}}
    with instance_of(data) as instance:
        assert set(instance.get_dynamic_partitions("series")) == series
        for table in SERIES_TABLES:
            assert set(statuses(instance, table).values()) == {"MATERIALIZED"}
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}
    assert list((data / "dagster" / "locks").glob("*.lock")) == []


def test_a_run_with_nothing_to_do_writes_nothing_and_opens_no_image(finished) -> None:
    # Were one of the files read again, its series would fail.
    for path in (finished / "raw" / "series").rglob("*.dcm"):
        there = path.stat()
        path.write_bytes(b"\0" * there.st_size)
        os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))
    with instance_of(finished) as instance:
        runs = len(instance.get_runs())
    before, record = tree(finished / "interim"), events_of(finished)
    again = run(finished)
    assert again.returncode == 0, again.stderr
    assert (
        summary(again)["of them materialized"],
        summary(again)["materialized before"],
    ) == ("0", "12")
    assert (summary(again)["images"], again.stderr) == ("83", "")
    assert tree(finished / "interim") == before
    assert events_of(finished) == record
    with instance_of(finished) as instance:
        assert len(instance.get_runs()) == runs


def test_series_and_force_take_those_series_again_and_no_others(finished) -> None:
    done = run_here(finished, "--series", CTA, "--series", DAMAGED, "--force")
    assert done.returncode == 0, done.stderr
    counts = events_of(finished)
    for table in SERIES_TABLES:
        assert {uid for uid, count in counts[table].items() if count == 2} == {CTA, DAMAGED}
        assert set(counts[table].values()) == {1, 2}
    assert counts["unified_metadata"] == {None: 2}
    assert summary(done)["of them materialized"] == "2"


def test_unlabelled_takes_directories_without_a_row_too(finished) -> None:
    done = run_here(finished, "--unlabelled")
    assert done.returncode == 0, done.stderr
    assert summary(done)["of them materialized"] == "1"
    for table in SERIES_TABLES:
        assert events_of(finished)[table][UNLABELLED] == 1
    table = pl.read_parquet(finished / "interim" / "dicom_metadata_with_csv.parquet")
    rows = table.filter(pl.col("SeriesInstanceUID") == UNLABELLED)
    assert rows.height == 6
    assert rows["PatientAge"].null_count() == 6


def test_without_train_csv_all_series_are_taken_and_a_warning_says_so(data) -> None:
    keep_series(data, CTA, UNLABELLED)
    (data / "raw" / "train.csv").unlink()
    done = run_here(data)
    assert done.returncode == 0, done.stderr
    assert "warning: there is no train.csv" in done.stdout
    assert summary(done)["of them materialized"] == "2"
    assert "directory without a train.csv row" not in done.stdout


# status.


def test_status_counts_per_asset(first_run) -> None:
    data, _ = first_run
    shown = status(data)
    of_each = {
        "materialized": 12,
        "failed": 0,
        "in_progress": 0,
        "missing": 0,
        "not_on_disk": 1,
        "failed_series": [],
        "stale": 0,
        "stale_series": [],
    }
    assert shown["assets"] == dict.fromkeys(SERIES_TABLES, of_each)
    assert (shown["data"], shown["raw"]) == (str(data), str(data / "raw"))
    assert shown["series_on_disk"] == 12
    assert shown["series_not_on_disk"] == [NOT_ON_DISK]
    assert shown["unlabelled_directories"] == [UNLABELLED]
    assert shown["unified_metadata"]["rows"] == 86
    assert shown["unified_metadata"]["up_to_date"] is True


def test_status_is_a_table_for_people(first_run) -> None:
    shown = call("aneurysm-assets", "status", "--data", first_run[0])
    assert shown.returncode == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0] == [
        "materialized",
        "stale",
        "failed",
        "in",
        "progress",
        "missing",
        "not",
        "on",
        "disk",
    ]
    assert lines[1:5] == [[table, "12", "0", "0", "0", "0", "1"] for table in SERIES_TABLES]
    unified, quality = shown.stdout.splitlines()[5:]
    assert unified.startswith("unified_metadata: 86 rows, up to date, ")
    assert quality.startswith("series_quality: series with problems: 8 (mixed_orientation 2, ")


def test_what_changed_is_listed_by_status_and_taken_again_by_run(finished) -> None:
    (one, other) = sorted((finished / "raw" / "series" / CTA).glob("*.dcm"))[:2]
    one.write_bytes(other.read_bytes())
    csv = finished / "raw" / "train.csv"
    csv.write_text(re.sub(rf"^({re.escape(DAMAGED)}),\d+,", r"\1,33,", csv.read_text(), flags=re.M))
    shutil.rmtree(finished / "raw" / "series" / UNLABELLED)

    shown = status(finished)
    stale = {table: of["stale_series"] for table, of in shown["assets"].items()}
    assert {table: series for table, series in stale.items() if series} == {
        "dicom_tags": [CTA],
        "labels": [DAMAGED],
    }
    assert [of["materialized"] for of in shown["assets"].values()] == [12, 12, 12, 12]
    people = call_here("status", "--data", finished).stdout.splitlines()
    assert people[1].split()[:3] == ["dicom_tags", "12", "1"]

    before = events_of(finished)
    done = run_here(finished)
    assert done.returncode == 0, done.stderr
    assert summary(done)["changed and read again"] == "2"
    assert summary(done)["of them materialized"] == "2"
    expected = before | {
        "dicom_tags": before["dicom_tags"] | {CTA: 2},
        "labels": before["labels"] | {DAMAGED: 2},
        "unified_metadata": {None: 2},
    }
    assert events_of(finished) == expected
    again = run_here(finished)
    assert summary(again)["changed and read again"] == "0"
    assert events_of(finished) == expected


def test_a_series_that_vanished_from_disk_stays_done_and_is_listed(finished) -> None:
    shutil.rmtree(finished / "raw" / "series" / CTA)
    record = events_of(finished)
    shown = status(finished)
    assert shown["series_vanished"] == [CTA]
    assert [(of["materialized"], of["stale"]) for of in shown["assets"].values()] == [(12, 0)] * 4
    people = call_here("status", "--data", finished).stdout
    assert f"vanished from disk: {CTA}" in people
    for _ in range(2):
        done = run_here(finished)
        assert done.returncode == 0
        assert summary(done)["kept, their directory is gone"] == "1"
        # Combined once more, as the table marks it, and not at each run.
        assert events_of(finished) == record | {"unified_metadata": {None: 2}}


# run, on data that are not as they should be.


@pytest.fixture(scope="module")
def faulty(sample_data, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Return a data root with faults of every kind in it after a run, and what the run said."""
    data = tmp_path_factory.mktemp("faulty") / "data"
    shutil.copytree(sample_data, data)
    shutil.rmtree(data / "raw" / "series" / DAMAGED)
    (data / "raw" / "series" / DAMAGED / FORGED).mkdir(parents=True)
    (data / "raw" / "series" / FORGED).mkdir(parents=True)
    with (data / "raw" / "train.csv").open("a") as file:
        file.write("../../etc,50,Male,CTA" + ",0" * 14 + "\n")
    with (data / "raw" / "train_localizers.csv").open("a") as file:
        file.write(f"{CTA},1.2.3,\"{{'x': 1}}\",Basilar Tip\n")
    return data, run(data)


def test_a_run_in_which_series_failed_ends_with_1_and_names_each_with_its_reason(faulty) -> None:
    data, done = faulty
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("failed: ")]
    reason = (
        f"{data}/raw/series/{DAMAGED} has no files that could be images, only directories, which "
        rf"are not entered: \x1b[2JA\nfailed: labels 1.2: nothing\n{' ' * 28}failed  0: "
        "put the images themselves into it"
    )
    assert len(failed) == 2
    assert f"failed: dicom_tags {DAMAGED}: {reason}" in failed
    assert f"failed: localizers {CTA}: train_localizers.csv row 12: coordinates" in failed[1]
    assert summary(done)["failed"] == "2"
    assert summary(done)["of them materialized"] == "10"
    assert "Traceback" not in done.stdout + done.stderr
    log = log_of(data).read_text()
    assert f" ERROR dicom_tags {DAMAGED}: failed: {reason}\n" in log
    assert f" ERROR localizers {CTA}: failed: train_localizers.csv row 12: coordinates" in log


def test_the_series_that_did_not_fail_are_done_and_combined(faulty) -> None:
    data, _ = faulty
    table = pl.read_parquet(data / "interim" / "dicom_metadata_with_csv.parquet")
    assert table["SeriesInstanceUID"].n_unique() == 10
    assert not {CTA, DAMAGED} & set(table["SeriesInstanceUID"])


def test_status_names_what_failed_and_what_was_refused(faulty) -> None:
    data, _ = faulty
    shown = status(data)
    (row,) = shown["refused_rows"]
    assert row["text"] == "../../etc"
    shown = shown["assets"]
    assert shown["dicom_tags"]["failed_series"] == [DAMAGED]
    assert shown["localizers"]["failed_series"] == [CTA]
    assert (shown["dicom_tags"]["materialized"], shown["labels"]["materialized"]) == (11, 12)


def test_a_row_whose_series_is_no_uid_is_refused_by_its_number(faulty) -> None:
    data, done = faulty
    number = len((data / "raw" / "train.csv").read_text().splitlines())
    (refused,) = (line for line in done.stdout.splitlines() if line.startswith("refused: "))
    assert refused.startswith(f"refused: train.csv row {number}: ../../etc: SeriesInstanceUID")
    assert not (data / "etc").exists()


def test_a_name_that_is_no_series_is_listed(faulty) -> None:
    assert f"no series: {FORGED!r}".replace("'", "") in faulty[1].stdout.splitlines()


def test_the_next_run_takes_the_failed_series_alone(faulty, sample_data) -> None:
    data, _ = faulty
    shutil.rmtree(data / "raw" / "series" / DAMAGED)
    shutil.copytree(sample_data / "raw" / "series" / DAMAGED, data / "raw" / "series" / DAMAGED)
    shutil.copy(sample_data / "raw" / "train_localizers.csv", data / "raw")
    done = run_here(data)
    assert done.returncode == 0, done.stdout
    begun = sorted(done.stderr.splitlines()[::2])
    assert begun == ["dicom_tags: 1 series", "localizers: 1 series"]
    counts = events_of(data)
    for table in SERIES_TABLES:
        assert set(counts[table].values()) == {1}
        assert len(counts[table]) == 12
    assert summary(done)["images"] == "83"


def test_a_csv_that_cannot_be_used_ends_with_2_and_nothing_is_written(data) -> None:
    (data / "raw" / "train.csv").write_text("SeriesInstanceUID,PatientAge\n1.2,50\n")
    before = tree(data)
    refused = run(data)
    assert refused.returncode == 2
    said = said_in_a_sentence(refused)
    assert f"{data / 'raw' / 'train.csv'}: columns missing: PatientSex" in said
    assert tree(data) == before


def test_data_that_are_not_there_end_with_2_and_nothing_is_written(tmp_path) -> None:
    missing = run(tmp_path / "data")
    assert missing.returncode == 2
    assert f"{tmp_path}/data/raw/series cannot be read" in said_in_a_sentence(missing)
    assert list(tmp_path.iterdir()) == []


def test_a_series_that_is_not_known_ends_with_2_and_nothing_is_written(data) -> None:
    before = tree(data)
    refused = run_here(data, "--series", CTA, "--series", "1.2.3")
    assert refused.returncode == 2
    assert "series '1.2.3' is neither in train.csv nor on disk" in said_in_a_sentence(refused)
    assert tree(data) == before


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--workers", "0"], {}, "--workers"),
        (["--nonsense"], {}, "--nonsense"),
        ([], {"ANEURYSM_UNLABELLED": "perhaps"}, "ANEURYSM_UNLABELLED='perhaps': give 1 or 0"),
        ([], {"DAGSTER_HOME": "/nowhere"}, 'DAGSTER_HOME "/nowhere" is not a directory'),
    ],
)
def test_an_option_that_cannot_be_used_ends_with_2_and_says_so(
    data, arguments, variables, said
) -> None:
    refused = run_here(data, *arguments, **variables)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (data / "interim").exists()


# Where things are.


@pytest.fixture(scope="module")
def apart(sample_data, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Return where a run left its things that was told by variables, and for two series."""
    root = tmp_path_factory.mktemp("apart")
    done = call(
        *("aneurysm-assets", "run", "--series", CTA, "--series", DAMAGED, "--series", CTA),
        cwd=root,
        ANEURYSM_DATA="state",
        ANEURYSM_RAW=sample_data / "raw",
        ANEURYSM_INTERIM=root / "tables",
        ANEURYSM_WORKERS="1",
    )
    return root, done


def test_the_variables_say_where_things_are(apart, sample_data) -> None:
    root, done = apart
    assert done.returncode == 0, done.stderr
    assert (root / "tables" / "dicom_metadata_with_csv.parquet").is_file()
    assert {path.name for path in root.iterdir()} == {"state", "tables"}
    assert {path.name for path in (root / "state").iterdir()} == {"dagster", "logs"}
    assert [path.name for path in sample_data.iterdir()] == ["raw"]


def test_series_takes_those_series_alone(apart) -> None:
    root, done = apart
    assert events_of(root / "state") == {
        **{table: {CTA: 1, DAMAGED: 1} for table in SERIES_TABLES},
        "unified_metadata": {None: 1},
    }
    assert (summary(done)["of them materialized"], summary(done)["images"]) == ("2", "28")


def test_a_dotenv_file_in_the_working_directory_says_so_too(sample_data, tmp_path) -> None:
    lines = [f"ANEURYSM_DATA={tmp_path}/state", f"ANEURYSM_RAW={sample_data}/raw"]
    (tmp_path / ".env").write_text("\n".join([*lines, "ANEURYSM_UNLABELLED=1", ""]))
    shown = call("aneurysm-assets", "status", "--json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert (found["data"], found["raw"]) == (f"{tmp_path}/state", f"{sample_data}/raw")
    assert found["series_on_disk"] == 13


def test_a_dotenv_file_gives_our_variables_alone_and_runs_no_code(sample_data, tmp_path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    data = Path(shutil.copytree(sample_data, tmp_path / "data"))
    named = sorted(path.name for path in (data / "raw" / "series").iterdir())
    keep_series(data, *named[:5])  # as many as need workers
    lines = [f"ANEURYSM_DATA={data}", f"PYTHONPATH={code}", "LD_PRELOAD=/x.so", "A\x1b[1m=1"]
    (tmp_path / ".env").write_text("\n".join(lines))
    done = call("aneurysm-assets", "run", "--workers", 2, cwd=tmp_path)
    assert (data / "interim" / "dicom_metadata_with_csv.parquet").is_file(), done.stderr
    assert not (tmp_path / "ran").exists()
    assert "of .env these variables are not taken: " in done.stderr
    assert "LD_PRELOAD, PYTHONPATH" in done.stderr
    assert "\x1b" not in done.stderr


def test_an_option_goes_before_a_variable(first_run, tmp_path) -> None:
    data, _ = first_run
    found = status(data, ANEURYSM_DATA=tmp_path / "elsewhere", ANEURYSM_WORKERS="1")
    assert found["data"] == str(data)


# export; what every command has in common.


def test_export_writes_the_table_in_parts(first_run, tmp_path) -> None:
    data, _ = first_run
    done = call(
        *("aneurysm-assets", "export", "--data", data),
        *("--to", tmp_path / "parts", "--by", "Modality_train"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote 86 rows in 4 files to {tmp_path}/parts\n"
    parts = pl.read_parquet(tmp_path / "parts", hive_schema={"Modality_train": pl.String})
    table = pl.read_parquet(data / "interim" / "dicom_metadata_with_csv.parquet")
    key = ["SeriesInstanceUID", "dicom_path", "frame_index", "localizer_index"]
    assert parts.select(table.columns).sort(key).equals(table.sort(key))


def as_former_script(series: str, raw: Path) -> pd.DataFrame:
    """Return what the replaced script made of a series of single-frame files, lists as text."""
    train, points = (pd.read_csv(raw / name) for name in ("train.csv", "train_localizers.csv"))
    rows = []
    for path in sorted((raw / "series" / series).glob("*.dcm")):
        header = pydicom.dcmread(path)
        row = {column.name: header.get(column.name) for column in COMPETITION_TAGS}
        row["TransferSyntaxUID"] = header.file_meta.TransferSyntaxUID
        lists = {name: list(map(float, v)) for name, v in row.items() if isinstance(v, MultiValue)}
        shape = {"pixel_shape": f"({header.Rows}, {header.Columns})", "dicom_path": str(path)}
        rows.append(row | lists | shape | {"SeriesInstanceUID": series})
    images = pd.DataFrame(rows).merge(
        train, on="SeriesInstanceUID", how="left", suffixes=("_dicom", "_train")
    )
    images = images.merge(points, on=["SeriesInstanceUID", "SOPInstanceUID"], how="left")
    for kind in ("nii", "cowseg"):
        suffix = "" if kind == "nii" else "_cowseg"
        path = raw / "segmentations" / series / f"{series}{suffix}.nii"
        nifti = nib.load(path)
        images[f"{kind}_path"] = str(path)
        images[f"{kind}_shape"] = str(nifti.shape)
        images[f"{kind}_affine"] = str(nifti.affine.tolist())
        images[f"{kind}_header_pixdim"] = str(nifti.header["pixdim"].tolist())
    return images


def test_export_as_the_former_script_has_its_columns_and_values(first_run, tmp_path) -> None:
    data, _ = first_run
    to = tmp_path / "old.csv"
    done = call_here(*("export", "--data", data, "--to", to, "--as", "01_create_meta_data"))
    assert done.returncode == 0, done.stderr
    ours = pd.read_csv(to)
    (segmented,) = ours.dropna(subset=["nii_path"])["SeriesInstanceUID"].unique()
    as_former_script(segmented, data / "raw").to_csv(tmp_path / "theirs.csv", index=False)
    theirs = pd.read_csv(tmp_path / "theirs.csv")
    ours = ours[ours["SeriesInstanceUID"] == segmented]
    assert list(ours.columns) == list(theirs.columns)
    key = ["SOPInstanceUID", "coordinates"]
    ours, theirs = (each.sort_values(key, ignore_index=True) for each in (ours, theirs))
    for each in (ours, theirs):
        each["coordinates"] = each["coordinates"].map(ast.literal_eval, na_action="ignore")
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--to x.xlsx", "name a .csv or .parquet file, or columns by --by"),
        ("--to x.csv --by Modality_train", "with --by name a folder"),
        ("--to x --by Modality_train --rows series", "--by divides the rows of images"),
        ("--to x.csv --as 01_create_meta_data --rows series", "leave --by and --rows out"),
    ],
)
def test_options_of_export_that_do_not_go_together_are_refused(tmp_path, options, said) -> None:
    refused = call_here("export", "--data", tmp_path, *options.split())
    assert refused.returncode == 2
    assert said in " ".join(refused.stderr.split())


def test_where_export_cannot_write_it_says_what_is_in_the_way(first_run, tmp_path) -> None:
    data, _ = first_run
    (tmp_path / "file").touch()
    failed = call_here("export", "--data", data, "--to", tmp_path / "file" / "x.csv")
    assert failed.returncode == 1
    assert f"could not go on (File exists: {tmp_path / 'file'}); what was at " in failed.stderr


def refused_export(data: Path, output: int | None = None, **variables: object) -> str:
    """Return what `export` says where there is no unified table."""
    command = ("aneurysm-assets", "export", "--data", data, "--to", data / "x", "--by", "location")
    if output is None:
        refused = call(*command, **variables)
        assert refused.returncode == 2
        return said_in_a_sentence(refused)
    with started(*command, output=output, **variables) as process:
        assert process.wait(timeout=DEADLINE) == 2
    return ""


def test_export_without_a_table_ends_with_2_and_a_sentence(tmp_path) -> None:
    said = refused_export(tmp_path, FORCE_COLOR=1)
    assert "make it with `aneurysm-assets run`" in said
    assert "\x1b" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(tmp_path, variables, coloured) -> None:
    reading, writing = pty.openpty()
    refused_export(tmp_path, writing, **variables)
    os.close(writing)
    said = read_to_the_end(reading)
    assert "there is no unified table" in said
    assert ("\x1b[31m" in said) is coloured
    assert ("\x1b" in said) is coloured


@pytest.mark.parametrize("command", [[], *([name] for name in cli.commands)])
def test_help_has_examples_and_fits_a_terminal_of_80_columns(command) -> None:
    shown = CliRunner().invoke(cli, [*command, "--help"], prog_name="aneurysm-assets")
    assert shown.exit_code == 0
    assert "\n  Examples:\n    " in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    assert "..." not in shown.output.replace("[ARGS]...", "")


# sample.


def test_sample_writes_data_that_are_ready_for_run(tmp_path) -> None:
    written = call("aneurysm-assets", "sample", tmp_path / "new")
    assert written.returncode == 0, written.stderr
    assert f"try `aneurysm-assets run --data {tmp_path / 'new'}`" in written.stdout
    assert len(list((tmp_path / "new" / "raw" / "series").iterdir())) == 14


def test_sample_writes_a_larger_one_for_load(tmp_path) -> None:
    written = call_here("sample", tmp_path, "--series", 3, "--files", 2)
    assert written.returncode == 0, written.stderr
    series = list((tmp_path / "raw" / "series").iterdir())
    assert [len(list(directory.iterdir())) for directory in series] == [2, 2, 2]
    half = call_here("sample", tmp_path, "--series", 3)
    assert half.returncode == 2
    assert "--series and --files go together" in half.stderr


def test_sample_never_touches_a_raw_that_it_did_not_write(tmp_path) -> None:
    (tmp_path / "raw" / "series" / "1.2.3").mkdir(parents=True)
    (tmp_path / "raw" / "train.csv").write_text("mine")
    before = tree(tmp_path)
    refused = call_here("sample", tmp_path)
    assert refused.returncode == 2
    assert "was not written by `aneurysm-assets sample`" in said_in_a_sentence(refused)
    assert tree(tmp_path) == before


# Two at a time, Ctrl-C, and a disk that takes no more.


@pytest.fixture(scope="module")
def load_data(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("load")
    write_load_sample(data, series=LOAD, files=20)
    return data


@pytest.fixture(scope="module")
def interrupted(load_data, tmp_path_factory) -> Iterator[dict]:
    """Return what is seen of a run that has a second one beside it and then gets a Ctrl-C."""
    data = Path(shutil.copytree(load_data, tmp_path_factory.mktemp("interrupted") / "data"))
    with (
        (data / "log").open("w") as log,
        started("aneurysm-assets", "run", "--data", data, "--workers", 2, output=log) as process,
    ):
        wait_for_files(data / "interim" / "dicom_tags", 4, process)
        # Stopped, so that it is sure to be there still when the second has started.
        os.killpg(process.pid, signal.SIGSTOP)
        second = run(data)
        os.killpg(process.pid, signal.SIGCONT)
        # As a terminal does it: to every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
        wait_until(lambda: not group_of(process), "no process of the run was left")
    return {
        "data": data,
        "second": second,
        "exit": process.returncode,
        "said": (data / "log").read_text(),
        "events": events_of(data),
        "status": status(data)["assets"],
    }


def test_a_second_run_at_the_same_time_is_refused(interrupted) -> None:
    assert interrupted["second"].returncode == 2
    said = said_in_a_sentence(interrupted["second"])
    assert f"another `aneurysm-assets run` works on {interrupted['data']}" in said


def test_ctrl_c_ends_the_run_and_says_how_to_go_on(interrupted) -> None:
    assert interrupted["exit"] == 130
    said = interrupted["said"]
    assert "interrupted; what is done is done: run the same command again to go on" in said
    assert "Traceback" not in said
    assert " WARNING interrupted after " in log_of(interrupted["data"]).read_text()


def test_after_ctrl_c_what_is_done_is_done_and_the_rest_is_missing(interrupted) -> None:
    done = interrupted["events"]["dicom_tags"]
    assert 0 < len(done) < LOAD
    assert set(done.values()) == {1}
    asset = interrupted["status"]["dicom_tags"]
    assert (asset["materialized"], asset["missing"]) == (len(done), LOAD - len(done))
    assert (asset["failed"], asset["in_progress"]) == (0, 0)
    with instance_of(interrupted["data"]) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.CANCELED]


def test_after_ctrl_c_the_next_run_takes_the_rest_alone(interrupted) -> None:
    data = interrupted["data"]
    assert call("aneurysm-assets", "run", "--data", data, "--workers", 2).returncode == 0
    series = {path.name for path in (data / "raw" / "series").iterdir()}
    assert events_of(data) == {
        **dict.fromkeys(SERIES_TABLES, dict.fromkeys(series, 1)),
        "unified_metadata": {None: 1},
    }
    interim = (data / "interim").rglob("*")
    assert [path for path in interim if path.name.startswith(".")] == []


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Return a file system that holds next to nothing."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_fails_the_series_it_meets_and_leaves_no_partial_file(data, small_disk) -> None:
    on_disk = sorted(path.name for path in (data / "raw" / "series").iterdir())
    keep_series(data, *[series for series in on_disk if series != UNLABELLED][:6])
    interim = small_disk / "interim"
    full = run(data, "--interim", interim)
    assert full.returncode == 1
    assert "Traceback" not in full.stdout + full.stderr
    assert f": {os.strerror(errno.ENOSPC)}" in full.stdout
    done = {path.stem: path for path in (interim / "dicom_tags").iterdir()}
    assert 0 < len(done) < 6
    assert [path for path in interim.rglob("*") if path.name.startswith(".")] == []
    for path in done.values():
        assert read_table(DICOM_TAGS, path).height > 0
    with instance_of(data) as instance:
        assert set(events(instance, "dicom_tags")) == set(done)
        failed = {s for s, state in statuses(instance, "dicom_tags").items() if state == "FAILED"}
        assert failed == set(statuses(instance, "dicom_tags")) - set(done)

    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    again = run_here(data, "--interim", interim)
    assert again.returncode == 0, again.stdout
    for table in SERIES_TABLES:
        assert set(events_of(data)[table].values()) == {1}
    with instance_of(data) as instance:
        assert metadata_of(instance, "unified_metadata")["series"] == 6


def test_an_output_that_may_not_be_written_fails_every_series_with_the_reason(
    data, small_disk
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    keep_series(data, CTA, DAMAGED)
    (data / "logs").write_text("no directory")
    refused = run_here(data, "--interim", small_disk / "interim")
    assert refused.returncode == 1
    assert summary(refused)["log"].startswith("not whole: File exists: ")
    assert "Traceback" not in refused.stdout + refused.stderr
    failed = [line for line in refused.stdout.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2 * len(SERIES_TABLES)
    assert all(os.strerror(errno.EROFS) in line for line in failed)
    assert summary(refused)["table"].startswith("none")


def test_a_disk_that_cannot_hold_the_record_ends_with_1_and_a_sentence(
    sample_data, small_disk
) -> None:
    full = run(small_disk, "--raw", sample_data / "raw")
    assert full.returncode == 1
    assert "could not go on" in said_in_a_sentence(full)
