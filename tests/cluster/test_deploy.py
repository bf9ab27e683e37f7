"""What is in `deploy/` is what works: the files are parsed, and an instance is made of them."""

import os
import re
import shlex
from pathlib import Path

import dagster as dg
import pytest
import yaml
from celery.app.control import Inspect
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.events import DagsterEvent
from dagster._core.instance import InstanceRef
from dagster._core.launcher import WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)

import deploy
from aneurysm_assets.cluster.celery_launcher import WORKER_TAG, CeleryLauncher
from aneurysm_assets.cluster.celery_worker import worker_app
from aneurysm_assets.cluster.postgresql import PostgresStorage
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.run_locks import CARRIER_TAG
from deploy.procfile import commands
from deploy.servers.process import Server, ServerProcess, free_ports
from deploy.servers.s3 import S3Server
from tests.servers import skipped_where_missing

DEPLOY = Path(deploy.__file__).parent
README = (DEPLOY / "README.md").read_text()
YAML = (DEPLOY / "dagster.yaml").read_text()


def variables_of_yaml() -> set[str]:
    return set(re.findall(r"\{ env: (\w+) \}", YAML))


@pytest.fixture
def launcher(monkeypatch) -> CeleryLauncher:
    """Return the launcher of the file, with a broker that answers nothing."""
    monkeypatch.setenv("ANEURYSM_REDIS_URL", "memory://")
    configured = yaml.safe_load(YAML)["run_launcher"]
    with dg.instance_for_test(overrides={"run_launcher": configured}) as instance:
        made = instance.run_launcher
        assert isinstance(made, CeleryLauncher)
        yield made


def test_the_configuration_is_one_that_dagster_takes(tmp_path, monkeypatch) -> None:
    for name in variables_of_yaml():
        monkeypatch.setenv(name, "1")
    (tmp_path / "dagster.yaml").write_text(YAML)
    reference = InstanceRef.from_dir(str(tmp_path))
    assert reference.storage_data.class_name == PostgresStorage.__name__
    assert reference.run_launcher_data.class_name == CeleryLauncher.__name__
    assert reference.run_coordinator_data.class_name == QueuedRunCoordinator.__name__
    assert reference.settings["run_monitoring"]["enabled"]
    assert reference.settings["run_retries"]["max_retries"] > 0
    assert not reference.settings["telemetry"]["enabled"]


def test_no_secret_stands_in_the_configuration() -> None:
    database = yaml.safe_load(YAML)["storage"]["custom"]["config"]["postgres_db"]
    given = {name for name, value in database.items() if not isinstance(value, dict)}
    assert given == {"scheme"}
    assert list(yaml.safe_load(YAML)["run_launcher"]["config"]["broker"]) == ["env"]


def test_every_variable_of_the_configuration_is_in_the_readme() -> None:
    for name in variables_of_yaml() | {"DAGSTER_HOME", "ANEURYSM_SERIES_PER_RUN"}:
        assert f"| `{name}` |" in README


def test_the_processes_are_those_of_the_readme_and_the_webserver_is_on_loopback() -> None:
    assert set(commands()) == {"webserver", "daemon", "worker"}
    for kind, command in commands().items():
        assert f"`{kind}`" in README
        assert shlex.join(command)
    webserver = commands()["webserver"]
    assert webserver[webserver.index("--host") + 1] == "127.0.0.1"


def test_a_worker_says_what_it_needs(tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match="DAGSTER_HOME is not set"):
        worker_app.__wrapped__()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(InputError, match="DefaultRunLauncher: take the one of"):
        worker_app.__wrapped__()


def run_of(
    worker: str | None, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED
) -> dg.DagsterRun:
    of_worker = {} if worker is None else {WORKER_TAG: worker}
    return dg.DagsterRun("job", status=status, tags={CARRIER_TAG: "celery", **of_worker})


def answering(monkeypatch, *answers: object) -> None:
    """Have workers answer in turn; where the broker is away, by an exception."""
    left = list(answers)

    def query_task(self, ids) -> object:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Inspect, "query_task", query_task)


def test_a_worker_is_dead_once_it_did_not_answer_three_times_in_a_row(
    launcher, monkeypatch
) -> None:
    run = run_of("one@here")
    has_it = {"one@here": {run.run_id: ["active", {}]}}
    answering(monkeypatch, None, None, has_it, None, None, None)
    healths = [launcher.check_run_worker_health(run).status for _ in range(6)]
    assert healths == [WorkerStatus.RUNNING] * 5 + [WorkerStatus.FAILED]


