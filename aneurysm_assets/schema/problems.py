"""What can be wrong with a series: each problem's name, meaning, tolerance and source.

One declaration makes the column of `series_quality`, the asset check and the row of
docs/checks.md. How a problem is found stands in `quality`.
"""

from dataclasses import dataclass
from typing import Literal

from aneurysm_assets.schema.tolerances import (
    AIR_HU,
    CORNER_VOXELS,
    DISTINCT_MM,
    FEWEST_SLICES,
    IN_PLANE_MM,
    MAX_TILT_DEGREES,
    ORIENTATION_COSINES,
    OUTSIDE_PX,
    PIXEL_SPACING_RELATIVE,
    RESCALE_SLOPE_RELATIVE,
    SPACING_RELATIVE,
    UNIT_COSINES,
    VESSEL_RADIUS_MM,
    VOXEL_SIZE_RELATIVE,
)

Severity = Literal["ERROR", "WARN"]


@dataclass(frozen=True)
class Problem:
    """One thing that can be wrong with a series.

    Attributes
    ----------
    name : str
        The column of `series_quality` and the name of the asset check.
    description : str
        What is the case where it is true.
    severity : {"ERROR", "WARN"}
        ERROR where the table would be wrong, WARN where the data are.
    tolerance : str
        What is still let pass, with its unit; empty where nothing is measured.
    source : str
        Where the rule or the tolerance comes from.
    """

    name: str
    description: str
    severity: Severity = "WARN"
    tolerance: str = ""
    source: str = "competition data page"


_IDC = "IDC volume_geometry_index"

