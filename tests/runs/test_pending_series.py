"""Which series are left to do: the decision of `run`, `status` and the sensor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aneurysm_assets.runs.pending_series import (
    Options,
    PendingSeries,
    Reason,
    Status,
    TableState,
    pending_series,
)
from aneurysm_assets.storage.fingerprint import UNREADABLE

STATUSES: list[Status] = ["materialized", "failed", "in_progress", "missing"]
EACH_TIME, NOT_YET, WITH_THIS, WITH_OTHER = None, {}, {"1": "new"}, {"1": "old"}


def decide(status: Status, *, wanted: bool = True, **known) -> PendingSeries:
    options = {name: known.pop(name) for name in ("force", "skip_unreadable") if name in known}
    state = TableState({"1": status}, **known)
    series = Options(wanted=["1"] if wanted else [], **options)
    return pending_series({"labels": state}, series)


CHANGED = {"recorded": {"1": "old"}, "current": {"1": "new"}}
UNCHANGED = {"recorded": {"1": "new"}, "current": {"1": "new"}}
AWAY = {"recorded": {"1": "old"}, "current": {"1": UNREADABLE}}


@pytest.mark.parametrize(
    ("status", "known", "reason"),
    [
        ("missing", {}, "missing"),
        ("missing", {"wanted": False}, None),
        ("materialized", {}, None),
        ("materialized", UNCHANGED, None),
        ("materialized", CHANGED, "changed"),
        ("materialized", {**CHANGED, "wanted": False}, None),
        ("materialized", {"current": {"1": "new"}}, None),  # recorded without a fingerprint
        ("materialized", {"recorded": {"1": "old"}}, None),  # its directory is gone
        ("materialized", AWAY, "changed"),
        ("materialized", {**AWAY, "skip_unreadable": True}, None),
        ("materialized", {"force": True}, "forced"),
        ("materialized", {**CHANGED, "force": True}, "changed"),
        ("materialized", {"force": True, "wanted": False}, None),
        ("failed", {}, "failed"),
        ("failed", {"wanted": False}, None),
        ("failed", {**UNCHANGED, "retried": NOT_YET}, "failed"),
        ("failed", {**UNCHANGED, "retried": WITH_THIS}, None),
        ("failed", {**UNCHANGED, "retried": WITH_OTHER}, "failed"),
        ("failed", {"retried": NOT_YET}, None),  # its directory was not looked at
        ("in_progress", {}, None),
        ("in_progress", {"force": True}, None),
    ],
)
def test_a_series_is_taken_for_one_reason_or_left(status, known, reason) -> None:
    assert decide(status, **known).reasons == {"labels": {"1": reason} if reason else {}}


def test_a_series_that_another_run_has_in_progress_is_named() -> None:
    assert decide("in_progress").in_progress == {"1"}
    assert decide("in_progress", wanted=False).in_progress == frozenset()


def test_a_series_that_failed_again_with_the_same_input_is_given_up_until_that_changes() -> None:
    assert decide("failed", **UNCHANGED, retried=WITH_THIS).given_up == {"1"}
    assert decide("failed", retried=WITH_THIS).given_up == {"1"}
    assert decide("failed", **UNCHANGED, retried=WITH_OTHER).given_up == frozenset()


def test_tables_that_need_the_same_series_are_one_run_in_the_order_of_registration() -> None:
    reasons: dict[str, dict[str, Reason]] = {
        "dicom_tags": {"1": "missing", "2": "failed"},
        "labels": {"2": "missing", "1": "changed"},
        "localizers": {"1": "missing"},
        "segmentation_meta": {},
    }
    assert PendingSeries(reasons).runs(["2", "3", "1"]) == {
        ("2", "1"): ["dicom_tags", "labels"],
        ("1",): ["localizers"],
    }


def test_series_are_dropped_from_a_plan_by_table_and_reason() -> None:
    plan = PendingSeries(
        {"labels": {"1": "missing", "2": "failed"}, "localizers": {"1": "missing"}}
    )
    assert plan.without({"labels": ["1", "2"]}, ["missing"]).reasons == {
        "labels": {"2": "failed"},
        "localizers": {"1": "missing"},
    }


UIDS = [str(number) for number in range(6)]
FINGERPRINTS = st.dictionaries(st.sampled_from(UIDS), st.sampled_from(["a", "b", UNREADABLE]))
STATES = st.builds(
    TableState,
    st.dictionaries(st.sampled_from(UIDS), st.sampled_from(STATUSES)),
    recorded=FINGERPRINTS,
    current=FINGERPRINTS,
    retried=st.none() | FINGERPRINTS,
)
OPTIONS = st.builds(
    Options,
    wanted=st.sets(st.sampled_from(UIDS)),
    force=st.booleans(),
    skip_unreadable=st.booleans(),
)


@given(st.dictionaries(st.sampled_from(["labels", "localizers"]), STATES), OPTIONS)
def test_whatever_is_known_the_plan_keeps_its_promises(tables, options) -> None:
    plan = pending_series(tables, options)
    assert plan.reasons.keys() == tables.keys()
    assert bool(plan) == any(plan.reasons.values())
    for table, reasons in plan.reasons.items():
        state = tables[table]
        assert reasons.keys() <= options.wanted
        for uid, reason in reasons.items():
            status = state.status[uid]
            assert status != "in_progress"
            assert (reason in ("changed", "forced")) == (status == "materialized")
            assert reason != "forced" or options.force
        for uid in options.wanted & state.status.keys():
            status = state.status[uid]
            assert (status == "missing") <= (reasons.get(uid) == "missing")
            assert (status == "in_progress") <= (uid in plan.in_progress)
            if status == "materialized":
                assert (uid in reasons) == (options.force or reasons.get(uid) == "changed")
            if status == "failed" and state.retried is None:
                assert reasons[uid] == "failed"
    taken = [uid for series, names in plan.runs(UIDS).items() for _ in names for uid in series]
    assert len(taken) == sum(map(len, plan.reasons.values()))
