"""`series_quality`: which problems each series has, from the unified table."""

from typing import Any

import dagster as dg
import polars as pl

from aneurysm_assets.defs.assets.decorators import (
    EXAMPLES,
    example_rows,
    file_metadata,
    metadata_of,
    table_asset,
)
from aneurysm_assets.quality.assess import assess_series
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.runs.run_settings import end_with_reason, settings_of_run
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import LABELS, LOCALIZERS, SERIES_QUALITY, UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.snapshot import InputSnapshot, retry_if_replaced
from aneurysm_assets.storage.table_files import StoredTable, write_table


@table_asset(SERIES_QUALITY, group="dataset", deps=[dg.AssetKey(UNIFIED_METADATA.name)])
def series_quality(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> dg.MaterializeResult[None]:
    """Look for every problem in every series of the unified table."""
    run_settings = settings_of_run(context, settings, reads_input=False)
    with end_with_reason(context, "the quality of the series"):
        quality, stored = retry_if_replaced(lambda: _assessed(context, run_settings))
    if stored.warning:
        context.log.warning(stored.warning)
    problems = {problem.name: int(quality[problem.name].sum()) for problem in PROBLEMS}
    counts: dict[str, Any] = {
        "series_with_problems": int(quality["findings"].is_not_null().sum()),
        "problems": dg.MetadataValue.json({k: n for k, n in problems.items() if n}),
        "examples": example_rows(
            quality.sort(pl.col("findings").is_null(), maintain_order=True)
            .select(SERIES_KEY, "findings")
            .head(EXAMPLES)
        ),
    }
    return dg.MaterializeResult(metadata=metadata_of(stored, counts))


def _assessed(
    context: dg.AssetExecutionContext, settings: Settings
) -> tuple[pl.DataFrame, StoredTable]:
    complete, remaining = partitions.complete(context.instance, settings)
    sources = InputSnapshot.now(
        {
            settings.unified_table.parent: [settings.unified_table.name],
            settings.interim / LABELS.name: complete,
            settings.interim / LOCALIZERS.name: complete,
        }
    )
    quality = assess_series(
        settings, complete, remaining, partitions.recorded_files(context.instance)
    )
    return quality, write_table(
        quality,
        SERIES_QUALITY,
        settings.quality_table,
        metadata=file_metadata(SERIES_QUALITY, settings, complete),
        check=sources.require_same,
    )
