"""The jobs that people ask for by name: the registration of series, and selections of assets.

How the assets are made belongs to `assets`.
"""

import dagster as dg

from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import claim
from aneurysm_assets.instance.input_root import record_input, require_input
from aneurysm_assets.raw.inventory import take_inventory
from aneurysm_assets.runs.partitions import register, require_csvs
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.schema.tables import (
    ALL_TABLES,
    DATASET_REPORT,
    DATASET_TABLES,
    SERIES_PREVIEW,
    SERIES_TABLES,
)


@dg.op
def register_partitions(context: dg.OpExecutionContext, settings: SettingsResource) -> None:
    """Add every series of train.csv that is on disk to the `series` partitions."""
    try:
        run_settings = settings.get()
        require_input(run_settings)
        inventory = take_inventory(run_settings)
        claim(context.instance, run_settings)
        require_csvs(context.instance, run_settings)
        record_input(run_settings)
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    new = register(context.instance, inventory.series)
    context.log.info(
        f"{len(inventory.series)} series, {new} of them new; {len(inventory.not_on_disk)} rows of "
        f"train.csv without a directory, {len(inventory.unlabelled)} directories without a row"
    )


@dg.job(description="Register the series of train.csv that are on disk as partitions.")
def register_series() -> None:
    """Register what is on disk, for those who use only Dagster."""
    register_partitions()


materialize_series = dg.define_asset_job(
    "materialize_series",
    selection=[table.name for table in SERIES_TABLES],
    description="Read each chosen series: its headers, labels, points and segmentations. One run "
    "for a range of partitions.",
)

combine = dg.define_asset_job(
    "combine",
    selection=[table.name for table in DATASET_TABLES],
    description="Join the series that are done into the one table, describe their volumes, and "
    "look for what is wrong with them.",
)

make_tables = dg.define_asset_job(
    "make_tables",
    selection=[table.name for table in ALL_TABLES],
    description="Read each chosen series, then combine: all but the pictures and the report.",
)

draw_series_previews = dg.define_asset_job(
    "draw_series_previews",
    selection=[SERIES_PREVIEW.name],
    description="Draw a picture of each chosen series. It decodes pixels, and is no part of the "
    "default run.",
)

write_dataset_report = dg.define_asset_job(
    "write_dataset_report",
    selection=[DATASET_REPORT.name],
    description="Write the report of the data set from the tables as they are.",
)
