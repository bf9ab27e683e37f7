"""train.csv and train_localizers.csv, in the format of the competition.

Which series there are, and what is wrong with them, is said by `small` and `load`.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aneurysm_assets.schema.columns import ANEURYSM_PRESENT, LOCATIONS, SERIES_KEY

TRAIN_COLUMNS = (SERIES_KEY, "PatientAge", "PatientSex", "Modality", *LOCATIONS, ANEURYSM_PRESENT)
LOCALIZER_COLUMNS = (SERIES_KEY, "SOPInstanceUID", "coordinates", "location")


@dataclass(frozen=True)
class Labels:
    """What train.csv says of one series.

    Attributes
    ----------
    age : int
        In years.
    sex : str
        `Female` or `Male`.
    modality : str
        `CTA`, `MRA`, `MRI T2` or `MRI T1post`.
    locations : tuple of str
        Those with an aneurysm.
    """

    age: int
    sex: str
    modality: str
    locations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """One row of train_localizers.csv, without its series.

    Attributes
    ----------
    instance : str
        SOPInstanceUID.
    x, y : float or int
        Along the columns and the rows, in pixels; a whole number is written as one.
    location : str
        One of the 13.
    frame : int or None
        0-based frame of a multi-frame file.
    """

    instance: str
    x: float
    y: float
    location: str
    frame: int | None = None

    @property
    def coordinates(self) -> str:
        """The dict literal of the CSV: Python's, not JSON."""
        point = {"x": self.x, "y": self.y}
        return repr(point if self.frame is None else {**point, "f": self.frame})


def write_train(path: Path, rows: Iterable[tuple[str, Labels]]) -> None:
    """Write train.csv from series and labels, in their order."""
    lines = (
        (
            series,
            labels.age,
            labels.sex,
            labels.modality,
            *(int(location in labels.locations) for location in LOCATIONS),
            int(bool(labels.locations)),
        )
        for series, labels in rows
    )
    _write(path, TRAIN_COLUMNS, lines)


def write_localizers(path: Path, rows: Iterable[tuple[str, Point]]) -> None:
    """Write train_localizers.csv from series and points, in their order."""
    lines = ((series, p.instance, p.coordinates, p.location) for series, p in rows)
    _write(path, LOCALIZER_COLUMNS, lines)


def _write(path: Path, columns: tuple[str, ...], lines: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)
