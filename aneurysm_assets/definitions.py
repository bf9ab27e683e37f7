"""The code location: composition of assets, resources and jobs, and nothing else."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from aneurysm_assets.defs.assets.dataset_report import dataset_report
from aneurysm_assets.defs.assets.decorators import in_runs_of
from aneurysm_assets.defs.assets.dicom_tags import dicom_tags
from aneurysm_assets.defs.assets.labels import labels
from aneurysm_assets.defs.assets.localizers import localizers
from aneurysm_assets.defs.assets.raw import raw_inputs
from aneurysm_assets.defs.assets.segmentation_meta import segmentation_meta
from aneurysm_assets.defs.assets.series_preview import series_preview
from aneurysm_assets.defs.assets.series_quality import series_quality
from aneurysm_assets.defs.assets.unified_metadata import unified_metadata
from aneurysm_assets.defs.assets.volumes import volumes
from aneurysm_assets.defs.automation import series_automation, table_automation
from aneurysm_assets.defs.checks import series_quality_checks, shares_geometry
from aneurysm_assets.defs.jobs import (
    combine,
    draw_series_previews,
    make_tables,
    materialize_series,
    register_series,
    write_dataset_report,
)
from aneurysm_assets.defs.presentation import presented
from aneurysm_assets.runs.resources import NullReporter, SettingsResource
from aneurysm_assets.settings import series_per_run


def build_defs(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Compose the code location.

    Parameters
    ----------
    resource_overrides : mapping of str to object, optional
        In place of the default resources: `settings` (`resources.SettingsResource`) and
        `reporter` (`resources.Reporter`). What tests and the command line set.

    Returns
    -------
    dg.Definitions
        The assets run in one process: their steps do their own parallel work.

    Raises
    ------
    InputError
        ANEURYSM_SERIES_PER_RUN has a value that cannot be used.
    """
    defaults: dict[str, Any] = {"settings": SettingsResource(), "reporter": NullReporter()}
    resources = {**defaults, **(resource_overrides or {})}
    return dg.Definitions(
        assets=presented(
            [
                *raw_inputs,
                *in_runs_of(
                    series_per_run(),
                    [
                        dicom_tags,
                        labels,
                        localizers,
                        segmentation_meta,
                        unified_metadata,
                        volumes,
                        series_quality,
                        series_preview,
                        dataset_report,
                    ],
                ),
            ]
        ),
        asset_checks=[series_quality_checks, shares_geometry],
        jobs=[
            register_series,
            materialize_series,
            combine,
            make_tables,
            draw_series_previews,
            write_dataset_report,
        ],
        sensors=[series_automation, table_automation],
        resources=resources,
        executor=dg.in_process_executor,
    )


defs = build_defs()
