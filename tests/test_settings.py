"""Where things are: the environment, its defaults, and what is refused."""

import os
from pathlib import Path

import pytest

from aneurysm_assets.errors import InputError, SeriesError
from aneurysm_assets.settings import (
    Settings,
    default_workers,
    is_table_automation_on,
    series_root_unreadable,
)


@pytest.mark.parametrize(("text", "is_on"), [("", True), ("1", True), ("0", False), ("off", False)])
def test_the_sensor_that_combines_is_on_unless_the_environment_says_no(text, is_on) -> None:
    assert is_table_automation_on({"ANEURYSM_TABLE_AUTOMATION": text}) == is_on


def test_with_nothing_set_everything_is_below_data_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({})
    data = tmp_path / "data"
    assert settings == Settings(data, data / "raw", data / "interim", default_workers(), False)
    assert settings.dagster_home == data / "dagster"
    assert settings.series_root == data / "raw" / "series"
    assert settings.segmentations_root == data / "raw" / "segmentations"
    assert settings.train_csv == data / "raw" / "train.csv"
    assert settings.localizers_csv == data / "raw" / "train_localizers.csv"
    assert settings.unified_table == data / "interim" / "dicom_metadata_with_csv"


@pytest.mark.parametrize(
    ("named", "given"),
    [
        pytest.param({"ANEURYSM_DATA": "it"}, "it", id="as the data root"),
        pytest.param({"ANEURYSM_RAW": "it/series"}, "it", id="a level too deep"),
        pytest.param({"ANEURYSM_RAW": "."}, None, id="elsewhere"),
        pytest.param({"ANEURYSM_RAW": "above"}, "above/raw", id="a level too high"),
    ],
)
def test_where_another_folder_of_the_data_was_named_the_right_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named, given
) -> None:
    monkeypatch.chdir(tmp_path)
    for raw in ("it", "above/raw"):
        (tmp_path / raw / "series").mkdir(parents=True)
    settings = Settings.from_environment(named)
    said = series_root_unreadable(settings, "No such file or directory")
    assert str(settings.series_root) in said
    assert said.endswith(
        f"there are series below {tmp_path / given}: give --raw {tmp_path / given}"
        if given
        else "say where they are with --data or --raw (ANEURYSM_DATA, ANEURYSM_RAW)"
    )


def test_the_data_root_moves_everything(tmp_path: Path) -> None:
    settings = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path)})
    assert settings.data == tmp_path
    assert settings.raw == tmp_path / "raw"
    assert settings.interim == tmp_path / "interim"
    assert settings.dagster_home == tmp_path / "dagster"


def test_raw_and_interim_can_be_set_apart(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {
            "ANEURYSM_DATA": str(tmp_path / "d"),
            "ANEURYSM_RAW": str(tmp_path / "r"),
            "ANEURYSM_INTERIM": str(tmp_path / "i"),
        }
    )
    assert settings.data == tmp_path / "d"
    assert settings.series_root == tmp_path / "r" / "series"
    assert settings.train_csv == tmp_path / "r" / "train.csv"
    assert settings.unified_table.parent == tmp_path / "i"
    assert settings.table_of_series("labels", "1.2") == tmp_path / "i" / "labels" / "1.2"
    assert settings.dagster_home == tmp_path / "d" / "dagster"


@pytest.mark.parametrize("name", ["ANEURYSM_DATA", "ANEURYSM_RAW", "ANEURYSM_INTERIM"])
def test_paths_are_absolute_and_a_tilde_is_the_home_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    attribute = name.rpartition("_")[2].lower()
    relative = Settings.from_environment({name: "some/where"})
    assert getattr(relative, attribute) == tmp_path / "some" / "where"
    home = Settings.from_environment({name: "~/there"})
    assert getattr(home, attribute) == tmp_path / "home" / "there"


@pytest.mark.parametrize("name", ["ANEURYSM_DATA", "ANEURYSM_RAW", "ANEURYSM_INTERIM"])
def test_a_variable_that_is_set_to_nothing_is_not_set(name: str) -> None:
    assert Settings.from_environment({name: ""}) == Settings.from_environment({})


