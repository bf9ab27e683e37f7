"""The worker's side of `celery_launcher`: `celery --app aneurysm_assets.celery_worker worker`.

It reads its configuration where the launcher does, in the instance of DAGSTER_HOME, so that the two
never differ. One worker a host: a run does its own parallel work.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import dagster as dg
from celery import Celery, Task
from dagster._cli.api import _execute_run_command_body
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster._utils.interrupts import capture_interrupts
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_shared.serdes.serdes import JsonSerializableValue

from aneurysm_assets.celery_launcher import WORKER_TAG, CeleryLauncher
from aneurysm_assets.extraction.errors import InputError

_NOT_BEGUN = {dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING}


def __getattr__(name: str) -> Celery:
    """Make `app`, which Celery asks this module for, and not before it is asked for."""
    if name == "app":
        return worker_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def worker_app() -> Celery:
    """Return the Celery application of the instance of DAGSTER_HOME, with the task of a run.

    Raises
    ------
    InputError
        There is no DAGSTER_HOME, or its instance has another launcher.
    """
    if not os.environ.get("DAGSTER_HOME"):
        raise InputError("DAGSTER_HOME is not set: a worker needs the instance of the cluster")
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, CeleryLauncher):
            raise InputError(
                f"the dagster.yaml in {os.environ['DAGSTER_HOME']} has the run launcher "
                f"{type(launcher).__name__}: take the one of deploy/dagster.yaml"
            )
        app = launcher.celery
    app.task(bind=True, name=TASK_EXECUTE_JOB_NAME)(_execute_run)
    return app


def _execute_run(task: Task, execute_job_args_packed: JsonSerializableValue) -> None:
    """Execute a run in this process of the pool, and say in its tags whose it is."""
    run_id = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs).run_id
    with _interruptible(), dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        if run is None:
            return  # deleted while it waited
        if run.status in _NOT_BEGUN:
            instance.add_run_tags(run_id, {WORKER_TAG: task.request.hostname})
        # One that has begun, or ended, it leaves alone: handed out twice, it runs once.
        _execute_run_command_body(run_id, instance, lambda _: None, set_exit_code_on_failure=False)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM, by which a task is revoked, interrupt a run in Dagster's way.

    Celery ignores SIGINT in its pool, and Dagster gives SIGTERM the handler of that afterwards.
    """
    try:
        with capture_interrupts():
            yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
