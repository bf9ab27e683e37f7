"""Every table and picture that the stage makes: its columns in order, its key, its meaning.

What a column is stands in `columns`; how a table is written stands in `storage.table_files`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl
import pyarrow as pa

from aneurysm_assets.schema.columns import (
    ANEURYSM_PRESENT,
    COMPETITION_TAGS,
    EXTRA_TAGS,
    FRAME_INDEX_DESCRIPTION,
    GEOMETRY_COLUMNS,
    LOCALIZER_INDEX,
    LOCATIONS,
    OPTIONAL_TAGS,
    PLACED_COLUMNS,
    SERIES,
    SERIES_KEY,
    VESSEL_CLASSES,
    VOLUME_COLUMNS,
    Column,
    segmentation_columns,
    vessel_column,
)
from aneurysm_assets.schema.problems import PROBLEMS


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

    @cached_property
    def schema(self) -> pl.Schema:
        """The polars schema of every file of this table."""
        return pl.Schema({column.name: column.stored_dtype for column in self.columns})

    @cached_property
    def without_rows(self) -> pl.DataFrame:
        """The table of a series that has nothing in it, not to be changed."""
        return self.schema.to_frame()

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of these."""
        return self.without_rows.to_arrow(compat_level=pl.CompatLevel.oldest()).schema

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)


