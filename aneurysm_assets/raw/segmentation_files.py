"""Which segmentation files a series has: an image and its vessel labels. No file is opened here.

They stand in a directory of the series' own, or flat beside those directories; where a file is in
both places, that in the directory is read.
"""

import re
from collections.abc import Iterable, Mapping
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

_FLAT = re.compile(r"(_cowseg)?\.nii(\.gz)?\Z")
"""What follows the SeriesInstanceUID in the name of a file."""

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
    """Find the files of a series; in a bucket pinned to what it said of them.

    There it takes one request where the series' directory has both files.

    Raises
    ------
    SeriesError
        The key is no UID, or whether a file exists cannot be told.
    """
    if not is_uid(series_instance_uid):
        raise SeriesError(f"{series_instance_uid!r} is no DICOM UID, so no path is made of it")
    if isinstance(segmentations_root, ObjectPath):
        try:
            return _pair_in_bucket(segmentations_root, series_instance_uid)
        except OSError as error:
            raise store_error(segmentations_root / series_instance_uid, error) from error
    found = {
        prefix: _existing_file(segmentations_root, series_instance_uid, names)
        for prefix, names in _names(series_instance_uid).items()
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
    listed = list_below(segmentations_root)
    series = series_among(path.partition("/")[0] for path in listed)
    pairs = {uid: _pair_among(segmentations_root, uid, listed) for uid in series}
    return {uid: pair for uid, pair in pairs.items() if pair}


def series_among(names: Iterable[str]) -> set[str]:
    """Return the series that names in the segmentations directory speak of.

    Parameters
    ----------
    names : iterable of str
        Of directories and files; what is neither a series' directory nor a file of one, such as
        `.DS_Store` or `._1.2.nii`, is passed over.
    """
    found = {_FLAT.sub("", name) for name in names}
    return {uid for uid in found if is_uid(uid)}


def _names(series_instance_uid: str) -> dict[str, list[str]]:
    """Return the names that either file may have."""
    return {
        prefix: [f"{series_instance_uid}{suffix}{extension}" for extension in _EXTENSIONS]
        for prefix, suffix in STEM_SUFFIXES.items()
    }


def _pair_in_bucket(root: ObjectPath, series_instance_uid: str) -> Pair:
    directory = root / series_instance_uid
    try:
        files = list_directory(directory).files
    except FileNotFoundError:
        files = {}
    listed = {f"{series_instance_uid}/{name}": stat for name, stat in files.items()}
    found = _pair_among(root, series_instance_uid, listed)
    for prefix, names in _names(series_instance_uid).items():
        if prefix not in found:
            listed |= _flat(root, names)
    return _pair_among(root, series_instance_uid, listed)


def _flat(root: ObjectPath, names: list[str]) -> dict[str, Stat]:
    """Return the first of the objects that exists beside the directories of the series."""
    for name in names:
        try:
            return {name: (root / name).stat()}
        except FileNotFoundError:
            continue
    return {}


def _pair_among(root: ObjectPath, series_instance_uid: str, listed: Mapping[str, Stat]) -> Pair:
    """Return a series' files among objects by what follows the root in their names."""
    found: dict[str, Location] = {}
    for prefix, names in _names(series_instance_uid).items():
        for name in (*(f"{series_instance_uid}/{name}" for name in names), *names):
            if name in listed:
                found[prefix] = (root / name).pinned_to(listed[name])
                break
    return found


def _existing_file(root: Path, series_instance_uid: str, names: list[str]) -> Path | None:
    directory = root / series_instance_uid
    for path in (*(directory / name for name in names), *(root / name for name in names)):
        try:
            # lstat: a link that leads nowhere is a broken file, not one that was never there.
            path.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SeriesError(f"{path}: {error.strerror or error}") from error
        return path
    return None
