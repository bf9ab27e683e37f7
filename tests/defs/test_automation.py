"""The switch: what a tick of the sensor registers and requests, on a real instance."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from aneurysm_assets.definitions import build_defs
from aneurysm_assets.defs.automation import REASON_TAG, series_automation, table_automation
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance import run_locks
from aneurysm_assets.instance.data_root import open_instance
from aneurysm_assets.raw import fingerprints
from aneurysm_assets.runs import active_runs, tick_plan
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.tables import SERIES_TABLES
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.fingerprint import UNREADABLE
from tests.graph import Graph, each_once, failure
from tests.record import ALL_TABLES as RECORDED

CTA, DAMAGED = uid("sample", "CTA"), uid("sample", "damaged")
UNLABELLED = uid("sample", "unlabelled")
SERIES = 5
FOUR = {table.name for table in SERIES_TABLES}
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


class Switched(Graph):
    """The graph with its sensor: ticks by hand, and the runs that a tick requests."""

    def __init__(
        self,
        data: Path,
        sensor: dg.SensorDefinition = series_automation,
        instance: dg.DagsterInstance | None = None,
    ) -> None:
        super().__init__(data, instance=instance)
        resources = {"settings": SettingsResource(data=str(data), workers="1")}
        self.definitions, self._resources = build_defs(resources), resources
        self.sensor = self.definitions.resolve_sensor_def(sensor.name)
        self._cursor: str | None = None

    def tick(self) -> SensorExecutionData:
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self._cursor,
            definitions=self.definitions,
            resources=self._resources,
        ) as context:
            ticked = self.sensor.evaluate_tick(context)
        self._cursor = ticked.cursor
        for event in ticked.asset_events:
            self.instance.report_runless_asset_event(event)
        return ticked

    def failed_tick(self) -> str:
        """Tick, and return why that fails."""
        with pytest.raises(InputError) as failed:
            self.tick()
        return str(failed.value)

    def requested(self) -> list[tuple[set[str], list[str]]]:
        """Tick, do what is requested, and return the tables and series of each run."""
        runs = []
        for request in self.tick().run_requests or []:
            tables = {key.to_user_string() for key in request.asset_selection}
            runs.append((tables, self.series_of(request)))
            self._job.execute_in_process(
                instance=self.instance,
                asset_selection=list(request.asset_selection),
                tags=dict(request.tags),
                run_config=dict(request.run_config or {})
                | {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        return runs

    def series_of(self, request: dg.RunRequest) -> list[str]:
        keys = list(self.instance.get_dynamic_partitions("series"))
        if RANGE[0] in request.tags:
            start, end = (keys.index(request.tags[tag]) for tag in RANGE)
            return keys[start : end + 1]
        configs = [op["config"]["series"] for op in request.run_config.get("ops", {}).values()]
        assert all(config == configs[0] for config in configs)
        return list(configs[0]) if configs else []

    def take_all(self) -> None:
        """Have every series done, and nothing combined."""
        assert self.run_all(*FOUR).success


@pytest.fixture
def data(data: Path) -> Path:
    """Return a data root of the test's own with five series: what a tick decides needs no more."""
    folders = sorted((data / "raw" / "series").iterdir())
    others = [each for each in folders if each.name not in {CTA, DAMAGED, UNLABELLED}]
    for folder in others[3:]:
        shutil.rmtree(folder)
    return data


@pytest.fixture(autouse=True)
def _listing_takes_its_time(monkeypatch) -> None:
    """Have each tick list all directories, however slow the machine."""
    monkeypatch.setattr(tick_plan.plan_tick, "__kwdefaults__", {"seconds": float("inf")})


@pytest.fixture
def graph(data: Path) -> Switched:
    return Switched(data)


@pytest.fixture
def light(data: Path, monkeypatch) -> Iterator[Switched]:
    """The graph with the sensor that combines; it asks the instance whether the other is on."""
    monkeypatch.setenv("ANEURYSM_DATA", str(data))
    with open_instance(Settings.from_environment()) as instance:
        yield Switched(data, table_automation, instance)


def raw_series(graph: Graph, series: str) -> Path:
    return graph.settings.series_root / series


