"""Results as tables: values that a caller prints, draws or compares."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Rows of values under named columns; None stands where there is no value."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def table_of(title: str, named: Mapping[str, Any], fields: Sequence[str], key: str) -> Table:
    """Return these fields of named objects, a row for each; `key` is the column of the names."""
    rows = [[name, *(getattr(one, field) for field in fields)] for name, one in named.items()]
    return Table(title, (key, *fields), rows)
