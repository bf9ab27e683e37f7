"""What is shown of a series: three planes or a montage, and the images of its points."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from aneurysm_assets.messages import counted
from aneurysm_assets.preview.decoding import Row, Undecodable, decode
from aneurysm_assets.preview.marked_points import CLOSE_UP_MM
from aneurysm_assets.preview.window import Window, choose_window
from aneurysm_assets.schema.tolerances import IN_PLANE_MM
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.volumes.directions import Floats
from aneurysm_assets.volumes.plane import (
    Letters,
    Pixels,
    Plane,
    direction_letters,
    plane_of_image,
)
from aneurysm_assets.volumes.stack import NoStack, Stack, find_stack

MOST_POINT_IMAGES = 6
"""Images with points that are shown."""

MOST_SLICES = 160
"""Slices that are decoded for a picture from the side; of more, an even choice."""

_MOST_CLOSE_UPS = 3
_LEAST_CLOSE_UP = 10
"""Fewer pixels than this, along an edge, show nothing more when enlarged."""

Lines = tuple[Pixels, Pixels]
"""The middle row and the middle column of a slice."""

_MOST_IN_MONTAGE = 9
_MOST_SAMPLES = 200_000


@dataclass(frozen=True)
class Mark:
    """An aneurysm point on a picture.

    Attributes
    ----------
    x, y : float
        Along its columns and rows; whole numbers are centres of pixels.
    number : int
        From 1, over the points of the series, in the order of the CSV.
    location : str
        What the CSV calls it.
    """

    x: float
    y: float
    number: int
    location: str


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of several.

    Attributes
    ----------
    pixels : ndarray
        uint8, grey or RGB.
    title : str
        What it shows.
    pixel_size : tuple of float or None
        Width and height of a pixel, mm; None where unknown, then taken as equal.
    letters : tuple of str or None
        What lies at its edges; None where unknown.
    plane : Plane or None
        Where it lies in the patient; None where unknown.
    marks : tuple of Mark
        Points on it.
    close_ups : tuple of Panel
        What is around its first points, large.
    """

    pixels: Pixels
    title: str
    pixel_size: tuple[float, float] | None = None
    letters: Letters | None = None
    plane: Plane | None = None
    marks: tuple[Mark, ...] = ()
    close_ups: tuple["Panel", ...] = ()


@dataclass(frozen=True, eq=False)
class Composition:
    """All that is shown of a series.

    Attributes
    ----------
    middle : list of Panel
        Three planes, or the montage.
    with_points : list of Panel
        Images with points.
    window : Window
        In which all are shown.
    layout : str
        `planes` or `montage`.
    points : int
        Points of the series.
    notes : list of str
        What is not shown, and why; what to know of its geometry.
    groups : int
        Groups of images with one orientation, matrix and pixel spacing.
    decoded : set of str
        Files of which pixels were decoded, as `dicom_path`.
    """

    middle: list[Panel]
    with_points: list[Panel]
    window: Window
    layout: str
    points: int
    notes: list[str]
    groups: int
    decoded: set[str]

    @property
    def panels(self) -> list[Panel]:
        """All of them, in the order in which they are drawn."""
        with_points = ((panel, *panel.close_ups) for panel in self.with_points)
        return [*self.middle, *chain.from_iterable(with_points)]

    @property
    def points_shown(self) -> int:
        """Points that are marked."""
        return sum(len(panel.marks) for panel in self.with_points)


def compose(raw: Location, images: pl.DataFrame, points: pl.DataFrame) -> Composition:
    """Choose what to show of a series and decode that.

    Parameters
    ----------
    raw : Location
        `dicom_path` is relative to it.
    images : pl.DataFrame
        Rows of `dicom_tags` without a `read_error`.
    points : pl.DataFrame
        Rows of `localizers` of the series.

    Raises
    ------
    Undecodable, NoDecoder
        Nothing of the series can be decoded.
    """
    return _Composer(raw, images, points).compose()


