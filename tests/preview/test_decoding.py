"""Pixels from real files of every encoding that the data have."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLosslessSV1,
)

from aneurysm_assets.preview import decoding
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
    assert "MR_small_jp2klossless.dcm: " in str(failed)
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
    monkeypatch.setattr(decoding, "missing_packages", lambda _: ["python-gdcm"])
    with pytest.raises(NoDecoder) as raised:
        decoded(tmp_path, row(name))
    assert name in str(raised.value)
    assert syntax in str(raised.value)
    assert "pip install 'aneurysm-assets[preview]'" in str(raised.value)


def test_an_encoding_that_pydicom_does_not_know_is_named(tmp_path) -> None:
    mpeg = "1.2.840.10008.1.2.4.100"
    (failed,) = decoded(tmp_path, row("MR_small.dcm", TransferSyntaxUID=mpeg))
    assert isinstance(failed, Undecodable)
    assert mpeg in str(failed)


def test_where_all_of_the_extra_is_installed_the_error_names_another_package(
    tmp_path, monkeypatch
) -> None:
    name = "MR_small_jp2klossless.dcm"
    monkeypatch.setattr(get_decoder(row(name)["TransferSyntaxUID"]), "_available", {})
    unavailable = {"other": ("other-decoder>=3",)}
    monkeypatch.setattr(get_decoder(row(name)["TransferSyntaxUID"]), "_unavailable", unavailable)
    with pytest.raises(NoDecoder) as raised:
        decoded(tmp_path, row(name))
    assert "other-decoder>=3" in str(raised.value)
    assert "[preview]" not in str(raised.value)


def test_an_encoding_that_no_package_decodes_says_what_to_do_and_names_no_extra(tmp_path) -> None:
    mpeg = "1.2.840.10008.1.2.4.100"
    (failed,) = decoded(tmp_path, row("MR_small.dcm", TransferSyntaxUID=mpeg))
    assert "convert the file" in str(failed)
    assert "[preview]" not in str(failed)


HTJ2K_8_X_8 = bytes.fromhex(
    "ff4fff5100294000000000080000000800000000000000000000000800000008000000000000000000010f0101"
    "ff50000800020000000aff52000c00020001000504044001ff5c00132088909090909090909090909090888888"
    "ff64001700014f70656e4a50482056657220302e32362e332eff90000a0000000000590001ff93c000260dfa05"
    "0774000000c00012c000130050018774008cfa03077400c000134000138024d2010274003295e900a35400c000"
    "2a20001560088220aa708275004e3a71e2e4c04201ecb600ffd9"
)
"""Made by OpenJPH, without loss: 37 times the number of each pixel, below 4000."""


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL])
def test_high_throughput_jpeg_2000_is_decoded(syntax, tmp_path) -> None:
    data = dcmread(bundled_file("MR_small.dcm"))
    data.Rows = data.Columns = 8
    data.PixelRepresentation = 0
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([HTJ2K_8_X_8])
    data["PixelData"].VR = "OB"
    data.save_as(tmp_path / "MR_small.dcm")
    (pixels,) = decoded(tmp_path, row("MR_small.dcm", TransferSyntaxUID=syntax))
    np.testing.assert_array_equal(pixels.ravel(), np.arange(64) * 37 % 4000)


def test_jpeg_of_12_bits_is_decoded(tmp_path) -> None:
    name = "JPGExtended.dcm"
    (pixels,) = decoded(tmp_path, row(name))
    assert pixels.shape == (1024, 256)
    # By an independent decoder, imagecodecs; decoders of a lossy image may differ by rounding.
    places = ([420, 300, 421], [140, 120, 143])
    np.testing.assert_allclose(pixels[places], [244, 37, 264], atol=1)


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"])
def test_jpeg_ls_and_rle_have_the_values_of_the_plain_file(name, tmp_path) -> None:
    plain, other = decoded(tmp_path, row("MR_small.dcm"), row(name))
    np.testing.assert_array_equal(plain, other)


def test_what_one_decoder_fails_on_is_decoded_by_the_next(tmp_path) -> None:
    (pixels,) = decoded(tmp_path, row("J2K_pixelrep_mismatch.dcm"))
    assert (pixels.min(), pixels.max()) == (-2000, 1896)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm"])
def test_an_image_without_a_transfer_syntax_is_decoded_as_its_header_was_read(
    name, tmp_path
) -> None:
    content = bundled_file(name).read_bytes()
    length = int.from_bytes(content[140:144], "little")
    (tmp_path / name).write_bytes(content[144 + length :])
    (pixels,) = decoded(tmp_path, row(name, TransferSyntaxUID=None))
    np.testing.assert_array_equal(pixels, dcmread(bundled_file(name)).pixel_array)


def test_encapsulated_pixels_without_a_transfer_syntax_are_not_taken_as_plain_ones(
    tmp_path,
) -> None:
    name = "MR_small_jp2klossless.dcm"
    content = bundled_file(name).read_bytes()
    length = int.from_bytes(content[140:144], "little")
    (tmp_path / name).write_bytes(content[144 + length :])
    (failed,) = decoded(tmp_path, row(name, TransferSyntaxUID=None))
    assert isinstance(failed, Undecodable)
    assert "encapsulated" in str(failed)


@pytest.mark.parametrize("name", ["OBXXXX1A.dcm", "OBXXXX1A_rle.dcm", "gdcm-US-ALOKA-16.dcm"])
def test_palette_colour_is_drawn_through_its_table(name, tmp_path) -> None:
    (pixels,) = decoded(tmp_path, row(name))
    data = dcmread(bundled_file(name))
    tables = [
        np.frombuffer(data[f"{colour}PaletteColorLookupTableData"].value, "<u2")
        if f"{colour}PaletteColorLookupTableData" in data
        else None
        for colour in ("Red", "Green", "Blue")
    ]
    assert pixels.dtype == np.uint8
    assert pixels.shape == (data.Rows, data.Columns, 3)
    if tables[0] is not None:
        expected = np.stack([table[data.pixel_array] >> 8 for table in tables], axis=-1)
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("is_signed", [False, True])
def test_overlay_bits_beside_the_stored_ones_are_no_values(is_signed, tmp_path) -> None:
    data = dcmread(bundled_file("MR_small.dcm"))
    values = np.arange(64 * 64).reshape(64, 64) % 4096 - (2048 if is_signed else 0)
    data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, int(is_signed)
    overlay = np.uint16(0x8000) * (np.arange(64 * 64).reshape(64, 64) % 3 == 0)
    data.PixelData = ((values.astype("<i2").view("<u2") & 0x0FFF) | overlay).astype("<u2").tobytes()
    data.save_as(tmp_path / "MR_small.dcm")
    (pixels,) = decoded(tmp_path, row("MR_small.dcm"))
    np.testing.assert_array_equal(pixels, values)


@pytest.mark.parametrize("planar", [0, 1])
def test_either_planar_configuration_gives_the_same_colours(planar, tmp_path) -> None:
    data = dcmread(bundled_file("MR_small.dcm"))
    colours = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.PlanarConfiguration = 7, 0, planar
    data.PixelData = (colours.transpose(2, 0, 1) if planar else colours).tobytes()
    data.save_as(tmp_path / "MR_small.dcm")
    (pixels,) = decoded(tmp_path, row("MR_small.dcm", BitsStored=8))
    np.testing.assert_array_equal(pixels, colours)


def test_luminance_and_chrominance_are_shown_as_rgb(tmp_path) -> None:
    coded, plain = decoded(tmp_path, row("SC_ybr_full_uncompressed.dcm"), row("SC_rgb.dcm"))
    # Rounding; taken as RGB, white would be off by 127.
    assert np.abs(coded.astype(int) - plain).max() <= 8


@pytest.mark.parametrize("where", ["element", "file"])
def test_pixel_data_one_byte_short_is_said_of_its_own_image_alone(where, tmp_path) -> None:
    short = tmp_path / "short.dcm"
    data = dcmread(bundled_file("MR_small.dcm"))
    if where == "element":
        del data[0xFFFCFFFC]
        data.PixelData = data.PixelData[:-2]
        data.add_new(0xFFFCFFFC, "OB", b"\0" * 100)
        data.save_as(short)
    else:
        content = bundled_file("MR_small.dcm").read_bytes()
        end = content.index(data.PixelData) + len(data.PixelData)
        short.write_bytes(content[: end - 1])
    rows = [row("MR_small.dcm", dicom_path="short.dcm"), row("MR_small.dcm")]
    failed, good = decoded(tmp_path, *rows)
    assert isinstance(failed, Undecodable)
    assert f"{short.name}: " in str(failed)
    assert good.shape == (64, 64)


def test_of_a_multi_frame_file_that_is_short_the_whole_frames_are_decoded(tmp_path) -> None:
    data = dcmread(bundled_file("SC_rgb_rle_2frame.dcm"))
    data.decompress()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    first = data.pixel_array[0]
    data.PixelData = data.PixelData[:-2]
    data.save_as(tmp_path / "SC_rgb_rle_2frame.dcm")
    rows = [
        row("SC_rgb_rle_2frame.dcm", n, TransferSyntaxUID=ExplicitVRLittleEndian) for n in (0, 1)
    ]
    good, failed = decoded(tmp_path, *rows)
    np.testing.assert_array_equal(good, first)
    assert isinstance(failed, Undecodable)
    assert "shorter" in str(failed)


def test_an_image_of_more_pixels_than_the_limit_is_refused_before_it_is_decoded(
    tmp_path, monkeypatch
) -> None:
    name = "MR_small_jp2klossless.dcm"
    header = dcmread(bundled_file(name))
    header.Rows = header.Columns = 16_000
    header.save_as(tmp_path / name)
    monkeypatch.setattr(decoding, "_any_decoder", lambda *_: pytest.fail("it was decoded"))
    (refused,) = decoded(tmp_path, row(name))
    assert isinstance(refused, Undecodable)
    assert str(refused) == (
        f"{name}: pixels cannot be decoded "
        "(JPEG 2000 Image Compression (Lossless Only), 1.2.840.10008.1.2.4.90): "
        "16000 x 16000 pixels, and an image of at most 33,554,432 is decoded"
    )
