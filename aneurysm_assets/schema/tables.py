"""Every table's columns: dtype, unit, source, description. The one schema of the package.

What belongs here is what a reader of a table must know about a column. How a value is found stands
in `extraction`; how a table is written stands in `store`. Columns that are DICOM attributes carry
the DICOM keyword of PS3.6, ours are snake_case, those of a CSV keep its header.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from aneurysm_assets.schema.problems import PROBLEMS

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
        The polars dtype in every file of the table, also where all values are null.
    description : str
        What a value is and when it is null.
    source : str
        Where the value comes from: DICOM tag and PS3.3 section, CSV column, or NIfTI field.
    unit : str
        The unit of a number, empty where there is none.
    former_name : str
        What files of earlier versions call it, empty where the name never changed: they are read
        as they are.
    """

    name: str
    dtype: pl.DataType
    description: str
    source: str
    unit: str = ""
    former_name: str = ""


@dataclass(frozen=True)
class Artifact:
    """What an asset makes.

    Attributes
    ----------
    name : str
        The asset's name.
    description : str
        What it is; of a table, what one row is.
    """

    name: str
    description: str


@dataclass(frozen=True)
class Table(Artifact):
    """A table: its columns in order.

    Attributes
    ----------
    columns : tuple of Column
        In the order of the files.
    key : tuple of str
        The columns that together are unique.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def schema(self) -> pl.Schema:
        """The polars schema of every file of this table."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)


def _float_array(length: int) -> pl.DataType:
    return pl.Array(pl.Float64, length)


_SERIES = Column(
    SERIES_KEY,
    pl.String(),
    "The series: the name of its directory, and its partition key.",
    "directory name",
)

_FUNCTIONAL = "functional groups before top level in a multi-frame file"

COMPETITION_TAGS: tuple[Column, ...] = (
    Column("BitsAllocated", pl.Int32(), "Bits of memory a sample.", "(0028,0100), C.7.6.3", "bit"),
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
        "De-identified a series: never group by it.",
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
        "De-identified a series: never group by it.",
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
)
"""Tags beyond the competition's, for those who have them."""

_GEOMETRY_COLUMNS: tuple[Column, ...] = (
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
        "0-based order along the normal within the images of one orientation and matrix; "
        "InstanceNumber breaks ties, and serves where there is no position.",
        "computed from the series",
    ),
    Column(
        "slice_spacing_mm",
        pl.Float64(),
        "Median gap of the distinct slice positions of the series' largest group of one "
        "orientation and matrix; the same for every image of the series.",
        "computed from the series",
        "mm",
    ),
    Column(
        "orientation_plane",
        pl.String(),
        "`axial`, `coronal`, `sagittal`, or `oblique` where the row or column direction has no "
        "cosine above 0.8.",
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
)

_FRAME_INDEX_DESCRIPTION = (
    "0-based frame of a multi-frame file; null for a single-frame file, which is not 0."
)

DICOM_TAGS = Table(
    name="dicom_tags",
    description="One row an image, that is a frame of a file; an unreadable file is one row too.",
    columns=(
        _SERIES,
        *COMPETITION_TAGS,
        Column(
            "NumberOfFrames",
            pl.Int32(),
            "Frames in the file; null where the header does not say.",
            "(0028,0008), C.7.6.6",
        ),
        Column("frame_index", pl.Int32(), _FRAME_INDEX_DESCRIPTION, "row's place in the file"),
        Column(
            "geometry_source",
            pl.String(),
            "Where position, orientation, pixel spacing, thickness and spacing were found: "
            "`per_frame`, `shared`, `top_level`, or those joined by `+` in this order; "
            "null where there are none.",
            "PS3.3 C.7.6.16",
        ),
        *OPTIONAL_TAGS,
        *_GEOMETRY_COLUMNS,
        Column(
            "dicom_path", pl.String(), "The file, relative to the raw root, `/` between.", "disk"
        ),
        Column("file_size", pl.Int64(), "Size of the file.", "disk", "byte"),
        Column(
            "header_series_instance_uid",
            pl.String(),
            "The header's own SeriesInstanceUID where it differs from the directory's name, "
            "else null.",
            "(0020,000E), C.7.3.1",
        ),
        Column(
            "read_error",
            pl.String(),
            "Why the file cannot be read; every tag of such a row is null. Null for a good file.",
            "reading",
        ),
    ),
    key=("dicom_path", "frame_index"),
)

