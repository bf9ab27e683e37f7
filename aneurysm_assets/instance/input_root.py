"""Which input the tables of a data root are of: recorded with the progress, and held against.

Where no setting names the roots, the recorded ones are used (`settings` reads them); another input
is refused in words, because its tables would be mixed with those of this one. Which series the
input has belongs to `raw.inventory`, which interim root an instance keeps to `data_root`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from aneurysm_assets.errors import InputError, NoSeriesError
from aneurysm_assets.schema.extra_tags import TAGS, extra_tags
from aneurysm_assets.settings import (
    Settings,
    recorded_roots,
    roots_file,
    series_root_unreadable,
)
from aneurysm_assets.storage.atomic_files import atomic_write
from aneurysm_assets.storage.listing import entries_of
from aneurysm_assets.storage.object_path import Location, ObjectPath

_CSVS = ("train.csv", "train_localizers.csv")


def require_input(settings: Settings, *, replace_raw: bool = False) -> None:
    """Refuse an input that is not the one of before, or that is not there.

    Parameters
    ----------
    settings : Settings
        The roots.
    replace_raw : bool
        Whether another raw root than the recorded one is meant.

    Raises
    ------
    InputError
        The tables were read from another root; the directory of the series is not there or holds
        no directory, as where a disk is not mounted; or a CSV is gone that was read before.
    """
    recorded = recorded_roots(settings.data)
    if not replace_raw:
        _require_same_root(settings, recorded)
    _require_series(settings)
    for name in recorded.get("csvs", ()):
        if not (settings.raw / name).is_file():
            raise InputError(
                f"{settings.raw / name} is gone, from which tables of {settings.data} were read: "
                "nothing was changed; put it back, or begin another data root without it"
            )


def record_input(settings: Settings) -> None:
    """Record the roots, and which CSVs there are, beside the progress of the data root."""
    held = recorded_roots(settings.data)
    csvs = [name for name in _CSVS if (settings.raw / name).is_file()]
    roots = {
        "raw": _as_recorded(settings.data, settings.raw),
        "interim": _as_recorded(settings.data, settings.interim),
        "csvs": csvs,
        "tags": list(extra_tags()),
    }
    if roots == held:
        return
    path = roots_file(settings.data)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(roots, indent=2) + "\n"
    atomic_write(path, lambda partial: partial.write_text(content, encoding="utf-8"))


def require_same_root(settings: Settings) -> None:
    """Refuse another raw root than the recorded one; nothing is looked at.

    Raises
    ------
    InputError
        The tables of the data root were read from another one.
    """
    _require_same_root(settings, recorded_roots(settings.data))


def _require_same_root(settings: Settings, recorded: Mapping[str, object]) -> None:
    _require_tags(settings, recorded)
    raw = recorded.get("raw")
    if not isinstance(raw, str) or _is_same(settings.data, raw, settings.raw):
        return
    other = raw if "://" in raw else (settings.data / raw).resolve()
    raise InputError(
        f"the tables of {settings.data} were read from {other}, not from {settings.raw}: take that "
        "input (it is used where --raw and ANEURYSM_RAW are not given), or another data root by "
        f"--data; if the same files were moved there, `aneurysm-assets run --raw {settings.raw} "
        "--replace-raw` goes on with them, and what is not there leaves the table"
    )


def _require_tags(settings: Settings, recorded: Mapping[str, object]) -> None:
    """Refuse to go on without the attributes that were read: their columns would be lost."""
    tags = recorded.get("tags", [])
    if isinstance(tags, list) and tags and TAGS not in os.environ:
        as_typed = ",".join(map(str, tags))
        raise InputError(
            f"the tables of {settings.data} have the attributes {', '.join(map(str, tags))}, for "
            f"which this process was not asked: set {TAGS}={as_typed}, or {TAGS}= to leave them out"
        )


def _is_same(data: Path, recorded: str, root: Location) -> bool:
    if "://" in recorded or isinstance(root, ObjectPath):
        return recorded == str(root)
    return os.path.realpath(data / recorded) == os.path.realpath(root)


def _as_recorded(data: Path, root: Location) -> str:
    """Return a root so that it moves with its data root where it is below it."""
    if isinstance(root, ObjectPath):
        return str(root)
    return str(root.relative_to(data)) if root.is_relative_to(data) else str(root)


def _require_series(settings: Settings) -> None:
    try:
        entries = entries_of(settings.series_root)
    except OSError as error:
        raise NoSeriesError(series_root_unreadable(settings, error.strerror)) from error
    if not any(entries.values()):
        raise NoSeriesError(
            f"{settings.series_root} holds no series, so nothing was changed: is the disk mounted?"
        )
