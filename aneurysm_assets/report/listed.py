"""The series that have problems, as the page lists them."""

from collections.abc import Set
from dataclasses import dataclass

import polars as pl

from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.problems import PROBLEMS

MOST_LISTED = 500
"""Series that the page lists, so that it stays light; more only where a problem names them."""

_PROBLEMS, _ERRORS = "problems", "errors"


@dataclass(frozen=True, eq=False)
class Listed:
    """Series with problems.

    Attributes
    ----------
    frame : pl.DataFrame
        Series, `modality` and `problems` (list), those with errors and with many first.
    total : int
        How many series have a problem; at least as many as `frame` has.
    """

    frame: pl.DataFrame
    total: int


def list_series(quality: pl.DataFrame, modalities: pl.DataFrame, named: Set[str]) -> Listed:
    """List the series with problems.

    Parameters
    ----------
    quality : pl.DataFrame
        `series_quality`.
    modalities : pl.DataFrame
        Series and `modality`.
    named : set of str
        Series that are listed in any case.
    """
    has = {problem: pl.col(problem.name).fill_null(value=False) for problem in PROBLEMS}
    names = [pl.when(true).then(pl.lit(problem.name)) for problem, true in has.items()]
    errors = [true for problem, true in has.items() if problem.severity == "ERROR"]
    everything = quality.select(
        SERIES_KEY,
        pl.concat_list(names).list.drop_nulls().alias(_PROBLEMS),
        pl.sum_horizontal(errors).alias(_ERRORS),
    ).filter(pl.col(_PROBLEMS).list.len() > 0)
    worst = (pl.col(_ERRORS), pl.col(_PROBLEMS).list.len())
    is_named = pl.col(SERIES_KEY).is_in(list(named))
    order = [True, True, False]
    kept = everything.sort(is_named, *worst, SERIES_KEY, descending=[True, *order]).head(
        max(MOST_LISTED, everything.select(is_named.sum()).item())
    )
    frame = (
        kept.sort(*worst, SERIES_KEY, descending=order)
        .join(modalities, on=SERIES_KEY, how="left", maintain_order="left")
        .select(SERIES_KEY, "modality", _PROBLEMS)
    )
    return Listed(frame, everything.height)
