"""The one schema: what the competition and the design fix, written out again here."""

from itertools import pairwise

import polars as pl
import pytest

from aneurysm_assets.schema.columns import (
    ANEURYSM_PRESENT,
    COMPETITION_TAGS,
    LOCATIONS,
    VESSEL_CLASSES,
    Column,
)
from aneurysm_assets.schema.tables import (
    ALL_TABLES,
    DICOM_TAGS,
    LABELS,
    LOCALIZERS,
    POINT,
    SEGMENTATION_META,
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
    UNIFIED_ORIGINS,
    VESSEL,
    VOLUMES,
    Table,
)

TAGS = [
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "FrameOfReferenceUID",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "InstanceNumber",
    "Modality",
    "PatientID",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PixelSpacing",
    "PlanarConfiguration",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SliceThickness",
    "SpacingBetweenSlices",
    "StudyInstanceUID",
    "TransferSyntaxUID",
]

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

UNITS = {"", "bit", "byte", "degree", "mm", "ms", "px", "s/mm2", "voxel", "year"}

DIMENSIONLESS = {
    "nii_pixdim_all": "of each dimension its own",
    "cowseg_pixdim_all": "of each dimension its own",
    "HighBit": "a position among bits",
    "ImageOrientationPatient": "cosines",
    "InstanceNumber": "a number",
    "PixelRepresentation": "a code",
    "PlanarConfiguration": "a code",
    "RescaleIntercept": "of RescaleType, a column of its own",
    "RescaleSlope": "of RescaleType, a column of its own",
    "SamplesPerPixel": "a count",
    "NumberOfFrames": "a count",
    "ImagesInAcquisition": "a count",
    "TemporalPositionIdentifier": "a number",
    "AcquisitionNumber": "a number",
    "volume_index": "an index",
    "volume_slice_index": "an index",
    "missing_slices": "a count",
    "largest_gap_ratio": "a ratio",
    "image_group": "an index",
    "frame_index": "an index",
    "localizer_index": "an index",
    "slice_index": "an index",
    "WindowCenter": "of RescaleType",
    "WindowWidth": "of RescaleType",
    "nii_determinant_sign": "a sign",
    "cowseg_determinant_sign": "a sign",
    "cowseg_labels": "labels",
    "frames": "indices",
    "images_left_out": "a count",
    "points": "voxel and mm by name",
    "vessels": "voxel by name",
    **dict.fromkeys((*LOCATIONS_IN_ORDER, "Aneurysm Present"), "0 or 1"),
}
"""The numbers without a unit, and why."""

EACH_COLUMN = pytest.mark.parametrize(
    ("table", "column"),
    [(table, column) for table in ALL_TABLES for column in table.columns],
    ids=lambda value: value.name,
)

PLACED = (
    "localizer_x_mm",
    "localizer_y_mm",
    "localizer_z_mm",
    "localizer_voxel",
    "localizer_vessel",
    "segmentation_matches_series",
    "directory_vanished",
)


def test_the_tables_are_those_of_the_design() -> None:
    assert [table.name for table in ALL_TABLES] == [
        "dicom_tags",
        "labels",
        "localizers",
        "segmentation_meta",
        "unified_metadata",
        "volumes",
        "series_quality",
    ]
    assert (*SERIES_TABLES, UNIFIED_METADATA, VOLUMES, SERIES_QUALITY) == ALL_TABLES
    assert all(table.description for table in ALL_TABLES)


def test_the_25_tags_are_those_of_the_competition_in_its_order() -> None:
    assert [column.name for column in COMPETITION_TAGS] == TAGS
    assert len(TAGS) == 25
    assert DICOM_TAGS.column_names[:26] == ("SeriesInstanceUID", *TAGS)


def test_dicom_tags_has_besides_them_what_the_design_says() -> None:
    assert DICOM_TAGS.column_names[26:] == (
        "NumberOfFrames",
        "frame_index",
        "geometry_source",
        "ImageType",
        "Manufacturer",
        "WindowCenter",
        "WindowWidth",
        "ImagesInAcquisition",
        "TemporalPositionIdentifier",
        "EchoTime",
        "DiffusionBValue",
        "TriggerTime",
        "AcquisitionNumber",
        "AcquisitionTime",
        "ContentTime",
        "slice_position_mm",
        "slice_index",
        "slice_spacing_mm",
        "orientation_plane",
        "is_scout",
        "image_group",
        "largest_gap_ratio",
        "missing_slices",
        "gantry_tilt_degrees",
        "obliquity_degrees",
        "volume_index",
        "volume_slice_index",
        "volume_split_by",
        "dicom_path",
        "file_size",
        "pixel_data_short",
        "header_notes",
        "header_series_instance_uid",
        "read_error",
    )


