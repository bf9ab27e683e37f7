"""`localizers`: the rows of train_localizers.csv, one file per series."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from aneurysm_assets.defs.assets.decorators import read_csv_once, series_asset
from aneurysm_assets.defs.assets.raw import TRAIN_LOCALIZERS_CSV
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.raw.tables import write_localizers
from aneurysm_assets.runs.resources import Reporter, SettingsResource
from aneurysm_assets.runs.run_settings import settings_of_run
from aneurysm_assets.runs.series_run import Batch, SeriesConfig, materialize_series
from aneurysm_assets.schema.tables import LOCALIZERS, LOCALIZERS_CSV_EXTRA


@series_asset(LOCALIZERS, reads=TRAIN_LOCALIZERS_CSV)
def localizers(
    context: dg.AssetExecutionContext,
    config: SeriesConfig,
    settings: SettingsResource,
    reporter: dg.ResourceParam[Reporter],
) -> Iterator[dg.MaterializeResult[None] | dg.Output[None]]:
    """Read the CSV once, then write each series of the run; no process is started for it."""
    run_settings = settings_of_run(context, settings)
    empty = LocalizersCsv.empty(run_settings.localizers_csv)
    csv = read_csv_once(
        context, run_settings, run_settings.localizers_csv, LocalizersCsv.read, empty=empty
    )
    if note := csv.extra_note(LOCALIZERS_CSV_EXTRA):
        context.log.warning(note)
    batch = Batch(
        LOCALIZERS,
        partial(write_localizers, run_settings, csv),
        workers=0,
        alone=lambda uid: partial(write_localizers, run_settings, csv.only(uid)),
    )
    yield from materialize_series(context, config, reporter, run_settings, batch)
