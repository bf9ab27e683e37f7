"""A job that registers the series on disk as partitions, for those who use only Dagster."""

import dagster as dg

from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import claim
from aneurysm_assets.raw.inventory import take_inventory
from aneurysm_assets.runs.partitions import register
from aneurysm_assets.runs.resources import SettingsResource


@dg.op
def register_partitions(context: dg.OpExecutionContext, settings: SettingsResource) -> None:
    """Add every series of train.csv that is on disk to the `series` partitions."""
    try:
        now = settings.get()
        inventory = take_inventory(now)
        claim(context.instance, now)
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    new = register(context.instance, inventory.series)
    context.log.info(
        f"{len(inventory.series)} series, {new} of them new; {len(inventory.not_on_disk)} rows of "
        f"train.csv without a directory, {len(inventory.unlabelled)} directories without a row"
    )


@dg.job(description="Register the series of train.csv that are on disk as partitions.")
def register_series() -> None:
    """Register what is on disk."""
    register_partitions()
