"""The door to the private names that only a cluster needs, as the package's `dagster_internals`.

It stands apart because the packages of the extra `cluster` are missing elsewhere, and because no
other process has to load Dagster's launchers and gRPC. Nothing is defined here.
"""

# isort: off

# --- The launcher: runs as Celery tasks, and workers that are found dead.
# The base of CeleryLauncher and the name of its task. Public: a launcher of dagster-celery that
# finds dead workers and needs no result backend.
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

# What Dagster asks a launcher, and how it answers. Public: a documented way to write a launcher.
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

# --- The worker: executes a run in a process of its own.
# What the task is given, and the command that executes it. Public: a command `dagster run execute`.
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value

# What storage raises while the database is away. Public: an error of Dagster's own for it.
from dagster_postgres.utils import DagsterPostgresException

# --- The storage: batches of events in one transaction, as `instance.event_log` has them.
# How stock storages read their configuration. Public: classes that a subclass can be made from.
from dagster_postgres.auth import PgTokenProvider
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

# How they connect, to make the tables of a new database one process at a time. Public: storages
# that wait for one another where several begin at once.
from dagster_postgres.utils import create_pg_engine, retry_pg_connection_fn

# --- Failures told in their time (dagster-io/dagster#34204). Public: that end.
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, PartitionBackfill
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.tags import BACKFILL_ID_TAG

# isort: on

__all__ = [
    "BACKFILL_ID_TAG",
    "BULK_ACTION_TERMINAL_STATUSES",
    "DAGSTER_CELERY_TASK_ID_TAG",
    "TASK_EXECUTE_JOB_NAME",
    "CeleryRunLauncher",
    "CheckRunHealthResult",
    "DagsterPostgresException",
    "DagsterUserCodeUnreachableError",
    "ExecuteRunArgs",
    "LaunchRunContext",
    "PartitionBackfill",
    "PgTokenProvider",
    "RunsTable",
    "WorkerStatus",
    "create_pg_engine",
    "get_token_provider_from_config",
    "pg_url_from_config",
    "retry_pg_connection_fn",
    "unpack_value",
]
