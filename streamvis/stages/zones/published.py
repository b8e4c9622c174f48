"""Visits as they were published, which corrections are compared with. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from streamvis.stages.zones.history import Interval, Run
from streamvis.zone_layout import Zone

VisitKey = tuple[int, int, int | None, str | None]


class PublishedVisit(msgspec.Struct, array_like=True):
    """A visit as the events have it."""

    interval: Interval
    dwells: int = 0  # thresholds that were reached


class Look(NamedTuple):
    """The visits of a track to a zone, as they were published and as they are found."""

    number: int
    zone: int
    published: list[PublishedVisit]
    found: list[Interval]
    runs: list[Run]


def reached(zone: Zone, interval: Interval, now_us: int) -> int:
    """Return how many thresholds a visit has reached until it ended, or until now."""
    until_us = now_us if interval.left_us is None else interval.left_us
    stay_us = until_us - interval.entered_us
    return sum(round(threshold_s * 1e6) <= stay_us for threshold_s in zone.dwell_s)


def goes_on(published: Sequence[PublishedVisit], found: Sequence[Interval], zone: Zone) -> bool:
    """Whether what was published is the beginning of what is found: visits may have ended since.

    It is not where a visit has ended before a threshold that was published for it.
    """
    if len(found) < len(published):
        return False
    return all(
        was.interval == now
        or (
            was.interval.left_us is None
            and was.interval.entered_us == now.entered_us
            and (now.left_us is None or was.dwells <= reached(zone, now, now.left_us))
        )
        for was, now in zip(published, found, strict=False)
    )


def is_open(published: Sequence[PublishedVisit]) -> bool:
    """Whether the last visit has not ended."""
    return bool(published) and published[-1].interval.left_us is None


def is_ending(published: Sequence[PublishedVisit], found: Sequence[Interval]) -> bool:
    """Whether a visit has ended that was not published as ended."""
    ended = sum(visit.interval.left_us is not None for visit in published)
    return sum(interval.left_us is not None for interval in found) > ended


def visit_key(number: int, interval: Interval) -> VisitKey:
    """Return what makes a visit of a track another one, as events have it."""
    return number, interval.entered_us, interval.left_us, interval.reason


def dwells_of(interval: Interval, was: Iterable[PublishedVisit]) -> int:
    """Return how many thresholds were published of visits that a corrected one overlaps."""
    end = interval.left_us if interval.left_us is not None else 2**62
    return max(
        (
            visit.dwells
            for visit in was
            if visit.interval.entered_us <= end
            and (visit.interval.left_us is None or visit.interval.left_us >= interval.entered_us)
        ),
        default=0,
    )
