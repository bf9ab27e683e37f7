"""Which series have which problem: from our own tables, never from the raw data.

What the problems are, with their tolerances, stands in `problems`. Each finder returns one line a
finding: the series, and in words where in it. All of them work on whole columns, so that a
million images take seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from aneurysm_assets.schema.columns import ANEURYSM_PRESENT, LOCATIONS, SERIES_KEY
from aneurysm_assets.schema.problems import (
    PROBLEMS,
)
from aneurysm_assets.schema.tables import SERIES_QUALITY, UNIFIED_METADATA
from aneurysm_assets.schema.tolerances import (
    AIR_HU,
    ALONG_NORMAL_COSINE,
    DISTINCT_MM,
    IN_PLANE_MM,
    ORIENTATION_COSINES,
    OUTSIDE_PX,
    SPACING_RELATIVE,
    UNIT_COSINES,
)
from aneurysm_assets.volumes.directions import orientation_centres
from aneurysm_assets.volumes.grouping import IS_SCOUT

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
        One row a series of the unified table, with what `summarise` finds in its images.
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
        The points that found no image, as in `points`.
    """

    series: pl.DataFrame
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
    there = evidence.series[SERIES_KEY]
    quality = pl.concat([there, not_done]).to_frame().unique().sort(SERIES_KEY)
    known = pl.col(SERIES_KEY).is_in(there.implode())
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


