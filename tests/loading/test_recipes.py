"""The code in docs/volumes.md runs, and does what its headings say."""

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest

import aneurysm_assets as aa
from aneurysm_assets.schema.columns import ANEURYSM_PRESENT, LOCATIONS, VESSEL_CLASSES
from tests.conftest import ROOT
from tests.graph import Graph

TEXT = (ROOT / "docs" / "volumes.md").read_text(encoding="utf-8")


def recipe(heading: str) -> str:
    """Return the code below the heading that begins so."""
    (section,) = re.findall(
        rf"^###? {heading}[^\n]*\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE
    )
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return code


def run(heading: str, **names: Any) -> dict[str, Any]:
    given = {"aa": aa, "pl": pl, "np": np, "nib": nib, "json": json, "Path": Path, **names}
    exec(recipe(heading), given)
    return given


@pytest.fixture(scope="module")
def data(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = Path(shutil.copytree(sample_data, tmp_path_factory.mktemp("recipes") / "data"))
    graph = Graph(root)
    assert graph.run_all("dicom_tags", "labels", "localizers", "segmentation_meta").success
    assert graph.run("unified_metadata", "volumes").success
    return aa.open_dataset(root)


def test_no_recipe_has_more_than_ten_statements():
    codes = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(codes) == 9
    for code in codes:
        statements = sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(code)))
        assert statements <= 10, code


