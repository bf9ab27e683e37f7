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

import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from aneurysm_assets.schema.tables import (
    DICOM_TAGS,
    LABELS,
    LOCALIZERS,
    SEGMENTATION_META,
    UNIFIED_METADATA,
)
from aneurysm_assets.storage.table_names import find_table, find_tables
from aneurysm_assets.storage.table_scans import read_table, scan_tables
from tests.made_up import uid_of
from tests.processes import call, call_here
from tests.record import SERIES_TABLES, events, instance_of

FORMER = Path(__file__).parent.parent / "data" / "former_data_root.tar.xz"
SERIES = {uid_of(name) for name in ("segmented", "frames", "plain", "broken")}
BROKEN = uid_of("broken")
ONCE = {table: Counter(SERIES) for table in SERIES_TABLES}


ADDED = {
    column.name
    for table in (DICOM_TAGS, LABELS, LOCALIZERS, SEGMENTATION_META)
    for column in table.columns
    if column.since
}
"""Columns that the former version did not have."""


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
    said = call_here("status", "--data", data)
    assert said.returncode == 0, said.stderr
    return [line.split() for line in said.stdout.splitlines() if line.startswith(SERIES_TABLES)]


def unified(data: Path) -> pl.DataFrame:
    path = find_table(data / "interim" / "dicom_metadata_with_csv")
    assert path is not None
    return read_table(UNIFIED_METADATA, path)


def fresh_run(raw: Path, data: Path) -> pl.DataFrame:
    """Read the same input into a new data root, and return its unified table."""
    shutil.copytree(raw, data / "raw")
    call_here("run", "--data", data)
    return unified(data)


@pytest.fixture
def whole(former: Path) -> Path:
    """Return the same, with one row of `segmentation_meta` and of `labels` as CSV."""
    for table, uid in (("segmentation_meta", uid_of("segmented")), ("labels", uid_of("plain"))):
        path = former / "interim" / table / f"{uid}.parquet"
        frame = pl.read_parquet(path)
        arrays = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
        as_json = [
            pl.Series(name, map(json.dumps, frame[name].to_arrow().to_pylist())) for name in arrays
        ]
        frame.with_columns(as_json).write_csv(path.with_name(f"{uid}.csv"))
        path.unlink()
    return former


@pytest.mark.parametrize("kind", ["former", "whole"])
def test_what_a_former_version_did_not_write_is_null_and_the_rest_is_as_it_was(
    request, kind
) -> None:
    former = request.getfixturevalue(kind)
    for table in (DICOM_TAGS, LABELS, LOCALIZERS, SEGMENTATION_META):
        paths = find_tables(former / "interim" / table.name).values()
        frame = scan_tables(table, list(paths)).collect()
        assert frame.schema == table.schema
        added = [name for name in frame.columns if name in ADDED]
        assert [frame[name].null_count() for name in added] == [frame.height] * len(added)
        assert frame.height > 0
    assert frame["nii_shape"].null_count() == frame["cowseg_affine"].null_count() == 0


def test_a_run_reads_again_what_failed_and_what_was_read_by_other_rules(former, tmp_path) -> None:
    before = recorded(former)
    assert before == ONCE | {"segmentation_meta": Counter(SERIES - {BROKEN})}
    assert status(former) == [
        ["dicom_tags", "4", "4", "0", "0", "0", "0"],
        ["labels", "4", "0", "0", "0", "0", "0"],
        ["localizers", "4", "0", "0", "0", "0", "0"],
        ["segmentation_meta", "3", "1", "1", "0", "0", "0"],
    ]

    run = call_here("run", "--data", former)
    assert run.returncode == 0, run.stdout
    again = Counter([*SERIES, uid_of("segmented")])
    twice = Counter(dict.fromkeys(SERIES, 2))
    assert recorded(former) == ONCE | {"dicom_tags": twice, "segmentation_meta": again}
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
    assert "segmentation_meta               3            1            1" in said.stdout


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
