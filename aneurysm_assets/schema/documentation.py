"""The README's parts that are made from the code: run this module with the README's path.

Each part stands between two comments that name it; a test keeps what stands there current.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import (
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
    Column,
    Table,
)


def tables_markdown() -> str:
    """Return every table with its columns' type, unit, source and description."""
    parts = [_table(table) for table in SERIES_TABLES]
    return "\n".join([*parts, _unified(), _table(SERIES_QUALITY)])


def checks_markdown() -> str:
    """Return the asset checks with what they find, severity, tolerance and source."""
    rows = ["| check | severity | finds | tolerance | source |", "|---|---|---|---|---|"]
    rows += [
        f"| `{p.name}` | {p.severity} | {p.description} | {p.tolerance} | {p.source} |"
        for p in PROBLEMS
    ]
    return "\n".join(rows) + "\n"


PARTS: Mapping[str, Callable[[], str]] = {"tables": tables_markdown, "checks": checks_markdown}


def with_current_parts(text: str) -> str:
    """Return a document with each of its generated parts made anew.

    Raises
    ------
    ValueError
        A part's two comments are not there.
    """
    for name, make in PARTS.items():
        begin, end = f"<!-- {name}: made by `make docs` -->", f"<!-- {name}: end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if pattern.search(text) is None:
            raise ValueError(f"the document has no {begin} ... {end}")
        # Not a replacement text, in which a backslash would have a meaning.
        before, after = pattern.split(text, maxsplit=1)
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


def _table(table: Table) -> str:
    head = f"#### `{table.name}`\n\n{table.description}\n\n"
    rows = ["| column | type | unit | source | what |", "|---|---|---|---|---|"]
    rows += [
        f"| `{c.name}` | {_dtype(c)} | {c.unit} | {c.source} | {c.description} |"
        for c in table.columns
    ]
    return head + _folded(rows)


def _folded(rows: Sequence[str]) -> str:
    """Return a table that is opened by a click, after how many lines it has."""
    lines = "\n".join(rows)
    return f"<details>\n<summary>{len(rows) - 2} columns</summary>\n\n{lines}\n\n</details>\n"


def _unified() -> str:
    """Return the unified table's columns by where they come from: they are described above."""
    named = {column.name: table.name for table in SERIES_TABLES for column in table.columns}
    rows = ["| column | type | from |", "|---|---|---|"]
    for column in UNIFIED_METADATA.columns:
        suffixed = {"_dicom": "dicom_tags", "_train": "labels"}
        origin = next(
            (table for suffix, table in suffixed.items() if column.name.endswith(suffix)),
            named.get(column.name, column.description),
        )
        rows.append(f"| `{column.name}` | {_dtype(column)} | {origin} |")
    return (
        f"#### `{UNIFIED_METADATA.name}`\n\n{UNIFIED_METADATA.description} The key is "
        f"({', '.join(UNIFIED_METADATA.key)}).\n\n{_folded(rows)}"
    )


def _dtype(column: Column) -> str:
    return str(column.dtype).replace("shape=", "").replace(",)", ")")


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_current_parts(document.read_text(encoding="utf-8")), encoding="utf-8")