LABELS = Table(
    name="labels",
    description="One row a series: its row of train.csv, or nulls where there is none.",
    columns=(
        _SERIES,
        Column("PatientAge", pl.Int32(), "Age at the time of the study.", "train.csv", "year"),
        Column("PatientSex", pl.String(), "`Female` or `Male`.", "train.csv"),
        Column("Modality", pl.String(), "`CTA`, `MRA`, `MRI T2` or `MRI T1post`.", "train.csv"),
        *(
            Column(name, pl.Int8(), f"1 with an aneurysm at: {name}; else 0.", "train.csv")
            for name in LOCATIONS
        ),
        Column(ANEURYSM_PRESENT, pl.Int8(), "1 with an aneurysm anywhere; else 0.", "train.csv"),
    ),
    key=(SERIES_KEY,),
)

LOCALIZERS = Table(
    name="localizers",
    description="One row an aneurysm point of train_localizers.csv, in its order, duplicates kept.",
    columns=(
        _SERIES,
        Column("SOPInstanceUID", pl.String(), "The file of the point.", "train_localizers.csv"),
        Column(
            "x",
            pl.Float64(),
            "Along the image's columns, from the left.",
            "train_localizers.csv, coordinates `x`",
            "px",
        ),
        Column(
            "y",
            pl.Float64(),
            "Along the image's rows, from the top.",
            "train_localizers.csv, coordinates `y`",
            "px",
        ),
        Column(
            "frame_index",
            pl.Int32(),
            "0-based frame of the point; null where the CSV has none, which is not 0.",
            "train_localizers.csv, coordinates `f`",
        ),
        Column("location", pl.String(), "One of the 13 locations.", "train_localizers.csv"),
    ),
    key=(),
)


