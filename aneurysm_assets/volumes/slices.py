"""How slices follow one another: their order along the normal, their gaps, their straight line.

Positions are ImagePositionPatient, LPS in mm; knows neither orientations nor tables.
"""

import math
from dataclasses import dataclass

import numpy as np

from aneurysm_assets.schema.tolerances import DISTINCT_MM
from aneurysm_assets.volumes.directions import Booleans, Floats, Integers

A_SLICE_AND_A_HALF = 1.5
"""From so many median gaps on, slices are missing in a gap."""


def along_normals(positions: Floats, normals: Floats) -> Floats:
    """Return how far positions (n x 3, LPS, mm) lie along normals (one, or n x 3; LPS).

    Returns
    -------
    ndarray of shape (n,)
        From the origin, mm; NaN where a position or normal is missing.
    """
    with np.errstate(all="ignore"):
        along = (positions * normals).sum(axis=1)
    return np.where(np.isfinite(along), along, np.nan)


def starts_new_place(ordered: Floats) -> Booleans:
    """Tell which of ascending positions (mm along the normal) are no repetition of the one before.

    A missing position (NaN) sorts last, and each is a place of its own.
    """
    # `not <=` rather than `>`: a comparison with NaN is False.
    return ~(np.diff(ordered, prepend=-np.inf) <= DISTINCT_MM)


def distinct_slices(along: Floats) -> Integers:
    """Return the numbers of slices in their order along the normal (mm), one for each place."""
    order = np.argsort(along, kind="stable")
    return order[starts_new_place(along[order])]


def slice_index(groups: Integers, along: Floats) -> Integers:
    """Count the images of each group from 0, by position (mm), then in the order given.

    Parameters
    ----------
    groups : ndarray of shape (images,)
        Number of each image's group, from 0 without a gap.
    along : ndarray of shape (images,)
        Along the normal of the group, mm; images without (NaN) come last.
    """
    order = np.lexsort((along, groups))
    steps = starts_new_place(along[order])[1:] | (np.diff(groups[order]) > 0)
    levels = np.zeros(len(groups), dtype=np.int64)
    levels[order[1:]] = np.cumsum(steps)
    order = np.argsort(levels, kind="stable")
    counts = np.bincount(groups)
    index = np.empty(len(groups), dtype=np.int64)
    index[order] = np.arange(len(groups)) - (np.cumsum(counts) - counts)[groups[order]]
    return index


@dataclass(frozen=True)
class Gaps:
    """What lies between the slices of a group; NaN where there are fewer than two places.

    Attributes
    ----------
    spacing_mm : float
        The median gap along the normal, mm.
    largest_ratio : float
        The largest gap over the median one; 1 where all are the same.
    missing : float
        Slices that would fill the gaps of more than one and a half median ones.
    tilt_degrees : float
        Angle between the normal and the way from the first slice to the one farthest from it; of a
        gantry that is not tilted 0. NaN where all are in one place.
    """

    spacing_mm: float = np.nan
    largest_ratio: float = np.nan
    missing: float = np.nan
    tilt_degrees: float = np.nan


def measure_gaps(along: Floats, places: Floats, normal: Floats) -> Gaps:
    """Measure what lies between slices.

    Parameters
    ----------
    along : ndarray of shape (slices,)
        Their positions along the normal, mm; NaN for none.
    places : ndarray of shape (slices, 3)
        Their positions, LPS mm.
    normal : ndarray of shape (3,)
        Of unit length, LPS.
    """
    known = ~np.isnan(along)
    along, places = along[known], places[known]
    tilt = tilt_degrees(places, normal)
    gaps = np.diff(along[distinct_slices(along)])
    if not len(gaps):
        return Gaps(tilt_degrees=tilt)
    spacing = float(np.median(gaps))
    ratios = gaps / spacing
    wide = ratios[ratios > A_SLICE_AND_A_HALF]
    return Gaps(spacing, float(ratios.max()), float((np.rint(wide) - 1).sum()), tilt)


def tilt_degrees(places: Floats, normal: Floats) -> float:
    """Return the angle between the normal and the way from the first slice to the farthest.

    Parameters
    ----------
    places : ndarray of shape (slices, 3)
        Their positions in any order, LPS mm.
    normal : ndarray of shape (3,)
        Of unit length, LPS.

    Returns
    -------
    float
        Degrees, 0 to 90; NaN where all are in one place.
    """
    ways = places - places[:1]
    lengths = np.linalg.norm(ways, axis=1)
    if not len(lengths) or lengths.max() <= DISTINCT_MM:
        return np.nan
    way = ways[lengths.argmax()]
    along = abs(float(way @ normal))
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(way, normal))), along))


@dataclass(frozen=True, eq=False)
class SliceLine:
    """The straight line from the first slice to the last.

    Attributes
    ----------
    first : ndarray of shape (3,)
        Position of the first slice, LPS mm.
    step : ndarray of shape (3,)
        Along the line for each unit of what the slices are numbered by, LPS mm.
    beside_mm : ndarray of shape (slices,)
        How far each slice lies beside the line, within its own plane.
    """

    first: Floats
    step: Floats
    beside_mm: Floats

    def is_within(self, tolerance_mm: float) -> bool:
        """Tell whether no slice lies farther beside the line than this; False with a NaN."""
        return bool((self.beside_mm <= tolerance_mm).all())


def line_through(places: Floats, numbers: Floats | Integers, normal: Floats) -> SliceLine:
    """Draw the line from the first slice to the last.

    A tilted gantry gives a line that is not parallel to the normal.

    Parameters
    ----------
    places : ndarray of shape (slices, 3)
        Their positions in their order, LPS mm.
    numbers : ndarray of shape (slices,)
        Where on the line each slice belongs: 0, 1, 2 … for a step per slice, whatever the gaps;
        or mm along the normal for a step per mm.
    normal : ndarray of shape (3,)
        Of unit length, LPS.
    """
    with np.errstate(all="ignore"):
        first, step = places[0], (places[-1] - places[0]) / (numbers[-1] - numbers[0])
        off = places - first - np.outer(numbers - numbers[0], step)
        beside = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    return SliceLine(first, step, beside)
