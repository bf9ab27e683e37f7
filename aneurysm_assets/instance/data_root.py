"""The Dagster instance of a data root: where its state is, and whose progress it keeps.

`dagster.yaml` names the classes below, so that `dagster dev`, `dagster asset materialize` and
`aneurysm-assets` find the same state, at `<data>/dagster`, without an environment variable.
ANEURYSM_DATA names another data root; DAGSTER_HOME overrides both. Where it is `<data>/dagster`,
every command of Dagster's finds this state from any folder: the `dagster.yaml` there names no
class, as stock storage keeps the same files in the same place, also where the data root is moved or
copied.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import dagster as dg
import yaml

from aneurysm_assets.dagster_internals import (
    IO_TYPE_EXTENSION,
    CapturedLogContext,
    CheckError,
    ComputeIOType,
    ConfigurableClassData,
    DagsterSqliteStorage,
    InstanceRef,
    LocalComputeLogManager,
    redirect_to_file,
)
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.databases import LOST_WITH, make_databases
from aneurysm_assets.instance.event_log import BatchingSqliteEventLogStorage
from aneurysm_assets.instance.run_locks import is_shared
from aneurysm_assets.messages import one_line
from aneurysm_assets.settings import OF_DATA_ROOT, Settings, data_of_dagster_home
from aneurysm_assets.storage.atomic_files import atomic_write
from aneurysm_assets.storage.object_path import ObjectPath, list_directory
from aneurysm_assets.storage.object_store import NO_SUCH_BUCKET

CONFIG: Mapping[str, Any] = {
    "storage": {
        "custom": {
            "module": "aneurysm_assets.instance.data_root",
            "class": "DataRootStorage",
            "config": {},
        }
    },
    "compute_logs": {
        "module": "aneurysm_assets.instance.data_root",
        "class": "DataRootComputeLogManager",
        "config": {},
    },
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
}
"""What `dagster.yaml` says; a test keeps the two the same."""

_DAGSTER_YAML = f"""\
{OF_DATA_ROOT}: DAGSTER_HOME may name this folder.
# What you add (run_retries, concurrency, ...) counts for `aneurysm-assets` too, and stays.
telemetry:
  enabled: false
nux:
  enabled: false
"""

_OF_FILES = {"DataRootStorage", DagsterSqliteStorage.__name__}
"""Storages that keep their files where the instance is."""

_CLAIM = "aneurysm_assets/interim"


class DataRootStorage(DagsterSqliteStorage):
    """Dagster's embedded SQLite storage, at `<data>/dagster`, with events written in batches."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        if "?" in base_dir:  # where the options of a database's URL begin
            raise InputError(
                f"{base_dir} has a '?', with which SQLite's databases cannot be named: take a data "
                "root without it"
            )
        make_databases(Path(base_dir))
        super().__init__(base_dir, inst_data)
        events = Path(base_dir) / "history" / "runs"
        self._event_log_storage = BatchingSqliteEventLogStorage(str(events))

    @property
    def event_storage_data(self) -> ConfigurableClassData | None:
        """How another process opens the same event log."""
        return ConfigurableClassData(
            BatchingSqliteEventLogStorage.__module__,
            BatchingSqliteEventLogStorage.__name__,
            yaml.dump({"base_dir": str(Path(self.base_dir) / "history" / "runs")}),
        )

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration: the place follows from ANEURYSM_DATA."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData,
        config_value: Mapping[str, Any],
    ) -> Self:
        """Open or create the storage."""
        home = Settings.from_environment().dagster_home
        return cls.from_local(base_dir=str(home), inst_data=inst_data)


class DataRootComputeLogManager(LocalComputeLogManager):
    """Dagster's local compute logs, at `<data>/dagster/storage`, where DAGSTER_HOME has them."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration: the place follows from ANEURYSM_DATA."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],
    ) -> Self:
        """Make the manager."""
        home = Settings.from_environment().dagster_home
        return cls(base_dir=str(home / "storage"), inst_data=inst_data)


class SilentComputeLogManager(DataRootComputeLogManager):
    """The same without an echo: what a step prints goes to its log and not to the terminal.

    Dagster starts four processes per step for the echo, which end in tracebacks on Ctrl-C.
    """

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Send standard output and error to files."""
        out, err = (
            self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])
            for kind in (ComputeIOType.STDOUT, ComputeIOType.STDERR)
        )
        for path in (out, err):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        with redirect_to_file(sys.stdout, out), redirect_to_file(sys.stderr, err):
            yield CapturedLogContext(log_key)
        # Dagster takes the logs to be complete once this file exists.
        Path(self.complete_artifact_path(log_key)).touch()  # type: ignore[no-untyped-call]


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Open the instance that Dagster's own commands would use from here.

    Parameters
    ----------
    settings : Settings
        Must be those of the environment (`Settings.from_environment`), since Dagster's side
        reads it.

    Returns
    -------
    dg.DagsterInstance
        That of DAGSTER_HOME where it is not that of the data root; else as the `dagster.yaml` of
        the working directory says, as `dagster dev` does; else the one at `<data>/dagster`.

    Raises
    ------
    InputError
        DAGSTER_HOME, or a `dagster.yaml`, is not what Dagster can use.
    """
    try:
        home = os.environ.get("DAGSTER_HOME")
        if home and data_of_dagster_home(os.environ) is None:
            return dg.DagsterInstance.get()
        with suppress(OSError):  # all that runs on the data can do without
            write_dagster_yaml(settings)
        config = None if home or not Path("dagster.yaml").is_file() else Path.cwd()
        return dg.DagsterInstance.from_ref(_without_echo(_reference(settings.dagster_home, config)))
    except (dg.DagsterError, CheckError, yaml.YAMLError) as error:
        raise InputError(f"the Dagster instance cannot be opened: {one_line(error)}") from error


def is_read_only(settings: Settings) -> bool:
    """Tell whether the record is with the data, and cannot be written there."""
    if os.environ.get("DAGSTER_HOME") and data_of_dagster_home(os.environ) is None:
        return False
    held = next((path for path in (settings.dagster_home, settings.data) if path.exists()), None)
    return held is not None and not os.access(held, os.W_OK)


@contextmanager
def open_copy(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open a copy of the record of a data root that cannot be written, and remove it in the end.

    SQLite writes beside a database also where it is only read.

    Raises
    ------
    OSError
        The record cannot be read, or there is no room for the copy in the temporary directory.
    """
    with TemporaryDirectory() as copy:
        for name in LOST_WITH:
            copied = Path(copy) / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            for path in settings.dagster_home.glob(f"{name}*"):
                shutil.copyfile(path, copied.with_name(path.name))
        stock = {"storage": {"sqlite": {"base_dir": copy}}}
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(copy, overrides=stock)) as instance:
            yield instance


