"""Each problem in a made-up series: what names it, and that nothing else does."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import polars as pl
import pytest

from aneurysm_assets.schema.problems import PROBLEMS
from tests.made_up import (
    AXIAL,
    COLUMNS,
    CORONAL,
    DZ,
    LABEL,
    MIDDLE,
    OBLIQUE,
    ORIGIN,
    ROWS,
    SLICES,
    TIP,
    MadeUp,
    Stage,
    ct,
    grid_affine,
    mr,
    multi_frame,
    named_by,
    segmented,
    stack,
    uid_of,
)

Build = Callable[[str], MadeUp]

NAMES = [problem.name for problem in PROBLEMS]

JUNK = b"not a DICOM file at all"
VESSEL = {(8, 6, 5): LABEL[TIP]}


@dataclass(frozen=True)
class Case:
    """A made-up series with one thing wrong.

    Attributes
    ----------
    problem : str
        What names it.
    sentence : str
        What is wrong with it; its UID is made of this.
    build : callable
        From the sentence to the series.
    where : str
        Part of what the finding says.
    """

    problem: str
    sentence: str
    build: Build
    where: str = ""

    def __str__(self) -> str:
        return self.sentence


# --- series of which the problem is not one thing set to one value --------------------------------


def with_images(series: MadeUp, more: list[dict], **attributes: object) -> MadeUp:
    """Add images that share what is no geometry with those of the series."""
    shared = {k: v for k, v in series.images[0].items() if k not in more[0]}
    series.images += [shared | image | attributes for image in more]
    return series


def halves(name: str, orientation: tuple[float, ...], **attributes: object) -> MadeUp:
    """Return a series of two stacks of five, the second with another geometry."""
    first = mr(name, 5, orientation=AXIAL)
    return with_images(first, stack(first.uid, 5, orientation=orientation, first=6), **attributes)


TURNED = (np.cos(0.75), np.sin(0.75), 0, -np.sin(0.75), np.cos(0.75), 0)
AT_A_LIMIT = (np.sqrt(1 - 0.25**2), 0.25, 0, -0.25, np.sqrt(1 - 0.25**2), 0)


def trembling(series: MadeUp) -> MadeUp:
    """Let a cosine of 0.25 differ in the seventh decimal from image to image."""
    for number, image in enumerate(series.images):
        across = list(image["ImageOrientationPatient"])
        across[1] += (-1) ** number * 1e-7
        image["ImageOrientationPatient"] = across
    return series


def rotating(name: str) -> MadeUp:
    """Return projections around the patient's axis, 15 degrees apart, all of one matrix."""
    series = mr(name, 12)
    for angle, image in zip(np.radians(np.arange(12) * 15), series.images, strict=True):
        across = np.array([np.cos(angle), np.sin(angle), 0])
        image["ImageOrientationPatient"] = [*across, 0, 0, -1]
        image["ImagePositionPatient"] = list(-20 * across + [0, 0, 10])
    return series


def with_scout(name: str) -> MadeUp:
    """Return a series with a scout that lacks what no one needs of a scout."""
    series = ct(name)
    scout = stack(series.uid, 1, orientation=CORONAL, first=11, origin=(-200, 0, 200))
    with_images(series, scout, Rows=24, Columns=20, RescaleIntercept=0.0)
    return series.one(-1, PixelSpacing=None, SliceThickness=None)


def without_slice(name: str, number: int) -> MadeUp:
    series = ct(name)
    del series.images[number]
    return series


def twice_at(name: str, number: int) -> MadeUp:
    """Return a series in which one position is taken by two images."""
    series = ct(name)
    again = series.images[number] | {"SOPInstanceUID": f"{series.uid}.11", "InstanceNumber": 11}
    series.images.append(again)
    return series


def in_two_passes(name: str) -> MadeUp:
    """Return a series in which all positions are taken twice, as at two points in time."""
    series = ct(name)
    for number, image in enumerate(list(series.images), start=len(series.images) + 1):
        again = {"SOPInstanceUID": f"{series.uid}.{number}", "InstanceNumber": number}
        series.images.append(image | again)
    return series


def shifted(name: str, number: int, by: float) -> MadeUp:
    series = ct(name)
    x, y, z = series.images[number]["ImagePositionPatient"]
    return series.one(number, ImagePositionPatient=[x + by, y, z])