def test_a_worker_has_time_to_find_a_broker_that_was_away(launcher, monkeypatch) -> None:
    run = run_of("one@here")
    answering(monkeypatch, None, None, ConnectionError("away"), *[None] * 7)
    healths = [launcher.check_run_worker_health(run).status for _ in range(2)]
    with pytest.raises(ConnectionError):
        launcher.check_run_worker_health(run)
    healths += [launcher.check_run_worker_health(run).status for _ in range(6)]
    assert healths == [WorkerStatus.RUNNING] * 8
    launcher._workers_are_back_at = 0.0
    assert launcher.check_run_worker_health(run).status == WorkerStatus.FAILED


def test_while_redis_is_away_a_run_stays_in_the_queue(monkeypatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("ANEURYSM_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    monkeypatch.setenv("ANEURYSM_CELERY_WORKERS", "1")
    parts = {name: yaml.safe_load(YAML)[name] for name in ("run_launcher", "run_coordinator")}
    origin = JobPythonOrigin(
        "job", RepositoryPythonOrigin("python", ModuleCodePointer("module", "defs"))
    )
    remote = RemoteJobOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("location"), "repository"), "job"
    )
    run = dg.DagsterRun("job", job_code_origin=origin, remote_job_origin=remote)
    with dg.instance_for_test(overrides=parts) as instance:
        instance.add_run(run)
        instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)
        daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
        for _ in range(2):
            configuration = instance.get_concurrency_config()
            assert not daemon._dequeue_run(instance, None, run, configuration, None)
            assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.QUEUED


def test_a_worker_that_says_it_does_not_have_the_run_is_believed_at_once(
    launcher, monkeypatch
) -> None:
    answering(monkeypatch, {"one@here": {}})
    health = launcher.check_run_worker_health(run_of("one@here"))
    assert health.status == WorkerStatus.FAILED
    assert "one@here does not have this run any more" in health.msg


def test_a_run_of_a_stock_worker_is_failed_with_what_to_start_instead(launcher) -> None:
    health = launcher.check_run_worker_health(run_of(None))
    assert health.status == WorkerStatus.FAILED
    assert "celery --app aneurysm_assets.cluster.celery_worker worker" in health.msg


def test_a_run_that_celery_does_not_carry_is_not_asked_about(launcher) -> None:
    health = launcher.check_run_worker_health(dg.DagsterRun("job"))
    assert health.status == WorkerStatus.RUNNING


def test_a_run_that_waits_in_the_queue_is_canceled_at_once(launcher) -> None:
    run = run_of("", dg.DagsterRunStatus.STARTING)
    launcher._instance.add_run(run)
    assert launcher.terminate(run.run_id)
    assert launcher._instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.CANCELED
    assert not launcher.terminate(run.run_id)


def test_a_run_of_the_command_line_is_not_said_to_be_canceled_while_it_goes_on(launcher) -> None:
    run = dg.DagsterRun("job", status=dg.DagsterRunStatus.STARTED)
    launcher._instance.add_run(run)
    assert not launcher.terminate(run.run_id)
    assert launcher._instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED


def test_nothing_waits_in_a_worker_nor_is_handed_out_again_while_it_runs(launcher) -> None:
    settings = launcher.celery.conf
    assert settings.worker_disable_prefetch
    assert not settings.task_acks_late
    assert settings.worker_concurrency == 1
    assert not launcher.supports_resume_run


def test_a_server_that_is_interrupted_while_it_starts_is_ended(tmp_path) -> None:
    begun: list[int] = []

    def interrupted() -> bool:
        begun.append(process.pid)
        raise KeyboardInterrupt

    process = ServerProcess("server", ["sleep", "600"], tmp_path / "log", interrupted)
    with pytest.raises(KeyboardInterrupt), Server(process):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0], 0)


def test_an_object_store_leaves_none_of_its_sockets_where_everybody_has_theirs(tmp_path) -> None:
    with skipped_where_missing():
        server = S3Server(tmp_path / "s3")
    with server:
        pattern = f"seaweedfs-*-{server.port}.sock"
        assert list(Path("/tmp").glob(pattern))
    assert not list(Path("/tmp").glob(pattern))
