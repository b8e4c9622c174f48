"""What a training holds out: the option before the recipe, and absent names are told."""

import pytest

from streamvis.training import hold_out


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), ([], None), (["none"], ()), (["a", "b"], ("a", "b")), (["none", "a"], ("a",))],
)
def test_names_given_replace_the_recipes_and_none_is_an_empty_list(given, expected):
    assert hold_out.wanted(given) == expected


def test_names_that_the_data_has_are_kept_in_order_and_nothing_is_printed(capsys):
    assert hold_out.present(["b", "a", "b"], ["a", "b", "c", ""], "videos") == ("b", "a")
    assert capsys.readouterr() == ("", "")


def test_names_that_the_data_lacks_are_printed_with_those_it_has(capsys):
    assert hold_out.present(["x[1]", "a", "x[1]"], ["b", "a", "a"], "videos") == ("a",)
    out, said = capsys.readouterr()
    assert out == ""
    assert said == "hold_out: x[1] not found in the data, ignored; its videos: a, b\n"


@pytest.mark.parametrize(
    ("there", "listed"),
    [
        ([f"{n:02}" for n in range(13)], "10, 11, …"),
        ([f"{n:02}" for n in range(12)], "10, 11"),
        (["", ""], "its videos: none has a name"),
    ],
)
def test_long_lists_are_cut_and_data_without_names_is_said(there, listed, capsys):
    assert hold_out.present(["gone"], there, "videos") == ()
    assert capsys.readouterr().err.rstrip().endswith(listed)


def test_nothing_left_is_told_with_the_way_out():
    assert str(hold_out.nothing_left(["a", "b", "a"])) == (
        "all of the data is held out: a, b. Give more --data to train on, or replace the recipe's "
        "hold_out by --hold-out NAME, repeatable, or --hold-out none"
    )