class _Composer:
    """One series on its way to its pictures."""

    def __init__(self, raw: Location, images: pl.DataFrame, points: pl.DataFrame) -> None:
        self._raw = raw
        self._rows: Sequence[Row] = images.to_dicts()
        self._stack = find_stack(images)
        self._groups = _groups(images)
        self._notes: list[str] = []
        self._points = points.height
        self._marks = self._place_marks(points)
        self._whole: dict[int, Pixels] = {}

    def compose(self) -> Composition:
        stack = self._stack
        sides = _even(stack.rows, MOST_SLICES) if isinstance(stack, Stack) else []
        middle = [sides[len(sides) // 2]] if sides else self._montage()
        lines = self._decode({*middle, *self._marks}, set(sides))
        if lines and middle[0] not in lines:
            middle = [self._nearest(middle[0], sides, lines)]
        middle = [row for row in middle if row in self._whole]
        samples = [_thinned(pixels) for pixels in self._whole.values()]
        samples += [line for pair in lines.values() for line in pair]
        of_middle = self._rows[middle[0]] if middle else self._rows[next(iter(self._whole))]
        window = choose_window(of_middle, samples)
        panels = [self._panel(row, window) for row in middle]
        if isinstance(stack, Stack):
            self._notes += [*self._not_drawn(stack), *_tilt(stack), *_irregular(stack)]
            panels += self._from_the_side(stack, lines, window)
        else:
            self._notes.append(f"no planes from the side: {stack.reason}")
        return Composition(
            middle=panels,
            with_points=self._with_points(window),
            window=window,
            layout="planes" if isinstance(stack, Stack) else "montage",
            points=self._points,
            notes=self._notes,
            groups=len(set(self._groups)),
            decoded={self._rows[row]["dicom_path"] for row in {*self._whole, *lines}},
        )

    def _place_marks(self, points: pl.DataFrame) -> dict[int, list[Mark]]:
        """Return the marks of the first images with points, by row."""
        found: dict[int, list[Mark]] = {}
        rows = {(row["SOPInstanceUID"], row["frame_index"]): n for n, row in enumerate(self._rows)}
        lost = beyond = 0
        outside: list[str] = []
        for number, point in enumerate(points.iter_rows(named=True), start=1):
            instance, frame = point["SOPInstanceUID"], point["frame_index"]
            row = rows.get((instance, frame))
            # The image of a single-frame file has no frame; a point on it may have frame 0.
            row = rows.get((instance, None)) if row is None and frame == 0 else row
            location = " ".join((point["location"] or "no location").split())
            if row is None:
                lost += 1
            elif not self._is_inside(row, point["x"], point["y"]):
                outside.append(f"{number} ({location}) at {point['x']:g}, {point['y']:g}")
            elif row not in found and len(found) == MOST_POINT_IMAGES:
                beyond += 1
            else:
                mark = Mark(point["x"], point["y"], number, location)
                found.setdefault(row, []).append(mark)
        if lost:
            self._notes.append(
                f"{lost} of {points.height} points: image or frame not in the series"
            )
        if outside:
            self._notes.append(
                f"{len(outside)} of {points.height} points: outside the image: {'; '.join(outside)}"
            )
        if beyond:
            self._notes.append(
                f"{beyond} of {points.height} points: beyond the first {MOST_POINT_IMAGES} images"
            )
        return found

    def _is_inside(self, row: int, x: float, y: float) -> bool:
        """Tell whether a point lies on a pixel of its image; no number does not."""
        width, height = self._rows[row]["Columns"], self._rows[row]["Rows"]
        # Without a size the image cannot be decoded, and says so itself.
        if width is None or height is None:
            return True
        return bool(-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5)

    def _with_points(self, window: Window) -> list[Panel]:
        """Return the images with points, and close-ups of the first points."""
        panels: list[Panel] = []
        left = _MOST_CLOSE_UPS
        for row, marks in self._marks.items():
            if row not in self._whole:
                continue
            panel = replace(self._panel(row, window), marks=tuple(marks))
            found = [_close_up(panel, mark) for mark in marks[:left]]
            close_ups = tuple(close_up for close_up in found if close_up is not None)
            left -= len(close_ups)
            panels.append(replace(panel, close_ups=close_ups))
        return panels

    def _montage(self) -> list[int]:
        """Return an even choice of images in their order, scouts where there is nothing else."""
        everything = range(len(self._rows))
        main = [n for n in everything if not self._rows[n]["is_scout"]] or everything
        in_order = sorted(main, key=lambda n: (self._rows[n]["slice_index"] or 0, n))
        return _even(in_order, _MOST_IN_MONTAGE)

    def _decode(self, whole: set[int], sides: set[int]) -> dict[int, Lines]:
        """Decode; keep some images whole, and of the slices the middle row and column.

        Raises
        ------
        Undecodable
            None could be decoded.
        """
        lines: dict[int, Lines] = {}
        failed: list[Undecodable] = []
        wanted = sorted(whole | sides)
        for row, pixels in decode(self._raw, [(row, self._rows[row]) for row in wanted]):
            if isinstance(pixels, Undecodable):
                failed.append(pixels)
                continue
            if row in whole:
                self._whole[row] = pixels
            if row in sides:
                height, width = pixels.shape[:2]
                lines[row] = pixels[height // 2].copy(), pixels[:, width // 2].copy()
        if failed and len(failed) == len(wanted):
            raise failed[0]
        if failed:
            self._notes.append(f"{len(failed)} of {len(wanted)} images: {failed[0]}")
        return lines

    def _nearest(self, middle: int, sides: list[int], lines: dict[int, Lines]) -> int:
        """Decode the slice nearest to a middle one that could not be, and return its row.

        Raises
        ------
        Undecodable
            It could be decoded a moment ago, and no longer.
        """
        places = {row: n for n, row in enumerate(sides)}
        nearest = min(lines, key=lambda row: (abs(places[row] - places[middle]), places[row]))
        if nearest not in self._whole:
            for _, pixels in decode(self._raw, [(nearest, self._rows[nearest])]):
                if isinstance(pixels, Undecodable):
                    raise pixels
                self._whole[nearest] = pixels
        self._notes.append("the middle slice cannot be decoded: the nearest that can is shown")
        return nearest

    def _panel(self, row: int, window: Window) -> Panel:
        """Return an image as it is stored."""
        image = self._rows[row]
        orientation, spacing = image["ImageOrientationPatient"], image["PixelSpacing"]
        trusted = not isinstance(self._stack, NoStack) or self._stack.is_oriented
        plane = plane_of_image(image["ImagePositionPatient"], orientation, spacing)
        letters = plane.letters if plane is not None else _letters(orientation)
        pixel_size = (spacing[1], spacing[0]) if spacing and min(spacing) > 0 else None
        return Panel(
            pixels=window.grey(self._whole[row]),
            title=_title(image, self._place(row)),
            pixel_size=pixel_size,
            letters=letters if trusted else None,
            plane=plane if trusted else None,
        )

    def _place(self, row: int) -> str:
        """Return which of the images an image is, counted among those that it belongs to."""
        stack, group = self._stack, self._groups.count(self._groups[row])
        if isinstance(stack, Stack) and row in stack.rows:
            among = len(stack.rows)
            drawn = " drawn" if among < len(self._rows) else ""
            return f"image {stack.rows.index(row) + 1} of {among}{drawn}"
        apart = ", not of the volume drawn" if isinstance(stack, Stack) else ""
        its_own = " in its group" if group < len(self._rows) else ""
        number = self._rows[row]["slice_index"]
        if number is None:
            return f"1 of {counted(group, 'image')}{its_own}{apart}"
        return f"image {number + 1} of {group}{its_own}{apart}"

    def _not_drawn(self, stack: Stack) -> list[str]:
        if len(stack.rows) == len(self._rows):
            return []
        groups = counted(len(set(self._groups)), "group")
        return [
            f"the volume drawn has {counted(len(stack.rows), 'image')}; "
            f"the series has {counted(len(self._rows), 'image')} in {groups} "
            "of one orientation, matrix and pixel spacing"
        ]

    def _from_the_side(self, stack: Stack, lines: dict[int, Lines], window: Window) -> list[Panel]:
        """Return the two planes through the middle that are not the images' own."""
        decoded = [n for n, row in enumerate(stack.rows) if row in lines]
        if len(decoded) < 2:
            return []
        depths = stack.along[decoded]
        sampled = _even_depths(depths)
        nearest = np.abs(sampled[:, None] - depths).argmin(axis=1)
        shown = [lines[stack.rows[decoded[n]]] for n in nearest]
        middle_rows = np.stack([middle_row for middle_row, _ in shown])
        middle_columns = np.stack([middle_column for _, middle_column in shown])
        width, height = middle_rows.shape[1], middle_columns.shape[1]
        across, down = stack.first.across, stack.first.down
        corner = stack.first.corner + stack.step * depths[0]
        step = stack.step * (sampled[1] - sampled[0])
        sides = (
            (middle_rows, Plane(corner + down * (height // 2), across, step)),
            (middle_columns, Plane(corner + across * (width // 2), down, step)),
        )
        return [_side_panel(window.grey(pixels), plane) for pixels, plane in sides]


def _groups(images: pl.DataFrame) -> list[int]:
    """Return the group of each image, -1 for a scout."""
    return images["image_group"].fill_null(-1).to_list()


def _tilt(stack: Stack) -> list[str]:
    """Say that the way from slice to slice is not along the normal."""
    beside = max(float(stack.step @ stack.step) - 1, 0.0) ** 0.5  # mm per mm along the normal
    if beside * stack.along[-1] <= IN_PLANE_MM:
        return []
    degrees = float(np.degrees(np.arctan(beside)))
    return [
        f"tilted gantry: the way from slice to slice is {degrees:.1f} degrees off the normal; "
        "the views from the side follow it, so their angles are off by up to as much"
    ]


def _irregular(stack: Stack) -> list[str]:
    """Say why the volume is not regular."""
    if not stack.irregular:
        return []
    gaps = np.diff(stack.along)
    return [
        f"{'; '.join(stack.irregular)}. Drawn in true distances, each place as the nearest slice; "
        f"gaps are {gaps.min():.3g} to {gaps.max():.3g} mm, {np.median(gaps):.3g} mm as a rule"
    ]


def _even_depths(depths: Floats) -> Floats:
    """Return evenly spaced depths, mm, from the first slice to the last, as close as the slices.

    A picture from the side has a row per depth, that of the nearest slice: so its rows are of
    equal height whatever the gaps.
    """
    gaps = np.diff(depths)
    gap = float(min(np.median(gaps), gaps.mean()))
    count = min(round((depths[-1] - depths[0]) / gap) + 1, 4 * MOST_SLICES)
    return np.linspace(depths[0], depths[-1], count)


def _side_panel(pixels: Pixels, plane: Plane) -> Panel:
    plane, pixels = plane.as_looked_at(pixels)
    return Panel(
        pixels=pixels,
        title=f"{plane.name}, through the middle",
        pixel_size=plane.pixel_size,
        letters=plane.letters,
        plane=plane,
    )


def _close_up(panel: Panel, mark: Mark) -> Panel | None:
    """Return what is around a point; None where that is all of the image, or too few pixels."""
    if panel.pixel_size is None:
        return None
    reach = [CLOSE_UP_MM / 2 / size for size in panel.pixel_size]
    height, width = panel.pixels.shape[:2]
    left, right = _within(mark.x, reach[0], width)
    top, bottom = _within(mark.y, reach[1], height)
    shown = min(right - left, bottom - top)
    if shown < _LEAST_CLOSE_UP or (right - left, bottom - top) == (width, height):
        return None
    plane = panel.plane
    if plane is not None:
        plane = replace(plane, corner=plane.at(left, top))
    return replace(
        panel,
        pixels=panel.pixels[top:bottom, left:right],
        title=f"{CLOSE_UP_MM:.0f} mm around point {mark.number}",
        plane=plane,
        marks=(replace(mark, x=mark.x - left, y=mark.y - top),),
    )


def _within(centre: float, reach: float, length: int) -> tuple[int, int]:
    """Return the first and one past the last pixel near a point, within the image."""
    first = min(max(round(centre - reach), 0), length)
    return first, max(min(round(centre + reach) + 1, length), first)


def _even(rows: Sequence[int], most: int) -> list[int]:
    if len(rows) <= most:
        return list(rows)
    return [rows[round(place)] for place in np.linspace(0, len(rows) - 1, most)]


def _thinned(pixels: Pixels) -> Pixels:
    every = max(1, int(np.sqrt(pixels.size / _MOST_SAMPLES)))
    return pixels[::every, ::every]


def _letters(orientation: list[float] | None) -> Letters | None:
    if orientation is None or not any(orientation[:3]) or not any(orientation[3:]):
        return None
    across, down = np.reshape(orientation, (2, 3))
    letters = [direction_letters(direction) for direction in (-across, across, -down, down)]
    return letters[0], letters[1], letters[2], letters[3]


def _title(image: dict[str, Any] | Row, place: str) -> str:
    plane = image["orientation_plane"]
    frame = f", frame {image['frame_index']}" if image["frame_index"] is not None else ""
    return f"{plane}, {place}{frame}" if plane else f"{place}{frame}"
