"""The 55 columns of `01_create_meta_data.py`: its names, their order, and the right values."""

import ast
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from aneurysm_assets.schema.columns import LOCATIONS
from aneurysm_assets.schema.tables import LOCALIZERS_WITHOUT_IMAGE, UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_files import write_table
from aneurysm_assets.unified.one_file import export_file
from tests.schema import test_tables

TAGS = ["Modality_dicom" if tag == "Modality" else tag for tag in test_tables.TAGS]
COLUMNS = [
    *(*TAGS, "pixel_shape", "dicom_path", "SeriesInstanceUID"),
    *("PatientAge", "PatientSex", "Modality_train", *LOCATIONS, "Aneurysm Present"),
    *("coordinates", "location"),
    *("nii_path", "nii_shape", "nii_affine", "nii_header_pixdim"),
    *("cowseg_path", "cowseg_shape", "cowseg_affine", "cowseg_header_pixdim"),
]
AFFINE = [[2.0, 0.0, 0.0, -9.5], [0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 3.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
PIXDIM = [-1.0, 2.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]
BASILAR = {"localizer_index": 0, "x": 1.5, "y": 256.0, "location": "Basilar Tip"}


def image(number: int, **values: object) -> dict[str, object]:
    return {
        "SeriesInstanceUID": "1.2",
        "SOPInstanceUID": f"1.2.{number}",
        "dicom_path": f"series/1.2/{number}.dcm",
        "PatientAge": 60,
        "Modality_train": "MRA",
    } | values


def exported(tmp_path: Path, rows: list, lost: list = (), suffix: str = "csv") -> list[dict]:
    """Return the rows as pandas reads them: so did whoever read the script's."""
    settings = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path / "data")})
    for table, stem, content in (
        (UNIFIED_METADATA, settings.unified_table, rows),
        (LOCALIZERS_WITHOUT_IMAGE, settings.unplaced_table, lost),
    ):
        write_table(pl.DataFrame(list(content), schema=table.schema), table, stem)
    to = tmp_path / f"old.{suffix}"
    written = export_file(settings, to, "file")
    frame = pd.read_csv(to) if suffix == "csv" else pd.read_parquet(to)
    assert list(frame.columns) == COLUMNS
    assert len(COLUMNS) == 55
    assert written == len(frame)
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_lists_and_points_are_the_texts_that_the_script_wrote(tmp_path: Path, suffix: str) -> None:
    segmentation: dict[str, Any] = {
        "nii_path": "segmentations/1.2/1.2.nii",
        "nii_shape": [4, 5, 6],
        "nii_affine": [value for row in AFFINE for value in row],
        "nii_pixdim_all": PIXDIM,
    }
    header = {"Rows": 512, "Columns": 256, "PixelSpacing": [0.5, 0.25], "Modality_dicom": "MR"}
    (row,) = exported(
        tmp_path, [image(1, **header, **BASILAR, **segmentation, RescaleSlope=2.0)], suffix=suffix
    )
    root = f"{tmp_path}/data/raw"
    assert row["PixelSpacing"] == "[0.5, 0.25]"
    assert row["pixel_shape"] == "(512, 256)"
    assert row["coordinates"] == "{'x': 1.5, 'y': 256.0}"
    assert row["dicom_path"] == f"{root}/series/1.2/1.dcm"
    assert row["nii_path"] == f"{root}/segmentations/1.2/1.2.nii"
    assert ast.literal_eval(row["nii_shape"]) == (4, 5, 6)
    assert ast.literal_eval(row["nii_affine"]) == AFFINE
    assert ast.literal_eval(row["nii_header_pixdim"]) == PIXDIM
    assert (row["Modality_dicom"], row["Modality_train"], row["PatientAge"]) == ("MR", "MRA", 60)
    assert (row["location"], row["RescaleSlope"]) == ("Basilar Tip", 2.0)
    assert row["cowseg_path"] is None
    assert row["cowseg_shape"] is None


def test_a_file_of_frames_is_one_row_with_what_all_its_frames_share(tmp_path: Path) -> None:
    frames = [
        image(1, frame_index=i, ImagePositionPatient=[0.0, 0.0, 1.0 * i], PixelSpacing=[0.5, 0.5])
        for i in range(3)
    ]
    frames[0]["SliceThickness"] = frames[1]["SliceThickness"] = 2.0
    (row,) = exported(tmp_path, frames)
    assert row["PixelSpacing"] == "[0.5, 0.5]"
    assert row["ImagePositionPatient"] is None
    assert row["SliceThickness"] is None
    assert row["coordinates"] is None


def test_each_point_of_a_file_is_a_row_also_one_that_names_no_frame(tmp_path: Path) -> None:
    frames = [image(1, frame_index=i, **(BASILAR if i == 1 else {})) for i in range(2)]
    lost = {"SeriesInstanceUID": "1.2", "x": 3.0, "y": 4.5, "location": "Basilar Tip"}
    rows = exported(
        tmp_path,
        [*frames, image(2), image(3, **BASILAR), image(3, **BASILAR | {"localizer_index": 1})],
        [lost | {"SOPInstanceUID": "1.2.1"}, lost | {"SOPInstanceUID": "1.2.99"}],
    )
    assert [(row["SOPInstanceUID"], row["coordinates"]) for row in rows] == [
        ("1.2.1", "{'x': 1.5, 'y': 256.0, 'f': 1}"),
        ("1.2.1", "{'x': 3.0, 'y': 4.5}"),
        ("1.2.2", None),
        ("1.2.3", "{'x': 1.5, 'y': 256.0}"),
        ("1.2.3", "{'x': 1.5, 'y': 256.0}"),
    ]


def test_a_file_that_cannot_be_read_has_no_row(tmp_path: Path) -> None:
    rows = exported(tmp_path, [image(1), image(2, read_error="is no DICOM file")])
    assert [row["SOPInstanceUID"] for row in rows] == ["1.2.1"]
