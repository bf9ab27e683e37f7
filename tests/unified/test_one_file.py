"""The unified table as one file: what each row of it is, and that nothing else is replaced."""

import csv
import json
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from aneurysm_assets.errors import InputError
from aneurysm_assets.schema.tables import SERIES_QUALITY, UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_files import write_table
from aneurysm_assets.unified.one_file import PER_SERIES, export_file

AFFINE = [2.0, 0, 0, 1, 0, 2, 0, 1, 0, 0, 2, 1, 0, 0, 0, 1]


def image(series: str, number: int, **values: object) -> dict[str, object]:
    row = {"SeriesInstanceUID": series, "SOPInstanceUID": f"{series}.{number}", "image_group": 0}
    return row | values


ROWS = [
    # The first image is a scout, the second is of the smaller group.
    image("1.2", 0, is_scout=True, image_group=None, Rows=99),
    image("1.2", 1, image_group=1, Rows=98),
    image("1.2", 2, Rows=512, PixelSpacing=[0.5, 0.25], localizer_index=0, x=1.5),
    image("1.2", 2, Rows=512, PixelSpacing=[0.5, 0.25], localizer_index=1, x=2.5),
    image("1.2", 3, Rows=512, PixelSpacing=[0.5, 0.25]),
    image("1.2", 4, read_error='cut short, "so"', image_group=None),
    image("1.1", 1, Rows=256),
]
OF_SERIES = {
    "1.2": {"PatientAge": 60, "Aneurysm Present": 1, "nii_affine": AFFINE},
    "1.1": {"PatientAge": 30, "Aneurysm Present": 0},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of a data root with both tables."""
    settings = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path / "data")})
    rows = [row | OF_SERIES[str(row["SeriesInstanceUID"])] for row in ROWS]
    unified = pl.DataFrame(rows, schema=UNIFIED_METADATA.schema)
    write_table(unified, UNIFIED_METADATA, settings.unified_table)
    problems = [{"SeriesInstanceUID": uid, "too_few_slices": uid == "1.1"} for uid in OF_SERIES]
    quality = pl.DataFrame(problems, schema=SERIES_QUALITY.schema)
    write_table(quality, SERIES_QUALITY, settings.quality_table)
    return settings


def test_a_row_per_series_has_its_labels_geometry_counts_and_problems(
    settings: Settings, tmp_path: Path
) -> None:
    assert export_file(settings, tmp_path / "series.parquet", "series") == 2
    frame = pl.read_parquet(tmp_path / "series.parquet")
    assert frame.schema == PER_SERIES.schema
    one, other = frame.to_dicts()
    assert one["SeriesInstanceUID"] == "1.2"
    counted = ("images", "images_of_largest_group", "image_groups", "unreadable", "points")
    assert [one[name] for name in counted] == [4, 2, 2, 1, 2]
    assert (one["Rows"], one["PixelSpacing"]) == (512, [0.5, 0.25])
    assert (one["PatientAge"], one["Aneurysm Present"], one["nii_affine"]) == (60, 1, AFFINE)
    assert (one["too_few_slices"], other["too_few_slices"]) == (False, True)
    assert [other[name] for name in counted] == [1, 1, 1, 0, 0]
    assert (other["Rows"], other["nii_affine"]) == (256, None)
    fields = pq.read_schema(tmp_path / "series.parquet")
    assert fields.field("PixelSpacing").metadata[b"unit"] == b"mm"


def test_a_csv_has_every_cell_and_lists_as_json(settings: Settings, tmp_path: Path) -> None:
    assert export_file(settings, tmp_path / "images.csv", "image") == len(ROWS)
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(UNIFIED_METADATA.column_names)
    assert json.loads(rows[2]["PixelSpacing"]) == [0.5, 0.25]
    assert json.loads(rows[0]["nii_affine"]) == AFFINE
    assert rows[5]["read_error"] == 'cut short, "so"'
    assert [row["x"] for row in rows[2:5]] == ["1.5", "2.5", ""]


def test_a_row_per_image_is_the_unified_table(settings: Settings, tmp_path: Path) -> None:
    export_file(settings, tmp_path / "new" / "images.parquet", "image")
    written = pl.read_parquet(tmp_path / "new" / "images.parquet")
    assert_frame_equal(written, pl.read_parquet(f"{settings.unified_table}.parquet"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_only_an_export_is_replaced_and_only_where_it_is_asked_for(
    settings: Settings, tmp_path: Path, suffix: str
) -> None:
    to = tmp_path / f"mine.{suffix}"
    to.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is left alone"):
            export_file(settings, to, "series", overwrite=overwrite)
    assert to.read_text() == "mine"
    to.unlink()
    export_file(settings, to, "image")
    before = to.read_bytes()
    with pytest.raises(InputError, match="--overwrite replaces it"):
        export_file(settings, to, "series")
    assert to.read_bytes() == before
    assert export_file(settings, to, "series", overwrite=True) == 2
    assert to.read_bytes() != before


def test_the_tables_of_a_data_root_are_no_exports(settings: Settings) -> None:
    path = Path(f"{settings.unified_table}.parquet")
    with pytest.raises(InputError, match="is left alone"):
        export_file(settings, path, "series", overwrite=True)


def test_without_a_table_the_command_that_makes_it_is_named(tmp_path: Path) -> None:
    settings = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path)})
    with pytest.raises(InputError, match=r"there is no unified_metadata .*`aneurysm-assets run`"):
        export_file(settings, tmp_path / "x.csv", "image")
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_another_version_is_told_in_words(settings: Settings, tmp_path: Path) -> None:
    path = f"{settings.quality_table}.parquet"
    pl.read_parquet(path).drop("too_few_slices").write_parquet(path)
    with pytest.raises(InputError, match=r"of another version or damaged .*run --force"):
        export_file(settings, tmp_path / "x.csv", "series")
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_each_column_of_a_series_stands_once() -> None:
    assert len(set(PER_SERIES.column_names)) == len(PER_SERIES.columns)
