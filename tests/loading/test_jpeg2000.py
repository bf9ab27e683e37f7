"""JPEG 2000 by the decoder that works in threads: the values of pydicom's, or left to it."""

import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from aneurysm_assets.loading import pixels
from aneurysm_assets.loading.jpeg2000 import read_frames
from aneurysm_assets.sample.bundled import bundled_file

GREY = (
    "JPEG2000.dcm",
    "MR_small_jp2klossless.dcm",
)


def image(values: np.ndarray, bits: int, syntax: UID = JPEG2000Lossless) -> Dataset:
    """Return a data set of frames x rows x columns, compressed."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3.4"
    made.NumberOfFrames, made.Rows, made.Columns = values.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = 8 * values.itemsize
    made.BitsStored, made.HighBit = bits, bits - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    made.PixelData = values.tobytes()
    if syntax != ExplicitVRLittleEndian:
        made.compress(syntax, generate_instance_uid=False)
    return made


def rows_of(data: Dataset) -> list[dict]:
    """Return the rows of `dicom_tags` of its frames, as far as they are asked for."""
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsStored", "PixelRepresentation")
    row = {name: data.get(name) for name in names}
    row["TransferSyntaxUID"] = str(data.file_meta.TransferSyntaxUID)
    number = data.get("NumberOfFrames")
    row["NumberOfFrames"] = None if number is None else int(number)
    return [row | {"frame_index": frame} for frame in range(int(number or 1))]


def slices_of(data: Dataset) -> pl.DataFrame:
    """Return the rows of its frames with all that loading needs, of `image.dcm`."""
    others = {"dicom_path": "image.dcm", "RescaleSlope": None, "RescaleIntercept": None}
    others |= {name: data[name].value for name in ("BitsAllocated", "HighBit")}
    return pl.DataFrame([row | others for row in rows_of(data)])


def written(path: Path, data: Dataset) -> Path:
    data.save_as(path, enforce_file_format=True)
    return path


def values_of(bits: int, *, signed: bool, frames: int = 3) -> np.ndarray:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    kind = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    return np.random.default_rng(bits).integers(low, high, (frames, 40, 33)).astype(kind)


@pytest.mark.parametrize(("bits", "signed"), product((8, 10, 12, 16), (False, True)))
def test_every_frame_has_the_values_that_were_stored(bits, signed, tmp_path) -> None:
    values = values_of(bits, signed=signed)
    data = image(values, bits)
    path = written(tmp_path / "image.dcm", data)
    found = list(read_frames(path, rows_of(data)[::-1]))
    np.testing.assert_array_equal(found[::-1], values)


@pytest.mark.parametrize("name", GREY)
def test_real_files_have_the_values_of_pydicom(name) -> None:
    path = bundled_file(name)
    (stored,) = read_frames(path, rows_of(dcmread(path)))
    np.testing.assert_array_equal(stored, pixel_array(path))


def changed(data: Dataset, **attributes: object) -> Dataset:
    for name, value in attributes.items():
        setattr(data, name, value)
    return data


@pytest.mark.parametrize(
    "attributes",
    [
        {"PixelRepresentation": 1},
        {"BitsStored": 11},
        {"Rows": 39},
        {"Columns": 34},
        {"SamplesPerPixel": 3},
        {"PixelData": encapsulate([b"no codestream"])},
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_what_is_not_as_its_header_says_is_left_to_pydicom(attributes, tmp_path) -> None:
    data = changed(image(values_of(12, signed=False, frames=1), 12), **attributes)
    assert not list(read_frames(written(tmp_path / "image.dcm", data), rows_of(data)))


def test_other_encodings_and_colour_are_left_to_pydicom(tmp_path) -> None:
    for name in (
        "JPEG2000-embedded-sequence-delimiter.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "MR_small_RLE.dcm",
        "MR_small.dcm",
    ):
        path = bundled_file(name)
        assert not list(read_frames(path, rows_of(dcmread(path))))
    data = image(values_of(12, signed=False), 12)
    claimed = [row | {"TransferSyntaxUID": str(RLELossless)} for row in rows_of(data)]
    assert not list(read_frames(written(tmp_path / "image.dcm", data), claimed))


DATA = image(values_of(12, signed=True), 12)
STORED = pixels.Target(np.dtype(np.int16), rescale=False)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_frames_raise_nothing_and_keep_their_matrix(
    place: float, byte: int, cut: bool, tmp_path_factory
) -> None:
    path = written(tmp_path_factory.mktemp("damaged") / "image.dcm", DATA)
    content = bytearray(path.read_bytes())
    at = 400 + int(place * (len(content) - 401))
    content[at] = byte
    path.write_bytes(content[:at] if cut else content)
    assert {frame.shape for frame in read_frames(path, rows_of(DATA))} <= {(40, 33)}


def test_a_volume_is_the_same_without_the_package(tmp_path, monkeypatch) -> None:
    path = written(tmp_path / "image.dcm", DATA)
    found = pixels.read_pixels(tmp_path, slices_of(DATA), STORED)
    monkeypatch.setattr("aneurysm_assets.loading.jpeg2000.find_spec", lambda _: None)
    assert not list(read_frames(path, rows_of(DATA)))
    np.testing.assert_array_equal(pixels.read_pixels(tmp_path, slices_of(DATA), STORED), found)
    np.testing.assert_array_equal(found, values_of(12, signed=True))


def test_what_follows_a_frame_that_is_not_as_declared_is_read_by_pydicom(tmp_path) -> None:
    values = values_of(10, signed=False)
    data = image(values, 12)
    frames = [get_frame(data.PixelData, n, number_of_frames=3) for n in range(3)]
    frames[1] = get_frame(image(values, 10).PixelData, 1, number_of_frames=3)
    data.PixelData = encapsulate(frames)
    path = written(tmp_path / "image.dcm", data)
    assert len(list(read_frames(path, rows_of(data)))) == 1
    found = pixels.read_pixels(tmp_path, slices_of(data), STORED, threads=1)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless])
def test_a_file_of_many_frames_is_decoded_a_frame_at_a_time(syntax, tmp_path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (256, 64, 64)).astype(np.uint16)
    data = image(values, 12, syntax)
    written(tmp_path / "image.dcm", data)
    slices = slices_of(data)
    del data
    pixels.read_pixels(tmp_path, slices, STORED)  # what it imports is no matter
    tracemalloc.start()
    try:
        found = pixels.read_pixels(tmp_path, slices, STORED, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, values)
    assert peak < 1.3 * found.nbytes, peak / found.nbytes
