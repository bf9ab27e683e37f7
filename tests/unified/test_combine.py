"""Four tables of each series to one: what is joined on what, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aneurysm_assets.schema.tables import (
    DICOM_TAGS,
    LABELS,
    LOCALIZERS,
    SEGMENTATION_META,
    SERIES_TABLES,
    UNIFIED_METADATA,
    Table,
)
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_files import write_table
from aneurysm_assets.unified.combine import Combined, combine, describe, points_without_image

Row = Mapping[str, Any]

KEY = ["SOPInstanceUID", "frame_index", "localizer_index"]


class Interim:
    """The tables of some series on disk, and what they combine to."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(root, root / "raw", root / "interim", 1)
        self.series: list[str] = []

    def add(
        self,
        series: str,
        images: Sequence[Row],
        *,
        labels: Row | None = None,
        points: Sequence[Row] = (),
        segmentation: Row | None = None,
        csv: bool = False,
    ) -> None:
        """Write the four tables of a series."""
        self.series.append(series)
        self.write(DICOM_TAGS, series, images, csv=csv)
        self.write(LABELS, series, [labels or {}], csv=csv)
        self.write(LOCALIZERS, series, points, csv=csv)
        self.write(
            SEGMENTATION_META, series, [] if segmentation is None else [segmentation], csv=csv
        )

    def write(self, table: Table, series: str, rows: Sequence[Row], *, csv: bool = False) -> None:
        stem = self.settings.table_of_series(table.name, series)
        if csv:
            stem.with_name(f"{stem.name}.parquet").mkdir(parents=True)
        full = [
            {name: {"SeriesInstanceUID": series, **row}.get(name) for name in table.column_names}
            for row in rows
        ]
        stored = write_table(pl.DataFrame(full, schema=table.schema, orient="row"), table, stem)
        assert stored.format == ("csv" if csv else "parquet")

    def combined(self) -> pl.DataFrame:
        return combine(self.settings, self.series).frame.collect()

    def described(self) -> Combined:
        unified = combine(self.settings, self.series)
        return describe(points_without_image(unified.points, unified.frame), unified.frame)


@pytest.fixture
def interim(tmp_path: Path) -> Interim:
    return Interim(tmp_path)


PLACED = UNIFIED_METADATA.column_names[-7:]


def image(sop: str, frame_index: int | None = None, **values: Any) -> Row:
    return {"SOPInstanceUID": sop, "frame_index": frame_index, **values}


def point(sop: str, x: float, frame_index: int | None = None, **values: Any) -> Row:
    return {"SOPInstanceUID": sop, "x": x, "y": x + 0.5, "frame_index": frame_index, **values}


def unreadable(path: str) -> Row:
    return {"dicom_path": path, "read_error": "is no DICOM file"}


def placed(frame: pl.DataFrame) -> list[tuple[str | None, int | None, int | None, float | None]]:
    """Return which point is on which image: (instance, frame, localizer_index, x)."""
    return frame.select(*KEY, "x").rows()


# -- columns -------------------------------------------------------------------------------------


def test_the_unified_table_has_its_schema_exactly(interim: Interim) -> None:
    interim.add("1.1", [image("9.1")], points=[point("9.1", 1)], segmentation={"nii_path": "a"})
    assert interim.combined().schema == UNIFIED_METADATA.schema


def test_without_any_series_it_has_its_schema_and_no_rows(interim: Interim) -> None:
    assert interim.combined().equals(UNIFIED_METADATA.schema.to_frame())
    assert interim.described() == Combined(0, 0, 0, (), 0)


def test_a_name_on_both_sides_has_a_suffix_on_both(interim: Interim) -> None:
    interim.add("1.1", [image("9.1", Modality="MR")], labels={"Modality": "MRI T2"})
    (row,) = interim.combined().to_dicts()
    assert (row["Modality_dicom"], row["Modality_train"]) == ("MR", "MRI T2")
    assert "Modality" not in row
    suffixed = {name for name in row if name.endswith(("_dicom", "_train"))}
    assert suffixed == {"Modality_dicom", "Modality_train"}


