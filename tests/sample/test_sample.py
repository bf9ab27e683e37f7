"""The samples: what is in them, that they are the same each time, and whose `raw` they replace."""

import ast
import contextlib
import csv
import errno
import io
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import get_frame

from aneurysm_assets.errors import InputError
from aneurysm_assets.sample import bundled, load, small, write_load_sample, write_sample
from aneurysm_assets.sample.dicom import instance_uid, uid
from aneurysm_assets.uid import is_uid

LOCATIONS_IN_ORDER = [
    "Left Infraclinoid Internal Carotid Artery",
    "Right Infraclinoid Internal Carotid Artery",
    "Left Supraclinoid Internal Carotid Artery",
    "Right Supraclinoid Internal Carotid Artery",
    "Left Middle Cerebral Artery",
    "Right Middle Cerebral Artery",
    "Anterior Communicating Artery",
    "Left Anterior Cerebral Artery",
    "Right Anterior Cerebral Artery",
    "Left Posterior Communicating Artery",
    "Right Posterior Communicating Artery",
    "Basilar Tip",
    "Other Posterior Circulation",
]

# From the data set's description, written out again: an independent check of the code's table.
COWSEG = {
    "Other Posterior Circulation": 1,
    "Basilar Tip": 2,
    "Right Posterior Communicating Artery": 3,
    "Left Posterior Communicating Artery": 4,
    "Right Infraclinoid Internal Carotid Artery": 5,
    "Left Infraclinoid Internal Carotid Artery": 6,
    "Right Supraclinoid Internal Carotid Artery": 7,
    "Left Supraclinoid Internal Carotid Artery": 8,
    "Right Middle Cerebral Artery": 9,
    "Left Middle Cerebral Artery": 10,
    "Right Anterior Cerebral Artery": 11,
    "Left Anterior Cerebral Artery": 12,
    "Anterior Communicating Artery": 13,
}

REAL_CT = "1.3.6.1.4.1.5962.1.1.0.0.0.1194734704.16302.0.6"
REAL_MR = "1.3.6.1.4.1.5962.1.1.0.0.0.1196533885.18148.0.118"

MARKER = ".aneurysm-assets-sample"


def named(name: str) -> str:
    return uid("sample", name)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def load_raw(tmp_path_factory) -> Path:
    return write_load_sample(tmp_path_factory.mktemp("load"), series=52, files=5)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def read_series(raw: Path, series: str) -> list[pydicom.Dataset]:
    found = [pydicom.dcmread(path) for path in (raw / "series" / series).iterdir()]
    return sorted(found, key=lambda data: int(data.InstanceNumber))


def readable_files(raw: Path) -> dict[Path, pydicom.Dataset]:
    found = {}
    for path in (raw / "series").glob("*/*"):
        with contextlib.suppress(pydicom.errors.InvalidDicomError):
            found[path] = pydicom.dcmread(path)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def points(raw: Path, series: str) -> list[dict[str, str]]:
    return [row for row in rows(raw / "train_localizers.csv") if row["SeriesInstanceUID"] == series]


def place_of_pixel(header: pydicom.Dataset, x: float, y: float) -> np.ndarray:
    """PS3.3 equation C.7.6.2.1-1: the place of a pixel in LPS, mm."""
    across, down = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
    between_rows, between_columns = (float(value) for value in header.PixelSpacing)
    start = np.array(header.ImagePositionPatient, float)
    return start + across * between_columns * x + down * between_rows * y


def value_at(image: nib.Nifti1Image, place: np.ndarray) -> float:
    """The voxel nearest to a place in LPS, mm: RAS has its first two axes the other way round."""
    index = np.linalg.inv(image.affine) @ [-place[0], -place[1], place[2], 1.0]
    i, j, k = np.round(index[:3]).astype(int)
    assert (np.array([i, j, k]) >= 0).all()
    return float(np.asarray(image.dataobj)[i, j, k])


