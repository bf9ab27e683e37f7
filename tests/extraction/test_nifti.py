import gzip
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

from aneurysm_assets.extraction.errors import SeriesError
from aneurysm_assets.extraction.nifti import segmentation_files, segmentation_meta
from aneurysm_assets.tables import SEGMENTATION_META

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
        "nii_affine": AFFINE.tolist(),
        "nii_pixdim": [0.5, 0.75, 1.25],
        "nii_dtype": "int16",
        "nii_axis_codes": "LAS",
        "cowseg_path": f"segmentations/{SERIES}/{SERIES}_cowseg.nii",
        "cowseg_shape": [7, 8, 9],
        "cowseg_affine": np.diag([1.0, 1, 3, 1]).tolist(),
        "cowseg_pixdim": [1.0, 1.0, 3.0],
        "cowseg_dtype": "uint8",
        "cowseg_axis_codes": "RAS",
    }


@pytest.mark.parametrize(
    ("present", "absent", "suffix"), [("nii", "cowseg", ""), ("cowseg", "nii", "_cowseg")]
)
def test_a_missing_one_of_the_pair_is_nulls_for_that_one(raw, present, absent, suffix):
    raw.write(suffix)
    row = raw.row()
    values = {name: row[name] for name in row if name.startswith(f"{absent}_")}
    assert len(values) == 6
    assert set(values.values()) == {None}
    assert all(row[name] is not None for name in row if name.startswith(f"{present}_"))


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
    assert row["nii_affine"] == loaded.affine.tolist()
    assert np.allclose(row["nii_affine"], affine, atol=1e-4)
    assert row["nii_axis_codes"] == codes == "".join(nib.aff2axcodes(loaded.affine))
    assert row["nii_pixdim"] == [float(zoom) for zoom in loaded.header.get_zooms()]


@pytest.mark.parametrize(("sform_code", "qform_code"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_sform_goes_before_qform_before_pixdim_as_in_nibabel(raw, sform_code, qform_code):
    image = nib.Nifti1Image(np.ones(SHAPE, "int16"), None)
    image.set_sform(AFFINE, sform_code)
    image.set_qform(np.diag([2.0, 3, 4, 1]), qform_code)
    nib.save(image, raw.path())
    row = raw.row()
    assert row["nii_affine"] == nib.load(raw.path()).affine.tolist()
    if sform_code:
        assert row["nii_affine"] == AFFINE.tolist()
    elif qform_code:
        assert row["nii_affine"] == np.diag([2.0, 3, 4, 1]).tolist()
    else:
        assert np.diag(row["nii_affine"]).tolist() == [-2, 3, 4, 1]
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
    assert row["nii_affine"] == AFFINE.tolist()


def test_nifti_2_is_read(raw):
    affine = AFFINE * [[0.1], [1], [1], [1]]
    nib.save(nib.Nifti2Image(np.ones(SHAPE, "uint8"), affine), raw.path())
    row = raw.row()
    assert row["nii_affine"] == affine.tolist()
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
    assert row["nii_affine"][2] == [0, 0, 0, 0]


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
        (gzip.compress(bytes(2_000)), "no NIfTI header"),
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
    assert str(raw.path()) in raw.failure()
    assert segmentation_files(raw.segmentations, SERIES) == [raw.path()]


def test_a_file_in_place_of_the_directory_is_named(raw):
    raw.segmentations.mkdir(parents=True)
    raw.directory.write_text("")
    assert f"{SERIES}.nii: Not a directory" in raw.failure()


def test_no_permission_is_named(raw, monkeypatch):
    path = raw.write()

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert raw.failure() == f"{path}: no usable NIfTI file: Permission denied"
    monkeypatch.setattr(Path, "lstat", refuse)
    assert raw.failure() == f"{path}: Permission denied"


def test_an_odd_header_is_read_without_a_word(raw, caplog):
    path = edited(raw.write(), pixdim=[0, -2, 0, 3, 1, 1, 1, 1], bitpix=7, sform_code=0)
    program = (
        "import sys; from pathlib import Path\n"
        "from aneurysm_assets.extraction.nifti import segmentation_meta\n"
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
        try:
            row = raw.row()
        except SeriesError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right
            return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = nib.load(path)
    assert np.array_equal(row["nii_affine"], loaded.affine)
    assert row["nii_pixdim"] == [float(zoom) for zoom in loaded.header.get_zooms()[:3]]
    assert row["nii_dtype"] == loaded.get_data_dtype().name


def test_a_whole_directory_moved_elsewhere_keeps_its_paths_in_the_table(raw, tmp_path):
    raw.write()
    before = raw.row()
    shutil.move(raw.root, tmp_path / "elsewhere")
    assert Raw(tmp_path / "elsewhere").row() == before
