"""The numbers of the report, from `unified_metadata`, `series_quality` and the raw listing."""

import math
from dataclasses import dataclass, field
from itertools import combinations

import polars as pl

from aneurysm_assets.raw.inventory import Inventory
from aneurysm_assets.report.listed import Listed, list_series
from aneurysm_assets.report.positions import Positions, take_positions
from aneurysm_assets.schema.columns import ANEURYSM_PRESENT, LOCATIONS, SERIES_KEY
from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import IS_FIRST_ROW

MODALITY, SEX, AGE = "modality", "sex", "age"
NOT_KNOWN, OTHERS = "not known", "others"

_MOST_KINDS = 6
"""Values of a column that a figure tells apart; the rarer ones are added up."""

_LONGEST = 40
_NAMED = 20
_AGES = 10
_Z95 = 1.959963984540054
"""Of the normal distribution, which leaves 2.5 % above it."""


@dataclass(frozen=True)
class Check:
    """A problem that was found.

    Attributes
    ----------
    name, severity, description : str
        Of the problem.
    found, checked : int
        Series that have it, and series where it could be told.
    series : tuple of str
        The first of those that have it.
    """

    name: str
    severity: str
    description: str
    found: int
    checked: int
    series: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """Something that is not there.

    Attributes
    ----------
    name, what : str
        A short name for plots over time, and a sentence for readers.
    count, of : int or None
        How many, of how many; None where that is not known.
    series : tuple of str
        The first of them, where they are series.
    """

    name: str
    what: str
    count: int
    of: int | None = None
    series: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Numbers:
    """All that the report says.

    Attributes
    ----------
    series, images, files, points, positive_series : int
        Counts over the unified table.
    by_modality, by_age, by_location, matrices, orientations, makers : pl.DataFrame
        Counts in long form; what the columns are stands where they are made.
    prevalence : pl.DataFrame
        Of the series whose label is known: `group` (age, sex, modality), `kind`, `series`,
        `positive`, `share`, and the Wilson interval `low` to `high` at 95 %.
    together : pl.DataFrame
        Pairs of locations that are positive in one series: `location`, `with` and `series`.
    positions : Positions
        Where the points lie.
    series_of : dict of str to list of str
        The series that have a point, by location.
    slices, spacing, thickness, field_of_view : pl.DataFrame
        `modality` and the `value` of each series, without nulls. Of what differs among the
        images of a series, scouts aside, the commonest counts; the field of view is the longer
        edge of the image.
    missing : list of Missing
        What is not there.
    listed : Listed
        Series with problems, among them all that a check names.
    checks : list of Check
        Problems that were found, the commonest first.
    checked : int
        Problems that were looked for.
    """

    series: int
    images: int
    files: int
    points: int
    positive_series: int
    by_modality: pl.DataFrame
    by_age: pl.DataFrame
    by_location: pl.DataFrame
    prevalence: pl.DataFrame
    together: pl.DataFrame
    positions: Positions
    series_of: dict[str, list[str]]
    slices: pl.DataFrame
    spacing: pl.DataFrame
    thickness: pl.DataFrame
    field_of_view: pl.DataFrame
    matrices: pl.DataFrame
    orientations: pl.DataFrame
    makers: pl.DataFrame
    listed: Listed
    missing: list[Missing] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    checked: int = len(PROBLEMS)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers to be followed over time, by name."""
        return {
            "series": self.series,
            "images": self.images,
            "files": self.files,
            "points": self.points,
            "positive_series": self.positive_series,
            "checks_fired": len(self.checks),
            **{item.name: item.count for item in self.missing},
        }


def take_numbers(
    unified: pl.LazyFrame, quality: pl.DataFrame, inventory: Inventory | None
) -> Numbers:
    """Count what the report shows.

    Parameters
    ----------
    unified : pl.LazyFrame
        The unified table; a few of its columns are read, once, and streamed.
    quality : pl.DataFrame
        `series_quality`.
    inventory : Inventory or None
        What is on disk; None where that cannot be told.
    """
    per_series = _per_series(unified)
    checks = _checks(quality)
    named = {uid for check in checks for uid in check.series}
    return Numbers(
        series=per_series.height,
        images=int(per_series["images"].sum()),
        files=int(per_series["files"].sum()),
        points=int(per_series["points"].sum()),
        positive_series=int((per_series[ANEURYSM_PRESENT] == 1).sum()),
        by_modality=_counted(per_series, MODALITY, SEX),
        by_age=_by_age(per_series),
        by_location=_by_location(per_series, unified),
        prevalence=_prevalence(per_series),
        together=_together(per_series),
        positions=take_positions(unified),
        series_of=_series_of(unified),
        slices=_values(per_series, "slices"),
        spacing=_values(per_series, "spacing"),
        thickness=_values(per_series, "thickness"),
        field_of_view=_values(per_series, "field_of_view"),
        matrices=_counted(per_series, "matrix", MODALITY),
        orientations=_counted(per_series, "orientation", MODALITY),
        makers=_counted(per_series, "maker", MODALITY),
        missing=_missing(per_series, quality, inventory),
        listed=list_series(quality, per_series.select(SERIES_KEY, MODALITY), named),
        checks=checks,
    )


def _per_series(unified: pl.LazyFrame) -> pl.DataFrame:
    """Return one row per series, in the order of the table."""
    readable = pl.col("read_error").is_null()
    main = IS_FIRST_ROW & readable & ~pl.col("is_scout").fill_null(value=False)
    rows_by_columns = pl.format("{} x {}", "Rows", "Columns")
    frame = (
        unified.group_by(SERIES_KEY)
        .agg(
            images=(IS_FIRST_ROW & readable).sum(),
            files=(IS_FIRST_ROW & (pl.col("frame_index").fill_null(0) == 0)).sum(),
            unreadable=(IS_FIRST_ROW & ~readable).sum(),
            points=pl.col("localizer_index").is_not_null().sum(),
            slices=main.sum(),
            spacing=pl.col("slice_spacing_mm").drop_nulls().first(),
            matrix=_commonest_of(rows_by_columns, main),
            orientation=_commonest_of(pl.col("orientation_plane"), main),
            thickness=_commonest_of(pl.col("SliceThickness"), main),
            field_of_view=_commonest_of(_longer_edge_mm(), main),
            maker=_commonest_of(pl.col("Manufacturer"), main),
            said=pl.col("Modality_train").first(),
            header=pl.col("Modality_dicom").drop_nulls().first(),
            sex=pl.col("PatientSex").first(),
            age=pl.col("PatientAge").first(),
            segmented=(
                pl.col("nii_path").is_not_null() | pl.col("cowseg_path").is_not_null()
            ).any(),
            **{name: pl.col(name).first() for name in (*LOCATIONS, ANEURYSM_PRESENT)},
        )
        .sort(SERIES_KEY)
        .collect(engine="streaming")
    )
    modality = pl.coalesce("said", pl.format("{} (header)", "header"))
    return frame.with_columns(
        _kinds(modality, MODALITY),
        _kinds(pl.col(SEX), SEX),
        _kinds(_one_spelling(pl.col("maker")), "maker"),
        pl.col("matrix", "orientation").fill_null(NOT_KNOWN),
    )


def _commonest_of(column: pl.Expr, images: pl.Expr) -> pl.Expr:
    """Return the commonest value among some images of a series, the least of several."""
    return column.filter(images).drop_nulls().mode().sort().first()


def _one_spelling(names: pl.Expr) -> pl.Expr:
    """Return the commonest spelling of each name, the least of several.

    Spellings that differ in case, space and punctuation alone are of one name.
    """
    letters = names.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")
    return names.mode().sort().first().over(letters)


def _longer_edge_mm() -> pl.Expr:
    """Return the longer edge of an image to a tenth of a mm; null where one is not known."""
    down, across = (
        pl.col(pixels) * pl.col("PixelSpacing").list.get(place, null_on_oob=True)
        for place, pixels in enumerate(("Rows", "Columns"))
    )
    known = down.is_not_null() & across.is_not_null()
    return pl.when(known).then(pl.max_horizontal(down, across)).round(1)


def _values(per_series: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return `modality` and `value` of the series that have a number there."""
    value = pl.col(column).cast(pl.Float64).alias("value")
    return per_series.select(MODALITY, value).filter(pl.col("value").is_finite())


