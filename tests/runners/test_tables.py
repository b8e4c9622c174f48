"""Tables of named objects."""

from types import SimpleNamespace

from streamvis.runners.tables import Table, table_of, with_mean


def test_a_row_for_each_name_and_a_column_for_each_field():
    named = {"x": SimpleNamespace(a=1, b=None, c=3), "y": SimpleNamespace(a=4, b=5, c=6)}
    expected = Table("two", ("data", "a", "b"), [["x", 1, None], ["y", 4, 5]])
    assert table_of("two", named, ("a", "b"), "data") == expected


def test_means_over_data_sets_leave_out_what_is_not_there():
    one = Table("t", ("data", "a", "b"), [["x", 1.0, None]])
    assert with_mean(one) == one
    rows = [["x", 1.0, None], ["y", 2, 5.0], ["z", 6, None]]
    assert with_mean(one._replace(rows=rows)).rows == [*rows, ["mean", 3, 5.0]]
    assert with_mean(one._replace(rows=[["x", None], ["y", None]])).rows[2] == ["mean", None]


def test_means_are_of_each_detector():
    rows = [["x", "ours", 1.0], ["x", "other", 2.0], ["y", "ours", 3.0], ["y", "other", 5.0]]
    found = with_mean(Table("t", ("data", "detector", "a"), rows), 2)
    assert found.rows[4:] == [["mean", "ours", 2.0], ["mean", "other", 3.5]]
