"""The code location as Dagster sees it; run as a module, this file renews the snapshot."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.instance import InstanceRef
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.workspace.load_target import PyProjectFileTarget, WorkspaceFileTarget

import aneurysm_assets
from aneurysm_assets.definitions import build_defs, defs
from aneurysm_assets.defs.assets.unified_checks import check_specs
from aneurysm_assets.defs.pages import PAGES
from aneurysm_assets.errors import InputError
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import ALL_TABLES
from tests.graph import Graph
from tests.processes import call
from tests.record import SERIES_TABLES

PACKAGE = Path(aneurysm_assets.__file__).parent
SNAPSHOT = Path(__file__).with_name("definitions_snapshot.json")

RAW = {"raw/series", "raw/train_csv", "raw/train_localizers_csv", "raw/segmentations"}


def code_of(spec: dg.AssetSpec) -> list[Path]:
    references = spec.metadata["dagster/code_references"].code_references
    return [Path(reference.file_path) for reference in references]


def described(spec: dg.AssetSpec, policy: dg.BackfillPolicy | None) -> dict[str, Any]:
    schema = spec.metadata.get("dagster/column_schema")
    partitions = spec.partitions_def
    return {
        "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "code_version": spec.code_version,
        "partitions": f"{type(partitions).__name__} {partitions.name}" if partitions else None,
        "runs_of_a_backfill": policy.policy_type.value if policy else None,
        "description": spec.description,
        "owners": list(spec.owners),
        "docs": {
            label.removeprefix("docs/"): value.url
            for label, value in spec.metadata.items()
            if label.startswith("docs/")
        },
        "code": [reference.relative_to(PACKAGE).as_posix() for reference in code_of(spec)],
        "columns": {column.name: column.type for column in schema.columns} if schema else None,
    }


def current() -> dict[str, Any]:
    graph = defs.resolve_asset_graph()
    return {
        spec.key.to_user_string(): described(spec, graph.get(spec.key).backfill_policy)
        for spec in sorted(defs.resolve_all_asset_specs(), key=lambda s: s.key.to_user_string())
    }


def test_the_asset_specs_are_those_of_the_snapshot() -> None:
    recorded = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert current() == recorded, "if it is meant so: python -m tests.defs.test_definitions"


def test_with_a_number_of_series_a_run_only_a_backfill_of_partitions_is_split(monkeypatch) -> None:
    monkeypatch.setenv("ANEURYSM_SERIES_PER_RUN", "50")
    split = build_defs().resolve_asset_graph()
    for key in split.materializable_asset_keys:
        policy = split.get(key).backfill_policy
        assert policy.max_partitions_per_run == (50 if split.get(key).is_partitioned else None), key
    monkeypatch.delenv("ANEURYSM_SERIES_PER_RUN")
    whole = build_defs().resolve_asset_graph()
    policies = {whole.get(key).backfill_policy for key in whole.materializable_asset_keys}
    assert policies == {dg.BackfillPolicy.single_run()}


def test_a_number_of_series_a_run_that_is_none_keeps_the_project_from_loading(monkeypatch) -> None:
    monkeypatch.setenv("ANEURYSM_SERIES_PER_RUN", "fifty")
    with pytest.raises(InputError, match="ANEURYSM_SERIES_PER_RUN='fifty'"):
        build_defs()


def test_lineage_begins_at_the_files() -> None:
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.external_asset_keys} == RAW
    roots = {key for key in graph.get_all_asset_keys() if not graph.get(key).parent_keys}
    assert {key.to_user_string() for key in roots} == RAW
    upstream = graph.upstream_key_iterator(dg.AssetKey("unified_metadata"))
    assert {key.to_user_string() for key in upstream} == RAW | set(SERIES_TABLES)


def test_no_partitioned_asset_depends_on_another() -> None:
    graph = defs.resolve_asset_graph()
    partitioned = {key for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned}
    assert {key.to_user_string() for key in partitioned} == {*SERIES_TABLES, "series_preview"}
    for key in partitioned:
        assert not graph.get(key).parent_keys & partitioned


def test_every_column_of_every_table_is_shown_with_its_type_and_description() -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    for table in ALL_TABLES:
        shown = specs[table.name].metadata["dagster/column_schema"].columns
        assert [(c.name, c.type) for c in shown] == [
            (column.name, column.type_name) for column in table.columns
        ]
        assert all(c.description for c in shown)


def test_every_asset_says_what_it_is_where_its_code_is_and_where_to_read_on() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.group_name != "default", spec.key
        assert spec.kinds, spec.key
        links = [v.url for label, v in spec.metadata.items() if label.startswith("docs/")]
        assert links, spec.key
        assert all(link.startswith("https://") for link in links)
        assert code_of(spec), spec.key
        assert all(path.is_relative_to(PACKAGE) and path.is_file() for path in code_of(spec))


def test_every_asset_that_is_made_says_why_how_to_load_it_and_what_next() -> None:
    made = {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}
    assert set(PAGES) == made
    for spec in defs.resolve_all_asset_specs():
        if spec.key.to_user_string() in made:
            what, *parts = spec.description.split("\n\n**")
            assert what.endswith(".")
            assert [part.partition(":**")[0] for part in parts] == ["Why", "Load it", "Next"]


def test_what_a_page_says_to_load_loads_it(data, monkeypatch) -> None:
    graph = Graph(data)
    graph.run_all(*SERIES_TABLES)
    graph.run("unified_metadata", "volumes", "series_quality")
    monkeypatch.chdir(data.parent)
    loaded = 0
    for name, page in PAGES.items():
        if "import" in page.load:
            variables: dict[str, Any] = {}
            exec(page.load, variables)
            *_, last = variables.values()
            assert isinstance(last, pl.DataFrame), name
            assert last.height > 0, name
            loaded += 1
    assert loaded == 7


def test_the_code_references_point_at_the_line_of_the_asset() -> None:
    (spec,) = (s for s in defs.resolve_all_asset_specs() if s.key.path == ["dicom_tags"])
    (reference,) = spec.metadata["dagster/code_references"].code_references
    lines = Path(reference.file_path).read_text(encoding="utf-8").splitlines()
    assert (
        "dicom_tags"
        in "".join(lines[reference.line_number - 1 : reference.line_number + 1]).lower()
    )


@pytest.mark.parametrize(
    ("job", "assets"),
    [
        ("materialize_series", set(SERIES_TABLES)),
        ("combine", {"unified_metadata", "volumes", "series_quality"}),
        ("draw_series_previews", {"series_preview"}),
        ("write_dataset_report", {"dataset_report"}),
    ],
)
def test_a_job_by_a_telling_name_takes_the_assets_that_belong_together(job, assets) -> None:
    resolved = defs.resolve_job_def(job)
    selected = resolved.asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in selected} == assets
    assert resolved.description


def test_the_job_that_combines_also_checks() -> None:
    checks = defs.resolve_job_def("combine").asset_layer.asset_graph.asset_check_keys
    assert len(checks) == len(PROBLEMS) + len(("shares_geometry", *check_specs()))


def test_resources_can_be_put_in_place_of_the_default_ones() -> None:
    resource = SettingsResource(data="/somewhere")
    assert build_defs({"settings": resource}).resources["settings"] is resource
    assert set(defs.resources) == {"settings", "reporter"}


def test_steps_run_in_the_process_of_their_run() -> None:
    assert defs.executor is dg.in_process_executor


# As Dagster itself finds it.


@pytest.mark.parametrize(
    "target", [WorkspaceFileTarget(["workspace.yaml"]), PyProjectFileTarget("pyproject.toml")]
)
def test_both_files_name_the_same_location(target, project, monkeypatch) -> None:
    monkeypatch.chdir(project)
    (origin,) = target.create_origins()
    assert isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin)
    assert origin.location_name == "aneurysm_assets"
    assert origin.loadable_target_origin.module_name == "aneurysm_assets.definitions"


@pytest.mark.parametrize("arguments", [["-w", "workspace.yaml"], []])
def test_dagster_loads_the_location_from_the_projects_root(arguments, project, tmp_path) -> None:
    # Its state would else stand in the copy of the project that other tests expect as it came.
    data = tmp_path / "data"
    validate = ("dagster", "definitions", "validate", *arguments)
    checked = call(*validate, cwd=project, ANEURYSM_DATA=data)
    assert checked.returncode == 0, checked.stderr
    assert "Validation successful for code location aneurysm_assets." in checked.stdout


@pytest.fixture
def quiet(project, tmp_path) -> dict[str, Path]:
    """Return variables with which `dg` sends nothing and leaves nothing in the user's home."""
    shutil.copy(project / "dagster.yaml", tmp_path)
    return {"HOME": tmp_path, "DAGSTER_HOME": tmp_path, "ANEURYSM_DATA": tmp_path / "data"}


