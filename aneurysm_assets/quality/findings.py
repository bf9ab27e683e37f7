"""Which series have which problem: from our own tables, never from the raw data.

What the problems are, with their tolerances, stands in `schema.problems`; what the finders need to
know of the images is put together in `images`. Each finder returns one row per finding: the series,
and in words where in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from aneurysm_assets.messages import printable
from aneurysm_assets.quality.wording import frame_suffix, text_of
from aneurysm_assets.schema.columns import ANEURYSM_PRESENT, LOCATIONS, SERIES_KEY
from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import DIRECTORY_VANISHED, SERIES_QUALITY
from aneurysm_assets.schema.tolerances import (
    AIR_HU,
    FEWEST_SLICES,
    IN_PLANE_MM,
    MAX_TILT_DEGREES,
    ORIENTATION_COSINES,
    OUTSIDE_PX,
    PIXEL_SPACING_RELATIVE,
    RESCALE_SLOPE_RELATIVE,
    SPACING_RELATIVE,
)

Finder = Callable[["Evidence"], pl.DataFrame]

_SHOWN = 3
"""Findings of one problem that are written out for a series; the rest is counted."""

_POINT = [SERIES_KEY, "SOPInstanceUID", "frame_index", "x", "y"]


@dataclass(frozen=True)
class Evidence:
    """What the finders look at.

    Attributes
    ----------
    series : pl.DataFrame
        One row per series of the unified table, with what `images.summarise` finds in its images.
    groups : pl.DataFrame
        Its groups of images, as `images.summarise` finds them.
    images : pl.DataFrame
        The images that have a problem of their own, by name, with a boolean for each such problem.
    points : pl.DataFrame
        The `localizers` of those series.
    placed : pl.DataFrame
        The rows of the unified table that have a point.
    labels : pl.DataFrame
        The `labels` of those series.
    files : mapping of str to int
        Files that Dagster recorded for a series when it was read.
    not_done : sequence of str
        Partitions that are not done in every table, or not in the unified table.
    lost : pl.DataFrame
        The points that found no image, as in `points`, with the `reason`.
    """

    series: pl.DataFrame
    groups: pl.DataFrame
    images: pl.DataFrame
    points: pl.DataFrame
    placed: pl.DataFrame
    labels: pl.DataFrame
    files: Mapping[str, int]
    not_done: Sequence[str]
    lost: pl.DataFrame


def assess(evidence: Evidence) -> pl.DataFrame:
    """Return the table `series_quality`: a boolean for each problem of each series.

    Parameters
    ----------
    evidence : Evidence
        From the tables of the stage.

    Returns
    -------
    pl.DataFrame
        With the schema of `tables.SERIES_QUALITY`, sorted by series. Of a series that is not in
        the unified table only that is known; its other columns are null.
    """
    not_done = pl.Series(SERIES_KEY, list(evidence.not_done), dtype=pl.String)
    combined = evidence.series[SERIES_KEY]
    quality = pl.concat([combined, not_done]).to_frame().unique().sort(SERIES_KEY)
    known = pl.col(SERIES_KEY).is_in(combined.implode())
    findings: list[pl.DataFrame] = []
    for problem in PROBLEMS:
        found = _FINDERS[problem.name](evidence).select(SERIES_KEY, "finding")
        findings.append(_in_words(problem.name, found))
        has_it = pl.col(SERIES_KEY).is_in(found[SERIES_KEY].unique().implode())
        column = has_it if problem.name == "not_done" else pl.when(known).then(has_it)
        quality = quality.with_columns(column.alias(problem.name))
    words = (
        pl.concat(findings)
        .group_by(SERIES_KEY, maintain_order=True)
        .agg(pl.col("finding").str.join("\n").alias("findings"))
    )
    return quality.join(words, on=SERIES_KEY, how="left", maintain_order="left").select(
        SERIES_QUALITY.column_names
    )


def _in_words(problem: str, found: pl.DataFrame) -> pl.DataFrame:
    """Return one row per series: the first findings in words, and how many more there are."""
    more = pl.col("finding").len().cast(pl.Int64) - _SHOWN
    shown = (
        found.group_by(SERIES_KEY, maintain_order=True)
        .agg(
            pl.col("finding").head(_SHOWN).str.join("; ").alias("finding"),
            pl.when(more > 0)
            .then(text_of("; and {} more", more))
            .otherwise(pl.lit(""))
            .first()
            .alias("more"),
        )
        .select(SERIES_KEY, finding=text_of("{}: {}{}", pl.lit(problem), "finding", "more"))
    )
    # In Python, as there is one text per series; a line of its own would be another finding.
    lines = [printable(text) for text in shown["finding"]]
    return shown.with_columns(pl.Series("finding", lines, dtype=pl.String))


def _series_where(condition: pl.Expr, finding: pl.Expr) -> Finder:
    return lambda e: e.series.filter(condition).select(SERIES_KEY, finding=finding)


def _images_with(problem: str) -> Finder:
    return lambda e: e.images.filter(pl.col(problem)).select(SERIES_KEY, finding=pl.col("image"))


def _groups_where(condition: pl.Expr, finding: pl.Expr) -> Finder:
    return lambda e: e.groups.filter(condition).select(SERIES_KEY, finding=finding)


def _malformed_headers(evidence: Evidence) -> pl.DataFrame:
    return evidence.images.filter("header_malformed").select(
        SERIES_KEY, finding=text_of("{} ({})", "image", "header_notes")
    )


def _uneven_gaps(evidence: Evidence) -> pl.DataFrame:
    return evidence.images.filter("spacing_uneven").select(
        SERIES_KEY, finding=text_of("{} behind {} of the median gap", "image", "ratio")
    )


def _too_few_slices(evidence: Evidence) -> pl.DataFrame:
    slices, announced = pl.col("slices").fill_null(0), pl.col("announced")
    lacking = (announced > pl.col("images")).fill_null(value=False)
    return evidence.series.filter((slices < FEWEST_SLICES) | lacking).select(
        SERIES_KEY,
        finding=pl.when(lacking)
        .then(text_of("{} images of the {} that the header announces", "images", announced))
        .otherwise(text_of("{} slices", slices)),
    )


def _repeated_keys(evidence: Evidence) -> pl.DataFrame:
    found = evidence.series.drop_nulls("repeated").select(SERIES_KEY, finding=pl.col("repeated"))
    return found.explode("finding")


def _points_where(condition: pl.Expr, finding: pl.Expr) -> Finder:
    return lambda e: e.placed.filter(condition).select(SERIES_KEY, finding=finding)


def _not_done(evidence: Evidence) -> pl.DataFrame:
    keys = pl.Series(SERIES_KEY, list(evidence.not_done), dtype=pl.String)
    return keys.to_frame().with_columns(finding=pl.lit("not done in all four tables"))


def _unaccounted(evidence: Evidence) -> pl.DataFrame:
    recorded = pl.DataFrame(
        {SERIES_KEY: list(evidence.files), "recorded": list(evidence.files.values())},
        schema={SERIES_KEY: pl.String, "recorded": pl.Int64},
    )
    both = evidence.series.join(recorded, on=SERIES_KEY, how="inner")
    return both.filter(pl.col("files") != pl.col("recorded")).select(
        SERIES_KEY, finding=text_of("{} files of {}", "files", "recorded")
    )


def _labels_by_location(evidence: Evidence) -> pl.DataFrame:
    return evidence.labels.unpivot(
        on=list(LOCATIONS), index=SERIES_KEY, variable_name="location", value_name="label"
    )


def _labels_missing(evidence: Evidence) -> pl.DataFrame:
    if evidence.labels.select(LOCATIONS).null_count().sum_horizontal().item() == (
        evidence.labels.height * len(LOCATIONS)
    ):
        return evidence.labels.clear().select(SERIES_KEY, finding=pl.lit(""))  # no train.csv
    missing = pl.any_horizontal(pl.col(n).is_null() for n in (*LOCATIONS, ANEURYSM_PRESENT))
    return evidence.labels.filter(missing).select(SERIES_KEY, finding=pl.lit("labels are null"))


def _present_contradicts(evidence: Evidence) -> pl.DataFrame:
    # Kleene's logic: with an empty label, and no location positive, nothing is known to contradict.
    anywhere = pl.any_horizontal(pl.col(name) == 1 for name in LOCATIONS).cast(pl.Int8)
    return evidence.labels.filter(pl.col(ANEURYSM_PRESENT) != anywhere).select(
        SERIES_KEY,
        finding=text_of(
            "{} {}, locations {}", pl.lit(ANEURYSM_PRESENT), ANEURYSM_PRESENT, anywhere
        ),
    )


def _positive_without_point(evidence: Evidence) -> pl.DataFrame:
    points = evidence.points.select(SERIES_KEY, "location").unique()
    positive = _labels_by_location(evidence).filter(pl.col("label") == 1)
    return positive.join(
        points, on=[SERIES_KEY, "location"], how="anti", maintain_order="left"
    ).select(SERIES_KEY, finding=pl.col("location"))


def _point_on_negative(evidence: Evidence) -> pl.DataFrame:
    negative = _labels_by_location(evidence).filter(pl.col("label") == 0)
    return evidence.points.join(
        negative, on=[SERIES_KEY, "location"], how="semi", maintain_order="left"
    ).select(SERIES_KEY, finding=_point())


def _unknown_location(evidence: Evidence) -> pl.DataFrame:
    known = pl.col("location").is_in(LOCATIONS)
    return evidence.points.filter(~known.fill_null(value=False)).select(
        SERIES_KEY, finding=_point()
    )


def _lost_point(evidence: Evidence) -> pl.DataFrame:
    return evidence.lost.select(SERIES_KEY, finding=text_of("{}: {}", _point(), "reason"))


def _duplicate_point(evidence: Evidence) -> pl.DataFrame:
    alike = [*_POINT, "location"]
    return evidence.points.filter(pl.struct(alike).is_duplicated()).select(
        SERIES_KEY, finding=_point()
    )


def _contradictory_point(evidence: Evidence) -> pl.DataFrame:
    locations = pl.col("location").n_unique().over(_POINT)
    return evidence.points.filter(locations > 1).select(SERIES_KEY, finding=_point())


def _point() -> pl.Expr:
    return text_of(
        "{}{} ({}, {}) {}",
        "SOPInstanceUID",
        frame_suffix(),
        pl.col("x").round(1),
        pl.col("y").round(1),
        pl.col("location").fill_null("without a location"),
    )


def _unusable_segmentation(evidence: Evidence) -> pl.DataFrame:
    found = [
        evidence.series.drop_nulls(f"{prefix}_error").select(
            SERIES_KEY, finding=text_of("{}: {}", _file_name(f"{prefix}_path"), f"{prefix}_error")
        )
        for prefix in ("nii", "cowseg")
    ]
    return pl.concat(found)


def _file_name(path: str) -> pl.Expr:
    return pl.col(path).str.split("/").list.last()


def _modality_differs() -> Finder:
    expected = (
        pl.when(pl.col("modality_train") == "CTA")
        .then(pl.lit("CT"))
        .when(pl.col("modality_train").str.starts_with("MR"))
        .then(pl.lit("MR"))
    )
    header = pl.col("modalities").list.join("+")
    return _series_where(
        (header != expected) & (header != ""),
        text_of("train.csv {}, header {}", "modality_train", header),
    )


def _rescale_implausible() -> Finder:
    varies = (pl.col("slopes").list.len() > 1) | (pl.col("intercepts").list.len() > 1)
    off = (pl.element() - 1.0).abs() > RESCALE_SLOPE_RELATIVE
    slope = pl.col("slopes").list.eval(off).list.any()
    return _series_where(
        varies | slope | (pl.col("least") > AIR_HU),
        text_of(
            "slope {}, intercept {}, least value {}",
            *(
                pl.col(name).cast(pl.List(pl.String)).list.head(3).list.join(" ")
                for name in ("slopes", "intercepts")
            ),
            pl.col("least").cast(pl.String).fill_null("unknown"),
        ),
    )


def _outside_image() -> Finder:
    outside = (
        (pl.col("x") < -OUTSIDE_PX)
        | (pl.col("y") < -OUTSIDE_PX)
        | (pl.col("x") > pl.col("Columns"))
        | (pl.col("y") > pl.col("Rows"))
    )
    return _points_where(outside, text_of("{} of {}x{}", _point(), "Columns", "Rows"))


_vessel = pl.col("localizer_vessel")

_FINDERS: Mapping[str, Finder] = {
    "not_done": _not_done,
    "key_not_unique": _repeated_keys,
    "files_unaccounted": _unaccounted,
    "unreadable_files": _images_with("unreadable_files"),
    "header_series_differs": _images_with("header_series_differs"),
    "scouts": _images_with("scouts"),
    "mixed_orientation": _series_where(
        pl.col("orientation_spread") > ORIENTATION_COSINES,
        text_of("cosines differ by up to {}", pl.col("orientation_spread").round(3)),
    ),
    "mixed_matrix": _series_where(
        pl.col("matrices").list.len() > 1, pl.col("matrices").list.join(" ")
    ),
    "mixed_pixel_spacing": _series_where(
        pl.col("pixel_spacing_spread") > PIXEL_SPACING_RELATIVE,
        text_of("{} to {} mm", "least_pixel_spacing", "greatest_pixel_spacing"),
    ),
    "mixed_frame_of_reference": _series_where(
        pl.col("frames_of_reference") > 1,
        text_of("{} frames of reference", "frames_of_reference"),
    ),
    "too_few_slices": _too_few_slices,
    "header_malformed": _malformed_headers,
    "pixel_data_short": _images_with("pixel_data_short"),
    "position_missing": _images_with("position_missing"),
    "positions_not_distinct": _images_with("positions_not_distinct"),
    "spacing_uneven": _uneven_gaps,
    "cosines_not_orthogonal": _images_with("cosines_not_orthogonal"),
    "in_plane_shift": _groups_where(
        (pl.col("shift") > IN_PLANE_MM) & (pl.col("tilt") <= MAX_TILT_DEGREES),
        text_of("in-plane positions spread over {} mm", pl.col("shift").round(3)),
    ),
    "orientation_contradicts_positions": _groups_where(
        pl.col("tilt") > MAX_TILT_DEGREES,
        text_of("{} degrees between normal and positions", pl.col("tilt").round(1)),
    ),
    "header_spacing_differs": _groups_where(
        (
            (pl.col("header_spacing") - pl.col("centre_to_centre")).abs()
            > SPACING_RELATIVE * pl.col("centre_to_centre")
        )
        & (pl.col("tilt") <= MAX_TILT_DEGREES).fill_null(value=True),
        text_of(
            "header {} mm, positions {} mm",
            pl.col("header_spacing").round(4),
            pl.col("centre_to_centre").round(4),
        ),
    ),
    "pixel_spacing_missing": _images_with("pixel_spacing_missing"),
    "slice_thickness_missing": _images_with("slice_thickness_missing"),
    "rescale_missing": _images_with("rescale_missing"),
    "rescale_implausible": _rescale_implausible(),
    "modality_differs": _modality_differs(),
    "labels_missing": _labels_missing,
    "present_contradicts_locations": _present_contradicts,
    "positive_without_localizer": _positive_without_point,
    "localizer_label_negative": _point_on_negative,
    "localizer_location_unknown": _unknown_location,
    "localizer_without_image": _lost_point,
    "localizer_outside_image": _outside_image(),
    "localizer_duplicate": _duplicate_point,
    "localizer_contradictory": _contradictory_point,
    DIRECTORY_VANISHED.name: _series_where(
        pl.col("vanished"), pl.lit("the directory is gone since the series was read")
    ),
    "localizer_off_vessel": _points_where(
        _vessel.is_null() & pl.col("localizer_voxel").is_not_null(), _point()
    ),
    "localizer_in_other_vessel": _points_where(
        _vessel != pl.col("location"), text_of("{} is in {}", _point(), _vessel)
    ),
    "segmentation_unreadable": _unusable_segmentation,
    "segmentation_mismatch": _series_where(
        ~pl.col("matches"), pl.lit("the volume's grid is not the series'")
    ),
}
