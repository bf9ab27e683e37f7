"""The numbers of the report, from tables made for them."""

import polars as pl
import pytest

from aneurysm_assets.raw.inventory import Inventory
from aneurysm_assets.report.numbers import NOT_KNOWN, OTHERS, Numbers, take_numbers, wilson
from aneurysm_assets.schema.columns import LOCATIONS
from aneurysm_assets.schema.problems import PROBLEMS
from aneurysm_assets.schema.tables import SERIES_QUALITY, UNIFIED_METADATA

TIP, ACOM = "Basilar Tip", "Anterior Communicating Artery"


def image(series: str, **values) -> dict:
    usual = {
        "SeriesInstanceUID": series,
        "Modality_dicom": "MR",
        "Modality_train": "MRA",
        "PatientSex": "Female",
        "PatientAge": 61,
        "Rows": 512,
        "Columns": 256,
        "slice_spacing_mm": 0.5,
        "PixelSpacing": [0.5, 0.25],
        "SliceThickness": 1.0,
        "Manufacturer": "SIEMENS",
        "orientation_plane": "axial",
        "is_scout": False,
        **dict.fromkeys(LOCATIONS, 0),
        "Aneurysm Present": 0,
    }
    return dict.fromkeys(UNIFIED_METADATA.column_names) | usual | values


def quality_of(series: dict[str, list[str]]) -> pl.DataFrame:
    """Return `series_quality` with the problems of each series."""
    names = [problem.name for problem in PROBLEMS]
    rows = [
        {"SeriesInstanceUID": uid, **{name: name in found for name in names}, "findings": None}
        for uid, found in series.items()
    ]
    return pl.DataFrame(rows, schema=SERIES_QUALITY.schema)


def numbers_of(
    *images: dict,
    problems: dict[str, list[str]] | None = None,
    inventory: Inventory | None = None,
) -> Numbers:
    unified = pl.DataFrame(list(images), schema=UNIFIED_METADATA.schema, orient="row").lazy()
    series = {row["SeriesInstanceUID"]: [] for row in images}
    return take_numbers(unified, quality_of(series | (problems or {})), inventory)


def missing(numbers: Numbers) -> dict[str, tuple[int, int | None]]:
    return {item.name: (item.count, item.of) for item in numbers.missing}


def test_an_image_with_two_points_is_one_image_and_two_points() -> None:
    numbers = numbers_of(
        image("1", localizer_index=0, location=TIP, **{TIP: 1, "Aneurysm Present": 1}),
        image("1", localizer_index=1, location=TIP, **{TIP: 1, "Aneurysm Present": 1}),
        image("1"),
    )
    assert (numbers.series, numbers.images, numbers.files, numbers.points) == (1, 2, 2, 2)
    assert numbers.positive_series == 1
    top = numbers.by_location.row(0, named=True)
    assert top == {"location": TIP, "series": 1, "points": 2}
    assert set(numbers.by_location["location"]) == set(LOCATIONS)


def test_the_frames_of_a_file_are_images_of_one_file() -> None:
    numbers = numbers_of(*(image("1", frame_index=n) for n in range(5)))
    assert (numbers.images, numbers.files) == (5, 1)


def test_an_unreadable_file_is_a_file_and_no_image() -> None:
    numbers = numbers_of(image("1"), image("1", read_error="cut", Rows=None, Columns=None))
    assert (numbers.images, numbers.files) == (1, 2)
    assert missing(numbers)["unreadable_files"] == (1, 2)


def test_scouts_are_no_slices() -> None:
    numbers = numbers_of(image("1"), image("1"), image("1", is_scout=True))
    assert numbers.slices["value"].to_list() == [2]


def test_what_differs_within_a_series_counts_by_its_commonest_scouts_aside() -> None:
    thick = {"SliceThickness": 3.0, "PixelSpacing": [0.1, 0.1], "Manufacturer": "GE"}
    numbers = numbers_of(
        *(image("1") for _ in "abc"),
        image("1", **thick),
        *(image("1", is_scout=True, **thick) for _ in "abcd"),
    )
    assert numbers.thickness.rows() == [("MRA", 1.0)]
    assert numbers.field_of_view.rows() == [("MRA", 256.0)]
    assert numbers.makers.rows() == [("SIEMENS", "MRA", 1)]


def test_spellings_of_a_maker_that_differ_in_case_space_and_punctuation_are_one() -> None:
    spelt = ["Philips", "PHILIPS", "PHILIPS", "philips ", "G.E. Medical", "GE MEDICAL", None, "GE"]
    numbers = numbers_of(*(image(str(n), Manufacturer=name) for n, name in enumerate(spelt)))
    counts = dict(numbers.makers.select("maker", "count").rows())
    assert counts == {"PHILIPS": 4, "G.E. Medical": 2, "GE": 1, NOT_KNOWN: 1}


def test_the_field_of_view_is_the_longer_edge_and_needs_both() -> None:
    assert numbers_of(image("1", Columns=2000)).field_of_view["value"].to_list() == [500.0]
    for unknown in ({"Rows": None}, {"Columns": None}, {"PixelSpacing": None}):
        assert numbers_of(image("1", **unknown)).field_of_view.is_empty()


def test_series_are_counted_by_modality_and_sex() -> None:
    numbers = numbers_of(
        image("1"), image("1"), image("2", PatientSex="Male"), image("3", Modality_train="CTA")
    )
    assert numbers.by_modality.rows() == [
        ("MRA", "Female", 1),
        ("MRA", "Male", 1),
        ("CTA", "Female", 1),
    ]


