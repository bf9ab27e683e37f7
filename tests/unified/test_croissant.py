"""`croissant.json`: MLCommons' own library takes it, and reads the table by it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aneurysm_assets.schema.tables import UNIFIED_METADATA
from aneurysm_assets.storage.table_files import StoredTable, write_table
from aneurysm_assets.unified.croissant import CROISSANT, croissant_of

ROW = {
    "SeriesInstanceUID": "1.2",
    "SOPInstanceUID": "1.2.3",
    "Rows": 512,
    "PixelSpacing": [0.5, 0.25],
    "RescaleSlope": 1.5,
    "is_scout": False,
    "Left Middle Cerebral Artery": 1,
}


# In a process of its own: it brings a handler of logs that closes the standard error it found.
MLCROISSANT = """
import json, sys
from mlcroissant import Dataset

data = Dataset(jsonld=sys.argv[1])
found = data.metadata.ctx.issues
rows = list(data.records("images")) if sys.argv[2] == "with rows" else []
told = {"errors": list(found.errors), "warnings": list(found.warnings), "rows": rows}
print(json.dumps(told, default=lambda v: v.decode() if isinstance(v, bytes) else v.tolist()))
"""


def told_by_mlcroissant(root: Path, *, rows: bool = False) -> dict[str, Any]:
    """Return what MLCommons' library finds wrong, and the rows that it reads."""
    command = [sys.executable, "-c", MLCROISSANT, root / CROISSANT, "with rows" if rows else ""]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def described(root: Path, stored: StoredTable) -> dict[str, Any]:
    content = croissant_of(stored)
    (root / CROISSANT).write_bytes(content)
    return json.loads(content)


@pytest.fixture
def stored(tmp_path: Path) -> StoredTable:
    frame = pl.DataFrame([ROW], schema=UNIFIED_METADATA.schema)
    return write_table(frame, UNIFIED_METADATA, tmp_path / "dicom_metadata_with_csv")


def test_mlcroissant_finds_no_error_and_no_warning(stored, tmp_path: Path) -> None:
    described(tmp_path, stored)
    told = told_by_mlcroissant(tmp_path)
    assert told["errors"] == []
    recommended = ("citeAs", "creator")  # whose the values are, we cannot know
    unforeseen = [w for w in told["warnings"] if not any(name in w for name in recommended)]
    assert unforeseen == []


def test_mlcroissant_reads_the_rows_of_the_table_by_it(stored, tmp_path: Path) -> None:
    described(tmp_path, stored)
    (row,) = told_by_mlcroissant(tmp_path, rows=True)["rows"]
    assert {name: row[f"images/{name.replace(' ', '_')}"] for name in ROW} == ROW


def test_every_column_is_a_field_with_its_type_unit_and_source(stored, tmp_path: Path) -> None:
    (records,) = described(tmp_path, stored)["recordSet"]
    fields = {field["name"]: field for field in records["field"]}
    assert list(fields) == list(UNIFIED_METADATA.column_names)
    assert fields["PixelSpacing"]["isArray"] is True
    assert fields["PixelSpacing"]["dataType"] == "sc:Float"
    assert "Unit: mm. Source: (0028,0030)" in fields["PixelSpacing"]["description"]
    types = [fields[name]["dataType"] for name in ("Rows", "is_scout", "location", "nii_shape")]
    assert types == ["sc:Integer", "sc:Boolean", "sc:Text", "sc:Integer"]


def test_the_digest_is_that_of_the_file_also_of_a_csv(tmp_path: Path) -> None:
    stem = tmp_path / "dicom_metadata_with_csv"
    (tmp_path / "dicom_metadata_with_csv.parquet").mkdir()
    stored = write_table(UNIFIED_METADATA.schema.to_frame(), UNIFIED_METADATA, stem)
    found = described(tmp_path, stored)
    (file,) = found["distribution"]
    content = (tmp_path / file["contentUrl"]).read_bytes()
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert file["contentSize"] == f"{len(content)} B"
    assert file["encodingFormat"] == "text/csv"
    (spacing,) = (f for f in found["recordSet"][0]["field"] if f["name"] == "PixelSpacing")
    assert (spacing["dataType"], "isArray" in spacing) == ("sc:Text", False)
    assert told_by_mlcroissant(tmp_path)["errors"] == []