@pytest.mark.parametrize("name", ["ANEURYSM_DATA", "ANEURYSM_RAW", "ANEURYSM_INTERIM"])
def test_a_home_directory_of_nobody_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}='~nobody.such/x'"):
        Settings.from_environment({name: "~nobody.such/x"})


def test_the_process_s_environment_is_read_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANEURYSM_DATA", str(tmp_path))
    monkeypatch.setenv("ANEURYSM_WORKERS", "3")
    monkeypatch.setenv("ANEURYSM_UNLABELLED", "1")
    raw, interim = tmp_path / "raw", tmp_path / "interim"
    assert Settings.from_environment() == Settings(tmp_path, raw, interim, 3, True)


@pytest.mark.parametrize(("text", "threads"), [("", None), ("0", 0), (" 32 ", 32)])
def test_the_number_of_threads_is_taken(text: str, threads: int | None) -> None:
    assert Settings.from_environment({"ANEURYSM_THREADS": text}).threads == threads


@pytest.mark.parametrize("text", ["-1", "many", "1.5", "100000"])
def test_a_number_of_threads_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match="ANEURYSM_THREADS"):
        Settings.from_environment({"ANEURYSM_THREADS": text})


@pytest.mark.parametrize(("text", "workers"), [("1", 1), (" 12 ", 12), ("007", 7)])
def test_the_number_of_workers_is_taken(text: str, workers: int) -> None:
    assert Settings.from_environment({"ANEURYSM_WORKERS": text}).workers == workers


@pytest.mark.parametrize("text", ["", " "])
def test_without_a_number_of_workers_there_is_one_a_processor(text: str) -> None:
    workers = Settings.from_environment({"ANEURYSM_WORKERS": text}).workers
    assert workers == default_workers() >= 1
    if hasattr(os, "sched_getaffinity"):
        assert workers == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "1e2", "²", "0x2", "1 2"])
def test_a_number_of_workers_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError) as error:
        Settings.from_environment({"ANEURYSM_WORKERS": text})
    assert f"ANEURYSM_WORKERS={text!r}" in str(error.value)


@pytest.mark.parametrize(("text", "series"), [("", None), (" ", None), ("1", 1), (" 500 ", 500)])
def test_the_number_of_series_a_run_is_taken(text: str, series: int | None) -> None:
    assert Settings.from_environment({"ANEURYSM_SERIES_PER_RUN": text}).series_per_run == series


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "all"])
def test_a_number_of_series_a_run_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match=f"ANEURYSM_SERIES_PER_RUN='{text}'"):
        Settings.from_environment({"ANEURYSM_SERIES_PER_RUN": text})


@pytest.mark.parametrize(
    ("text", "unlabelled"),
    [(t, True) for t in ("1", "true", "TRUE", "Yes", " on ")]
    + [(t, False) for t in ("", "0", "false", "No", "off", " ")],
)
def test_unlabelled_is_a_switch(text: str, unlabelled: bool) -> None:
    assert Settings.from_environment({"ANEURYSM_UNLABELLED": text}).unlabelled is unlabelled


@pytest.mark.parametrize("text", ["2", "maybe", "truee"])
def test_a_switch_that_is_neither_on_nor_off_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match=f"ANEURYSM_UNLABELLED='{text}'"):
        Settings.from_environment({"ANEURYSM_UNLABELLED": text})


@pytest.mark.parametrize("key", ["../1.2", "1.2/3", "", "..", "1.2\n", "a", "1" * 65])
def test_a_key_that_is_no_uid_never_becomes_a_path(key: str, tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path, tmp_path, 1)
    with pytest.raises(SeriesError) as error:
        settings.table_of_series("labels", key)
    assert repr(key) in str(error.value)


def test_what_whole_coordinates_of_a_point_are_is_a_setting() -> None:
    assert Settings.from_environment({}).pixel_coordinates == "centres"
    given = {"ANEURYSM_PIXEL_COORDINATES": " Corners "}
    assert Settings.from_environment(given).pixel_coordinates == "corners"
    with pytest.raises(InputError, match="ANEURYSM_PIXEL_COORDINATES='middle'"):
        Settings.from_environment({"ANEURYSM_PIXEL_COORDINATES": "middle"})
