"""The asset checks as a person at the Dagster UI meets them."""

import shutil
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from aneurysm_assets.definitions import build_defs
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.schema.problems import PROBLEMS, Problem
from aneurysm_assets.schema.tables import SERIES_QUALITY
from tests.made_up import MadeUp, Stage, ct, mr, multi_frame, named_by, uid_of

NAMES = [problem.name for problem in PROBLEMS]

ERRORS = {"not_done", "key_not_unique", "files_unaccounted"}
"""Where the table would be wrong; everything else is a fault of the data."""


def twice(name: str) -> MadeUp:
    return mr(name).one(3, SOPInstanceUID=f"{uid_of(name)}.3")


def without_thickness(name: str) -> MadeUp:
    return ct(name).every(SliceThickness=None)


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Stage:
    """Return a stage over two clean series, one that has an ERROR, and two that have a WARN."""
    made = [ct("clean"), multi_frame("also clean"), twice("twice")]
    made += [without_thickness("thin"), without_thickness("thinner")]
    stage = Stage(tmp_path_factory.mktemp("checks"), made)
    assert stage.read().success
    assert stage.sum_up().success
    return stage


def evaluated(result: dg.ExecuteInProcessResult) -> list[str]:
    return [check.check_name for check in result.get_asset_check_evaluations()]


# --- what a check says of itself ------------------------------------------------------------------


def specs() -> dict[str, dg.AssetCheckSpec]:
    checks, _ = build_defs().asset_checks  # the other is that of `volumes`
    return {spec.name: spec for spec in checks.check_specs}


def test_there_is_a_check_for_each_problem_and_no_other() -> None:
    assert list(specs()) == NAMES
    assert {spec.asset_key for spec in specs().values()} == {dg.AssetKey("series_quality")}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_each_check_says_what_it_finds_and_how_bad_that_is(problem: Problem) -> None:
    spec = specs()[problem.name]
    assert spec.description == f"Finds: {problem.description}"
    assert problem.description.endswith(".")
    severity = "ERROR" if problem.name in ERRORS else "WARN"
    assert spec.metadata["severity"] == severity
    assert spec.metadata["tolerance"] == (problem.tolerance or "none")
    assert spec.metadata["source"] == problem.source != ""


def test_no_check_blocks_what_is_downstream() -> None:
    assert not any(spec.blocking for spec in specs().values())


# --- what a check says of the data ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in {"key_not_unique", "slice_thickness_missing"}]
)
def test_a_check_that_finds_nothing_passes_with_its_count(stage: Stage, name: str) -> None:
    evaluation = stage.evaluations()[name]
    assert evaluation.passed
    assert evaluation.metadata["series_checked"].value == 5
    assert evaluation.metadata["series_found"].value == 0
    assert "series" not in evaluation.metadata
    (problem,) = (problem for problem in PROBLEMS if problem.name == name)
    assert evaluation.description == (
        f"Passed: none of 5 series has it. Looked for: {problem.description}"
    )


def test_a_check_that_finds_something_fails_and_names_series_and_findings(stage: Stage) -> None:
    evaluations = stage.evaluations()
    assert {name for name, e in evaluations.items() if not e.passed} == {
        "key_not_unique",
        "slice_thickness_missing",
    }
    missing = evaluations["slice_thickness_missing"]
    assert missing.metadata["series_found"].value == 2
    assert missing.metadata["series_checked"].value == 5
    assert missing.description == "Found in 2 of 5 series: An image has no SliceThickness."
    where = "001.dcm; 002.dcm; 003.dcm; and 7 more"
    assert named_by(evaluations) == {
        uid_of("thin"): {"slice_thickness_missing": where},
        uid_of("thinner"): {"slice_thickness_missing": where},
        uid_of("twice"): {"key_not_unique": f"{uid_of('twice')}.3"},
    }


@pytest.mark.parametrize("name", NAMES)
def test_its_severity_is_the_declared_one(stage: Stage, name: str) -> None:
    severity = dg.AssetCheckSeverity.ERROR if name in ERRORS else dg.AssetCheckSeverity.WARN
    assert stage.evaluations()[name].severity == severity


def quality_of(count: int, name: str) -> pl.DataFrame:
    """Return a table of `count` series, all but the first of which have the problem."""
    found = [number > 0 for number in range(count)]
    return pl.DataFrame(
        {
            "SeriesInstanceUID": [f"1.2.{number:04}" for number in range(count)],
            **dict.fromkeys(NAMES, False),
            "findings": [f"not_{name}: 1\n{name}: at {n}\nscouts: 2" for n in range(count)],
        },
        schema=SERIES_QUALITY.schema,
    ).with_columns(pl.Series(name, found))


