"""Which segmentation files a series has: an image and its vessel labels. No file is opened here."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.storage.fetching import store_error
from aneurysm_assets.storage.object_path import (
    Location,
    ObjectPath,
    list_below,
    list_directory,
)
from aneurysm_assets.storage.object_store import Stat
from aneurysm_assets.uid import is_uid

STEM_SUFFIXES = {"nii": "", "cowseg": "_cowseg"}
"""By the prefix of their columns, what follows the SeriesInstanceUID in the file's name."""

_EXTENSIONS = (".nii", ".nii.gz")
"""The first that exists is taken."""

Pair = Mapping[str, Location]
"""The files of a series that there are, by the keys of `STEM_SUFFIXES`, in their order."""


def segmentation_files(segmentations_root: Location, series_instance_uid: str) -> list[Location]:
    """List the files that `segmentation_meta` reads for a series, to count them and their bytes.

    Parameters
    ----------
    segmentations_root : Location
        The directory of the segmentation directories.
    series_instance_uid : str
        Any series.

    Returns
    -------
    list of Location
        The image, then the vessel labels; those of the two that exist.

    Raises
    ------
    SeriesError
        Whether a file exists cannot be told.
    """
    return list(find_pair(segmentations_root, series_instance_uid).values())


def find_pair(segmentations_root: Location, series_instance_uid: str) -> Pair:
    """Find the files of a series; in a bucket by one request, and pinned to what that said.

    Raises
    ------
    SeriesError
        The key is no UID, or whether a file exists cannot be told.
    """
    if not is_uid(series_instance_uid):
        raise SeriesError(f"{series_instance_uid!r} is no DICOM UID, so no path is made of it")
    directory = segmentations_root / series_instance_uid
    if isinstance(directory, ObjectPath):
        try:
            listed = list_directory(directory).files
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise store_error(directory, error) from error
        return _pair_among(directory, listed)
    found = {
        prefix: _existing_file(directory, names) for prefix, names in _names(directory.name).items()
    }
    return {prefix: path for prefix, path in found.items() if path is not None}


def list_pairs(segmentations_root: ObjectPath) -> dict[str, Pair]:
    """Find the files of all series in a bucket, by one request for each thousand of them.

    Returns
    -------
    dict of str to Pair
        By SeriesInstanceUID; of a series that has none, nothing.

    Raises
    ------
    OSError
        The store does not tell.
    """
    by_series: dict[str, dict[str, Stat]] = defaultdict(dict)
    for path, stat in list_below(segmentations_root).items():
        uid, _, name = path.partition("/")
        if is_uid(uid):
            by_series[uid][name] = stat
    pairs = {uid: _pair_among(segmentations_root / uid, files) for uid, files in by_series.items()}
    return {uid: pair for uid, pair in pairs.items() if pair}


def _names(series_instance_uid: str) -> dict[str, list[str]]:
    """Return the names that either file may have."""
    return {
        prefix: [f"{series_instance_uid}{suffix}{extension}" for extension in _EXTENSIONS]
        for prefix, suffix in STEM_SUFFIXES.items()
    }


def _pair_among(directory: ObjectPath, listed: Mapping[str, Stat]) -> Pair:
    found = {
        prefix: next((name for name in names if name in listed), None)
        for prefix, names in _names(directory.name).items()
    }
    return {
        prefix: (directory / name).pinned_to(listed[name])
        for prefix, name in found.items()
        if name is not None
    }


def _existing_file(directory: Path, names: list[str]) -> Path | None:
    for name in names:
        path = directory / name
        try:
            # lstat: a link that leads nowhere is a broken file, not one that was never there.
            path.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SeriesError(f"{path}: {error.strerror or error}") from error
        return path
    return None
