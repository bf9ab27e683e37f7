"""The Celery worker that executes runs.

It is started by `celery --app aneurysm_assets.cluster.celery_worker worker`.

It reads its configuration where the launcher does, in the instance of DAGSTER_HOME, so that the two
never differ. One worker per host is enough: a run does its own parallel work.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, TypeVar

import dagster as dg
from celery import Celery, Task
from celery.platforms import set_pdeathsig
from celery.signals import celeryd_after_setup
from kombu.exceptions import OperationalError
from sqlalchemy.exc import DBAPIError

from aneurysm_assets.cluster.celery_launcher import (
    ANSWERS_WITHIN_SECONDS,
    WORKER_TAG,
    CeleryLauncher,
)
from aneurysm_assets.cluster.dagster_internals import (
    DAGSTER_CELERY_TASK_ID_TAG,
    TASK_EXECUTE_JOB_NAME,
    DagsterPostgresException,
    ExecuteRunArgs,
    unpack_value,
)
from aneurysm_assets.errors import InputError

_Result = TypeVar("_Result")

_LOG = logging.getLogger(__name__)

_NOT_BEGUN = {dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING}

_DATABASE_IS_BACK_WITHIN_SECONDS = 600.0

_ASK_AGAIN_AFTER_SECONDS = 5.0


def __getattr__(name: str) -> Celery:
    """Make `app` when Celery asks this module for it: it needs the instance of DAGSTER_HOME."""
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
    celeryd_after_setup.connect(_refuse_duplicate_name, weak=False)
    celeryd_after_setup.connect(_fail_unbegun_runs, weak=False)
    return app


def _execute_run(task: Task, execute_job_args_packed: dict[str, Any]) -> None:
    """Execute a run in a process of its own, and say in its tags which worker executes it.

    Celery's own process may have no children, and a run has worker processes.
    """
    args = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs)
    if not _retry_while_database_is_away(partial(_claim_run, args.run_id, task.request.hostname)):
        return
    process = subprocess.Popen(  # noqa: S603 - Dagster's own command
        args.get_command_args(),
        # A process of Celery's pool has one thread, so that this is safe after its fork.
        preexec_fn=partial(set_pdeathsig, "SIGKILL"),  # noqa: PLW1509
    )
    with _forward_sigterm(process):
        process.wait()
    _retry_while_database_is_away(partial(_fail_unless_begun, args.run_id, process.returncode))


def _refuse_duplicate_name(sender: str, **_: object) -> None:
    """End this worker before it does anything if another has its name, which is the sender.

    Each of the two would take the other's runs for its own, and fail them.

    Raises
    ------
    SystemExit
        Another worker answers to the name.
    """
    try:
        others = worker_app().control.ping(destination=[sender], timeout=ANSWERS_WITHIN_SECONDS)
    except OperationalError as error:
        _LOG.warning("the broker does not answer: another %s would go unnoticed: %s", sender, error)
        return
    if others:
        raise SystemExit(f"a worker {sender} runs already: give each its own name, by `-n NAME@%h`")


def _fail_unbegun_runs(sender: str, **_: object) -> None:
    """Fail the runs that a former worker of this name, which is the sender, never began."""
    _retry_while_database_is_away(partial(_fail_unbegun_runs_of, sender))


def _fail_unbegun_runs_of(worker: str, instance: dg.DagsterInstance) -> None:
    unbegun = dg.RunsFilter(statuses=list(_NOT_BEGUN), tags={WORKER_TAG: worker})
    for run in instance.get_runs(filters=unbegun):
        # A retry has both tags of its parent until a worker gets it.
        if run.tags.get(DAGSTER_CELERY_TASK_ID_TAG) == run.run_id:
            instance.report_run_failed(
                run, f"Worker {worker} ended before the run began, and was started anew."
            )


def _claim_run(run_id: str, worker: str, instance: dg.DagsterInstance) -> bool:
    """Say in the tags of a run which worker executes it; False if it has begun, or ended."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status not in _NOT_BEGUN:
        _LOG.warning("run %s was handed out again: it has begun, or ended", run_id)
        return False
    instance.add_run_tags(run_id, {WORKER_TAG: worker})
    return True


def _fail_unless_begun(run_id: str, exit_code: int, instance: dg.DagsterInstance) -> None:
    """Fail a run whose process ended before it recorded anything: nobody else would notice."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status in _NOT_BEGUN:
        instance.report_run_failed(
            run,
            f"The run's process ended with exit code {exit_code} before the run began. What it "
            "said is in the output of its Celery worker.",
        )


def _retry_while_database_is_away(do: Callable[[dg.DagsterInstance], _Result]) -> _Result:
    """Do something with the instance; wait for the database while it is away.

    A task that gave up would be gone from the queue, and its run wait for `start_timeout_seconds`.
    """
    until = time.monotonic() + _DATABASE_IS_BACK_WITHIN_SECONDS
    while True:
        try:
            with dg.DagsterInstance.get() as instance:
                return do(instance)
        except (DBAPIError, DagsterPostgresException):
            if time.monotonic() > until:
                raise
            _LOG.warning("the database does not answer: trying again", exc_info=True)
        time.sleep(_ASK_AGAIN_AFTER_SECONDS)


@contextmanager
def _forward_sigterm(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Forward SIGTERM, by which Celery revokes a task, to the run, which Dagster interrupts."""
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