def rewrite_a_file(graph: Graph, series: str) -> None:
    path = next(raw_series(graph, series).glob("*.dcm"))
    path.write_bytes(path.read_bytes())


def combining(runs: list[tuple[set[str], list[str]]]) -> bool:
    return runs == [({"unified_metadata", "volumes", "series_quality"}, [])]


def test_the_switch_that_reads_is_off_and_the_sensor_that_combines_is_on() -> None:
    sensors = build_defs().get_repository_def().sensor_defs
    assert {sensor.name: sensor.default_status for sensor in sensors} == {
        "series_automation": dg.DefaultSensorStatus.STOPPED,
        "table_automation": dg.DefaultSensorStatus.RUNNING,
    }


def test_the_light_sensor_registers_what_is_on_disk_and_reads_nothing(light) -> None:
    for key in light.series:
        light.instance.delete_dynamic_partition("series", key)
    ticked = light.tick()
    assert not ticked.run_requests
    assert light.instance.get_dynamic_partitions("series") == light.series


def test_the_light_sensor_combines_the_rest_where_a_series_failed(light) -> None:
    shutil.rmtree(raw_series(light, light.series[2]))
    raw_series(light, light.series[2]).mkdir()
    failed = light.run_all(*FOUR)
    assert "`table_automation`" in failure(failed, "dicom_tags")
    assert combining(light.requested())
    assert light.metadata("unified_metadata")["series"] == len(light.series) - 1
    assert light.requested() == []


def test_the_light_sensor_leaves_all_to_the_other_while_that_is_on(light) -> None:
    light.take_all()
    repository = light.definitions.get_repository_def()
    assert repository.name
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(
            InProcessCodeLocationOrigin(
                LoadableTargetOrigin(module_name="aneurysm_assets.definitions")
            ),
            repository.name,
        ),
        series_automation.name,
    )
    switched = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
    light.instance.add_instigator_state(switched)
    assert light.tick().skip_message == "series_automation is on, and combines too"
    light.instance.update_instigator_state(switched.with_status(InstigatorStatus.STOPPED))
    assert combining(light.requested())


@pytest.mark.parametrize(
    ("sensor", "kind"),
    [
        ("graph", "empty"),
        ("light", "absent"),
        pytest.param("graph", "absent", marks=pytest.mark.long),
        pytest.param("light", "empty", marks=pytest.mark.long),
    ],
)
def test_a_root_that_is_not_mounted_changes_nothing_by_a_sensor(
    request, data, sensor, kind
) -> None:
    graph = request.getfixturevalue(sensor)
    graph.take_all()
    assert combining(graph.requested())
    graph.settings.series_root.rename(data / "away")
    if kind == "empty":
        graph.settings.series_root.mkdir()
    assert "nothing was changed" in graph.failed_tick()
    assert graph.instance.get_dynamic_partitions("series") == graph.series


def test_series_missing_before_it_was_switched_on_are_one_run_over_a_range(graph) -> None:
    ((tables, series),) = graph.requested()
    assert tables == FOUR
    assert series == list(graph.series)
    for table in FOUR:
        assert graph.with_status(table, "MATERIALIZED") == list(graph.series)
    assert combining(graph.requested())
    assert graph.metadata("unified_metadata")["series"] == SERIES
    assert graph.requested() == []
    assert {table: graph.events(table) for table in RECORDED} == dict.fromkeys(
        FOUR, each_once(graph.series)
    ) | {"unified_metadata": {None: 1}}


def test_a_requested_run_says_for_which_reasons_it_takes_its_series(graph) -> None:
    assert graph.run(*FOUR, partition=CTA).success
    rewrite_a_file(graph, CTA)
    by_tables = {
        len(request.asset_selection): request.tags[REASON_TAG]
        for request in graph.tick().run_requests
    }
    assert by_tables[3] == f"{SERIES - 1} series: on disk, and not materialized"
    assert set(by_tables[1].split("; ")) == {
        "1 series: the input is no longer what was read",
        f"{SERIES - 1} series: on disk, and not materialized",
    }


