"""`aneurysm-assets ui`: the state of `run` in Dagster's UI, and nothing that is left behind."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aneurysm_assets.sample import write_load_sample
from tests.processes import SCRIPTS, call, started, wait_until
from tests.record import ALL_TABLES

ASKED = """
query {
  assetNodes { assetKey { path } repository { location { name } } }
  runsOrError { ... on Runs { results {
    status
    repositoryOrigin { repositoryName repositoryLocationName }
    tags { key value }
  } } }
  instance { daemonHealth { allDaemonStatuses { daemonType healthy } } }
}
"""


@dataclass(frozen=True)
class Ui:
    """A running `ui`."""

    process: subprocess.Popen
    url: str
    said: Path

    def ask(self, query: str) -> dict[str, Any]:
        body = json.dumps({"query": query}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def descendants(self) -> dict[int, str]:
        """Return all processes below it by their commands."""
        parents: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(stat.parent.name))
        found, waiting = {}, [self.process.pid]
        while waiting:
            for child in parents.get(waiting.pop(), []):
                with suppress(OSError):
                    found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
                    waiting.append(child)
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a data root on which `run` was run."""
    data = tmp_path_factory.mktemp("made") / "data"
    write_load_sample(data, 3, 2)
    assert call("aneurysm-assets", "run", "--data", data).returncode == 0
    return data


@pytest.fixture
def finished(made: Path, tmp_path: Path) -> Path:
    """Return a data root of the test's own on which `run` was run; the folders beside are empty."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    return Path(shutil.copytree(made, tmp_path / "data"))


@contextmanager
def opened(data: Path) -> Iterator[Ui]:
    """Start it as another folder's user would; yield once it has told its address."""
    said = data.parent / "said"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        said.open("w") as output,
        started(
            *("aneurysm-assets", "ui", "--data", "../data", "--port", port),
            cwd=data.parent / "elsewhere",
            output=output,
            HOME=data.parent / "home",
        ) as process,
    ):
        ui = Ui(process, f"http://127.0.0.1:{port}", said)
        below: dict[int, str] = {}
        try:
            wait_until(lambda: "Ctrl-C ends it" in said.read_text(), "it told its address", process)
            yield ui
        finally:
            below.update(ui.descendants())
            for pid in below:  # nothing where the test is good
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def alive(pids: dict[int, str]) -> dict[int, str]:
    return {pid: name for pid, name in pids.items() if Path(f"/proc/{pid}").exists()}


def beside(data: Path) -> list[str]:
    """Return what stands outside the data root."""
    parent = data.parent
    found = (path for path in parent.rglob("*") if not path.is_relative_to(data))
    return sorted(str(path.relative_to(parent)) for path in found)


def end_it(ui: Ui, by: signal.Signals) -> None:
    """Send a signal to it; it tells that it ended, and so do all its processes."""
    below = ui.descendants()
    assert len(below) >= 2
    ui.process.send_signal(by)
    assert ui.process.wait(timeout=60) == 0
    wait_until(lambda: not alive(below), "all its processes had ended")
    address, ending, ended = ui.said.read_text().splitlines()
    assert address.startswith(f"the Dagster UI is at {ui.url}; Ctrl-C ends it (log: ")
    assert ending == "ending the webserver and the daemon: some seconds"
    assert ended == "ended"


def test_it_shows_what_run_has_done_and_ctrl_c_leaves_nothing(finished: Path) -> None:
    with opened(finished) as ui:
        wait_until(lambda: ui.ask(ASKED)["assetNodes"], "the assets were there", ui.process)
        answer = ui.ask(ASKED)
        assets = {node["assetKey"]["path"][-1] for node in answer["assetNodes"]}
        assert set(ALL_TABLES) <= assets
        locations = {node["repository"]["location"]["name"] for node in answer["assetNodes"]}
        runs = answer["runsOrError"]["results"]
        assert len(runs) == 2
        for run in runs:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            assert run["status"] == "SUCCESS"
            # By these the timeline finds the row of a run.
            assert {run["repositoryOrigin"]["repositoryLocationName"]} == locations
            assert run["repositoryOrigin"]["repositoryName"] == "__repository__"
            assert tags["aneurysm_assets/started_by"] == "aneurysm-assets run"
        wait_until(
            lambda: any(
                daemon["daemonType"] == "SENSOR" and daemon["healthy"]
                for daemon in ui.ask(ASKED)["instance"]["daemonHealth"]["allDaemonStatuses"]
            ),
            "the daemon told that it lives",
            ui.process,
        )
        below = ui.descendants()
        assert sum("dagster_webserver" in command for command in below.values()) == 1
        assert sum("dagster._daemon" in command for command in below.values()) == 1
        second = call("aneurysm-assets", "ui", "--data", finished)
        assert second.returncode == 2
        assert f"is open already at {ui.url}: open that, or end it first" in second.stderr
        end_it(ui, signal.SIGINT)
    (log,) = (finished / "logs").glob("ui-*.log")
    assert "telemetry" not in log.read_text().lower()
    assert beside(finished) == ["elsewhere", "home", "said"]