PROBLEMS: tuple[Problem, ...] = (
    Problem(
        "not_done",
        "A partition is not done in all four tables, or not in the unified table.",
        "ERROR",
        source="partition status",
    ),
    Problem(
        "key_not_unique",
        "(SOPInstanceUID, frame_index, localizer_index) occurs more than once.",
        "ERROR",
        source="PS3.3 C.12.1: a SOPInstanceUID is unique",
    ),
    Problem(
        "files_unaccounted",
        "The unified table has another number of files than were in the directory when it was "
        "read.",
        "ERROR",
        source="materialization metadata",
    ),
    Problem("unreadable_files", "At least one file has a `read_error`.", source="reading"),
    Problem(
        "header_series_differs",
        "A header's SeriesInstanceUID is not the directory's name.",
        source="(0020,000E)",
    ),
    Problem("scouts", "Holds localizer images (scouts): `is_scout`.", source="PS3.3 C.8.2.1"),
    Problem(
        "mixed_orientation",
        "Images that are no scouts differ in ImageOrientationPatient.",
        tolerance=f"{ORIENTATION_COSINES} per cosine",
        source=_IDC,
    ),
    Problem("mixed_matrix", "Images that are no scouts differ in Rows or Columns.", source=_IDC),
    Problem(
        "mixed_pixel_spacing",
        "Images that are no scouts differ in PixelSpacing.",
        tolerance=f"{PIXEL_SPACING_RELATIVE:.1%}",
        source=f"{_IDC}: consistent_pixel_spacing",
    ),
    Problem(
        "mixed_frame_of_reference",
        "Images that are no scouts have different FrameOfReferenceUIDs.",
        source="PS3.3 C.7.4.1",
    ),
    Problem(
        "too_few_slices",
        "So few images are no scouts that they are no volume, or the series has fewer images than "
        "ImagesInAcquisition says.",
        tolerance=f"{FEWEST_SLICES} slices",
        source="(0020,1002), C.7.6.1",
    ),
    Problem(
        "header_malformed",
        "A header has a value that cannot be, or breaks PS3.5: `header_notes`.",
        source="PS3.3 and PS3.5 7.1, as the note says",
    ),
    Problem(
        "pixel_data_short",
        "A file holds fewer bytes of pixels than its header says.",
        source="PS3.5 8.1.1",
    ),
    Problem(
        "position_missing",
        "An image that is no scout has no ImagePositionPatient or ImageOrientationPatient.",
        source="PS3.3 C.7.6.2",
    ),
    Problem(
        "positions_not_distinct",
        "Two images of one volume have the same position.",
        tolerance=f"{DISTINCT_MM} mm",
        source=_IDC,
    ),
    Problem(
        "spacing_uneven",
        "Gaps between neighbouring slices of a group differ from their median; "
        "`largest_gap_ratio` and `missing_slices` grade it.",
        tolerance=f"{SPACING_RELATIVE:.0%} of the median",
        source=_IDC,
    ),
    Problem(
        "cosines_not_orthogonal",
        "Row and column directions are not of unit length, or not at a right angle; they are null.",
        tolerance=f"{UNIT_COSINES}",
        source=f"PS3.3 C.7.6.2.1.1; {_IDC}",
    ),
    Problem(
        "in_plane_shift",
        "Slices are shifted against each other within their plane, as by a tilted gantry.",
        tolerance=f"{IN_PLANE_MM} mm",
        source=_IDC,
    ),
    Problem(
        "orientation_contradicts_positions",
        "The way from slice to slice is not along the normal of the orientation, as in the "
        "multi-frame files whose header says axial and is not.",
        tolerance=f"{MAX_TILT_DEGREES:g} degrees",
        source="PS3.3 C.7.6.2.1.1",
    ),
    Problem(
        "header_spacing_differs",
        "SpacingBetweenSlices is not the distance of the positions from centre to centre.",
        tolerance=f"{SPACING_RELATIVE:.0%}",
        source="PS3.3 C.7.6.16.2.1: (0018,0088)",
    ),
    Problem("pixel_spacing_missing", "An image has no PixelSpacing.", source="PS3.3 10.7.1.3"),
    Problem("slice_thickness_missing", "An image has no SliceThickness.", source="PS3.3 C.7.6.2"),
    Problem(
        "rescale_missing",
        "A CT image has no RescaleSlope or RescaleIntercept.",
        source="PS3.3 C.8.2.1",
    ),
    Problem(
        "rescale_implausible",
        "A CT series whose slope or intercept varies, whose slope is not 1, or whose least value "
        "cannot be air.",
        tolerance=f"slope {RESCALE_SLOPE_RELATIVE:.1%}, {AIR_HU:.0f} HU",
        source="PS3.3 C.8.2.1: CT values are in HU",
    ),
    Problem(
        "modality_differs",
        "train.csv says CTA and the header not CT, or train.csv MRA or MRI and the header not MR.",
        source="train.csv and (0008,0060)",
    ),
    Problem(
        "labels_missing",
        "A label of train.csv is null, or there is no row. No finding where no series has a label.",
    ),
    Problem(
        "present_contradicts_locations",
        "`Aneurysm Present` is not 1 exactly where one of the 13 locations is.",
    ),
    Problem("positive_without_localizer", "A location is 1 in train.csv and has no point."),
    Problem("localizer_label_negative", "A point's location is 0 in train.csv."),
    Problem("localizer_location_unknown", "A point's location is none of the 13."),
    Problem("localizer_without_image", "A point's SOPInstanceUID, or frame, is not in the series."),
    Problem(
        "localizer_outside_image",
        "A point lies outside the image's matrix.",
        tolerance=f"-{OUTSIDE_PX} px to Columns and Rows",
    ),
    Problem("localizer_duplicate", "A point stands twice, alike in everything."),
    Problem("localizer_contradictory", "A point is given two locations."),
    Problem(
        "directory_vanished",
        "The directory is gone since the series was read: `aneurysm-assets prune` removes it.",
        source="raw/series",
    ),
    Problem(
        "localizer_off_vessel",
        "A point has a segmentation, and no vessel near it.",
        tolerance=f"{VESSEL_RADIUS_MM:g} mm",
        source="cowseg voxels",
    ),
    Problem(
        "localizer_in_other_vessel",
        "The vessel at a point is not its location.",
        tolerance=f"nearest within {VESSEL_RADIUS_MM:g} mm",
        source="cowseg voxels",
    ),
    Problem(
        "segmentation_unreadable",
        "A segmentation file is there and cannot be used: `nii_error` or `cowseg_error`.",
        source="NIfTI-1 and NIfTI-2 headers, voxels of the vessel labels",
    ),
    Problem(
        "segmentation_mismatch",
        "`segmentation_matches_series` is false.",
        tolerance=f"{VOXEL_SIZE_RELATIVE:.0%} of the voxel size, {CORNER_VOXELS:g} voxel",
        source="NIfTI-1 affine and PS3.3 C.7.6.2.1.1",
    ),
)