def tilted(name: str, degrees: float, spacing: float, count: int = SLICES) -> MadeUp:
    """Return the series of a tilted gantry: slices along the table, each in a plane that leans."""
    angle = np.radians(degrees)
    lean = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    step = (0, 0, spacing / np.cos(angle))
    series = ct(name, count, orientation=lean, spacing=spacing, step=step)
    return series.every(SpacingBetweenSlices=step[2])


def labelled(series: MadeUp, **labels: object) -> MadeUp:
    series.train |= labels
    return series


def says(series: MadeUp, location: str, label: int | None) -> MadeUp:
    """Say something of one location in train.csv, after all else is said."""
    series.train[location] = label
    return series


def pointing(series: MadeUp, *points: tuple[str, dict, str]) -> MadeUp:
    series.points += points
    return series


def lacking_a_byte(series: MadeUp, name: str) -> MadeUp:
    series.cut = {name: 1}
    return series


def without_row(name: str) -> MadeUp:
    series = mr(name)
    series.train = None
    return series


def without_a_usable_file(name: str) -> MadeUp:
    series = mr(name, 0 + 1)
    series.images = []
    series.junk = {"a.dcm": JUNK}
    return series


def with_volumes(series: MadeUp, **volumes: object) -> MadeUp:
    series.volumes |= volumes
    return series


def mismatched(name: str, shape: tuple[int, int, int], affine: np.ndarray | None = None) -> MadeUp:
    """Return a series with volumes of another shape or place."""
    series = ct(name)
    affine = grid_affine(series) if affine is None else affine
    return with_volumes(
        series,
        **{suffix: nib.Nifti1Image(np.zeros(shape, "uint8"), affine) for suffix in ("", "_cowseg")},
    )


def beside(name: str, by: float) -> MadeUp:
    """Return a series whose volumes lie `by` voxels beside it."""
    affine = grid_affine(ct(name))
    affine[:3, 3] += by * affine[:3, 0]
    return mismatched(name, (COLUMNS, ROWS, SLICES), affine)


def another_frame(name: str, frame: int | None) -> MadeUp:
    """Return a multi-frame series with a point on a frame that is not there."""
    series = multi_frame(name).positive(TIP)
    coordinates = {"x": 3.5, "y": 4} | ({} if frame is None else {"f": frame})
    return pointing(series, (series.instance(0), coordinates, TIP))


def elsewhere(name: str) -> MadeUp:
    series = ct(name).positive(TIP)
    return pointing(series, (f"{series.uid}.77", {"x": 3.5, "y": 4}, TIP))


def on_first(series: MadeUp, *locations: str) -> MadeUp:
    """Add points at one place of the first image, and say nothing of it in train.csv."""
    place = {"x": 3.5, "y": 4}
    return pointing(series, *((series.instance(0), place, location) for location in locations))


def two_time_points(series: MadeUp) -> MadeUp:
    image = series.volumes[""]
    series.volumes[""] = nib.Nifti1Image(np.zeros((*image.shape, 2), "int16"), image.affine)
    return series