def summarise(unified: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what the finders need to know of the images.

    Parameters
    ----------
    unified : pl.LazyFrame
        The unified table; LPS in mm.

    Returns
    -------
    tuple of pl.DataFrame
        `Evidence.series`, sorted, and `Evidence.images`.
    """
    once = unified.filter(pl.col("localizer_index").fill_null(0) == 0)
    readable = once.filter(pl.col("read_error").is_null())
    main = readable.filter(~IS_SCOUT)
    series = once.group_by(SERIES_KEY).agg(files=pl.col("dicom_path").n_unique())
    frame = series.sort(SERIES_KEY).collect(engine="streaming")
    for part in (_repeated(unified), _of_readable(readable), _of_main(main), _of_rescale(main)):
        found = part.collect(engine="streaming")
        frame = frame.join(found, on=SERIES_KEY, how="left", maintain_order="left")
    mixed = frame.filter(pl.col("orientation_spread") > ORIENTATION_COSINES)[SERIES_KEY]
    numbered = frame.select(SERIES_KEY).with_row_index("number").lazy()
    gaps, uneven = _of_gaps(_slices(main.join(numbered, on=SERIES_KEY), mixed))
    frame = frame.join(gaps, on=SERIES_KEY, how="left", maintain_order="left")
    return frame, pl.concat([_flagged(once), uneven], how="diagonal")


_CT = pl.col("Modality_dicom") == "CT"
_COSINES = [pl.col("ImageOrientationPatient").arr.get(i) for i in range(6)]
_ROW, _COLUMN = _COSINES[:3], _COSINES[3:]
_PLACE = [pl.col("ImagePositionPatient").arr.get(i) for i in range(3)]


def _repeated(unified: pl.LazyFrame) -> pl.LazyFrame:
    """Return the SOPInstanceUIDs, null among them, with which a key occurs more than once."""
    keys = unified.filter(pl.col("read_error").is_null())
    return (
        keys.group_by(UNIFIED_METADATA.key)
        .agg(pl.col(SERIES_KEY).unique(), n=pl.len())
        .filter(pl.col("n") > 1)
        .explode(SERIES_KEY)
        .group_by(SERIES_KEY)
        .agg(
            repeated=pl.col("SOPInstanceUID")
            .fill_null("images without SOPInstanceUID")
            .unique()
            .sort()
        )
    )


def _of_readable(readable: pl.LazyFrame) -> pl.LazyFrame:
    return readable.group_by(SERIES_KEY).agg(
        spacing=pl.col("slice_spacing_mm").first(),
        modalities=pl.col("Modality_dicom").drop_nulls().unique().sort(),
        modality_train=pl.col("Modality_train").first(),
        matches=pl.col("segmentation_matches_series").first(),
    )


def _of_main(main: pl.LazyFrame) -> pl.LazyFrame:
    matrices = (
        main.select(SERIES_KEY, "Columns", "Rows")
        .unique()
        .group_by(SERIES_KEY)
        .agg(matrices=pl.concat_str("Columns", "Rows", separator="x").sort())
    )
    return (
        main.group_by(SERIES_KEY)
        .agg(
            pl.max_horizontal(c.max() - c.min() for c in _COSINES).alias("orientation_spread"),
            header_spacing=pl.col("SpacingBetweenSlices").abs().median(),
        )
        .join(matrices, on=SERIES_KEY, how="left")
    )


def _of_rescale(main: pl.LazyFrame) -> pl.LazyFrame:
    # The least stored value: two's complement reaches below zero, unsigned does not.
    signed, bits = pl.col("PixelRepresentation"), pl.col("BitsStored").cast(pl.Float64)
    stored = pl.when(signed == 1).then(-(2.0 ** (bits - 1))).when(signed == 0).then(0.0)
    names = ("PixelRepresentation", "BitsStored", "RescaleSlope", "RescaleIntercept")
    return (
        main.filter(_CT)
        .select(SERIES_KEY, *names)
        .unique()
        .group_by(SERIES_KEY)
        .agg(
            slopes=pl.col("RescaleSlope").drop_nulls().unique().sort(),
            intercepts=pl.col("RescaleIntercept").drop_nulls().unique().sort(),
            least=(stored * pl.col("RescaleSlope") + pl.col("RescaleIntercept")).min(),
        )
    )


def _flagged(once: pl.LazyFrame) -> pl.DataFrame:
    """Return the images that have a problem of their own, whatever the others are like."""
    lengths = [_dot(v, v).sqrt() for v in (_ROW, _COLUMN)]
    skew = [*(length - 1 for length in lengths), _dot(_ROW, _COLUMN)]
    of_readable = {
        "header_series_differs": pl.col("header_series_instance_uid").is_not_null(),
        "scouts": IS_SCOUT,
        "position_missing": ~IS_SCOUT & pl.col("slice_position_mm").is_null(),
        "cosines_not_orthogonal": pl.any_horizontal(part.abs() > UNIT_COSINES for part in skew),
        "pixel_spacing_missing": ~IS_SCOUT & pl.col("PixelSpacing").is_null(),
        "slice_thickness_missing": ~IS_SCOUT & pl.col("SliceThickness").is_null(),
        "rescale_missing": _CT
        & (pl.col("RescaleSlope").is_null() | pl.col("RescaleIntercept").is_null()),
    }
    readable = pl.col("read_error").is_null()
    flags = {name: readable & flag.fill_null(value=False) for name, flag in of_readable.items()}
    flags["unreadable_files"] = ~readable
    return (
        once.filter(pl.any_horizontal(flags.values()))
        .select(SERIES_KEY, image=_image(), **flags)
        .collect(engine="streaming")
    )


def _slices(main: pl.LazyFrame, mixed: pl.Series) -> pl.DataFrame:
    """Return the images with a position, ordered within each `group` as they lie.

    Parameters
    ----------
    main : pl.LazyFrame
        Images that are no scouts, with the `number` of their series.
    mixed : pl.Series
        The series that have several orientations.

    Returns
    -------
    pl.DataFrame
        A group is of one series, orientation and matrix.
    """
    slices = (
        main.filter(pl.col("slice_position_mm").is_not_null())
        .select(
            SERIES_KEY,
            "Rows",
            "Columns",
            "slice_index",
            "slice_spacing_mm",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "dicom_path",
            "frame_index",
            "number",
        )
        .collect(engine="streaming")
    )
    orientation = np.zeros(slices.height, dtype=np.int64)
    several = slices.with_row_index().filter(pl.col(SERIES_KEY).is_in(mixed.implode()))
    for part in several.partition_by("number"):
        # As where slice_index was counted: by rounding, near cosines might fall apart.
        cosines = part["ImageOrientationPatient"].to_numpy()
        orientation[part["index"].to_numpy()] = orientation_centres(cosines)
    order = ["number", "orientation", "Rows", "Columns", "slice_index"]
    return (
        slices.with_columns(orientation=orientation)
        .sort(order)
        .with_columns(group=pl.struct(order[:-1]).rle_id())
    )


def _of_gaps(slices: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what lies between the slices of a group, by series, and the images behind bad gaps."""
    follows = pl.col("group") == pl.col("group").shift(1)
    step = [pl.when(follows).then(place.diff()) for place in _PLACE]
    # From the group's first slice: a slight turn far from the origin would be a shift.
    offset = [place - place.first().over("group") for place in _PLACE]
    gaps = slices.select(
        SERIES_KEY,
        "group",
        "dicom_path",
        "frame_index",
        "slice_spacing_mm",
        way=_dot(step, step).sqrt(),
        along=_dot(step, _normal()).abs(),
        across=_dot(offset, _ROW),
        down=_dot(offset, _COLUMN),
    )
    spreads = [pl.col(side).max() - pl.col(side).min() for side in ("across", "down")]
    shifts = gaps.group_by(SERIES_KEY, "group").agg(pl.max_horizontal(spreads).alias("shift"))
    apart = pl.col("way") > DISTINCT_MM
    directions = gaps.group_by(SERIES_KEY).agg(
        direction=(pl.col("along") / pl.col("way")).filter(apart).median()
    )
    by_series = shifts.group_by(SERIES_KEY).agg(pl.col("shift").max())
    off = (pl.col("along") - pl.col("slice_spacing_mm")).abs()
    uneven = (off > SPACING_RELATIVE * pl.col("slice_spacing_mm")) & (pl.col("along") > DISTINCT_MM)
    flags = {
        "positions_not_distinct": (~apart).fill_null(value=False),
        "spacing_uneven": uneven.fill_null(value=False),
    }
    bad = gaps.filter(pl.any_horizontal(flags.values()))
    return (
        directions.join(by_series, on=SERIES_KEY),
        bad.select(SERIES_KEY, image=_image(), **flags),
    )


def _dot(one: Sequence[pl.Expr], other: Sequence[pl.Expr]) -> pl.Expr:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _image() -> pl.Expr:
    """Return the name of an image's file, and its frame where it is one of several."""
    return pl.col("dicom_path").str.split("/").list.last() + _frame()


def _frame() -> pl.Expr:
    return _text(" frame {}", "frame_index").fill_null("")


def _text(template: str, *values: pl.Expr | str) -> pl.Expr:
    """Do what `pl.format` does, which may panic on a column of several chunks (polars 25525)."""
    head, *tail = template.split("{}")
    parts: list[pl.Expr] = [pl.lit(head)]
    for value, text in zip(values, tail, strict=True):
        parts += [pl.col(value) if isinstance(value, str) else value, pl.lit(text)]
    return pl.concat_str(parts)


def _normal() -> list[pl.Expr]:
    cross = [
        _ROW[1] * _COLUMN[2] - _ROW[2] * _COLUMN[1],
        _ROW[2] * _COLUMN[0] - _ROW[0] * _COLUMN[2],
        _ROW[0] * _COLUMN[1] - _ROW[1] * _COLUMN[0],
    ]
    length = _dot(cross, cross).sqrt()
    return [component / length for component in cross]


def _in_words(problem: str, found: pl.DataFrame) -> pl.DataFrame:
    """Return one line a series: the first findings in words, and how many more there are."""
    more = pl.col("finding").len().cast(pl.Int64) - _SHOWN
    return (
        found.group_by(SERIES_KEY, maintain_order=True)
        .agg(
            pl.col("finding").head(_SHOWN).str.join("; ").alias("finding"),
            pl.when(more > 0)
            .then(_text("; and {} more", more))
            .otherwise(pl.lit(""))
            .first()
            .alias("more"),
        )
        .select(SERIES_KEY, finding=_text("{}: {}{}", pl.lit(problem), "finding", "more"))
    )


def _series_where(condition: pl.Expr, finding: pl.Expr) -> Finder:
    return lambda e: e.series.filter(condition).select(SERIES_KEY, finding=finding)


def _images_with(problem: str) -> Finder:
    return lambda e: e.images.filter(pl.col(problem)).select(SERIES_KEY, finding=pl.col("image"))


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
        SERIES_KEY, finding=_text("{} files of {}", "files", "recorded")
    )


