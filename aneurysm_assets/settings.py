"""Where things are, and how many workers read them.

The one place that knows the environment variables and the layout below the roots. Values given
by a caller go before the environment; what is in neither has the default written here.
"""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from aneurysm_assets.errors import InputError, SeriesError
from aneurysm_assets.storage import object_store
from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.uid import is_uid

DATA = "ANEURYSM_DATA"
RAW = "ANEURYSM_RAW"
INTERIM = "ANEURYSM_INTERIM"
WORKERS = "ANEURYSM_WORKERS"
THREADS = "ANEURYSM_THREADS"
UNLABELLED = "ANEURYSM_UNLABELLED"
PIXEL_COORDINATES = "ANEURYSM_PIXEL_COORDINATES"
SERIES_PER_RUN = "ANEURYSM_SERIES_PER_RUN"
TABLE_AUTOMATION = "ANEURYSM_TABLE_AUTOMATION"

PREFIXES = ("ANEURYSM_", *object_store.VARIABLES)
"""How the variables begin that may stand in a `.env`; so may DAGSTER_HOME."""

_MOST_THREADS = 256

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


PixelCoordinates = Literal["centres", "corners"]
"""What whole x and y of train_localizers.csv are: the centres of pixels, or their first corners."""


@dataclass(frozen=True)
class Settings:
    """The roots and the choices of how to run.

    Attributes
    ----------
    data : Path
        The root to which `raw`, `interim` and `dagster` belong by default; of this machine.
    raw : Location
        Input: `series/`, `segmentations/`, `train.csv`, `train_localizers.csv`; a path, or a name
        in a bucket.
    interim : Location
        Output: one directory a partitioned table, and the unified table; likewise.
    workers : int
        Processes that read series at the same time.
    unlabelled : bool
        Whether directories without a row in train.csv are taken too.
    threads : int or None
        Threads of each worker that fetch files ahead, for storage that makes it wait; None for
        as many as are worth it: `storage.fetching.THREADS` in a bucket.
    pixel_coordinates : {"centres", "corners"}
        What whole x and y of a point are taken for; the competition does not say.
    series_per_run : int or None
        Into runs of how many series Dagster splits a backfill and what the automation requests;
        None for one run. `aneurysm-assets run` is always one.
    """

    data: Path
    raw: Location
    interim: Location
    workers: int
    unlabelled: bool = False
    threads: int | None = None
    series_per_run: int | None = None
    pixel_coordinates: PixelCoordinates = "centres"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from environment variables.

        Without ANEURYSM_DATA the data root is the one that DAGSTER_HOME belongs to, else `data`.
        Roots that none names are those that are recorded with the progress of the data root, else
        `raw` and `interim` below it.

        Parameters
        ----------
        environment : mapping of str to str, optional
            `os.environ` where not given.

        Returns
        -------
        Settings
            All paths absolute.

        Raises
        ------
        InputError
            A variable has a value that cannot be used.
        """
        values = os.environ if environment is None else environment
        data = _data(values)
        recorded = recorded_roots(data)
        return cls(
            data=data,
            raw=_location(RAW, values.get(RAW) or _default(data, recorded, "raw")),
            interim=_location(INTERIM, values.get(INTERIM) or _default(data, recorded, "interim")),
            workers=_workers(values.get(WORKERS, "")),
            unlabelled=_switch(UNLABELLED, values.get(UNLABELLED, "")),
            threads=_threads(values.get(THREADS, "")),
            series_per_run=series_per_run(values),
            pixel_coordinates=_pixel_coordinates(values.get(PIXEL_COORDINATES, "")),
        )

    @property
    def series_root(self) -> Location:
        """The directory of the series directories."""
        return self.raw / "series"

    @property
    def segmentations_root(self) -> Location:
        """The directory of the segmentation directories."""
        return self.raw / "segmentations"

    @property
    def train_csv(self) -> Location:
        """The labels."""
        return self.raw / "train.csv"

    @property
    def localizers_csv(self) -> Location:
        """The aneurysm points."""
        return self.raw / "train_localizers.csv"

    @property
    def dagster_home(self) -> Path:
        """Where the Dagster instance of these data keeps its state."""
        return self.data / "dagster"

    @property
    def unified_table(self) -> Location:
        """The unified table without its suffix, which is `.parquet`, or `.csv` as a fallback."""
        return self.interim / "dicom_metadata_with_csv"

    @property
    def unplaced_table(self) -> Location:
        """The points that found no image, without its suffix."""
        return self.interim / "localizers_without_image"

    @property
    def quality_table(self) -> Location:
        """The table `series_quality` without its suffix."""
        return self.interim / "series_quality"

    @property
    def volumes_table(self) -> Location:
        """The table `volumes`, without its suffix."""
        return self.interim / "volumes"

    @property
    def dataset_tables(self) -> tuple[Location, ...]:
        """The tables of the whole data set that are made together, without their suffixes."""
        return self.unified_table, self.volumes_table, self.quality_table

    def table_of_series(self, table: str, series_instance_uid: str) -> Location:
        """Path, without suffix, of one series' file of a table.

        Raises
        ------
        SeriesError
            The key is no DICOM UID: it must not become a path.
        """
        return self.interim / table / _as_name(series_instance_uid)

    def directory_of_series(self, series_instance_uid: str) -> Location:
        """Directory of one series' DICOM files.

        Raises
        ------
        SeriesError
            The key is no DICOM UID: it must not become a path.
        """
        return self.series_root / _as_name(series_instance_uid)


def series_root_unreadable(settings: Settings, reason: str | None) -> str:
    """Say that there are no series to list, and what to type instead.

    Parameters
    ----------
    settings : Settings
        Those that name the place.
    reason : str or None
        The system's.
    """
    found = _series_nearby(settings)
    hint = (
        f"there are series below {found}: give --raw {shlex.quote(str(found))}"
        if found
        else f"put the data there, or say where they are with --data or --raw ({DATA}, {RAW})"
    )
    return (
        f"the series directory {settings.series_root} cannot be read ({reason}), so nothing was "
        f"changed: {hint}"
    )


def _series_nearby(settings: Settings) -> Path | None:
    """Return the raw root that was meant where another folder of the same data was named."""
    raw = settings.raw
    if isinstance(raw, ObjectPath):
        return None
    near = (settings.data, raw.parent, raw / "raw")
    # `Path.is_dir` would raise where a folder may not be looked into.
    return next((root for root in near if os.path.isdir(root / "series")), None)  # noqa: PTH112


def roots_file(data: Path) -> Path:
    """Return where the roots are recorded that the progress of a data root is of."""
    return data / "dagster" / "roots.json"


OF_DATA_ROOT = "# The Dagster instance of an aneurysm-assets data root"
"""How the first line of `<data>/dagster/dagster.yaml` begins."""


def data_of_dagster_home(environment: Mapping[str, str]) -> Path | None:
    """Return the data root to which the directory that DAGSTER_HOME names belongs.

    Returns
    -------
    Path or None
        The folder above it, wherever it was moved; None where it is the home of another instance.
    """
    home = environment.get("DAGSTER_HOME")
    if not home:
        return None
    try:
        with (Path(home) / "dagster.yaml").open(encoding="utf-8") as file:
            return (
                Path(home).absolute().parent if file.readline().startswith(OF_DATA_ROOT) else None
            )
    except (OSError, ValueError):
        return None


def recorded_roots(data: Path) -> Mapping[str, Any]:
    """Return the recorded roots of a data root, relative to it or URLs; empty where there are none.

    Raises
    ------
    InputError
        The file is there and is no record.
    """
    path = roots_file(data)
    try:
        roots = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(roots, dict):
        raise InputError(f"{path} is no record of roots: remove it, and name them by the settings")
    return roots


def recorded_tags() -> str:
    """Return the attributes that were read beside the usual ones, as the variable has them.

    Raises
    ------
    InputError
        The record of the data root cannot be used.
    """
    tags = recorded_roots(_data(os.environ)).get("tags", [])
    return ",".join(map(str, tags)) if isinstance(tags, list) else ""


def _default(data: Path, recorded: Mapping[str, Any], name: str) -> str:
    root = str(recorded.get(name, name))
    return root if "://" in root else str(data / root)


def _data(values: Mapping[str, str]) -> Path:
    of_home = data_of_dagster_home(values)
    if not values.get(DATA):
        return of_home or _path(DATA, "data")
    data = _path(DATA, values[DATA])
    if of_home is not None and os.path.realpath(of_home) != os.path.realpath(data):
        raise InputError(
            f"DAGSTER_HOME={values['DAGSTER_HOME']} keeps the progress of {of_home}, not of "
            f"{data}: unset it, or work on {of_home}"
        )
    return data


def _as_name(series_instance_uid: str) -> str:
    if not is_uid(series_instance_uid):
        raise SeriesError(
            f"partition key {series_instance_uid!r} is no DICOM UID (digits and dots, "
            "at most 64 characters), so no path is made of it"
        )
    return series_instance_uid


def default_workers() -> int:
    """Return the number of processors this process may use, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def is_table_automation_on(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether the sensor that combines is on where nobody turned it on or off."""
    values = os.environ if environment is None else environment
    return values.get(TABLE_AUTOMATION, "").strip().lower() not in {"0", "off", "false"}


def series_per_run(environment: Mapping[str, str] | None = None) -> int | None:
    """Return of how many series a run of a backfill is, None where it is one run.

    Apart from `Settings`, for the assets are defined by it before a run has settings.

    Raises
    ------
    InputError
        The variable has a value that cannot be used.
    """
    text = (os.environ if environment is None else environment).get(SERIES_PER_RUN, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(
            f"{SERIES_PER_RUN}={text!r}: give a whole number of series a run, 1 or more"
        )
    return int(text)


def _pixel_coordinates(text: str) -> PixelCoordinates:
    choices: dict[str, PixelCoordinates] = {
        "": "centres",
        "centres": "centres",
        "corners": "corners",
    }
    if text.strip().lower() not in choices:
        raise InputError(f"{PIXEL_COORDINATES}={text!r}: give centres or corners")
    return choices[text.strip().lower()]


def _path(name: str, text: str) -> Path:
    if "://" in text:
        raise InputError(f"{name}: this is to be a directory of this machine, not a URL")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(f"{name}={text!r}: there is no such home directory") from error


def _location(name: str, text: str) -> Location:
    if "://" not in text:
        return _path(name, text)
    try:
        return ObjectPath.parse(text)
    except ValueError as error:
        # Without the text: it may hold a password.
        raise InputError(f"{name}: {error}") from error


def _workers(text: str) -> int:
    if not text.strip():
        return default_workers()
    if not text.strip().isdecimal() or int(text) < 1:
        raise InputError(f"{WORKERS}={text!r}: give a whole number of worker processes, 1 or more")
    return int(text)


def _threads(text: str) -> int | None:
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) > _MOST_THREADS:
        raise InputError(
            f"{THREADS}={text!r}: give a whole number of threads per worker, 0 to {_MOST_THREADS}"
        )
    return int(text)


def _switch(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise InputError(f"{name}={text!r}: give 1 or 0")
    return word in _TRUE
