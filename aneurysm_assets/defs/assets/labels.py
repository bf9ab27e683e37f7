"""`labels`: the rows of train.csv, one file per series."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from aneurysm_assets.defs.assets.decorators import read_csv_once, series_asset
from aneurysm_assets.defs.assets.raw import TRAIN_CSV
from aneurysm_assets.raw.tables import write_labels
from aneurysm_assets.raw.train_csv import TrainCsv
from aneurysm_assets.runs.resources import Reporter, SettingsResource
from aneurysm_assets.runs.run_settings import settings_of_run
from aneurysm_assets.runs.series_run import Batch, SeriesConfig, materialize_series
from aneurysm_assets.schema.tables import LABELS, TRAIN_CSV_EXTRA


@series_asset(LABELS, reads=TRAIN_CSV)
def labels(
    context: dg.AssetExecutionContext,
    config: SeriesConfig,
    settings: SettingsResource,
    reporter: dg.ResourceParam[Reporter],
) -> Iterator[dg.MaterializeResult[None] | dg.Output[None]]:
    """Read the CSV once, then write each series of the run; no process is started for it."""
    run_settings = settings_of_run(context, settings)
    empty = TrainCsv.empty(run_settings.train_csv)
    csv = read_csv_once(context, run_settings, run_settings.train_csv, TrainCsv.read, empty=empty)
    if note := csv.extra_note(TRAIN_CSV_EXTRA):
        context.log.warning(note)
    batch = Batch(
        LABELS,
        partial(write_labels, run_settings, csv),
        workers=0,
        alone=lambda uid: partial(write_labels, run_settings, csv.only(uid)),
    )
    yield from materialize_series(context, config, reporter, run_settings, batch)
