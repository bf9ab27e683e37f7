"""Series of any sound geometry have no finding, and one break of it has the finding of its kind."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aneurysm_assets.quality.findings import Evidence, assess
from aneurysm_assets.quality.images import summarise
from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import (
    DICOM_TAGS,
    LABELS,
    LOCALIZERS,
    LOCALIZERS_WITHOUT_IMAGE,
    UNIFIED_METADATA,
)
from aneurysm_assets.volumes.series_geometry import add_geometry

NAMES = [problem.name for problem in PROBLEMS]
UID = "1.2.3"


def images(
    count: int,
    rotation: np.ndarray,
    spacing: float,
    pixel: tuple[float, float],
    tilt: float = 0.0,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> list[dict[str, Any]]:
    """Return the rows of a sound stack, of which each field is as a header has it."""
    row, column, normal = rotation.T
    step = normal * spacing + column * spacing * math.tan(math.radians(tilt))
    return [
        {
            "SeriesInstanceUID": UID,
            "SOPInstanceUID": f"{UID}.{number}",
            "InstanceNumber": number,
            "ImagePositionPatient": [float(f"{x:.10g}") for x in origin + step * number],
            "ImageOrientationPatient": [float(f"{x:.10g}") for x in (*row, *column)],
            "PixelSpacing": list(pixel),
            "SliceThickness": 1.0,
            "SpacingBetweenSlices": float(f"{np.linalg.norm(step):.10g}"),
            "Rows": 512,
            "Columns": 512,
            "Modality": "MR",
            "FrameOfReferenceUID": "1.2.9",
            "dicom_path": f"series/{UID}/{number:04}.dcm",
            "pixel_data_short": False,
        }
        for number in range(count)
    ]


def findings(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return what is found in the images of a series, by problem."""
    columns = {name: [row.get(name) for row in rows] for name in DICOM_TAGS.column_names}
    tags = add_geometry(pl.DataFrame(columns, schema=DICOM_TAGS.schema))
    unified = tags.rename({"Modality": "Modality_dicom"}).with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in UNIFIED_METADATA.schema.items()
        if name not in tags.columns and name != "Modality_dicom"
    )
    found = summarise(unified.select(UNIFIED_METADATA.column_names).lazy())
    table = assess(
        Evidence(
            series=found.series,
            groups=found.groups,
            images=found.images,
            points=LOCALIZERS.schema.to_frame(),
            placed=UNIFIED_METADATA.schema.to_frame(),
            labels=LABELS.schema.to_frame(),
            files={UID: len({row["dicom_path"] for row in rows})},
            not_done=[],
            lost=LOCALIZERS_WITHOUT_IMAGE.schema.to_frame(),
        )
    )
    (row,) = table.to_dicts()
    lines = dict(line.split(": ", 1) for line in (row["findings"] or "").splitlines())
    assert [name for name in NAMES if row[name]] == list(lines)
    return lines


@st.composite
def geometries(draw) -> dict[str, Any]:
    parts = st.floats(-1, 1, allow_nan=False, width=32)
    w, x, y, z = quaternion = np.array(draw(st.tuples(parts, parts, parts, parts)))
    length = np.linalg.norm(quaternion)
    assume(length > 0.1)
    w, x, y, z = quaternion / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return {
        "count": draw(st.integers(6, 40)),
        "rotation": rotation,
        "spacing": draw(st.floats(0.25, 6)),
        "pixel": (draw(st.floats(0.1, 2)), draw(st.floats(0.1, 2))),
        "origin": tuple(draw(st.tuples(*[st.floats(-500, 500)] * 3))),
    }


quick = settings(max_examples=25, deadline=None)


@quick
@given(geometry=geometries())
def test_nothing_is_found_in_a_series_of_any_sound_geometry(geometry) -> None:
    assert findings(images(**geometry)) == {}


def set_of(row: dict[str, Any], **values: Any) -> None:
    row.update(values)


def remove_one(rows: list[dict[str, Any]]) -> None:
    del rows[2]


def jitter(rows: list[dict[str, Any]]) -> None:
    step = np.subtract(rows[1]["ImagePositionPatient"], rows[0]["ImagePositionPatient"])
    moved = np.array(rows[2]["ImagePositionPatient"]) + 0.03 * step
    rows[2]["ImagePositionPatient"] = moved.tolist()


