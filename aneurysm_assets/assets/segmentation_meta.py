"""`segmentation_meta`: the headers of each series' NIfTI pair."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dagster as dg

from aneurysm_assets.assets.common import series_asset
from aneurysm_assets.assets.raw import RAW_SEGMENTATIONS
from aneurysm_assets.recording import Batch, SeriesConfig, materialize_series, settings_of_run
from aneurysm_assets.resources import Reporter, SettingsResource
from aneurysm_assets.tables import SEGMENTATION_META
from aneurysm_assets.writers import write_segmentation_meta

_WORTH_WORKERS = 50
"""Series with segmentations that this process reads before others have started."""


@series_asset(SEGMENTATION_META, reads=RAW_SEGMENTATIONS)
def segmentation_meta(
    context: dg.AssetExecutionContext,
    config: SeriesConfig,
    settings: SettingsResource,
    reporter: dg.ResourceParam[Reporter],
) -> Iterator[dg.MaterializeResult[None]]:
    """Read each series of the run, in worker processes where many have segmentations."""
    now = settings_of_run(context, settings)
    workers = now.workers if _segmented(now.segmentations_root) > _WORTH_WORKERS else 0
    batch = Batch(SEGMENTATION_META, partial(write_segmentation_meta, now), workers)
    yield from materialize_series(context, config, reporter, now, batch)


def _segmented(root: Path) -> int:
    try:
        return sum(1 for _ in root.iterdir())
    except OSError:
        return 0  # where it is there and cannot be read, each series says so itself