def _kinds(column: pl.Expr, name: str) -> pl.Expr:
    """Return text short enough to label a figure; what a CSV says can be anything."""
    shown = column.str.replace_all(r"\s+", " ").str.strip_chars().replace("", None)
    return shown.str.slice(0, _LONGEST).fill_null(NOT_KNOWN).alias(name)


def _counted(per_series: pl.DataFrame, rows: str, parts: str) -> pl.DataFrame:
    """Return `rows`, `parts` and `count`: the commonest values of each, then the others."""
    return (
        per_series.select(_commonest(per_series, rows), _commonest(per_series, parts))
        .group_by(rows, parts)
        .agg(count=pl.len())
        .with_columns(total=pl.col("count").sum().over(rows))
        .sort(pl.col(rows) == OTHERS, -pl.col("total").cast(pl.Int64), rows, parts)
        .drop("total")
    )


def _commonest(per_series: pl.DataFrame, name: str) -> pl.Expr:
    counts = per_series.group_by(name).agg(count=pl.len())
    kept = counts.sort(-pl.col("count").cast(pl.Int64), name)[name].head(_MOST_KINDS)
    return (
        pl.when(pl.col(name).is_in(kept.implode())).then(name).otherwise(pl.lit(OTHERS)).alias(name)
    )


def _by_age(per_series: pl.DataFrame) -> pl.DataFrame:
    """Return `age` (the least of ten years), `sex` and `count`."""
    return (
        per_series.filter(pl.col(AGE).is_not_null())
        .select(pl.col(AGE) // _AGES * _AGES, _commonest(per_series, SEX))
        .group_by(AGE, SEX)
        .agg(count=pl.len())
        .sort(AGE, SEX)
    )


def _by_location(per_series: pl.DataFrame, unified: pl.LazyFrame) -> pl.DataFrame:
    """Return `location`, `series` that train.csv calls positive there, and `points` there."""
    points = (
        unified.filter(pl.col("localizer_index").is_not_null())
        .group_by("location")
        .agg(points=pl.len())
        .collect(engine="streaming")
    )
    series = [int((per_series[name] == 1).sum()) for name in LOCATIONS]
    return (
        pl.DataFrame({"location": LOCATIONS, "series": series})
        .join(points, on="location", how="left", maintain_order="left")
        .with_columns(pl.col("points").fill_null(0))
        .sort("series", "points", descending=True, maintain_order=True)
    )


def _series_of(unified: pl.LazyFrame) -> dict[str, list[str]]:
    """Return the series with a point at each location, in the order of train.csv."""
    pairs = (
        unified.filter(pl.col("localizer_index").is_not_null() & pl.col("location").is_not_null())
        .select("location", SERIES_KEY)
        .unique()
        .sort("location", SERIES_KEY)
        .collect(engine="streaming")
    )
    found = {name: pairs.filter(location=name)[SERIES_KEY].to_list() for name in LOCATIONS}
    return {name: series for name, series in found.items() if series}


def wilson(positive: int, of: int) -> tuple[float, float]:
    """Return the Wilson score interval of a share at 95 %.

    It holds for small numbers too, and stays within 0 and 1 (Wilson 1927,
    doi:10.1080/01621459.1927.10502953).

    Parameters
    ----------
    positive, of : int
        How many, of how many; at least 1.
    """
    share, z2 = positive / of, _Z95**2
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2)) / (1 + z2 / of)
    # Exact at both ends: rounded, an interval may leave its own share out.
    return (centre - half if positive else 0.0), (centre + half if positive < of else 1.0)