def test_loading(data, tmp_path, monkeypatch):
    uid = data.volumes().filter("is_regular")["SeriesInstanceUID"][0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    shutil.copytree(data.settings.series_root / uid, tmp_path / "some" / uid)
    (tmp_path / "some" / "series").symlink_to(uid)
    (tmp_path / "data").symlink_to(data.settings.data)
    code = recipe("Loading").replace('volumes["SeriesInstanceUID"][0]', repr(uid))
    given: dict[str, Any] = {}
    exec(code, given)
    assert given["volumes"]["is_regular"].to_list() == [True]
    assert list(given["image"].shape) == given["volumes"]["shape"].to_list()[0]


def test_the_volumes_to_train_on(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    regular = data.volumes().filter("is_regular")["SeriesInstanceUID"].to_list()
    Path("excluded.txt").write_text("\n".join(regular[:2]))
    chosen = run("The volumes to train on", data=data)["chosen"]
    assert chosen["SeriesInstanceUID"].to_list() == regular[2:]


def test_nifti_for_nnu_net(data, tmp_path):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    run("NIfTI for nnU-Net", data=data, folder=tmp_path)
    (image_path,) = (tmp_path / "imagesTr").iterdir()
    (labels_path,) = (tmp_path / "labelsTr").iterdir()
    assert image_path.name == labels_path.name.replace(".nii.gz", "_0000.nii.gz")
    image, labels = nib.load(image_path), nib.load(labels_path)
    assert image.shape == labels.shape
    assert np.allclose(image.affine, labels.affine, atol=1e-3)
    about = json.loads((tmp_path / "dataset.json").read_text())
    assert about["numTraining"] == 1
    assert about["labels"]["background"] == 0
    assert about["labels"][VESSEL_CLASSES[12]] == 13


def test_a_label_stands_at_the_point_of_its_name_after_reorienting(data, tmp_path):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    run("NIfTI for nnU-Net", data=data, folder=tmp_path)
    (labels_path,) = (tmp_path / "labelsTr").iterdir()
    labels = np.asarray(nib.load(labels_path).dataobj)
    (row,) = data.volumes().drop_nulls("cowseg_path").to_dicts()
    placed = data.images().filter(pl.col("localizer_vessel").is_not_null()).collect()
    vessels = dict(placed.select("location", "localizer_vessel").rows())
    assert row["points"]
    for point in row["points"]:
        voxel = tuple(round(point[axis]) for axis in "ijk")
        found = labels[voxel]
        assert not found or VESSEL_CLASSES[int(found) - 1] == vessels[point["location"]]
    assert any(labels[tuple(round(p[axis]) for axis in "ijk")] for p in row["points"])


def test_a_data_set(data):
    regular = data.volumes().filter("is_regular")
    made = run("A data set for PyTorch", data=data)["Volumes"](data, regular)
    assert len(made) == regular.height
    item = made[1]
    assert item["image"].dtype == np.float32
    assert list(item["image"].shape) == [1, *regular["shape"][1].to_list()]
    assert item["affine"].ravel().tolist() == regular.row(1, named=True)["affine"]
    assert item["label"] == regular["Aneurysm Present"][1]


def test_a_monai_data_set(data):
    monai = pytest.importorskip("monai")
    regular = data.volumes().filter("is_regular").head(2)
    given = run("A MONAI data set", data=data, chosen=regular)
    row, item = regular.row(1, named=True), given["read"](given["rows"][1])
    image = data.load_volume(row["SeriesInstanceUID"], row["volume_index"])
    assert isinstance(item["image"], monai.data.MetaTensor)
    np.testing.assert_allclose(item["image"].affine.numpy(), image.affine)
    np.testing.assert_array_equal(item["image"].numpy()[0], np.asarray(image.dataobj))
    made = given["items"][1]
    assert made["Aneurysm Present"] == row["Aneurysm Present"]
    np.testing.assert_allclose(made["image"].pixdim.numpy(), 0.5, rtol=1e-5)
    extent = np.array(row["extent_mm"]) - row["voxel_size"]
    np.testing.assert_allclose((np.array(made["image"].shape[1:]) - 1) / 2, extent, atol=0.51)


def test_a_torchio_data_set(data):
    pytest.importorskip("torchio")
    regular = data.volumes().filter("is_regular", pl.col("volume_index") == 0).head(2)
    given = run("A TorchIO data set", data=data, chosen=regular)
    row = regular.row(1, named=True)
    image = data.load_volume(row["SeriesInstanceUID"])
    subject = given["subjects"][1]
    np.testing.assert_allclose(subject["image"].affine, image.affine, atol=1e-6)
    np.testing.assert_array_equal(subject["image"].data.numpy()[0], np.asarray(image.dataobj))
    made = given["items"][1]
    assert made["label"] == row["Aneurysm Present"]
    np.testing.assert_allclose(made["image"].spacing, 0.5, rtol=1e-5)


def test_a_crop_around_each_point(data):
    crops = run("A crop around each point")["crops"]
    row = data.volumes().filter("is_regular", pl.col("points").list.len() > 1).row(0, named=True)
    image = data.load_volume(row["SeriesInstanceUID"], row["volume_index"])
    array = np.asarray(image.dataobj)
    made = list(crops(image, row["points"], millimetres=3 * max(row["voxel_size"])))
    assert [location for location, _ in made] == [p["location"] for p in row["points"]]
    for (_, crop), point in zip(made, row["points"], strict=True):
        middle = tuple(n // 2 for n in crop.shape)
        assert crop[middle] == array[tuple(round(point[axis]) for axis in "ijk")]


def test_crops_at_inference(data):
    crops = run("A crop around each point")["crops"]
    row = data.volumes().filter("is_regular", pl.col("points").list.len() > 1).row(0, named=True)
    directory = data.settings.series_root / row["SeriesInstanceUID"]
    image = aa.load_volume(directory)
    voxels = [[round(p[axis]) for axis in "ijk"] for p in row["points"]]
    points = nib.affines.apply_affine(image.affine, voxels)
    given = run("Crops at inference", directory=directory, points_ras=points, crops=crops)
    assert len(given["patches"]) == len(voxels)
    for patch, voxel in zip(given["patches"], voxels, strict=True):
        middle = tuple(n // 2 for n in patch.shape)
        assert patch[middle] == np.asarray(image.dataobj)[tuple(voxel)]


def test_folds(data):
    labels = [*LOCATIONS, ANEURYSM_PRESENT]
    folds = run("Five folds", data=data, labels=labels)["folds"]
    assert folds.height == data.volumes().height
    assert folds.group_by("geometry_group").agg(pl.col("fold").n_unique())["fold"].to_list() == (
        [1] * folds["geometry_group"].n_unique()
    )
    assert set(folds["fold"]) == {0, 1, 2, 3, 4}
    positive = folds.filter(pl.col(ANEURYSM_PRESENT) == 1).unique("geometry_group")
    assert positive["fold"].value_counts()["count"].max() <= -(-positive.height // 5) + 1
