"""What a series is, in a few words by name: shown where one looks at a single series.

What belongs here is which facts of a series' tables are told, and how they are written; a fact that
is not known is left out.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from aneurysm_assets.schema.columns import LOCATIONS

Facts = dict[str, str | int | float]


def about_images(images: pl.DataFrame) -> Facts:
    """Tell modality, matrix, spacing, plane, slices and volumes, of the largest group of images.

    Matrix and pixel spacing are in the order of DICOM: rows first.

    Parameters
    ----------
    images : pl.DataFrame
        `dicom_tags` of one series.
    """
    # Of each series and of few rows: queries would take as long as reading the headers.
    groups, errors = images["image_group"].to_list(), images["read_error"].to_list()
    main = [
        row
        for row, (group, error) in enumerate(zip(groups, errors, strict=True))
        if group == 0 and error is None
    ]
    if not main:
        return {}
    first = images.row(main[0], named=True)
    spacing = first["PixelSpacing"]
    told = {
        "modality": first["Modality"],
        "matrix": _joined((first["Rows"], first["Columns"])),
        "pixel_spacing_mm": _joined(spacing) if spacing else None,
        "slice_spacing_mm": _rounded(first["slice_spacing_mm"]),
        "slice_thickness_mm": _rounded(first["SliceThickness"]),
        "plane": first["orientation_plane"],
        "manufacturer": first["Manufacturer"],
        "slices": len(main),
        "volumes": len(set(images["volume_index"].to_list()) - {None}) or None,
    }
    return _known(told)


def about_labels(labels: pl.DataFrame) -> Facts:
    """Tell age, sex, modality and the locations with an aneurysm.

    Parameters
    ----------
    labels : pl.DataFrame
        `labels` of one series.
    """
    row = labels.row(0, named=True)
    positive = [name for name in LOCATIONS if row[name] == 1]
    is_labelled = any(row[name] is not None for name in LOCATIONS)
    told = {
        "age": row["PatientAge"],
        "sex": row["PatientSex"],
        "modality": row["Modality"],
        "positive": ", ".join(positive) or ("nowhere" if is_labelled else None),
    }
    return _known(told)


def about_points(points: pl.DataFrame) -> Facts:
    """Tell how many points there are, and where.

    Parameters
    ----------
    points : pl.DataFrame
        `localizers` of one series.
    """
    places = dict.fromkeys(place for place in points["location"].to_list() if place is not None)
    return _known({"points": points.height, "locations": ", ".join(places) or None})


def _known(told: Mapping[str, str | float | None]) -> Facts:
    return {name: value for name, value in told.items() if value is not None}


def _joined(numbers: Sequence[object]) -> str | None:
    if any(number is None for number in numbers):
        return None
    return " x ".join(f"{number:g}" for number in numbers)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
