"""The tables of the stage to `series_quality`: what is read for it, and in which order.

What a problem is stands in `schema.problems`, how it is found in `findings`.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from aneurysm_assets.quality.findings import Evidence, assess
from aneurysm_assets.quality.images import summarise
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import LABELS, LOCALIZERS
from aneurysm_assets.settings import Settings
from aneurysm_assets.unified.combine import points_without_image, scan_series, scan_unified


def assess_series(
    settings: Settings, complete: Sequence[str], incomplete: Sequence[str], files: Mapping[str, int]
) -> pl.DataFrame:
    """Return `series_quality` from the tables on disk.

    Parameters
    ----------
    settings : Settings
        Where the tables are.
    complete : sequence of str
        Partitions that are materialized in all four tables.
    incomplete : sequence of str
        The other partitions; an older unified table may hold some of them all the same.
    files : mapping of str to int
        Files that Dagster recorded for each series.

    Returns
    -------
    pl.DataFrame
        With the schema of `tables.SERIES_QUALITY`.

    Raises
    ------
    FileNotFoundError
        There is no unified table, or a file of one of its series is gone.
    """
    unified = scan_unified(settings)
    found = summarise(unified)
    combined = found.series[SERIES_KEY].to_list()
    points = scan_series(settings, LOCALIZERS, combined).collect()
    evidence = Evidence(
        series=found.series,
        groups=found.groups,
        images=found.images,
        points=points,
        placed=unified.filter(pl.col("localizer_index").is_not_null()).collect(),
        labels=scan_series(settings, LABELS, combined).collect(),
        files=files,
        not_done=sorted({*incomplete, *(set(complete) - set(combined))}),
        lost=points_without_image(points, unified),
    )
    return assess(evidence)