class TestSmallSample:
    def test_it_is_the_same_byte_for_byte_in_another_process(self, raw, tmp_path):
        code = "import sys, pathlib, aneurysm_assets.sample as s; "
        code += "s.write_sample(pathlib.Path(sys.argv[1]))"
        environment = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
        assert contents(tmp_path / "raw") == contents(raw)

    def test_pydicom_and_nibabel_write_it_without_a_warning(self, tmp_path, recwarn):
        write_sample(tmp_path)
        assert [str(warning.message) for warning in recwarn] == []

    def test_it_holds_a_directory_for_each_series_but_one_and_is_a_few_mb_at_most(self, raw):
        directories = {path.name for path in (raw / "series").iterdir()}
        on_disk = {series.uid for series in small.SERIES if series.write is not None}
        assert directories == on_disk
        assert len(directories) == len(small.SERIES) - 1 == 13
        assert all(is_uid(series.uid) for series in small.SERIES)
        assert sum(len(content) for content in contents(raw).values()) < 3_000_000

    def test_each_file_is_named_for_its_instance_and_instances_are_unique(self, raw):
        found = readable_files(raw)
        for path, data in found.items():
            assert path.name == f"{data.SOPInstanceUID}.dcm"
            assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert len({data.SOPInstanceUID for data in found.values()}) == len(found) == 68
        assert len(list((raw / "series").glob("*/*"))) == 69

    def test_every_file_names_its_directory_as_its_series_but_one(self, raw):
        differing = [
            path.parent.name
            for path, data in readable_files(raw).items()
            if data.SeriesInstanceUID != path.parent.name
        ]
        assert differing == [named("foreign header")]

    @pytest.mark.parametrize(
        ("series", "folder", "count"),
        [(REAL_CT, "98892001/CT5N", 5), (REAL_MR, "98892003/MR700", 7)],
    )
    def test_the_real_series_are_pydicoms_own_files_unchanged(self, raw, series, folder, count):
        source = Path(pydicom.__file__).parent / "data/test_files/dicomdirtests" / folder
        theirs = sorted(path.read_bytes() for path in source.iterdir())
        ours = sorted(path.read_bytes() for path in (raw / "series" / series).iterdir())
        assert ours == theirs
        assert len(ours) == count

    @pytest.mark.parametrize(
        ("name", "syntax", "files"),
        [
            ("JPEG 2000", "1.2.840.10008.1.2.4.90", 3),
            ("JPEG Lossless", "1.2.840.10008.1.2.4.70", 1),
            ("implicit VR", "1.2.840.10008.1.2", 3),
            ("big endian", "1.2.840.10008.1.2.2", 3),
            ("deflated", "1.2.840.10008.1.2.1.99", 3),
            ("CTA", "1.2.840.10008.1.2.1", 24),
        ],
    )
    def test_each_transfer_syntax_has_its_series(self, raw, name, syntax, files):
        found = read_series(raw, named(name))
        assert [data.file_meta.TransferSyntaxUID for data in found] == [syntax] * files
        assert {data.Modality for data in found} <= {"CT", "MR"}

    @pytest.mark.parametrize("name", ["implicit VR", "big endian", "deflated"])
    def test_restacked_real_pixels_decode_to_those_of_the_real_file(self, raw, name):
        real = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
        for data in read_series(raw, named(name)):
            np.testing.assert_array_equal(data.pixel_array, real.pixel_array)

    @pytest.mark.parametrize(
        ("name", "source"),
        [
            ("JPEG 2000", "MR_small_jp2klossless.dcm"),
            ("JPEG Lossless", "SC_rgb_jpeg_gdcm.dcm"),
        ],
    )
    def test_encapsulated_pixels_are_the_real_ones(self, raw, name, source):
        real = pydicom.dcmread(get_testdata_file(source, download=False))
        for data in read_series(raw, named(name)):
            assert data["PixelData"].is_undefined_length
            ours, theirs = (get_frame(d.PixelData, 0, number_of_frames=1) for d in (data, real))
            assert ours == theirs

    def test_restacked_slices_stand_one_thickness_apart(self, raw):
        found = read_series(raw, named("implicit VR"))
        z = [float(data.ImagePositionPatient[2]) for data in found]
        assert np.diff(z) == pytest.approx([float(found[0].SliceThickness)] * 2)

    def test_the_damaged_series_has_three_good_files_and_three_faults(self, raw):
        series = named("damaged")
        files = [raw / "series" / series / f"{instance_uid(series, n)}.dcm" for n in range(1, 7)]
        for path in files[:3]:
            assert pydicom.dcmread(path).pixel_array.shape == (32, 32)
        content = files[3].read_bytes()
        # The last value is FrameOfReferenceUID's: 64 bytes promised, fewer there.
        start = content.rindex(b"\x20\x00\x52\x00UI\x40\x00") + 8
        assert 0 < len(content) - start < 64
        cut = pydicom.dcmread(files[4])
        assert 0 < len(cut.PixelData) < 2 * cut.Rows * cut.Columns
        with pytest.raises(ValueError, match="pixel data"):
            _ = cut.pixel_array
        with pytest.raises(pydicom.errors.InvalidDicomError):
            pydicom.dcmread(files[5])
        files[5].read_text(encoding="ascii")


