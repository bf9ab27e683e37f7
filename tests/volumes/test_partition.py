"""Volumes at the same places are told apart by the first attribute that does it."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.volumes.partition import BY_NUMBER, SPLIT_BY
from aneurysm_assets.volumes.series_geometry import add_geometry

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)

VALUES: dict[str, tuple[Any, Any]] = {
    "TemporalPositionIdentifier": (1, 2),
    "EchoTime": (2.3, 4.6),
    "DiffusionBValue": (None, 1000.0),
    "TriggerTime": (0.0, 40.0),
    "AcquisitionNumber": (1, 2),
    "AcquisitionTime": ("100000", "100100"),
    "ContentTime": ("100000", "100100"),
    "ImageType": ("ORIGINAL\\PRIMARY\\M", "ORIGINAL\\PRIMARY\\P"),
}


def at(z: float | None, orientation=AXIAL, **values: Any) -> dict[str, Any]:
    normal = np.cross(orientation[:3], orientation[3:])
    position = None if z is None else tuple((normal * z).tolist())
    return {"ImagePositionPatient": position, "ImageOrientationPatient": orientation, **values}


def read(images: list[dict[str, Any]], shuffled: bool = True) -> list[dict[str, Any]]:
    """Number images in their order, compute their columns in another, return them in their own."""
    rows = [
        {"InstanceNumber": n, "Rows": 8, "Columns": 8, "dicom_path": f"{n:04}.dcm", **row}
        for n, row in enumerate(images, 1)
    ]
    if shuffled:
        rows = rows[1::2] + rows[::2]
    columns = {name: [row.get(name) for row in rows] for name in DICOM_TAGS.column_names}
    frame = add_geometry(pl.DataFrame(columns, schema=DICOM_TAGS.schema))
    return frame.sort("InstanceNumber").to_dicts()


def places(rows: list[dict[str, Any]]) -> list[tuple[int | None, int | None]]:
    return [(row["volume_index"], row["volume_slice_index"]) for row in rows]


def split_by(rows: list[dict[str, Any]]) -> set[str | None]:
    return {row["volume_split_by"] for row in rows}


@pytest.mark.parametrize("shuffled", [False, True])
def test_one_stack_is_one_volume_in_the_order_of_slice_index(shuffled):
    rows = read([at(z) for z in (4, 2, 0, 6)], shuffled)
    assert places(rows) == [(0, 2), (0, 1), (0, 0), (0, 3)]
    assert [row["slice_index"] for row in rows] == [2, 1, 0, 3]
    assert [row["image_group"] for row in rows] == [0, 0, 0, 0]
    assert split_by(rows) == {None}


@pytest.mark.parametrize("name", SPLIT_BY)
@pytest.mark.parametrize("interleaved", [False, True])
def test_each_attribute_tells_volumes_apart(name, interleaved):
    one, two = VALUES[name]
    order = (
        [(z, value) for z in (0, 2, 4) for value in (one, two)]
        if interleaved
        else [(z, value) for value in (one, two) for z in (0, 2, 4)]
    )
    rows = read([at(z, **{name: value}) for z, value in order])
    assert places(rows) == [((one, two).index(value), z // 2) for z, value in order]
    assert split_by(rows) == {name}
    assert {row["image_group"] for row in rows} == {0}


def test_the_first_attribute_that_does_it_counts():
    rows = read(
        [
            at(z, TemporalPositionIdentifier=1, EchoTime=echo, ContentTime=f"1000{echo}")
            for z in (0, 2, 4)
            for echo in (20, 40)
        ]
    )
    assert split_by(rows) == {"EchoTime"}


def test_a_time_of_its_own_per_image_tells_nothing_apart():
    rows = read([at(z, ContentTime=f"10{n}{z}") for n in (10, 20) for z in (0, 2, 4)])
    assert split_by(rows) == {BY_NUMBER}
    assert places(rows) == [(n, k) for n in (0, 1) for k in (0, 1, 2)]


def test_images_of_each_place_filed_together_are_volumes_too():
    rows = read([at(z) for z in (4, 2, 0) for _ in range(3)])
    assert split_by(rows) == {BY_NUMBER}
    assert places(rows) == [(n, k) for k in (2, 1, 0) for n in (0, 1, 2)]


def test_a_pass_that_is_cut_short_is_a_volume_where_an_attribute_tells():
    rows = read([at(z, AcquisitionNumber=n) for n, zs in ((1, 4), (2, 2)) for z in range(zs)])
    assert places(rows) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    assert split_by(rows) == {"AcquisitionNumber"}


def test_repeated_places_that_nothing_tells_apart_stay_one_volume():
    rows = read([at(z) for z in (0, 2, 4, 2)])
    assert places(rows) == [(0, 0), (0, 1), (0, 3), (0, 2)]
    assert split_by(rows) == {None}


def test_images_all_at_one_place_are_not_split():
    rows = read([at(1, TemporalPositionIdentifier=n) for n in range(4)])
    assert places(rows) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert split_by(rows) == {None}


def test_each_group_is_split_on_its_own_and_the_largest_volume_is_0():
    stack = [at(z, EchoTime=echo) for echo in (20, 40) for z in range(3)]
    rows = read([*stack, *[at(z, CORONAL) for z in range(5)]])
    assert [row["volume_index"] for row in rows] == [1] * 3 + [2] * 3 + [0] * 5
    assert [row["volume_split_by"] for row in rows] == ["EchoTime"] * 6 + [None] * 5


def test_scouts_and_images_without_a_place_are_in_no_volume():
    scout = at(0, ImageType="ORIGINAL\\PRIMARY\\LOCALIZER")
    rows = read([scout, at(0), at(None), at(2), at(4)])
    assert places(rows) == [(None, None), (0, 0), (None, None), (0, 1), (0, 2)]


def test_where_no_image_has_a_place_the_files_are_in_their_order():
    rows = read([{} for _ in range(3)])
    assert places(rows) == [(0, 0), (0, 1), (0, 2)]


def test_unreadable_files_are_in_no_volume():
    rows = read([at(0), at(2), {"read_error": "is no DICOM file"}])
    assert places(rows) == [(0, 0), (0, 1), (None, None)]
