from pathlib import Path

import pytest

from aneurysm_assets.schema.documentation import PARTS, current_document, replace_generated
from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import ALL_TABLES, LOCALIZERS_WITHOUT_IMAGE

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PARTS)
def test_the_documents_are_those_of_the_code(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert current_document(DOCS, name) == text, "run `make docs`"


def test_the_documents_name_every_column_of_every_table() -> None:
    text = (DOCS / "tables.md").read_text(encoding="utf-8")
    for table in (*ALL_TABLES, LOCALIZERS_WITHOUT_IMAGE):
        section = text.split(f"## `{table.name}`")[1].split("\n## ")[0]
        assert [name for name in table.column_names if f"| `{name}` |" not in section] == []


def test_the_documents_name_every_problem_with_severity_tolerance_and_source() -> None:
    text = (DOCS / "checks.md").read_text(encoding="utf-8")
    part = text.split("<!-- checks: made by `make docs` -->")[1].split("<!-- checks: end -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line]
    assert rows[0] == ["check", "severity", "finds", "tolerance", "source"]
    assert rows[2:] == [
        [f"`{p.name}`", p.severity, p.description, p.tolerance, p.source] for p in PROBLEMS
    ]


def test_a_document_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="tables"):
        replace_generated("# nothing to fill in", "tables", "| a |")


def test_only_the_part_of_that_name_is_replaced_and_text_is_taken_as_it_is() -> None:
    text = (
        "before\n<!-- a: made by `make a` -->\nold\n<!-- a: end -->\nbetween\n"
        "<!-- b: made by `make b` -->\nkept\n<!-- b: end -->\nafter\n"
    )
    replaced = replace_generated(text, "a", r"C:\1")
    assert replaced == text.replace("old\n", "C:\\1\n\n")
    assert replace_generated(replaced, "a", r"C:\1") == replaced
