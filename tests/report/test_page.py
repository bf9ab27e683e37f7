"""The page: self-contained, escaped, readable without its figures, whole with little data."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import matplotlib as mpl
import pytest

from aneurysm_assets.report.numbers import Numbers
from aneurysm_assets.report.page import Age, make_page
from tests.report.test_numbers import ACOM, TIP, image, numbers_of

NASTY = '"><script>alert(1)</script>&$x^2$'
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What is in a page; fails where a tag is not closed by its own end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


MADE, COMBINED = datetime(2026, 1, 2, 3, 4, tzinfo=UTC), datetime(2025, 12, 1, 2, 3, tzinfo=UTC)


def page_of(numbers: Numbers, *, up_to_date: bool = True) -> tuple[str, Page]:
    text = make_page(numbers, version="1.2.3", age=Age(MADE, COMBINED, up_to_date))
    return text, Page(text)


@pytest.fixture(scope="module")
def full() -> tuple[str, Page]:
    positive = {TIP: 1, "Aneurysm Present": 1, "localizer_index": 0, "location": TIP}
    numbers = numbers_of(
        *(image("1.1", **(positive if n == 0 else {})) for n in range(3)),
        *(
            image("1.2", Modality_train="CTA", PatientSex="Male", slice_spacing_mm=1.5)
            for _ in "ab"
        ),
        problems={"1.1": ["scouts"], "1.2": ["key_not_unique", "scouts"]},
    )
    return page_of(numbers)


def test_nothing_is_fetched_and_nothing_is_run(full) -> None:
    text, page = full
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    for _, name, value in page.attributes:
        assert "://" not in value
        assert not name.startswith("on")
        if name in {"href", "xlink:href", "src"}:
            assert value.startswith("#")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_every_figure_has_a_name_and_a_table_and_the_numbers_are_in_it(full) -> None:
    _, page = full
    assert page.tags.count("svg") == 9
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == 9
    assert page.tags.count("table") == 10
    for words in ("CTA", "MRA", TIP, "512 x 256", "axial", "scouts", "key_not_unique", "1.2"):
        assert words in page.text or any(words in piece for piece in page.text)


def test_intervals_and_boxes_are_explained_below_their_figures(full) -> None:
    text, page = full
    assert page.tags.count("figcaption") == 3  # no point of these has a place
    assert "50.0%</td><td>9.5% to 90.5%" in text  # of both series, of one age
    assert "20.7% to 100.0%" in text


def placed(series: str, location: str, x_mm: float, **values) -> dict:
    """Return an image of a stack of two, and the place of a point on it."""
    return image(
        series,
        localizer_index=0,
        location=location,
        localizer_x_mm=x_mm,
        localizer_y_mm=0.0,
        localizer_z_mm=0.0,
        **(STACK | values),
    )


STACK = {
    "Rows": 3,
    "Columns": 3,
    "image_group": 0,
    "PixelSpacing": [1.0, 1.0],
    "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    "ImagePositionPatient": [-1.0, -1.0, 0.0],
}


def test_points_are_drawn_on_three_planes_and_a_location_has_one_colour_on_all_the_page() -> None:
    beyond = STACK | {"ImagePositionPatient": [-1.0, -1.0, 2.0]}
    text, page = page_of(
        numbers_of(
            placed("1.1", TIP, 5.0),
            placed("1.1", ACOM, 5.0),
            placed("1.1", TIP, 500.0),
            placed("1.1", NASTY, 6.0),
            image("1.1", **beyond),
            placed("1.2", TIP, 5.0),
        )
    )
    labels = [value for _, name, value in page.attributes if name == "aria-label"]
    planes = ("axial", "coronal", "sagittal")
    assert [f"Where the points lie, {plane}; table below" in labels for plane in planes] == [
        True
    ] * 3
    assert "3 of 5 points are drawn; 1 without a place in mm, or on images that span" in text
    assert "; 1 further than 150 mm from the centre." in text
    assert "another location" in text
    for name, number in ((TIP, 12), (ACOM, 7)):
        colours = set(re.findall(rf"color: var\(--(l\d+)\)\">.</span> {name}", text))
        assert colours == {f"l{number}"}
        assert text.count(f"fill: var(--l{number})") >= 3
    assert text.count("--l12:") == 3  # light, dark and print


def test_ids_are_of_one_element_each_and_references_lead_to_one(full) -> None:
    text, page = full
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:url\(#|href="#)([^)"]+)', text)
    assert references
    assert set(references) <= set(ids)


def test_it_is_made_for_phones_for_print_and_for_light_and_dark(full) -> None:
    text, page = full
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    # No colour of a figure is fixed: all are the page's.
    assert not re.search(r"#[0-9a-f]{6}", "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL)))


def test_text_of_the_data_is_escaped_in_tables_and_in_figures() -> None:
    text, page = page_of(
        numbers_of(
            image("1.1", Modality_train=NASTY, PatientSex=NASTY, orientation_plane=NASTY),
            problems={'<img src="x">': ["scouts"]},
        )
    )
    assert not {"script", "img"} & set(page.tags)
    assert "<script" not in text
    # Word for word, in tables and figures alike: a dollar sign is no formula.
    in_figures = "".join(re.findall(r"<text[^>]*>(.*?)</text>", text, re.DOTALL))
    in_tables = "".join(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", text, re.DOTALL))
    for part in (in_figures, in_tables):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;$x^2$" in part


@pytest.mark.parametrize(
    "nothing",
    [
        {"Modality_train": None, "PatientSex": None, "PatientAge": None, TIP: None},
        {"slice_spacing_mm": None, "orientation_plane": None, "Rows": None},
        {"read_error": "cut", "Modality_dicom": None, "Modality_train": None},
        {"PatientAge": 0, "slice_spacing_mm": 0.0},
    ],
)
def test_one_series_of_which_little_is_known_makes_a_whole_page(nothing) -> None:
    _, page = page_of(numbers_of(image("1.1", **nothing)))
    assert page.tags.count("h2") == 12


def test_no_problem_found_is_said() -> None:
    text, _ = page_of(numbers_of(image("1.1")))
    assert "None of 39 kinds of problem was found." in text


def test_the_same_numbers_make_the_same_page_and_matplotlibs_settings_stay() -> None:
    before = dict(mpl.rcParams)
    numbers = numbers_of(image("1.1"))
    assert page_of(numbers)[0] == page_of(numbers)[0]
    assert dict(mpl.rcParams) == before


def test_the_age_of_the_tables_is_said_and_what_to_run_where_they_are_not_up_to_date() -> None:
    numbers = numbers_of(image("1.1"))
    fresh, old = (page_of(numbers, up_to_date=fresh)[0] for fresh in (True, False))
    for text in (fresh, old):
        assert "Made 2026-01-02 03:04 UTC" in text
        assert "tables of 2025-12-01 02:03 UTC." in text
    assert "not up to date" not in fresh
    assert "not up to date" in old
    assert "<code>aneurysm-assets run</code>" in old


def test_on_paper_the_first_series_are_named_and_the_others_counted() -> None:
    uids = [f"1.{n}" for n in range(5)]
    text, _ = page_of(numbers_of(*map(image, uids), problems={uid: ["scouts"] for uid in uids}))
    (named,) = re.findall(r'<span class="paper">(.*?)</span>', text)
    assert re.findall("<code>(.*?)</code>", named) == uids[:3]
    assert named.endswith(" and 2 more, named on screen")
    style = text[text.index("<style>") : text.index("</style>")]
    screen, _, paper = style.partition("@media print")
    assert ".paper { display: none; }" in screen
    assert ".paper { display: block; }" in paper