def _labels_by_location(evidence: Evidence) -> pl.DataFrame:
    return evidence.labels.unpivot(
        on=list(LOCATIONS), index=SERIES_KEY, variable_name="location", value_name="label"
    )


def _labels_missing(evidence: Evidence) -> pl.DataFrame:
    missing = pl.any_horizontal(pl.col(n).is_null() for n in (*LOCATIONS, ANEURYSM_PRESENT))
    return evidence.labels.filter(missing).select(SERIES_KEY, finding=pl.lit("labels are null"))


def _present_contradicts(evidence: Evidence) -> pl.DataFrame:
    # Kleene's logic: with an empty label, and no location positive, nothing is known to contradict.
    anywhere = pl.any_horizontal(pl.col(name) == 1 for name in LOCATIONS).cast(pl.Int8)
    return evidence.labels.filter(pl.col(ANEURYSM_PRESENT) != anywhere).select(
        SERIES_KEY,
        finding=_text("{} {}, locations {}", pl.lit(ANEURYSM_PRESENT), ANEURYSM_PRESENT, anywhere),
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
    return evidence.lost.select(SERIES_KEY, finding=_point())


def _duplicate_point(evidence: Evidence) -> pl.DataFrame:
    alike = [*_POINT, "location"]
    return evidence.points.filter(pl.struct(alike).is_duplicated()).select(
        SERIES_KEY, finding=_point()
    )


def _contradictory_point(evidence: Evidence) -> pl.DataFrame:
    locations = pl.col("location").n_unique().over(_POINT)
    return evidence.points.filter(locations > 1).select(SERIES_KEY, finding=_point())


def _point() -> pl.Expr:
    return _text(
        "{}{} ({}, {}) {}",
        "SOPInstanceUID",
        _frame(),
        pl.col("x").round(1),
        pl.col("y").round(1),
        pl.col("location").fill_null("without a location"),
    )


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
        _text("train.csv {}, header {}", "modality_train", header),
    )