class TestEnhancedMR:
    def test_both_are_one_file_of_twelve_frames_without_geometry_at_the_top(self, raw):
        for name in ("enhanced shared", "enhanced turning"):
            (data,) = read_series(raw, named(name))
            assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4.1"
            assert data.NumberOfFrames == 12 == len(data.PerFrameFunctionalGroupsSequence)
            assert data.pixel_array.shape == (12, data.Rows, data.Columns)
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
                assert keyword not in data

    def test_the_first_shares_orientation_spacing_and_rescale_and_places_each_frame(self, raw):
        (data,) = read_series(raw, named("enhanced shared"))
        (shared,) = data.SharedFunctionalGroupsSequence
        assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.9, 0.9]
        assert shared.PixelMeasuresSequence[0].SliceThickness == 2
        assert shared.PixelValueTransformationSequence[0].RescaleSlope == 1
        across, down = np.reshape(
            np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), (2, 3)
        )
        frames = data.PerFrameFunctionalGroupsSequence
        places = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
        steps = np.diff(np.array(places, float), axis=0)
        np.testing.assert_allclose(steps, [2 * np.cross(across, down)] * 11, atol=2e-6)
        for number, frame in enumerate(frames, start=1):
            assert "PlaneOrientationSequence" not in frame
            assert "PixelMeasuresSequence" not in frame
            assert frame.FrameContentSequence[0].InStackPositionNumber == number

    def test_the_second_has_another_orientation_in_every_frame_and_none_shared(self, raw):
        (data,) = read_series(raw, named("enhanced turning"))
        (shared,) = data.SharedFunctionalGroupsSequence
        assert "PlaneOrientationSequence" not in shared
        assert "PixelMeasuresSequence" not in shared
        orientations = set()
        for frame in data.PerFrameFunctionalGroupsSequence:
            cosines = frame.PlaneOrientationSequence[0].ImageOrientationPatient
            across, down = np.reshape(np.array(cosines, float), (2, 3))
            assert across @ down == pytest.approx(0, abs=1e-8)
            assert np.linalg.norm([across, down], axis=1) == pytest.approx([1, 1], abs=1e-8)
            assert frame.PixelMeasuresSequence[0].PixelSpacing == [0.75, 0.75]
            place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
            np.testing.assert_allclose(place + (across + down) * 0.75 * 15.5, [0, 0, 0], atol=1e-5)
            orientations.add(tuple(cosines))
        assert len(orientations) == 12

    def test_points_are_on_frames_and_frame_zero_is_one_of_them(self, raw):
        (data,) = read_series(raw, named("enhanced shared"))
        found = points(raw, named("enhanced shared"))
        frames = [ast.literal_eval(row["coordinates"])["f"] for row in found]
        assert frames == [0, 7]
        for row, frame in zip(found, frames, strict=True):
            at = ast.literal_eval(row["coordinates"])
            assert row["SOPInstanceUID"] == data.SOPInstanceUID
            # Bright where the point is: on an artery of the angiography, not beside it.
            assert data.pixel_array[frame, round(at["y"]), round(at["x"])] == 350


