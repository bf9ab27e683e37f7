"""Which series have which problem: from our own tables, never from the raw data.

What the problems are, with their tolerances, stands in `problems`. Each finder returns one line a
finding: the series, and in words where in it. All of them work on whole columns, so that a
million images take seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from aneurysm_assets.problems import (
    AIR_HU,
    ALONG_NORMAL,
    COSINES,
    DISTINCT_MM,
    IN_PLANE_MM,
    OUTSIDE_PX,
    PROBLEMS,
    SPACING_RELATIVE,
)
from aneurysm_assets.tables import (
    ANEURYSM_PRESENT,
    LOCATIONS,
    SERIES_KEY,
    SERIES_QUALITY,
    UNIFIED_METADATA,
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
        One row a series of the unified table, with what `summarise` finds in its images.
    points : pl.DataFrame
        The `localizers` of those series, with a column `row`.
    placed : pl.DataFrame
        The rows of the unified table that have a point.
    labels : pl.DataFrame
        The `labels` of those series.
    files : mapping of str to int
        Files that Dagster recorded for a series when it was read.
    not_done : sequence of str
        Partitions that are not in the unified table.
    lost : pl.DataFrame
        The points that found no image, as in `points`.
    """

    series: pl.DataFrame
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
        With the schema of `tables.SERIES_QUALITY`, sorted by series. Of a series that is not done
        only that is known; its other columns are null.
    """
    missing = pl.Series(SERIES_KEY, list(evidence.not_done), dtype=pl.String)
    quality = pl.concat([evidence.series[SERIES_KEY], missing]).to_frame().unique().sort(SERIES_KEY)
    unknown = pl.col(SERIES_KEY).is_in(missing.implode())
    findings: list[pl.DataFrame] = []
    for problem in PROBLEMS:
        found = _FINDERS[problem.name](evidence).select(SERIES_KEY, "finding")
        findings.append(_in_words(problem.name, found))
        there = pl.col(SERIES_KEY).is_in(found[SERIES_KEY].unique().implode())
        known = there if problem.name == "not_done" else pl.when(~unknown).then(there)
        quality = quality.with_columns(known.alias(problem.name))
    words = (
        pl.concat(findings)
        .group_by(SERIES_KEY, maintain_order=True)
        .agg(pl.col("finding").str.join("\n").alias("findings"))
    )
    return quality.join(words, on=SERIES_KEY, how="left", maintain_order="left").select(
        SERIES_QUALITY.column_names
    )


def summarise(unified: pl.LazyFrame) -> pl.DataFrame:
    """Return one row a series with what the finders need to know of its images.

    Parameters
    ----------
    unified : pl.LazyFrame
        The unified table; LPS in mm.
    """
    once = unified.filter(pl.col("localizer_index").fill_null(0) == 0)
    images = once.filter(pl.col("read_error").is_null())
    everything = once.group_by(SERIES_KEY).agg(
        files=pl.col("dicom_path").n_unique(),
        unreadable=_image().filter(pl.col("read_error").is_not_null()),
    )
    repeated = (
        unified.filter(pl.col("read_error").is_null())
        .group_by(UNIFIED_METADATA.key)
        .agg(pl.col(SERIES_KEY).unique(), n=pl.len())
        .filter(pl.col("n") > 1)
        .explode(SERIES_KEY)
        .group_by(SERIES_KEY)
        .agg(repeated=pl.col("SOPInstanceUID").unique())
    )
    return (
        everything.join(repeated, on=SERIES_KEY, how="left")
        .join(_of_images(images), on=SERIES_KEY, how="left")
        .join(_of_gaps(images), on=SERIES_KEY, how="left")
        .sort(SERIES_KEY)
        .collect()
    )


def _of_images(images: pl.LazyFrame) -> pl.LazyFrame:
    scout = pl.col("is_localizer_image").fill_null(value=False)
    path = _image()
    main = ~scout
    ct = pl.col("Modality_dicom") == "CT"
    cosines = [pl.col("ImageOrientationPatient").arr.get(i) for i in range(6)]
    row, column = cosines[:3], cosines[3:]
    lengths = [pl.sum_horizontal(c * c for c in v).sqrt() for v in (row, column)]
    dot = pl.sum_horizontal(r * c for r, c in zip(row, column, strict=True))
    skew = pl.when(pl.col("ImageOrientationPatient").is_not_null()).then(
        pl.max_horizontal((lengths[0] - 1).abs(), (lengths[1] - 1).abs(), dot.abs())
    )
    # The least stored value: two's complement reaches below zero, unsigned does not.
    least = pl.when(pl.col("PixelRepresentation") == 1).then(
        -(2.0 ** (pl.col("BitsStored").cast(pl.Float64) - 1))
    ).otherwise(0.0) * pl.col("RescaleSlope") + pl.col("RescaleIntercept")
    spread = pl.max_horizontal((c.filter(main).max() - c.filter(main).min()) for c in cosines)
    return images.group_by(SERIES_KEY).agg(
        scouts=path.filter(scout),
        other_series=path.filter(pl.col("header_series_instance_uid").is_not_null()),
        orientation_spread=spread,
        matrices=pl.concat_str("Columns", "Rows", separator="x").filter(main).unique().sort(),
        without_position=path.filter(main & pl.col("slice_position_mm").is_null()),
        skewed=path.filter(skew > COSINES),
        spacing=pl.col("slice_spacing_mm").first(),
        header_spacing=pl.col("SpacingBetweenSlices").filter(main).abs().median(),
        without_pixel_spacing=path.filter(main & pl.col("PixelSpacing").is_null()),
        without_thickness=path.filter(main & pl.col("SliceThickness").is_null()),
        without_rescale=path.filter(
            ct & (pl.col("RescaleSlope").is_null() | pl.col("RescaleIntercept").is_null())
        ),
        slopes=pl.col("RescaleSlope").filter(ct & main).drop_nulls().unique().sort(),
        intercepts=pl.col("RescaleIntercept").filter(ct & main).drop_nulls().unique().sort(),
        least=least.filter(ct & main).min(),
        modalities=pl.col("Modality_dicom").drop_nulls().unique().sort(),
        modality_train=pl.col("Modality_train").first(),
        matches=pl.col("segmentation_matches_series").first(),
    )


def _of_gaps(images: pl.LazyFrame) -> pl.LazyFrame:
    """Return what lies between neighbouring slices of one orientation and matrix."""
    orientation = pl.concat_str(
        [pl.col("ImageOrientationPatient").arr.get(i).round(1) + 0.0 for i in range(6)],
        separator=" ",
    )
    group = [SERIES_KEY, "orientation", "Rows", "Columns"]
    normal = _normal()
    way = [
        (pl.col("ImagePositionPatient").arr.get(i)).diff().over(group, order_by="slice_index")
        for i in range(3)
    ]
    slices = (
        images.filter(
            ~pl.col("is_localizer_image").fill_null(value=False),
            pl.col("slice_position_mm").is_not_null(),
        )
        .with_columns(orientation=orientation, **{f"n{i}": n for i, n in enumerate(normal)})
        .with_columns(**{f"d{i}": d for i, d in enumerate(way)})
        .with_columns(
            way=pl.sum_horizontal(pl.col(f"d{i}") ** 2 for i in range(3)).sqrt(),
            along=pl.sum_horizontal(pl.col(f"d{i}") * pl.col(f"n{i}") for i in range(3)).abs(),
        )
        .filter(pl.col("d0").is_not_null())
        .with_columns(
            shift=(pl.col("way") ** 2 - pl.col("along") ** 2).clip(lower_bound=0).sqrt(),
            apart=pl.col("way") > DISTINCT_MM,
        )
    )
    gap = pl.col("along")
    uneven = (gap - pl.col("slice_spacing_mm")).abs() > SPACING_RELATIVE * pl.col(
        "slice_spacing_mm"
    )
    path = _image()
    return slices.group_by(SERIES_KEY).agg(
        same_position=path.filter(~pl.col("apart")),
        uneven=path.filter(uneven & (gap > DISTINCT_MM)),
        direction=(gap / pl.col("way")).filter(pl.col("apart")).median(),
        shifted=path.filter(pl.col("apart") & (pl.col("shift") > IN_PLANE_MM)),
        largest_shift=pl.col("shift").filter(pl.col("apart")).max(),
    )


def _image() -> pl.Expr:
    """Return the name of an image's file, and its frame where it is one of several."""
    frame = pl.when(pl.col("frame_index").is_not_null()).then(pl.format(" frame {}", "frame_index"))
    return pl.col("dicom_path").str.split("/").list.last() + frame.fill_null("")