def test_new_series_are_registered_taken_and_combined(data) -> None:
    away = data / "away"
    (data / "raw" / "series" / CTA).rename(away)
    graph = Switched(data)
    graph.take_all()
    assert combining(graph.requested())
    assert CTA not in graph.instance.get_dynamic_partitions("series")
    away.rename(data / "raw" / "series" / CTA)
    assert graph.requested() == [(FOUR, [CTA])]
    assert graph.instance.get_dynamic_partitions("series")[-1] == CTA
    assert combining(graph.requested())
    assert graph.requested() == []
    assert graph.metadata("unified_metadata")["series"] == SERIES


def test_a_file_that_was_overwritten_has_exactly_that_partition_taken_again(graph) -> None:
    graph.take_all()
    rewrite_a_file(graph, DAMAGED)
    assert graph.requested() == [({"dicom_tags"}, [DAMAGED])]
    assert combining(graph.requested())
    assert graph.requested() == []


def test_scattered_changes_are_one_run(graph) -> None:
    graph.take_all()
    scattered = [graph.series[place] for place in (0, 2, 4)]
    for series in scattered:
        rewrite_a_file(graph, series)
    assert graph.requested() == [({"dicom_tags"}, scattered)]
    assert combining(graph.requested())


def test_a_changed_row_of_train_csv_has_exactly_that_series_labels_taken_again(graph) -> None:
    graph.take_all()
    csv = graph.settings.train_csv
    csv.write_text(re.sub(rf"^({re.escape(CTA)}),\d+,", r"\1,33,", csv.read_text(), flags=re.M))
    assert graph.requested() == [({"labels"}, [CTA])]


def empty(graph: Switched, series: str) -> Path:
    """Leave a series without a file; return where its files are kept."""
    away = graph.data / "away"
    raw_series(graph, series).rename(away)
    raw_series(graph, series).mkdir()
    return away


def test_a_failed_series_stops_no_combination_and_is_not_tried_for_ever(graph) -> None:
    away = empty(graph, DAMAGED)
    assert graph.requested() == [(FOUR, list(graph.series))]
    assert graph.with_status("dicom_tags", "FAILED") == [DAMAGED]
    assert graph.requested() == [({"dicom_tags"}, [DAMAGED])]
    assert combining(graph.requested())
    assert graph.metadata("unified_metadata")["series"] == SERIES - 1
    assert graph.requested() == graph.requested() == []

    raw_series(graph, DAMAGED).rmdir()
    away.rename(raw_series(graph, DAMAGED))
    assert graph.requested() == [({"dicom_tags"}, [DAMAGED])]
    assert combining(graph.requested())
    assert graph.metadata("unified_metadata")["series"] == SERIES
    assert graph.requested() == []


def test_a_series_that_vanished_is_told_once_and_stays_done(graph) -> None:
    graph.take_all()
    shutil.rmtree(raw_series(graph, CTA))
    (event,) = graph.tick().asset_events
    assert event.asset_key == dg.AssetKey(["raw", "series"])
    metadata = {name: value.value for name, value in event.metadata.items()}
    assert metadata == {"series": SERIES, "new_series": 0, "vanished": 1, "vanished_series": CTA}
    again = graph.tick()
    assert list(again.asset_events) == []
    assert {request.tags[active_runs.RUN_TAG] for request in again.run_requests} == {"combine"}
    assert CTA in graph.with_status("dicom_tags", "MATERIALIZED")


def test_what_it_registers_is_told_at_the_raw_series(graph) -> None:
    graph.instance.delete_dynamic_partition("series", CTA)
    (event,) = graph.tick().asset_events
    assert event.metadata["new_series"].value == 1


def test_a_file_that_the_user_deletes_is_made_again(graph) -> None:
    graph.take_all()
    assert combining(graph.requested())
    (graph.settings.interim / "labels" / f"{CTA}.parquet").unlink()
    assert graph.requested() == [({"labels"}, [CTA])]
    assert combining(graph.requested())
    (graph.settings.interim / "series_quality.parquet").unlink()
    assert combining(graph.requested())
    assert graph.requested() == []


