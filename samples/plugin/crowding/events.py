"""The event types of crowding, and how they are shown in `events tail` and in CSV."""

from typing import Literal

import msgspec

from streamvis.events.family import Cells, EventTypes, members


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """Enough people have been close together for long enough."""

    people: int
    since_us: int  # media time when there were enough first


class EndedCrowd(msgspec.Struct, frozen=True, kw_only=True):
    """There are fewer, or nothing more is known."""

    people_max: int
    since_us: int
    close_s: float  # the longest time that one person was close to others
    reason: Literal["over", "epoch", "eof", "drained", "failed"]


class CrowdingBegin(msgspec.Struct, frozen=True, tag_field="type", tag="crowding.begin"):
    crowd: Crowd


class CrowdingEnd(msgspec.Struct, frozen=True, tag_field="type", tag="crowding.end"):
    crowd: EndedCrowd


def line(what: CrowdingBegin | CrowdingEnd) -> str:
    """Return the line of `events tail`, after the type."""
    if isinstance(what, CrowdingBegin):
        return f"{what.crowd.people} people close together"
    crowd = what.crowd
    return f"{crowd.people_max} people at most, one for {crowd.close_s:.1f} s ({crowd.reason})"


def csv_rows(what: CrowdingBegin | CrowdingEnd) -> list[Cells]:
    """Return the row of the event."""
    names = what.crowd.__struct_fields__
    return [{"label": "crowd", **members(what.crowd, *names)}]


COLUMNS = ("people", "people_max", "close_s")  # of CSV, that no other kind has
CROWDING_EVENTS = EventTypes((CrowdingBegin, CrowdingEnd), line, csv_rows, COLUMNS)
