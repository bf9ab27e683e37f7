"""`aneurysm-assets demo`: what a newcomer sees in the first minute."""

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from aneurysm_assets.cli.demo import series_lines
from aneurysm_assets.sample import write_sample
from aneurysm_assets.sample.small import HEAD
from tests.processes import DEADLINE, call, call_here, read_to_the_end, started


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Return a data root that the demo made, where other data are set, and what it said."""
    root = tmp_path_factory.mktemp("demo")
    elsewhere = {"ANEURYSM_RAW": root / "mine", "ANEURYSM_INTERIM": root / "mine"}
    return root / "demo", call("aneurysm-assets", "demo", root / "demo", **elsewhere)


def test_it_prints_ten_columns_of_one_line_per_series_and_what_to_open(shown) -> None:
    data, done = shown
    assert done.returncode == 0, done.stderr
    _, table, after = done.stdout.split("\n\n")
    heading, *lines = table.splitlines()
    assert len(re.split(r"  +", heading)) == 10
    assert len(lines) == 13
    (head,) = (line for line in lines if HEAD.uid[-8:] in line)
    assert re.split(r"  +", head)[1:] == (
        ["CTA", "64", "176 x 176", "2.4", "axial", "57", "Female", "yes", "2"]
    )
    assert f"{data}/interim/dataset_report.html\n" in after
    assert f"ui --data {data}\n" in after
    assert "\x1b" not in done.stdout


def test_what_it_names_is_there_and_nothing_else_was_written(shown) -> None:
    data, done = shown
    paths = [Path(path) for path in re.findall(r"\S+/interim/\S+", done.stdout)]
    assert [path.suffix for path in paths] == [".parquet", ".html", ".png"]
    assert all(path.stat().st_size > 10_000 for path in paths)
    assert Image.open(paths[-1]).width > 500
    assert [path.name for path in data.parent.iterdir()] == ["demo"]


def test_on_a_terminal_it_is_in_colour_and_goes_on_from_what_is_there(shown) -> None:
    data, _ = shown
    reading, writing = pty.openpty()
    with started("aneurysm-assets", "demo", data, output=writing, TERM="xterm") as process:
        os.close(writing)
        said = read_to_the_end(reading)
        assert process.wait(timeout=DEADLINE) == 0
    assert "is used as it is" in said
    assert "\x1b[33m" in said


def test_data_that_are_not_the_sample_are_refused_and_stay_as_they_were(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(write_sample(tmp_path / "made") / "series", raw / "series")
    refused = call_here("demo", tmp_path)
    assert refused.returncode == 2
    assert f"{raw} was not written by `aneurysm-assets sample` (series)" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "raw"]


def test_columns_stand_below_each_other_numbers_to_the_right() -> None:
    rows = pl.DataFrame({"series": ["a", "bcdefgh"], "age": ["7", "107"], "aneurysm": ["yes", "-"]})
    assert list(series_lines(rows)) == [
        ("series   age  aneurysm", "cyan"),
        ("a          7  yes", "yellow"),
        ("bcdefgh  107  -", None),
    ]
