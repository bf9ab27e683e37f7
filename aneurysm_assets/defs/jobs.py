"""Jobs for selections of assets that people ask for by name; what they do is the assets' own."""

import dagster as dg

from aneurysm_assets.schema.tables import (
    DATASET_REPORT,
    SERIES_PREVIEW,
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
)

materialize_series = dg.define_asset_job(
    "materialize_series",
    selection=[table.name for table in SERIES_TABLES],
    description="Read each chosen series: its headers, labels, points and segmentations. One run "
    "for a range of partitions.",
)

combine = dg.define_asset_job(
    "combine",
    selection=[UNIFIED_METADATA.name, SERIES_QUALITY.name],
    description="Join the series that are done into the one table, and look for what is wrong "
    "with them.",
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
