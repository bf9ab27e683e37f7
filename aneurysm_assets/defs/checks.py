"""Asset checks, read from the tables: one a problem of `series_quality`, and one of `volumes`."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from aneurysm_assets.defs.problem_checks import check_spec, facts_of
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.runs.run_settings import end_with_reason
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.problems import PROBLEMS, Problem
from aneurysm_assets.schema.tables import SERIES_QUALITY, VOLUMES
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.storage.table_scans import read_table
from aneurysm_assets.volumes.geometry_groups import series_sharing

_NAMED = 200
"""Series that a check's result names; the table names all."""

_KEY = dg.AssetKey(SERIES_QUALITY.name)


@dg.multi_asset_check(
    name="series_quality_checks",
    specs=[check_spec(problem, _KEY) for problem in PROBLEMS],
    can_subset=True,
)
def series_quality_checks(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource
) -> Iterator[dg.AssetCheckResult]:
    """Say of each problem which series have it."""
    with end_with_reason(context, "the checks"):
        path = find_table(settings.get().quality_table)
        if path is None:
            raise dg.Failure("there is no series_quality yet: materialize it", allow_retries=False)
        quality = read_table(SERIES_QUALITY, path)
    chosen = {key.name for key in context.selected_asset_check_keys}
    for problem in PROBLEMS:
        if problem.name in chosen:
            yield _result(problem, quality)


def _result(problem: Problem, quality: pl.DataFrame) -> dg.AssetCheckResult:
    found = quality.filter(pl.col(problem.name))
    metadata: dict[str, dg.MetadataValue | int | str] = {
        "series_checked": int(quality[problem.name].is_not_null().sum()),
        "series_found": found.height,
        **facts_of(problem),
    }
    if found.height:
        metadata["series"] = _table(problem, found.head(_NAMED))
    return dg.AssetCheckResult(
        asset_key=_KEY,
        check_name=problem.name,
        passed=found.height == 0,
        severity=dg.AssetCheckSeverity[problem.severity],
        description=_verdict(problem, found.height, int(quality[problem.name].count())),
        metadata=metadata,
    )


def _verdict(problem: Problem, found: int, checked: int) -> str:
    """Say what came of a check, so that one that passed reads as passed."""
    if not checked:
        return f"Not checked: no series has what this needs. Looked for: {problem.description}"
    if not found:
        return f"Passed: none of {checked} series has it. Looked for: {problem.description}"
    return f"Found in {found} of {checked} series: {problem.description}"


def _table(problem: Problem, found: pl.DataFrame) -> dg.MetadataValue:
    """Return the series with the problem, and the line of their findings that is about it."""
    line = found["findings"].str.extract(rf"(?m)^{problem.name}: (.*)$")
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"series": series, "finding": finding or ""})
            for series, finding in zip(found[SERIES_KEY], line, strict=True)
        ]
    )


@dg.asset_check(
    asset=dg.AssetKey(VOLUMES.name),
    name="shares_geometry",
    description="Finds: series that share a FrameOfReferenceUID, or all positions of a volume, "
    "with another series. Keep each `geometry_group` together when you divide the data.",
)
def shares_geometry(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource
) -> dg.AssetCheckResult:
    """Name the series that must not be divided between training and validation."""
    with end_with_reason(context, "the check shares_geometry"):
        path = find_table(settings.get().volumes_table)
        if path is None:
            raise dg.Failure("there is no volumes yet: materialize it", allow_retries=False)
        found = series_sharing(read_table(VOLUMES, path))
    metadata: dict[str, dg.MetadataValue | int] = {"series_found": found.height}
    if found.height:
        metadata["series"] = dg.MetadataValue.table(
            [
                dg.TableRecord({"series": series, "shares with": other, "others": others})
                for series, other, others in found.head(_NAMED).iter_rows()
            ]
        )
    return dg.AssetCheckResult(
        passed=found.height == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Found: {found.height} series share their geometry with another"
        if found.height
        else "Passed: no series shares its geometry with another",
        metadata=metadata,
    )
