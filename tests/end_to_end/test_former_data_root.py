"""A data root of before the package was laid out in folders goes on working.

`tests/data/former_data_root.tar.xz` was made with commit 46d1abf, there by its own
`aneurysm-assets run --data data` after these lines, without the logs, by `tar --format=pax`:

    broken = segmented(ct("broken", 2), {(1, 1, 1): 1})
    broken.volumes["_cowseg"] = b"no NIfTI"
    segments = {(2, 2, 1): 1, (9, 5, 1): 7}
    write(Path("data/raw"), [
        segmented(ct("segmented", 3), segments).point(1, 2.0, 2.0),
        multi_frame("frames", 4).point(2, 5.0, 4.0),
        mr("plain", 3),
        broken,
    ])
    for path in Path("data").rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))  # whole seconds, as tarfile keeps no others
"""

import shutil
import tarfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from aneurysm_assets.schema.tables import UNIFIED_METADATA
from aneurysm_assets.storage.table_files import find_table, read_table
from tests.made_up import uid_of
from tests.processes import call
from tests.record import SERIES_TABLES, events, instance_of

FORMER = Path(__file__).parent.parent / "data" / "former_data_root.tar.xz"
SERIES = {uid_of(name) for name in ("segmented", "frames", "plain", "broken")}
BROKEN = uid_of("broken")
ONCE = {table: Counter(SERIES) for table in SERIES_TABLES}


FORMER_NAMES = pytest.mark.xfail(reason="columns of former names are not read yet")


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """Return a data root of the test's own, as the former version left it."""
    with tarfile.open(FORMER) as archive:
        archive.extractall(tmp_path / "former", filter="data")
    return tmp_path / "former"


def recorded(data: Path) -> dict[str, Counter[str | None]]:
    """Count the materializations of each series, by table."""
    with instance_of(data) as instance:
        return {table: events(instance, table) for table in SERIES_TABLES}


def status(data: Path) -> list[list[str]]:
    """Return what `status` says of the series' tables, word by word."""
    said = call("aneurysm-assets", "status", "--data", data)
    assert said.returncode == 0, said.stderr
    return [line.split() for line in said.stdout.splitlines() if line.startswith(SERIES_TABLES)]


def unified(data: Path) -> pl.DataFrame:
    path = find_table(data / "interim" / "dicom_metadata_with_csv")
    assert path is not None
    return read_table(UNIFIED_METADATA, path)


def fresh_run(raw: Path, data: Path) -> pl.DataFrame:
    """Read the same input into a new data root, and return its unified table."""
    shutil.copytree(raw, data / "raw")
    call("aneurysm-assets", "run", "--data", data)
    return unified(data)


@FORMER_NAMES
def test_what_was_done_stays_done_and_only_what_failed_is_read_again(former, tmp_path) -> None:
    before = recorded(former)
    assert before == ONCE | {"segmentation_meta": Counter(SERIES - {BROKEN})}
    said = status(former)
    assert said == [
        [table, "4", "0", "0", "0", "0", "0"] for table in SERIES_TABLES if "seg" not in table
    ] + [["segmentation_meta", "3", "0", "1", "0", "0", "0"]]

    run = call("aneurysm-assets", "run", "--data", former)
    assert run.returncode == 1
    assert f"segmentation_meta {BROKEN}" in run.stdout
    assert recorded(former) == before
    assert status(former) == said
    assert_frame_equal(unified(former), fresh_run(former / "raw", tmp_path / "fresh"))


@FORMER_NAMES
def test_a_series_that_failed_before_is_read_once_its_input_is_good(former, tmp_path) -> None:
    (former / "raw" / "segmentations" / BROKEN / f"{BROKEN}_cowseg.nii").unlink()
    run = call("aneurysm-assets", "run", "--data", former)
    assert run.returncode == 0, run.stdout
    assert recorded(former) == ONCE
    assert_frame_equal(unified(former), fresh_run(former / "raw", tmp_path / "fresh"))


@pytest.mark.parametrize("variable", ["DAGSTER_HOME", None])
def test_a_dagster_yaml_of_before_names_classes_that_are_found(former, tmp_path, variable) -> None:
    (tmp_path / "dagster.yaml").write_text(
        "storage:\n"
        "  custom:\n"
        "    module: aneurysm_assets.instance\n"
        "    class: DataRootStorage\n"
        "    config: {}\n"
        "compute_logs:\n"
        "  module: aneurysm_assets.instance\n"
        "  class: DataRootComputeLogManager\n"
        "  config: {}\n"
    )
    home = {variable: tmp_path} if variable else {}
    said = call("aneurysm-assets", "status", "--data", former, cwd=tmp_path, **home)
    assert said.returncode == 0, said.stderr
    assert "segmentation_meta               3            0            1" in said.stdout


def test_a_dagster_yaml_of_a_former_cluster_is_refused_and_names_what_is_not_found(
    former, tmp_path
) -> None:
    (tmp_path / "dagster.yaml").write_text(
        "storage:\n"
        "  custom:\n"
        "    module: aneurysm_assets.postgresql\n"
        "    class: PostgresStorage\n"
        "    config: {}\n"
    )
    said = call("aneurysm-assets", "status", "--data", former, DAGSTER_HOME=tmp_path)
    assert said.returncode == 2
    assert "Traceback" not in said.stderr
    assert "the Dagster instance cannot be opened" in said.stderr
    assert "aneurysm_assets.postgresql" in said.stderr