CASES = [
    Case(
        "segmentation_unreadable",
        "its vessel volume is broken",
        lambda name: with_volumes(ct(name), _cowseg=b"no NIfTI"),
        f"{uid_of('its vessel volume is broken')}_cowseg.nii: no NIfTI header",
    ),
    Case(
        "segmentation_unreadable",
        "its image volume is of two time points, its vessel volume is sound",
        lambda name: two_time_points(segmented(ct(name), {})),
        "is not three-dimensional",
    ),
    Case("directory_vanished", "its directory is gone", ct),
    Case("not_done", "no file of it is DICOM", without_a_usable_file),
    Case(
        "key_not_unique",
        "two files have one SOPInstanceUID",
        lambda name: ct(name).one(3, SOPInstanceUID=f"{uid_of(name)}.3"),
        f"{uid_of('two files have one SOPInstanceUID')}.3",
    ),
    Case(
        "key_not_unique",
        "two files have one SOPInstanceUID and a point",
        lambda name: ct(name).one(3, SOPInstanceUID=f"{uid_of(name)}.3").point(2, 4, 4),
    ),
    Case(
        "key_not_unique",
        "a file has the SOPInstanceUID of another series",
        lambda name: ct(name).one(3, SOPInstanceUID="1.2.3.99"),
        "1.2.3.99",
    ),
    Case(
        "key_not_unique",
        "a file is in another series too",
        lambda name: mr(name).one(5, SOPInstanceUID="1.2.3.99"),
        "1.2.3.99",
    ),
    Case(
        "key_not_unique",
        "two files have no SOPInstanceUID",
        lambda name: ct(name).one(2, SOPInstanceUID=None).one(7, SOPInstanceUID=None),
        "without SOPInstanceUID",
    ),
    Case("files_unaccounted", "its table lost a row after it was read", ct, "9 files of 10"),
    Case(
        "unreadable_files",
        "one of its files is not DICOM, and its name is to be the finding of another problem",
        lambda name: _with_junk(ct(name), "no\nscouts: tes.dcm"),
        r"no\nscouts: tes.dcm",
    ),
    Case(
        "header_series_differs",
        "a header names another series",
        lambda name: ct(name).one(4, SeriesInstanceUID="1.2.3.4.5"),
        "005.dcm",
    ),
    Case("scouts", "it begins with a scout of another plane and matrix", with_scout, "011.dcm"),
    Case(
        "scouts",
        "one ImageType says LOCALIZER and has no position",
        lambda name: ct(name).one(
            0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImagePositionPatient=None
        ),
        "001.dcm",
    ),
    Case(
        "scouts",
        "one ImageType says LOCALIZER",
        lambda name: ct(name).one(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "001.dcm",
    ),
    Case(
        "mixed_orientation",
        "half of it is axial and half coronal",
        lambda name: halves(name, CORONAL),
    ),
    Case("mixed_orientation", "its projections rotate", rotating),
    Case(
        "mixed_orientation",
        "half of it is coronal and its cosines differ by their rounding",
        lambda name: trembling(
            with_images(
                mr(name, 5, orientation=AT_A_LIMIT),
                stack(uid_of(name), 5, orientation=CORONAL, first=6),
            )
        ),
    ),
    Case(
        "mixed_orientation",
        "half of it leans by two degrees",
        lambda name: halves(name, (1, 0, 0, 0, np.cos(np.radians(2)), np.sin(np.radians(2)))),
        "cosines differ by up to 0.035",
    ),
    Case(
        "mixed_matrix",
        "half of it has another matrix",
        lambda name: halves(name, AXIAL, Rows=24, Columns=20),
        "16x12 20x24",
    ),
    Case(
        "mixed_pixel_spacing",
        "half of it has another pixel spacing",
        lambda name: halves(name, AXIAL, PixelSpacing=[0.4, 0.4]),
        "0.4 to",
    ),
    Case(
        "mixed_frame_of_reference",
        "half of it is in another frame of reference",
        lambda name: halves(name, AXIAL, FrameOfReferenceUID="1.2.3.99"),
        "2 frames of reference",
    ),
    Case("too_few_slices", "it is one image", lambda name: mr(name, 1), "1 slices"),
    Case(
        "too_few_slices",
        "its header announces 232 images",
        lambda name: ct(name).every(ImagesInAcquisition=232),
        "10 images of the 232 that the header announces",
    ),
    Case(
        "header_malformed",
        "one PixelSpacing is 0",
        lambda name: ct(name).one(3, PixelSpacing=[0, 0]),
        "004.dcm (PixelSpacing: 0.0\\0.0 is not positive)",
    ),
    Case(
        "header_malformed",
        "every SliceThickness is 0",
        lambda name: ct(name).every(SliceThickness=0),
    ),
    Case(
        "pixel_data_short",
        "one file lacks a byte of its pixels",
        lambda name: lacking_a_byte(ct(name), "004.dcm"),
        "004.dcm",
    ),
    Case(
        "position_missing",
        "the last image has no position",
        lambda name: ct(name).one(-1, ImagePositionPatient=None),
        "010.dcm",
    ),
    Case(
        "position_missing",
        "no image has an orientation",
        lambda name: mr(name).every(ImageOrientationPatient=None),
        "001.dcm; 002.dcm; 003.dcm; and 7 more",
    ),
    Case(
        "position_missing",
        "one image has no orientation",
        lambda name: ct(name).one(-1, ImageOrientationPatient=None),
        "010.dcm",
    ),
    Case(
        "positions_not_distinct",
        "all slices have the same position",
        lambda name: ct(name).every(ImagePositionPatient=list(ORIGIN)),
    ),
    Case("positions_not_distinct", "one position is taken twice", lambda name: twice_at(name, 4)),
    Case(
        "spacing_uneven",
        "a slice is missing",
        lambda name: without_slice(name, 5),
        "006.dcm behind 2.0 of the median gap",
    ),
    Case(
        "spacing_uneven",
        "one gap is two per cent too wide",
        lambda name: ct(name).one(
            -1, ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + DZ * (SLICES - 1 + 0.02)]
        ),
        "010.dcm",
    ),
    Case(
        "cosines_not_orthogonal",
        "rows and columns are not at a right angle",
        lambda name: mr(name, orientation=(1, 0, 0, np.sin(0.03), np.cos(0.03), 0)),
    ),
    Case(
        "cosines_not_orthogonal",
        "every cosine is 0",
        lambda name: mr(name).every(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]),
    ),
    Case(
        "cosines_not_orthogonal",
        "the cosines are of length 2",
        lambda name: mr(name).every(ImageOrientationPatient=[2, 0, 0, 0, 2, 0]),
    ),
    Case(
        "cosines_not_orthogonal",
        "the cosines are not of unit length",
        lambda name: mr(name, orientation=(1.02, 0, 0, 0, 1, 0), step=(0, 0, DZ)),
    ),
    Case(
        "in_plane_shift",
        "one slice lies beside the others",
        lambda name: shifted(name, 4, 0.2),
        "0.2 mm",
    ),
    Case(
        "in_plane_shift",
        "the gantry was tilted by ten degrees",
        lambda name: tilted(name, 10, DZ),
    ),
    Case(
        "in_plane_shift",
        "the gantry was tilted by 28 degrees",
        lambda name: tilted(name, 28, DZ),
    ),
    Case(
        "in_plane_shift",
        "the gantry was tilted and the slices are thin",
        lambda name: tilted(name, 10, 0.5, 40),
    ),
    Case(
        "orientation_contradicts_positions",
        "its header says axial and its frames are coronal",
        lambda name: multi_frame(name, orientation=AXIAL, step=(0, DZ, 0)),
        "90.0 degrees",
    ),
    Case(
        "orientation_contradicts_positions",
        "its header says axial and its slices are oblique",
        lambda name: multi_frame(name, orientation=AXIAL, step=(0, 0.8, 0.6), spacing=0.6),
        "53.1 degrees",
    ),
    Case(
        "header_spacing_differs",
        "SpacingBetweenSlices is 18 and the slices are 0.498 mm apart",
        lambda name: mr(name, spacing=0.498).every(SpacingBetweenSlices=18.0),
        "header 18.0 mm, positions 0.498 mm",
    ),
    Case(
        "pixel_spacing_missing",
        "one image has no PixelSpacing",
        lambda name: ct(name).one(6, PixelSpacing=None),
        "007.dcm",
    ),
    Case(
        "pixel_spacing_missing",
        "no frame has a PixelSpacing",
        lambda name: multi_frame(name).every(PixelSpacing=None),
        "001.dcm frame 0",
    ),
    Case(
        "slice_thickness_missing",
        "one image has no SliceThickness",
        lambda name: ct(name).one(6, SliceThickness=None),
        "007.dcm",
    ),
    Case(
        "rescale_missing",
        "one CT image has no RescaleIntercept",
        lambda name: ct(name).one(6, RescaleIntercept=None),
        "007.dcm",
    ),
    Case(
        "rescale_missing",
        "no CT image has a RescaleSlope",
        lambda name: ct(name).every(RescaleSlope=None),
    ),
    Case(
        "rescale_implausible",
        "the slope of a CT is 2",
        lambda name: ct(name).every(RescaleSlope=2.0),
        "slope 2.0",
    ),
    Case(
        "rescale_implausible",
        "the intercept of an unsigned CT is 0",
        lambda name: ct(name).every(RescaleIntercept=0.0),
        "least value 0.0",
    ),
    Case(
        "rescale_implausible",
        "the intercept of a CT varies",
        lambda name: ct(name).one(3, RescaleIntercept=-1000.0),
        "intercept -1024.0 -1000.0",
    ),
    Case(
        "modality_differs",
        "train.csv says CTA of an MR",
        lambda name: labelled(mr(name), Modality="CTA"),
        "train.csv CTA, header MR",
    ),
    *(
        Case(
            "modality_differs",
            f"train.csv says {modality} of a CT",
            lambda name, modality=modality: labelled(ct(name), Modality=modality),
            f"train.csv {modality}, header CT",
        )
        for modality in ("MRA", "MRI T2", "MRI T1post")
    ),
    Case("labels_missing", "one label is empty", lambda name: says(ct(name), MIDDLE, None)),
    Case(
        "labels_missing",
        "one label is empty and another says where the aneurysm is",
        lambda name: says(ct(name).point(2, 4, 4), MIDDLE, None),
    ),
    Case(
        "labels_missing",
        "the label that would say where the aneurysm is is empty",
        lambda name: says(says(ct(name), MIDDLE, None), "Aneurysm Present", 1),
    ),
    Case("labels_missing", "train.csv has no row of it", without_row),
    Case(
        "present_contradicts_locations",
        "an aneurysm is present and nowhere",
        lambda name: says(ct(name), "Aneurysm Present", 1),
        "Aneurysm Present 1, locations 0",
    ),
    Case(
        "present_contradicts_locations",
        "an aneurysm is somewhere and not present",
        lambda name: says(ct(name).point(2, 4, 4), "Aneurysm Present", 0),
        "Aneurysm Present 0, locations 1",
    ),
    Case(
        "positive_without_localizer",
        "a location is positive and has no point",
        lambda name: ct(name).point(2, 4, 4).positive(MIDDLE),
        MIDDLE,
    ),
    Case(
        "localizer_label_negative",
        "a location has a point and is negative",
        lambda name: on_first(ct(name), MIDDLE),
        f".1 (3.5, 4.0) {MIDDLE}",
    ),
    Case(
        "localizer_location_unknown",
        "a point is in a vessel that is none of the 13",
        lambda name: on_first(ct(name), "Left Carotid"),
        "Left Carotid",
    ),
    Case(
        "localizer_location_unknown",
        "a point has no location",
        lambda name: on_first(ct(name), ""),
        "without a location",
    ),
    Case("localizer_without_image", "a point is on a file that is not there", elsewhere, ".77"),
    Case(
        "localizer_without_image",
        "a point is on a frame that is not there",
        lambda name: another_frame(name, SLICES),
        "frame 10",
    ),
    Case(
        "localizer_without_image",
        "a point on a multi-frame file does not say which frame",
        lambda name: another_frame(name, None),
    ),
    *(
        Case(
            "localizer_outside_image",
            f"a point is {side} the image",
            lambda name, x=x, y=y: ct(name).point(2, x, y),
            f"({x}, {y})",
        )
        for side, x, y in [
            ("left of", -0.6, 4.0),
            ("above", 4.0, -0.6),
            ("right of", COLUMNS + 0.1, 4.0),
            ("below", 4.0, ROWS + 0.1),
        ]
    ),
    Case(
        "localizer_duplicate",
        "three rows of a point are alike",
        lambda name: on_first(ct(name).positive(TIP), TIP, TIP, TIP),
        f".1 (3.5, 4.0) {TIP}; ",
    ),
    Case(
        "localizer_contradictory",
        "one point has two locations",
        lambda name: on_first(ct(name).positive(TIP).positive(MIDDLE), TIP, MIDDLE),
        f".1 (3.5, 4.0) {MIDDLE}",
    ),
    Case(
        "localizer_off_vessel",
        "a point is far from every vessel",
        lambda name: segmented(ct(name), VESSEL).point(0, 0, 0),
        ".1 (0.0, 0.0)",
    ),
    Case(
        "localizer_in_other_vessel",
        "a point is in another vessel than it says",
        lambda name: segmented(ct(name), VESSEL).point(5, 8, 6, MIDDLE),
        f"{MIDDLE} is in {TIP}",
    ),
    Case(
        "segmentation_mismatch",
        "its segmentation has a slice too few",
        lambda name: mismatched(name, (COLUMNS, ROWS, SLICES - 1)),
    ),
    Case(
        "segmentation_mismatch",
        "its segmentation has another matrix",
        lambda name: mismatched(name, (COLUMNS, COLUMNS, SLICES)),
    ),
    Case(
        "segmentation_mismatch",
        "its segmentation lies two thirds of a voxel beside it",
        lambda name: beside(name, 0.67),
    ),
]


