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

TIERS = (
    ("errors", "limits", "messages", "uid", "schema"),
    ("storage", "settings", "parallel", "optional_dependencies"),
    ("volumes", "raw", "dicom", "nifti"),
    ("unified", "quality", "preview", "loading", "report", "sample"),
    ("dagster_internals", "instance", "runs", "cluster"),
    ("defs", "definitions", "cli"),
)
"""From the bottom: words, machine, one series, the data set, what Dagster records, what is seen."""

WITHOUT_DAGSTER = 4
"""So many tiers from the bottom know nothing of Dagster."""

TIER_OF = {room: number for number, rooms in enumerate(TIERS) for room in rooms}

DOORS = {"aneurysm_assets.dagster_internals", "aneurysm_assets.cluster.dagster_internals"}
"""They alone import what Dagster does not promise to keep."""

PRIVATE = ("dagster._", "dagster_shared", "dagster_celery.", "dagster_postgres.")

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


def room(module: str) -> str:
    """Return the folder, or the flat module, that a module of the package stands in."""
    return module.split(".")[1]


def rooms_imported() -> dict[str, set[str]]:
    """Return for each room the other rooms that its modules import."""
    found: dict[str, set[str]] = {room(name): set() for name in MODULES if "." in name}
    for name, path in MODULES.items():
        if "." in name:
            found[room(name)] |= {
                room(imported)
                for _, imported in imports(path)
                if imported.startswith("aneurysm_assets.")
            } - {room(name)}
    return found


def test_each_folder_stands_in_a_tier_and_imports_run_down_only() -> None:
    for name, imported in rooms_imported().items():
        for other in imported:
            assert TIER_OF[other] <= TIER_OF[name], f"{name} imports {other}"


def test_no_folders_import_each_other_in_a_circle() -> None:
    left = rooms_imported()
    while left:
        free = {name for name, imported in left.items() if not imported & left.keys()}
        assert free, f"a circle among {sorted(left)}"
        left = {name: imported for name, imported in left.items() if name not in free}


def test_nothing_imports_the_command_line_and_only_the_composition_the_assets() -> None:
    imported = rooms_imported()
    assert [name for name, others in imported.items() if "cli" in others] == []
    assert [name for name, others in imported.items() if "defs" in others] == ["definitions"]
    assert [name for name, others in imported.items() if "cluster" in others] == []


def test_what_reads_and_joins_data_loads_no_dagster_be_it_through_others() -> None:
    rooms = {name for rooms in TIERS[:WITHOUT_DAGSTER] for name in rooms}
    names = [name for name in MODULES if "." in name and room(name) in rooms]
    for name, packages in loaded_by(*names).items():
        assert not [package for package in packages if package.startswith("dagster")], name


def test_private_names_of_dagster_come_in_by_their_doors_only() -> None:
    for name, path in MODULES.items():
        private = {
            imported
            for _, imported in imports(path)
            if imported.startswith(PRIVATE)
            and not imported.removeprefix("dagster_postgres.").startswith(("Dagster", "Postgres"))
        }
        assert bool(private) == (name in DOORS), f"{name} imports {private}"


def test_at_most_ten_modules_lie_flat_and_each_folder_says_what_belongs_in_it() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 10
    for folder in {path.parent for path in MODULES.values()}:
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        assert said.count(".") >= 2, folder


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
    assert "pip install 'aneurysm-assets[preview]'" in result.stdout
    assert "pip install 'aneurysm-assets[report]'" in result.stdout


def test_whoever_hands_out_the_work_waits_for_no_reader_of_dicom_or_nifti() -> None:
    packages = loaded_by("aneurysm_assets.definitions")["aneurysm_assets.definitions"]
    assert "dagster" in packages
    assert {"pydicom", "nibabel", "pandas", "matplotlib", "PIL"}.isdisjoint(packages)
