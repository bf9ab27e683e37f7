import errno
import gzip
import io
import logging
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.spatialimages import HeaderDataError

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.nifti.gzip_stream import GzipStream
from aneurysm_assets.nifti.segmentation import read_header, segmentation_meta
from aneurysm_assets.raw.segmentation_files import segmentation_files, series_among
from aneurysm_assets.schema.columns import VESSEL_CLASSES, vessel_column
from aneurysm_assets.schema.tables import SEGMENTATION_META

SERIES = "1.2.826.0.1"
SHAPE = (4, 5, 6)
AFFINE = np.array(
    [[-0.5, 0, 0, 90.25], [0, 0.75, 0, -126.5], [0, 0, 1.25, -72], [0, 0, 0, 1]], dtype=float
)
BYTES_OF_HEADER = 352  # NIfTI-1, with the four bytes that announce extensions


class Raw:
    """A raw root with one series' segmentation directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.segmentations = root / "segmentations"
        self.directory = self.segmentations / SERIES

    def path(self, suffix: str = "", extension: str = ".nii") -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / f"{SERIES}{suffix}{extension}"

    def write(self, suffix="", extension=".nii", shape=SHAPE, affine=AFFINE, dtype="int16"):
        path = self.path(suffix, extension)
        nib.save(nib.Nifti1Image(np.ones(shape, dtype), affine), path)
        return path

    def meta(self) -> pl.DataFrame:
        frame = segmentation_meta(self.segmentations, self.root, SERIES)
        assert frame.schema == SEGMENTATION_META.schema
        return frame

    def row(self) -> dict[str, object]:
        frame = self.meta()
        assert frame.height == 1
        return frame.row(0, named=True)

    def failure(self) -> str:
        """Return why one file of the pair cannot be used, with its path."""
        row = self.row()
        (prefix,) = (name for name in ("nii", "cowseg") if row[f"{name}_error"] is not None)
        known = {n for n in row if n.startswith(f"{prefix}_") and row[n] is not None}
        assert known == {f"{prefix}_path", f"{prefix}_error"}
        return (
            f"{self.root / row[f'{prefix}_path']}: no usable NIfTI file: {row[f'{prefix}_error']}"
        )

    def refusal(self) -> str:
        """Return why the series fails."""
        with pytest.raises(SeriesError) as caught:
            self.meta()
        return str(caught.value)


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path / "raw")


def edited(path: Path, **fields: object) -> Path:
    """Overwrite fields of a NIfTI-1 header as no library would."""
    data = path.read_bytes()
    header = np.frombuffer(data[:348], nib.Nifti1Header.template_dtype)[0].copy()
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.tobytes() + data[348:])
    return path


# --- which files --------------------------------------------------------------------------------


def test_a_pair_is_one_row_with_what_both_headers_say(raw):
    raw.write()
    raw.write("_cowseg", dtype="uint8", shape=(7, 8, 9), affine=np.diag([1, 1, 3, 1]))
    assert raw.row() == {
        "SeriesInstanceUID": SERIES,
        "nii_path": f"segmentations/{SERIES}/{SERIES}.nii",
        "nii_shape": [4, 5, 6],
        "nii_affine": AFFINE.ravel().tolist(),
        "nii_pixdim": [0.5, 0.75, 1.25],
        "nii_error": None,
        "nii_pixdim_all": [-1.0, 0.5, 0.75, 1.25, 1.0, 1.0, 1.0, 1.0],
        "nii_dtype": "int16",
        "nii_axis_codes": "LAS",
        "nii_determinant_sign": -1,
        "nii_voxel_size": [0.5, 0.75, 1.25],
        "cowseg_path": f"segmentations/{SERIES}/{SERIES}_cowseg.nii",
        "cowseg_shape": [7, 8, 9],
        "cowseg_affine": np.diag([1.0, 1, 3, 1]).ravel().tolist(),
        "cowseg_pixdim": [1.0, 1.0, 3.0],
        "cowseg_error": None,
        "cowseg_pixdim_all": [1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0],
        "cowseg_dtype": "uint8",
        "cowseg_axis_codes": "RAS",
        "cowseg_determinant_sign": 1,
        "cowseg_voxel_size": [1.0, 1.0, 3.0],
        "cowseg_labels": [1],
        **dict.fromkeys(map(vessel_column, VESSEL_CLASSES), 0),
        vessel_column("Other Posterior Circulation"): 7 * 8 * 9,
        "cowseg_boxes": [1, 0, 0, 0, 6, 7, 8],
    }


@pytest.mark.parametrize(
    ("present", "absent", "suffix", "columns"),
    [("nii", "cowseg", "", 10 + 1 + 13 + 1), ("cowseg", "nii", "_cowseg", 10)],
)
def test_a_missing_one_of_the_pair_is_nulls_for_that_one(raw, present, absent, suffix, columns):
    raw.write(suffix)
    row = raw.row()
    values = {name: row[name] for name in row if name.startswith(f"{absent}_")}
    assert len(values) == columns
    assert all(value is None for value in values.values())
    null = [name for name in row if name.startswith(f"{present}_") and row[name] is None]
    assert null == [f"{present}_error"]


def test_a_series_without_files_is_an_empty_table_with_the_schema(raw):
    assert raw.meta().is_empty()
    raw.path("_other").write_bytes(b"")
    assert raw.meta().is_empty()
    assert segmentation_files(raw.segmentations, SERIES) == []


def test_the_files_to_count_are_those_that_exist(raw):
    cowseg = raw.write("_cowseg", ".nii.gz")
    assert segmentation_files(raw.segmentations, SERIES) == [cowseg]
    image = raw.write()
    raw.write(extension=".nii.gz")
    assert segmentation_files(raw.segmentations, SERIES) == [image, cowseg]


def test_a_compressed_file_is_read_where_there_is_no_other(raw):
    raw.write()
    plain = raw.row()
    raw.path().unlink()
    raw.write(extension=".nii.gz")
    path = f"segmentations/{SERIES}/{SERIES}.nii.gz"
    assert raw.row() == plain | {"nii_path": path}
    raw.write(dtype="float32")
    assert raw.row() == plain | {"nii_dtype": "float32"}


@pytest.mark.parametrize("uid", ["../..", "", "1.2/3", "1" * 65])
def test_no_path_is_made_of_what_is_no_uid(raw, uid):
    for call in (
        lambda: segmentation_meta(raw.segmentations, raw.root, uid),
        lambda: segmentation_files(raw.segmentations, uid),
    ):
        with pytest.raises(SeriesError, match="no DICOM UID"):
            call()


# --- what a header says -------------------------------------------------------------------------


def rotation(degrees: float, axis: int) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    plane = [index for index in range(3) if index != axis]
    matrix = np.eye(4)
    matrix[np.ix_(plane, plane)] = [[cos, -sin], [sin, cos]]
    return matrix


@pytest.mark.parametrize(
    ("affine", "codes"),
    [
        (np.diag([1.0, 1, 1, 1]), "RAS"),
        (np.diag([-1.0, -1, 1, 1]), "LPS"),
        (np.diag([1.0, 1, -2, 1]), "RAI"),
        (np.eye(4)[[1, 2, 0, 3]], "SRA"),
        (rotation(20, 0) @ rotation(-30, 2) @ np.diag([0.5, 0.5, 3, 1]), "RAS"),
        (rotation(80, 1) @ np.diag([-0.5, 0.5, 3, 1]), "IAL"),
    ],
)
def test_flipped_permuted_and_oblique_affines_are_those_of_nibabel(raw, affine, codes):
    affine[:3, 3] = [-12.5, 7, 1000.125]
    loaded = nib.load(raw.write(affine=affine))
    row = raw.row()
    assert row["nii_affine"] == loaded.affine.ravel().tolist()
    assert np.allclose(row["nii_affine"], affine.ravel(), atol=1e-4)
    assert row["nii_axis_codes"] == codes == "".join(nib.aff2axcodes(loaded.affine))
    assert row["nii_pixdim"] == [float(zoom) for zoom in loaded.header.get_zooms()]
    assert row["nii_determinant_sign"] == np.sign(np.linalg.det(loaded.affine[:3, :3]))
    assert np.allclose(row["nii_voxel_size"], nib.affines.voxel_sizes(loaded.affine), rtol=1e-12)


def test_voxel_size_is_the_affines_where_pixdim_says_otherwise(raw):
    edited(raw.write(), pixdim=[1, 9, 9, 9, 1, 1, 1, 1])
    row = raw.row()
    assert row["nii_pixdim"] == [9.0, 9.0, 9.0]
    assert row["nii_voxel_size"] == [0.5, 0.75, 1.25]


def test_a_mirrored_volume_has_a_negative_determinant_and_a_turned_one_has_not(raw):
    for flips, sign in [((1, 1, 1), 1), ((-1, 1, 1), -1), ((-1, -1, 1), 1), ((-1, -1, -1), -1)]:
        raw.write(affine=rotation(35, 0) @ np.diag([*flips, 1]))
        assert raw.row()["nii_determinant_sign"] == sign
    raw.write(affine=np.diag([1e-4, 1e-4, 1e-4, 1]))  # small, and no less sound
    assert raw.row()["nii_determinant_sign"] == 1


@pytest.mark.parametrize(("sform_code", "qform_code"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_sform_goes_before_qform_before_pixdim_as_in_nibabel(raw, sform_code, qform_code):
    image = nib.Nifti1Image(np.ones(SHAPE, "int16"), None)
    image.set_sform(AFFINE, sform_code)
    image.set_qform(np.diag([2.0, 3, 4, 1]), qform_code)
    nib.save(image, raw.path())
    row = raw.row()
    assert row["nii_affine"] == nib.load(raw.path()).affine.ravel().tolist()
    if sform_code:
        assert row["nii_affine"] == AFFINE.ravel().tolist()
    elif qform_code:
        assert row["nii_affine"] == np.diag([2.0, 3, 4, 1]).ravel().tolist()
    else:
        assert row["nii_affine"][::5] == [-2, 3, 4, 1]
    assert row["nii_pixdim"] == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_stored_dtype_has_numpys_name_in_either_byte_order(raw, dtype, order):
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    header["scl_slope"] = 2  # would make nibabel's array float64
    nib.save(nib.Nifti1Image(np.ones(SHAPE, dtype), AFFINE, header), raw.path())
    assert nib.load(raw.path()).header.endianness == order
    row = raw.row()
    assert row["nii_dtype"] == dtype
    assert row["nii_shape"] == list(SHAPE)
    assert row["nii_affine"] == AFFINE.ravel().tolist()


def test_nifti_2_is_read(raw):
    affine = AFFINE * [[0.1], [1], [1], [1]]
    nib.save(nib.Nifti2Image(np.ones(SHAPE, "uint8"), affine), raw.path())
    row = raw.row()
    assert row["nii_affine"] == affine.ravel().tolist()
    assert (row["nii_shape"], row["nii_dtype"]) == (list(SHAPE), "uint8")


@pytest.mark.parametrize("shape", [(4, 5, 6, 1), (4, 5, 6, 1, 1), (4, 5, 6)])
def test_trailing_dimensions_of_one_are_dropped(raw, shape):
    raw.write(shape=shape)
    row = raw.row()
    assert row["nii_shape"] == [4, 5, 6]
    assert row["nii_pixdim"] == [0.5, 0.75, 1.25]


def test_a_volume_of_one_slice_stays_three_dimensional(raw):
    raw.write(shape=(4, 5, 1))
    assert raw.row()["nii_shape"] == [4, 5, 1]


def test_a_flat_affine_has_no_axis_codes(raw):
    edited(raw.write(), srow_z=0)
    row = raw.row()
    assert row["nii_axis_codes"] is None
    assert row["nii_affine"][8:12] == [0, 0, 0, 0]
    assert row["nii_determinant_sign"] == 0


def test_columns_in_one_plane_are_degenerate_though_rounding_hides_it(raw):
    edited(raw.write(), srow_x=[0.1, 0.3, 0.4, 0], srow_y=[0.7, 0.2, 0.9, 0], srow_z=[1, 1, 2, 0])
    row = raw.row()
    assert np.linalg.det(np.reshape(row["nii_affine"], (4, 4))[:3, :3]) != 0
    assert row["nii_determinant_sign"] == 0


# --- what the voxels of the vessels say -----------------------------------------------------------

FLOATS = ["float32", "float64"]
INTEGERS = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def vessels(shape=(9, 11, 13)) -> np.ndarray:
    """Give label n of 0 to 13 about n + 1 voxels of each 105, scattered."""
    values = np.repeat(np.arange(14), np.arange(1, 15))
    rng = np.random.default_rng(7)
    return rng.choice(values, shape)


def counted(volume: np.ndarray) -> dict[str, object]:
    """Count as someone would who has the whole volume in memory."""
    labels = sorted({int(value) for value in volume.flat})
    voxels = {vessel_column(name): (volume == 1 + n).sum() for n, name in enumerate(VESSEL_CLASSES)}
    return {"cowseg_labels": labels, **voxels, "cowseg_boxes": boxes_of(volume)}


def boxes_of(volume: np.ndarray) -> list[int]:
    volume = volume.reshape(volume.shape + (1,) * (3 - volume.ndim))
    found = {n: np.argwhere(volume == n) for n in range(1, 14)}
    return [
        int(number)
        for n, voxels in found.items()
        if len(voxels)
        for number in (n, *voxels.min(axis=0), *voxels.max(axis=0))
    ]


def save(path: Path, volume: np.ndarray, dtype: str, order="<", kind=nib.Nifti1Image) -> Path:
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    nib.save(kind(volume.astype(dtype), AFFINE, header), path)
    return path


def voxel_columns(row: dict[str, object]) -> dict[str, object]:
    return {name: row[name] for name in counted(np.zeros(1))}


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_every_class_is_counted_by_its_name_whatever_the_stored_dtype(
    raw, dtype, order, kind, extension
):
    volume = vessels()
    save(raw.path("_cowseg", extension), volume, dtype, order, kind)
    row = raw.row()
    assert voxel_columns(row) == counted(volume)
    assert row["cowseg_dtype"] == dtype
    assert len({row[vessel_column(name)] for name in VESSEL_CLASSES}) > 10


def test_the_names_are_those_of_the_data_set_not_the_order_of_train_csv(raw):
    volume = np.zeros(SHAPE)
    volume[0, 0, :2] = 4
    volume[1, 0, :3] = 5
    volume[2, 0, :4] = 13
    save(raw.path("_cowseg"), volume, "uint8")
    row = raw.row()
    assert row["cowseg_voxels_left_posterior_communicating_artery"] == 2
    assert row["cowseg_voxels_right_infraclinoid_internal_carotid_artery"] == 3
    assert row["cowseg_voxels_anterior_communicating_artery"] == 4
    assert row["cowseg_labels"] == [0, 4, 5, 13]


def test_labels_of_no_class_are_listed_and_counted_in_none(raw):
    volume = np.zeros(SHAPE)
    volume[0, 0, :4] = [-(2**31), -1, 14, 2**31 - 1]
    for dtype in ("int32", "int64", "float64"):
        save(raw.path("_cowseg"), volume, dtype)
        row = raw.row()
        assert row["cowseg_labels"] == [-(2**31), -1, 0, 14, 2**31 - 1]
        assert sum(row[vessel_column(name)] for name in VESSEL_CLASSES) == 0


def test_a_volume_without_background_and_one_of_nothing_else(raw):
    raw.write("_cowseg", dtype="uint8")
    assert raw.row()["cowseg_labels"] == [1]
    save(raw.path("_cowseg"), np.full(SHAPE, -0.0), "float32")
    assert voxel_columns(raw.row()) == counted(np.zeros(SHAPE))


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_the_first_and_the_last_voxel_count_and_those_around_the_ends_of_slabs(raw, extension):
    volume = np.zeros(1_500_001, "int16")  # 3 MB, and no whole number of slabs
    for label, place in enumerate([0, 2**19 - 1, 2**19, 2**20 - 1, 2**20, -1], start=1):
        volume[place] = label
    path = raw.path("_cowseg", extension)
    nib.save(nib.Nifti2Image(volume.reshape(-1, 1, 1), AFFINE), path)
    assert voxel_columns(raw.row()) == counted(volume)
    assert raw.row()["cowseg_labels"] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_the_box_of_a_vessel_is_whole_where_a_slab_ends_within_it(raw, extension):
    volume = np.zeros((300, 400, 12), "uint8")  # 1.4 MB, and no whole number of slabs or rows
    volume[20:290, 7:390, 2:11][:, 1:-1, 1:-1] = 3
    volume[250, 150:160, 8] = 13
    assert volume.size > 2**20 > volume[:, :, :8].size
    save(raw.path("_cowseg", extension), volume, "uint8")
    assert raw.row()["cowseg_boxes"] == [3, 20, 8, 3, 289, 388, 9, 13, 250, 150, 8, 250, 159, 8]


def test_a_vessel_that_the_scale_makes_of_stored_zeros_has_its_box(raw):
    volume = np.ones((4, 5, 6), "int16")
    volume[1:3, 2, 3:] = 0
    edited(save(raw.path("_cowseg"), volume, "int16"), scl_slope=-4, scl_inter=4)
    row = raw.row()
    assert (row["cowseg_labels"], row["cowseg_boxes"]) == ([0, 4], [4, 1, 2, 3, 2, 2, 5])


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    dtype=st.sampled_from([*INTEGERS, *FLOATS]),
    slope=st.sampled_from([0, 1, 2, 0.1, 0.5, -1, 1e-4, float("nan"), float("inf")]),
    inter=st.sampled_from([0, 3, -2, 0.25, 0.5]),
    stored=st.lists(st.integers(0, 127), min_size=1, max_size=9),
)
def test_scaled_labels_are_those_of_nibabel_or_are_refused(raw, dtype, slope, inter, stored):
    volume = np.array(stored).reshape(-1, 1, 1)
    path = edited(save(raw.path("_cowseg"), volume, dtype), scl_slope=slope, scl_inter=inter)
    values = np.asanyarray(nib.load(path).dataobj).astype(float)
    unscaled = slope in (0, 1) and inter == 0
    if (abs(values - values.round()) <= (0 if unscaled else 1e-3)).all():
        assert voxel_columns(raw.row()) == counted(values.round())
    else:
        assert "is no whole number" in raw.failure()


def test_stored_values_that_scale_to_one_label_are_counted_together(raw):
    volume = np.array([29_999, 30_000, 30_001, 0]).reshape(4, 1, 1)
    edited(save(raw.path("_cowseg"), volume, "int16"), scl_slope=1e-4)
    row = raw.row()
    assert row["cowseg_labels"] == [0, 3]
    assert row["cowseg_voxels_right_posterior_communicating_artery"] == 3


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("value", "dtype", "says"),
    [
        (1.5, "float32", "label 1.5 is no whole number"),
        (2.0001, "float64", "label 2.0001 is no whole number"),
        (1e-9, "float64", "is no whole number"),
        (np.nan, "float32", "not finite"),
        (-np.inf, "float64", "not finite"),
        (2.0**31, "float64", "do not fit Int32"),
        (-(2.0**31) - 1, "float64", "do not fit Int32"),
        (3e38, "float32", "do not fit Int32"),
        (2**31, "uint32", "do not fit Int32"),
        (-(2**31) - 1, "int64", "do not fit Int32"),
        (2**63, "uint64", "do not fit Int32"),
        (1j, "complex64", "complex64 voxels are no labels"),
    ],
)
def test_values_that_are_no_labels_make_a_broken_file(raw, value, dtype, says, extension):
    volume = np.zeros(SHAPE, dtype)
    volume[-1, -1, -1] = value
    path = save(raw.path("_cowseg", extension), volume, dtype)
    message = raw.failure()
    assert message.startswith(f"{path}: no usable NIfTI file: ")
    assert says in message
    path.rename(raw.path("", extension))  # nobody asks that of the image
    assert raw.row()["nii_dtype"] == dtype


def test_colours_are_no_labels(raw):
    volume = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(volume, AFFINE), raw.path("_cowseg"))
    assert "voxels are no labels" in raw.failure()


def test_noise_in_place_of_labels_does_not_fill_the_table(raw):
    save(raw.path("_cowseg"), np.arange(80_000).reshape(40, 40, 50), "int32")
    assert "more than 65536 different values" in raw.failure()
    save(raw.path("_cowseg"), np.arange(-(2**15), 2**15).reshape(64, 64, 16), "int16")
    assert len(raw.row()["cowseg_labels"]) == 2**16  # an image in its place, at most


def test_voxels_begin_where_the_header_says(raw):
    path = save(raw.path("_cowseg"), vessels(), "uint8")
    data = path.read_bytes()
    path.write_bytes(data[:352] + b"\x09" * 16 + data[352:])
    edited(path, vox_offset=368)
    assert voxel_columns(raw.row()) == counted(nib.load(path).get_fdata()) == counted(vessels())


def test_extensions_are_no_voxels(raw):
    image = nib.Nifti1Image(vessels().astype("uint8"), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"\x07" * 100))
    nib.save(image, raw.path("_cowseg"))
    assert voxel_columns(raw.row()) == counted(vessels())


def test_labels_are_not_guessed_where_readers_differ_on_the_first_voxel(raw):
    path = edited(save(raw.path("_cowseg"), vessels(), "uint8"), vox_offset=0)
    assert counted(nib.load(path).get_fdata()) != counted(vessels())  # it takes the header's bytes
    assert "vox_offset is 0: where the voxels begin is not said" in raw.failure()


def test_compressed_labels_that_are_cut_short_or_damaged_are_named(raw):
    path = save(raw.path("_cowseg", ".nii.gz"), vessels((60, 60, 60)), "uint8")
    packed, plain = path.read_bytes(), gzip.decompress(path.read_bytes())
    checksum_wrong = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    middle = len(packed) // 2
    flipped = packed[:middle] + bytes([packed[middle] ^ 16]) + packed[middle + 1 :]
    for content, says in [
        (packed[:-1], "ended before"),
        (packed[:-20_000], "ended before"),
        (gzip.compress(plain[:-1]), "truncated: its data end before the last voxel"),
        (checksum_wrong, "its gzip stream is damaged"),
        (flipped, ""),
    ]:
        path.write_bytes(content)
        message = raw.failure()
        assert message.startswith(f"{path}: no usable NIfTI file: ")
        assert says in message
    path.write_bytes(gzip.compress(plain[:-500]) + gzip.compress(plain[-500:]))
    assert voxel_columns(raw.row()) == counted(vessels((60, 60, 60)))


def test_a_compressed_file_is_read_once_from_start_to_end(raw, monkeypatch):
    path = save(raw.path("_cowseg", ".nii.gz"), vessels((200, 200, 100)), "uint8")
    places = []
    open_file = Path.open

    def watched(self: Path, *arguments: object):
        file = open_file(self, *arguments)

        class Watched:
            def __getattr__(self, name):
                return getattr(file, name)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def read(self, *size):
                data = file.read(*size)
                places.append(file.tell())
                return data

        return Watched()

    monkeypatch.setattr(Path, "open", watched)
    raw.row()
    of_voxels = places[places.index(min(places), 1) :]  # after those of the header
    assert of_voxels == sorted(of_voxels)
    assert of_voxels[-1] == path.stat().st_size


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's")
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_peak_memory_stays_far_below_the_volumes_size(raw, extension):
    header = nib.Nifti1Header()
    header.set_data_dtype("int16")
    header.set_data_shape((512, 512, 600))
    header.set_sform(AFFINE, 1)
    header["vox_offset"] = BYTES_OF_HEADER
    path = raw.path("_cowseg", extension)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4) + b"\x05\0")
        file.truncate(BYTES_OF_HEADER + 2 * 512 * 512 * 600)  # 300 MB that take no place on disk
    if extension == ".nii.gz":
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    program = (
        "import re, sys; from pathlib import Path\n"
        "from aneurysm_assets.nifti.segmentation import segmentation_meta\n"
        "def peak(): return int(re.search('VmHWM:(.*)kB', status.read_text())[1]) / 1024\n"
        "root, status = Path(sys.argv[1]), Path('/proc/self/status')\n"
        "before = peak()\n"
        "row = segmentation_meta(root / 'segmentations', root, sys.argv[2])\n"
        "print(peak() - before, row['cowseg_labels'].to_list())\n"
    )
    command = [sys.executable, "-c", program, str(raw.root), SERIES]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    megabytes, labels = output.split(maxsplit=1)
    assert labels.strip() == "[[0, 5]]"
    assert float(megabytes) < 30


# --- headers only -------------------------------------------------------------------------------


def test_the_data_of_a_compressed_file_are_not_read(raw):
    path = raw.path(extension=".nii.gz")
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 200), dtype="uint8")
    nib.save(nib.Nifti1Image(noise, AFFINE), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(EOFError):
        nib.load(path).get_fdata()
    assert raw.row()["nii_shape"] == [200, 200, 200]


def test_the_data_of_a_plain_file_are_not_read(raw):
    path = edited(raw.write(), dim=[3, 5_000, 5_000, 5_000, 1, 1, 1, 1])
    with path.open("r+b") as file:
        file.truncate(BYTES_OF_HEADER + 2 * 5_000**3)  # 250 GB that take no place on disk
    assert raw.row()["nii_shape"] == [5_000, 5_000, 5_000]


def test_extensions_are_not_read_even_where_they_are_broken(raw):
    path = raw.write()
    data = bytearray(path.read_bytes())
    data[348:352] = b"\x01\0\0\0"
    path.write_bytes(data)
    edited(path, vox_offset=0)
    with pytest.warns(UserWarning, match="Extension size"), pytest.raises(HeaderDataError):
        nib.load(path)
    assert raw.row()["nii_shape"] == list(SHAPE)


# --- broken files -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "_cowseg"])
def test_a_file_shorter_than_its_header_says_is_broken(raw, suffix):
    raw.write("_cowseg" if suffix == "" else "")
    path = raw.write(suffix)
    whole = path.read_bytes()
    assert len(whole) == BYTES_OF_HEADER + 4 * 5 * 6 * 2
    raw.row()
    path.write_bytes(whole[:-1])
    assert raw.failure() == (
        f"{path}: no usable NIfTI file: truncated: 591 bytes where the header asks for 592"
    )


def test_the_length_counts_from_where_the_data_begin(raw):
    path = edited(raw.write(), vox_offset=368)
    assert "asks for 608" in raw.failure()
    path.write_bytes(path.read_bytes() + bytes(16))
    raw.row()


def test_data_do_not_begin_within_the_header(raw):
    path = edited(raw.write(), vox_offset=0)
    raw.row()
    path.write_bytes(path.read_bytes()[:-1])
    assert "truncated: 591 bytes" in raw.failure()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no NIfTI header"),
        (b"no image, only text\n", "no NIfTI header"),
        (b"no image, only text\n" * 100, "no NIfTI header"),
        (bytes(2_000), "no NIfTI header"),
        (gzip.compress(bytes(2_000), mtime=0), "no NIfTI header"),
    ],
)
def test_what_is_no_nifti_is_named(raw, content, says):
    path = raw.path()
    path.write_bytes(content)
    message = raw.failure()
    assert str(path) in message
    assert says in message


def test_a_compressed_file_that_is_not_compressed_or_damaged_is_named(raw):
    plain = raw.write().read_bytes()
    raw.path().unlink()
    path = raw.path(extension=".nii.gz")
    packed = gzip.compress(plain)
    no_such_block = packed[:10] + b"\x07" + packed[11:]
    for content in (plain, b"", packed[:30], no_such_block):
        path.write_bytes(content)
        assert str(path) in raw.failure()


@pytest.mark.parametrize("shape", [(4, 5, 6, 2), (4, 5, 6, 1, 3), (4, 5), (9,), (4, 5, 0)])
def test_what_is_not_three_dimensional_is_named_with_its_shape(raw, shape):
    path = raw.write(shape=shape)
    message = raw.failure()
    assert str(path) in message
    assert f"shape {shape}" in message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"srow_x": [np.nan, 0, 0, 0]}, "not finite"),
        ({"srow_y": [0, np.inf, 0, 0]}, "not finite"),
        ({"pixdim": [1, 1, np.nan, 1, 1, 1, 1, 1]}, "not finite"),
        ({"datatype": 12345}, "12345"),
        ({"datatype": 0}, "data code 0"),
        ({"dim": [3, 4, -5, 6, 1, 1, 1, 1]}, "shape (4, -5, 6)"),
        ({"magic": b"ni1"}, "pair"),
        ({"magic": b"abc"}, "no NIfTI header"),
        ({"vox_offset": 16}, "offset"),
        ({"vox_offset": np.inf}, "infinity"),
        ({"vox_offset": np.nan}, "NaN"),
        ({"scl_slope": 1, "scl_inter": np.nan}, "intercept"),
    ],
)
def test_a_header_that_cannot_be_is_a_series_error(raw, fields, says):
    path = edited(raw.write(), **fields)
    message = raw.failure()
    assert message.startswith(f"{path}: no usable NIfTI file: ")
    assert says in message


def test_a_volume_too_long_for_the_table_is_a_series_error(raw):
    header = nib.Nifti2Header()
    header.set_data_shape((2**31, 1, 1))
    path = raw.path(extension=".nii.gz")
    path.write_bytes(gzip.compress(header.binaryblock))
    assert "shape (2147483648, 1, 1) is not possible" in raw.failure()


def test_a_directory_in_place_of_a_file_is_named(raw):
    raw.path().mkdir()
    assert f"{raw.path()}: no usable NIfTI file: it is a directory" in raw.failure()


def test_a_link_that_leads_nowhere_is_broken_and_not_missing(raw):
    raw.path().symlink_to("gone.nii")
    assert raw.refusal() == f"{raw.path()} cannot be read: No such file or directory"
    assert segmentation_files(raw.segmentations, SERIES) == [raw.path()]


def test_a_file_in_place_of_the_directory_is_named(raw):
    raw.segmentations.mkdir(parents=True)
    raw.directory.write_text("")
    assert f"{SERIES}.nii: Not a directory" in raw.refusal()


def test_no_permission_is_named(raw, monkeypatch):
    path = raw.write()

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert raw.refusal() == f"{path} cannot be read: Permission denied"
    monkeypatch.setattr(Path, "lstat", refuse)
    assert raw.refusal() == f"{path}: Permission denied"


def test_an_odd_header_is_read_without_a_word(raw, caplog):
    path = edited(raw.write(), pixdim=[0, -2, 0, 3, 1, 1, 1, 1], bitpix=7, sform_code=0)
    program = (
        "import sys; from pathlib import Path\n"
        "from aneurysm_assets.nifti.segmentation import segmentation_meta\n"
        "root = Path(sys.argv[1])\n"
        "segmentation_meta(root / 'segmentations', root, sys.argv[2])\n"
    )
    command = [sys.executable, "-W", "always", "-c", program, str(raw.root), SERIES]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("", "")
    with caplog.at_level(logging.DEBUG):
        assert raw.row()["nii_pixdim"] == [2.0, 1.0, 3.0]
        assert caplog.text == ""
        assert nib.load(path).header.get_zooms() == (2, 1, 3)  # which does log
        assert "pixdim" in caplog.text


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    damage=st.dictionaries(
        st.integers(0, 539), st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255)
    ),
    cut=st.integers(0, 800) | st.none(),
)
def test_any_damage_gives_what_nibabel_reads_or_a_series_error(raw, kind, damage, cut):
    data = bytearray(kind(np.ones(SHAPE, "int16"), AFFINE).to_bytes())
    for place, value in damage.items():
        data[place % kind.header_class.sizeof_hdr] = value
    path = raw.path()
    path.write_bytes(data[:cut])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = raw.row()
    if row["nii_error"] is not None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = nib.load(path)
    per_mm = {1: 0.001, 3: 1000}.get(int(loaded.header["xyzt_units"]) & 7, 1)
    assert np.allclose(
        np.reshape(row["nii_affine"], (4, 4))[:3] * per_mm, loaded.affine[:3], rtol=1e-12
    )
    zooms = [float(zoom) for zoom in loaded.header.get_zooms()[:3]]
    assert np.allclose(np.array(row["nii_pixdim"]) * per_mm, zooms, rtol=1e-12)
    assert row["nii_dtype"] == loaded.get_data_dtype().name


def test_a_whole_directory_moved_elsewhere_keeps_its_paths_in_the_table(raw, tmp_path):
    raw.write()
    before = raw.row()
    shutil.move(raw.root, tmp_path / "elsewhere")
    assert Raw(tmp_path / "elsewhere").row() == before


@pytest.mark.parametrize("broken", ["nii", "cowseg"])
def test_a_broken_file_of_the_pair_leaves_the_columns_of_the_other(raw, broken):
    paths = {"nii": raw.write(), "cowseg": raw.write("_cowseg", dtype="uint8")}
    whole = raw.row()
    paths[broken].write_bytes(b"no image")
    row = raw.row()
    kept = [name for name in whole if not name.startswith(f"{broken}_")]
    assert {name: row[name] for name in kept} == {name: whole[name] for name in kept}
    assert row[f"{broken}_path"] == whole[f"{broken}_path"]
    assert row[f"{broken}_error"] == "no NIfTI header"


@pytest.mark.parametrize("suffix", ["", "_cowseg"])
def test_a_faulty_disk_fails_the_series_and_is_no_broken_file(raw, suffix, monkeypatch):
    path = raw.write(suffix)
    open_file = Path.open

    def faulty(self: Path, *arguments: object):
        if self != path:
            return open_file(self, *arguments)
        raise OSError(errno.EIO, "Input/output error", str(self))

    monkeypatch.setattr(Path, "open", faulty)
    assert raw.refusal() == f"{path} cannot be read: Input/output error"


def test_all_of_pixdim_is_there_as_it_is_stored(raw):
    edited(raw.write(), pixdim=[-1, 500, 750, 1250, 2, np.nan, 0, 7], xyzt_units=3)
    row = raw.row()
    assert row["nii_pixdim_all"] == [-1.0, 500.0, 750.0, 1250.0, 2.0, None, 0.0, 7.0]
    assert row["nii_pixdim"] == [0.5, 0.75, 1.25]


# --- the unit of length ---------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "per_mm"), [(0, 1), (1, 0.001), (2, 1), (3, 1000), (8, 1)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("form", ["sform", "qform", "neither"])
def test_metre_and_micron_are_converted_to_mm_and_unknown_counts_as_mm(
    raw, code, per_mm, kind, form
):
    image = kind(np.ones(SHAPE, "int16"), None)
    affine = AFFINE.copy()
    affine[:3] *= per_mm
    image.set_sform(affine, int(form == "sform"))
    image.set_qform(affine, int(form == "qform"))
    image.header["xyzt_units"] = code
    nib.save(image, raw.path())
    row = raw.row()
    assert np.allclose(row["nii_voxel_size"], [0.5, 0.75, 1.25])
    assert np.allclose(row["nii_pixdim"], [0.5, 0.75, 1.25])
    if form != "neither":
        assert np.allclose(row["nii_affine"], AFFINE.ravel(), atol=1e-4)
    assert np.allclose(read_header(raw.path()).grid.affine_ras.ravel(), row["nii_affine"])


def test_seconds_beside_micron_do_not_hide_the_micron(raw):
    edited(raw.write(affine=np.diag([500.0, 750, 1250, 1])), xyzt_units=3 | 8)
    assert raw.row()["nii_affine"] == np.diag([0.5, 0.75, 1.25, 1]).ravel().tolist()


@pytest.mark.parametrize("code", [4, 5, 6, 7])
def test_a_unit_that_is_no_length_is_named(raw, code):
    edited(raw.write(), xyzt_units=code)
    assert f"xyzt_units says {code}, which is no unit of length" in raw.failure()


# --- bytes behind a gzip stream -------------------------------------------------------------------

BEHIND = [b"\0", bytes(100_000), b"garbage", bytes(5) + b"garbage", bytes(70_000) + b"x"]


@pytest.mark.parametrize("behind", BEHIND, ids=range(len(BEHIND)))
def test_bytes_behind_the_gzip_stream_are_passed_over_as_gzip_does(raw, behind):
    path = save(raw.path("_cowseg", ".nii.gz"), vessels(), "uint8")
    packed = path.read_bytes()
    path.write_bytes(packed + behind)
    said = subprocess.run(["gzip", "-dc"], input=packed + behind, capture_output=True, check=False)
    assert said.stdout == gzip.decompress(packed)
    assert said.returncode in (0, 2)  # 2 is a warning
    assert voxel_columns(raw.row()) == counted(vessels())
    path.write_bytes(packed[:-9] + behind)
    assert raw.failure().startswith(f"{path}: no usable NIfTI file: ")


def test_a_truncated_second_stream_is_an_error_and_not_passed_over(raw):
    path = save(raw.path("_cowseg", ".nii.gz"), vessels(), "uint8")
    plain = gzip.decompress(path.read_bytes())
    first, second = gzip.compress(plain[:-50]), gzip.compress(plain[-50:])
    for cut in (first + second[:-3], first + second + b"\x1f"):
        path.write_bytes(cut)
        assert "ended before" in raw.failure()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    parts=st.lists(st.binary(max_size=300_000) | st.integers(0, 200_000).map(bytes), min_size=1),
    zeros=st.integers(0, 3),
    size=st.integers(1, 300_000),
    start=st.integers(0, 500_000),
)
def test_a_gzip_stream_is_read_as_the_standard_library_reads_it(parts, zeros, size, start):
    packed = bytes(zeros).join(gzip.compress(part, 1) for part in parts)
    plain = b"".join(parts)
    stream = GzipStream(io.BytesIO(packed))
    stream.seek(start)
    found = []
    while part := stream.read(size):
        found.append(part)
    assert b"".join(found) == gzip.decompress(packed)[start:] == plain[start:]
    assert all(len(part) == size for part in found[:-1])


# --- flat files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_a_file_beside_the_directories_of_the_series_is_found(raw, extension):
    image, cowseg = raw.write(extension=extension), raw.write("_cowseg", extension)
    expected = raw.row()
    for path in (image, cowseg):
        path.rename(raw.segmentations / path.name)
    raw.directory.rmdir()
    row = raw.row()
    assert row["nii_path"] == f"segmentations/{image.name}"
    assert row["cowseg_path"] == f"segmentations/{cowseg.name}"
    paths = {"nii_path", "cowseg_path"}
    assert {n: row[n] for n in row if n not in paths} == {
        n: expected[n] for n in row if n not in paths
    }


def test_the_file_in_the_directory_goes_before_the_flat_one_for_each_of_the_pair(raw):
    flat_image, flat = (raw.write(suffix) for suffix in ("", "_cowseg"))
    for path in (flat_image, flat):
        path.rename(raw.segmentations / path.name)
    inside = raw.write(extension=".nii.gz")
    assert segmentation_files(raw.segmentations, SERIES) == [
        inside,
        raw.segmentations / flat.name,
    ]


def test_litter_in_the_directory_of_the_segmentations_is_no_file_of_a_series(raw):
    raw.segmentations.mkdir(parents=True)
    raw.path()
    litter = (".DS_Store", "Thumbs.db", f"._{SERIES}.nii", f"._{SERIES}_cowseg.nii", "notes.txt")
    for name in litter:
        (raw.segmentations / name).write_bytes(b"litter")
        (raw.directory / name).write_bytes(b"litter")
    assert raw.meta().is_empty()
    assert series_among(litter) == set()
    names = ("1.2", "1.3.nii", "1.3_cowseg.nii", "1.4_cowseg.nii.gz", "1.5_other.nii", "1.6.txt")
    assert series_among(names) == {"1.2", "1.3", "1.4"}