def test_dg_checks_the_definitions(project, quiet) -> None:
    checked = call("dg", "check", "defs", cwd=project, **quiet)
    assert checked.returncode == 0, checked.stderr
    assert "All definitions loaded successfully." in checked.stdout


def test_dg_lists_every_asset_check_and_job(project, quiet) -> None:
    listed = call("dg", "list", "defs", "--json", cwd=project, **quiet)
    assert listed.returncode == 0, listed.stderr
    found = json.loads(listed.stdout)
    assert {asset["asset_key"] for asset in found["assets"]} == set(current())
    assert {job["name"] for job in found["jobs"]} == {job.name for job in defs.jobs}
    assert len(found["asset_checks"]) == len(PROBLEMS) + len(("shares_geometry", *check_specs()))


def test_dagster_yaml_is_one_that_dagster_reads(project, tmp_path) -> None:
    reference = InstanceRef.from_dir(str(tmp_path), config_dir=str(project))
    assert reference.storage_data.class_name == "DataRootStorage"
    assert reference.compute_logs_data.class_name == "DataRootComputeLogManager"


if __name__ == "__main__":
    SNAPSHOT.write_text(
        json.dumps(current(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def test_the_line_of_the_document_gives_every_asset_its_owners() -> None:
    document = PACKAGE.parent.joinpath("docs", "dagster.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"`(defs\.map_resolved_asset_specs\(.*?\))`\.", document)
    owned = eval(line, {"defs": defs})
    specs = owned.resolve_all_asset_specs()
    assert {spec.key for spec in specs} == {s.key for s in defs.resolve_all_asset_specs()}
    assert {tuple(spec.owners) for spec in specs} == {("team:imaging",)}
    assert not any(spec.owners for spec in defs.resolve_all_asset_specs())
