"""`series_preview`: one picture per series, from the raw files alone."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from aneurysm_assets.defs.assets.decorators import (
    file_asset,
    is_to_be_left_out,
    read_csv_once,
)
from aneurysm_assets.defs.assets.raw import RAW_SEGMENTATIONS, RAW_SERIES, TRAIN_LOCALIZERS_CSV
from aneurysm_assets.optional_dependencies import require_pillow
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.runs.partitions import series_partitions
from aneurysm_assets.runs.resources import Reporter, SettingsResource
from aneurysm_assets.runs.run_settings import settings_of_run
from aneurysm_assets.runs.series_run import Batch, SeriesConfig, materialize_series
from aneurysm_assets.schema.tables import SERIES_PREVIEW


@file_asset(
    SERIES_PREVIEW,
    kinds={"png"},
    group="pictures",
    deps=[RAW_SERIES, TRAIN_LOCALIZERS_CSV, RAW_SEGMENTATIONS],
    partitions_def=series_partitions,
    output_required=False,
)
def series_preview(
    context: dg.AssetExecutionContext,
    config: SeriesConfig,
    settings: SettingsResource,
    reporter: dg.ResourceParam[Reporter],
) -> Iterator[dg.MaterializeResult[None] | dg.Output[None]]:
    """Draw each series of the run in worker processes."""
    if is_to_be_left_out(context, require_pillow):
        return
    # With pydicom's decoders, which every start of the definitions would wait for.
    from aneurysm_assets.preview.picture import write_preview  # noqa: PLC0415

    run_settings = settings_of_run(context, settings)
    empty = LocalizersCsv.empty(run_settings.localizers_csv)
    csv = read_csv_once(
        context, run_settings, run_settings.localizers_csv, LocalizersCsv.read, empty=empty
    )
    batch = Batch(
        SERIES_PREVIEW,
        partial(write_preview, run_settings, csv),
        run_settings.workers,
        alone=lambda uid: partial(write_preview, run_settings, csv.only(uid)),
    )
    yield from materialize_series(context, config, reporter, run_settings, batch)
