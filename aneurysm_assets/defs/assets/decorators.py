"""What the four partitioned assets have in common in Dagster's eyes."""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import dagster as dg
import polars as pl

from aneurysm_assets.errors import InputError
from aneurysm_assets.runs.active_runs import assets_of_run
from aneurysm_assets.runs.partitions import digest, series_partitions
from aneurysm_assets.schema.tables import (
    DATASET_REPORT,
    SERIES_PREVIEW,
    UNIFIED_METADATA,
    UNIFIED_ORIGINS,
    Artifact,
    Table,
)
from aneurysm_assets.settings import Settings, recorded_roots
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.storage.table_files import StoredTable

T = TypeVar("T")

_WITH_EXTRAS = {dg.AssetKey(made.name) for made in (SERIES_PREVIEW, DATASET_REPORT)}

# `dg.Nothing` is one; its type says otherwise.
_NOTHING = cast("dg.DagsterType", dg.Nothing)


def column_schema(table: Table) -> dg.TableSchema:
    """Return a table's columns as Dagster shows them, with unit and source.

    Those of the unified table say from which columns of other tables they are: Dagster's UI draws
    no lineage of columns in its open edition.
    """
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=column.type_name,
                description=f"{column.description}"
                + (f" Unit: {column.unit}." if column.unit else "")
                + f" Source: {column.source}."
                + (_origin(column.name) if table is UNIFIED_METADATA else ""),
            )
            for column in table.columns
        ]
    )


def _origin(column: str) -> str:
    named = ", ".join(f"`{table}.{name}`" for table, name in UNIFIED_ORIGINS[column])
    return f" From {named}." if named else ""


def file_metadata(
    table: Table,
    settings: Settings,
    series: Sequence[str],
    csv_digests: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return what the file of a table of the whole data set says of itself.

    Parameters
    ----------
    table : Table
        The table.
    settings : Settings
        Of the run that makes it; those that its values depend on are named.
    series : sequence of str
        Which series it is made of.
    csv_digests : mapping of str to str, optional
        The digests of the CSVs, by what they are called in the materialization.
    """
    return {
        "aneurysm_assets.table": table.name,
        "aneurysm_assets.description": table.description,
        "aneurysm_assets.settings": json.dumps({"pixel_coordinates": settings.pixel_coordinates}),
        "aneurysm_assets.inputs": json.dumps(
            {"series": len(series), "series_digest": digest(series), **(csv_digests or {})}
        ),
    }


def unified_lineage() -> dg.TableColumnLineage:
    """Return which columns upstream each column of `unified_metadata` is made from."""
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(dg.AssetKey(table), column) for table, column in origins]
            for name, origins in UNIFIED_ORIGINS.items()
        }
    )


def file_asset(
    product: Artifact,
    *,
    kinds: set[str],
    group: str,
    deps: Sequence[dg.AssetKey],
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    output_required: bool = True,
    metadata: Mapping[str, Any] | None = None,
    check_specs: Sequence[dg.AssetCheckSpec] | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return `dg.asset` for a product: its name, its description, and one run for a range.

    The backfill policy is on every asset, also the unpartitioned one: a range over a selection
    is refused where one of it has another. `in_runs_of` gives the partitioned ones another.
    """
    with warnings.catch_warnings():
        # The policy's parameter has been "in beta" for years; users need not read it at each start.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.asset(
            name=product.name,
            description=product.description,
            group_name=group,
            kinds=kinds,
            deps=deps,
            partitions_def=partitions_def,
            backfill_policy=dg.BackfillPolicy.single_run(),
            dagster_type=_NOTHING,
            output_required=output_required,
            code_version="1",
            metadata=metadata,
            check_specs=check_specs,
        )


def table_asset(
    table: Table,
    *,
    group: str,
    deps: Sequence[dg.AssetKey],
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    output_required: bool = True,
    check_specs: Sequence[dg.AssetCheckSpec] | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return `dg.asset` for a table: as `file_asset`, with its columns."""
    return file_asset(
        table,
        kinds={"parquet", "polars"},
        group=group,
        deps=deps,
        partitions_def=partitions_def,
        output_required=output_required,
        metadata={"dagster/column_schema": column_schema(table)},
        check_specs=check_specs,
    )


def series_asset(
    table: Table, *, reads: dg.AssetKey
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return `dg.asset` for a table with one file per series.

    The output is not required, as a batch records its series itself.

    Parameters
    ----------
    table : Table
        What the asset makes.
    reads : dg.AssetKey
        The raw input upstream.
    """
    return table_asset(
        table,
        group="series",
        deps=[reads],
        partitions_def=series_partitions,
        output_required=False,
    )


def in_runs_of(
    series: int | None, assets: Sequence[dg.AssetsDefinition]
) -> list[dg.AssetsDefinition]:
    """Let a backfill of the partitioned assets be runs of so many series; with None, leave it.

    The unpartitioned ones keep their policy: they are one run in any case.
    """
    if series is None:
        return list(assets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # as above
        policy = dg.BackfillPolicy.multi_run(series)
        return [
            asset.with_attributes(backfill_policy=policy) if asset.partitions_def else asset
            for asset in assets
        ]


def is_to_be_left_out(context: dg.AssetExecutionContext, require: Callable[[], None]) -> bool:
    """Tell whether an asset is left out of a run of others, as what it needs is not installed.

    Where it was asked for alone the run fails: nothing would be made, and nobody told.

    Parameters
    ----------
    context : dg.AssetExecutionContext
        The context of its step.
    require : callable
        Raises `InputError` where something is not installed.

    Raises
    ------
    dg.Failure
        No other asset is in the run but such as need extras too.
    """
    try:
        require()
    except InputError as error:
        if assets_of_run(context.instance, context.run) <= _WITH_EXTRAS:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.log.warning(f"left out: {error}")
        return True
    return False


def metadata_of(stored: StoredTable, counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a materialization of a table of the data set says of it: where, and how many."""
    return {
        "dagster/row_count": stored.rows,
        "dagster/uri": stored.path.as_uri(),
        "rows": stored.rows,
        **counts,
        "format": stored.format,
        "path": dg.MetadataValue.path(str(stored.path)),
    }


EXAMPLES = 4
"""Rows of a table that its page shows."""


def example_rows(rows: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Return a few rows as a table; text of the input stays within its cell."""

    def line(cells: Iterable[object]) -> str:
        shown = ("" if cell is None else str(cell) for cell in cells)
        plain = ("".join(c for c in text if c.isprintable() and c not in "|`<") for text in shown)
        return f"| {' | '.join(plain)} |"

    lines = [line(rows.columns), "|" + "---|" * rows.width, *map(line, rows.rows())]
    return dg.MetadataValue.md("\n".join(lines))


def read_csv_once(
    context: dg.AssetExecutionContext,
    settings: Settings,
    path: Location,
    read: Callable[[Location], T],
    *,
    empty: T,
) -> T:
    """Read a CSV for all series of a run; one that never was is warned of and taken as empty.

    Raises
    ------
    dg.Failure
        The file is there and cannot be used, or is gone since the run began.
    """
    try:
        return read(path)
    except FileNotFoundError:
        if path.name in recorded_roots(settings.data).get("csvs", ()):
            raise dg.Failure(
                f"{path} was there when the run began, and is gone: no series was recorded without "
                "its rows; put it back and run it again",
                allow_retries=False,
            ) from None
        context.log.warning(f"there is no {path}: its columns come out null for every series")
        return empty
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
