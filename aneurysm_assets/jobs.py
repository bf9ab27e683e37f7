"""Jobs for selections of assets that people ask for by name; what they do is the assets' own."""

import dagster as dg

from aneurysm_assets.tables import DATASET_REPORT, SERIES_PREVIEW

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
