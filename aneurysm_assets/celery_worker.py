"""The worker's side of `celery_launcher`: `celery --app aneurysm_assets.celery_worker worker`.

It reads its configuration where the launcher does, in the instance of DAGSTER_HOME, so that the two
never differ. One worker a host: a run does its own parallel work.
"""

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial

import dagster as dg
from celery import Celery, Task
from celery.platforms import set_pdeathsig
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_shared.serdes.serdes import JsonSerializableValue

from aneurysm_assets.celery_launcher import WORKER_TAG, CeleryLauncher
from aneurysm_assets.extraction.errors import InputError

_LOG = logging.getLogger(__name__)

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
    """Execute a run in a process of its own, and say in its tags which worker has it.

    Not in Celery's: that may have no children, and a run's worker processes are such.
    """
    args = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs)
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(args.run_id)
        if run is None or run.status not in _NOT_BEGUN:
            _LOG.warning("run %s was handed out again: it has begun, or ended", args.run_id)
            return
        instance.add_run_tags(args.run_id, {WORKER_TAG: task.request.hostname})
    process = subprocess.Popen(  # noqa: S603 - Dagster's own command
        args.get_command_args(),
        # A process of Celery's pool has one thread, so that this is safe after its fork.
        preexec_fn=partial(set_pdeathsig, "SIGKILL"),  # noqa: PLW1509
    )
    with _forwarded_to(process):
        process.wait()


@contextmanager
def _forwarded_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand SIGTERM, by which Celery revokes a task, to the run, which Dagster then interrupts."""
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
