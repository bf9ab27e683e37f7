"""`segmentation_meta`: the headers of each series' NIfTI pair."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from aneurysm_assets.defs.assets.decorators import series_asset
from aneurysm_assets.defs.assets.raw import RAW_SEGMENTATIONS
from aneurysm_assets.nifti.table import write_segmentation_meta
from aneurysm_assets.raw.segmentation_files import list_pairs, series_among
from aneurysm_assets.runs.resources import Reporter, SettingsResource
from aneurysm_assets.runs.run_settings import settings_of_run
from aneurysm_assets.runs.series_run import Batch, SeriesConfig, materialize_series
from aneurysm_assets.schema.tables import SEGMENTATION_META
from aneurysm_assets.storage.object_path import Location, ObjectPath

_WORTH_WORKERS = 50
"""Series with segmentations that this process reads before others have started."""

_MOST_HANDED_ON = 10_000
"""Names that are sent to a worker with each series."""


@series_asset(SEGMENTATION_META, reads=RAW_SEGMENTATIONS)
def segmentation_meta(
    context: dg.AssetExecutionContext,
    config: SeriesConfig,
    settings: SettingsResource,
    reporter: dg.ResourceParam[Reporter],
) -> Iterator[dg.MaterializeResult[None] | dg.Output[None]]:
    """Read each series of the run, in worker processes where many have segmentations."""
    run_settings = settings_of_run(context, settings)
    root = run_settings.segmentations_root
    segmented = _segmented(root)
    workers = run_settings.workers if len(segmented) > _WORTH_WORKERS else 0
    # On a disk looking for files costs nothing; in a bucket it is one request per series.
    known = isinstance(root, ObjectPath) and len(segmented) <= _MOST_HANDED_ON
    work = partial(write_segmentation_meta, run_settings, segmented=segmented if known else None)
    batch = Batch(SEGMENTATION_META, work, workers)
    yield from materialize_series(context, config, reporter, run_settings, batch)


def _segmented(root: Location) -> frozenset[str]:
    """Return the series that have a directory or a file; in a bucket those that have a file."""
    try:
        if isinstance(root, ObjectPath):
            return frozenset(list_pairs(root))
        return frozenset(series_among(path.name for path in root.iterdir()))
    except OSError as error:
        if isinstance(root, ObjectPath):
            raise dg.Failure(f"{root} cannot be read: {error.strerror or error}") from error
        return frozenset()  # where it is there and cannot be read, each series says so itself