def _with_junk(series: MadeUp, name: str) -> MadeUp:
    series.junk = {name: JUNK}
    return series


def numbered_backwards(name: str) -> MadeUp:
    series = ct(name)
    for number, image in enumerate(reversed(series.images), start=1):
        image["InstanceNumber"] = number
    return series


CLEAN: dict[str, Build] = {
    "a CTA with a segmentation and a localizer": lambda name: segmented(
        ct(name, orientation=OBLIQUE), VESSEL
    ).point(5, 8, 6),
    "a CTA without either": ct,
    "a multi-frame MR": multi_frame,
    "a multi-frame MR with a segmentation and a localizer on its first frame": lambda name: (
        segmented(multi_frame(name, orientation=OBLIQUE), {(8, 6, 0): LABEL[MIDDLE]}).point(
            0, 8, 6, MIDDLE
        )
    ),
    "a plain MR": mr,
    "an axial MR": lambda name: mr(name, orientation=AXIAL),
    "a CT whose slope is 4096/4095": lambda name: ct(name).every(RescaleSlope=1.000244),
    "axial slices turned in their plane": lambda name: ct(name, orientation=TURNED),
    "three slices": lambda name: ct(name, 3),
    "two volumes at the same places": in_two_passes,
    "slices numbered against their order": numbered_backwards,
    "cosines that differ by their rounding": lambda name: trembling(
        mr(name, orientation=AT_A_LIMIT)
    ),
    "gaps half a per cent apart": lambda name: ct(name).one(
        -1, ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + DZ * (SLICES - 1 + 0.005)]
    ),
    "a slice 0.09 mm beside the others": lambda name: shifted(name, 4, 0.09),
    "no SpacingBetweenSlices": lambda name: ct(name).every(SpacingBetweenSlices=None),
    "thick slices that overlap": lambda name: ct(name).every(SliceThickness=5.0),
    "a signed CT in Hounsfield units": lambda name: ct(name).every(
        PixelRepresentation=1, RescaleIntercept=0.0
    ),
    "an MR without rescale": lambda name: mr(name).every(RescaleSlope=None),
    "two aneurysms on one image": lambda name: ct(name).point(2, 4, 4).point(2, 9, 9, MIDDLE),
    "two aneurysms of one location": lambda name: ct(name).point(2, 4, 4).point(2, 9, 9),
    "a point on the edge of the image": lambda name: (
        ct(name).point(2, -0.5, -0.5).point(2, COLUMNS, ROWS)
    ),
    "a localizer on frame 0 of a single frame": lambda name: pointing(
        ct(name).positive(TIP), (f"{uid_of(name)}.3", {"x": 2, "y": 3, "f": 0}, TIP)
    ),
    "a segmentation half a voxel beside it": lambda name: beside(name, 0.45),
    "only the vessel volume": lambda name: _without_image_volume(segmented(ct(name), VESSEL)),
}


