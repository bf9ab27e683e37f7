"""The parts of `docs/` that are made from the schema, and how any part of a document is renewed.

What a table or a check is stands in `tables` and `problems`. Run this module with the folder of
the documents.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import (
    LOCALIZERS_WITHOUT_IMAGE,
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
    VOLUMES,
    Table,
)


def replace_generated(text: str, name: str, content: str) -> str:
    """Return a document in which the generated part of a name has new content.

    Parameters
    ----------
    text : str
        Markdown that holds the comments ``<!-- NAME: made by `COMMAND` -->`` and
        ``<!-- NAME: end -->``. Both stay; all between them is replaced.
    name : str
        The part.
    content : str
        What stands between the comments afterwards.

    Raises
    ------
    ValueError
        The two comments are not in the document.
    """
    part = re.compile(
        rf"(<!-- {re.escape(name)}: made by `[^`]+` -->\n).*?(<!-- {re.escape(name)}: end -->)",
        re.DOTALL,
    )
    if part.search(text) is None:
        raise ValueError(f"the document has no generated part {name!r}: two comments enclose it")
    # A function, because a backslash would have a meaning in a replacement text.
    return part.sub(lambda marks: f"{marks[1]}{content.rstrip()}\n\n{marks[2]}", text, count=1)


def tables_markdown() -> str:
    """Return every table with its columns' type, unit, source and description."""
    parts = [_table(table) for table in SERIES_TABLES]
    others = (LOCALIZERS_WITHOUT_IMAGE, VOLUMES, SERIES_QUALITY)
    return "\n".join([*parts, _unified(), *map(_table, others)])


def checks_markdown() -> str:
    """Return the asset checks with what they find, severity, tolerance and source."""
    rows = ["| check | severity | finds | tolerance | source |", "|---|---|---|---|---|"]
    rows += [
        f"| `{p.name}` | {p.severity} | {p.description} | {p.tolerance} | {p.source} |"
        for p in PROBLEMS
    ]
    return "\n".join(rows)


PARTS: Mapping[str, Callable[[], str]] = {"tables": tables_markdown, "checks": checks_markdown}
"""How each part is made; it stands in the document of its name."""


def current_document(folder: Path, name: str) -> str:
    """Return the text of the document `NAME.md` of a folder, with its part made anew.

    Raises
    ------
    ValueError
        The document has no such part.
    """
    text = (folder / f"{name}.md").read_text(encoding="utf-8")
    return replace_generated(text, name, PARTS[name]())


def _table(table: Table) -> str:
    rows = ["| column | type | unit | source | what |", "|---|---|---|---|---|"]
    rows += [
        f"| `{c.name}` | {c.type_name} | {c.unit} | {c.source} | {c.description} |"
        for c in table.columns
    ]
    return _section(table, table.description, rows)


def _unified() -> str:
    """Return the unified table's columns by where they come from: they are described above."""
    table_of = {column.name: table.name for table in SERIES_TABLES for column in table.columns}
    suffixes = {"_dicom": "dicom_tags", "_train": "labels"}
    rows = ["| column | type | from |", "|---|---|---|"]
    for column in UNIFIED_METADATA.columns:
        origin = next(
            (table for suffix, table in suffixes.items() if column.name.endswith(suffix)),
            table_of.get(column.name, column.description),
        )
        rows.append(f"| `{column.name}` | {column.type_name} | {origin} |")
    key = ", ".join(UNIFIED_METADATA.key)
    return _section(UNIFIED_METADATA, f"{UNIFIED_METADATA.description} The key is ({key}).", rows)


def _section(table: Table, description: str, rows: Sequence[str]) -> str:
    return "\n".join([f"## `{table.name}`", "", description, "", *rows, ""])


if __name__ == "__main__":
    documents = Path(sys.argv[1])
    for document in PARTS:
        path = documents / f"{document}.md"
        path.write_text(current_document(documents, document), encoding="utf-8")
