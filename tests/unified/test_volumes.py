"""The table `volumes`: what is said of each volume fits its images, labels and points."""

import shutil
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest

import aneurysm_assets as aa
from aneurysm_assets.errors import InputError
from aneurysm_assets.nifti.segmentation import segmentation_meta
from aneurysm_assets.schema.columns import VESSEL_CLASSES
from aneurysm_assets.schema.tables import UNIFIED_METADATA, VOLUMES
from aneurysm_assets.unified.volumes import volumes_of
from aneurysm_assets.volumes.geometry_groups import geometry_groups, series_sharing
from tests.graph import Graph, failure

AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def image(series: str, k: int, volume: int | None = 0, **values: Any) -> dict[str, Any]:
    return {
        "SeriesInstanceUID": series,
        "volume_index": volume,
        "volume_slice_index": None if volume is None else k,
        "ImagePositionPatient": [-10.0, -20.0, 2.0 * k],
        "ImageOrientationPatient": AXIAL,
        "PixelSpacing": [0.5, 0.25],
        "Rows": 40,
        "Columns": 30,
        "dicom_path": f"series/{series}/{k}.dcm",
        "FrameOfReferenceUID": f"{series}.1",
        "pixel_data_short": False,
        **values,
    }


def unified_of(*rows: dict[str, Any]) -> pl.LazyFrame:
    columns = {name: [row.get(name) for row in rows] for name in UNIFIED_METADATA.column_names}
    return pl.DataFrame(columns, schema=UNIFIED_METADATA.schema).lazy()


