from aneurysm_assets.messages import lines_in_brief, names_in_brief, one_line


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