def test_a_kill_ends_it_as_ctrl_c_does_and_leaves_nothing(finished: Path) -> None:
    with opened(finished) as ui:
        end_it(ui, signal.SIGTERM)
    assert beside(finished) == ["elsewhere", "home", "said"]


def test_where_it_is_killed_nothing_of_it_goes_on(finished: Path) -> None:
    with opened(finished) as ui:
        wait_until(lambda: ui.ask(ASKED)["assetNodes"], "the assets were there", ui.process)
        below = ui.descendants()
        ui.process.kill()
        wait_until(lambda: not alive(below), "all its processes had ended")


def test_where_a_part_ends_by_itself_the_other_is_ended_too(finished: Path) -> None:
    with opened(finished) as ui:
        below = ui.descendants()
        (daemon,) = (pid for pid, command in below.items() if "dagster._daemon" in command)
        os.kill(daemon, signal.SIGKILL)
        assert ui.process.wait(timeout=60) == 1
        wait_until(lambda: not alive(below), "all its processes had ended")
    assert "aneurysm-assets: the daemon ended by itself (-9); its log is " in ui.said.read_text()


def test_a_port_that_is_taken_is_named(finished: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = call("aneurysm-assets", "ui", "--data", finished, "--port", port)
    assert refused.returncode == 2
    assert re.search(rf"port {port} of 127.0.0.1 cannot be used .*: give another", refused.stderr)


def test_a_folder_that_is_no_data_root_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    refused = call("aneurysm-assets", "ui", "--data", tmp_path / "typo")
    assert refused.returncode == 2
    assert "typo is no data root: it has neither raw/ nor dagster/" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_on_path", [True, False])
def test_run_ends_by_naming_the_command_as_it_can_be_typed_there(
    finished: Path, is_on_path: bool
) -> None:
    found = {"PATH": f"{SCRIPTS}:/bin" if is_on_path else "/bin"}
    elsewhere = finished.parent / "elsewhere"
    said = call("aneurysm-assets", "run", "--data", "../data", cwd=elsewhere, **found)
    *_, last = said.stdout.splitlines()
    program = "aneurysm-assets" if is_on_path else SCRIPTS / "aneurysm-assets"
    assert last == f"to see it in the Dagster UI: {program} ui --data ../data"


@pytest.mark.parametrize("is_moved", [pytest.param(False, marks=pytest.mark.long), True])
def test_dagster_home_in_the_data_root_is_all_that_dagster_needs(
    finished: Path, is_moved: bool
) -> None:
    if is_moved:
        finished = finished.rename(finished.with_name("moved"))
    before = (finished / "interim" / "dicom_metadata_with_csv.parquet").stat().st_mtime_ns
    done = call(
        *("dagster", "asset", "materialize", "-m", "aneurysm_assets.definitions"),
        *("--select", "unified_metadata"),
        cwd=finished.parent / "elsewhere",
        DAGSTER_HOME=finished / "dagster",
        HOME=finished.parent / "home",
    )
    assert done.returncode == 0, done.stderr
    assert (finished / "interim" / "dicom_metadata_with_csv.parquet").stat().st_mtime_ns > before
    listed = call("dagster", "run", "list", DAGSTER_HOME=finished / "dagster")
    assert listed.stdout.count("Run: ") == 3
    assert beside(finished) == ["elsewhere", "home"]