def move_in_plane(rows: list[dict[str, Any]]) -> None:
    across = np.array(rows[2]["ImageOrientationPatient"][:3])
    rows[2]["ImagePositionPatient"] = (
        np.array(rows[2]["ImagePositionPatient"]) + 0.3 * across
    ).tolist()


def repeat(rows: list[dict[str, Any]]) -> None:
    last = rows[-1]
    rows.append(last | {"SOPInstanceUID": "1.2.77", "InstanceNumber": 99, "dicom_path": "a/99"})


def halve(rows: list[dict[str, Any]], **values: Any) -> None:
    for row in rows[len(rows) // 2 :]:
        row.update(values)


BREAKS = {
    "a slice is missing": ("spacing_uneven", remove_one),
    "one slice is three per cent off": ("spacing_uneven", jitter),
    "one slice is shifted in its plane": ("in_plane_shift", move_in_plane),
    "one position is taken twice": ("positions_not_distinct", repeat),
    "one image has no position": (
        "position_missing",
        lambda rows: set_of(rows[-1], ImagePositionPatient=None),
    ),
    "one image has no orientation": (
        "position_missing",
        lambda rows: set_of(rows[-1], ImageOrientationPatient=None),
    ),
    "one image has no pixel spacing": (
        "pixel_spacing_missing",
        lambda rows: set_of(rows[2], PixelSpacing=None),
    ),
    "one pixel spacing cannot be": (
        "header_malformed",
        lambda rows: set_of(
            rows[2], PixelSpacing=None, header_notes="PixelSpacing: 0\\0 is not positive"
        ),
    ),
    "half of it has another matrix": ("mixed_matrix", lambda rows: halve(rows, Rows=256)),
    "half of it is of another pixel spacing": (
        "mixed_pixel_spacing",
        lambda rows: halve(rows, PixelSpacing=[3.0, 3.0]),
    ),
    "half of it is in another frame of reference": (
        "mixed_frame_of_reference",
        lambda rows: halve(rows, FrameOfReferenceUID="1.2.10"),
    ),
    "its headers announce more images": (
        "too_few_slices",
        lambda rows: halve(rows, ImagesInAcquisition=232),
    ),
    "its headers have another spacing": (
        "header_spacing_differs",
        lambda rows: [set_of(row, SpacingBetweenSlices=18.5) for row in rows],
    ),
    "one file is short": (
        "pixel_data_short",
        lambda rows: set_of(rows[1], pixel_data_short=True),
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
@quick
@given(geometry=geometries())
def test_one_break_of_any_sound_geometry_is_exactly_its_finding(geometry, broken) -> None:
    problem, spoil = BREAKS[broken]
    rows = images(**geometry)
    spoil(rows)
    assert list(findings(rows)) == [problem]


@quick
@given(geometry=geometries(), tilt=st.floats(1, 30))
def test_a_tilted_gantry_is_a_shift_and_nothing_else(geometry, tilt) -> None:
    found = findings(images(**geometry, tilt=tilt))
    assert found.keys() <= {"in_plane_shift"}


def test_three_orientations_each_even_are_judged_each_by_its_own() -> None:
    axes = np.eye(3)
    rows = []
    for number, spacing in enumerate((11.0, 11.0, 15.0)):
        turned = np.roll(axes, number, axis=1)
        some = images(7, turned, spacing, (0.5, 0.5))
        rows += [
            row
            | {
                "InstanceNumber": 100 * number + row["InstanceNumber"],
                "SOPInstanceUID": f"{UID}.{number}.{row['InstanceNumber']}",
                "dicom_path": f"{number}/{row['InstanceNumber']}",
            }
            for row in some
        ]
    assert list(findings(rows)) == ["mixed_orientation"]


def test_many_images_at_one_place_do_not_hide_a_missing_slice_of_another_group() -> None:
    stack = images(56, np.eye(3), 2.0, (0.5, 0.5))
    del stack[20]
    at_one_place = [
        row
        | {
            "ImagePositionPatient": [0.0, 0.0, 500.0],
            "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 0.0, -1.0],
            "InstanceNumber": 1000 + number,
            "SOPInstanceUID": f"{UID}.9.{number}",
            "dicom_path": f"9/{number}",
        }
        for number, row in enumerate([stack[0]] * 60)
    ]
    found = findings([*stack, *at_one_place])
    assert found["spacing_uneven"] == "0021.dcm behind 2.0 of the median gap"
    assert "positions_not_distinct" in found