def test_every_column_of_every_table_arrives(interim: Interim) -> None:
    def value(dtype: pl.DataType, seed: int) -> Any:
        if isinstance(dtype, pl.Array):
            return [value(dtype.inner, seed + i) for i in range(dtype.size)]  # type: ignore[arg-type]
        if isinstance(dtype, pl.List):
            return [seed % 100]
        if dtype == pl.Boolean:
            return seed % 2 == 0
        return f"text {seed}" if dtype == pl.String else seed % 100

    joined_on = {"SeriesInstanceUID": "1.1", "SOPInstanceUID": "9.1", "frame_index": 4}
    rows = {
        table.name: {
            column.name: joined_on.get(column.name, value(column.dtype, 10 * t + c))
            for c, column in enumerate(table.columns)
        }
        for t, table in enumerate(SERIES_TABLES)
    }
    interim.add(
        "1.1",
        [rows["dicom_tags"]],
        labels=rows["labels"],
        points=[rows["localizers"]],
        segmentation=rows["segmentation_meta"],
    )
    (row,) = interim.combined().to_dicts()
    renamed = {
        ("dicom_tags", "Modality"): "Modality_dicom",
        ("labels", "Modality"): "Modality_train",
    }
    expected = {
        renamed.get((table, name), name): v
        for table, values in rows.items()
        for name, v in values.items()
    }
    placed = {name: row.pop(name) for name in PLACED}
    assert row == expected | {"localizer_index": 0}
    assert placed["localizer_x_mm"] is not None
    assert placed["localizer_vessel"] is None  # its volume is not there


def test_labels_and_segmentation_are_on_every_image_of_their_series_and_no_other(
    interim: Interim,
) -> None:
    affine = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    interim.add("1.1", [image("9.1"), image("9.2")], labels={"PatientAge": 50})
    interim.add(
        "1.2",
        [image("9.3"), image("9.4"), unreadable("x.txt")],
        labels={"PatientAge": 60, "Basilar Tip": 1},
        segmentation={"nii_path": "a.nii", "nii_affine": affine},
    )
    interim.add("1.3", [image("9.5")])
    frame = interim.combined()
    assert frame["SeriesInstanceUID"].to_list() == ["1.1"] * 2 + ["1.2"] * 3 + ["1.3"]
    assert frame["PatientAge"].to_list() == [50, 50, 60, 60, 60, None]
    assert frame["Basilar Tip"].to_list() == [None, None, 1, 1, 1, None]
    assert frame["nii_path"].to_list() == [None, None, "a.nii", "a.nii", "a.nii", None]
    assert frame["nii_affine"].to_list()[2:5] == [affine] * 3
    assert frame["cowseg_path"].null_count() == 6


# -- localizers ----------------------------------------------------------------------------------


def test_an_image_with_a_point_is_one_row_and_so_is_one_without(interim: Interim) -> None:
    interim.add(
        "1.1",
        [image("9.1"), image("9.2"), image("9.3")],
        points=[point("9.2", 5, location="Basilar Tip")],
    )
    frame = interim.combined()
    assert placed(frame) == [
        ("9.1", None, None, None),
        ("9.2", None, 0, 5.0),
        ("9.3", None, None, None),
    ]
    assert frame["y"].to_list() == [None, 5.5, None]
    assert frame["location"].to_list() == [None, "Basilar Tip", None]


def test_two_points_on_one_image_are_two_rows_numbered_in_the_order_of_the_csv(
    interim: Interim,
) -> None:
    interim.add(
        "1.1",
        [image("9.1", Rows=7), image("9.2", Rows=8)],
        points=[point("9.1", 3), point("9.2", 9), point("9.1", 1), point("9.1", 2)],
    )
    frame = interim.combined()
    assert placed(frame) == [
        ("9.1", None, 0, 3.0),
        ("9.1", None, 1, 1.0),
        ("9.1", None, 2, 2.0),
        ("9.2", None, 0, 9.0),
    ]
    assert frame["Rows"].to_list() == [7, 7, 7, 8]


