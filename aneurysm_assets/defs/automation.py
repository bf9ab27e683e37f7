"""The switch: a sensor that registers new series, and requests what is missing, failed or stale.

Each asset carries an automation condition, so that the UI shows why it was requested. What a
condition is true for comes from one `survey` a tick: Dagster's own conditions do not know that a
file on disk has changed, and `eager()` and `on_missing()` request nothing that was missing before
they were switched on. The runs are ours too. Dagster would make a run of each contiguous range,
and so one a series where those are scattered; here a group of series is always one run: a range
of partitions where it is contiguous, else by the config `series`.

What there is to do is found out in `survey`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import dagster as dg

from aneurysm_assets.dagster_internals import SensorExecutionData, replace
from aneurysm_assets.defs.assets.raw import RAW_SERIES
from aneurysm_assets.errors import InputError
from aneurysm_assets.messages import lines_in_brief
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.active_runs import RUN_TAG
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.runs.tick_plan import Reason, TickPlan, survey
from aneurysm_assets.schema.tables import SERIES_QUALITY, SERIES_TABLES, UNIFIED_METADATA

NAME = "series_automation"

_DESCRIPTION = (
    "Registers the series that are new on disk and in train.csv, materialises what is missing or "
    "has changed in batches, and combines unified_metadata and series_quality when nothing is "
    "under way. A failed series is tried once more, and then when its input has changed."
)

_INTERVAL_SECONDS = 30

_EXPLANATIONS: Mapping[Reason, str] = {
    "missing": "on disk, and not materialised",
    "changed": "the input is no longer what was read",
    "failed": "failed, and not yet tried again with this input",
}

_current: ContextVar[TickPlan] = ContextVar("survey")


class ToTake(dg.AutomationCondition[dg.AssetKey]):
    """True for the series that this tick's survey found to take for one reason."""

    def __init__(self, reason: Reason) -> None:
        self._reason = reason

    @property
    def requires_cursor(self) -> bool:
        """No: a survey is all that is asked."""
        return False

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return f"series_{self._reason}"

    @property
    def description(self) -> str:
        """What the UI says of it."""
        return _EXPLANATIONS[self._reason]

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Return the series."""
        reasons = _survey().take.get(context.key.to_user_string(), {})
        if context.partitions_def is None:
            return dg.AutomationResult(context, context.get_empty_subset())
        subset = context.asset_graph_view.get_subset_from_partition_keys(
            context.key, context.partitions_def, set(reasons.get(self._reason, ()))
        )
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection(subset))


class ToCombine(dg.AutomationCondition[dg.AssetKey]):
    """True where this tick's survey found that the unified table is to be made anew."""

    @property
    def requires_cursor(self) -> bool:
        """No: a survey is all that is asked."""
        return False

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "upstream_newer_and_nothing_under_way"

    @property
    def description(self) -> str:
        """What the UI says of it."""
        return (
            "a series' table is newer, or other series are whole, and none is to be taken or "
            "under way"
        )

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Return all or nothing."""
        subset = context.candidate_subset if _survey().combine else context.get_empty_subset()
        return dg.AutomationResult(context, subset)


class SeriesAutomation(dg.AutomationConditionSensorDefinition):
    """The sensor: it surveys, has the conditions evaluated, and makes the runs."""

    def __init__(self, settings: SettingsResource) -> None:
        self._settings = settings
        with warnings.catch_warnings():
            # Evaluation in this code's own process is "in beta"; users need not read it each time.
            warnings.simplefilter("ignore", dg.BetaWarning)
            super().__init__(
                NAME,
                target=dg.AssetSelection.assets(*map(dg.AssetKey, _conditions())),
                description=_DESCRIPTION,
                default_status=dg.DefaultSensorStatus.STOPPED,
                minimum_interval_seconds=_INTERVAL_SECONDS,
                use_user_code_server=True,
            )

    def with_attributes(self, **_: object) -> "SeriesAutomation":
        """Return the sensor itself: it has no jobs, and keeps what it is."""
        return self

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> SensorExecutionData:
        """Plan the tick, and return the runs to make; or why there are none."""
        try:
            settings = self._settings.get()
            found = survey(context.instance, settings)
        except InputError as error:
            return SensorExecutionData(skip_message=str(error), cursor=context.cursor)
        with _in_force(found):
            evaluated = super().evaluate_tick(context)
        requests = run_requests(found, settings.series_per_run)
        return replace(
            evaluated,
            run_requests=requests,
            skip_message=None if requests else _skip_message(found),
            asset_events=_observations(found),
        )


def automated(assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """Give the assets that the switch materialises their conditions, and leave others alone."""
    conditions = _conditions()

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition = conditions.get(spec.key.to_user_string())
        return spec.replace_attributes(automation_condition=condition) if condition else spec

    return [asset.map_asset_specs(with_condition) for asset in assets]


def run_requests(found: TickPlan, series_per_run: int | None = None) -> list[dg.RunRequest]:
    """Return a run for each group of series, in parts of so many, or one run to combine."""
    if found.combine:
        keys = [dg.AssetKey(table.name) for table in (UNIFIED_METADATA, SERIES_QUALITY)]
        return [dg.RunRequest(asset_selection=keys, tags={RUN_TAG: "combine", **found.tags})]
    return [
        _request(found, series[start : start + (series_per_run or len(series))], tables)
        for series, tables in found.groups().items()
        for start in range(0, len(series), series_per_run or len(series))
    ]


def _request(found: TickPlan, series: tuple[str, ...], tables: Sequence[str]) -> dg.RunRequest:
    keys = [dg.AssetKey(table) for table in tables]
    tags = {RUN_TAG: "series", **found.tags}
    of_range, config = partitions.of_run(found.registered, series)
    ops = {"ops": {table: {"config": config} for table in tables}} if config else {}
    return dg.RunRequest(asset_selection=keys, tags=tags | of_range, run_config=ops)


def _conditions() -> dict[str, dg.AutomationCondition[Any]]:
    to_take = ToTake("missing") | ToTake("changed") | ToTake("failed")
    return {
        **{table.name: cast("dg.AutomationCondition[Any]", to_take) for table in SERIES_TABLES},
        UNIFIED_METADATA.name: ToCombine(),
        SERIES_QUALITY.name: ToCombine(),
    }


@contextmanager
def _in_force(found: TickPlan) -> Iterator[None]:
    token = _current.set(found)
    try:
        yield
    finally:
        _current.reset(token)


def _survey() -> TickPlan:
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError(
            f"the conditions of these assets are evaluated by the sensor {NAME} only"
        ) from None


def _skip_message(found: TickPlan) -> str:
    if found.waits_for:
        return f"waits for {found.waits_for}"
    given_up = (
        f"; {found.given_up} of them failed again and wait for other input"
        if found.given_up
        else ""
    )
    return f"nothing to do for {len(found.registered)} series{given_up}"


def _observations(found: TickPlan) -> list[dg.AssetObservation]:
    """Return what changed among the raw series, to be seen at the raw asset."""
    if not found.new and not found.vanished_differs:
        return []
    metadata: dict[str, Any] = {
        "series": len(found.registered),
        "new_series": found.new,
        "vanished": len(found.vanished),
    }
    if found.vanished:
        named = "\n".join(lines_in_brief(found.vanished))
        metadata["vanished_series"] = dg.MetadataValue.text(named)
    return [dg.AssetObservation(RAW_SERIES, metadata=metadata)]
