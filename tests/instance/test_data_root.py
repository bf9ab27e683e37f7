"""Where Dagster's state is, and that it is the state of one data root only."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
import yaml

from aneurysm_assets.errors import InputError
from aneurysm_assets.instance import data_root as instances
from aneurysm_assets.instance.data_root import claim, open_instance
from aneurysm_assets.runs.partitions import register, registered
from aneurysm_assets.settings import Settings
from tests import record
from tests.conftest import ROOT
from tests.processes import call


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def opened(monkeypatch, **variables: object) -> Iterator[tuple[dg.DagsterInstance, Settings]]:
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, str(value))
        settings = Settings.from_environment()
        with open_instance(settings) as instance:
            yield instance, settings


def test_dagster_yaml_says_what_the_command_line_uses() -> None:
    assert yaml.safe_load((ROOT / "dagster.yaml").read_text()) == instances.CONFIG


def test_without_any_variable_the_state_is_under_the_default_data_root(
    tmp_path, monkeypatch
) -> None:
    with opened(monkeypatch) as (instance, _):
        register(instance, ["1.2.3"])
    with record.instance_of(tmp_path / "data") as plain:
        assert registered(plain) == ["1.2.3"]
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_the_state_is_under_the_data_root_that_is_named(tmp_path, monkeypatch) -> None:
    with opened(monkeypatch, ANEURYSM_DATA=tmp_path / "mine") as (instance, _):
        register(instance, ["1.2.3"])
    with record.instance_of(tmp_path / "mine") as plain:
        assert registered(plain) == ["1.2.3"]
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_in_the_projects_root_the_state_is_the_one_that_dagster_dev_uses(
    tmp_path, monkeypatch, project
) -> None:
    monkeypatch.chdir(project)
    with opened(monkeypatch, ANEURYSM_DATA=tmp_path / "mine") as (instance, _):
        register(instance, ["1.2.3"])
        assert not instance.telemetry_enabled
    with record.instance_of(tmp_path / "mine") as plain:
        assert registered(plain) == ["1.2.3"]


def test_dagster_home_wins_over_the_data_root(tmp_path, monkeypatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    data = tmp_path / "mine"
    with opened(monkeypatch, DAGSTER_HOME=home, ANEURYSM_DATA=data) as (instance, _):
        assert instance.root_directory == str(home)
        register(instance, ["1.2.3"])
    assert not data.exists()
    with opened(monkeypatch, ANEURYSM_DATA=data) as (instance, _):
        assert registered(instance) == []


def test_the_state_is_there_again_when_it_is_opened_again(tmp_path, monkeypatch) -> None:
    for expected in ([], ["1.2.3"]):
        with opened(monkeypatch) as (instance, _):
            assert registered(instance) == expected
            register(instance, ["1.2.3"])


def test_two_data_roots_never_share_progress(tmp_path, monkeypatch) -> None:
    with opened(monkeypatch, ANEURYSM_DATA="one") as (instance, _):
        register(instance, ["1.2.3"])
    with opened(monkeypatch, ANEURYSM_DATA="two") as (instance, _):
        assert registered(instance) == []


def test_nothing_is_told_to_anyone(monkeypatch) -> None:
    with opened(monkeypatch) as (instance, _):
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled


# Whose progress an instance keeps.


def claimed(monkeypatch, make: bool = True, **variables: object) -> None:
    with opened(monkeypatch, **variables) as (instance, settings):
        claim(instance, settings)
        if make:
            settings.interim.mkdir(parents=True, exist_ok=True)


def test_a_data_root_is_claimed_once_and_for_all(monkeypatch) -> None:
    claimed(monkeypatch)
    claimed(monkeypatch)


def test_a_claim_made_from_another_working_directory_is_the_same(tmp_path, monkeypatch) -> None:
    claimed(monkeypatch, ANEURYSM_DATA="mine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    claimed(monkeypatch, ANEURYSM_DATA="../mine")


def test_another_interim_root_on_the_same_data_root_is_refused_by_name(
    tmp_path, monkeypatch
) -> None:
    claimed(monkeypatch, ANEURYSM_DATA="mine")
    with pytest.raises(InputError) as raised:
        claimed(monkeypatch, ANEURYSM_DATA="mine", ANEURYSM_INTERIM="other")
    assert f"keeps the progress of {tmp_path / 'mine' / 'interim'}, not of" in str(raised.value)
    assert str(tmp_path / "other") in str(raised.value)
    claimed(monkeypatch, ANEURYSM_DATA="mine")


def test_a_data_root_that_was_moved_goes_on(tmp_path, monkeypatch) -> None:
    claimed(monkeypatch, ANEURYSM_DATA="mine")
    (tmp_path / "mine").rename(tmp_path / "moved")
    claimed(monkeypatch, ANEURYSM_DATA="moved")


def test_a_copy_of_a_data_root_has_a_claim_of_its_own(tmp_path, monkeypatch) -> None:
    claimed(monkeypatch, ANEURYSM_DATA="mine")
    # The copy's record is about the copy's tables, though the original is still there.
    shutil.copytree("mine", "copy")
    claimed(monkeypatch, ANEURYSM_DATA="copy")


def test_one_dagster_home_does_not_serve_two_data_roots(tmp_path, monkeypatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    claimed(monkeypatch, DAGSTER_HOME=home, ANEURYSM_DATA="one")
    with pytest.raises(InputError, match=r"keeps the progress of .*/one/interim, not of .*/two"):
        claimed(monkeypatch, DAGSTER_HOME=home, ANEURYSM_DATA="two")


def test_a_dagster_home_is_free_again_once_the_tables_are_gone(tmp_path, monkeypatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    claimed(monkeypatch, DAGSTER_HOME=home, ANEURYSM_DATA="one")
    (tmp_path / "one" / "interim").rmdir()
    claimed(monkeypatch, DAGSTER_HOME=home, ANEURYSM_DATA="two")


def test_the_command_refuses_an_instance_that_belongs_to_other_tables(
    sample_data, tmp_path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    roots = {"ANEURYSM_RAW": sample_data / "raw", "DAGSTER_HOME": home}
    (tmp_path / "one" / "interim").mkdir(parents=True)
    assert call("aneurysm-assets", "status", "--data", tmp_path / "one", **roots).returncode == 0
    refused = call("aneurysm-assets", "run", "--data", tmp_path / "two", **roots)
    assert refused.returncode == 2
    assert "set another DAGSTER_HOME or data root" in refused.stderr
    assert not (tmp_path / "two" / "interim").exists()


# The dagster.yaml of a data root.


def test_with_dagster_home_in_the_data_root_our_storage_is_used_and_nothing_told(
    tmp_path, monkeypatch
) -> None:
    for variables in ({"ANEURYSM_DATA": "mine"}, {"DAGSTER_HOME": tmp_path / "mine" / "dagster"}):
        with opened(monkeypatch, **variables) as (instance, settings):
            assert type(instance.event_log_storage).__name__ == "BatchingSqliteEventLogStorage"
            assert not instance.telemetry_enabled
            assert not instance.nux_enabled
            assert settings.dagster_home == tmp_path / "mine" / "dagster"
    with record.instance_of(tmp_path / "mine") as stock:
        assert not stock.telemetry_enabled


def test_by_dagster_home_alone_the_data_root_is_found_also_where_it_was_moved(
    tmp_path, monkeypatch
) -> None:
    with opened(monkeypatch, ANEURYSM_DATA="mine") as (instance, _):
        register(instance, ["1.2.3"])
    (tmp_path / "mine").rename(tmp_path / "moved")
    with opened(monkeypatch, DAGSTER_HOME=tmp_path / "moved" / "dagster") as (instance, settings):
        assert registered(instance) == ["1.2.3"]
        assert settings.data == tmp_path / "moved"
    assert not (tmp_path / "mine").exists()


def test_what_was_added_to_the_dagster_yaml_stays_and_counts(tmp_path, monkeypatch) -> None:
    with opened(monkeypatch, ANEURYSM_DATA="mine"):
        pass
    path = tmp_path / "mine" / "dagster" / "dagster.yaml"
    with path.open("a") as file:
        file.write("run_retries:\n  enabled: true\n")
    before = path.read_text()
    with opened(monkeypatch, ANEURYSM_DATA="mine") as (instance, _):
        assert instance.run_retries_enabled
    assert path.read_text() == before


def test_a_dagster_yaml_of_somebody_elses_is_left_alone(tmp_path, monkeypatch) -> None:
    path = tmp_path / "mine" / "dagster" / "dagster.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("telemetry:\n  enabled: false\n")
    with opened(monkeypatch, ANEURYSM_DATA="mine") as (instance, _):
        register(instance, ["1.2.3"])
    assert path.read_text() == "telemetry:\n  enabled: false\n"


def test_the_dagster_home_of_one_data_root_does_not_serve_another(tmp_path, monkeypatch) -> None:
    for name in ("one", "two"):
        with opened(monkeypatch, ANEURYSM_DATA=name):
            pass
    home = tmp_path / "one" / "dagster"
    with (
        pytest.raises(InputError, match=r"keeps the progress of .*/one, not of .*/two"),
        opened(monkeypatch, DAGSTER_HOME=home, ANEURYSM_DATA="two"),
    ):
        pass


def test_a_claim_is_the_same_through_dagster_home(tmp_path, monkeypatch) -> None:
    claimed(monkeypatch, ANEURYSM_DATA="mine")
    settings = Settings.from_environment({"ANEURYSM_DATA": "mine"})
    with record.instance_of(tmp_path / "mine") as stock:
        held = stock.daemon_cursor_storage.get_cursor_values({instances._CLAIM})
        claim(stock, settings)
        assert stock.daemon_cursor_storage.get_cursor_values({instances._CLAIM}) == held
