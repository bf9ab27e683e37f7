"""`dataset_report`: the data set on one page."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import dagster as dg

from aneurysm_assets.defs.assets.decorators import file_asset, is_to_be_left_out
from aneurysm_assets.errors import InputError
from aneurysm_assets.optional_dependencies import require_matplotlib
from aneurysm_assets.raw.inventory import Inventory, take_inventory
from aneurysm_assets.report.crops import take_crops
from aneurysm_assets.report.grids import grids
from aneurysm_assets.report.numbers import Numbers, take_numbers
from aneurysm_assets.report.page import Age, make_page
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.runs.run_settings import end_with_reason, settings_of_run
from aneurysm_assets.schema.tables import (
    DATASET_REPORT,
    SERIES_PREVIEW,
    SERIES_QUALITY,
    UNIFIED_METADATA,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.storage.snapshot import InputSnapshot, retry_if_replaced
from aneurysm_assets.storage.table_files import write_bytes
from aneurysm_assets.storage.table_names import file_names, find_table
from aneurysm_assets.storage.table_scans import read_table, scan_tables

_MOST_LINES = 30
"""Rows of a table in the metadata, which Dagster keeps in its database; the page has all."""


@file_asset(
    DATASET_REPORT,
    kinds={"html"},
    group="dataset",
    deps=[dg.AssetKey(UNIFIED_METADATA.name), dg.AssetKey(SERIES_QUALITY.name)],
    output_required=False,
)
def dataset_report(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Count, draw and write the page."""
    if is_to_be_left_out(context, require_matplotlib):
        return
    run_settings = settings_of_run(context, settings, reads_input=False)
    path = run_settings.interim / f"{DATASET_REPORT.name}.html"
    with end_with_reason(context, DATASET_REPORT.name):
        numbers = retry_if_replaced(lambda: _numbers(context, run_settings))
        age = _age(context, run_settings)
        pictures = _pictures(run_settings)
        page = make_page(
            numbers,
            version=version("aneurysm-assets"),
            age=age,
            pictures=pictures.keys(),
            contact_sheet=take_crops(
                numbers.series_of, pictures.keys(), lambda uid: pictures[uid].read_bytes()
            ),
        ).encode()
        write_bytes(path, page)
    yield dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(path)),
            "bytes": len(page),
            **numbers.counts,
            "up_to_date": age.is_up_to_date,
            **({"tables_of": dg.MetadataValue.timestamp(age.combined)} if age.combined else {}),
            **{
                name: dg.MetadataValue.md(_markdown(grid.header, grid.rows))
                for name, grid in grids(numbers).items()
            },
            "checks": dg.MetadataValue.md(_checks(numbers)),
        }
    )


def _numbers(context: dg.AssetExecutionContext, settings: Settings) -> Numbers:
    """Read the two tables and the listing.

    Raises
    ------
    InputError
        One of the tables is not there, or was replaced while it was read.
    """
    stems = settings.unified_table, settings.quality_table
    sources = InputSnapshot.now({settings.interim: [stem.name for stem in stems]})
    unified, quality = find_table(settings.unified_table), find_table(settings.quality_table)
    if unified is None or quality is None:
        missing = UNIFIED_METADATA if unified is None else SERIES_QUALITY
        raise InputError(f"there is no {missing.name} yet: materialize it")
    inventory: Inventory | None = None
    try:
        inventory = take_inventory(settings)
    except InputError as error:
        context.log.warning(f"what is on disk is not in the report: {error}")
    numbers = take_numbers(
        scan_tables(UNIFIED_METADATA, [unified]), read_table(SERIES_QUALITY, quality), inventory
    )
    sources.require_same()
    return numbers


def _pictures(settings: Settings) -> Mapping[str, Location]:
    """Return the pictures of series that have one."""
    directory = settings.interim / SERIES_PREVIEW.name
    names = (name for name in file_names(directory) if name.endswith(".png"))
    return {name.removesuffix(".png"): directory / name for name in names}


def _age(context: dg.AssetExecutionContext, settings: Settings) -> Age:
    """Return how old the tables are; where they are not up to date, warn."""
    event = context.instance.get_latest_materialization_event(dg.AssetKey(UNIFIED_METADATA.name))
    combined = datetime.fromtimestamp(event.timestamp, UTC) if event is not None else None
    complete, _ = partitions.complete(context.instance, settings)
    vanished = partitions.vanished_now(context.instance, settings)
    is_up_to_date = partitions.is_combined(context.instance, settings, complete, vanished)
    if not is_up_to_date:
        context.log.warning(f"{UNIFIED_METADATA.name} is older than what it is combined from")
    return Age(datetime.now(UTC), combined, is_up_to_date)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as Markdown, its first rows where there are many."""
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in (header, *rows[:_MOST_LINES])]
    hidden = len(rows) - _MOST_LINES
    more = ["", f"and {hidden} more rows, on the page"] if hidden > 0 else []
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:], *more])


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f"{value:.4g}" if isinstance(value, float) else f"{value}"
    return _plain(str(value or ""))


def _checks(numbers: Numbers) -> str:
    if not numbers.checks:
        return f"None of {numbers.checked} kinds of problem was found."
    lines = [f"| `{c.name}` | {c.severity} | {c.found} |" for c in numbers.checks]
    return "\n".join(["| check | severity | series |", "|---|---|---:|", *lines])


def _plain(text: str) -> str:
    """Return text of the data without what Markdown would make of it."""
    return "".join(c if c.isalnum() or c in " ()-.%," else "_" for c in text)
