"""The bodies of events of visits and crossings. Pure."""

from streamvis.stages.zones.events import (
    Departure,
    Direction,
    ExitReason,
    Occupancy,
    PastCrossing,
    Visit,
    ZoneEnter,
    ZoneEntry,
    ZoneExit,
)
from streamvis.stages.zones.history import Interval, Passage

DIRECTIONS: dict[int, Direction] = {1: "left_to_right", -1: "right_to_left"}


def enter(
    zone: str, track: str, interval: Interval, entries: int, occupancy: Occupancy
) -> ZoneEnter:
    """Return the event of a visit that begins."""
    entry = ZoneEntry(
        name=zone,
        track=track,
        at_us=interval.entered_us,
        seen_outside=interval.seen_outside,
        entries=entries,
        occupancy=occupancy,
    )
    return ZoneEnter(entry)


def leave(
    zone: str,
    track: str,
    interval: Interval,
    reason: ExitReason | None = None,
    occupancy: Occupancy | None = None,
) -> ZoneExit:
    """Return the event of a visit that ends; the reason is that of the interval unless given."""
    left_us = interval.left_us or 0
    departure = Departure(
        name=zone,
        track=track,
        at_us=left_us,
        entered_us=interval.entered_us,
        dwell_s=(left_us - interval.entered_us) / 1e6,
        reason=reason or interval.reason or "left",
        occupancy=occupancy,
    )
    return ZoneExit(departure)


def visit(track: str, interval: Interval) -> Visit:
    """Return a visit as corrections have it."""
    return Visit(
        track=track,
        entered_us=interval.entered_us,
        left_us=interval.left_us,
        reason=interval.reason,
    )


def past(track: str, passage: Passage) -> PastCrossing:
    """Return a crossing as corrections have it."""
    return PastCrossing(track=track, direction=DIRECTIONS[passage.sign], at_us=passage.us)
