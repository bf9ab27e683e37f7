"""Every column: dtype, unit, source, description, and the names that values and columns carry.

What belongs here is what a reader of a table must know about a column; which table holds it stands
in `tables`, how a value is found in the folders above. Columns that are DICOM attributes carry the
DICOM keyword of PS3.6, ours are snake_case, those of a CSV keep its header.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from aneurysm_assets.errors import InputError
from aneurysm_assets.schema.extra_tags import TAGS, extra_tags
from aneurysm_assets.schema.tolerances import (
    CORNER_VOXELS,
    OBLIQUE_COSINE,
    VESSEL_RADIUS_MM,
    VOXEL_SIZE_RELATIVE,
)

SERIES_KEY = "SeriesInstanceUID"

LOCATIONS: tuple[str, ...] = (
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
)
"""The 13 locations of train.csv, in its order."""

ANEURYSM_PRESENT = "Aneurysm Present"

VESSEL_CLASSES: tuple[str, ...] = (
    "Other Posterior Circulation",
    "Basilar Tip",
    "Right Posterior Communicating Artery",
    "Left Posterior Communicating Artery",
    "Right Infraclinoid Internal Carotid Artery",
    "Left Infraclinoid Internal Carotid Artery",
    "Right Supraclinoid Internal Carotid Artery",
    "Left Supraclinoid Internal Carotid Artery",
    "Right Middle Cerebral Artery",
    "Left Middle Cerebral Artery",
    "Right Anterior Cerebral Artery",
    "Left Anterior Cerebral Artery",
    "Anterior Communicating Artery",
)
"""The classes of a vessel segmentation: label 1 is the first. Not the order of train.csv."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
        DICOM keyword, CSV header or snake_case name.
    dtype : pl.DataType
        The polars dtype of its values; of a vector with its length.
    description : str
        What a value is and when it is null.
    source : str
        Where the value comes from: DICOM tag and PS3.3 section, CSV column, or NIfTI field.
    unit : str
        The unit of a number, empty where there is none.
    former_name : str
        What files of earlier versions call it, empty where the name never changed: they are read
        as they are.
    since : str
        The version that added it, empty for the first: files of earlier ones have null there. A
        file has all the columns of a version, or none.
    """

    name: str
    dtype: pl.DataType
    description: str
    source: str
    unit: str = ""
    former_name: str = ""
    since: str = ""

    @property
    def stored_dtype(self) -> pl.DataType:
        """The dtype in every file of the table, also where all values are null.

        Of a vector it is a list: pyarrow before 26, and so pandas, cannot read arrays of fixed
        length that may be null, and polars takes longer for them.
        """
        return pl.List(self.dtype.inner) if isinstance(self.dtype, pl.Array) else self.dtype

    @property
    def type_name(self) -> str:
        """The stored dtype as a reader is told it, of a vector with its length."""
        length = f" of {self.dtype.size}" if isinstance(self.dtype, pl.Array) else ""
        return f"{self.stored_dtype}{length}"


def _float_array(length: int) -> pl.DataType:
    return pl.Array(pl.Float64, length)


SERIES = Column(
    SERIES_KEY,
    pl.String(),
    "The series: the name of its directory, and its partition key.",
    "directory name",
)

_FUNCTIONAL = "functional groups before top level in a multi-frame file"

COMPETITION_TAGS: tuple[Column, ...] = (
    Column(
        "BitsAllocated", pl.Int32(), "Bits of memory per sample.", "(0028,0100), C.7.6.3", "bit"
    ),
    Column("BitsStored", pl.Int32(), "Bits of each sample in use.", "(0028,0101), C.7.6.3", "bit"),
    Column("Columns", pl.Int32(), "Width of the image.", "(0028,0011), C.7.6.3", "px"),
    Column(
        "FrameOfReferenceUID",
        pl.String(),
        "Images that share it share a coordinate system.",
        "(0020,0052), C.7.4.1",
    ),
    Column("HighBit", pl.Int32(), "Most significant bit of a sample.", "(0028,0102), C.7.6.3"),
    Column(
        "ImageOrientationPatient",
        _float_array(6),
        "Direction cosines of the image's rows (first three) and columns, in LPS.",
        f"(0020,0037), C.7.6.2; {_FUNCTIONAL} (C.7.6.16.2.4)",
    ),
    Column(
        "ImagePositionPatient",
        _float_array(3),
        "Centre of the first pixel, x, y, z in LPS.",
        f"(0020,0032), C.7.6.2; {_FUNCTIONAL} (C.7.6.16.2.3)",
        "mm",
    ),
    Column("InstanceNumber", pl.Int32(), "The file's number.", "(0020,0013), C.7.6.1"),
    Column(
        "Modality",
        pl.String(),
        "CT or MR, as the header says; train.csv has its own.",
        "(0008,0060), C.7.3.1",
    ),
    Column(
        "PatientID",
        pl.String(),
        "De-identified per series: never group by it.",
        "(0010,0020), C.7.1.1",
    ),
    Column(
        "PhotometricInterpretation",
        pl.String(),
        "What a sample's value means, such as MONOCHROME2.",
        "(0028,0004), C.7.6.3",
    ),
    Column(
        "PixelRepresentation",
        pl.Int32(),
        "0 for unsigned samples, 1 for two's complement.",
        "(0028,0103), C.7.6.3",
    ),
    Column(
        "PixelSpacing",
        _float_array(2),
        "Distance of the centres of neighbouring rows, then of neighbouring columns.",
        f"(0028,0030), 10.7.1.3; {_FUNCTIONAL} (C.7.6.16.2.1)",
        "mm",
    ),
    Column(
        "PlanarConfiguration",
        pl.Int32(),
        "Order of the samples of colour images.",
        "(0028,0006), C.7.6.3",
    ),
    Column(
        "RescaleIntercept",
        pl.Float64(),
        "Added after the slope to get output units; null where absent, which is not 0.",
        f"(0028,1052), C.11.1; {_FUNCTIONAL} (C.7.6.16.2.9)",
    ),
    Column(
        "RescaleSlope",
        pl.Float64(),
        "Factor from stored value to output units; null where absent, which is not 1.",
        f"(0028,1053), C.11.1; {_FUNCTIONAL} (C.7.6.16.2.9)",
    ),
    Column(
        "RescaleType",
        pl.String(),
        "Output units of slope and intercept, such as HU.",
        f"(0028,1054), C.11.1; {_FUNCTIONAL} (C.7.6.16.2.9)",
    ),
    Column("Rows", pl.Int32(), "Height of the image.", "(0028,0010), C.7.6.3", "px"),
    Column("SOPClassUID", pl.String(), "What kind of object the file is.", "(0008,0016), C.12.1"),
    Column("SOPInstanceUID", pl.String(), "Identifies the file.", "(0008,0018), C.12.1"),
    Column("SamplesPerPixel", pl.Int32(), "1 for grey, 3 for colour.", "(0028,0002), C.7.6.3"),
    Column(
        "SliceThickness",
        pl.Float64(),
        "Nominal thickness of the slice; not the distance of slices.",
        f"(0018,0050), C.7.6.2; {_FUNCTIONAL} (C.7.6.16.2.1)",
        "mm",
    ),
    Column(
        "SpacingBetweenSlices",
        pl.Float64(),
        "What the header says; often wrong: take spacing from positions.",
        f"(0018,0088), C.8.3.1; {_FUNCTIONAL} (C.7.6.16.2.1)",
        "mm",
    ),
    Column(
        "StudyInstanceUID",
        pl.String(),
        "De-identified per series: never group by it.",
        "(0020,000D), C.7.2.1",
    ),
    Column(
        "TransferSyntaxUID",
        pl.String(),
        "How data set and pixels are encoded.",
        "(0002,0010), file meta information, PS3.10 7.1",
    ),
)
"""The 25 tags that the competition keeps, in its order."""

OPTIONAL_TAGS: tuple[Column, ...] = (
    Column(
        "ImageType",
        pl.String(),
        "Values joined by a backslash, as DICOM has them; null where absent.",
        "(0008,0008), C.7.6.1.1.2",
    ),
    Column(
        "Manufacturer",
        pl.String(),
        "The scanner's maker; null where absent.",
        "(0008,0070), C.7.5.1",
    ),
    Column(
        "WindowCenter",
        pl.Float64(),
        "Centre of the first window that the header names, in output units.",
        f"(0028,1050), C.11.2; {_FUNCTIONAL} (C.7.6.16.2.10)",
    ),
    Column(
        "WindowWidth",
        pl.Float64(),
        "Width of the first window that the header names, in output units.",
        f"(0028,1051), C.11.2; {_FUNCTIONAL} (C.7.6.16.2.10)",
    ),
    Column(
        "ImagesInAcquisition",
        pl.Int32(),
        "How many images the acquisition gave, as the header says; null where absent.",
        "(0020,1002), C.7.6.1",
        since="0.2",
    ),
    Column(
        "TemporalPositionIdentifier",
        pl.Int32(),
        "Which of several points in time the image is of; null where absent.",
        f"(0020,0100), C.8.3.1; TemporalPositionIndex (0020,9128) in {_FUNCTIONAL}",
        since="0.3",
    ),
    Column(
        "EchoTime",
        pl.Float64(),
        "Time from excitation to the middle of the echo; null where absent.",
        f"(0018,0081), C.8.3.1; EffectiveEchoTime (0018,9082) in {_FUNCTIONAL}",
        "ms",
        since="0.3",
    ),
    Column(
        "DiffusionBValue",
        pl.Float64(),
        "Diffusion sensitization factor; null where absent.",
        f"(0018,9087), C.8.13.5.9; {_FUNCTIONAL}",
        "s/mm2",
        since="0.3",
    ),
    Column(
        "TriggerTime",
        pl.Float64(),
        "Time from the heart beat to the image; null where absent.",
        f"(0018,1060), C.8.3.1; NominalCardiacTriggerDelayTime (0020,9153) in {_FUNCTIONAL}",
        "ms",
        since="0.3",
    ),
    Column(
        "AcquisitionNumber",
        pl.Int32(),
        "Which acquisition the image is of; null where absent.",
        f"(0020,0012), C.7.6.1; FrameAcquisitionNumber (0020,9156) in {_FUNCTIONAL}",
        since="0.3",
    ),
    Column(
        "AcquisitionTime",
        pl.String(),
        "When the acquisition began, as the header has it: `HHMMSS.FFFFFF`; null where absent.",
        "(0008,0032), C.7.6.1",
        since="0.3",
    ),
    Column(
        "ContentTime",
        pl.String(),
        "When the pixels were made, as the header has it: `HHMMSS.FFFFFF`; null where absent.",
        "(0008,0033), C.7.6.1",
        since="0.3",
    ),
)
"""Tags beyond the competition's, for those who have them."""