def _segmentation_columns(prefix: str, what: str) -> Iterable[Column]:
    return (
        Column(
            f"{prefix}_path",
            pl.String(),
            f"The {what}, relative to the raw root; null where there is none, "
            f"as are the other `{prefix}_` columns then.",
            "disk",
        ),
        Column(f"{prefix}_shape", pl.Array(pl.Int32, 3), "Voxels along i, j, k.", "dim", "voxel"),
        Column(
            f"{prefix}_affine",
            pl.Array(pl.Float64, (4, 4)),
            "Voxel index (i, j, k, 1) to RAS.",
            "sform, else qform, else pixdim (nibabel's rule)",
            "mm",
        ),
        Column(f"{prefix}_pixdim", _float_array(3), "Voxel size along i, j, k.", "pixdim", "mm"),
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


SEGMENTATION_META = Table(
    name="segmentation_meta",
    description="One row a series that has segmentation files, none for one that has not.",
    columns=(
        _SERIES,
        *_segmentation_columns("nii", "image, `{SeriesInstanceUID}.nii`"),
        *_segmentation_columns("cowseg", "vessel labels, `{SeriesInstanceUID}_cowseg.nii`"),
        Column(
            "cowseg_labels",
            pl.List(pl.Int32),
            "The label values present, ascending, 0 for background among them; also such as "
            "belong to no class.",
            "voxels",
        ),
        *(
            Column(
                vessel_column(vessel),
                pl.Int64(),
                f"Voxels of label {label}, {vessel}.",
                "voxels",
                "voxel",
            )
            for label, vessel in enumerate(VESSEL_CLASSES, start=1)
        ),
    ),
    key=(SERIES_KEY,),
)

LOCALIZER_INDEX = Column(
    "localizer_index",
    pl.Int32(),
    "0, 1, ... over the points of one image, in the order of the CSV; null for an image without.",
    "train_localizers.csv",
)


_PLACED_COLUMNS: tuple[Column, ...] = (
    *(
        Column(
            f"localizer_{axis}_mm",
            pl.Float64(),
            f"The point's {axis} in patient coordinates, LPS; whole x and y are centres of pixels.",
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
        "The vessel class at the point, or the nearest within 5 mm; null where there is none, or "
        "no segmentation.",
        "cowseg voxels",
    ),
    Column(
        "segmentation_matches_series",
        pl.Boolean(),
        "Whether the grid of every segmentation file is the series' grid: dimensions up to axis "
        "order, spacing within 1 %, position within half a voxel. Null without a segmentation, or "
        "where the series has no usable geometry.",
        "computed from both",
    ),
)


Origin = tuple[str, str]
"""The name of a table, and of the column of it that a value is taken from."""


def _of(table: Table, *columns: str) -> tuple[Origin, ...]:
    return tuple((table.name, column) for column in columns)


_FROM_IMAGE = _of(DICOM_TAGS, "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_FROM_POINT = (*_of(LOCALIZERS, "x", "y"), *_FROM_IMAGE)

_MADE_FROM: Mapping[str, tuple[Origin, ...]] = {
    "localizer_index": _of(LOCALIZERS, "SOPInstanceUID", "frame_index"),
    **dict.fromkeys((f"localizer_{axis}_mm" for axis in "xyz"), _FROM_POINT),
    "localizer_voxel": (*_FROM_POINT, *_of(SEGMENTATION_META, "cowseg_affine")),
    "localizer_vessel": (*_FROM_POINT, *_of(SEGMENTATION_META, "cowseg_path", "cowseg_affine")),
    "segmentation_matches_series": (
        *_FROM_IMAGE,
        *_of(DICOM_TAGS, "Rows", "Columns", "is_scout"),
        *_of(SEGMENTATION_META, "nii_shape", "nii_affine", "cowseg_shape", "cowseg_affine"),
    ),
}


def _unified_columns() -> Iterable[tuple[Column, tuple[Origin, ...]]]:
    """Yield the joined columns and what each comes from, in their order.

    A name on both sides of a join gets `_dicom` and `_train`.
    """
    shared = (set(DICOM_TAGS.column_names) & set(LABELS.column_names)) - {SERIES_KEY}
    for column in DICOM_TAGS.columns:
        name = f"{column.name}_dicom" if column.name in shared else column.name
        yield replace(column, name=name), _of(DICOM_TAGS, column.name)
    for column in LABELS.columns[1:]:
        name = f"{column.name}_train" if column.name in shared else column.name
        yield replace(column, name=name), _of(LABELS, column.name)
    yield LOCALIZER_INDEX, _MADE_FROM[LOCALIZER_INDEX.name]
    joined_on = {SERIES_KEY, "SOPInstanceUID", "frame_index"}
    for column in LOCALIZERS.columns:
        if column.name not in joined_on:
            yield column, _of(LOCALIZERS, column.name)
    for column in SEGMENTATION_META.columns[1:]:
        yield column, _of(SEGMENTATION_META, column.name)
    for column in _PLACED_COLUMNS:
        yield column, _MADE_FROM[column.name]


UNIFIED_METADATA = Table(
    name="unified_metadata",
    description="One row an image, and one more for each further aneurysm point on the same image.",
    columns=tuple(column for column, _ in _unified_columns()),
    key=("SOPInstanceUID", "frame_index", "localizer_index"),
)

UNIFIED_ORIGINS: Mapping[str, tuple[Origin, ...]] = {
    column.name: origins for column, origins in _unified_columns()
}
"""What each column of `unified_metadata` is taken or computed from."""

SERIES_TABLES: tuple[Table, ...] = (DICOM_TAGS, LABELS, LOCALIZERS, SEGMENTATION_META)
"""The tables with one file a series, in the order in which they are made."""

SERIES_QUALITY = Table(
    name="series_quality",
    description="One row a series: which problems it has, so that a filter excludes them.",
    columns=(
        _SERIES,
        *(
            Column(
                problem.name,
                pl.Boolean(),
                problem.description
                + (f" Tolerance: {problem.tolerance}." * bool(problem.tolerance)),
                problem.source,
            )
            for problem in PROBLEMS
        ),
        Column(
            "findings",
            pl.String(),
            "A line a problem: where in the series it is, the first of each; null where there "
            "is none.",
            "the checks",
        ),
    ),
    key=(SERIES_KEY,),
)

ALL_TABLES: tuple[Table, ...] = (*SERIES_TABLES, UNIFIED_METADATA, SERIES_QUALITY)

SERIES_PREVIEW = Artifact(
    name="series_preview",
    description="One PNG a series: three planes through its middle, its aneurysm points, and the "
    "vessel labels where there is a segmentation. Made from the raw files alone.",
)

DATASET_REPORT = Artifact(
    name="dataset_report",
    description="One HTML page of the data set: series by modality, sex and age, positives by "
    "location, geometry by modality, what is missing and which checks fired.",
)
