"""Which images of a group are one volume where places are repeated, and what tells them apart.

The groups are those of `grouping`; the order of slices is that of `slices`. docs/volumes.md has the
rule in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from aneurysm_assets.volumes.directions import Booleans, Floats, Integers
from aneurysm_assets.volumes.slices import slice_index, starts_new_place

SPLIT_BY = (
    "TemporalPositionIdentifier",
    "EchoTime",
    "DiffusionBValue",
    "TriggerTime",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContentTime",
    "ImageType",
)
"""The attributes that may tell volumes at the same places apart; the first that does it counts."""

BY_NUMBER = "InstanceNumber"
"""What tells them apart where no attribute does: the order in which images are filed."""

NO_VOLUME = -1


@dataclass(frozen=True, eq=False)
class Volumes:
    """The volume of each image of a series.

    Attributes
    ----------
    index : ndarray of shape (images,)
        0 is the largest; of equal ones the one of the first image. `NO_VOLUME` for none.
    slice_index : ndarray of shape (images,)
        Place in the volume, along its normal; `NO_VOLUME` without a volume.
    split_by : list of str or None
        The name in `SPLIT_BY`, or `BY_NUMBER`, that tells the volumes of the image's group apart.
    """

    index: Integers
    slice_index: Integers
    split_by: list[str | None]


def find_volumes(
    filed: pl.DataFrame, groups: Integers, along: Floats, scouts: Booleans, ordered: Integers
) -> Volumes:
    """Find the volumes of a series.

    Parameters
    ----------
    filed : pl.DataFrame
        Its readable images as they are filed, with the attributes of `SPLIT_BY`.
    groups : ndarray of shape (images,)
        From `grouping.group_images`.
    along : ndarray of shape (images,)
        Along the normal of the group, mm; NaN without a place.
    scouts : ndarray of shape (images,)
        Images that belong to no volume.
    ordered : ndarray of shape (images,)
        From `slices.slice_index`, of all images of each group.

    Returns
    -------
    Volumes
        An image without a place belongs to none, unless no image of the series has one: then each
        group is a volume in the order of its files.
    """
    usable = ~scouts
    placed = usable & ~np.isnan(along)
    if placed.any():
        usable = placed
    split: list[str | None] = [None] * len(groups)
    parts = np.zeros(len(groups), dtype=np.int64)
    for group in _repeating(groups, along, usable):
        images = np.flatnonzero((groups == group) & usable)
        name, parts[images] = _split(filed, images, along[images])
        for image in images.tolist():
            split[image] = name
    if not parts.any() and usable.all():
        return Volumes(_by_size(groups), ordered, split)
    index = np.full(len(groups), NO_VOLUME, dtype=np.int64)
    index[usable] = _by_size(_numbered(groups[usable], parts[usable]))
    place = np.full(len(groups), NO_VOLUME, dtype=np.int64)
    if usable.any():
        place[usable] = slice_index(index[usable], along[usable])
    return Volumes(index, place, split)


def _repeating(groups: Integers, along: Floats, usable: Booleans) -> list[int]:
    """Return the groups that have images at several places, and several at one of them."""
    of_usable, depths = groups[usable], along[usable]
    order = np.lexsort((depths, of_usable))
    repeats = ~starts_new_place(depths[order])
    repeats[1:] &= np.diff(of_usable[order]) == 0
    found = []
    for group in np.unique(of_usable[order][repeats]).tolist():
        own = along[usable & (groups == group)]
        if starts_new_place(np.sort(own)).sum() > 1:
            found.append(group)
    return found


def _split(filed: pl.DataFrame, images: Integers, along: Floats) -> tuple[str | None, Integers]:
    """Return what tells the images of a group apart, and the number of the part of each."""
    order = np.argsort(along, kind="stable")
    places = np.empty(len(images), dtype=np.int64)
    places[order] = np.cumsum(starts_new_place(along[order])) - 1
    times = int(np.bincount(places).max())
    for name in SPLIT_BY:
        values = _codes(filed[name].gather(images).to_list())
        if int(values.max()) + 1 == times and _are_apart(places, values):
            return name, values
    by_number = _passes(places, times)
    return (None, np.zeros_like(places)) if by_number is None else (BY_NUMBER, by_number)


def _passes(places: Integers, times: int) -> Integers | None:
    """Return the parts where images are filed as complete passes, or all of a place together."""
    number = int(places.max()) + 1
    if (np.bincount(places) != times).any():
        return None
    filed = np.arange(len(places))
    return next((p for p in (filed // number, filed % times) if _are_apart(places, p)), None)


def _are_apart(places: Integers, parts: Integers) -> bool:
    """Tell whether no two images of a part are at one place."""
    keys = parts * (int(places.max()) + 1) + places
    return len(np.unique(keys)) == len(keys)


def _codes(values: Sequence[Any]) -> Integers:
    """Return numbers of values, from 0 in the order in which they are filed; null is a value."""
    number = {value: code for code, value in enumerate(dict.fromkeys(values))}
    return np.array([number[value] for value in values], dtype=np.int64)


def _numbered(groups: Integers, parts: Integers) -> Integers:
    keys = groups * (int(parts.max(initial=0)) + 1) + parts
    numbers: Integers = np.unique(keys, return_inverse=True)[1].reshape(-1)
    return numbers


def _by_size(volumes: Integers) -> Integers:
    """Return the volumes' numbers, the largest first; of equal ones that of the first image."""
    if not volumes.any():
        return volumes
    sizes = np.bincount(volumes)
    first = np.full(len(sizes), len(volumes))
    np.minimum.at(first, volumes, np.arange(len(volumes)))
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[volumes]
