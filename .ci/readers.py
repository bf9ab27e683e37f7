"""Whether old and new readers give every cell of the unified table as it is.

Makes the table of the sample, reads it in a new environment per reader with that reader's own
default call, compares cell by cell with pyarrow, and prints what came out. Exits
with 1 where a cell differs. Parts of names of readers as arguments choose some.
"""

import json
import math
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PANDAS = "import pandas; frame = pandas.read_parquet(path{})"
RECORDS = "rows = frame.astype(object).where(frame.notna(), None).to_dict('records')"


@dataclass(frozen=True)
class Reader:
    """A program that opens a table, and what it needs.

    Attributes
    ----------
    name : str
        For the document.
    needs : tuple of str
        What pip installs.
    program : str
        Makes `rows`, a list of dicts, of the file `path`.
    """

    name: str
    needs: tuple[str, ...]
    program: str


READERS = (
    Reader(
        "pandas 2.2.0 with pyarrow 14",
        ("pandas==2.2.0", "pyarrow==14.0.2", "numpy<2"),
        f"{PANDAS.format('')}; {RECORDS}",
    ),
    Reader(
        "pandas 2.2 with pyarrow 18",
        ("pandas==2.2.3", "pyarrow==18.0.0"),
        f"{PANDAS.format('')}; {RECORDS}",
    ),
    Reader("pandas, newest", ("pandas", "pyarrow"), f"{PANDAS.format('')}; {RECORDS}"),
    Reader(
        "fastparquet 2024.2 (pandas 2.2)",
        ("pandas==2.2.0", "fastparquet==2024.2.0", "numpy<2"),
        f"""{PANDAS.format(', engine="fastparquet"')}; {RECORDS}""",
    ),
    Reader(
        "fastparquet, newest",
        ("fastparquet",),
        f"import fastparquet; frame = fastparquet.ParquetFile(path).to_pandas(); {RECORDS}",
    ),
    Reader(
        "polars 1.0",
        ("polars==1.0.0",),
        "import polars; rows = polars.read_parquet(path).to_dicts()",
    ),
    Reader(
        "polars, newest", ("polars",), "import polars; rows = polars.read_parquet(path).to_dicts()"
    ),
    *(
        Reader(
            name,
            needs,
            "import duckdb; found = duckdb.sql(f\"FROM '{path}'\"); "
            "rows = [dict(zip(found.columns, row)) for row in found.fetchall()]",
        )
        for name, needs in (("DuckDB 1.0", ("duckdb==1.0.0",)), ("DuckDB, newest", ("duckdb",)))
    ),
    *(
        Reader(
            name,
            needs,
            "import datasets, tempfile; rows = list(datasets.load_dataset('parquet', "
            "data_files=path, split='train', cache_dir=tempfile.mkdtemp()))",
        )
        for name, needs in (
            ("HF datasets 2.21", ("datasets==2.21.0", "pyarrow==15.0.2", "numpy<2")),
            ("HF datasets, newest", ("datasets",)),
        )
    ),
)

_TELL = """
import json, sys
path = sys.argv[1]
{program}
def plain(value):
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if value is None or value != value else value
print(json.dumps([{{name: plain(value) for name, value in row.items()}} for row in rows]))
"""


def main(chosen: list[str]) -> int:
    """Read with each reader; return the exit status."""
    readers = [r for r in READERS if not chosen or any(name in r.name for name in chosen)]
    with tempfile.TemporaryDirectory() as folder:
        table = _table(Path(folder))
        truth = [
            {name: _plain(value) for name, value in row.items()}
            for row in pq.read_table(table).to_pylist()
        ]
        print("| reader | cells |\n|---|---|")
        with ThreadPoolExecutor(1) as pool:
            results = pool.map(lambda r: _read(Path(folder), r, table, truth), readers)
            worst = 0
            for reader, problem in zip(readers, results, strict=True):
                print(f"| {reader.name} | {problem or 'all as they are'} |", flush=True)
                worst |= bool(problem)
    return worst


def _table(folder: Path) -> Path:
    command = [sys.executable, "-m", "aneurysm_assets.cli.main"]
    subprocess.run([*command, "sample", folder / "data"], check=True, stdout=subprocess.DEVNULL)
    # Its sample has a series that cannot be read: exit status 1.
    subprocess.run([*command, "run", "--data", folder / "data"], check=False, capture_output=True)
    return folder / "data" / "interim" / "dicom_metadata_with_csv.parquet"


def _read(folder: Path, reader: Reader, table: Path, truth: list[dict[str, Any]]) -> str:
    """Return what is wrong with what a reader gives; empty where nothing is."""
    python = folder / reader.name.replace(" ", "_") / "bin" / "python"
    venv.create(python.parent.parent, symlinks=True)
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    install += ["--no-compile", "--disable-pip-version-check"]
    installed = subprocess.run(
        [*install, *reader.needs], check=False, capture_output=True, text=True
    )
    if installed.returncode:
        return f"cannot be installed: {installed.stderr.strip().splitlines()[-1]}"
    told = subprocess.run(
        [python, "-c", _TELL.format(program=reader.program), table],
        check=False,
        capture_output=True,
        text=True,
    )
    if told.returncode:
        return f"fails: {told.stderr.strip().splitlines()[-1]}"
    rows = json.loads(told.stdout.splitlines()[-1])
    if len(rows) != len(truth):
        return f"{len(rows)} rows of {len(truth)}"
    wrong = sorted(set(_differing(rows, truth)))
    return f"other values in {', '.join(wrong)}" if wrong else ""


def _differing(rows: list[dict[str, Any]], truth: list[dict[str, Any]]) -> Iterator[str]:
    for row, right in zip(rows, truth, strict=True):
        for name, value in right.items():
            if name not in row or row[name] != value:
                yield name


def _plain(value: Any) -> Any:  # noqa: ANN401 - a cell
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
