"""`croissant.json`: MLCommons' own library takes it, and reads the table by it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlcroissant import Dataset

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
    issues = Dataset(jsonld=tmp_path / CROISSANT).metadata.ctx.issues
    assert not issues.errors
    recommended = ("citeAs", "creator")  # whose the values are, we cannot know
    assert [w for w in issues.warnings if not any(name in w for name in recommended)] == []


def test_mlcroissant_reads_the_rows_of_the_table_by_it(stored, tmp_path: Path) -> None:
    described(tmp_path, stored)
    (row,) = Dataset(jsonld=tmp_path / CROISSANT).records("images")
    for name, value in ROW.items():
        found = row[f"images/{name.replace(' ', '_')}"]
        found = found.decode() if isinstance(found, bytes) else found
        assert (list(found) if isinstance(value, list) else found) == value


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
    assert not Dataset(jsonld=tmp_path / CROISSANT).metadata.ctx.issues.errors
