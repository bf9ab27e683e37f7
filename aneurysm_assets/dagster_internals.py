"""The one door to Dagster's private names: why each is needed, and what public thing would do.

Dagster may change them in any release; `tests/test_dagster_internals.py` checks each on the oldest
and the newest that is allowed. Those that only a cluster needs, and that need its extra, are in
`cluster.dagster_internals`. Nothing is defined here.
"""

# isort: off

# --- The instance of a data root: storage and compute logs that take their place from it.
# Opens an instance from a directory and a configuration. Public: `DagsterInstance.get`, once it
# takes a configuration where there is no DAGSTER_HOME.
from dagster._core.instance import InstanceRef

# How an instance names a class of its configuration. Public: a documented way to write a storage.
from dagster._serdes import ConfigurableClassData

# The base of DataRootStorage. Public: `base_dir` of the configuration `storage.sqlite`, once it may
# follow from another variable than DAGSTER_HOME and the event log may be another class.
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

# The base of DataRootComputeLogManager, and what it is asked for. Public: a setting that keeps what
# steps print off the terminal.
from dagster._core.storage.local_compute_log_manager import (
    IO_TYPE_EXTENSION,
    LocalComputeLogManager,
)
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.execution.compute_logs import redirect_to_file

# Tell a file of one host from a database of many. Public: an instance that says it itself.
from dagster._core.storage.runs import InMemoryRunStorage, SqliteRunStorage

# What it raises where a class that a `dagster.yaml` names is not found. Public: `DagsterError`.
from dagster._check import CheckError

# How an instance is handed to a webserver and a daemon, as `dagster dev` does. Public: an option of
# both that names a configuration.
from dagster._serdes import serialize_value

# What a run says of the code location that it is of. Public: a parameter of `execute_in_process`.
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

# --- The event log: batches of events in one transaction.
# The storages whose writing is replaced, and the table they write. Public: stock storage that
# writes a batch in one transaction.
from dagster._core.storage.event_log import (
    SqlEventLogStorage,
    SqlEventLogStorageTable,
    SqliteEventLogStorage,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

# For which types of events storage does more than insert a row. Public: as above.
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
)

# --- Series recorded one by one inside a batch step.
# Record events of partitions in batches: `log_event` costs ten times as much. Public: `log_event`
# for a batch, and a way to say which partitions a run is going to materialize.
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEventBatchMetadata,
    StepMaterializationData,
)

# The tag of a materialization's data version. Public: `AssetMaterialization(data_version=…)`, as
# `MaterializeResult` has it.
from dagster._core.definitions.data_version import DATA_VERSION_TAG

# In the metadata of an output: no materialization is recorded for it, the step has recorded its
# own. Public: a batch of `MaterializeResult`, one per partition, in a run of a range.
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

# --- Runs and backfills, as others see them.
# Tags that Dagster's documentation names as text only. Public: constants of the same texts.
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    AUTO_RETRY_RUN_ID_TAG,
    RESUME_RETRY_TAG,
    RETRY_NUMBER_TAG,
    WILL_RETRY_TAG,
)

# Which backfills are active. Public: the GraphQL of a webserver, which a sensor does not have.
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

# isort: on

__all__ = [
    "ASSET_CHECK_EVENTS",
    "ASSET_EVENTS",
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "AUTO_RETRY_RUN_ID_TAG",
    "DATA_VERSION_TAG",
    "EVENT_TYPE_TO_PIPELINE_RUN_STATUS",
    "INDEX_SHARD_NAME",
    "IO_TYPE_EXTENSION",
    "RESUME_RETRY_TAG",
    "RETRY_NUMBER_TAG",
    "SQLITE_BUSY_TIMEOUT_SECONDS",
    "SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION",
    "WILL_RETRY_TAG",
    "AssetMaterializationPlannedData",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CapturedLogContext",
    "CheckError",
    "ComputeIOType",
    "ConfigurableClassData",
    "DagsterEventBatchMetadata",
    "DagsterSqliteStorage",
    "InMemoryRunStorage",
    "InstanceRef",
    "LoadableTargetOrigin",
    "LocalComputeLogManager",
    "ManagedGrpcPythonEnvCodeLocationOrigin",
    "RemoteJobOrigin",
    "RemoteRepositoryOrigin",
    "SqlEventLogStorage",
    "SqlEventLogStorageTable",
    "SqliteEventLogStorage",
    "SqliteRunStorage",
    "StepMaterializationData",
    "redirect_to_file",
    "serialize_value",
]