def test_a_combination_that_fails_is_tried_again_only_when_something_is_newer(graph) -> None:
    graph.take_all()
    unified = graph.settings.unified_table
    in_the_way = [unified.with_suffix(suffix) for suffix in (".parquet", ".csv")]
    for directory in in_the_way:
        (directory / "held").mkdir(parents=True)
    assert combining(graph.requested())
    assert graph.events("unified_metadata") == {}
    assert graph.requested() == []
    for directory in in_the_way:
        shutil.rmtree(directory)
    rewrite_a_file(graph, CTA)
    assert graph.requested() == [({"dicom_tags"}, [CTA])]
    assert combining(graph.requested())
    assert in_the_way[0].is_file()


def test_nothing_is_requested_while_a_run_of_these_assets_is_in_progress(graph) -> None:
    run = dg.DagsterRun(
        "__ASSET_JOB",
        status=dg.DagsterRunStatus.STARTED,
        asset_selection={dg.AssetKey("labels")},
    )
    graph.instance.add_run(run)
    ticked = graph.tick()
    assert ticked.run_requests == []
    assert ticked.skip_message == f"waits for run {run.run_id}"
    graph.instance.report_run_canceled(run)
    assert len(graph.tick().run_requests) == 1


def test_a_run_of_other_assets_is_not_waited_for(graph) -> None:
    other = {dg.AssetKey("series_preview")}
    graph.instance.add_run(
        dg.DagsterRun("job", status=dg.DagsterRunStatus.STARTED, asset_selection=other)
    )
    assert len(graph.tick().run_requests) == 1


def test_a_run_whose_process_was_killed_is_not_waited_for(graph) -> None:
    run = dg.DagsterRun("__ASSET_JOB", status=dg.DagsterRunStatus.STARTED)
    graph.instance.add_run(run)
    hold = (
        "import sys; from aneurysm_assets.instance import run_locks; "
        "from aneurysm_assets.settings import Settings; "
        "run_locks.hold(Settings.from_environment(), sys.argv[1])"
    )
    subprocess.run(
        [sys.executable, "-c", hold, run.run_id],
        env=os.environ | {"ANEURYSM_DATA": str(graph.data)},
        check=True,
    )
    assert len(graph.tick().run_requests) == 1
    assert run_locks.end_dead_runs(graph.instance, graph.settings) == []


def test_listing_is_cut_off_after_a_time_and_goes_on_with_the_next_tick(graph, monkeypatch) -> None:
    graph.take_all()
    monkeypatch.setattr(tick_plan.plan_tick, "__kwdefaults__", {"seconds": 0.0})
    for series in graph.series:
        rewrite_a_file(graph, series)
    taken = []
    for _ in graph.series:
        ((tables, series),) = graph.requested()
        assert (tables, len(series)) == ({"dicom_tags"}, 1)
        taken += series
    assert sorted(taken) == sorted(graph.series)
    assert combining(graph.requested())


def test_a_run_that_cannot_begin_is_not_requested_for_ever(graph) -> None:
    graph.take_all()
    for series in (CTA, DAMAGED):
        (graph.settings.interim / "dicom_tags" / f"{series}.parquet").unlink()
    (request,) = graph.tick().run_requests
    failed = dg.DagsterRun(
        "__ASSET_JOB", status=dg.DagsterRunStatus.FAILURE, tags=dict(request.tags)
    )
    graph.instance.add_run(failed)
    assert combining(graph.requested())
    ticked = graph.tick()
    assert ticked.run_requests == []
    assert (
        ticked.skip_message
        == f"waits for someone to mend the cause for which run {failed.run_id} failed"
    )
    # Other series are another matter.
    rewrite_a_file(graph, graph.series[0])
    assert len(graph.tick().run_requests) == 1


@pytest.mark.parametrize("sensor", ["graph", "light"])
def test_a_tick_whose_input_cannot_be_used_fails_and_says_why(request, sensor) -> None:
    graph = request.getfixturevalue(sensor)
    graph.settings.train_csv.write_text("<html>")
    assert "train.csv: not a CSV but a page of HTML" in graph.failed_tick()


