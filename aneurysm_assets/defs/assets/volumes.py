"""`volumes`: what each volume is, from the unified table."""

from typing import Any

import dagster as dg

from aneurysm_assets.defs.assets.decorators import (
    EXAMPLES,
    example_rows,
    file_metadata,
    metadata_of,
    table_asset,
)
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.runs.run_settings import end_with_reason, settings_of_run
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import UNIFIED_METADATA, VOLUMES
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.snapshot import InputSnapshot, retry_if_replaced
from aneurysm_assets.storage.table_files import StoredTable, write_table
from aneurysm_assets.unified.combine import scan_unified
from aneurysm_assets.unified.volumes import volumes_of

_SHOWN = (
    *(SERIES_KEY, "volume_index", "shape", "voxel_size", "extent_mm"),
    *("orientation_plane", "is_regular", "irregular_reason"),
)


@table_asset(VOLUMES, group="dataset", deps=[dg.AssetKey(UNIFIED_METADATA.name)])
def volumes(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> dg.MaterializeResult[None]:
    """Describe every volume of the unified table."""
    run_settings = settings_of_run(context, settings, reads_input=False)
    with end_with_reason(context, "the volumes"):
        counts, stored = retry_if_replaced(lambda: _described(context, run_settings))
    if stored.warning:
        context.log.warning(stored.warning)
    return dg.MaterializeResult(metadata=metadata_of(stored, counts))


def _described(
    context: dg.AssetExecutionContext, settings: Settings
) -> tuple[dict[str, Any], StoredTable]:
    complete, _ = partitions.complete(context.instance, settings)
    sources = InputSnapshot.now({settings.interim: [settings.unified_table.name]})
    table = volumes_of(scan_unified(settings))
    counts = {
        "regular": int(table["is_regular"].sum()),
        "series": table["SeriesInstanceUID"].n_unique(),
        "examples": example_rows(table.select(_SHOWN).head(EXAMPLES)),
    }
    return counts, write_table(
        table,
        VOLUMES,
        settings.volumes_table,
        metadata=file_metadata(VOLUMES, settings, complete),
        check=sources.require_same,
    )