def test_the_13_locations_are_in_the_order_of_train_csv() -> None:
    assert list(LOCATIONS) == LOCATIONS_IN_ORDER
    assert ANEURYSM_PRESENT == "Aneurysm Present"
    assert LABELS.column_names == (
        "SeriesInstanceUID",
        "PatientAge",
        "PatientSex",
        "Modality",
        *LOCATIONS_IN_ORDER,
        "Aneurysm Present",
        "train_csv_extra",
    )


def test_localizers_and_segmentation_meta_have_the_columns_of_the_design() -> None:
    assert LOCALIZERS.column_names == (
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "x",
        "y",
        "frame_index",
        "location",
        "train_localizers_csv_extra",
    )
    fields = (
        *("path", "error", "shape", "affine", "pixdim", "pixdim_all", "dtype"),
        *("axis_codes", "determinant_sign", "voxel_size"),
    )
    assert SEGMENTATION_META.column_names == (
        "SeriesInstanceUID",
        *(f"{file}_{field}" for file in ("nii", "cowseg") for field in fields),
        "cowseg_labels",
        *(f"cowseg_voxels_{vessel.lower().replace(' ', '_')}" for vessel in VESSEL_CLASSES),
        "cowseg_boxes",
    )


def test_the_vessel_classes_are_the_13_locations_in_the_order_of_their_labels() -> None:
    assert sorted(VESSEL_CLASSES) == sorted(LOCATIONS)
    assert VESSEL_CLASSES[0] == "Other Posterior Circulation"
    assert VESSEL_CLASSES[1] == "Basilar Tip"
    sides = [vessel.split()[0] for vessel in VESSEL_CLASSES[2:12]]
    assert sides == ["Right", "Left"] * 5
    assert VESSEL_CLASSES[12] == "Anterior Communicating Artery"


def test_the_unified_table_has_every_column_once_and_suffixes_only_where_names_are_shared() -> None:
    assert UNIFIED_METADATA.column_names == (
        *("Modality_dicom" if n == "Modality" else n for n in DICOM_TAGS.column_names),
        *("Modality_train" if n == "Modality" else n for n in LABELS.column_names[1:]),
        "localizer_index",
        "x",
        "y",
        "location",
        "train_localizers_csv_extra",
        *SEGMENTATION_META.column_names[1:],
        *PLACED,
    )


def test_every_unified_column_says_which_columns_it_is_made_from() -> None:
    tables = {table.name: table for table in SERIES_TABLES}
    assert tuple(UNIFIED_ORIGINS) == UNIFIED_METADATA.column_names
    for name, origins in UNIFIED_ORIGINS.items():
        assert origins or name == "directory_vanished", name  # seen on disk
        assert len(set(origins)) == len(origins), name
        for table, column in origins:
            assert column in tables[table].column_names, name


def test_a_column_that_is_taken_over_has_one_origin_of_its_own_dtype() -> None:
    dtypes = {(t.name, c.name): c.stored_dtype for t in SERIES_TABLES for c in t.columns}
    taken = {name: o for name, o in UNIFIED_ORIGINS.items() if len(o) == 1}
    for name, (origin,) in taken.items():
        assert dtypes[origin] == UNIFIED_METADATA.schema[name]
        assert name.removesuffix("_dicom").removesuffix("_train") == origin[1]
    assert set(UNIFIED_ORIGINS) - set(taken) == {
        *("localizer_index", "localizer_x_mm", "localizer_y_mm", "localizer_z_mm"),
        *("localizer_voxel", "localizer_vessel", "segmentation_matches_series"),
        "directory_vanished",
    }


def test_no_column_of_a_series_goes_nowhere() -> None:
    used = {origin for origins in UNIFIED_ORIGINS.values() for origin in origins}
    for table in SERIES_TABLES:
        for column in table.column_names:
            assert (table.name, column) in used or column == "SeriesInstanceUID"


