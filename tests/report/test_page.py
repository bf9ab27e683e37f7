"""The page: self-contained, escaped, readable without its figures, whole with little data."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import matplotlib as mpl
import pytest

from aneurysm_assets.raw.inventory import Inventory
from aneurysm_assets.report.crops import ContactSheet, Crop
from aneurysm_assets.report.listed import MOST_LISTED
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


def page_of(numbers: Numbers, *, up_to_date: bool = True, **more) -> tuple[str, Page]:
    text = make_page(numbers, version="1.2.3", age=Age(MADE, COMBINED, up_to_date), **more)
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
    assert page.tags.count("svg") == 12
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == 12
    assert page.tags.count("table") == 14
    for words in ("CTA", "MRA", TIP, "512 x 256", "axial", "scouts", "key_not_unique", "1.2"):
        assert words in page.text or any(words in piece for piece in page.text)


def test_intervals_and_boxes_are_explained_below_their_figures(full) -> None:
    text, page = full
    assert page.tags.count("figcaption") == 5  # no point of these has a place
    assert '50.0%</td><td class="n">9.5% to 90.5%' in text  # of both series, of one age
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


def test_crops_are_part_of_the_page_with_location_and_series_and_the_rest_is_told() -> None:
    crop = Crop("1.2.826.0.1.3680043.8", TIP, 2, b"\xff\xd8")
    sheet = ContactSheet((crop, replace(crop, location=NASTY)), 7, 3, 2, 1)
    text, page = page_of(numbers_of(image("1.1")), contact_sheet=sheet)
    images = [pair[1:] for pair in page.attributes if pair[0] == "img"]
    assert ("alt", f"point 2, {TIP}, of {crop.series}") in images
    assert [value for name, value in images if name == "src"] == ["data:image/jpeg;base64,/9g="] * 2
    assert "script" not in page.tags
    assert f'href="series_preview/{crop.series}.png" title="{crop.series}"' in text
    for told in ("3 of 7 series with points have no picture", "2 pictures were drawn by an earlier",
                 "1 pictures cannot be read"):  # fmt: skip
        assert told in text


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
    screen, _, paper = text[text.index("<style>") : text.index("</style>")].partition(
        "@media print"
    )
    assert re.search(r"[^{}]*\bfigure\b[^{}]*{ break-inside: avoid; }", paper)
    # Each variable that dark changes is light again on paper.
    dark = screen[screen.index("prefers-color-scheme: dark") :]
    changed = re.findall(r"--\w+:", dark[: dark.index("} }")])
    assert len(changed) > 25
    assert set(changed) <= set(re.findall(r"--\w+:", paper))
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
    assert page.tags.count("h2") == 17


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


def test_a_problem_links_to_rows_of_its_series_and_they_back_to_their_problems() -> None:
    uids = [f"1.2.826.0.1.3680043.{n}" for n in range(3)]
    found = {uids[0]: ["scouts"], uids[1]: ["scouts", "key_not_unique"], uids[2]: []}
    text, _ = page_of(numbers_of(*map(image, uids), problems=found), pictures={uids[0]})
    rows = dict(re.findall(r'<tr id="(series-\d+)"><td><code>([^<]*)', text))
    assert list(rows.values()) == [uids[1], uids[0]]  # errors first
    scouts = re.search(r'<tr id="check-scouts">.*?</tr>', text)[0]
    assert [rows[name] for name in re.findall(r'href="#([^"]*)"', scouts)] == uids[:2]
    assert all(f'title="{uid}"><code>…{uid[-10:]}<' in scouts for uid in uids[:2])
    (row,) = re.findall(rf"<code>{uids[1]}</code>.*?</tr>", text)
    assert re.findall(r'href="([^"]*)"', row) == ["#check-key_not_unique", "#check-scouts"]
    (row,) = re.findall(rf"<code>{uids[0]}</code>.*?</tr>", text)
    assert f'<a href="series_preview/{uids[0]}.png">picture</a>' in row
    assert "All 2 of them are also in <code>series_quality</code>" in text


def test_a_column_that_a_description_names_is_code() -> None:
    text, _ = page_of(numbers_of(image("1.1"), problems={"1.1": ["unreadable_files"]}))
    assert "At least one file has a <code>read_error</code>." in text
    assert "`" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_the_list_is_cut_where_it_is_long_and_says_where_the_others_are() -> None:
    uids = [f"1.{n}" for n in range(MOST_LISTED + 7)]
    numbers = numbers_of(*map(image, uids), problems={uid: ["scouts"] for uid in uids})
    text, _ = page_of(numbers)
    assert text.count('<tr id="series-') == MOST_LISTED
    assert f"The first {MOST_LISTED} of {MOST_LISTED + 7} series" in text
    assert "the other 7 are in <code>series_quality</code>" in text
    assert f"and {MOST_LISTED + 7 - 20} more</span>" in text


def test_every_series_that_a_problem_names_is_listed_whatever_the_cut(monkeypatch) -> None:
    monkeypatch.setattr("aneurysm_assets.report.listed.MOST_LISTED", 1)
    problems = {
        "1.1": ["scouts"],
        "1.2": ["key_not_unique", "spacing_uneven"],
        "1.3": ["spacing_uneven"],
    }
    text, page = page_of(numbers_of(*map(image, problems), problems=problems))
    assert text.count('<tr id="series-') == 3
    references = [v for _, name, v in page.attributes if name == "href" and "#series-" in v]
    assert len(references) == 4


def test_a_series_that_has_no_row_is_named_in_full_and_only_five_of_them() -> None:
    missing = tuple(f"1.2.826.0.1.99999999.{n}" for n in range(9))
    inventory = Inventory((), missing, (), (), (), has_train_csv=True)
    text, _ = page_of(numbers_of(image("1"), inventory=inventory))
    (named,) = re.findall(r'<span class="named">(.*?)</span>', text)
    assert named == " ".join([*(f"<code>{uid}</code>" for uid in missing[:5]), "and 4 more"])


def test_nothing_of_the_page_needs_a_click_on_screen_or_on_paper(full) -> None:
    text, page = full
    assert not {"details", "summary", "button", "dialog"} & set(page.tags)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "display: none" not in style


def test_a_kind_has_one_colour_in_all_figures() -> None:
    # Ages are known of the men alone, and T2 is the commonest modality, not of the matrices.
    numbers = numbers_of(
        image("1", PatientAge=None),
        image("2", PatientAge=None),
        image("3", PatientSex="Male", Modality_train="MRI T2", Rows=None),
        image("4", PatientSex="Male", Modality_train="MRI T2", Rows=None),
        image("5", PatientSex="Male", Modality_train="MRI T2", Rows=None),
    )
    text, _ = page_of(numbers)
    figures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    by_modality, by_age = figures[:2]
    men = re.findall(r"fill: var\(--(c\d)\)", by_age)
    assert set(men) == {"c1"}
    assert set(re.findall(r"fill: var\(--(c\d)\)", by_modality)) == {"c1", "c2"}
    of_modality = {f for svg in figures[2:] for f in re.findall(r"fill: var\(--(c\d)\)", svg)}
    assert of_modality == {"c4", "c5"}
