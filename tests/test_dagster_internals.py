"""Each private name of Dagster that we use: it is there, can be called as we do, and what for.

`.ci/run` runs this on the oldest and on the newest release that `pyproject.toml` allows.
"""

import ast
import importlib
import inspect
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import aneurysm_assets

PACKAGE = Path(aneurysm_assets.__file__).parent
DOORS = (PACKAGE / "dagster_internals.py", PACKAGE / "cluster" / "dagster_internals.py")

Arguments = tuple[tuple[object, ...], dict[str, object]]


def given(*positional: object, **keywords: object) -> Arguments:
    """Return the arguments of a call as we make it."""
    return positional, keywords


@dataclass(frozen=True)
class Use:
    """What we use of a name, and what breaks without it."""

    breaks: str
    call: Arguments | None = None
    """How the name itself is called."""
    methods: dict[str, Arguments] = field(default_factory=dict)
    """How its methods are called, or called by Dagster where we override them."""
    attributes: tuple[str, ...] = ()
    """Of its class, or assigned by its `__init__`."""


IN_BATCHES = "events are not written in batches: a partition takes 22 ms and not 1"
NO_INSTANCE = "the instance of a data root cannot be opened: no command works"
NO_UI = "`aneurysm-assets ui` cannot open the instance that `run` works on"
NO_ORIGIN = "the timeline of the UI does not show the runs of `aneurysm-assets run`"
NO_LOGS = "what the steps of a run print goes to the terminal, or nowhere"
NO_LAUNCHER = "a cluster starts no runs, or leaves those of dead workers STARTED for ever"
NO_WORKER = "a Celery worker executes no runs"
NO_CLUSTER = "the instance of a cluster cannot be opened"
FAILURES = "a backfill of a cluster ends failed though each of its series was retried and done"
RANGES = "a run of a range is not known to work on its series, and they are requested twice"
RETRIES = "a retry reads all series of its run again"

SINGLE_EVENT = given("connection", "event", 1)
EVENTS_WITH_IDS = given("connection", ["event"], [1])

PRIVATE = {
    "InstanceRef": Use(
        NO_INSTANCE,
        methods={
            "from_dir": given("home", config_dir="directory", overrides={}),
            "_replace": given(compute_logs_data=None),
        },
        attributes=("storage_data", "compute_logs_data"),
    ),
    "SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION": Use(
        "a run of a range ends before the unified table, or blanks what it recorded of each series"
    ),
    "ConfigurableClassData": Use(
        NO_INSTANCE,
        call=given("module", "class", "yaml"),
        methods={"_replace": given(class_name="class")},
        attributes=("class_name", "config_yaml"),
    ),
    "DagsterSqliteStorage": Use(
        NO_INSTANCE,
        call=given("base_dir", None),
        methods={
            "from_local": given(base_dir="base_dir", inst_data=None),
            "from_config_value": given(None, {}),
        },
        attributes=("base_dir", "event_storage_data", "_event_log_storage", "config_type"),
    ),
    "LocalComputeLogManager": Use(
        NO_LOGS,
        call=given(base_dir="base_dir", inst_data=None),
        methods={
            "capture_logs": given(["key"]),
            "complete_artifact_path": given(["key"]),
            "get_captured_local_path": given(["key"], "out"),
            "from_config_value": given(None, {}),
        },
        attributes=("config_type",),
    ),
    "IO_TYPE_EXTENSION": Use(NO_LOGS),
    "ComputeIOType": Use(NO_LOGS, attributes=("STDOUT", "STDERR")),
    "CapturedLogContext": Use(NO_LOGS, call=given(["key"])),
    "serialize_value": Use(NO_UI, call=given("reference")),
    "LoadableTargetOrigin": Use(NO_ORIGIN, call=given(module_name="module")),
    "ManagedGrpcPythonEnvCodeLocationOrigin": Use(NO_ORIGIN, call=given("target", "location")),
    "RemoteRepositoryOrigin": Use(NO_ORIGIN, call=given("location", "repository")),
    "RemoteJobOrigin": Use(NO_ORIGIN, call=given("repository", "job")),
    "redirect_to_file": Use(NO_LOGS, call=given("stream", "path")),
    "CheckError": Use("a dagster.yaml that names a class wrongly ends in a traceback"),
    "InMemoryRunStorage": Use("whether hosts share an instance cannot be told"),
    "SqliteRunStorage": Use("whether hosts share an instance cannot be told"),
    "SqlEventLogStorage": Use(
        "a series that a retry leaves out is shown failed",
        methods={"run_connection": given("run_id"), "index_connection": given()},
    ),
    "SqlEventLogStorageTable": Use(IN_BATCHES, attributes=("c", "insert", "delete")),
    "SqliteEventLogStorage": Use(
        IN_BATCHES,
        call=given("base_dir", None),
        methods={
            "_connect": given("shard"),
            "_event_to_row": given("event"),
            "_initdb": given("engine", for_index_shard=False),
            "_store_asset_event": SINGLE_EVENT,
            "_store_asset_event_tags": EVENTS_WITH_IDS,
            "conn_string_for_shard": given("shard"),
            "dispose": given(),
            "has_table": given("table"),
            "index_transaction": given(),
            "run_connection": given("run_id"),
            "store_event_batch": given(["event"]),
        },
        attributes=("_db_lock", "_initialized_dbs"),
    ),
    "INDEX_SHARD_NAME": Use(IN_BATCHES),
    "SQLITE_BUSY_TIMEOUT_SECONDS": Use("two processes that write at once fail"),
    "ASSET_CHECK_EVENTS": Use(IN_BATCHES),
    "ASSET_EVENTS": Use(IN_BATCHES),
    "EVENT_TYPE_TO_PIPELINE_RUN_STATUS": Use(IN_BATCHES),
    "AssetMaterializationPlannedData": Use(
        "a series that fails or is cut off leaves no trace in its status",
        call=given("key", partition="series"),
    ),
    "DagsterEventBatchMetadata": Use(IN_BATCHES, call=given("batch", True)),
    "StepMaterializationData": Use(
        "no series of a batch is recorded", call=given("materialization", ["lineage"])
    ),
    "DATA_VERSION_TAG": Use("no series is known to have changed, and none is read again"),
    "ASSET_PARTITION_RANGE_END_TAG": Use(RANGES),
    "ASSET_PARTITION_RANGE_START_TAG": Use(RANGES),
    "AUTO_RETRY_RUN_ID_TAG": Use("the automation waits for retries that were made long ago"),
    "WILL_RETRY_TAG": Use("the automation requests what Dagster is about to retry"),
    "RESUME_RETRY_TAG": Use(RETRIES),
    "RETRY_NUMBER_TAG": Use(RETRIES),
    "BulkActionStatus": Use(
        "the automation works on series that a backfill works on",
        attributes=("REQUESTED", "CANCELING", "FAILING", "COMPLETED_FAILED"),
    ),
    "BulkActionsFilter": Use(
        "the automation works on series that a backfill works on", call=given(statuses=[])
    ),
}