def _without_image_volume(series: MadeUp) -> MadeUp:
    del series.volumes[""]
    return series


# --- one run of the stage over all of them --------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What the stage says of each series: the table's row, and the findings in the checks."""

    quality: dict[str, dict]
    checks: dict[str, dict[str, str]]

    def columns(self, sentence: str) -> list[str]:
        return [name for name in NAMES if self.quality[uid_of(sentence)][name]]

    def findings(self, sentence: str) -> dict[str, str]:
        text = self.quality[uid_of(sentence)]["findings"] or ""
        return dict(line.split(": ", 1) for line in text.splitlines())


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Found:
    made = [case.build(case.sentence) for case in CASES]
    made += [build(sentence) for sentence, build in CLEAN.items()]
    stage = Stage(tmp_path_factory.mktemp("problems"), made, unlabelled="1")
    assert not stage.read().success, "two series cannot be read"
    (loses_a_row,) = (case for case in CASES if case.problem == "files_unaccounted")
    table = stage.settings.interim / "dicom_tags" / f"{uid_of(loses_a_row.sentence)}.parquet"
    pl.read_parquet(table).head(-1).write_parquet(table)
    (gone,) = (case for case in CASES if case.problem == "directory_vanished")
    shutil.rmtree(stage.settings.series_root / uid_of(gone.sentence))
    assert stage.sum_up().success
    quality = {row["SeriesInstanceUID"]: row for row in stage.quality().iter_rows(named=True)}
    assert quality.keys() == {series.uid for series in made}
    return Found(quality, named_by(stage.evaluations()))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_column_and_one_check_name_a_series_of_which(case: Case, found: Found) -> None:
    assert found.columns(case.sentence) == [case.problem]
    assert found.checks[uid_of(case.sentence)].keys() == {case.problem}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_table_and_check_say_where_it_is_where(case: Case, found: Found) -> None:
    findings = found.findings(case.sentence)
    assert case.where in findings[case.problem]
    assert findings == found.checks[uid_of(case.sentence)]


