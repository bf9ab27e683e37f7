"""The checks of `unified_metadata` itself: what is not in it, told by the run that makes it.

What is wrong with a series is a check of `series_quality`.
"""

from collections.abc import Mapping

import dagster as dg

from aneurysm_assets.defs.problem_checks import check_spec, facts_of
from aneurysm_assets.schema.problems import Problem
from aneurysm_assets.schema.tables import UNIFIED_METADATA

_KEY = dg.AssetKey(UNIFIED_METADATA.name)

LEFT_OUT, UNREADABLE, WITHOUT_IMAGE = (
    "series_left_out",
    "unreadable_files",
    "localizers_without_image",
)

_CHECKS = (
    Problem(
        LEFT_OUT,
        "Series that are not done in all four tables below, so that they are not in this one.",
        severity="ERROR",
        source="dicom_tags, labels, localizers and segmentation_meta",
    ),
    Problem(
        UNREADABLE,
        "Files that cannot be read; their rows have a `read_error` and no header.",
        source="reading",
    ),
    Problem(
        WITHOUT_IMAGE,
        "Points that stand on no row; `localizers_without_image.parquet` has them, with a reason.",
        source="train_localizers.csv",
    ),
)


def check_specs() -> list[dg.AssetCheckSpec]:
    """Return what the asset checks, as Dagster lists it."""
    return [check_spec(problem, _KEY) for problem in _CHECKS]


def check_results(found: Mapping[str, int]) -> list[dg.AssetCheckResult]:
    """Return what came of each check.

    Parameters
    ----------
    found : mapping of str to int
        How many were found, by the name of the check.
    """
    return [_result(problem, found[problem.name]) for problem in _CHECKS]


def _result(problem: Problem, found: int) -> dg.AssetCheckResult:
    looked_for = problem.description
    return dg.AssetCheckResult(
        asset_key=_KEY,
        check_name=problem.name,
        passed=found == 0,
        severity=dg.AssetCheckSeverity[problem.severity],
        description=f"Found {found}: {looked_for}"
        if found
        else f"Passed: there are none. Looked for: {looked_for}",
        metadata={"found": found, **facts_of(problem)},
    )
