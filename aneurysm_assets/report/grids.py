"""The figures of the report as rows under a header, of which the page and the metadata are made."""

from dataclasses import dataclass

import polars as pl

from aneurysm_assets.report.numbers import AGE, MODALITY, SEX, Numbers
from aneurysm_assets.report.positions import AXES

_MOST_PAIRS = 12
_SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Grid:
    """A table for readers.

    Attributes
    ----------
    header : tuple of str
        Names of the columns.
    rows : list of tuple
        Text, numbers, or None where there is nothing to say.
    """

    header: tuple[str, ...]
    rows: list[tuple[object, ...]]


def grids(numbers: Numbers) -> dict[str, Grid]:
    """Return the table of each figure, by the name of its frame in `Numbers`, and the missing."""
    return {
        "by_modality": crossed(numbers.by_modality, MODALITY, SEX),
        "by_age": by_age(numbers.by_age),
        "by_location": by_location(numbers.by_location),
        "prevalence": prevalence(numbers.prevalence),
        "together": together(numbers.together),
        "positions": positions(numbers.positions.frame),
        "slices": summed(numbers.slices),
        "spacing": summed(numbers.spacing),
        "thickness": summed(numbers.thickness),
        "field_of_view": summed(numbers.field_of_view),
        "matrices": crossed(numbers.matrices, "matrix", MODALITY),
        "orientations": crossed(numbers.orientations, "orientation", MODALITY),
        "makers": crossed(numbers.makers, "maker", MODALITY),
        "missing": Grid(
            ("what", "count", "of"), [(item.what, item.count, item.of) for item in numbers.missing]
        ),
    }


def crossed(frame: pl.DataFrame, rows: str, columns: str) -> Grid:
    """Return counts with a column a value, and their sum."""
    names = (
        frame.group_by(columns).agg(pl.col("count").sum()).sort("count", columns, descending=True)
    )[columns].to_list()
    counts = {(row[rows], row[columns]): row["count"] for row in frame.to_dicts()}
    body: list[tuple[object, ...]] = []
    for kind in frame[rows].unique(maintain_order=True).to_list():
        values = [counts.get((kind, name), 0) for name in names]
        body.append((kind, *values, sum(values)))
    return Grid((rows, *names, "series"), body)


def by_age(frame: pl.DataFrame) -> Grid:
    """Return the counts of ten years each, by sex."""
    years = pl.format("{} to {}", AGE, pl.col(AGE) + 9).alias("age in years")
    return crossed(frame.with_columns(years).drop(AGE), "age in years", SEX)


def by_location(frame: pl.DataFrame) -> Grid:
    """Return the positive series and the points of each location."""
    header = ("location", "series", "points")
    return Grid(header, frame.select(header).rows())


def prevalence(frame: pl.DataFrame) -> Grid:
    """Return the positive series of each kind, their share and its interval."""
    rows: list[tuple[object, ...]] = [
        (group, kind, series, positive, f"{share:.1%}", f"{low:.1%} to {high:.1%}")
        for group, kind, series, positive, share, low, high in frame.iter_rows()
    ]
    return Grid(("by", "kind", "series", "positive", "share", "95 % interval"), rows)


def together(frame: pl.DataFrame) -> Grid:
    """Return the commonest pairs of locations."""
    return Grid(("location", "and", "series"), frame.head(_MOST_PAIRS).rows())


def positions(frame: pl.DataFrame) -> Grid:
    """Return the median place of each location's points, mm from the centre of their images."""
    medians = [pl.col(axis).median().round(1) for axis in AXES]
    found = frame.group_by("location").agg(pl.len().alias("points"), *medians)
    in_order = found.sort("points", "location", descending=[True, False])
    rows: list[tuple[object, ...]] = [
        (location, points, *(mm or 0.0 for mm in millimetres))  # -0.0 is 0 to a reader
        for location, points, *millimetres in in_order.iter_rows()
    ]
    return Grid(("location", "points", *(f"mm {axis}" for axis in AXES)), rows)


def summed(frame: pl.DataFrame) -> Grid:
    """Return least, quartiles and most of a value, by modality."""
    value = pl.col("value")
    found = (
        frame.group_by(MODALITY)
        .agg(
            pl.len().alias("series"),
            value.min().alias("least"),
            *(value.quantile(share, "linear").alias(f"{share:.0%}") for share in _SHARES),
            value.max().alias("most"),
        )
        .sort("series", MODALITY, descending=True)
    )
    return Grid(tuple(found.columns), found.rows())