def volumes(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    table = volumes_of(unified_of(*rows))
    assert table.schema == VOLUMES.schema
    return table.to_dicts()


def stack(series: str, count: int = 4, **values: Any) -> list[dict[str, Any]]:
    return [image(series, k, **values) for k in range(count)]


def at(z: float) -> dict[str, Any]:
    return {"ImagePositionPatient": [-10.0, -20.0, z]}


@pytest.fixture(scope="module")
def graph(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    data = shutil.copytree(sample_data, tmp_path_factory.mktemp("volumes") / "data")
    made = Graph(Path(data))
    assert made.run_all("dicom_tags", "labels", "localizers", "segmentation_meta").success
    assert made.run("unified_metadata", "volumes", "series_quality").success
    return made


def test_a_volume_says_where_it_is_and_what_its_files_are():
    (volume,) = volumes(*stack("1.2", WindowCenter=40.0)[::-1])
    assert volume["shape"] == [30, 40, 4]
    assert np.reshape(volume["affine"], (4, 4)).tolist() == [
        [-0.25, 0.0, 0.0, 10.0],
        [0.0, -0.5, 0.0, 20.0],
        [0.0, 0.0, 2.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
    assert volume["voxel_size"] == [0.25, 0.5, 2.0]
    assert volume["extent_mm"] == [7.5, 20.0, 8.0]
    assert volume["slice_spacing_mm"] == 2.0
    assert volume["orientation_plane"] == "axial"
    assert volume["files"] == [f"series/1.2/{k}.dcm" for k in range(4)]
    assert volume["frames"] == [None] * 4
    assert volume["is_regular"]
    assert (volume["images_left_out"], volume["left_out_reason"]) == (0, None)
    assert volume["WindowCenter"] == 40.0
    assert volume["points"] == []


def test_labels_of_the_series_stand_on_each_of_its_volumes():
    labels = {"Modality_train": "CTA", "PatientAge": 61, "Basilar Tip": 1}
    rows = [*stack("1.2", **labels), *stack("1.2", 2, volume=1, **labels)]
    found = volumes(*rows)
    assert [row["volume_index"] for row in found] == [0, 1]
    for row in found:
        assert labels == {name: row[name] for name in labels}


def test_a_point_stands_in_the_voxels_of_its_volume_only():
    point = {"localizer_index": 0, "location": "Basilar Tip", "x": 3.5, "y": 8.0}
    placed = {"localizer_x_mm": -9.125, "localizer_y_mm": -16.0, "localizer_z_mm": 4.0}
    first = stack("1.2")
    first[2] |= point | placed
    another = first[2] | {"localizer_index": 1, "location": "Anterior Communicating Artery"}
    found = volumes(*first, another, *stack("1.2", 2, volume=1))
    assert [len(row["points"]) for row in found] == [2, 0]
    assert [len(row["files"]) for row in found] == [4, 2]
    (one, two) = found[0]["points"]
    assert (one["i"], one["j"], one["k"]) == pytest.approx((3.5, 8.0, 2.0))
    assert {one["location"], two["location"]} == {"Basilar Tip", "Anterior Communicating Artery"}


def test_without_an_affine_a_point_has_its_pixel_and_slice():
    point = {"localizer_index": 0, "location": "Basilar Tip", "x": 3.5, "y": 8.0}
    rows = stack("1.2", PixelSpacing=None)
    rows[2] |= point
    (volume,) = volumes(*rows)
    (found,) = volume["points"]
    assert (found["i"], found["j"], found["k"], found["x_mm"]) == (3.5, 8.0, 2.0, None)


def labelled(labels: np.ndarray, affine: np.ndarray, folder: Path) -> dict[str, Any]:
    """Return what the unified table has of a file of vessel labels."""
    nib.save(nib.Nifti1Image(labels, affine), folder / "1.2_cowseg.nii")
    return segmentation_meta(folder, folder, "1.2").drop("SeriesInstanceUID").row(0, named=True)


def boxes(labels: np.ndarray) -> list[dict[str, Any]]:
    """Return the boxes that vessels have in an array, as the table has them."""
    found = []
    for n in sorted({*labels.ravel().tolist()} - {0}):
        voxels = np.argwhere(labels == n)
        ends = [*voxels.min(axis=0).tolist(), *voxels.max(axis=0).tolist()]
        names = [f"{axis}_{end}" for end in ("first", "last") for axis in "ijk"]
        found.append({"vessel": VESSEL_CLASSES[n - 1], **dict(zip(names, ends, strict=True))})
    return found


EVERY_ORDER = [
    np.column_stack([order, flips])
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]


def test_a_vessel_has_its_box_in_the_voxels_of_the_volume_whatever_the_order_of_its_file(tmp_path):
    (volume,) = volumes(*stack("1.2"))
    affine, rng = np.reshape(volume["affine"], (4, 4)), np.random.default_rng(5)
    for number, order in enumerate(EVERY_ORDER):
        labels = np.zeros(volume["shape"], "uint8")
        for n in rng.choice(np.arange(1, 14), 5, replace=False):
            first = rng.integers(0, np.array(labels.shape) - 1)
            last = rng.integers(first, labels.shape)
            labels[tuple(slice(f, e + 1) for f, e in zip(first, last, strict=True))] = n
        turned = nib.Nifti1Image(labels, affine).as_reoriented(order)
        folder = tmp_path / str(number)
        folder.mkdir()
        stored = labelled(np.asarray(turned.dataobj), turned.affine, folder)
        (found,) = volumes(*stack("1.2", **stored))
        assert found["segmentation_is_this_grid"]
        assert found["vessels"] == boxes(labels), order.tolist()


def test_vessels_are_unknown_where_their_grid_is_another_and_none_where_none_is_labelled(tmp_path):
    (volume,) = volumes(*stack("1.2"))
    affine = np.reshape(volume["affine"], (4, 4))
    empty = labelled(np.zeros(volume["shape"], "uint8"), affine, tmp_path)
    (found,) = volumes(*stack("1.2", **empty))
    assert found["vessels"] == []
    (without,) = volumes(*stack("1.2", **empty | {"cowseg_boxes": None}))
    assert without["vessels"] is None
    other = labelled(np.ones(volume["shape"], "uint8"), affine @ np.diag([2, 1, 1, 1]), tmp_path)
    (found,) = volumes(*stack("1.2", **other))
    assert (found["segmentation_is_this_grid"], found["vessels"]) == (False, None)
    (whole, part) = volumes(*stack("1.2", **empty), *stack("1.2", 2, volume=1, **empty))
    assert (whole["vessels"], part["vessels"]) == ([], None)


def test_what_is_left_out_is_counted_and_named():
    scout = image("1.2", 7, None, is_scout=True)
    broken = {"SeriesInstanceUID": "1.2", "read_error": "is no DICOM file"}
    (volume,) = volumes(*stack("1.2"), scout, image("1.2", 8, None), broken)
    assert volume["images_left_out"] == 3
    assert volume["left_out_reason"] == (
        "1 scout, 1 image without a place, 1 file that cannot be read"
    )


def test_a_rescale_that_is_not_uniform_is_told_and_has_no_value():
    rows = stack("1.2", RescaleSlope=2.0)
    rows[1]["RescaleSlope"] = 3.0
    (volume,) = volumes(*rows)
    assert (volume["rescale_is_uniform"], volume["RescaleSlope"]) == (False, None)
    (volume,) = volumes(*stack("1.2", RescaleSlope=2.0))
    assert (volume["rescale_is_uniform"], volume["RescaleSlope"]) == (True, 2.0)


def test_a_series_without_a_volume_has_no_row():
    assert volumes(image("1.2", 0, None, is_scout=True)) == []
    assert volumes() == []


def groups(*rows: dict[str, Any]) -> dict[str, str]:
    found = geometry_groups(unified_of(*rows))
    return dict(zip(found["SeriesInstanceUID"], found["geometry_group"], strict=True))


def test_series_that_share_a_frame_of_reference_or_all_positions_are_one_group():
    shifted = [image("1.4", k, **at(2.0 * k + 1), FrameOfReferenceUID="1.2.1") for k in range(3)]
    turned = [image("1.5", k, **at(2.0 * k + 2)) for k in range(4)]
    found = groups(*stack("1.2"), *stack("1.3"), *shifted, *turned)
    assert found == {"1.2": "1.2", "1.3": "1.2", "1.4": "1.2", "1.5": "1.5"}


def test_positions_that_differ_in_the_last_digit_and_single_places_connect_nothing():
    close = [image("1.3", k, **at(2.0 * k + 1e-12)) for k in range(4)]
    single = [*stack("1.4", 1), *stack("1.5", 1)]
    found = groups(*stack("1.2"), *close, *single)
    assert found == {uid: uid for uid in ("1.2", "1.3", "1.4", "1.5")}


def test_a_series_that_shares_geometry_names_another():
    found = geometry_groups(unified_of(*stack("1.2"), *stack("1.3"), *stack("1.4", 3)))
    assert series_sharing(found).rows() == [("1.2", "1.3", 1), ("1.3", "1.2", 1)]


# --- the asset ----------------------------------------------------------------------------------


def test_the_volumes_of_the_sample_hold_each_image_once(graph):
    data = aa.open_dataset(graph.data)
    found = data.volumes()
    images = data.images().filter(pl.col("localizer_index").fill_null(0) == 0).collect()
    in_volumes = images.filter(pl.col("volume_index").is_not_null()).height
    assert found["files"].list.len().sum() == in_volumes > 60
    assert graph.metadata("volumes")["rows"] == found.height
    assert graph.metadata("volumes")["regular"] == found["is_regular"].sum() > 5


def test_the_voxel_of_each_point_leads_through_the_affine_to_its_millimetres(graph):
    regular = aa.open_dataset(graph.data).volumes().filter("is_regular").explode("points")
    rows = regular.drop_nulls("points").to_dicts()
    assert len(rows) >= 6
    for row in rows:
        point = row["points"]
        ras = np.reshape(row["affine"], (4, 4)) @ (point["i"], point["j"], point["k"], 1.0)
        lps = ras[:3] * (-1, -1, 1)
        assert np.abs(lps - [point[f"{axis}_mm"] for axis in "xyz"]).max() < 1e-6
        assert abs(point["k"] - round(point["k"])) < 1e-3


def test_a_segmentation_is_held_against_the_grid_of_the_volume(graph):
    data = aa.open_dataset(graph.data)
    (row,) = data.volumes().drop_nulls("cowseg_path").to_dicts()
    assert row["segmentation_is_this_grid"]
    assert data.load_volume(row["SeriesInstanceUID"]).shape == tuple(row["shape"])


def test_what_is_loaded_is_what_the_table_says(graph):
    data = aa.open_dataset(str(graph.data))
    for row in data.volumes().filter("is_regular").to_dicts():
        loaded = data.load_volume(row["SeriesInstanceUID"], row["volume_index"])
        assert list(loaded.shape) == row["shape"]
        assert loaded.affine.ravel().tolist() == row["affine"]
    assert (
        data.quality().height == data.images().select("SeriesInstanceUID").unique().collect().height
    )


def test_tables_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InputError, match="no data root at"):
        aa.open_dataset(tmp_path / "nowhere")
    data = aa.open_dataset(tmp_path)
    for table, read in (
        ("unified_metadata", data.images),
        ("volumes", data.volumes),
        ("series_quality", data.quality),
    ):
        with pytest.raises(InputError, match=f"there is no {table} at .*`aneurysm-assets run`"):
            read()


def test_without_the_unified_table_the_volumes_fail_with_a_sentence(data):
    result = Graph(data).run("volumes")
    assert "there is no unified table at" in failure(result, "volumes")


def test_the_check_names_the_series_that_share_their_geometry(graph):
    result = graph.run("volumes")
    assert result.success
    (found,) = result.get_asset_check_evaluations()
    table = aa.open_dataset(graph.data).volumes()
    shared = table.group_by("geometry_group").agg(pl.col("SeriesInstanceUID").n_unique())
    several = shared.filter(pl.col("SeriesInstanceUID") > 1)["SeriesInstanceUID"].sum()
    assert found.check_name == "shares_geometry"
    assert not found.passed
    assert found.metadata["series_found"].value == several > 1
    named = {record.data["series"] for record in found.metadata["series"].records}
    assert len(named) == several
    assert {record.data["shares with"] for record in found.metadata["series"].records} <= named


def test_rows_of_a_series_may_lie_apart(monkeypatch):
    rows = [row for pair in zip(stack("1.2"), stack("1.3"), strict=True) for row in pair]
    monkeypatch.setattr("aneurysm_assets.unified.volumes._AT_A_TIME", 3)
    assert volumes(*rows) == volumes(*stack("1.2"), *stack("1.3"))
    assert len(volumes(*rows)) == 2