def _prevalence(per_series: pl.DataFrame) -> pl.DataFrame:
    """Return the share of positive series in each kind, of those whose label is known."""
    known = per_series.filter(pl.col(ANEURYSM_PRESENT).is_not_null())
    decade = pl.col(AGE) // _AGES * _AGES
    years = pl.format("{} to {}", decade, decade + _AGES - 1).fill_null(NOT_KNOWN)
    kinds = {AGE: years, SEX: _commonest(known, SEX), MODALITY: _commonest(known, MODALITY)}
    rows = [
        (group, kind, of, positive, positive / of, *wilson(positive, of))
        for group, column in kinds.items()
        for kind, of, positive in known.select(column.alias("kind"), pl.col(ANEURYSM_PRESENT))
        .group_by("kind")
        .agg(of=pl.len(), positive=(pl.col(ANEURYSM_PRESENT) == 1).sum())
        .sort("kind")
        .iter_rows()
    ]
    schema = {
        **dict.fromkeys(("group", "kind"), pl.String),
        **dict.fromkeys(("series", "positive"), pl.Int64),
        **dict.fromkeys(("share", "low", "high"), pl.Float64),
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _together(per_series: pl.DataFrame) -> pl.DataFrame:
    """Return how often two locations are positive in one series, the commonest pairs first."""
    rows = [
        (one, other, int(((per_series[one] == 1) & (per_series[other] == 1)).sum()))
        for one, other in combinations(LOCATIONS, 2)
    ]
    schema = {"location": pl.String, "with": pl.String, "series": pl.Int64}
    return (
        pl.DataFrame(rows, schema=schema, orient="row")
        .filter(pl.col("series") > 0)
        .sort("series", descending=True, maintain_order=True)
    )


def _missing(
    per_series: pl.DataFrame, quality: pl.DataFrame, inventory: Inventory | None
) -> list[Missing]:
    series = per_series.height
    found: list[Missing] = []
    if inventory is not None:
        combined = set(per_series[SERIES_KEY])
        not_combined = tuple(uid for uid in inventory.series if uid not in combined)
        found += [
            _missing_series("series_not_on_disk", "rows of train.csv without a directory on disk",
                       inventory.not_on_disk, len(inventory.known)),
            _missing_series("series_not_in_table", "series on disk, not yet in the unified table",
                       not_combined, len(inventory.series)),
            _missing_series("series_without_row", "directories without a row in train.csv",
                       inventory.unlabelled, None),
        ]  # fmt: skip
    without = per_series.filter(~pl.col("segmented"))[SERIES_KEY]
    found += [
        Missing("unreadable_files", "files that cannot be read",
                int(per_series["unreadable"].sum()), int(per_series["files"].sum())),
        Missing("series_without_segmentation", "series without a segmentation",
                len(without), series),
        Missing("series_without_age", "series without an age",
                int(per_series[AGE].null_count()), series),
        Missing("series_without_position", "series of which no slice spacing can be told",
                int(per_series["spacing"].null_count()), series),
    ]  # fmt: skip
    for problem, what in (
        ("labels_missing", "series without labels"),
        ("positive_without_localizer", "positive series in which a location has no point"),
        ("localizer_without_image", "series with a point whose image is not there"),
    ):
        uids = tuple(quality.filter(pl.col(problem))[SERIES_KEY])
        found.append(_missing_series(problem, what, uids, series))
    return found


def _missing_series(name: str, what: str, series: tuple[str, ...], of: int | None) -> Missing:
    return Missing(name, what, len(series), of, series[:_NAMED])


def _checks(quality: pl.DataFrame) -> list[Check]:
    found = []
    for problem in PROBLEMS:
        with_it = quality.filter(pl.col(problem.name))[SERIES_KEY]
        if len(with_it):
            checked = int(quality[problem.name].is_not_null().sum())
            found.append(
                Check(problem.name, problem.severity, problem.description, len(with_it), checked,
                      tuple(with_it.head(_NAMED)))
            )  # fmt: skip
    return sorted(found, key=lambda check: (check.severity, -check.found, check.name))