def test_a_check_names_two_hundred_series_and_counts_all(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [ct("any")])
    stage.settings.interim.mkdir()
    table = stage.settings.interim / "series_quality.parquet"
    quality_of(301, "mixed_matrix").write_parquet(table)
    assert stage.check("mixed_matrix").success
    evaluation = stage.evaluations()["mixed_matrix"]
    assert evaluation.metadata["series_found"].value == 300
    assert evaluation.metadata["series_checked"].value == 301
    records = evaluation.metadata["series"].records
    assert [record.data for record in records] == [
        {"series": f"1.2.{number:04}", "finding": f"at {number}"} for number in range(1, 201)
    ]


def test_a_series_that_is_not_in_the_table_is_not_counted_as_checked(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [ct("any")])
    stage.settings.interim.mkdir()
    unknown = pl.when(pl.int_range(pl.len()) > 1).then(pl.col("scouts"))
    quality_of(5, "not_done").with_columns(scouts=unknown).write_parquet(
        stage.settings.interim / "series_quality.parquet"
    )
    assert stage.check("scouts", "not_done").success
    counts = {
        name: evaluation.metadata["series_checked"].value
        for name, evaluation in stage.evaluations().items()
    }
    assert counts == {"scouts": 3, "not_done": 5}


# --- how checks are run ---------------------------------------------------------------------------


def test_materialising_series_quality_runs_every_check_after_it_in_the_same_run(
    stage: Stage,
) -> None:
    result = stage.sum_up("series_quality")
    assert result.success
    assert evaluated(result) == NAMES
    (quality,) = result.get_asset_materialization_events()
    target = {e.target_materialization_data.run_id for e in result.get_asset_check_evaluations()}
    assert target == {result.run_id}
    types = [event.event_type_value for event in result.all_events]
    assert quality.asset_key == dg.AssetKey("series_quality")
    assert types.index("ASSET_MATERIALIZATION") < types.index("ASSET_CHECK_EVALUATION")


@pytest.mark.parametrize("chosen", [["scouts"], ["not_done", "localizer_duplicate"], NAMES])
def test_checks_can_be_run_alone(stage: Stage, chosen: list[str]) -> None:
    result = stage.check(*chosen)
    assert result.success
    assert evaluated(result) == chosen
    assert result.get_asset_materialization_events() == []


def test_a_check_without_its_table_says_what_to_do(tmp_path: Path) -> None:
    result = Stage(tmp_path, [ct("any")]).check("scouts")
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    reason = failure.step_failure_data.user_failure_data.description
    assert reason == "there is no series_quality yet: materialize it"


def test_series_quality_without_the_unified_table_fails_and_no_check_passes(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [ct("any")])
    assert stage.read().success
    result = stage.sum_up("series_quality")
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "no unified table" in failure.step_failure_data.user_failure_data.description
    assert evaluated(result) == []


def test_quality_and_checks_need_no_raw_data(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [twice("twice").point(2, 4, 4), without_thickness("thin")])
    assert stage.read().success
    assert stage.sum_up().success
    before, named = stage.quality(), named_by(stage.evaluations())
    shutil.rmtree(stage.settings.raw)
    (stage.settings.interim / "series_quality.parquet").unlink()
    assert stage.sum_up("series_quality").success
    assert stage.quality().equals(before)
    assert stage.check(*NAMES).success
    assert named_by(stage.evaluations()) == named


# --- checks on the table itself -------------------------------------------------------------------


# The others are in the table, and need no event each here.
OF_TABLE = ("not_done", "files_unaccounted")


def failing(stage: Stage) -> dict[str, dict[str, str]]:
    """Return the findings of failing checks by check and series."""
    return {
        name: {
            record.data["series"]: record.data["finding"] for record in e.metadata["series"].records
        }
        for name, e in stage.evaluations().items()
        if not e.passed
    }


def test_a_partition_that_failed_is_an_error_until_it_is_done(tmp_path: Path) -> None:
    broken = ct("broken")
    stage = Stage(tmp_path, [ct("clean"), broken])
    path = stage.settings.segmentations_root / broken.uid / f"{broken.uid}.nii"
    path.parent.mkdir(parents=True)
    path.symlink_to("gone.nii")
    assert not stage.read().success
    assert stage.sum_up(checks=OF_TABLE).success
    assert failing(stage) == {"not_done": {broken.uid: "not done in all four tables"}}
    assert stage.evaluations()["not_done"].severity == dg.AssetCheckSeverity.ERROR

    shutil.rmtree(stage.settings.segmentations_root / broken.uid)
    assert stage.read(broken.uid).success
    assert stage.sum_up(checks=OF_TABLE).success
    assert failing(stage) == {}


