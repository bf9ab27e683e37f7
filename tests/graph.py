"""The asset graph over one data root, run in the test's own process."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from unittest import mock

import dagster as dg

from aneurysm_assets.definitions import build_defs
from aneurysm_assets.parallel import series_map
from aneurysm_assets.raw.inventory import take_inventory
from aneurysm_assets.runs.partitions import register
from aneurysm_assets.runs.resources import Reporter, SettingsResource
from tests import record

_RANGE = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


class Graph:
    """The assets, an instance that ends with the test, and what is recorded there.

    Series are read in this process, whatever their number, unless worker `processes` are asked for.
    """

    def __init__(
        self,
        data: Path,
        *,
        reporter: Reporter | None = None,
        processes: int | None = None,
        instance: dg.DagsterInstance | None = None,
    ) -> None:
        self.data = data
        self.instance = instance or dg.DagsterInstance.ephemeral()
        resource = SettingsResource(data=str(data), workers=str(processes or 1))
        self._worth_a_pool = 1 if processes else sys.maxsize
        self.settings = resource.get()
        register(self.instance, take_inventory(self.settings).series)
        self.series = self.instance.get_dynamic_partitions("series")
        self._job = build_defs(
            {"settings": resource} | ({"reporter": reporter} if reporter else {})
        ).resolve_implicit_global_asset_job_def()

    def run(
        self,
        *tables: str,
        partition: str | None = None,
        between: tuple[str, str] | None = None,
        series: Sequence[str] | None = None,
        job: dg.JobDefinition | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets, all of them where none is named, in one run."""
        config = {"series": list(series or ())}
        names = tables or record.ALL_TABLES
        with mock.patch.object(series_map, "WORTH_A_POOL", self._worth_a_pool):
            return (job or self._job).execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(name) for name in names] if job is None else None,
                partition_key=partition,
                tags=dict(zip(_RANGE, between, strict=True)) if between else None,
                run_config={
                    "ops": {name: {"config": config} for name in names if series},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                raise_on_error=False,
            )

    def run_all(self, *tables: str) -> dg.ExecuteInProcessResult:
        """Materialize partitioned assets for every series, as a range."""
        return self.run(*tables, between=(self.series[0], self.series[-1]))

    def events(self, table: str) -> dict[str, int]:
        """Count the materialization events of each series in a table."""
        return dict(record.events(self.instance, table))

    def metadata(self, table: str, partition: str | None = None) -> dict:
        """Return what the latest materialization says."""
        return record.metadata_of(self.instance, table, partition)

    def with_status(self, table: str, status: str) -> list[str]:
        """Return the series that Dagster shows so."""
        found = record.statuses(self.instance, table)
        return [series for series in self.series if found[series] == status]


def each_once(series: Iterable[str]) -> dict[str, int]:
    """Return the count of events that every series is to have."""
    return dict.fromkeys(series, 1)


def failure(result: dg.ExecuteInProcessResult, table: str) -> str:
    """Return what the failure of a table's step tells a user of Dagster."""
    (event,) = (e for e in result.all_events if e.is_step_failure and e.step_key == table)
    return event.step_failure_data.user_failure_data.description


def warnings_of(graph: Graph, result: dg.ExecuteInProcessResult) -> list[str]:
    """Return the warnings in a run's log."""
    entries = graph.instance.all_logs(result.run_id)
    return [entry.user_message for entry in entries if entry.level == 30]
