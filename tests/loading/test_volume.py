"""`load_volume` is exact where it says so, and says why where it is not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

import aneurysm_assets as aa
from aneurysm_assets.errors import InputError, IrregularVolume, SeriesError
from aneurysm_assets.loading import pixels
from aneurysm_assets.preview import decoding
from tests.conftest import ROOT
from tests.loading.kinds import AXIAL, KINDS, SERIES, Image, Kind, colours_at, stack, value_at

ROUNDING = 0.5 + 1e-3

each_kind = pytest.mark.parametrize("name", KINDS)


def written(tmp_path: Path, kind: Kind) -> Path:
    return kind.write(tmp_path / "somewhere" / SERIES)


def change(path: Path, **attributes: Any) -> None:
    data = dcmread(path)
    for keyword, value in attributes.items():
        setattr(data, keyword, value)
    data.save_as(path)


def off_by(image: nib.Nifti1Image) -> float:
    """Return by how much voxels differ from what is at the place where the affine has them."""
    voxels = np.moveaxis(np.indices(image.shape), 0, -1)
    ras = nib.affines.apply_affine(image.affine, voxels)
    return float(np.abs(np.asarray(image.dataobj) - value_at(ras * (-1, -1, 1))).max())


@each_kind
def test_a_regular_volume_is_exact_and_any_other_says_why_it_is_none(tmp_path, name):
    kind = KINDS[name]
    folder = written(tmp_path, kind)
    volumes = aa.read_series(folder).volumes
    assert volumes["volume_index"].to_list() == list(range(len(kind.volumes)))
    assert {row["volume_split_by"] for row in volumes.to_dicts()} == {kind.split_by}
    assert volumes["left_out_reason"].to_list() == [kind.left_out] * len(kind.volumes)
    for (count, reason), volume in zip(kind.volumes, volumes.to_dicts(), strict=True):
        index = volume["volume_index"]
        assert len(volume["files"]) == len(volume["frames"]) == count
        assert volume["is_regular"] == (reason is None), volume["irregular_reason"]
        if reason is None:
            assert volume["irregular_reason"] is None
            image = aa.load_volume(folder, index)
            assert off_by(image) <= ROUNDING
            assert list(image.shape) == volume["shape"]
            assert image.affine.ravel().tolist() == volume["affine"]
        else:
            assert reason in volume["irregular_reason"]
            with pytest.raises(IrregularVolume) as error:
                aa.load_volume(folder, index)
            assert f"{folder}: volume {index} is not regular: " in str(error.value)
            assert reason in str(error.value)
            assert kind.left_out is None or kind.left_out in str(error.value)


def test_there_are_more_than_thirty_kinds_and_each_of_them_can_fail():
    assert len(KINDS) >= 30
    straight, bent = KINDS["axial"], KINDS["shifted slice"]
    assert straight.images[4].position != bent.images[4].position


def test_values_of_a_volume_that_is_taken_for_another_are_far_off(tmp_path):
    image = aa.load_volume(written(tmp_path, KINDS["tilted gantry"]))
    upright = image.affine.copy()
    upright[:3, 2] = (0, 0, 1.5)
    assert off_by(nib.Nifti1Image(image.dataobj, upright)) > 10


def test_the_document_compares_each_kind_and_says_what_comes_of_it_here():
    text = (ROOT / "docs" / "volumes.md").read_text(encoding="utf-8")
    rows = text.split("<!-- loaders: made by")[1].split("<!-- loaders: end")[0].splitlines()[3:-1]
    found = {}
    for names, here, *_ in (row.strip("| ").split(" | ") for row in rows):
        found |= dict.fromkeys(names.split("; "), here)
    assert found == {
        name: "0.5"
        if all(reason is None or reason.startswith("in colour") for _, reason in kind.volumes)
        else "refuses"
        for name, kind in KINDS.items()
    }


# --- dtypes and rescaling -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("axial", "int16"),
        ("signed", "int16"),
        ("8 bits", "int16"),
        ("fractional slope", "float32"),
        ("another slope per slice", "float32"),
        ("another intercept per slice", "int16"),
    ],
)
def test_integers_stay_integers_where_the_rescale_is_whole(tmp_path, name, dtype):
    image = aa.load_volume(written(tmp_path, KINDS[name]))
    assert image.get_data_dtype() == np.asarray(image.dataobj).dtype == dtype


@pytest.mark.parametrize(
    ("tags", "dtype"),
    [
        ({"BitsStored": 16, "HighBit": 15}, "int32"),
        ({"BitsStored": 16, "HighBit": 15, "RescaleIntercept": 0}, "uint16"),
        ({"BitsStored": 15, "HighBit": 14, "RescaleIntercept": 0}, "int16"),
        ({"RescaleSlope": 100}, "int32"),
    ],
)
def test_the_dtype_is_the_smallest_that_holds_what_the_header_allows(tmp_path, tags, dtype):
    folder = written(tmp_path, Kind(stack(tags=tags), []))
    image = aa.load_volume(folder)
    assert image.get_data_dtype() == dtype
    assert off_by(image) <= ROUNDING * tags.get("RescaleSlope", 1)


def test_a_dtype_that_is_asked_for_is_what_comes(tmp_path):
    folder = written(tmp_path, KINDS["axial"])
    image = aa.load_volume(folder, dtype=np.float64)
    assert image.get_data_dtype() == np.float64
    assert off_by(image) <= ROUNDING


def test_stored_values_come_where_no_rescale_is_wanted(tmp_path):
    folder = written(tmp_path, KINDS["fractional slope"])
    stored = np.asarray(aa.load_volume(folder, rescale=False).dataobj)
    assert stored.dtype == np.int16
    in_units = np.asarray(aa.load_volume(folder).dataobj)
    assert np.array_equal(stored * 0.5 - 1024, in_units)


def test_values_that_do_not_fit_or_would_be_rounded_are_refused(tmp_path):
    with pytest.raises(SeriesError, match="would be rounded: ask for a float dtype"):
        aa.load_volume(written(tmp_path / "a", KINDS["fractional slope"]), dtype=np.int16)
    with pytest.raises(SeriesError, match=r"0001\.dcm.* do not fit into uint8"):
        aa.load_volume(written(tmp_path / "b", KINDS["axial"]), dtype=np.uint8)


def test_what_lies_in_unused_bits_is_no_value(tmp_path):
    folder = written(tmp_path, KINDS["axial"])
    for path in folder.iterdir():
        data = dcmread(path)
        stored = np.frombuffer(data.PixelData, "<u2") | 0xA000
        data.PixelData = stored.tobytes()
        data.save_as(path)
    assert off_by(aa.load_volume(folder)) <= ROUNDING


# --- how files are read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["axial", "signed", "8 bits", "implicit VR", "multi-frame, reversed"]
)
def test_pixels_that_stand_in_the_file_as_they_are_are_read_without_pydicom(
    tmp_path, name, monkeypatch
):
    folder = written(tmp_path, KINDS[name])
    monkeypatch.setattr(pixels, "stored_values", None)
    assert off_by(aa.load_volume(folder)) <= ROUNDING


@pytest.mark.parametrize("name", ["axial", "signed", "8 bits", "multi-frame, reversed"])
def test_pydicom_reads_the_same(tmp_path, name, monkeypatch):
    folder = written(tmp_path, KINDS[name])
    quick = np.asarray(aa.load_volume(folder).dataobj)
    monkeypatch.setattr(pixels, "find_frames", lambda descriptor, row: None)
    assert np.array_equal(quick, np.asarray(aa.load_volume(folder).dataobj))


def test_jpeg_2000_is_decoded(tmp_path):
    folder = written(tmp_path, Kind(stack(3, shape=(64, 64)), []))
    plain = np.asarray(aa.load_volume(folder).dataobj)
    for path in folder.iterdir():
        data = dcmread(path)
        data.compress(JPEG2000Lossless)
        data.save_as(path)
    assert np.array_equal(plain, np.asarray(aa.load_volume(folder).dataobj))


def test_a_missing_decoder_names_what_to_install(tmp_path, monkeypatch):
    folder = written(tmp_path, KINDS["run-length"])
    monkeypatch.setattr(
        decoding, "get_decoder", lambda syntax: type("", (), {"is_available": False})
    )
    monkeypatch.setattr(decoding, "missing_packages", lambda extra: ["python-gdcm"])
    with pytest.raises(decoding.NoDecoder, match=r"python-gdcm.*pip install .*preview"):
        aa.load_volume(folder)


def test_a_file_that_cannot_be_decoded_is_named(tmp_path):
    folder = written(tmp_path, KINDS["run-length"])
    path = folder / "0003.dcm"
    data = dcmread(path)
    data.PixelData = encapsulate([b"\0" * 64])
    data.save_as(path)
    with pytest.raises(SeriesError, match=r"0003\.dcm: pixels cannot be read \(RLE Lossless"):
        aa.load_volume(folder)


def test_a_file_cut_short_is_named_also_where_irregular_ones_are_allowed(tmp_path):
    folder = written(tmp_path, KINDS["a file cut short"])
    with pytest.raises(SeriesError, match=r"0004\.dcm: pixels cannot be read"):
        aa.load_volume(folder, allow_irregular=True)


@pytest.mark.parametrize("name", ["axial", "run-length", "multi-frame, reversed"])
def test_a_series_in_a_bucket_is_loaded_as_from_a_disk(tmp_path, bucket, name):
    folder = written(tmp_path, KINDS[name])
    there = bucket / "series" / SERIES
    for path in folder.iterdir():
        (there / path.name).upload(path)
    on_disk = aa.load_volume(folder)
    for given in (there, str(there)):
        loaded = aa.load_volume(given)
        assert np.array_equal(np.asarray(loaded.dataobj), np.asarray(on_disk.dataobj))
        assert np.array_equal(loaded.affine, on_disk.affine)


# --- irregular ones, and what is not there ------------------------------------------------------


def test_an_irregular_volume_is_loaded_where_that_is_allowed(tmp_path):
    folder = written(tmp_path, KINDS["missing slice"])
    image = aa.load_volume(folder, allow_irregular=True)
    assert image.shape == (8, 6, 9)
    assert image.affine[2, 2] == pytest.approx(1.5 * 9 / 8)


@pytest.mark.parametrize("name", ["RGB", "RGB by planes", "YBR_FULL_422", "palette colour"])
def test_colour_is_given_as_colour_or_not_at_all(tmp_path, name):
    folder = written(tmp_path, KINDS[name])
    image = aa.load_volume(folder, allow_irregular=True)
    nib.save(image, tmp_path / "colour.nii.gz")
    for given in (image, nib.load(tmp_path / "colour.nii.gz")):
        array = np.ascontiguousarray(given.dataobj)
        assert array.dtype == np.dtype([(channel, "u1") for channel in "RGB"])
        red = nib.Nifti1Image(array["R"].astype(np.int16) + 650, given.affine)
        assert off_by(red) <= ROUNDING + 0.01
        expected = colours_at(array["R"]) if name != "YBR_FULL_422" else array["R"][..., None]
        assert (array.view(np.uint8).reshape(*array.shape, 3) == expected).all()
    with pytest.raises(SeriesError, match=f"volume 0: in colour .*{name.split()[0].upper()}"):
        aa.load_volume(folder, dtype=np.float32, allow_irregular=True)


def test_colour_among_grey_is_no_array(tmp_path):
    folder = written(tmp_path, KINDS["colour among grey"])
    with pytest.raises(SeriesError, match=r"2 of 5 images in colour .*PALETTE COLOR"):
        aa.load_volume(folder, allow_irregular=True)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_colour_of_other_than_8_bits_is_refused(tmp_path):
    folder = written(tmp_path, KINDS["RGB"])
    for path in folder.iterdir():
        data = dcmread(path)
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelData = np.frombuffer(data.PixelData, np.uint8).astype("<u2").tobytes()
        data["PixelData"].VR = "OW"
        data.save_as(path)
    with pytest.raises(SeriesError, match=r"0001\.dcm.* of uint16 are no colour of 8 bits"):
        aa.load_volume(folder, allow_irregular=True)


def test_a_volume_without_geometry_has_no_affine(tmp_path):
    image = aa.load_volume(written(tmp_path, KINDS["no geometry"]), allow_irregular=True)
    assert image.affine is None
    assert image.shape == (8, 6, 5)


def test_a_single_slice_is_as_thick_as_its_header_says(tmp_path):
    image = aa.load_volume(written(tmp_path, KINDS["one slice"]), allow_irregular=True)
    assert image.shape == (8, 6, 1)
    assert image.affine[:3, 2].tolist() == [0.0, 0.0, 1.5]


def test_what_is_not_there_is_named(tmp_path):
    folder = written(tmp_path, KINDS["axial"])
    with pytest.raises(SeriesError, match="has 1 volume, so there is no volume 1"):
        aa.load_volume(folder, 1)
    with pytest.raises(SeriesError, match="nowhere cannot be read"):
        aa.load_volume(tmp_path / "nowhere")
    with pytest.raises(InputError, match="URL of a series"):
        aa.load_volume("ftp://somewhere/1.2")


@pytest.mark.parametrize("moved_by", [0.0, 0.75, 15.0])
def test_two_series_in_one_directory_are_two_volumes(tmp_path, moved_by):
    folder = written(tmp_path, KINDS["axial"])
    other = stack(origin=(-20.0, 10.0, -30.0 + moved_by), tags={"SeriesInstanceUID": "1.2.3.99"})
    for path in Kind(other, []).write(tmp_path / "other").iterdir():
        path.rename(folder / f"other {path.name}")
    for index, name in ((0, "0"), (1, "other 0")):
        files = aa.read_series(folder).volumes["files"].to_list()[index]
        assert [file.startswith(f"{SERIES}/{name}") for file in files] == [True] * 10
        assert off_by(aa.load_volume(folder, index)) <= ROUNDING


def test_what_cannot_be_given_is_refused_in_words(tmp_path):
    folder = written(tmp_path, KINDS["axial"])
    with pytest.raises(InputError, match=r"0001\.dcm is a file: pass the directory"):
        aa.load_volume(folder / "0001.dcm")
    with pytest.raises(InputError, match="an empty text"):
        aa.read_series("")
    with pytest.raises(TypeError, match="as an integer"):
        aa.load_volume(folder, "0")
    for dtype in ("float16", "bool", "complex64", "S3"):
        with pytest.raises(SeriesError, match="volume 0: an image is of integers, float32 or"):
            aa.load_volume(folder, dtype=dtype)
    assert aa.load_volume(folder, dtype=int).get_data_dtype() == np.int64


def test_a_matrix_that_cannot_be_is_refused_before_memory_is_asked_for(tmp_path):
    folder = written(tmp_path, KINDS["axial"])
    for path in folder.iterdir():
        change(path, Rows=65535, Columns=65535)
    with pytest.raises(SeriesError, match="65535 x 65535 pixels; at most"):
        aa.load_volume(folder, allow_irregular=True)


@pytest.mark.parametrize("attributes", [{"HighBit": 3}, {"HighBit": 30}, {"RescaleSlope": 0}])
def test_what_a_header_cannot_mean_changes_no_value(tmp_path, attributes):
    folder = written(tmp_path, KINDS["axial"])
    for path in folder.iterdir():
        change(path, **attributes)
    assert off_by(aa.load_volume(folder)) <= ROUNDING


# --- what is written, and what is imported ------------------------------------------------------


@pytest.mark.parametrize("name", ["oblique", "tilted gantry"])
def test_nibabel_writes_what_is_loaded(tmp_path, name):
    image = aa.load_volume(written(tmp_path, KINDS[name]))
    nib.save(image, tmp_path / "volume.nii.gz")
    again = nib.load(tmp_path / "volume.nii.gz")
    assert again.header.get_xyzt_units()[0] == "mm"
    assert again.get_data_dtype() == "int16"
    assert np.array_equal(np.asarray(again.dataobj), np.asarray(image.dataobj))
    assert off_by(again) <= ROUNDING + 0.01  # a header holds 32 bits
    sheared = name == "tilted gantry"
    assert (again.header["qform_code"] == 0) == sheared


def test_the_array_lies_as_nifti_has_it(tmp_path):
    image = aa.load_volume(written(tmp_path, KINDS["axial"]))
    assert image.dataobj.flags.f_contiguous


def test_a_directory_may_be_given_relative_to_where_one_is(tmp_path, monkeypatch):
    folder = written(tmp_path, KINDS["axial"])
    monkeypatch.chdir(folder)
    assert aa.load_volume(".").shape == (8, 6, 10)
    assert aa.read_series(Path()).rows["SeriesInstanceUID"].unique().to_list() == [SERIES]


def test_the_public_names_are_there_without_dagster():
    program = (
        "import json, sys\n"
        "import aneurysm_assets as aa\n"
        "before = sorted(sys.modules)\n"
        "[getattr(aa, name) for name in aa.__all__]\n"
        "print(json.dumps([before, sorted(sys.modules)]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    before, after = json.loads(result.stdout)
    assert not {"numpy", "polars", "pydicom"} & set(before)
    assert "aneurysm_assets.loading.volume" in after
    assert not [name for name in after if name.startswith("dagster")]
    assert set(aa.__all__) <= set(dir(aa))
    with pytest.raises(AttributeError, match="no attribute 'load_volumes'"):
        _ = aa.load_volumes


def test_headers_are_read_and_load_volume_is_there_without_pydicom(tmp_path):
    folder = written(tmp_path, KINDS["axial"])
    program = (
        "import sys\n"
        "import aneurysm_assets as aa\n"
        "aa.load_volume\n"
        f"print(aa.read_series({str(folder)!r}).rows.height, 'pydicom' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout.split() == ["10", "False"]


FORKED = """
import os, sys
import aneurysm_assets as aa
if sys.argv[1] == "used":
    import polars as pl
    pl.DataFrame({"a": [2, 1]}).filter(pl.col("a") > 0).sort("a")
if os.fork() == 0:
    try:
        print(aa.load_volume(sys.argv[2]).shape, flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize(
    ("polars", "said"),
    [("used", "multiprocessing_context='forkserver'"), ("not used", "(8, 6, 10)")],
)
def test_a_forked_process_loads_or_says_how_to_start_it_and_never_hangs(tmp_path, polars, said):
    folder = written(tmp_path, KINDS["axial"])
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, polars, folder],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said in result.stdout


def test_an_image_of_the_helpers_is_what_it_says():
    stored = Image((1.0, 2.0, 3.0), AXIAL, (0.5, 0.25), (2, 3)).stored(1.0, 0.0)
    assert stored[1, 2] == np.rint(2 * (1 + 0.5) - 3 * (2 + 0.5) + 5 * 3 + 900)