OF_A_CLUSTER = {
    "TASK_EXECUTE_JOB_NAME": Use(NO_WORKER),
    "DAGSTER_CELERY_TASK_ID_TAG": Use(NO_WORKER),
    "CeleryRunLauncher": Use(
        NO_LAUNCHER,
        methods={
            "_launch_celery_task_run": given("run", "signature", "routing_key"),
            "check_run_worker_health": given("run"),
            "from_config_value": given(None, {}),
            "get_run_worker_debug_info": given("run", True),
            "launch_run": given("context"),
            "terminate": given("run_id"),
        },
        attributes=("supports_resume_run", "celery", "_instance"),
    ),
    "DagsterUserCodeUnreachableError": Use("runs fail while the broker is away"),
    "CheckRunHealthResult": Use(NO_LAUNCHER, call=given("status", "message")),
    "LaunchRunContext": Use(NO_LAUNCHER, attributes=("dagster_run",)),
    "WorkerStatus": Use(NO_LAUNCHER, attributes=("RUNNING", "FAILED")),
    "ExecuteRunArgs": Use(NO_WORKER, methods={"get_command_args": given()}, attributes=("run_id",)),
    "unpack_value": Use(NO_WORKER, call=given({}, as_type=object)),
    "DagsterPostgresException": Use("a worker gives its run up while the database is away"),
    "PgTokenProvider": Use(NO_CLUSTER),
    "create_pg_engine": Use(NO_CLUSTER, call=given("url", None, poolclass=None)),
    "get_token_provider_from_config": Use(NO_CLUSTER, call=given({})),
    "pg_url_from_config": Use(NO_CLUSTER, call=given({})),
    "retry_pg_connection_fn": Use(NO_CLUSTER, call=given(print)),
    "BULK_ACTION_TERMINAL_STATUSES": Use(FAILURES),
    "PartitionBackfill": Use(FAILURES, attributes=("backfill_id", "status", "is_asset_backfill")),
    "RunsTable": Use(FAILURES, attributes=("c",)),
    "BACKFILL_ID_TAG": Use(FAILURES),
}

DATABASE = given(
    postgres_url="url", should_autocreate_tables=True, inst_data=None, token_provider=None
)