_DTYPE_OF_VR: Mapping[str, pl.DataType] = {
    **dict.fromkeys(("AS", "CS", "DA", "DT", "TM", "LO", "SH", "UI"), pl.String()),
    **dict.fromkeys(("DS", "FD"), pl.Float64()),
    **dict.fromkeys(("IS", "US"), pl.Int32()),
}
"""The value representations that a column can be made of."""


def extra_columns(keywords: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of attributes that a user asks for, typed by their VR in PS3.6.

    Raises
    ------
    InputError
        A keyword is not in PS3.6, is read already, or its values fit no column.
    """
    return tuple(map(_extra_column, keywords))


def _extra_column(keyword: str) -> Column:
    # With pydicom, which nobody waits for who asks for no attribute.
    from pydicom.datadict import (  # noqa: PLC0415
        dictionary_description,
        dictionary_VM,
        dictionary_VR,
        tag_for_keyword,
    )

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise InputError(f"{TAGS}: {keyword} is no keyword of DICOM's dictionary (PS3.6)")
    if keyword in _TAKEN or keyword in {c.name for c in (*COMPETITION_TAGS, *OPTIONAL_TAGS)}:
        raise InputError(f"{TAGS}: {keyword} is the name of a column already: leave it out")
    vr, vm = dictionary_VR(keyword), dictionary_VM(keyword)
    dtype = _DTYPE_OF_VR.get(vr)
    is_first_of_several = vm != "1" and not isinstance(dtype, pl.String)
    if dtype is None or tag >> 16 < 8 or (is_first_of_several and vr != "DS"):
        raise InputError(
            f"{TAGS}: {keyword} cannot be a column: values of {vr} with multiplicity {vm}"
        )
    kept = "the first of its numbers" if is_first_of_several else "as the header has it"
    return Column(
        keyword,
        dtype,
        f"{dictionary_description(keyword)}, {kept}; null where absent. Asked for by {TAGS}.",
        f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
        since=f"tag {keyword}",
    )


_TAKEN = ("NumberOfFrames", SERIES_KEY, "PatientAge", "PatientSex")
"""Names that are columns, of the tables of headers or of train.csv, and no optional tag."""

EXTRA_TAGS: tuple[Column, ...] = extra_columns(extra_tags())
"""Tags that the user asks for in the environment."""

GEOMETRY_COLUMNS: tuple[Column, ...] = (
    Column(
        "slice_position_mm",
        pl.Float64(),
        "ImagePositionPatient along the normal of ImageOrientationPatient (row x column, LPS); "
        "null without either.",
        "C.7.6.2.1.1",
        "mm",
    ),
    Column(
        "slice_index",
        pl.Int32(),
        "0-based order along the normal within the images of one orientation, matrix, pixel "
        "spacing, frame of reference and series; "
        "InstanceNumber breaks ties, and serves where there is no position.",
        "computed from the series",
    ),
    Column(
        "slice_spacing_mm",
        pl.Float64(),
        "Median gap of the distinct slice positions of the image's group, along the normal; null "
        "for a scout.",
        "computed from the series",
        "mm",
    ),
    Column(
        "orientation_plane",
        pl.String(),
        "`axial`, `coronal` or `sagittal` by the axis of the patient along the normal; `oblique` "
        f"where the normal has no cosine above {OBLIQUE_COSINE}.",
        "computed from ImageOrientationPatient",
    ),
    Column(
        "is_scout",
        pl.Boolean(),
        "A scout: ImageType says LOCALIZER, or its orientation and matrix are those of at most "
        "a fifth of the series' images while half or more share others.",
        "computed from the series",
        former_name="is_localizer_image",
    ),
    Column(
        "image_group",
        pl.Int32(),
        "0, 1, ... over the groups of images that share orientation, matrix, pixel spacing, "
        "frame of reference and series; 0 is the largest. Null for a scout.",
        "computed from the series",
        since="0.2",
    ),
    Column(
        "largest_gap_ratio",
        pl.Float64(),
        "The largest gap between slices of the image's group over the median one: 1 where all are "
        "the same.",
        "computed from the series",
        since="0.2",
    ),
    Column(
        "missing_slices",
        pl.Int32(),
        "Slices that would fill the gaps in the image's group that are wider than one and a half "
        "median gaps.",
        "computed from the series",
        since="0.2",
    ),
    Column(
        "gantry_tilt_degrees",
        pl.Float64(),
        "Angle between the normal and the way from slice to slice in the image's group; 0 where "
        "slices lie straight behind one another.",
        "computed from the series",
        "degree",
        since="0.2",
    ),
    Column(
        "obliquity_degrees",
        pl.Float64(),
        "Angle between the image's normal and the nearest axis of the patient.",
        "computed from ImageOrientationPatient",
        "degree",
        since="0.2",
    ),
    Column(
        "volume_index",
        pl.Int32(),
        "The volume that the image is a slice of: 0, 1, ... over the volumes of the series, 0 is "
        "the largest. Null for a scout, and for an image without a place in a series that has "
        "places.",
        "computed from the series; docs/volumes.md",
        since="0.3",
    ),
    Column(
        "volume_slice_index",
        pl.Int32(),
        "The image's 0-based place k in its volume, along the normal of ImageOrientationPatient "
        "(row x column, LPS); null without a volume.",
        "computed from the series; docs/volumes.md",
        since="0.3",
    ),
    Column(
        "volume_split_by",
        pl.String(),
        "The attribute that tells the volumes of the image's group apart, where its places are "
        "repeated; null where none is, or nothing tells them apart.",
        "computed from the series; docs/volumes.md",
        since="0.3",
    ),
)

VOLUME_COLUMNS: tuple[Column, ...] = (
    Column("volume_index", pl.Int32(), "0 is the largest of its series.", "dicom_tags"),
    Column(
        "shape",
        pl.Array(pl.Int32, 3),
        "Voxels along i (column of the image), j (its row) and k (slice); null where Rows or "
        "Columns is missing.",
        "Columns, Rows, and the images of the volume",
        "voxel",
    ),
    Column(
        "affine",
        _float_array(16),
        "Voxel (i, j, k, 1) to RAS: the four rows of the matrix, one after the other. Its third "
        "column is the step from the first slice to the last by the number of steps, so that a "
        "tilt is a shear; of one slice it is the normal, as long as SliceThickness. Null where a "
        "number is missing or the positions are no line.",
        "C.7.6.2.1.1",
        "mm",
    ),
    Column(
        "voxel_size",
        _float_array(3),
        "Length of the affine's columns, along i, j, k.",
        "affine",
        "mm",
    ),
    Column(
        "slice_spacing_mm",
        pl.Float64(),
        "Median gap between neighbouring places, along the normal; null with fewer than two.",
        "positions",
        "mm",
    ),
    Column(
        "extent_mm",
        _float_array(3),
        "Along i, j, k, from edge to edge of the voxels.",
        "shape and voxel_size",
        "mm",
    ),
    Column("orientation_plane", pl.String(), "That of its images.", "dicom_tags"),
    Column(
        "obliquity_degrees",
        pl.Float64(),
        "Angle between the normal and the nearest axis of the patient.",
        "ImageOrientationPatient",
        "degree",
    ),
    Column(
        "gantry_tilt_degrees",
        pl.Float64(),
        "Angle between the normal and the way from the first slice to the last.",
        "positions and ImageOrientationPatient",
        "degree",
    ),
    Column("largest_gap_ratio", pl.Float64(), "The largest gap over the median one.", "positions"),
    Column(
        "missing_slices",
        pl.Int32(),
        "Slices that would fill the gaps wider than one and a half median ones.",
        "positions",
    ),
    Column(
        "is_regular",
        pl.Boolean(),
        "Whether the affine is right for every voxel: slices at different places, evenly spaced, "
        "none missing, on a line, of one direction that agrees with their positions, and grey "
        "pixels that are all there.",
        "computed from the volume; docs/volumes.md",
    ),
    Column(
        "irregular_reason",
        pl.String(),
        "Why it is not regular, each reason with its number; null for a regular one.",
        "computed from the volume",
    ),
    Column("volume_split_by", pl.String(), "That of its images.", "dicom_tags"),
    Column(
        "files",
        pl.List(pl.String),
        "The files of its slices, k by k, relative to the raw root.",
        "dicom_tags",
    ),
    Column(
        "frames",
        pl.List(pl.Int32),
        "The frames of its slices, k by k; null for a single-frame file.",
        "dicom_tags",
    ),
    Column("Modality_dicom", pl.String(), "CT or MR, as the header says.", "(0008,0060), C.7.3.1"),
    Column("Manufacturer", pl.String(), "The scanner's maker.", "(0008,0070), C.7.5.1"),
    Column("FrameOfReferenceUID", pl.String(), "That of its images.", "(0020,0052), C.7.4.1"),
    Column(
        "TransferSyntaxUID",
        pl.String(),
        "How its files are encoded; several are joined by a backslash.",
        "(0002,0010), PS3.10 7.1",
    ),
    Column(
        "rescale_is_uniform",
        pl.Boolean(),
        "Whether all its images have one slope and one intercept.",
        "dicom_tags",
    ),
    Column(
        "RescaleSlope",
        pl.Float64(),
        "That of its images; null where absent, or not uniform.",
        "(0028,1053), C.11.1",
    ),
    Column(
        "RescaleIntercept",
        pl.Float64(),
        "That of its images; null where absent, or not uniform.",
        "(0028,1052), C.11.1",
    ),
    Column(
        "WindowCenter",
        pl.Float64(),
        "That of the slice in the middle, in output units; null where absent.",
        "(0028,1050), C.11.2",
    ),
    Column(
        "WindowWidth",
        pl.Float64(),
        "That of the slice in the middle, in output units; null where absent.",
        "(0028,1051), C.11.2",
    ),
    Column(
        "images_left_out",
        pl.Int32(),
        "Images of the series that are in no volume, and files that cannot be read.",
        "dicom_tags",
    ),
    Column(
        "left_out_reason",
        pl.String(),
        "How many of them are scouts, have no place, or cannot be read; null where none is left "
        "out.",
        "dicom_tags",
    ),
)
"""What follows from the images of a volume alone."""


FRAME_INDEX_DESCRIPTION = (
    "0-based frame of a multi-frame file; null for a single-frame file, which is not 0."
)


def segmentation_columns(prefix: str, what: str) -> Iterable[Column]:
    """Return the columns of one of the two NIfTI files of a series, by prefix `nii`, `cowseg`."""
    return (
        Column(
            f"{prefix}_path",
            pl.String(),
            f"The {what}, relative to the raw root; null where there is none, "
            f"as are the other `{prefix}_` columns then.",
            "disk",
        ),
        Column(
            f"{prefix}_error",
            pl.String(),
            "Why the file cannot be used: its bytes are no three-dimensional NIfTI volume, or its "
            f"voxels no labels; the other `{prefix}_` columns but the path are null then. Null for "
            "a good file.",
            "reading",
            since="0.2",
        ),
        Column(f"{prefix}_shape", pl.Array(pl.Int32, 3), "Voxels along i, j, k.", "dim", "voxel"),
        Column(
            f"{prefix}_affine",
            _float_array(16),
            "Voxel index (i, j, k, 1) to RAS: the four rows of the matrix, one after the other.",
            "sform, else qform, else pixdim (nibabel's rule)",
            "mm",
        ),
        Column(f"{prefix}_pixdim", _float_array(3), "Voxel size along i, j, k.", "pixdim", "mm"),
        Column(
            f"{prefix}_pixdim_all",
            _float_array(8),
            "All eight values as stored: first qfac (-1 where the quaternion's k axis is flipped; "
            "0 counts as 1), then the size along each dimension in the header's own units. Null in "
            "place of what is not finite.",
            "pixdim",
            since="0.2",
        ),
        Column(f"{prefix}_dtype", pl.String(), "Stored dtype, NumPy's name.", "datatype"),
        Column(
            f"{prefix}_axis_codes",
            pl.String(),
            "Direction in which i, j and k grow, such as `RAS`.",
            "affine",
        ),
        Column(
            f"{prefix}_determinant_sign",
            pl.Int8(),
            "1 where the affine keeps handedness, -1 where it mirrors, 0 where it is degenerate.",
            "affine",
        ),
        Column(
            f"{prefix}_voxel_size",
            _float_array(3),
            "Length of the affine's columns, along i, j, k.",
            "affine",
            "mm",
        ),
    )


def vessel_column(vessel: str) -> str:
    """Return the name of the column that counts a vessel class's voxels."""
    return f"cowseg_voxels_{vessel.lower().replace(' ', '_')}"


LOCALIZER_INDEX = Column(
    "localizer_index",
    pl.Int32(),
    "0, 1, ... over the points of one image, in the order of the CSV; null for an image without.",
    "train_localizers.csv",
)


PLACED_COLUMNS: tuple[Column, ...] = (
    *(
        Column(
            f"localizer_{axis}_mm",
            pl.Float64(),
            f"The point's {axis} in patient coordinates, LPS. Whole x and y are taken for centres "
            "of pixels; ANEURYSM_PIXEL_COORDINATES=corners takes them for corners.",
            "C.7.6.2.1.1, from the image's position, orientation and pixel spacing",
            "mm",
        )
        for axis in "xyz"
    ),
    Column(
        "localizer_voxel",
        pl.Array(pl.Int32, 3),
        "Voxel (i, j, k) of the vessel segmentation at the point, rounded; it may lie outside the "
        "volume. Null without a segmentation.",
        "cowseg_affine (RAS) and the point (LPS)",
        "voxel",
    ),
    Column(
        "localizer_vessel",
        pl.String(),
        f"The vessel class at the point, or the nearest within {VESSEL_RADIUS_MM:g} mm; null where "
        "there is none, or no segmentation.",
        "cowseg voxels",
    ),
    Column(
        "segmentation_matches_series",
        pl.Boolean(),
        "Whether the grid of every segmentation file is the series' grid: dimensions up to axis "
        f"order, voxel size within {VOXEL_SIZE_RELATIVE:.0%}, corners within {CORNER_VOXELS:g} "
        "voxel. Files that cannot be used are left out. Null without a usable segmentation, where "
        "an image lacks its geometry, or where the images are not one group with a regular volume.",
        "computed from both",
    ),
)