def test_a_unified_column_has_the_dtype_unit_and_words_of_the_column_it_comes_from() -> None:
    origins = {c.name: c for table in reversed(SERIES_TABLES) for c in table.columns}
    labels = {c.name: c for c in LABELS.columns}
    for column in UNIFIED_METADATA.columns:
        if column.name in ("localizer_index", *PLACED):
            continue
        origin = labels["Modality"] if column.name == "Modality_train" else None
        origin = origin or origins[column.name.removesuffix("_dicom")]
        assert column == Column(
            column.name,
            origin.dtype,
            origin.description,
            origin.source,
            origin.unit,
            origin.former_name,
            origin.since,
        )


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
def test_names_are_unique_and_the_key_is_of_them(table: Table) -> None:
    assert len(set(table.column_names)) == len(table.columns) == len(table.schema)
    assert tuple(table.schema.names()) == table.column_names
    assert set(table.key) <= set(table.column_names)
    assert table.column_names[0] == "SeriesInstanceUID"


def test_the_keys_are_those_of_the_design() -> None:
    assert {table.name: table.key for table in ALL_TABLES} == {
        "dicom_tags": ("dicom_path", "frame_index"),
        "labels": ("SeriesInstanceUID",),
        "localizers": (),
        "segmentation_meta": ("SeriesInstanceUID",),
        "unified_metadata": ("SOPInstanceUID", "frame_index", "localizer_index"),
        "volumes": ("SeriesInstanceUID", "volume_index"),
        "series_quality": ("SeriesInstanceUID",),
    }


@EACH_COLUMN
def test_every_column_says_what_it_is_and_where_it_comes_from(table: Table, column: Column) -> None:
    assert column.description.endswith(".")
    assert column.description == column.description.strip()
    assert column.source
    assert "  " not in column.description + column.source


@EACH_COLUMN
def test_every_number_has_a_unit_or_a_reason_for_none(table: Table, column: Column) -> None:
    inner = column.dtype
    while isinstance(inner, pl.Array | pl.List):
        inner = inner.inner  # type: ignore[assignment]
    assert column.unit in UNITS
    if inner in (pl.String, pl.Boolean) or column.name in DIMENSIONLESS:
        assert column.unit == ""
    else:
        assert column.unit


@EACH_COLUMN
def test_no_column_has_a_null_type_and_only_the_labels_present_vary_in_number(
    table: Table, column: Column
) -> None:
    scalars = (pl.String, pl.Float64, pl.Int8, pl.Int32, pl.Int64, pl.Boolean)
    lists = {
        "cowseg_labels": pl.List(pl.Int32),
        "cowseg_boxes": pl.List(pl.Int32),
        "files": pl.List(pl.String),
        "frames": pl.List(pl.Int32),
        "points": pl.List(POINT),
        "vessels": pl.List(VESSEL),
    }
    if column.name in lists:
        assert column.dtype == lists[column.name]
    else:
        assert isinstance(column.dtype, (pl.Array, *scalars))


def test_a_vector_has_a_length_and_is_a_list_in_the_files() -> None:
    lengths = {
        c.name: c.dtype.shape for c in UNIFIED_METADATA.columns if isinstance(c.dtype, pl.Array)
    }
    assert not any(isinstance(dtype, pl.Array) for dtype in UNIFIED_METADATA.schema.values())
    assert all(UNIFIED_METADATA.schema[name] == pl.List for name in lengths)
    assert lengths == {
        "ImageOrientationPatient": (6,),
        "ImagePositionPatient": (3,),
        "PixelSpacing": (2,),
        **{f"{file}_shape": (3,) for file in ("nii", "cowseg")},
        **{f"{file}_affine": (16,) for file in ("nii", "cowseg")},
        **{f"{file}_pixdim": (3,) for file in ("nii", "cowseg")},
        **{f"{file}_pixdim_all": (8,) for file in ("nii", "cowseg")},
        **{f"{file}_voxel_size": (3,) for file in ("nii", "cowseg")},
        "localizer_voxel": (3,),
    }


def test_a_column_of_the_same_name_has_the_same_dtype_in_every_table() -> None:
    columns = sorted((c for t in ALL_TABLES for c in t.columns), key=lambda c: c.name)
    for one, other in pairwise(columns):
        assert one.name != other.name or one.dtype == other.dtype