def write_dagster_yaml(settings: Settings) -> None:
    """Write what tells that `<data>/dagster` is the DAGSTER_HOME of the data root; once for all.

    Raises
    ------
    OSError
        It cannot be written.
    """
    path = settings.dagster_home / "dagster.yaml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda partial: partial.write_text(_DAGSTER_YAML, encoding="utf-8"))


def _reference(home: Path, config: Path | None) -> InstanceRef:
    home.mkdir(parents=True, exist_ok=True)
    if config is not None:
        return InstanceRef.from_dir(str(home), config_dir=str(config))
    return InstanceRef.from_dir(str(home), overrides=dict(CONFIG))


def _without_echo(reference: InstanceRef) -> InstanceRef:
    """Keep what steps print off the terminal of the command line, if our compute logs are used."""
    logs = reference.compute_logs_data
    if logs is None or logs.class_name != DataRootComputeLogManager.__name__:
        return reference
    return reference._replace(
        compute_logs_data=logs._replace(
            module_name=SilentComputeLogManager.__module__,
            class_name=SilentComputeLogManager.__name__,
        )
    )


def claim(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Tie the instance to one interim root, so that two interim roots never share progress.

    An instance at `<data>/dagster` keeps the path relative to its data root, and moves with it. Any
    other keeps the absolute path, until that no longer exists. Both keep the URL of a bucket. An
    instance that hosts share stays tied: what does not exist on this host may exist on another.

    Raises
    ------
    InputError
        The instance keeps the progress of another interim root, or the bucket cannot be used.
    """
    mine = settings.interim
    base = settings.data if _belongs_to_data(instance, settings) else Path("/")
    store = instance.daemon_cursor_storage
    held = store.get_cursor_values({_CLAIM}).get(_CLAIM)
    if isinstance(mine, ObjectPath):
        _refuse_unusable(mine)
        claimed = str(mine)
    else:
        claimed = os.path.relpath(mine, base)
    if held == claimed:
        return
    shared = is_shared(instance)
    if held is not None and (shared or _exists(base, held)):
        other = held if _is_url(held) else (base / held).resolve()
        raise InputError(
            f"this Dagster instance keeps the progress of {other}, not of {mine}: "
            + (
                "all hosts of an instance need the tables at the same path (where they were moved, "
                f"delete the row {_CLAIM!r} of the table kvs in its database)"
                if shared
                else "set another DAGSTER_HOME or data root, or move the tables there first"
            )
        )
    store.set_cursor_values({_CLAIM: claimed})


def _refuse_unusable(interim: ObjectPath) -> None:
    """Make sure of the bucket before any series counts as missing or materialized.

    Raises
    ------
    InputError
        It does not exist, does not answer, or refuses our credentials.
    """
    try:
        list_directory(interim)
    except FileNotFoundError:
        pass  # nothing has been written to it yet
    except OSError as error:
        raise InputError(
            f"the interim root {interim} cannot be used ({error.strerror}): the bucket must "
            "exist, and its store and credentials in the environment (AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID, …)"
        ) from error


def _is_url(held: str) -> bool:
    return "://" in held


def _exists(base: Path, held: str) -> bool:
    if not _is_url(held):
        return (base / held).exists()
    try:
        list_directory(ObjectPath.parse(held))
    except FileNotFoundError:
        return False
    except OSError as error:
        # A store that does not answer counts as one that has it: the instance stays tied.
        return error.errno != NO_SUCH_BUCKET
    return True


def _belongs_to_data(instance: dg.DagsterInstance, settings: Settings) -> bool:
    if not instance.is_persistent:
        return False
    storage = instance.get_ref().storage_data
    if storage is None or storage.class_name not in _OF_FILES:
        return False
    home = instance.root_directory
    return storage.class_name == DataRootStorage.__name__ or os.path.realpath(
        home
    ) == os.path.realpath(settings.dagster_home)