def test_a_partition_that_was_never_read_is_not_done(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [ct("read"), ct("unread")])
    assert stage.read(uid_of("read")).success
    assert stage.sum_up(checks=OF_TABLE).success
    assert failing(stage) == {"not_done": {uid_of("unread"): "not done in all four tables"}}
    row = stage.quality().filter(pl.col("SeriesInstanceUID") == uid_of("unread"))
    assert row.select(NAMES[1:]).null_count().row(0) == (1,) * (len(NAMES) - 1)


def test_a_partition_that_fails_when_taken_again_is_not_done_though_an_old_table_holds_it(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, [ct("clean"), without_thickness("thin")])
    assert stage.read().success
    assert stage.sum_up(checks=OF_TABLE).success
    shutil.rmtree(stage.settings.series_root / uid_of("thin"))
    assert not stage.read(uid_of("thin")).success
    assert stage.sum_up("series_quality", checks=OF_TABLE).success
    assert set(failing(stage)["not_done"]) == {uid_of("thin")}
    row = stage.quality().filter(pl.col("SeriesInstanceUID") == uid_of("thin"))
    assert row["slice_thickness_missing"].to_list() == [True], "the table still holds it"


def test_a_series_done_after_the_unified_table_was_made_is_not_in_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [ct("first"), ct("second")])
    assert stage.read(uid_of("first")).success
    assert stage.sum_up(checks=OF_TABLE).success
    assert stage.read(uid_of("second")).success
    assert stage.sum_up("series_quality", checks=OF_TABLE).success
    assert set(failing(stage)["not_done"]) == {uid_of("second")}
    assert stage.sum_up(checks=OF_TABLE).success
    assert failing(stage) == {}


def tampered(stage: Stage, uid: str, change) -> None:
    table = stage.settings.interim / "dicom_tags" / f"{uid}.parquet"
    change(pl.read_parquet(table)).write_parquet(table)


@pytest.mark.parametrize(
    ("change", "files"),
    [
        (lambda table: table.head(-1), 9),
        (lambda table: table.head(-2), 8),
        (lambda table: pl.concat([table, as_another_file(table.tail(1))]), 11),
    ],
    ids=["a row is gone", "two rows are gone", "a row too many"],
)
def test_a_table_that_was_tampered_with_does_not_account_for_its_files(
    tmp_path: Path, change, files: int
) -> None:
    stage = Stage(tmp_path, [ct("sound"), mr("tampered")])
    assert stage.read().success
    tampered(stage, uid_of("tampered"), change)
    assert stage.sum_up(checks=OF_TABLE).success
    assert failing(stage)["files_unaccounted"] == {uid_of("tampered"): f"{files} files of 10"}
    assert stage.evaluations()["files_unaccounted"].severity == dg.AssetCheckSeverity.ERROR


def as_another_file(row: pl.DataFrame) -> pl.DataFrame:
    return row.with_columns(dicom_path=pl.col("dicom_path") + "x", SOPInstanceUID=pl.lit("1.2.3.4"))


def test_frames_of_one_file_and_unreadable_files_are_accounted_for(tmp_path: Path) -> None:
    frames, unreadable = multi_frame("frames").point(2, 3, 4).point(2, 5, 6), ct("unreadable")
    unreadable.junk = {"a": b"", "b": b"text"}
    stage = Stage(tmp_path, [frames, unreadable])
    assert stage.read().success
    assert stage.sum_up(checks=OF_TABLE).success
    assert failing(stage) == {}
    tampered(stage, unreadable.uid, lambda t: t.filter(~pl.col("dicom_path").str.ends_with("/a")))
    assert stage.sum_up(checks=OF_TABLE).success
    assert failing(stage)["files_unaccounted"] == {unreadable.uid: "11 files of 12"}


def test_files_are_held_against_the_latest_time_they_were_read(tmp_path: Path) -> None:
    series = ct("grows")
    stage = Stage(tmp_path, [series])
    assert stage.read().success
    (stage.settings.series_root / series.uid / "late.dat").write_text("one more")
    assert stage.read().success
    assert stage.sum_up(checks=OF_TABLE).success
    assert failing(stage) == {}
    assert stage.unified().height == 11


# --- settings reach the checks --------------------------------------------------------------------


def test_checks_read_the_table_of_their_own_interim_root(stage: Stage, tmp_path: Path) -> None:
    elsewhere = SettingsResource(data=str(tmp_path), interim=str(stage.settings.interim))
    job = build_defs({"settings": elsewhere}).resolve_implicit_global_asset_job_def()
    key = dg.AssetCheckKey(dg.AssetKey("series_quality"), "key_not_unique")
    alone = job.get_subset(asset_selection=set(), asset_check_selection={key})
    result = alone.execute_in_process(instance=dg.DagsterInstance.ephemeral())
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.metadata["series_found"].value == 1
