"""Results as tables: values that a caller prints, draws or compares."""

from collections.abc import Mapping, Sequence
from statistics import mean
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


def with_mean(table: Table, names: int = 1) -> Table:
    """Add the means of all columns after the first `names` to a table of several data sets.

    A row of means is grouped by the names after the first, such as those of detectors. A value
    that a data set does not have is left out of the mean.
    """
    groups: dict[tuple[object, ...], list[Sequence[object]]] = {}
    for row in table.rows:
        groups.setdefault(tuple(row[1:names]), []).append(row)
    if all(len(rows) < 2 for rows in groups.values()):
        return table
    means = []
    for group, rows in groups.items():
        columns = zip(*(row[names:] for row in rows), strict=True)
        values = [[v for v in column if isinstance(v, int | float)] for column in columns]
        means.append(["mean", *group, *(mean(v) if v else None for v in values)])
    return table._replace(rows=[*table.rows, *means])
