import pytest

from aneurysm_assets.errors import InputError, SeriesError, UnreadableFile, UnusableNifti
from aneurysm_assets.messages import lines_in_brief, names_in_brief, one_line, printable


def test_names_are_all_given_where_they_are_few() -> None:
    assert names_in_brief([]) == ""
    assert names_in_brief(["a", "b"], most=2) == "a, b"
    assert lines_in_brief(["a", "b"], most=2) == ["a", "b"]


def test_of_many_names_the_first_are_given_and_the_others_counted() -> None:
    assert names_in_brief("abc", most=2) == "a, b and 1 more"
    assert names_in_brief("abcd", most=2, more="more kinds") == "a, b and 2 more kinds"
    assert lines_in_brief(list("abcd"), most=1, more="more files") == ["a", "and 3 more files"]


def test_a_long_text_of_several_lines_becomes_the_beginning_of_one() -> None:
    assert one_line(ValueError("a\n  b\tc"), most=4) == "a b "


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("slice é 7.dcm", "slice é 7.dcm"),
        ("a\n  failed  0\r\n", r"a\n  failed  0\r\n"),
        ("\x1b[2J\x07\x9b1m", r"\x1b[2J\x07\x9b1m"),
        ("a\u2028b\u202ec\u200b", r"a\u2028b\u202ec\u200b"),
        ("not UTF-8: \udcff", r"not UTF-8: \udcff"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_no_name_breaks_a_line_or_reaches_the_terminal_as_more_than_text(text, shown) -> None:
    assert printable(text) == shown
    assert names_in_brief([text, "b"]) == f"{shown}, b"
    assert lines_in_brief([text]) == [shown]


@pytest.mark.parametrize("kind", [InputError, SeriesError, UnreadableFile])
def test_what_an_error_says_is_one_line(kind) -> None:
    assert str(kind("a\nb: \x1b[1m")) == r"a\nb: \x1b[1m"
    assert str(UnusableNifti("a\nb", "b")) == r"a\nb"
    assert one_line(ValueError("a\n\x1bb")) == r"a \x1bb"
