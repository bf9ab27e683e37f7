"""`unified_metadata`: the one table, from whatever series are done."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from aneurysm_assets.defs.assets.decorators import (
    EXAMPLES,
    example_rows,
    file_metadata,
    metadata_of,
    table_asset,
    unified_lineage,
)
from aneurysm_assets.defs.assets.unified_checks import (
    LEFT_OUT,
    UNREADABLE,
    WITHOUT_IMAGE,
    check_results,
    check_specs,
)
from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import lines_in_brief, names_in_brief, one_line
from aneurysm_assets.raw.fingerprints import csv_digests
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.runs.run_settings import end_with_reason, settings_of_run
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.schema.tables import (
    LOCALIZERS_WITHOUT_IMAGE,
    SERIES_TABLES,
    UNIFIED_METADATA,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import remove_partials
from aneurysm_assets.storage.snapshot import InputSnapshot, retry_if_replaced
from aneurysm_assets.storage.table_files import StoredTable, write_bytes, write_table
from aneurysm_assets.storage.table_scans import scan_tables
from aneurysm_assets.unified.combine import (
    Combined,
    combine,
    describe,
    points_without_image,
    remove_damaged,
)
from aneurysm_assets.unified.croissant import CROISSANT, croissant_of

_SHOWN = (
    *(SERIES_KEY, "InstanceNumber", "Modality_train", "Rows", "Columns", "PixelSpacing"),
    *("slice_spacing_mm", "orientation_plane", "PatientAge", "x", "y", "location", "read_error"),
)


@table_asset(
    UNIFIED_METADATA,
    group="dataset",
    deps=[dg.AssetKey(table.name) for table in SERIES_TABLES],
    check_specs=check_specs(),
)
def unified_metadata(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Join the four tables of every series that is done in all four."""
    run_settings = settings_of_run(context, settings)
    with end_with_reason(context, "the unified table"):
        result = retry_if_replaced(lambda: _combined(context, run_settings))
    yield result


def _combined(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult[None]:
    upstream, *_ = partitions.latest_events(context.instance)  # before anything is read
    complete, remaining = partitions.complete(context.instance, settings)
    if not complete:
        raise dg.Failure(
            "no series is done in all of dicom_tags, labels, localizers and segmentation_meta, so "
            "there is nothing to combine: materialize those four first",
            allow_retries=False,
        )
    if remaining:
        context.log.warning(f"{len(remaining)} series are not done in all four tables and left out")
    # A killed process leaves what it was writing, also where nothing remains to be done.
    for directory in (
        settings.interim,
        *(settings.interim / table.name for table in SERIES_TABLES),
    ):
        remove_partials(directory)
    try:
        return _joined(context, settings, complete, remaining, upstream)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        removed = remove_damaged(settings, complete)
        if not removed:
            raise dg.Failure(
                f"the unified table: {one_line(error)}", allow_retries=False
            ) from error
        raise InputError(
            "files of tables were damaged and are removed, so that their series are taken again by "
            f"`aneurysm-assets run` or a backfill: {names_in_brief(removed)}"
        ) from error


def _joined(
    context: dg.AssetExecutionContext,
    settings: Settings,
    complete: list[str],
    remaining: list[str],
    upstream: int,
) -> dg.MaterializeResult[None]:
    vanished = partitions.vanished_now(context.instance, settings)
    sources = InputSnapshot.now(
        {settings.interim / table.name: complete for table in SERIES_TABLES}
    )
    unified = combine(settings, complete, vanished)
    digests = csv_digests(settings)
    of_file = file_metadata(UNIFIED_METADATA, settings, complete, digests)
    stored = write_table(
        unified.frame,
        UNIFIED_METADATA,
        settings.unified_table,
        metadata=of_file,
        check=sources.require_same,
    )
    for warning in (*unified.warnings, *([stored.warning] if stored.warning else [])):
        context.log.warning(warning)
    combined_table = scan_tables(UNIFIED_METADATA, [stored.path])
    lost = points_without_image(unified.points, combined_table)
    of_file = file_metadata(LOCALIZERS_WITHOUT_IMAGE, settings, complete, digests)
    write_table(lost, LOCALIZERS_WITHOUT_IMAGE, settings.unplaced_table, metadata=of_file)
    write_bytes(settings.interim / CROISSANT, croissant_of(stored))
    combined = describe(lost, combined_table)
    metadata = _metadata(stored, combined, complete, remaining)
    examples = combined_table.select(_SHOWN).filter(pl.col("read_error").is_null())
    metadata["examples"] = example_rows(examples.drop("read_error").head(EXAMPLES).collect())
    internals = {
        **digests,
        partitions.COMBINED_SERIES: partitions.digest(complete, vanished),
        partitions.COMBINED_UPSTREAM: upstream,
        partitions.PIXEL_COORDINATES: settings.pixel_coordinates,
    }
    metadata[partitions.INTERNALS] = dg.MetadataValue.json(internals)
    checks = check_results(
        {
            LEFT_OUT: len(remaining),
            UNREADABLE: combined.unreadable_files,
            WITHOUT_IMAGE: len(combined.localizers_without_image),
        }
    )
    return dg.MaterializeResult(metadata=metadata, check_results=checks)


def _metadata(
    stored: StoredTable,
    combined: Combined,
    complete: list[str],
    remaining: list[str],
) -> dict[str, Any]:
    lost = combined.localizers_without_image
    counts = {
        "dagster/column_lineage": unified_lineage(),
        "series": len(complete),
        "series_left_out": len(remaining),
        "images": combined.images,
        "unreadable_files": combined.unreadable_files,
        "images_with_localizers": combined.images_with_localizers,
        "localizers_without_image": len(lost),
        "series_with_segmentations": combined.series_with_segmentations,
    }
    metadata = metadata_of(stored, counts)
    if remaining:
        metadata["left_out"] = dg.MetadataValue.text("\n".join(lines_in_brief(remaining)))
    if lost:
        metadata["without_image"] = dg.MetadataValue.text("\n".join(lines_in_brief(lost)))
    if stored.warning:
        metadata["notes"] = stored.warning
    return metadata