def test_exact_duplicates_of_a_point_are_kept_and_numbered(interim: Interim) -> None:
    interim.add("1.1", [image("9.1")], points=[point("9.1", 3), point("9.1", 3)])
    assert placed(interim.combined()) == [("9.1", None, 0, 3.0), ("9.1", None, 1, 3.0)]
    assert interim.described().localizers_without_image == ()


def test_a_point_is_on_its_own_frame_of_a_multi_frame_file_only(interim: Interim) -> None:
    interim.add(
        "1.1",
        [image("9.1", frame) for frame in range(3)],
        points=[point("9.1", 2, 2), point("9.1", 0, 0), point("9.1", 20, 2)],
    )
    assert placed(interim.combined()) == [
        ("9.1", 0, 0, 0.0),
        ("9.1", 1, None, None),
        ("9.1", 2, 0, 2.0),
        ("9.1", 2, 1, 20.0),
    ]


def test_frame_0_of_a_single_frame_file_is_its_image(interim: Interim) -> None:
    points = [point("9.1", 1, 0), point("9.1", 2), point("9.1", 3, 0)]
    interim.add("1.1", [image("9.1")], points=points)
    assert placed(interim.combined()) == [
        ("9.1", None, 0, 1.0),
        ("9.1", None, 1, 2.0),
        ("9.1", None, 2, 3.0),
    ]
    assert interim.described().localizers_without_image == ()


def test_a_point_without_a_frame_is_on_no_frame_of_a_multi_frame_file(interim: Interim) -> None:
    interim.add("1.1", [image("9.1", 0), image("9.1", 1)], points=[point("9.1", 5)])
    assert placed(interim.combined()) == [("9.1", 0, None, None), ("9.1", 1, None, None)]
    described = interim.described()
    assert described.localizers_without_image == (
        "1.1/9.1: the file has 2 frames, and the point names none",
    )
    assert described.images_with_localizers == 0


def test_points_that_find_no_image_are_listed_and_make_no_row(interim: Interim) -> None:
    interim.add(
        "1.1",
        [image("9.1"), image("9.2", 0), image("9.2", 1), unreadable("x.dcm")],
        points=[
            point("9.9", 1),
            point("9.1", 2),
            point("9.1", 3, 1),
            point("9.2", 4, 2),
            point("9.2", 5, 1),
            point("9.3", 6, 0),
        ],
    )
    interim.add("1.2", [image("9.4")], points=[point("9.1", 7)])
    frame = interim.combined()
    assert [row for row in placed(frame) if row[2] is not None] == [
        ("9.1", None, 0, 2.0),
        ("9.2", 1, 0, 5.0),
    ]
    assert frame.height == 5
    assert interim.described().localizers_without_image == (
        "1.1/9.9: no readable file of the series has this SOPInstanceUID",
        "1.1/9.1/1: the file is of a single frame, and the point names another",
        "1.1/9.2/2: the file has 2 frames, and not the one that the point names",
        "1.1/9.3/0: no readable file of the series has this SOPInstanceUID",
        "1.2/9.1: no readable file of the series has this SOPInstanceUID",
    )


def test_a_point_of_one_series_is_not_on_the_same_instance_of_another(interim: Interim) -> None:
    interim.add("1.1", [image("9.1")], points=[point("9.1", 1)])
    interim.add("1.2", [image("9.1")])
    frame = interim.combined()
    assert frame.select("SeriesInstanceUID", "x").rows() == [("1.1", 1.0), ("1.2", None)]


