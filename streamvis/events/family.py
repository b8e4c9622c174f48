"""The event types of a family, and what families share in CSV rows and lines."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from streamvis.events.envelope import Box, EventBody

Cells = dict[str, object]  # of a CSV row, by column


class EventTypes(NamedTuple):
    """The event types of one kind of stage, or of sources."""

    types: tuple[type[EventBody], ...]  # structs with `tag_field="type", tag="family.name"`
    line: Callable[[Any], str]  # of a body: its line in `events tail`, after the type
    csv_rows: Callable[[Any], list[Cells]]  # of a body: its rows
    columns: tuple[str, ...] = ()  # of CSV, that no other family has
    identity: tuple[
        str, ...
    ] = ()  # members of the body that identify what an event is about, so that
    # `x.end` ends what `x.begin` of the same has begun (events/snapshot.py); none: there is one


def members(value: msgspec.Struct, *names: str) -> Cells:
    """Return the named members as cells of the same names."""
    return {name: getattr(value, name) for name in names}


def box_cells(box: Box) -> Cells:
    """Return the cells `left`, `top`, `right`, `bottom` of an xyxy box."""
    return dict(zip(("left", "top", "right", "bottom"), box, strict=True))


def box_text(box: Box) -> str:
    """Return the box in columns of equal width."""
    return " ".join(f"{value:7.1f}" for value in box)


def share_rows(classes: dict[str, float]) -> list[Cells]:
    """Return a row for each class with its share of the picture."""
    return [{"label": label, "share": share} for label, share in classes.items()]


def largest_shares(classes: dict[str, float]) -> str:
    """Return the three classes with the largest shares of the picture as text."""
    first = sorted(classes.items(), key=lambda pair: -pair[1])[:3]
    return ", ".join(f"{label} {share:.0%}" for label, share in first)