@pytest.mark.parametrize("sentence", CLEAN)
def test_nothing_is_said_against(sentence: str, found: Found) -> None:
    row = found.quality[uid_of(sentence)]
    assert [row[name] for name in NAMES] == [False] * len(NAMES)
    assert row["findings"] is None
    assert uid_of(sentence) not in found.checks


def test_every_problem_has_a_made_up_series() -> None:
    assert {case.problem for case in CASES} == set(NAMES)
    sentences = [case.sentence for case in CASES] + list(CLEAN)
    assert len({uid_of(sentence) for sentence in sentences}) == len(sentences)


@pytest.mark.parametrize("case", [case for case in CASES if case.problem == "not_done"], ids=str)
def test_of_a_series_that_is_not_in_the_table_nothing_else_is_said_where(
    case: Case, found: Found
) -> None:
    row = found.quality[uid_of(case.sentence)]
    assert {name: row[name] for name in NAMES} == dict.fromkeys(NAMES) | {"not_done": True}


# --- the numbered problems of the real data set ---------------------------------------------------

# Of number 1, blank slices are missing here: no header tells them, and no pixel is read.
KNOWN = [
    ("1: all slices have the same position", "all slices have the same position"),
    ("1: mixed orientations", "half of it is axial and half coronal"),
    ("1: mixed matrix sizes", "half of it has another matrix"),
    ("1: scouts", "it begins with a scout of another plane and matrix"),
    ("2: SpacingBetweenSlices", "SpacingBetweenSlices is 18 and the slices are 0.498 mm apart"),
    ("3: SOPInstanceUID not among the files", "a point is on a file that is not there"),
    ("3: positive without a localizer", "a location is positive and has no point"),
    ("3: location is negative", "a location has a point and is negative"),
    ("3: exact duplicate rows", "three rows of a point are alike"),
    ("3: one point, two locations", "one point has two locations"),
    ("4: header says axial", "its header says axial and its frames are coronal"),
    ("5: segmentation dimensions", "its segmentation has a slice too few"),
    ("6: wrong slope", "the slope of a CT is 2"),
    ("6: wrong intercept", "the intercept of an unsigned CT is 0"),
    ("6: PixelSpacing missing", "one image has no PixelSpacing"),
    ("6: SliceThickness missing", "one image has no SliceThickness"),
    ("7: Modality", "train.csv says CTA of an MR"),
]
NAMED_BY = {
    "1": {"positions_not_distinct", "mixed_orientation", "mixed_matrix", "scouts"},
    "2": {"header_spacing_differs"},
    "3": {
        "localizer_without_image",
        "positive_without_localizer",
        "localizer_label_negative",
        "localizer_duplicate",
        "localizer_contradictory",
    },
    "4": {"orientation_contradicts_positions"},
    "5": {"segmentation_mismatch"},
    "6": {"rescale_implausible", "pixel_spacing_missing", "slice_thickness_missing"},
    "7": {"modality_differs"},
}


@pytest.mark.parametrize("number", NAMED_BY)
def test_the_checks_name_known_problem_number(number: str, found: Found) -> None:
    sentences = [sentence for known, sentence in KNOWN if known.startswith(number)]
    named = [found.checks[uid_of(sentence)] for sentence in sentences]
    assert all(len(findings) == 1 for findings in named)
    assert {problem for findings in named for problem in findings} == NAMED_BY[number]
