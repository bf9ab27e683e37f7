"""Pixels from real files of every encoding that the data have."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

from aneurysm_assets.preview.decoding import NoDecoder, Undecodable, decode
from aneurysm_assets.sample.bundled import bundled_file


def row(name: str, frame: int | None = None, **changes) -> dict:
    header = dcmread(bundled_file(name), stop_before_pixels=True)
    return {
        "dicom_path": name,
        "frame_index": frame,
        "TransferSyntaxUID": str(header.file_meta.TransferSyntaxUID),
        "BitsStored": header.BitsStored,
        "RescaleSlope": None,
        "RescaleIntercept": None,
    } | changes


def decoded(raw: Path, *rows: dict) -> list:
    for image in rows:
        target = raw / image["dicom_path"]
        if not target.exists():
            shutil.copyfile(bundled_file(image["dicom_path"]), target)
    return [pixels for _, pixels in sorted(decode(raw, enumerate(rows)), key=lambda pair: pair[0])]


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"]
)
def test_lossless_files_have_the_values_of_the_plain_one(name, tmp_path) -> None:
    plain, other = decoded(tmp_path, row("MR_small.dcm"), row(name))
    assert plain.dtype == np.float32
    assert plain.shape == (64, 64)
    np.testing.assert_array_equal(plain, other)


def test_jpeg_lossless_sv1_is_decoded_as_colour(tmp_path) -> None:
    assert row("SC_rgb_jpeg_gdcm.dcm")["TransferSyntaxUID"] == JPEGLosslessSV1
    pixels, plain = decoded(tmp_path, row("SC_rgb_jpeg_gdcm.dcm"), row("SC_rgb_rle.dcm"))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, plain)


def test_slope_and_intercept_are_applied_and_only_where_there_are_any(tmp_path) -> None:
    name = "MR_small.dcm"
    with_both = row(name, RescaleSlope=2.0, RescaleIntercept=-1000.0)
    stored, units = decoded(tmp_path, row(name), with_both)
    np.testing.assert_array_equal(units, stored * 2 - 1000)


def test_frames_are_decoded_alone_and_in_any_order(tmp_path) -> None:
    name = "SC_rgb_rle_2frame.dcm"
    second, first = decoded(tmp_path, row(name, frame=1), row(name, frame=0))
    every = dcmread(bundled_file(name)).pixel_array
    np.testing.assert_array_equal(first, every[0])
    np.testing.assert_array_equal(second, every[1])


def test_a_file_that_cannot_be_decoded_is_named_with_its_encoding_and_the_next_goes_on(
    tmp_path,
) -> None:
    broken = dcmread(bundled_file("MR_small_jp2klossless.dcm"))
    broken.PixelData = encapsulate([b"no JPEG 2000 at all "])
    broken.save_as(tmp_path / "MR_small_jp2klossless.dcm")
    failed, good = decoded(tmp_path, row("MR_small_jp2klossless.dcm"), row("MR_small.dcm"))
    assert isinstance(failed, Undecodable)
    assert str(tmp_path / "MR_small_jp2klossless.dcm") in str(failed)
    assert JPEG2000Lossless in str(failed)
    assert good.shape == (64, 64)


def test_a_file_that_is_gone_is_named(tmp_path) -> None:
    ((_, failed),) = decode(tmp_path, [(0, row("MR_small.dcm"))])
    assert isinstance(failed, Undecodable)
    assert "MR_small.dcm" in str(failed)


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_without_the_decoder_the_error_says_which_file_and_what_to_install(
    name, tmp_path, monkeypatch
) -> None:
    syntax = row(name)["TransferSyntaxUID"]
    monkeypatch.setattr(get_decoder(syntax), "_available", {})
    with pytest.raises(NoDecoder) as raised:
        decoded(tmp_path, row(name))
    assert name in str(raised.value)
    assert syntax in str(raised.value)
    assert "pip install -e '.[preview]'" in str(raised.value)


def test_an_encoding_that_pydicom_does_not_know_is_named(tmp_path) -> None:
    mpeg = "1.2.840.10008.1.2.4.100"
    (failed,) = decoded(tmp_path, row("MR_small.dcm", TransferSyntaxUID=mpeg))
    assert isinstance(failed, Undecodable)
    assert mpeg in str(failed)
