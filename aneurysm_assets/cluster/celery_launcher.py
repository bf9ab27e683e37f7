"""The run launcher of a cluster: runs are Celery tasks, and the run of a dead worker fails.

`deploy/dagster.yaml` names it. Stock `CeleryRunLauncher` leaves the run of a dead worker STARTED
for ever; this one asks the worker. The worker's side is `celery_worker`; `runs.retries` decides
what a retry reads.
"""

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self, cast

import dagster as dg
from celery import Signature
from celery.app.control import Inspect
from kombu.exceptions import OperationalError

from aneurysm_assets.cluster.dagster_internals import (
    DAGSTER_CELERY_TASK_ID_TAG,
    TASK_EXECUTE_JOB_NAME,
    CeleryRunLauncher,
    CheckRunHealthResult,
    DagsterUserCodeUnreachableError,
    LaunchRunContext,
    WorkerStatus,
)
from aneurysm_assets.dagster_internals import ConfigurableClassData
from aneurysm_assets.instance.run_locks import CARRIER_TAG

WORKER_TAG = "aneurysm_assets/celery_worker"
"""On a run that a worker has begun: the worker's name."""

CARRIER = "celery"

_QUEUE = "dagster"

ANSWERS_WITHIN_SECONDS = 2.0

_MISSES = 3
"""A worker that misses this many checks in a row is dead."""

_BACK_WITHIN_SECONDS = 60.0
"""After a broker is back; workers look for it every 30 s at most, and no miss counts meanwhile."""

_SETTINGS: Mapping[str, Any] = {
    # A run that waits in a busy worker could have begun in another; and after Redis's
    # visibility_timeout it would be handed out a second time.
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    "worker_concurrency": 1,
    # A worker acknowledges a task as it begins it, or a run that outlasts the visibility_timeout
    # would be handed out a second time.
    "task_acks_late": False,
    # Dagster's storage alone says how a run ended.
    "task_ignore_result": True,
    # Dagster captures a run's output by file descriptors.
    "worker_redirect_stdouts": False,
    "broker_connection_retry_on_startup": True,
    # A worker outlives a broker that is away for long, and so does its run.
    "broker_connection_max_retries": None,
    "task_default_queue": _QUEUE,
}


class CeleryLauncher(CeleryRunLauncher):
    """`CeleryRunLauncher` that finds dead workers, and needs no result backend.

    A run is alive while the worker that began it confirms that it executes it. Nobody asks about a
    run that waits in the queue: it is STARTING.
    """

    _workers_are_back_at = 0.0

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> Self:
        """Make the launcher; `config_source` overrides the settings of this module."""
        settings = {**_SETTINGS, **(config_value.get("config_source") or {})}
        given = {**config_value, "backend": "disabled://", "config_source": settings}
        return super().from_config_value(inst_data, given)

    @cached_property
    def _missed(self) -> dict[str, int]:
        """How many checks in a row the worker of each run has missed."""
        return {}

    @property
    def supports_resume_run(self) -> bool:
        """No: a batch is one step, and a retry reads what is missing of it."""
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        """Hand a run to the broker.

        Raises
        ------
        DagsterUserCodeUnreachableError
            The broker does not answer. On this error Dagster's queue waits. On any other it fails
            the run, and so would fail all that is queued within minutes.
        """
        try:
            super().launch_run(context)
        except OperationalError as error:
            raise DagsterUserCodeUnreachableError(
                f"the broker does not answer, and the run waits in the queue: {error}"
            ) from error

    def _launch_celery_task_run(
        self, run: dg.DagsterRun, task_signature: Signature, routing_key: str
    ) -> None:
        # The tags come first, as the worker may begin at once. A retry inherits its parent's tags.
        self._instance.add_run_tags(
            run.run_id,
            {CARRIER_TAG: CARRIER, WORKER_TAG: "", DAGSTER_CELERY_TASK_ID_TAG: run.run_id},
        )
        super()._launch_celery_task_run(
            run, task_signature.set(task_id=run.run_id), TASK_EXECUTE_JOB_NAME
        )

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Ask the worker that began a run whether it executes it.

        Parameters
        ----------
        run : dg.DagsterRun
            That is STARTED.

        Returns
        -------
        CheckRunHealthResult
            FAILED if the worker denies it, or missed several checks in a row. No check is missed
            while the broker is away, which raises, nor just after, as the worker may not have
            noticed that it is back.
        """
        if run.tags.get(CARRIER_TAG) != CARRIER:
            # `aneurysm-assets run` or a `dagster` command: locks of its host tell (`run_locks`).
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        worker = run.tags.get(WORKER_TAG)
        if not worker:
            return CheckRunHealthResult(
                WorkerStatus.FAILED,
                "the worker that began this run did not say who it is: start workers with "
                "`celery --app aneurysm_assets.cluster.celery_worker worker`",
            )
        executes = self._executes(worker, run.run_id)
        if executes is None:
            return self._judge_silence(worker, run.run_id)
        self._missed.pop(run.run_id, None)
        if executes:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED,
            f"worker {worker} does not have this run any more: the run's process was killed, "
            "or the worker was started anew",
        )

    def _judge_silence(self, worker: str, run_id: str) -> CheckRunHealthResult:
        if time.monotonic() < self._workers_are_back_at:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        missed = self._missed[run_id] = self._missed.get(run_id, 0) + 1
        if missed < _MISSES:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._missed[run_id]
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"worker {worker} did not answer {missed} times in a row"
        )

    def terminate(self, run_id: str) -> bool:
        """Cancel a run: its worker interrupts it; if no worker has begun it, none will.

        Returns
        -------
        bool
            Whether the run is unfinished and a worker's. `aneurysm-assets run` is interrupted on
            the terminal that started it.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or run.tags.get(CARRIER_TAG) != CARRIER:
            return False
        # This comes first: Dagster then knows that a user wished it, and retries nothing.
        self._instance.report_run_canceling(run)
        if not run.tags.get(WORKER_TAG):
            self._instance.report_run_canceled(run, message="Canceled before a worker began it.")
        self.celery.control.revoke(run_id, terminate=True, signal="SIGTERM")
        return True

    def get_run_worker_debug_info(
        self, run: dg.DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        """Return which worker executes a run, for a message of Dagster's."""
        worker = run.tags.get(WORKER_TAG)
        return f"Celery worker: {worker}" if worker else "No Celery worker has begun it."

    def _executes(self, worker: str, task_id: str) -> bool | None:
        """Ask a worker whether it has a task; None if it does not answer in time."""
        asked = Inspect(
            app=self.celery, destination=[worker], timeout=ANSWERS_WITHIN_SECONDS, limit=1
        )
        try:
            answers = cast("dict[str, dict[str, object]] | None", asked.query_task([task_id]))
        except Exception:
            self._workers_are_back_at = time.monotonic() + _BACK_WITHIN_SECONDS
            raise
        if not answers or worker not in answers:
            return None
        return task_id in answers[worker]
