"""The sensors: a light one that keeps the table current, and the switch that reads by itself.

`table_automation` is on by default and decodes nothing: it registers what is on disk and combines
what is newer. `series_automation`, off by default, reads too, and does the other's work while it is
on.

Dagster's own conditions do not know that a file on disk has changed, and request nothing that was
missing before they were switched on. They also make one run of each contiguous range; here a group
of series is always one run: a range of partitions where it is contiguous, else by the config
`series`. What there is to do is planned in `runs.tick_plan`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import dagster as dg

from aneurysm_assets.defs.assets.raw import RAW_SERIES
from aneurysm_assets.errors import NoSeriesError
from aneurysm_assets.messages import lines_in_brief
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.active_runs import RUN_TAG
from aneurysm_assets.runs.pending_series import REASONS
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.runs.tick_plan import SensorState, TickPlan, plan_tick
from aneurysm_assets.schema.tables import ALL_TABLES, DATASET_TABLES
from aneurysm_assets.settings import is_table_automation_on

REASON_TAG = "aneurysm_assets/reason"
"""On the requested runs: how many series they take for which reason."""


@dg.sensor(
    name="series_automation",
    target=dg.AssetSelection.assets(*(table.name for table in ALL_TABLES)),
    description="Registers the series that are new on disk and in train.csv, materializes what is "
    "missing or has changed in batches, and combines unified_metadata, volumes and series_quality "
    "when nothing is in progress. It retries a failed series once, and then when its input has "
    "changed.",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
)
def series_automation(
    context: dg.SensorEvaluationContext, settings: SettingsResource
) -> dg.SensorResult:
    """Plan the tick, and return the runs to make; or why there are none."""
    return _tick(context, settings, reads=True)


@dg.sensor(
    name="table_automation",
    target=dg.AssetSelection.assets(*(table.name for table in DATASET_TABLES)),
    description="Registers the series that are new on disk and in train.csv, and combines "
    "unified_metadata, volumes and series_quality of what is done, when something is newer and "
    "nothing is in progress. It reads no series: that is asked for by a backfill, by "
    "`aneurysm-assets run`, or by turning series_automation on, which then does this too.",
    default_status=dg.DefaultSensorStatus.RUNNING
    if is_table_automation_on()
    else dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
)
def table_automation(
    context: dg.SensorEvaluationContext, settings: SettingsResource
) -> dg.SensorResult:
    """Plan the tick without reading series, and return the run that combines; or why not."""
    if _is_on(context.instance, series_automation):
        reason = f"{series_automation.name} is on, and combines too"
        return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
    return _tick(context, settings, reads=False)


def _is_on(instance: dg.DagsterInstance, sensor: dg.SensorDefinition) -> bool:
    """Tell whether somebody turned a sensor on that is off by default."""
    return any(
        state.instigator_name == sensor.name and state.status.value == "RUNNING"
        for state in instance.all_instigator_state()
    )


def _tick(
    context: dg.SensorEvaluationContext, settings: SettingsResource, *, reads: bool
) -> dg.SensorResult:
    """Plan a tick; one whose input cannot be used fails with the reason, for people to see."""
    tick_settings = settings.get()
    state = SensorState.load(context.cursor, context.instance)
    try:
        plan = plan_tick(context.instance, tick_settings, state, reads=reads)
    except NoSeriesError as error:
        if partitions.registered(context.instance):
            raise
        reason = f"waits for the first series: {error}"
        return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
    requests = run_requests(plan, tick_settings.series_per_run)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else _skip_reason(plan),
        asset_events=_observations(plan),
        cursor=plan.state.as_cursor(),
    )


def run_requests(plan: TickPlan, series_per_run: int | None = None) -> list[dg.RunRequest]:
    """Return one run for each group of series, in parts of so many, or one run to combine."""
    if plan.combine:
        keys = [dg.AssetKey(table.name) for table in DATASET_TABLES]
        return [dg.RunRequest(asset_selection=keys, tags={RUN_TAG: "combine", **plan.tags})]
    return [
        _run_request(plan, series[start : start + (series_per_run or len(series))], tables)
        for series, tables in plan.pending.runs(plan.registered).items()
        for start in range(0, len(series), series_per_run or len(series))
    ]


def _run_request(plan: TickPlan, series: tuple[str, ...], tables: Sequence[str]) -> dg.RunRequest:
    of_series = {(uid, plan.pending.reasons[table][uid]) for table in tables for uid in series}
    reasons = Counter(reason for _, reason in sorted(of_series))
    said = "; ".join(f"{count} series: {REASONS[reason]}" for reason, count in reasons.items())
    range_tags, config = partitions.selection_of_run(plan.registered, series)
    return dg.RunRequest(
        asset_selection=[dg.AssetKey(table) for table in tables],
        tags={RUN_TAG: "series", REASON_TAG: said, **plan.tags, **range_tags},
        run_config={"ops": {table: {"config": config} for table in tables}} if config else {},
    )


def _skip_reason(plan: TickPlan) -> str:
    if plan.waits_for:
        return f"waits for {plan.waits_for}"
    given_up = (
        f"; {len(plan.pending.given_up)} of them failed again and wait for other input"
        if plan.pending.given_up
        else ""
    )
    return f"nothing to do for {len(plan.registered)} series{given_up}"


def _observations(plan: TickPlan) -> list[dg.AssetObservation]:
    """Return what changed among the raw series, to be seen at the raw asset."""
    if not plan.new and not plan.vanished_differs:
        return []
    metadata: dict[str, Any] = {
        "series": len(plan.registered),
        "new_series": plan.new,
        "vanished": len(plan.vanished),
    }
    if plan.vanished:
        named = "\n".join(lines_in_brief(plan.vanished))
        metadata["vanished_series"] = dg.MetadataValue.text(named)
    return [dg.AssetObservation(RAW_SERIES, metadata=metadata)]