def test_before_there_is_any_series_a_tick_waits_and_says_for_what(tmp_path) -> None:
    instance = dg.DagsterInstance.ephemeral()
    (tmp_path / "raw" / "series").mkdir(parents=True)
    said = Switched(tmp_path, instance=instance).tick().skip_message
    assert said.startswith(f"waits for the first series: {tmp_path}/raw/series holds no series")


def test_a_series_whose_directory_cannot_be_listed_for_now_stays_as_it_is(
    graph, monkeypatch
) -> None:
    graph.take_all()
    # As for a disk that is away for a while; who runs the tests may be allowed to list anything.
    monkeypatch.setattr(fingerprints, "fingerprint_or_unreadable", lambda _: UNREADABLE)
    assert combining(graph.requested())


def empty_for_good(graph: Switched, series: str) -> None:
    for path in raw_series(graph, series).iterdir():
        path.unlink()


def test_a_series_that_fails_after_it_was_combined_leaves_the_unified_table(graph) -> None:
    graph.take_all()
    assert combining(graph.requested())
    empty_for_good(graph, DAMAGED)
    assert graph.requested() == [({"dicom_tags"}, [DAMAGED])]
    assert graph.requested() == [({"dicom_tags"}, [DAMAGED])]
    assert combining(graph.requested())
    assert graph.metadata("unified_metadata")["series"] == SERIES - 1
    said = graph.tick().skip_message
    assert said == (
        f"nothing to do for {SERIES} series; 1 of them failed again and wait for other input"
    )


def test_a_retry_that_was_never_launched_is_not_used_up(graph) -> None:
    graph.take_all()
    empty_for_good(graph, DAMAGED)
    assert graph.requested() == [({"dicom_tags"}, [DAMAGED])]
    lost = graph.tick()
    assert len(lost.run_requests) == 1
    assert graph.requested() == [({"dicom_tags"}, [DAMAGED])]
    assert combining(graph.requested())


def without_row(graph: Switched, series: str) -> None:
    lines = graph.settings.train_csv.read_text().splitlines(keepends=True)
    graph.settings.train_csv.write_text("".join(x for x in lines if not x.startswith(series)))


def test_a_series_whose_row_left_train_csv_is_combined_away_and_not_read(graph) -> None:
    graph.take_all()
    assert combining(graph.requested())
    without_row(graph, CTA)
    assert combining(graph.requested())
    assert graph.requested() == []
    table = pl.read_parquet(graph.settings.interim / "dicom_metadata_with_csv.parquet")
    assert CTA not in set(table["SeriesInstanceUID"])


def test_a_train_csv_that_is_away_for_a_while_changes_nothing(graph) -> None:
    graph.take_all()
    assert combining(graph.requested())
    away = graph.settings.train_csv.rename(graph.data / "away.csv")
    assert "is gone, from which" in graph.failed_tick()
    assert list(graph.instance.get_dynamic_partitions("series")) == list(graph.series)
    away.rename(graph.settings.train_csv)
    assert graph.requested() == []


def test_data_that_never_had_a_train_csv_are_taken(data) -> None:
    (data / "raw" / "train.csv").unlink()
    graph = Switched(data)
    assert graph.requested() == [(FOUR, list(graph.series))]
    assert combining(graph.requested())
    assert graph.requested() == []


def test_a_quality_that_cannot_be_made_is_not_tried_for_ever(graph) -> None:
    graph.take_all()
    quality = graph.settings.quality_table
    for suffix in (".parquet", ".csv"):
        (quality.with_suffix(suffix) / "held").mkdir(parents=True)
    assert combining(graph.requested())
    assert graph.requested() == []
    assert graph.events("unified_metadata") == {None: 1}
    assert graph.tick().skip_message.startswith(
        "waits for someone to mend the cause for which run "
    )


def ended(graph: Switched, request: dg.RunRequest, **tags: str) -> dg.DagsterRun:
    """Record a run of a request that was canceled before it took anything."""
    run = dg.DagsterRun(
        "__ASSET_JOB",
        status=dg.DagsterRunStatus.CANCELED,
        asset_selection=set(request.asset_selection),
        run_config=request.run_config,
        tags=dict(request.tags) | tags,
    )
    graph.instance.add_run(run)
    return run


