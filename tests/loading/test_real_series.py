"""Series of real scanners, as packages bring them: slices and values are those of pydicom."""

import importlib.util
import logging
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut, apply_rescale, pixel_array

import aneurysm_assets as aa
from aneurysm_assets.errors import SeriesError

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
STORE = importlib.util.find_spec("data_store")


def by_series(root: Path) -> dict[str, list[Path]]:
    """Return the image files below a directory by their SeriesInstanceUID."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix in ("", ".dcm"):
            try:
                data = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            except Exception:  # noqa: BLE001 - some are damaged on purpose, in any way
                continue
            found.setdefault(str(data.get("SeriesInstanceUID", "none")), []).append(path)
    return found


def in_output_units(stored: np.ndarray, data: Dataset, frame: int | None) -> np.ndarray:
    """Rescale by the top level, or by a frame's functional group, which pydicom leaves out."""
    if frame is not None:
        own = data.PerFrameFunctionalGroupsSequence[frame]
        for group in (own, *data.SharedFunctionalGroupsSequence):
            if "PixelValueTransformationSequence" in group:
                data = group.PixelValueTransformationSequence[0]
                break
    return apply_rescale(stored, data)


def check(folder: Path) -> int:
    """Hold each regular volume of a directory against pydicom; return how many there are."""
    volumes = aa.read_series(folder).volumes.filter("is_regular").to_dicts()
    for volume in volumes:
        image = aa.load_volume(folder, volume["volume_index"])
        array = np.asarray(image.dataobj)
        slices = zip(volume["files"], volume["frames"], strict=True)
        for k, (file, frame) in enumerate(slices):
            data = dcmread(folder.parent / file)
            stored = pixel_array(data)
            stored = stored if frame is None else stored[frame]
            assert np.array_equal(array[:, :, k].T, in_output_units(stored, data, frame)), file
            if frame is None:
                lps = (image.affine @ (0, 0, k, 1))[:3] * (-1, -1, 1)
                assert np.abs(lps - np.array(data.ImagePositionPatient, float)).max() < 0.1
                across = np.array(data.ImageOrientationPatient[:3], float) * data.PixelSpacing[1]
                assert np.allclose(image.affine[:3, 0], across * (-1, -1, 1), atol=1e-4)
    return len(volumes)


@pytest.fixture(autouse=True)
def _quiet_pydicom():
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("pydicom").setLevel(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "root",
    [
        BUNDLED,
        pytest.param(
            Path(STORE.origin).parent / "data" if STORE else BUNDLED,
            marks=pytest.mark.skipif(STORE is None, reason="pydicom-data is not installed"),
        ),
    ],
    ids=["pydicom", "pydicom-data"],
)
def test_regular_volumes_of_real_series_are_what_pydicom_reads(root, tmp_path):
    regular, refused = 0, []
    for number, files in enumerate(by_series(root).values()):
        folder = tmp_path / f"1.2.{number}"
        folder.mkdir()
        for n, path in enumerate(files):
            shutil.copy(path, folder / f"{n}.dcm")
        try:
            regular += check(folder)
        except SeriesError as error:
            # Never another exception: no image is among them, or nothing decodes it.
            refused.append(str(error))
    assert all(refused)
    assert regular >= 1


def colours_by_pydicom(data: Dataset) -> np.ndarray:
    """Return what pydicom shows, as bytes."""
    shown = pixel_array(data)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        shown = apply_color_lut(shown, data)
    return (shown >> 8).astype(np.uint8) if shown.dtype == np.uint16 else shown


@pytest.mark.filterwarnings("ignore")
def test_images_in_colour_are_what_pydicom_shows(tmp_path):
    compared, refused = [], []
    for path in sorted(BUNDLED.glob("*.dcm")):
        try:
            data = dcmread(path)
            is_coloured = not data.PhotometricInterpretation.startswith("MONOCHROME")
        except Exception:  # noqa: BLE001 - some are damaged on purpose, in any way
            continue
        if not is_coloured:
            continue
        folder = tmp_path / path.stem
        folder.mkdir()
        shutil.copy(path, folder)
        try:
            array = np.ascontiguousarray(aa.load_volume(folder, allow_irregular=True).dataobj)
        except SeriesError as error:
            refused.append(str(error))
            continue
        stored = colours_by_pydicom(data)
        found = np.moveaxis(array.view(np.uint8).reshape(*array.shape, 3), (0, 1, 2), (2, 1, 0))
        assert (found == stored.reshape(found.shape)).all(), path
        compared.append(path.name)
    assert len(compared) > 20, refused