def test_an_instance_that_is_there_twice_has_its_point_on_both(interim: Interim) -> None:
    images = [image("9.1", dicom_path="a.dcm"), image("9.1", dicom_path="copy of a.dcm")]
    interim.add("1.1", images, points=[point("9.1", 5)])
    frame = interim.combined()
    assert frame["dicom_path"].to_list() == ["a.dcm", "copy of a.dcm"]
    assert placed(frame) == [("9.1", None, 0, 5.0)] * 2
    assert interim.described().images == 2


# -- rows ----------------------------------------------------------------------------------------


def test_rows_are_ordered_by_series_as_given_then_as_in_dicom_tags(interim: Interim) -> None:
    sops = [f"9.{i}" for i in (5, 3, 9, 1)]
    for series in ("1.3", "1.1", "1.2"):
        images = [image(f"{sop}.{series}") for sop in sops]
        points = [point(f"{sop}.{series}", 1) for sop in sorted(sops)]
        interim.add(series, [*images, unreadable("x")], points=points, csv=series == "1.1")
    frame = interim.combined()
    expected = [f"{sop}.{series}" for series in ("1.3", "1.1", "1.2") for sop in sops]
    assert frame["SOPInstanceUID"].drop_nulls().to_list() == expected
    assert frame["SeriesInstanceUID"].to_list() == ["1.3"] * 5 + ["1.1"] * 5 + ["1.2"] * 5
    interim.series.reverse()
    frame = interim.combined()
    assert frame["SeriesInstanceUID"].to_list() == ["1.2"] * 5 + ["1.1"] * 5 + ["1.3"] * 5


def test_the_order_holds_on_disk_for_many_rows(interim: Interim) -> None:
    for series in range(8):
        images = [image(f"9.{series}.{i}", InstanceNumber=i) for i in range(5000)]
        points = [point(f"9.{series}.{i}", i) for i in (4999, 0, 7)]
        interim.add(f"1.{series}", images, points=points)
    unified = combine(interim.settings, interim.series).frame
    stored = write_table(unified, UNIFIED_METADATA, interim.settings.unified_table)
    assert stored.format == "parquet"
    frame = pl.read_parquet(stored.path)
    assert frame["InstanceNumber"].to_list() == list(range(5000)) * 8
    assert frame["SeriesInstanceUID"].to_list() == [f"1.{i // 5000}" for i in range(40_000)]
    assert frame["x"].drop_nulls().to_list() == [0.0, 7.0, 4999.0] * 8


def test_only_the_series_asked_for_are_combined(interim: Interim) -> None:
    for series in ("1.1", "1.2", "1.3"):
        interim.add(series, [image("9.1")])
    interim.series.remove("1.2")
    assert interim.combined()["SeriesInstanceUID"].to_list() == ["1.1", "1.3"]


def test_parquet_and_csv_combine_to_the_same(tmp_path: Path) -> None:
    frames = []
    for csv in [(False, False), (True, True), (True, False)]:
        interim = Interim(tmp_path / str(len(frames)))
        for i, as_csv in enumerate(csv):
            interim.add(
                f"1.{i}",
                [image("9.1", PixelSpacing=[0.5, 0.25], PatientID=""), image("9.2")],
                labels={"PatientSex": "Male"},
                points=[point("9.2", 1.5)],
                segmentation={"cowseg_shape": [1, 2, 3]},
                csv=as_csv,
            )
        frames.append(interim.combined())
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])


@pytest.mark.parametrize("table", SERIES_TABLES, ids=lambda table: table.name)
def test_a_table_of_a_series_that_is_not_there_is_named(interim: Interim, table: Table) -> None:
    interim.add("1.1", [image("9.1")])
    interim.add("1.2", [image("9.1")])
    (interim.settings.interim / table.name / "1.2.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{table.name} of series 1\.2 is not there"):
        interim.combined()


# -- the counts ----------------------------------------------------------------------------------


