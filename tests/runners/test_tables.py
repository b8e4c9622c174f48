"""Tables of named objects."""

from types import SimpleNamespace

from streamvis.runners.tables import Table, table_of


def test_a_row_for_each_name_and_a_column_for_each_field():
    named = {"x": SimpleNamespace(a=1, b=None, c=3), "y": SimpleNamespace(a=4, b=5, c=6)}
    expected = Table("two", ("data", "a", "b"), [["x", 1, None], ["y", 4, 5]])
    assert table_of("two", named, ("a", "b"), "data") == expected
