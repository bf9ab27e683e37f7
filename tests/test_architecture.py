"""The floors of the house: imports point down, and what is light stays light."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aneurysm_assets

PACKAGE = Path(aneurysm_assets.__file__).parent
MODULES = {
    ".".join(("aneurysm_assets", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

GROUND = (
    "extraction",
    "problems",
    "tables",
    "location",
    "atomic_files",
    "bucket_files",
    "patience",
    "store",
    "threads",
    "sources",
    "settings",
    "workers",
    "worker_pool",
    "worker_process",
    "writers",
    "fingerprints",
    "inquiry",
    "placement",
    "combine",
    "assessment",
    "completion",
    "extras",
    "export",
    "run_log",
    "preview",
    "report",
    "sample",
)
GROUND_FLOOR = [
    name for name in MODULES if any(f"{name}.".startswith(f"aneurysm_assets.{g}.") for g in GROUND)
]

HEAVY = ("dagster", "polars", "pyarrow", "pydicom", "nibabel", "numpy", "sqlalchemy", "rich")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (level, module) of every import of a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield node.level, module
            yield from ((node.level, f"{module}.{alias.name}") for alias in node.names)


def loaded_by(*modules: str) -> dict[str, list[str]]:
    """Return which top-level packages are loaded after each import, in a fresh interpreter."""
    program = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        f"for name in {list(modules)!r}:\n"
        "    importlib.import_module(name)\n"
        "    loaded[name] = sorted({module.partition('.')[0] for module in sys.modules})\n"
        "print(json.dumps(loaded))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded: dict[str, list[str]] = json.loads(result.stdout)
    return loaded


def test_the_ground_floor_is_all_there() -> None:
    assert {f"aneurysm_assets.{name}" for name in GROUND} <= set(GROUND_FLOOR)
    assert {"aneurysm_assets.dicom.header", "aneurysm_assets.sample.small"} <= set(GROUND_FLOOR)


def test_no_module_of_the_ground_floor_loads_dagster_be_it_through_others() -> None:
    for name, packages in loaded_by(*GROUND_FLOOR).items():
        assert not [package for package in packages if package.startswith("dagster")], name


@pytest.mark.parametrize("name", GROUND_FLOOR)
def test_no_module_of_the_ground_floor_imports_what_is_above_it(name: str) -> None:
    for _, imported in imports(MODULES[name]):
        assert not imported.startswith("dagster")
        if imported.startswith("aneurysm_assets."):
            assert imported.split(".")[1] in GROUND


def test_extraction_does_not_know_how_tables_are_stored_or_work_is_shared_out() -> None:
    above = {f"aneurysm_assets.{name}" for name in ("store", "workers", "writers", "combine")}
    for name, path in MODULES.items():
        if name.startswith("aneurysm_assets.extraction"):
            assert above.isdisjoint(imported for _, imported in imports(path)), name


@pytest.mark.parametrize("name", MODULES)
def test_no_import_is_relative(name: str) -> None:
    assert not [module for level, module in imports(MODULES[name]) if level]


def test_worker_processes_which_import_the_cli_load_nothing_heavy_by_it() -> None:
    packages = loaded_by("aneurysm_assets.cli.main")["aneurysm_assets.cli.main"]
    assert "click" in packages
    assert set(HEAVY).isdisjoint(packages)


def test_importing_the_package_alone_loads_nothing_else_of_it() -> None:
    packages = loaded_by("aneurysm_assets")["aneurysm_assets"]
    assert {*HEAVY, "click"}.isdisjoint(packages)


def test_without_the_extras_the_definitions_load_and_what_needs_them_says_so() -> None:
    program = (
        "import sys\n"
        "cluster = ('celery', 'dagster_celery', 'dagster_postgres', 'psycopg2', 'redis')\n"
        "for name in ('PIL', 'gdcm', 'matplotlib', *cluster):\n"
        "    sys.modules[name] = None\n"
        "from aneurysm_assets.definitions import defs\n"
        "assert len(list(defs.resolve_all_asset_specs())) > 6\n"
        "from aneurysm_assets.optional_dependencies import require_matplotlib, require_pillow\n"
        "for require in (require_pillow, require_matplotlib):\n"
        "    try:\n"
        "        require()\n"
        "    except Exception as error:\n"
        "        print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "pip install -e '.[preview]'" in result.stdout
    assert "pip install -e '.[report]'" in result.stdout


def test_whoever_hands_out_the_work_waits_for_no_reader_of_dicom_or_nifti() -> None:
    packages = loaded_by("aneurysm_assets.definitions")["aneurysm_assets.definitions"]
    assert "dagster" in packages
    assert {"pydicom", "nibabel", "pandas", "matplotlib", "PIL"}.isdisjoint(packages)