def test_the_counts_are_of_images_and_not_of_rows(interim: Interim) -> None:
    interim.add(
        "1.1",
        [image("9.1"), image("9.2"), unreadable("x"), unreadable("y")],
        points=[point("9.1", 1), point("9.1", 2), point("9.1", 3)],
        segmentation={"nii_path": "a"},
    )
    interim.add(
        "1.2",
        [image("9.3", frame) for frame in range(4)],
        points=[point("9.3", 1, 0), point("9.3", 1, 3), point("9.3", 1, 4)],
        segmentation={"cowseg_path": "b"},
    )
    interim.add("1.3", [image("9.4")])
    assert interim.combined().height == 2 + 2 + 2 + 4 + 1
    assert interim.described() == Combined(
        images=7,
        unreadable_files=2,
        images_with_localizers=3,
        localizers_without_image=(
            "1.2/9.3/4: the file has 4 frames, and not the one that the point names",
        ),
        series_with_segmentations=2,
    )


FILES = st.dictionaries(st.sampled_from(["9.1", "9.2", "9.3"]), st.integers(1, 3), max_size=3)
POINTS = st.lists(
    st.tuples(st.sampled_from(["9.1", "9.2", "9.3", "9.4"]), st.none() | st.integers(0, 3)),
    max_size=6,
)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contents=st.lists(st.tuples(FILES, POINTS), min_size=1, max_size=3))
def test_whatever_the_points_every_image_is_there_and_the_key_is_unique(
    tmp_path_factory: pytest.TempPathFactory, contents: list[tuple[dict[str, int], list[Any]]]
) -> None:
    interim = Interim(tmp_path_factory.mktemp("interim"))
    expected, lost = [], []
    for number, (files, points) in enumerate(contents):
        series = f"1.{number}"
        images = [
            (f"{sop}.{number}", frame if frames > 1 else None)
            for sop, frames in files.items()
            for frame in range(frames)
        ]
        rows = [point(f"{sop}.{number}", x, frame) for x, (sop, frame) in enumerate(points)]
        interim.add(series, [image(*i) for i in images], points=rows)
        found = set()
        for sop, frame in images:
            # A single-frame file's only image is its frame 0, whether or not a point says so.
            same = {None, 0} if frame is None else {frame}
            on = [r["x"] for r in rows if r["SOPInstanceUID"] == sop and r["frame_index"] in same]
            expected += [(sop, frame, i, x) for i, x in enumerate(on)] or [(sop, frame, None, None)]
            found.update(on)
        lost += [
            "/".join([series, r["SOPInstanceUID"]])
            + ("" if r["frame_index"] is None else f"/{r['frame_index']}")
            for r in rows
            if r["x"] not in found
        ]
    frame = interim.combined()
    assert placed(frame) == expected
    assert not frame.select(KEY).is_duplicated().any()
    described = interim.described()
    named = [each.partition(": ")[0] for each in described.localizers_without_image]
    assert named == lost
    assert described.images == len({row[:2] for row in expected})
    assert described.images_with_localizers == sum(row[2] == 0 for row in expected)


def test_where_whole_coordinates_are_corners_a_point_lies_half_a_pixel_before(
    interim: Interim,
) -> None:
    geometry = {
        "ImagePositionPatient": [1.0, 2.0, 3.0],
        "ImageOrientationPatient": [0.0, 1.0, 0.0, 0.0, 0.0, -1.0],
        "PixelSpacing": [0.5, 0.25],
    }
    interim.add("1.1", [image("9.1", **geometry)], points=[point("9.1", 4)])
    settings = replace(interim.settings, pixel_coordinates="corners")
    centres, corners = (
        combine(each, interim.series).frame.collect().row(0, named=True)
        for each in (interim.settings, settings)
    )
    apart = [centres[f"localizer_{axis}_mm"] - corners[f"localizer_{axis}_mm"] for axis in "xyz"]
    assert apart == pytest.approx([0.0, 0.125, -0.25])
