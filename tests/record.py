"""What Dagster's record of a data root says, read with nothing of the package's own."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.instance import InstanceRef

SERIES_TABLES = ("dicom_tags", "labels", "localizers", "segmentation_meta")
ALL_TABLES = (*SERIES_TABLES, "unified_metadata")


@contextmanager
def instance_of(data: Path) -> Iterator[dg.DagsterInstance]:
    """Open the instance at `<data>/dagster` as Dagster would with DAGSTER_HOME there."""
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(data / "dagster"))) as instance:
        yield instance


def materializations(instance: dg.DagsterInstance, table: str) -> list[dg.AssetMaterialization]:
    """Return every ASSET_MATERIALIZATION event of an asset, the oldest first."""
    found, cursor, more = [], None, True
    while more:
        page = instance.fetch_materializations(
            dg.AssetKey(table), limit=1_000, cursor=cursor, ascending=True
        )
        found += [record.asset_materialization for record in page.records]
        cursor, more = page.cursor, page.has_more
    return found


def events(instance: dg.DagsterInstance, table: str) -> Counter[str | None]:
    """Count the materialization events of an asset by partition, over all runs."""
    return Counter(event.partition for event in materializations(instance, table))


def metadata_of(instance: dg.DagsterInstance, table: str, partition: str | None = None) -> dict:
    """Return the metadata of the latest materialization."""
    latest = [e for e in materializations(instance, table) if e.partition == partition][-1]
    return {name: value.value for name, value in latest.metadata.items()}


def statuses(instance: dg.DagsterInstance, table: str) -> dict[str, str]:
    """Return `MATERIALIZED`, `FAILED`, `IN_PROGRESS` or `MISSING` of each registered series."""
    partitions = dg.DynamicPartitionsDefinition(name="series")
    keys = instance.get_dynamic_partitions("series")
    found = instance.get_status_by_partition(dg.AssetKey(table), keys, partitions) or {}
    return {key: found[key].value if found.get(key) else "MISSING" for key in keys}
