"""`--tag` from the command line to the unified table: each run is a process of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import aneurysm_assets as aa
from aneurysm_assets.sample.dicom import uid, write_slices
from aneurysm_assets.sample.grid import Grid
from tests.graph import Graph, failure

GRID = Grid((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.5, 0.5), 2.0, (3, 4, 4))


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("made") / "raw"
    for name in ("a", "b"):
        folder = made / "series" / uid(name)
        write_slices(folder, folder.name, GRID, np.zeros(GRID.shape, np.int16))
    return made


@pytest.fixture
def root(raw: Path, tmp_path: Path) -> Path:
    shutil.copytree(raw, tmp_path / "raw")
    return tmp_path


@pytest.fixture(scope="module")
def story(raw: Path, tmp_path_factory) -> Path:
    """Return a data root that was read without attributes: two tests follow it in their order."""
    root = tmp_path_factory.mktemp("story")
    shutil.copytree(raw, root / "raw")
    assert run(root).startswith("0\n")
    assert "KVP" not in table(root).columns
    return root


def run(root: Path, *tags: str, **environment: str) -> str:
    given = [argument for tag in tags for argument in ("--tag", tag)]
    result = subprocess.run(  # noqa: PLW1510 - the code is what is looked at
        [
            *(sys.executable, "-m", "aneurysm_assets.cli.main", "run", "--data", str(root)),
            *("--unlabelled", "--workers", "1", *given),
        ],
        capture_output=True,
        text=True,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), **environment},
    )
    return f"{result.returncode}\n{result.stdout}\n{result.stderr}"


def table(root: Path) -> pl.DataFrame:
    return pl.read_parquet(root / "interim" / "dicom_metadata_with_csv.parquet")


def test_an_attribute_that_is_asked_for_is_a_column_and_makes_series_stale(story):
    root = story
    told = run(root, "KVP", "ConvolutionKernel")
    assert told.startswith("0\n"), told
    assert "headers read without pydicom  100.0%" in told
    found = table(root)
    assert found["KVP"].to_list() == [120.0] * 6
    assert found["ConvolutionKernel"].to_list() == ["H20f"] * 6
    images = aa.open_dataset(root).images().select("KVP", "volume_index").collect()
    assert images.rows() == [(120.0, 0)] * 6
    assert " changed and read again  0" in run(root, ANEURYSM_TAGS="ConvolutionKernel,KVP")


def test_tables_with_other_attributes_than_are_asked_for_go_on_being_read(root):
    assert run(root, "ExposureTime", "KVP").startswith("0\n")
    gone = root / "raw" / "series" / uid("a")
    gone.rename(root / "gone")
    assert run(root, "Exposure", "KVP").startswith("0\n")
    found = table(root)
    assert found["KVP"].to_list() == [120.0] * 6
    assert found["Exposure"].to_list() == [None] * 6
    assert "ExposureTime" not in found.columns
    assert (root / "interim" / "dicom_tags" / f"{uid('a')}.parquet").is_file()


def test_attributes_of_before_are_kept_until_they_are_dropped_in_so_many_words(story, monkeypatch):
    root = story
    assert " changed and read again  0" in run(root)
    assert table(root)["KVP"].to_list() == [120.0] * 6
    # Dagster's own processes read the variable before they know the data root.
    monkeypatch.delenv("ANEURYSM_TAGS", raising=False)
    graph = Graph(root)
    assert "the attributes ConvolutionKernel, KVP, for which" in failure(
        graph.run("unified_metadata"), "unified_metadata"
    )
    assert " changed and read again  2" in run(root, "")
    assert "KVP" not in table(root).columns


def test_what_cannot_be_is_told_before_anything_is_read(root):
    told = run(root, "PixelData")
    assert told.startswith("2\n")
    assert "PixelData cannot be a column" in told
    assert not (root / "interim").exists()
