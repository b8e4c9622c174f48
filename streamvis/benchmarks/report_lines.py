"""Reports of measurements as lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any


def lines_of(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the name of each report, and its values under the names of nested mappings."""
    for name, values in reports.items():
        yield name
        for key, value in _flat(values):
            yield f"  {key:<44} {value}"


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}: ")
        else:
            yield above + key, value