class TestCsvs:
    def test_train_has_the_competitions_columns_and_values(self, raw):
        header = (raw / "train.csv").read_bytes().split(b"\n")[0].decode().split(",")
        first = ["SeriesInstanceUID", "PatientAge", "PatientSex", "Modality"]
        assert header == [*first, *LOCATIONS_IN_ORDER, "Aneurysm Present"]
        for row in rows(raw / "train.csv"):
            assert 18 <= int(row["PatientAge"]) <= 89
            assert row["PatientSex"] in {"Female", "Male"}
            labels = [row[name] for name in LOCATIONS_IN_ORDER]
            assert set(labels) <= {"0", "1"}
            assert row["Aneurysm Present"] == max(labels)
        modalities = {row["Modality"] for row in rows(raw / "train.csv")}
        assert modalities == {"CTA", "MRA", "MRI T2", "MRI T1post"}

    def test_localizers_have_the_competitions_columns_and_python_literals(self, raw):
        content = (raw / "train_localizers.csv").read_bytes()
        assert content.startswith(b"SeriesInstanceUID,SOPInstanceUID,coordinates,location\n")
        assert b"\r" not in content
        values = [ast.literal_eval(r["coordinates"]) for r in rows(raw / "train_localizers.csv")]
        assert {tuple(value) for value in values} == {("x", "y"), ("x", "y", "f")}
        assert any(type(value["x"]) is int for value in values)
        for row in rows(raw / "train_localizers.csv"):
            assert row["location"] in LOCATIONS_IN_ORDER

    def test_labels_and_points_disagree_in_the_two_deliberate_faults_only(self, raw):
        faults = set()
        for row in rows(raw / "train.csv"):
            series = row["SeriesInstanceUID"]
            positive = {name for name in LOCATIONS_IN_ORDER if row[name] == "1"}
            pointed = {point["location"] for point in points(raw, series)}
            faults |= {(series, name, "no point") for name in positive - pointed}
            faults |= {(series, name, "no label") for name in pointed - positive}
        assert faults == {
            (named("JPEG 2000"), "Left Supraclinoid Internal Carotid Artery", "no point"),
            (named("implicit VR"), "Right Middle Cerebral Artery", "no label"),
        }

    def test_one_directory_has_no_row_and_one_row_has_no_directory(self, raw):
        directories = {path.name for path in (raw / "series").iterdir()}
        in_train = [row["SeriesInstanceUID"] for row in rows(raw / "train.csv")]
        assert len(in_train) == len(set(in_train))
        assert directories - set(in_train) == {named("unlabelled")}
        assert set(in_train) - directories == {named("not on disk")}

    def test_every_point_is_on_a_file_of_its_series_but_one(self, raw):
        lost = []
        for row in rows(raw / "train_localizers.csv"):
            folder = raw / "series" / row["SeriesInstanceUID"]
            if folder.exists() and not (folder / f"{row['SOPInstanceUID']}.dcm").exists():
                lost.append((row["SeriesInstanceUID"], row["location"]))
        assert lost == [(named("CTA"), "Basilar Tip")]