def _rescale_implausible() -> Finder:
    varies = (pl.col("slopes").list.len() > 1) | (pl.col("intercepts").list.len() > 1)
    slope = (pl.col("slopes").list.eval(pl.element() != 1.0)).list.any()
    return _series_where(
        varies | slope | (pl.col("least") > AIR_HU),
        _text(
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
    return _points_where(outside, _text("{} of {}x{}", _point(), "Columns", "Rows"))


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
        _text("cosines differ by up to {}", pl.col("orientation_spread").round(3)),
    ),
    "mixed_matrix": _series_where(
        pl.col("matrices").list.len() > 1, pl.col("matrices").list.join(" ")
    ),
    "position_missing": _images_with("position_missing"),
    "positions_not_distinct": _images_with("positions_not_distinct"),
    "spacing_uneven": _images_with("spacing_uneven"),
    "cosines_not_orthogonal": _images_with("cosines_not_orthogonal"),
    "in_plane_shift": _series_where(
        (pl.col("shift") > IN_PLANE_MM) & (pl.col("direction") >= ALONG_NORMAL_COSINE),
        _text("in-plane positions spread over {} mm", pl.col("shift").round(3)),
    ),
    "orientation_contradicts_positions": _series_where(
        pl.col("direction") < ALONG_NORMAL_COSINE,
        _text("cosine {} between normal and positions", pl.col("direction").round(3)),
    ),
    "header_spacing_differs": _series_where(
        (pl.col("header_spacing") - pl.col("spacing")).abs() > SPACING_RELATIVE * pl.col("spacing"),
        _text(
            "header {} mm, positions {} mm",
            pl.col("header_spacing").round(4),
            pl.col("spacing").round(4),
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
    "localizer_off_vessel": _points_where(
        _vessel.is_null() & pl.col("localizer_voxel").is_not_null(), _point()
    ),
    "localizer_in_other_vessel": _points_where(
        _vessel != pl.col("location"), _text("{} is in {}", _point(), _vessel)
    ),
    "segmentation_mismatch": _series_where(
        ~pl.col("matches"), pl.lit("the volume's grid is not the series'")
    ),
}