def _normal() -> list[pl.Expr]:
    r = [pl.col("ImageOrientationPatient").arr.get(i) for i in range(3)]
    c = [pl.col("ImageOrientationPatient").arr.get(i) for i in range(3, 6)]
    cross = [
        r[1] * c[2] - r[2] * c[1],
        r[2] * c[0] - r[0] * c[2],
        r[0] * c[1] - r[1] * c[0],
    ]
    length = pl.sum_horizontal(x * x for x in cross).sqrt()
    return [x / length for x in cross]


def _in_words(problem: str, found: pl.DataFrame) -> pl.DataFrame:
    """Return one line a series: the first findings in words, and how many more there are."""
    more = pl.col("finding").len().cast(pl.Int64) - _SHOWN
    return (
        found.group_by(SERIES_KEY, maintain_order=True)
        .agg(
            pl.col("finding").head(_SHOWN).str.join("; ").alias("finding"),
            pl.when(more > 0)
            .then(pl.format("; and {} more", more))
            .otherwise(pl.lit(""))
            .first()
            .alias("more"),
        )
        .select(SERIES_KEY, finding=pl.format("{}: {}{}", pl.lit(problem), "finding", "more"))
    )


def _series_where(condition: pl.Expr, finding: pl.Expr) -> Finder:
    return lambda e: e.series.filter(condition).select(SERIES_KEY, finding=finding)