PUBLIC = {
    "dagster.DagsterInstance": Use(
        "progress is neither recorded nor read",
        methods={
            "add_run_tags": given("run_id", {}),
            "create_run_for_job": given(job_def="job", run_id="id", remote_job_origin="origin"),
            "all_logs": given("run_id", of_type="type"),
            "get_backfills": given(filters=None),
            "get_execution_plan_snapshot": given("id"),
            "get_ref": given(),
            "get_status_by_partition": given("key", ["series"], "definition"),
            "report_dagster_event": given("event", "run_id", 10, batch_metadata=None),
            "report_run_canceled": given("run", message="reason"),
            "report_run_canceling": given("run"),
            "report_run_failed": given("run", "reason"),
        },
        attributes=(
            "daemon_cursor_storage",
            "event_log_storage",
            "is_persistent",
            "run_launcher",
            "run_retries_enabled",
            "run_storage",
        ),
    ),
    "dagster.DagsterEvent": Use(
        "series are not recorded one by one inside a batch",
        methods={
            "asset_materialization": given("step", "materialization", "batch"),
            "build_asset_materialization_planned_event": given("job", "step", "data"),
        },
    ),
    "dagster.AssetExecutionContext": Use(
        "series are not recorded one by one inside a batch",
        methods={"get_step_execution_context": given()},
    ),
    "dagster_postgres.DagsterPostgresStorage": Use(
        NO_CLUSTER, call=DATABASE, attributes=("_event_log_storage", "_run_storage")
    ),
    "dagster_postgres.PostgresEventLogStorage": Use(
        NO_CLUSTER,
        call=DATABASE,
        methods={
            "_connect": given(),
            "_event_to_row": given("event"),
            "_store_asset_event": SINGLE_EVENT,
            "_store_asset_event_tags": EVENTS_WITH_IDS,
            "get_logs_for_all_runs_by_log_id": given(1, "type", 1),
            "has_table": given("table"),
            "index_connection": given(),
            "index_transaction": given(),
            "store_event": given("event"),
            "store_event_batch": given(["event"]),
        },
    ),
    "dagster_postgres.PostgresRunStorage": Use(
        FAILURES,
        call=DATABASE,
        methods={
            "get_backfill": given("id"),
            "get_run_ids": given("filter"),
            "update_backfill": given("backfill"),
        },
    ),
}
"""Of classes that are public, the members that are not documented."""


def modules_of_names() -> dict[str, str]:
    """Return the module that each name comes from, as the doors import it."""
    return {
        alias.name: node.module or ""
        for door in DOORS
        for node in ast.parse(door.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def import_of_this_release(module: str) -> Any:
    """Import a module; skip the test where its package is not that of the Dagster tested here."""
    package = module.partition(".")[0]
    if package in {"dagster_celery", "dagster_postgres"}:
        pytest.importorskip(package)
        installed = metadata.version("dagster")
        pins = [re.fullmatch(r"dagster==(\S+)", pin) for pin in metadata.requires(package) or []]
        if not any(pin and pin[1] == installed for pin in pins):
            pytest.skip(f"there is no {package} for Dagster {installed} here")
    return importlib.import_module(module)


def bind(function: Any, arguments: Arguments, *, of: object = None) -> None:
    """Raise TypeError where a function does not take the arguments."""
    positional, keywords = arguments
    if of is not None and inspect.isfunction(inspect.getattr_static(of, function.__name__, None)):
        positional = ("self", *positional)
    inspect.signature(function).bind(*positional, **keywords)


def has(thing: Any, attribute: str) -> bool:
    """Tell whether an object has an attribute, or its class's `__init__` gives it one."""
    return hasattr(thing, attribute) or any(
        attribute in base.__init__.__code__.co_names
        for base in getattr(thing, "__mro__", ())
        if inspect.isfunction(base.__dict__.get("__init__"))
    )


def check(module: str, name: str, use: Use) -> None:
    found = import_of_this_release(module)
    breaks = f"Without what we use of {module}.{name}: {use.breaks}."
    assert hasattr(found, name), breaks
    thing = getattr(found, name)
    for attribute in (*use.methods, *use.attributes):
        assert has(thing, attribute), f"{breaks} It has no {attribute}"
    try:
        if use.call is not None:
            bind(thing, use.call)
        for method, arguments in use.methods.items():
            bind(getattr(thing, method), arguments, of=thing)
    except TypeError as error:
        pytest.fail(f"{breaks} It is called otherwise: {error}")


def test_each_name_of_the_doors_is_checked_and_no_other() -> None:
    assert modules_of_names().keys() == PRIVATE.keys() | OF_A_CLUSTER.keys()


@pytest.mark.parametrize("name", [*PRIVATE, *OF_A_CLUSTER])
def test_a_private_name_is_there_and_taken_as_we_use_it(name: str) -> None:
    check(modules_of_names()[name], name, (PRIVATE | OF_A_CLUSTER)[name])


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_class_has_the_members_that_nobody_documents(name: str) -> None:
    module, _, of_class = name.rpartition(".")
    check(module, of_class, PUBLIC[name])


def test_a_name_that_is_missing_or_called_otherwise_is_told_in_words() -> None:
    use = Use("nothing works", call=given(1))
    with pytest.raises(AssertionError, match=r"textwrap\.no_such_name: nothing works"):
        check("textwrap", "no_such_name", use)
    with pytest.raises(pytest.fail.Exception, match=r"nothing works.*otherwise"):
        check("textwrap", "dedent", Use("nothing works", call=given(1, 2, 3)))
    with pytest.raises(AssertionError, match="no wide"):
        check("textwrap", "TextWrapper", Use("nothing works", attributes=("width", "wide")))
