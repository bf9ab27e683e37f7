"""The Dagster instance of a data root: where its state is, and whose progress it keeps.

`dagster.yaml` names the classes below, so that `dagster dev`, `dagster asset materialize` and
`aneurysm-assets` find the same state, at `<data>/dagster`: the one of the project without an
environment variable (ANEURYSM_DATA names another data root), the one that each data root has where
DAGSTER_HOME is `<data>/dagster`. Another DAGSTER_HOME overrides both.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import dagster as dg
import yaml
from dagster import Field, StringSource

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
from aneurysm_assets.instance.databases import make_databases
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

_CLAIM = "aneurysm_assets/interim"

_OF_DATA = {"data": Field(StringSource, is_required=False)}
"""Of which data root the storage and the logs are, where DAGSTER_HOME is not that of another."""


def _home(config_value: Mapping[str, Any]) -> Path:
    """Return where an instance of a data root keeps its state.

    Raises
    ------
    InputError
        The data root that its `dagster.yaml` names is not there, as it was moved.
    """
    named = config_value.get("data")
    if named is None:
        return Settings.from_environment().dagster_home
    data = data_of_dagster_home(os.environ) or Path(named)
    if not data.is_dir():
        raise InputError(
            f"the data root {data} is not there: if it was moved, `aneurysm-assets status --data` "
            "with its new place says so to Dagster"
        )
    return data / "dagster"


class DataRootStorage(DagsterSqliteStorage):
    """Dagster's embedded SQLite storage, at `<data>/dagster`, with events written in batches."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
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
        """Name the data root; without it the place follows from ANEURYSM_DATA."""
        return _OF_DATA

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData,
        config_value: Mapping[str, Any],
    ) -> Self:
        """Open or create the storage."""
        return cls.from_local(base_dir=str(_home(config_value)), inst_data=inst_data)


class DataRootComputeLogManager(LocalComputeLogManager):
    """Dagster's local compute logs, at `<data>/dagster/storage`, where DAGSTER_HOME has them."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Name the data root; without it the place follows from ANEURYSM_DATA."""
        return _OF_DATA

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],
    ) -> Self:
        """Make the manager."""
        return cls(base_dir=str(_home(config_value) / "storage"), inst_data=inst_data)


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
        That of DAGSTER_HOME where set; else as the `dagster.yaml` of the working directory says,
        as `dagster dev` does; else the one at `<data>/dagster`.

    Raises
    ------
    InputError
        DAGSTER_HOME, or a `dagster.yaml`, is not what Dagster can use.
    """
    try:
        if os.environ.get("DAGSTER_HOME"):
            return dg.DagsterInstance.get()
        with suppress(OSError):  # all that runs on the data can do without
            write_dagster_yaml(settings)
        return dg.DagsterInstance.from_ref(_without_echo(_reference(settings.dagster_home)))
    except (dg.DagsterError, CheckError, yaml.YAMLError) as error:
        raise InputError(f"the Dagster instance cannot be opened: {one_line(error)}") from error


def write_dagster_yaml(settings: Settings) -> None:
    """Write what makes `DAGSTER_HOME=<data>/dagster` this instance for every command of Dagster's.

    What somebody added to the file stays; one that is not ours is left alone.

    Raises
    ------
    OSError
        It cannot be written.
    """
    path, data = settings.dagster_home / "dagster.yaml", str(settings.data.resolve())
    try:
        held = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        held = _dagster_yaml(data)
    else:
        if not held.startswith(OF_DATA_ROOT) or _data_roots(held) == {data}:
            return
        held = _DATA_LINE.sub(lambda line: line[1] + json.dumps(data), held)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: partial.write_text(held, encoding="utf-8"))


_DATA_LINE = re.compile(r"^( *data: )(.*)$", re.MULTILINE)


def _data_roots(text: str) -> set[str]:
    return {str(yaml.safe_load(found)) for _, found in _DATA_LINE.findall(text)}


def _dagster_yaml(data: str) -> str:
    """Return `CONFIG` as a file that names its data root."""
    config = json.loads(json.dumps(CONFIG))
    for of_class in (config["storage"]["custom"], config["compute_logs"]):
        of_class["config"]["data"] = data
    return (
        f"{OF_DATA_ROOT}: DAGSTER_HOME may name this folder.\n"
        "# Add what you like (run_retries, concurrency, ...): only `data` is renewed, where the\n"
        "# data root was moved.\n"
    ) + "".join(yaml.safe_dump({key: value}, sort_keys=False) for key, value in config.items())


def _reference(home: Path) -> InstanceRef:
    home.mkdir(parents=True, exist_ok=True)
    if Path("dagster.yaml").is_file():
        return InstanceRef.from_dir(str(home), config_dir=str(Path.cwd()))
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
    base = settings.data if _belongs_to_data(instance) else Path("/")
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


def _belongs_to_data(instance: dg.DagsterInstance) -> bool:
    if not instance.is_persistent:
        return False
    storage = instance.get_ref().storage_data
    return storage is not None and storage.class_name == DataRootStorage.__name__