def _series_with(column: str, condition: pl.Expr | None = None) -> Finder:
    """Find the series in which a list of paths is not empty; each path is a finding."""
    among = pl.lit(value=True) if condition is None else condition
    return lambda e: (
        e.series.filter(among)
        .select(SERIES_KEY, finding=pl.col(column))
        .explode("finding")
        .filter(pl.col("finding").is_not_null())
    )


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
        SERIES_KEY, finding=pl.format("{} files of {}", "files", "recorded")
    )


def _labels_by_location(evidence: Evidence) -> pl.DataFrame:
    return evidence.labels.unpivot(
        on=list(LOCATIONS), index=SERIES_KEY, variable_name="location", value_name="label"
    )


def _labels_missing(evidence: Evidence) -> pl.DataFrame:
    missing = pl.any_horizontal(pl.col(n).is_null() for n in (*LOCATIONS, ANEURYSM_PRESENT))
    return evidence.labels.filter(missing).select(SERIES_KEY, finding=pl.lit("labels are null"))


def _present_contradicts(evidence: Evidence) -> pl.DataFrame:
    anywhere = pl.max_horizontal(LOCATIONS)
    return evidence.labels.filter(pl.col(ANEURYSM_PRESENT) != anywhere).select(
        SERIES_KEY,
        finding=pl.format(
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
    frame = (
        pl.when(pl.col("frame_index").is_null())
        .then(pl.lit(""))
        .otherwise(pl.format(" frame {}", "frame_index"))
    )
    return pl.format(
        "{}{} ({}, {}) {}",
        "SOPInstanceUID",
        frame,
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
        pl.format("train.csv {}, header {}", "modality_train", header),
    )


def _rescale_implausible() -> Finder:
    varies = (pl.col("slopes").list.len() > 1) | (pl.col("intercepts").list.len() > 1)
    slope = (pl.col("slopes").list.eval(pl.element() != 1.0)).list.any()
    return _series_where(
        varies | slope | (pl.col("least") > AIR_HU),
        pl.format(
            "slope {}, intercept {}, least value {}",
            *(
                pl.col(name).cast(pl.List(pl.String)).list.head(3).list.join(" ")
                for name in ("slopes", "intercepts")
            ),
            pl.col("least").cast(pl.String).fill_null("unknown"),
        ),
    )


def _outside_image() -> Finder:
    # Up to the matrix's size is inside: whether whole numbers are centres or corners of pixels
    # the data set does not say.
    outside = (
        (pl.col("x") < -OUTSIDE_PX)
        | (pl.col("y") < -OUTSIDE_PX)
        | (pl.col("x") > pl.col("Columns"))
        | (pl.col("y") > pl.col("Rows"))
    )
    return _points_where(outside, pl.format("{} of {}x{}", _point(), "Columns", "Rows"))


_vessel = pl.col("localizer_vessel")

_FINDERS: Mapping[str, Finder] = {
    "not_done": _not_done,
    "key_not_unique": _series_with("repeated"),
    "files_unaccounted": _unaccounted,
    "unreadable_files": _series_with("unreadable"),
    "header_series_differs": _series_with("other_series"),
    "scouts": _series_with("scouts"),
    "mixed_orientation": _series_where(
        pl.col("orientation_spread") > COSINES,
        pl.format("cosines differ by up to {}", pl.col("orientation_spread").round(3)),
    ),
    "mixed_matrix": _series_where(
        pl.col("matrices").list.len() > 1, pl.col("matrices").list.join(" ")
    ),
    "position_missing": _series_with("without_position"),
    "positions_not_distinct": _series_with("same_position"),
    "spacing_uneven": _series_with("uneven"),
    "cosines_not_orthogonal": _series_with("skewed"),
    "in_plane_shift": _series_with("shifted", pl.col("direction") >= ALONG_NORMAL),
    "orientation_contradicts_positions": _series_where(
        pl.col("direction") < ALONG_NORMAL,
        pl.format("cosine {} between normal and positions", pl.col("direction").round(3)),
    ),
    "header_spacing_differs": _series_where(
        (pl.col("header_spacing") - pl.col("spacing")).abs() > SPACING_RELATIVE * pl.col("spacing"),
        pl.format(
            "header {} mm, positions {} mm",
            pl.col("header_spacing").round(4),
            pl.col("spacing").round(4),
        ),
    ),
    "pixel_spacing_missing": _series_with("without_pixel_spacing"),
    "slice_thickness_missing": _series_with("without_thickness"),
    "rescale_missing": _series_with("without_rescale"),
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
        _vessel != pl.col("location"), pl.format("{} is in {}", _point(), _vessel)
    ),
    "segmentation_mismatch": _series_where(
        ~pl.col("matches"), pl.lit("the volume's grid is not the series'")
    ),
}