def test_what_a_user_canceled_is_not_requested_again_and_what_is_new_is(graph) -> None:
    (request,) = graph.tick().run_requests
    run = ended(graph, request)
    # It had taken some.
    assert graph.run(*FOUR, series=graph.series[:3]).success
    assert combining(graph.requested())
    ticked = graph.tick()
    assert ticked.run_requests == []
    assert ticked.skip_message == (
        f"waits for someone to take the rest of run {run.run_id}, which was canceled"
    )
    graph.instance.delete_run(run.run_id)
    assert graph.requested() == [(FOUR, list(graph.series[3:]))]


def test_requests_are_split_into_runs_of_so_many_series(graph, monkeypatch) -> None:
    monkeypatch.setenv("ANEURYSM_SERIES_PER_RUN", "2")
    series = list(graph.series)
    assert graph.requested() == [(FOUR, series[:2]), (FOUR, series[2:4]), (FOUR, series[4:])]
    assert combining(graph.requested())


def test_of_several_runs_of_a_request_none_that_a_user_canceled_is_requested_again(
    graph, monkeypatch
) -> None:
    monkeypatch.setenv("ANEURYSM_SERIES_PER_RUN", "2")
    first, second, third = graph.tick().run_requests
    ended(graph, first)
    ended(graph, second)
    # The latest one succeeded, and says nothing of the others.
    assert graph.run(*FOUR, series=graph.series_of(third)).success
    graph.instance.add_run(
        dg.DagsterRun(
            "__ASSET_JOB",
            status=dg.DagsterRunStatus.SUCCESS,
            asset_selection=set(third.asset_selection),
            tags=dict(third.tags),
        )
    )
    assert combining(graph.requested())
    assert "which was canceled" in graph.tick().skip_message


def test_a_run_that_dagster_will_retry_is_waited_for(graph, monkeypatch) -> None:
    lost = dg.DagsterRun(
        "__ASSET_JOB",
        status=dg.DagsterRunStatus.FAILURE,
        asset_selection={dg.AssetKey("labels")},
        tags={"dagster/will_retry": "true"},
    )
    graph.instance.add_run(lost)
    monkeypatch.setattr(dg.DagsterInstance, "run_retries_enabled", True)
    assert graph.tick().skip_message == f"waits for the retry of run {lost.run_id}"
    graph.instance.add_run_tags(lost.run_id, {"dagster/auto_retry_run_id": "another"})
    assert len(graph.tick().run_requests) == 1


def test_a_run_that_may_live_on_another_host_is_never_ended_for_want_of_a_lock(
    graph, monkeypatch
) -> None:
    monkeypatch.setattr(active_runs, "_BEGINS_WITHIN", timedelta(0))
    run = dg.DagsterRun(
        "__ASSET_JOB",
        status=dg.DagsterRunStatus.STARTED,
        asset_selection={dg.AssetKey("labels")},
        tags={run_locks.CARRIER_TAG: "celery"},
    )
    graph.instance.add_run(run)
    assert graph.tick().skip_message == f"waits for run {run.run_id}"
    assert graph.instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED


def test_a_run_that_was_killed_before_it_took_anything_is_not_requested_again(graph) -> None:
    (request,) = graph.tick().run_requests
    ended(graph, request, **{run_locks.CUT_OFF_TAG: run_locks.KILLED})
    assert graph.requested() == []
    # It goes on where it took some: a machine may have been started anew.
    assert graph.run(*FOUR, series=graph.series[:3]).success
    assert graph.requested() == [(FOUR, list(graph.series[3:]))]


def test_a_run_that_ended_with_dagster_goes_on(graph) -> None:
    (request,) = graph.tick().run_requests
    ended(graph, request, **{run_locks.CUT_OFF_TAG: run_locks.INTERRUPTED})
    assert graph.requested() == [(FOUR, list(graph.series))]


