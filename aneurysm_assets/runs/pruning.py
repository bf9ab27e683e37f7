"""Removes series from the record and from disk: their partitions, their tables, their pictures.

Which series go is the caller's to say; the tables of the data set are made anew by a run.
"""

from collections.abc import Iterable
from contextlib import suppress

import dagster as dg

from aneurysm_assets.runs.partitions import registered, series_partitions
from aneurysm_assets.schema.tables import SERIES_PREVIEW, SERIES_TABLES
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.uid import is_uid

_SUFFIXES = ("parquet", "csv", "png")


def prune(instance: dg.DagsterInstance, settings: Settings, keys: Iterable[str]) -> list[str]:
    """Remove some partitions and what was made of them.

    Parameters
    ----------
    instance : dg.DagsterInstance
        Keeps the record.
    settings : Settings
        Where the tables are.
    keys : iterable of str
        Partition keys, also such as somebody added by hand and that are no UIDs.

    Returns
    -------
    list of str
        Those that were partitions.

    Raises
    ------
    OSError
        A file cannot be removed; its partition stays.
    """
    known = set(registered(instance))
    name = str(series_partitions.name)
    removed = []
    for key in keys:
        if key not in known:
            continue
        # A key that is no UID never was a path.
        if is_uid(key):
            _remove_files(settings, key)
        instance.delete_dynamic_partition(name, key)
        removed.append(key)
    return removed


def _remove_files(settings: Settings, series_instance_uid: str) -> None:
    for artifact in (*SERIES_TABLES, SERIES_PREVIEW):
        stem = settings.table_of_series(artifact.name, series_instance_uid)
        for suffix in _SUFFIXES:
            path: Location = stem.parent / f"{stem.name}.{suffix}"
            with suppress(FileNotFoundError):
                path.unlink()
