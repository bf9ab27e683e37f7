"""The switch in the UI turned on, under a real `dagster dev`: nothing else is clicked."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import RunsFilter

from aneurysm_assets.defs.automation import REASON_TAG, series_automation
from aneurysm_assets.sample.dicom import uid
from tests.dagster_dev import QUICK_DAEMON, dagster_dev
from tests.end_to_end.test_backfill import QUICK_SENSOR, Server
from tests.processes import wait_until
from tests.record import SERIES_TABLES, instance_of, metadata_of

CTA = uid("sample", "CTA")

# The daemon's rounds are 5 seconds apart; nothing but the pace is changed by this.
QUICK_ROUNDS = """
    dagster._daemon.sensor.MIN_INTERVAL_LOOP_TIME = 1
"""

SELECTOR = f"""{{
  repositoryLocationName: "aneurysm_assets", repositoryName: "__repository__",
  sensorName: "{series_automation.name}"
}}"""

SWITCH_ON = f"""
mutation {{
  startSensor(sensorSelector: {SELECTOR}) {{
    __typename
    ... on Sensor {{ sensorState {{ status }} }}
    ... on PythonError {{ message }}
  }}
}}
"""

TICKS = f"""
{{
  sensorOrError(sensorSelector: {SELECTOR}) {{
    ... on Sensor {{
      sensorState {{
        status
        ticks(limit: 100) {{ status skipReason error {{ message causes {{ message }} }} }}
      }}
    }}
  }}
}}
"""


def put_aside(project: Path) -> None:
    """Leave data with no series and a train.csv without a row, and both as they were in `later`."""
    later, raw = project / "later", project / "data" / "raw"
    later.mkdir()
    for name in ("series", "train.csv"):
        (raw / name).rename(later / name)
    (raw / "series").mkdir()
    header = (later / "train.csv").read_text().splitlines()[0]
    (raw / "train.csv").write_text(f"{header}\n")


@pytest.fixture(scope="module")
def server(project, sample_data, tmp_path_factory) -> Iterator[Server]:
    """Return a server over data without a series, and the sample's raw files beside them."""
    quick = QUICK_DAEMON.rstrip() + QUICK_SENSOR.rstrip() + QUICK_ROUNDS
    directory = tmp_path_factory.mktemp("automation")
    with dagster_dev(project, sample_data, directory, quick=quick, prepare=put_aside) as dev:
        server = Server(dev.project, dev.url)
        wait_until(server.is_ready, "the server had loaded the project")
        yield server


def ticks(server: Server) -> list[dict]:
    return server.ask(TICKS)["sensorOrError"]["sensorState"]["ticks"]


def combined(server: Server, times: int) -> bool:
    failed = [tick for tick in ticks(server) if tick["status"] == "FAILURE"]
    assert not failed, failed
    with instance_of(server.data) as instance:
        runs = instance.get_runs(filters=RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
    return (
        len([run for run in runs if dg.AssetKey("series_quality") in run.asset_selection]) >= times
    )


def runs_of(server: Server) -> list[set[str]]:
    """Return the assets of each run so far, the oldest first; all have succeeded."""
    with instance_of(server.data) as instance:
        runs = instance.get_runs()[::-1]
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    return [{key.to_user_string() for key in run.asset_selection} for run in runs]


BOTH = {"unified_metadata", "volumes", "series_quality"}


def test_the_switch_is_off_until_it_is_turned_on(server) -> None:
    assert server.ask(TICKS)["sensorOrError"]["sensorState"] == {"status": "STOPPED", "ticks": []}
    switched = server.ask(SWITCH_ON)["startSensor"]
    assert switched == {"__typename": "Sensor", "sensorState": {"status": "RUNNING"}}
    wait_until(lambda: len(ticks(server)) > 1, "the sensor had ticked")
    assert server.series == []


def test_series_that_appear_are_materialised_and_combined_without_a_click(server) -> None:
    later, raw = server.project / "later", server.data / "raw"
    # Each at once, so that no tick sees a part.
    (later / "series").rename(raw / "series")
    (later / "train.csv").rename(raw / "train.csv")
    wait_until(lambda: combined(server, 1), "all was combined")
    assert runs_of(server) == [set(SERIES_TABLES), BOTH]
    assert len(server.series) == 12
    once = dict.fromkeys(server.series, 1)
    assert server.events() == dict.fromkeys(SERIES_TABLES, once) | {"unified_metadata": {None: 1}}
    with instance_of(server.data) as instance:
        assert metadata_of(instance, "unified_metadata")["series"] == 12
        observed = instance.fetch_observations(dg.AssetKey(["raw", "series"]), limit=10).records
    assert [o.asset_observation.metadata["new_series"].value for o in observed] == [12]


def test_a_file_that_is_overwritten_has_exactly_that_partition_taken_again(server) -> None:
    before = server.events()
    path = next((server.data / "raw" / "series" / CTA).glob("*.dcm"))
    path.write_bytes(path.read_bytes())
    wait_until(lambda: combined(server, 2), "all was combined again")
    assert runs_of(server)[2:] == [{"dicom_tags"}, BOTH]
    assert server.events() == before | {
        "dicom_tags": before["dicom_tags"] | {CTA: 2},
        "unified_metadata": {None: 2},
    }
    with instance_of(server.data) as instance:
        reasons = [run.tags.get(REASON_TAG) for run in instance.get_runs()[::-1]]
    assert [reason for reason in reasons if reason] == [
        "12 series: on disk, and not materialized",
        "1 series: the input is no longer what was read",
    ]
    assert {tick["status"] for tick in ticks(server)} <= {"SUCCESS", "SKIPPED", "STARTED"}


def test_a_broken_csv_makes_the_tick_fail_with_its_reason(server) -> None:
    (server.data / "raw" / "train.csv").write_text("<html>")

    def failed() -> list[str]:
        errors = (tick["error"] for tick in ticks(server) if tick["status"] == "FAILURE")
        return [cause["message"] for error in errors for cause in error["causes"]]

    wait_until(failed, "a tick had failed")
    assert "train.csv: not a CSV but a page of HTML" in failed()[0]
