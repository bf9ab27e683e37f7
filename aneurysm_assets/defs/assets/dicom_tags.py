"""`dicom_tags`: the headers of each series' DICOM files, one row per image."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from aneurysm_assets.defs.assets.decorators import series_asset
from aneurysm_assets.defs.assets.raw import RAW_SERIES
from aneurysm_assets.dicom.table import write_dicom_tags
from aneurysm_assets.runs.resources import Reporter, SettingsResource
from aneurysm_assets.runs.run_settings import settings_of_run
from aneurysm_assets.runs.series_run import Batch, SeriesConfig, materialize_series
from aneurysm_assets.schema.tables import DICOM_TAGS


@series_asset(DICOM_TAGS, reads=RAW_SERIES)
def dicom_tags(
    context: dg.AssetExecutionContext,
    config: SeriesConfig,
    settings: SettingsResource,
    reporter: dg.ResourceParam[Reporter],
) -> Iterator[dg.MaterializeResult[None] | dg.Output[None]]:
    """Read each series of the run in worker processes."""
    run_settings = settings_of_run(context, settings)
    batch = Batch(DICOM_TAGS, partial(write_dicom_tags, run_settings), run_settings.workers)
    yield from materialize_series(context, config, reporter, run_settings, batch)
