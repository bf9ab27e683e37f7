"""The Celery worker that executes runs.

It is started by `celery --app aneurysm_assets.cluster.celery_worker worker`.

It reads its configuration where the launcher does, in the instance of DAGSTER_HOME, so that the two
never differ. One worker a host: a run does its own parallel work.
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
    celeryd_after_setup.connect(_refuse_a_name_that_is_taken, weak=False)
    celeryd_after_setup.connect(_end_what_it_left, weak=False)
    return app


def _execute_run(task: Task, execute_job_args_packed: dict[str, Any]) -> None:
    """Execute a run in a process of its own, and say in its tags which worker has it.

    Not in Celery's: that may have no children, and a run's worker processes are such.
    """
    args = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs)
    if not _patiently(partial(_take, args.run_id, task.request.hostname)):
        return
    process = subprocess.Popen(  # noqa: S603 - Dagster's own command
        args.get_command_args(),
        # A process of Celery's pool has one thread, so that this is safe after its fork.
        preexec_fn=partial(set_pdeathsig, "SIGKILL"),  # noqa: PLW1509
    )
    with _forwarded_to(process):
        process.wait()
    _patiently(partial(_end_unless_begun, args.run_id, process.returncode))


def _refuse_a_name_that_is_taken(sender: str, **_: object) -> None:
    """End before anything is done where another worker has this name, which is the sender.

    The two would take each other's runs for their own, and fail them.

    Raises
    ------
    SystemExit
        Another worker answers to the name.
    """
    try:
        others = worker_app().control.ping(destination=[sender], timeout=ANSWERS_WITHIN_SECONDS)
    except OperationalError as error:
        _LOG.warning("the broker does not answer: another %s would not be seen: %s", sender, error)
        return
    if others:
        raise SystemExit(
            f"a worker {sender} is there already: give each its own name, by `-n NAME@%h`"
        )


def _end_what_it_left(sender: str, **_: object) -> None:
    """Fail the runs that a worker of this name, which is the sender, took and did not begin."""
    _patiently(partial(_end_unbegun_of, sender))


def _end_unbegun_of(worker: str, instance: dg.DagsterInstance) -> None:
    left = dg.RunsFilter(statuses=list(_NOT_BEGUN), tags={WORKER_TAG: worker})
    for run in instance.get_runs(filters=left):
        # A retry has its parent's tags, both, until it is handed out itself.
        if run.tags.get(DAGSTER_CELERY_TASK_ID_TAG) == run.run_id:
            instance.report_run_failed(
                run, f"Worker {worker} ended before the run began, and was started anew."
            )


def _take(run_id: str, worker: str, instance: dg.DagsterInstance) -> bool:
    """Say in the tags of a run which worker has it; tell whether it is to be executed."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status not in _NOT_BEGUN:
        _LOG.warning("run %s was handed out again: it has begun, or ended", run_id)
        return False
    instance.add_run_tags(run_id, {WORKER_TAG: worker})
    return True


def _end_unless_begun(run_id: str, exit_code: int, instance: dg.DagsterInstance) -> None:
    """Fail a run whose process ended before it said anything: nobody else ever learns of it."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status in _NOT_BEGUN:
        instance.report_run_failed(
            run,
            f"The run's process ended with exit code {exit_code} before the run began. What it "
            "said is in the output of its Celery worker.",
        )


def _patiently(do: Callable[[dg.DagsterInstance], _Result]) -> _Result:
    """Do something with the instance; while the database is away, wait for it.

    A task that gives up is gone from the queue, and its run would wait for `start_timeout_seconds`.
    """
    until = time.monotonic() + _DATABASE_IS_BACK_WITHIN_SECONDS
    while True:
        try:
            with dg.DagsterInstance.get() as instance:
                return do(instance)
        except (DBAPIError, DagsterPostgresException):
            if time.monotonic() > until:
                raise
            _LOG.warning("the database does not answer: asked again", exc_info=True)
        time.sleep(_ASK_AGAIN_AFTER_SECONDS)


@contextmanager
def _forwarded_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand SIGTERM, by which Celery revokes a task, to the run, which Dagster then interrupts."""
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
