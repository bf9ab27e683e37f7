from pathlib import Path

import pytest

from aneurysm_assets.schema.documentation import with_current_parts
from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import ALL_TABLES

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_tables_are_those_of_the_code() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_current_parts(text) == text, "run `make docs`"


def test_the_readme_names_every_column_of_every_table() -> None:
    text = README.read_text(encoding="utf-8")
    for table in ALL_TABLES:
        section = text.split(f"#### `{table.name}`")[1].split("####")[0]
        assert [name for name in table.column_names if f"| `{name}` |" not in section] == []


def test_the_readme_names_every_problem_with_severity_tolerance_and_source() -> None:
    text = README.read_text(encoding="utf-8")
    part = text.split("<!-- checks: made by `make docs` -->")[1].split("<!-- checks: end -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line]
    assert rows[0] == ["check", "severity", "finds", "tolerance", "source"]
    assert rows[2:] == [
        [f"`{p.name}`", p.severity, p.description, p.tolerance, p.source] for p in PROBLEMS
    ]


def test_a_document_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="tables"):
        with_current_parts("# nothing to fill in")