def test_without_train_csv_modality_is_the_headers_and_the_rest_not_known() -> None:
    nothing = dict.fromkeys(
        ("Modality_train", "PatientSex", "PatientAge", *LOCATIONS, "Aneurysm Present")
    )
    numbers = numbers_of(image("1", **nothing))
    assert numbers.by_modality.rows() == [("MR (header)", NOT_KNOWN, 1)]
    assert numbers.by_age.is_empty()
    assert numbers.positive_series == 0
    assert missing(numbers)["series_without_age"] == (1, 1)


def test_ages_are_counted_by_tens() -> None:
    ages = [18, 20, 29, 30, None]
    numbers = numbers_of(*(image(str(n), PatientAge=age) for n, age in enumerate(ages)))
    assert numbers.by_age.select("age", "count").rows() == [(10, 1), (20, 2), (30, 1)]


@pytest.mark.parametrize(
    # Of a table of the method: Agresti and Coull 1998, and R's binom::binom.wilson.
    ("positive", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_an_interval_is_wilsons(positive, of, low, high) -> None:
    assert wilson(positive, of) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_holds_its_share_whatever_the_rounding() -> None:
    for of in range(1, 300):
        for positive in {0, 1, of // 2, of - 1, of}:
            low, high = wilson(positive, of)
            assert 0 <= low <= positive / of <= high <= 1


def test_prevalence_is_of_series_whose_label_is_known() -> None:
    positive = {"Aneurysm Present": 1}
    frame = numbers_of(
        image("1.1", **positive),
        image("1.1", **positive),
        image("1.2", PatientSex="Male"),
        image("1.3", PatientAge=None, Modality_train="CTA"),
        image("1.4", **{"Aneurysm Present": None}),
    ).prevalence
    rows = {row[:2]: row[2:4] for row in frame.iter_rows()}
    assert rows == {
        ("age", "60 to 69"): (2, 1),
        ("age", NOT_KNOWN): (1, 0),
        ("sex", "Female"): (2, 1),
        ("sex", "Male"): (1, 0),
        ("modality", "CTA"): (1, 0),
        ("modality", "MRA"): (2, 1),
    }
    assert frame["share"].to_list()[0] == 0.5


def test_series_with_points_are_told_by_location_in_the_order_of_train_csv() -> None:
    numbers = numbers_of(
        *(image("2", localizer_index=n, location=TIP) for n in range(2)),
        image("1", localizer_index=0, location=TIP),
        image("1", localizer_index=1, location=ACOM),
        image("3", localizer_index=0, location="elsewhere"),
        image("4", location=TIP),
    )
    assert list(numbers.series_of.items()) == [(ACOM, ["1"]), (TIP, ["1", "2"])]


def test_locations_that_are_positive_together_are_counted_by_pairs() -> None:
    both = {TIP: 1, ACOM: 1}
    frame = numbers_of(
        image("1.1", **both), image("1.2", **both), image("1.3", **{TIP: 1})
    ).together
    assert frame.rows() == [(ACOM, TIP, 2)]


def test_rare_values_are_added_up() -> None:
    numbers = numbers_of(*(image(str(n), Rows=100 + min(n, 9)) for n in range(20)))
    counts = dict(numbers.matrices.select("matrix", "count").rows())
    assert len(counts) == 7
    assert list(counts)[-1] == OTHERS
    assert sum(counts.values()) == 20


def test_a_series_of_several_matrices_counts_by_its_commonest() -> None:
    numbers = numbers_of(image("1", Rows=64), image("1"), image("1"))
    assert numbers.matrices["matrix"].to_list() == ["512 x 256"]


def test_values_of_the_csv_are_made_fit_to_label_a_figure() -> None:
    numbers = numbers_of(
        image("1", Modality_train=" a\n b " + "x" * 500), image("2", PatientSex=" ")
    )
    assert max(map(len, numbers.by_modality["modality"])) <= 40
    assert not any("\n" in text for text in numbers.by_modality["modality"])
    assert NOT_KNOWN in numbers.by_modality["sex"].to_list()


def test_what_the_listing_knows_is_among_what_is_missing() -> None:
    inventory = Inventory(("1", "2"), ("8", "9"), ("7",), (), (), has_train_csv=True)
    numbers = numbers_of(image("1"), inventory=inventory)
    assert missing(numbers)["series_not_on_disk"] == (2, 4)
    assert missing(numbers)["series_not_in_table"] == (1, 2)
    assert missing(numbers)["series_without_row"] == (1, None)
    named = {item.name: item.series for item in numbers.missing}
    assert named["series_not_in_table"] == ("2",)
    assert "series_not_on_disk" not in missing(numbers_of(image("1")))


def test_checks_that_fired_come_with_counts_and_series_errors_first() -> None:
    numbers = numbers_of(
        image("1"),
        image("2"),
        problems={
            "1": ["scouts", "unreadable_files"],
            "2": ["scouts", "key_not_unique"],
        },
    )
    assert [(check.name, check.found, check.series) for check in numbers.checks] == [
        ("key_not_unique", 1, ("2",)),
        ("scouts", 2, ("1", "2")),
        ("unreadable_files", 1, ("1",)),
    ]
    assert numbers.counts["checks_fired"] == 3


@pytest.mark.parametrize("column", ["slice_spacing_mm", "orientation_plane", "Rows"])
def test_a_series_without_geometry_is_not_known_and_breaks_nothing(column) -> None:
    numbers = numbers_of(image("1", **{column: None}))
    assert numbers.spacing.height == (column != "slice_spacing_mm")
    known = {
        "Rows": numbers.matrices["matrix"],
        "orientation_plane": numbers.orientations["orientation"],
    }
    if column in known:
        assert known[column].to_list() == [NOT_KNOWN]
