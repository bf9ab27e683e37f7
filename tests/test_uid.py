"""Which strings may become a partition key and part of a path."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aneurysm_assets.uid import is_uid


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "0",
        "1.2",
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.826.0.1.3680043.8.498." + "1" * 38,
        "1" * 64,
        "1." * 31 + "11",
        "1.02.0003",
    ],
)
def test_a_dicom_uid_is_one_also_with_leading_zeros(text: str) -> None:
    assert len(text) <= 64
    assert is_uid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "1.",
        ".1",
        "1..2",
        "1" * 65,
        "../1.2",
        "1.2/3",
        "1.2\\3",
        "/1.2",
        "1.2 ",
        " 1.2",
        "1.2\n",
        "\n1.2",
        "1.2\r\n",
        "1.2\x00",
        "1,2",
        "1.2a",
        "-1.2",
        "+1",
        "1e5",
        "a",
        "~",
        "*",
        "1.\u0662",
        "\u0661",
        "\uff11.\uff12",
        "1.\u00b2",
        "\ufeff1.2",
    ],
)
def test_what_is_no_uid_is_none(text: str) -> None:
    assert not is_uid(text)


@settings(deadline=None)
@given(st.lists(st.text("0123456789", min_size=1, max_size=8), min_size=1, max_size=12))
def test_digits_joined_by_dots_are_a_uid_up_to_64_characters(components: list[str]) -> None:
    text = ".".join(components)
    assert is_uid(text) == (len(text) <= 64)


@settings(deadline=None)
@given(st.text(st.sampled_from("0123456789./\\~ \n"), max_size=70) | st.text(max_size=70))
def test_whatever_is_taken_is_safe_as_a_name(text: str) -> None:
    if is_uid(text):
        assert set(text) <= set("0123456789.")
        assert 0 < len(text) <= 64
        assert all(text.split("."))