class TestSegmentation:
    def read(self, raw, suffix) -> nib.Nifti1Image:
        series = named("CTA")
        return nib.load(raw / "segmentations" / series / f"{series}{suffix}.nii")

    def test_every_voxel_of_the_pair_lies_on_its_pixel_of_the_series(self, raw):
        image = self.read(raw, "")
        slices = read_series(raw, named("CTA"))
        assert image.shape == (slices[0].Columns, slices[0].Rows, len(slices))
        values = np.asarray(image.dataobj)
        i, j, k = (axis.ravel() for axis in np.indices(image.shape))
        ras = (image.affine @ np.stack([i, j, k, np.ones_like(i)]))[:3]
        lps = ras * np.array([[-1], [-1], [1]])
        corner, next_x, next_y = (
            place_of_pixel(slices[0], x, y) for x, y in ((0, 0), (1, 0), (0, 1))
        )
        next_z = place_of_pixel(slices[1], 0, 0)
        axes = np.stack([next_x - corner, next_y - corner, next_z - corner], axis=1)
        exact = np.linalg.solve(axes, lps - corner[:, None])
        x, y, z = np.round(exact).astype(int)
        np.testing.assert_allclose(exact, [x, y, z], atol=1e-3)
        pixels = np.stack([s.pixel_array * s.RescaleSlope + s.RescaleIntercept for s in slices])
        np.testing.assert_array_equal(values[i, j, k], pixels[z, y, x])
        np.testing.assert_allclose(self.read(raw, "_cowseg").affine, image.affine)

    def test_some_axes_are_stored_backwards_and_sform_and_qform_agree(self, raw):
        image = self.read(raw, "")
        # An unflipped axial series is LPS.
        assert nib.aff2axcodes(image.affine) == ("L", "A", "I")
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm"

    def test_every_point_lies_in_the_artery_of_its_location(self, raw):
        labels = self.read(raw, "_cowseg")
        slices = {str(data.SOPInstanceUID): data for data in read_series(raw, named("CTA"))}
        found = [row for row in points(raw, named("CTA")) if row["SOPInstanceUID"] in slices]
        assert len(found) == 3
        for row in found:
            at = ast.literal_eval(row["coordinates"])
            place = place_of_pixel(slices[row["SOPInstanceUID"]], at["x"], at["y"])
            assert value_at(labels, place) == COWSEG[row["location"]]

    def test_all_thirteen_arteries_are_there_and_left_is_left(self, raw):
        labels = self.read(raw, "_cowseg")
        values = np.asarray(labels.dataobj)
        assert values.dtype == np.uint8
        assert set(np.unique(values)) == set(range(14))
        for name, value in COWSEG.items():
            voxels = np.argwhere(values == value)
            right = float((labels.affine[:3, :3] @ voxels.mean(0) + labels.affine[:3, 3])[0])
            if name.startswith(("Left", "Right")):
                middle = (labels.affine[:3, :3] @ ((np.array(values.shape) - 1) / 2))[0]
                middle += labels.affine[0, 3]
                assert (right > middle) == name.startswith("Right"), name

    def test_two_points_are_on_one_image(self, raw):
        images = Counter(row["SOPInstanceUID"] for row in points(raw, named("CTA")))
        assert sorted(images.values()) == [1, 1, 2]


class TestWhoseRawIsReplaced:
    def foreign(self, tmp_path) -> Path:
        (tmp_path / "raw" / "series" / "1.2.3").mkdir(parents=True)
        (tmp_path / "raw" / "series" / "1.2.3" / "1.dcm").write_bytes(b"mine")
        return tmp_path / "raw"

    @pytest.mark.parametrize(
        "write", [write_sample, lambda directory: write_load_sample(directory, 1, 1)]
    )
    def test_a_foreign_raw_is_refused_and_left_alone(self, tmp_path, write):
        raw = self.foreign(tmp_path)
        before = contents(tmp_path)
        with pytest.raises(InputError, match=r"raw was not written .*\(series\): move it away"):
            write(tmp_path)
        assert contents(tmp_path) == before
        assert list(tmp_path.iterdir()) == [raw]

    def test_a_raw_with_nothing_but_an_empty_folder_of_someone_is_refused(self, tmp_path):
        (tmp_path / "raw" / "series").mkdir(parents=True)
        with pytest.raises(InputError, match="series"):
            write_sample(tmp_path)

    def test_a_raw_that_is_a_file_is_refused(self, tmp_path):
        (tmp_path / "raw").write_text("mine")
        with pytest.raises(InputError, match="is a file"):
            write_sample(tmp_path)
        assert contents(tmp_path) == {"raw": b"mine"}

    def test_a_symbolic_link_is_refused_even_to_an_earlier_sample(self, tmp_path):
        elsewhere = write_sample(tmp_path / "elsewhere")
        before = contents(elsewhere)
        (tmp_path / "raw").symlink_to(elsewhere)
        with pytest.raises(InputError, match="symbolic link"):
            write_sample(tmp_path)
        (tmp_path / "raw").unlink()
        (tmp_path / "raw").symlink_to(tmp_path / "nowhere")
        with pytest.raises(InputError, match="symbolic link"):
            write_sample(tmp_path)
        assert contents(elsewhere) == before

    @pytest.mark.parametrize("kept", [[], [".gitkeep"]])
    def test_an_empty_raw_is_used_and_its_gitkeep_stays(self, tmp_path, kept):
        (tmp_path / "raw").mkdir()
        for name in kept:
            (tmp_path / "raw" / name).touch()
        for _ in range(2):
            raw = write_sample(tmp_path)
            assert (raw / "train.csv").exists()
            assert [path.name for path in raw.glob(".gitkeep")] == kept
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]

    def test_an_earlier_sample_is_replaced_whole_by_either_kind(self, tmp_path):
        first = contents(write_sample(tmp_path))
        write_load_sample(tmp_path, 2, 3)
        assert len(list((tmp_path / "raw" / "series").glob("*/*.dcm"))) == 6
        assert contents(write_sample(tmp_path)) == first
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]

    def test_a_sample_from_which_files_were_removed_is_made_whole_again(self, tmp_path):
        first = contents(write_sample(tmp_path))
        (tmp_path / "raw" / "train.csv").unlink()
        next((tmp_path / "raw" / "series").glob("*/*.dcm")).unlink()
        assert contents(write_sample(tmp_path)) == first

    @pytest.mark.parametrize(
        "addition", ["series/1.2.3/1.dcm", f"series/{REAL_CT}/more.dcm", "notes.txt", "train.csv"]
    )
    def test_what_someone_added_to_a_sample_is_not_deleted(self, tmp_path, addition):
        path = write_sample(tmp_path) / addition
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        with pytest.raises(InputError, match="added"):
            write_sample(tmp_path)
        assert path.read_bytes() == b"mine"
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]

    def test_deleting_a_sample_never_follows_a_link_in_it(self, tmp_path):
        raw = write_sample(tmp_path / "data")
        mine = tmp_path / "mine"
        (raw / "series" / REAL_CT).rename(mine)
        (raw / "series" / REAL_CT).symlink_to(mine)
        write_sample(tmp_path / "data")
        assert len(list(mine.iterdir())) == 5
        assert not (raw / "series" / REAL_CT).is_symlink()

    def test_the_marker_says_what_the_directory_is(self, raw, load_raw):
        for root in (raw, load_raw):
            assert "sample data, not the RSNA data set" in (root / MARKER).read_text()