def test_a_series_taken_since_a_run_of_it_failed_is_requested_when_it_changes_again(graph) -> None:
    graph.take_all()
    rewrite_a_file(graph, CTA)
    (request,) = graph.tick().run_requests
    graph.instance.add_run(
        dg.DagsterRun("__ASSET_JOB", status=dg.DagsterRunStatus.FAILURE, tags=dict(request.tags))
    )
    assert combining(graph.requested())
    assert graph.requested() == []
    assert graph.run("dicom_tags", partition=CTA).success
    rewrite_a_file(graph, CTA)
    assert graph.requested() == [({"dicom_tags"}, [CTA])]


def under(graph: Switched, job: str) -> None:
    """Record a run of a whole job as the UI makes it, under way."""
    graph.instance.create_run_for_job(
        graph.definitions.resolve_job_def(job), status=dg.DagsterRunStatus.STARTED
    )


@pytest.mark.parametrize("job", ["register_series", "write_dataset_report"])
def test_a_run_of_a_job_without_these_assets_is_not_waited_for(graph, job) -> None:
    under(graph, job)
    assert len(graph.tick().run_requests) == 1


def test_a_run_of_a_job_with_these_assets_is_waited_for(graph) -> None:
    under(graph, "combine")
    assert graph.tick().skip_message.startswith("waits for run ")


@pytest.mark.parametrize(
    ("table", "status", "waits"),
    [
        ("labels", "REQUESTED", True),
        ("labels", "FAILING", True),
        ("labels", "COMPLETED_SUCCESS", False),
        ("series_preview", "REQUESTED", False),
    ],
)
def test_a_backfill_is_waited_for_while_it_goes_on_and_is_of_these_assets(
    graph, table, status, waits
) -> None:
    graph.instance.add_backfill(
        PartitionBackfill(
            "abcdefgh",
            status=BulkActionStatus(status),
            from_failure=False,
            tags={},
            backfill_timestamp=0.0,
            asset_selection=[dg.AssetKey(table)],
        )
    )
    said = graph.tick().skip_message
    assert said == ("waits for backfill abcdefgh" if waits else None)


def test_a_run_that_was_killed_before_it_began_is_ended_after_a_while(graph, monkeypatch) -> None:
    run = dg.DagsterRun(
        "__ASSET_JOB",
        status=dg.DagsterRunStatus.STARTING,
        asset_selection={dg.AssetKey("labels")},
    )
    graph.instance.add_run(run)
    assert graph.tick().skip_message == f"waits for run {run.run_id}"
    monkeypatch.setattr(active_runs, "_BEGINS_WITHIN", timedelta(0))
    run_locks.hold(graph.settings, run.run_id)
    assert graph.tick().skip_message == f"waits for run {run.run_id}"
    run_locks.release(graph.settings, run.run_id)
    assert len(graph.tick().run_requests) == 1
    ended_now = graph.instance.get_run_by_id(run.run_id)
    assert ended_now.status == dg.DagsterRunStatus.CANCELED
    assert ended_now.tags[run_locks.CUT_OFF_TAG] == run_locks.KILLED


def test_it_waits_for_a_run_of_the_command_line(graph) -> None:
    run_locks.hold(graph.settings, run_locks.RUN)
    assert graph.tick().skip_message == "waits for `aneurysm-assets run`"
    run_locks.release(graph.settings, run_locks.RUN)
    assert len(graph.tick().run_requests) == 1


def test_what_version_0_1_remembered_is_gone_on_with_and_what_is_not_known_passed_over(
    graph,
) -> None:
    kept = {"place": CTA, "combined": [1, 2, 3], "of_a_later_version": None}
    graph.instance.daemon_cursor_storage.set_cursor_values(
        {"aneurysm_assets/automation": json.dumps(kept)}
    )
    load = tick_plan.SensorState.load
    assert load(None, graph.instance) == tick_plan.SensorState(place=CTA)
    assert load("{}", graph.instance) == tick_plan.SensorState()
    assert load("no JSON", graph.instance) == tick_plan.SensorState()


def test_the_cursor_holds_the_whole_state(graph) -> None:
    state = tick_plan.SensorState("1.2", {"labels": {"1": "f"}}, "r", {"labels": {"2": "g"}}, ["3"])
    assert tick_plan.SensorState.load(state.as_cursor(), graph.instance) == state