DICOM_TAGS = Table(
    name="dicom_tags",
    description="One row per image, that is a frame of a file; an unreadable file is one row too.",
    columns=(
        SERIES,
        *COMPETITION_TAGS,
        Column(
            "NumberOfFrames",
            pl.Int32(),
            "Frames in the file; null where the header does not say.",
            "(0028,0008), C.7.6.6",
        ),
        Column("frame_index", pl.Int32(), FRAME_INDEX_DESCRIPTION, "row's place in the file"),
        Column(
            "geometry_source",
            pl.String(),
            "Where position, orientation, pixel spacing, thickness and spacing were found: "
            "`per_frame`, `shared`, `top_level`, or those joined by `+` in this order; "
            "null where there are none.",
            "PS3.3 C.7.6.16",
        ),
        *OPTIONAL_TAGS,
        *EXTRA_TAGS,
        *GEOMETRY_COLUMNS,
        Column(
            "dicom_path", pl.String(), "The file, relative to the raw root, `/` between.", "disk"
        ),
        Column("file_size", pl.Int64(), "Size of the file.", "disk", "byte"),
        Column(
            "pixel_data_short",
            pl.Boolean(),
            "Whether the file holds fewer bytes of pixels than its header says; null where it has "
            "none, or behind a damaged element.",
            "PS3.5 8.1.1",
            since="0.2",
        ),
        Column(
            "header_notes",
            pl.String(),
            "What in the header cannot be, and so is null, or breaks PS3.5; null for a sound one.",
            "docs/bad-input.md",
            since="0.2",
        ),
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

TRAIN_CSV_EXTRA = "train_csv_extra"
LOCALIZERS_CSV_EXTRA = "train_localizers_csv_extra"


def _extra_column(name: str, file: str) -> Column:
    return Column(
        name,
        pl.String(),
        f"What the row has in further columns of {file}: a JSON object of texts by header name. "
        "Null where the file has none.",
        file,
        since="0.2",
    )


LABELS = Table(
    name="labels",
    description="One row per series: its row of train.csv, or nulls where there is none.",
    columns=(
        SERIES,
        Column("PatientAge", pl.Int32(), "Age at the time of the study.", "train.csv", "year"),
        Column("PatientSex", pl.String(), "`Female` or `Male`.", "train.csv"),
        Column("Modality", pl.String(), "`CTA`, `MRA`, `MRI T2` or `MRI T1post`.", "train.csv"),
        *(
            Column(name, pl.Int8(), f"1 with an aneurysm at: {name}; else 0.", "train.csv")
            for name in LOCATIONS
        ),
        Column(ANEURYSM_PRESENT, pl.Int8(), "1 with an aneurysm anywhere; else 0.", "train.csv"),
        _extra_column(TRAIN_CSV_EXTRA, "train.csv"),
    ),
    key=(SERIES_KEY,),
)

LOCALIZERS = Table(
    name="localizers",
    description="One row per aneurysm point of train_localizers.csv, in its order, duplicates "
    "kept. Each stands on a row of `unified_metadata`, or in `localizers_without_image` with the "
    "reason.",
    columns=(
        SERIES,
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
        _extra_column(LOCALIZERS_CSV_EXTRA, "train_localizers.csv"),
    ),
    key=(),
)


SEGMENTATION_META = Table(
    name="segmentation_meta",
    description="One row per series that has segmentation files, none for one that has not.",
    columns=(
        SERIES,
        *segmentation_columns("nii", "image, `{SeriesInstanceUID}.nii`"),
        *segmentation_columns("cowseg", "vessel labels, `{SeriesInstanceUID}_cowseg.nii`"),
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
        Column(
            "cowseg_boxes",
            pl.List(pl.Int32),
            "The box of each vessel present, in voxels of this file: seven numbers per vessel, its "
            "label, the first i, j, k and the last i, j, k, both in the box. In `volumes` they "
            "have names, and are in the voxels of the images.",
            "voxels",
            "voxel",
            since="0.4",
        ),
    ),
    key=(SERIES_KEY,),
)

Origin = tuple[str, str]
"""The name of a table, and of the column of it that a value is taken from."""


def _of(table: Table, *columns: str) -> tuple[Origin, ...]:
    return tuple((table.name, column) for column in columns)


DIRECTORY_VANISHED = Column(
    "directory_vanished",
    pl.Boolean(),
    "The directory of the series was gone when the table was made: what stands here was read "
    "before. `aneurysm-assets prune` removes such series.",
    "raw/series",
)

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
    for column in PLACED_COLUMNS:
        yield column, _MADE_FROM[column.name]
    yield DIRECTORY_VANISHED, ()


UNIFIED_METADATA = Table(
    name="unified_metadata",
    description="One row per image, and one more for each further aneurysm point on the image.",
    columns=tuple(column for column, _ in _unified_columns()),
    key=("SOPInstanceUID", "frame_index", "localizer_index"),
)

IS_FIRST_ROW = pl.col("localizer_index").fill_null(0) == 0
"""Rows of `unified_metadata` that give each image once, whatever its number of points."""

UNIFIED_ORIGINS: Mapping[str, tuple[Origin, ...]] = {
    column.name: origins for column, origins in _unified_columns()
}
"""What each column of `unified_metadata` is taken or computed from."""

SERIES_TABLES: tuple[Table, ...] = (DICOM_TAGS, LABELS, LOCALIZERS, SEGMENTATION_META)
"""The tables with one file per series, in the order in which they are made."""

SERIES_QUALITY = Table(
    name="series_quality",
    description="One row per series: which problems it has, so that a filter excludes them.",
    columns=(
        SERIES,
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
            "One line per problem: where in the series it is, the first of each; null where there "
            "is none.",
            "the checks",
        ),
    ),
    key=(SERIES_KEY,),
)

POINT = pl.Struct(
    {
        "location": pl.String(),
        **dict.fromkeys(("i", "j", "k", "x_mm", "y_mm", "z_mm"), pl.Float64()),
    }
)
"""An aneurysm point in a volume."""

VESSEL = pl.Struct(
    {
        "vessel": pl.String(),
        **dict.fromkeys(
            (f"{axis}_{end}" for end in ("first", "last") for axis in "ijk"), pl.Int32()
        ),
    }
)
"""The box of a vessel in a volume."""

VOLUMES = Table(
    name="volumes",
    description="One row per volume: what it is, whether it is regular, its files in order, and "
    "its series' labels. A series without a volume has no row.",
    columns=(
        SERIES,
        *VOLUME_COLUMNS,
        *(
            replace(column, name="Modality_train") if column.name == "Modality" else column
            for column in LABELS.columns[1:]
            if column.name != TRAIN_CSV_EXTRA
        ),
        Column(
            "points",
            pl.List(POINT),
            "The aneurysm points on its images: location, voxel (i, j, k), whole at centres, and "
            "mm in LPS. The voxel is that of the affine; without one, x, y and the slice. Empty "
            "where there is none.",
            "localizers and affine",
        ),
        Column("nii_path", pl.String(), "The series' image as NIfTI.", "segmentation_meta"),
        Column("cowseg_path", pl.String(), "The series' vessel labels.", "segmentation_meta"),
        Column(
            "segmentation_is_this_grid",
            pl.Boolean(),
            "Whether the grid of every usable segmentation file of the series is the volume's; "
            "null without one, or where the volume is not regular.",
            "computed from both",
        ),
        Column(
            "vessels",
            pl.List(VESSEL),
            "The box of each vessel of the segmentation in the volume's voxels: its first and its "
            "last i, j and k, both in the box. Null where the vessel labels cannot be used, or "
            "their grid is not the volume's.",
            "cowseg voxels and both affines",
            since="0.4",
        ),
        Column(
            "geometry_group",
            pl.String(),
            "The same for volumes that share FrameOfReferenceUID, or all their positions to the "
            "last digit: never divide them between training and validation. The first series of "
            "the group.",
            "FrameOfReferenceUID, ImagePositionPatient",
        ),
    ),
    key=(SERIES_KEY, "volume_index"),
)

LOCALIZERS_WITHOUT_IMAGE = Table(
    name="localizers_without_image",
    description="One row per aneurysm point that stands on no row of `unified_metadata`, and why.",
    columns=(
        *LOCALIZERS.columns,
        Column("reason", pl.String(), "Why no image was found for it.", "unified_metadata"),
    ),
    key=(),
)

DATASET_TABLES: tuple[Table, ...] = (UNIFIED_METADATA, VOLUMES, SERIES_QUALITY)
"""The tables of the whole data set that are made together, the first for the others."""

ALL_TABLES: tuple[Table, ...] = (*SERIES_TABLES, *DATASET_TABLES)
"""The tables that are assets; `unified_metadata` writes `LOCALIZERS_WITHOUT_IMAGE` beside it."""

SERIES_PREVIEW = Artifact(
    name="series_preview",
    description="One PNG per series: three planes through its middle, its aneurysm points, and the "
    "vessel labels where there is a segmentation. Made from the raw files alone.",
)

DATASET_REPORT = Artifact(
    name="dataset_report",
    description="One HTML page of the data set: series by modality, sex and age; prevalence by "
    "each of them, with intervals; positives by location, and which locations occur together; "
    "where the points lie, in three projections, and crops around them; slices, spacing, "
    "thickness, field of view, matrix, orientation and maker by modality; what is missing; and by "
    "problem the series that have it, to exclude them.",
)