class TestFailure:
    def fail(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device", "some.dcm")

    @pytest.mark.parametrize("earlier", [False, True])
    def test_a_full_disk_leaves_nothing_partial_and_the_earlier_sample(
        self, tmp_path, monkeypatch, earlier
    ):
        before = contents(write_sample(tmp_path).parent) if earlier else {}
        monkeypatch.setattr(small, "write_localizers", self.fail)
        with pytest.raises(InputError, match=r"raw: No space left on device \(some.dcm\)"):
            write_sample(tmp_path)
        assert contents(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["raw"] * earlier

    def test_a_rename_that_fails_gives_the_earlier_sample_its_name_back(
        self, tmp_path, monkeypatch
    ):
        before = contents(write_sample(tmp_path))
        rename = Path.rename

        def refuse(path, target):
            if path.name.endswith(".partial") and ".old." not in path.name:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", refuse)
        with pytest.raises(InputError, match="Permission denied"):
            write_sample(tmp_path)
        assert contents(tmp_path / "raw") == before
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]

    def test_ctrl_c_leaves_nothing_partial(self, tmp_path):
        def interrupt(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_load_sample(tmp_path, 3, 2, on_progress=interrupt)
        assert list(tmp_path.iterdir()) == []

    def test_a_data_root_that_cannot_be_made_is_an_input_error_with_its_path(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"file.*Not a directory"):
            write_sample(tmp_path / "file")

    def test_data_put_into_raw_while_the_sample_was_written_are_kept(self, tmp_path):
        def arrive(_):
            (tmp_path / "raw").mkdir()
            (tmp_path / "raw" / "mine").write_text("mine")

        with pytest.raises(InputError, match="mine"):
            write_load_sample(tmp_path, 1, 1, on_progress=arrive)
        assert contents(tmp_path) == {"raw/mine": b"mine"}

    def test_a_pydicom_without_its_test_files_is_named_and_nothing_is_fetched(
        self, tmp_path, monkeypatch
    ):
        def missing(name, download):
            assert not download

        monkeypatch.setattr(bundled, "get_testdata_file", missing)
        with pytest.raises(InputError, match="pydicom's own test file"):
            write_sample(tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestLoadSample:
    def headers(self, raw):
        for row in rows(raw / "train.csv"):
            yield row, read_series(raw, row["SeriesInstanceUID"])

    def test_it_has_as_many_series_and_files_as_asked_for_with_unique_instances(self, load_raw):
        files = list((load_raw / "series").glob("*/*.dcm"))
        assert len(files) == 52 * 5
        seen = {(pydicom.dcmread(p).SOPInstanceUID, p.stem) for p in files}
        assert len(seen) == 52 * 5
        assert all(instance == stem for instance, stem in seen)

    def test_pydicom_encodes_what_it_read_to_the_same_bytes(self, load_raw):
        for path in (load_raw / "series").glob("*/*.dcm"):
            data = pydicom.dcmread(path)
            # Decoding each value keeps pydicom from writing back the bytes that it read.
            for element in data.iterall():
                _ = element.value
            buffer = io.BytesIO()
            data.save_as(buffer, enforce_file_format=True)
            assert buffer.getvalue() == path.read_bytes()
            assert path.stat().st_size < 4096

    def test_headers_have_the_weight_of_real_ones(self, load_raw):
        seen = {}
        for path in (load_raw / "series").glob("*/*.dcm"):
            data = pydicom.dcmread(path)
            assert len(data) >= 100
            assert sum(1 for _ in data.iterall()) <= 150
            assert any(element.tag.is_private for element in data)
            assert any(element.VR == "SQ" and len(element.value) for element in data)
            assert data.pixel_array.shape == (16, 16)
            seen[data.Modality] = data
        assert set(seen) == {"CT", "MR"}
        for data in seen.values():
            for keyword in ("RescaleSlope", "RescaleType", "SliceThickness", "FrameOfReferenceUID"):
                assert keyword in data
        assert "KVP" in seen["CT"]
        assert "EchoTime" in seen["MR"]

    def test_slices_are_evenly_spaced_and_their_headers_agree(self, load_raw):
        for row, found in self.headers(load_raw):
            assert {data.SeriesInstanceUID for data in found} == {row["SeriesInstanceUID"]}
            assert {data.Modality for data in found} == {"CT" if row["Modality"] == "CTA" else "MR"}
            assert [int(data.InstanceNumber) for data in found] == [1, 2, 3, 4, 5]
            assert (
                len({(d.StudyInstanceUID, d.FrameOfReferenceUID, d.PatientID) for d in found}) == 1
            )
            for one, other in pairwise(found):
                step = np.subtract(other.ImagePositionPatient, one.ImagePositionPatient)
                np.testing.assert_allclose(np.array(step, float), [0, 0, 0.625], atol=1e-9)
            for data in found:
                assert data.SliceLocation == data.ImagePositionPatient[2]

    def test_series_differ_in_study_patient_and_frame_of_reference(self, load_raw):
        for keyword in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID"):
            values = {found[0][keyword].value for _, found in self.headers(load_raw)}
            assert len(values) == 52

    def test_instance_numbers_have_as_many_digits_as_they_need(self, tmp_path):
        found = read_series(write_load_sample(tmp_path, 1, 101), uid("load", 0))
        lengths = {len(data["InstanceNumber"].value.original_string) for data in found}
        assert lengths == {1, 2, 3}
        assert [int(data.InstanceNumber) for data in found] == list(range(1, 102))

    def test_labels_agree_with_points_and_points_with_files(self, load_raw):
        for row, found in self.headers(load_raw):
            pointed = points(load_raw, row["SeriesInstanceUID"])
            positive = {name for name in LOCATIONS_IN_ORDER if row[name] == "1"}
            assert {point["location"] for point in pointed} == positive
            assert row["Aneurysm Present"] == str(int(bool(positive)))
            instances = {str(data.SOPInstanceUID) for data in found}
            assert {point["SOPInstanceUID"] for point in pointed} <= instances
            for point in pointed:
                at = ast.literal_eval(point["coordinates"])
                assert 0 < at["x"] < 15
                assert 0 < at["y"] < 15

    def test_a_twenty_fifth_has_a_segmentation_pair_whose_artery_is_under_the_point(self, load_raw):
        folders = sorted((load_raw / "segmentations").iterdir())
        assert {path.name for path in folders} == {uid("load", n) for n in (0, 25, 50)}
        orientations = set()
        for folder in folders:
            image, labels = (nib.load(folder / f"{folder.name}{s}.nii") for s in ("", "_cowseg"))
            np.testing.assert_allclose(image.affine, labels.affine)
            orientations.add(nib.aff2axcodes(image.affine))
            slices = {str(d.SOPInstanceUID): d for d in read_series(load_raw, folder.name)}
            found = points(load_raw, folder.name)
            assert found
            for row in found:
                at = ast.literal_eval(row["coordinates"])
                place = place_of_pixel(slices[row["SOPInstanceUID"]], at["x"], at["y"])
                assert value_at(labels, place) == COWSEG[row["location"]]
                assert value_at(image, place) == 350
        assert len(orientations) == 3

    def test_it_is_the_same_byte_for_byte_and_counts_its_files(self, load_raw, tmp_path):
        counted = []
        again = write_load_sample(tmp_path, 52, 5, on_progress=counted.append)
        assert contents(again) == contents(load_raw)
        assert counted == list(range(5, 261, 5))

    @pytest.mark.parametrize(("series", "files"), [(0, 5), (5, 0), (-1, 1)])
    def test_nothing_at_all_is_refused(self, tmp_path, series, files):
        with pytest.raises(InputError, match="1 or more"):
            write_load_sample(tmp_path, series, files)
        assert list(tmp_path.iterdir()) == []

    def test_a_single_file_a_series_is_enough(self, tmp_path):
        raw = write_load_sample(tmp_path, 1, 1)
        assert len(read_series(raw, uid("load", 0))) == 1
        assert len(list((raw / "segmentations").rglob("*.nii"))) == 2

    def test_the_template_has_each_placeholder_once(self):
        for template in (load._ct_template(), load._mr_template()):
            assert len(template.chunks) == len(load._PLACEHOLDERS) + 1


def test_writing_a_sample_does_not_import_dagster():
    code = "import sys, aneurysm_assets.sample; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestTheHead:
    @pytest.fixture(scope="class")
    def root(self, tmp_path_factory) -> Path:
        return write_sample(tmp_path_factory.mktemp("head"), with_head=True)

    def test_its_points_stand_on_aneurysms_of_their_vessels(self, root: Path):
        files = {
            header.SOPInstanceUID: header
            for header in map(pydicom.dcmread, (root / "series" / small.HEAD.uid).iterdir())
        }
        folder = root / "segmentations" / small.HEAD.uid
        labels = nib.load(folder / f"{small.HEAD.uid}_cowseg.nii")
        points = [spot.point(small.HEAD.uid) for spot in small.HEAD.spots]
        assert len(points) == 2
        for point in points:
            header = files[point.instance]
            x, y = round(point.x), round(point.y)
            assert header.pixel_array[y, x] - 1024 > 300
            place = np.add(header.ImagePositionPatient, [x * 1.15, y * 1.15, 0])
            voxel = np.linalg.inv(labels.affine) @ [*place * [-1, -1, 1], 1]
            found = labels.dataobj[tuple(np.rint(voxel[:3]).astype(int))]
            assert found == COWSEG[point.location]

    def test_it_is_air_around_bone_around_brain_with_fluid(self, root: Path):
        slices = sorted(
            map(pydicom.dcmread, (root / "series" / small.HEAD.uid).iterdir()),
            key=lambda header: header.InstanceNumber,
        )
        volume = np.stack([header.pixel_array for header in slices]).astype(int) - 1024
        middle = volume[len(volume) // 2]
        assert middle[0, 0] < -900
        assert middle[:, 88].max() > 1000
        inside = middle[60:110, 50:126]
        assert 20 < np.median(inside) < 50
        assert (inside < 15).mean() > 0.01

    def test_it_is_left_out_where_it_is_not_asked_for(self, raw: Path):
        assert not (raw / "series" / small.HEAD.uid).exists()
