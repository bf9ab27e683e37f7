"""The sample's series as pictures on disk: what a user gets."""

import io
import pickle
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.messages import counted
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.preview.overlay import labels_at
from aneurysm_assets.preview.picture import write_preview
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.sample.phantom import VESSEL
from aneurysm_assets.schema.columns import VESSEL_CLASSES
from aneurysm_assets.settings import Settings
from tests.preview.paint import composed

CTA, DAMAGED = uid("sample", "CTA"), uid("sample", "damaged")
JPEG_2000, JPEG_LOSSLESS = uid("sample", "JPEG 2000"), uid("sample", "JPEG Lossless")


@pytest.fixture
def settings(data: Path) -> Settings:
    return Settings.from_environment({"ANEURYSM_DATA": str(data)})


def written(settings: Settings, series: str) -> SeriesResult:
    return write_preview(settings, LocalizersCsv.read(settings.localizers_csv), series)


def test_every_series_of_the_sample_has_a_picture_with_a_thumbnail(settings) -> None:
    for folder in settings.series_root.iterdir():
        made = written(settings, folder.name)
        assert made.picture.path == settings.interim / "series_preview" / f"{folder.name}.png"
        with Image.open(made.picture.path) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert image.width > 1000
        assert made.picture.size == made.picture.path.stat().st_size
        assert Image.open(io.BytesIO(made.picture.thumbnail)).format == "JPEG"
        assert made.files >= 1
        assert made.bytes > 0
    assert {path.suffix for path in made.picture.path.parent.iterdir()} == {".png"}


@pytest.mark.parametrize("name", ["CTA", "enhanced shared"])
def test_the_pixel_at_each_point_of_the_sample_is_a_bright_vessel(name, settings) -> None:
    shown = composed(settings.raw, uid("sample", name))
    assert shown.points_shown >= 2
    vessel = shown.window.grey(np.array([[VESSEL]], np.float32)).item()
    for panel in shown.with_points:
        for mark in panel.marks:
            assert panel.pixels[round(mark.y), round(mark.x)] == vessel


def test_the_vessel_label_at_each_point_is_that_of_its_location(settings) -> None:
    shown = composed(settings.raw, CTA)
    cowseg = settings.segmentations_root / CTA / f"{CTA}_cowseg.nii"
    named = {}
    for panel in shown.with_points:
        for mark in panel.marks:
            (label,) = labels_at(cowseg, [panel.plane.at(mark.x, mark.y)])
            named[mark.location] = VESSEL_CLASSES[int(label) - 1]
    assert len(named) == 3
    assert all(location == vessel for location, vessel in named.items())


def test_a_compressed_segmentation_gives_the_same_picture(settings) -> None:
    plain = written(settings, CTA).picture.path.read_bytes()
    path = settings.segmentations_root / CTA / f"{CTA}_cowseg.nii"
    nib.save(nib.load(path), path.with_suffix(".nii.gz"))
    path.unlink()
    assert written(settings, CTA).picture.path.read_bytes() == plain


def test_the_segmentation_is_seen_in_the_picture(settings) -> None:
    coloured = written(settings, CTA).picture.path.read_bytes()
    (settings.segmentations_root / CTA / f"{CTA}_cowseg.nii").unlink()
    made = written(settings, CTA)
    assert made.picture.path.read_bytes() != coloured
    assert made.files == 24


def test_a_broken_segmentation_or_point_is_noted_and_the_series_drawn_without(settings) -> None:
    (settings.segmentations_root / CTA / f"{CTA}_cowseg.nii").write_bytes(b"no NIfTI")
    text = settings.localizers_csv.read_text().replace("'x': 31,", "'z': 31,")
    settings.localizers_csv.write_text(text)
    made = written(settings, CTA)
    assert made.picture.points == 0
    assert any("no vessel labels" in note and "_cowseg.nii" in note for note in made.notes)
    assert any("no points" in note and "row" in note for note in made.notes)


def test_unreadable_files_are_left_out_and_counted(settings) -> None:
    made = written(settings, DAMAGED)
    assert (made.files, made.unreadable_files) == (3, 2)


def test_a_series_of_which_nothing_can_be_decoded_fails_by_name_and_leaves_no_file(
    settings,
) -> None:
    for path in (settings.series_root / JPEG_2000).iterdir():
        content = path.read_bytes()
        # The codestream's first marker, without which no decoder goes on.
        path.write_bytes(content.replace(b"\xff\x4f\xff\x51", b"\x00\x00\x00\x00"))
    with pytest.raises(SeriesError, match=r"cannot be decoded \(JPEG 2000.*1.2.840.10008.1.2.4.90"):
        written(settings, JPEG_2000)
    assert not (settings.interim / "series_preview").exists()


def test_a_picture_that_cannot_be_written_leaves_the_one_before(settings, monkeypatch) -> None:
    before = written(settings, JPEG_LOSSLESS).picture.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        written(settings, JPEG_LOSSLESS)
    (left,) = (settings.interim / "series_preview").iterdir()
    assert left.read_bytes() == before


def test_a_key_that_is_no_uid_never_becomes_a_path(settings) -> None:
    with pytest.raises(SeriesError, match="is no DICOM UID"):
        written(settings, "../../elsewhere")


def test_the_work_can_be_handed_to_a_worker_process(settings) -> None:
    work = partial(write_preview, settings, LocalizersCsv.read(settings.localizers_csv))
    assert pickle.loads(pickle.dumps(work))(CTA).picture.points == 4


@pytest.mark.parametrize(("number", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_a_noun_has_its_plural_where_it_is_not_one(number, text) -> None:
    assert counted(number, "image") == text
