"""The event types of zones and lines, and how they are shown in `events tail` and in CSV.

`at_us` is the media time when it happened, interpolated between two pictures; the event's own
`time` is that of the picture in which it was certain.
"""

from collections.abc import Iterable
from typing import Literal, assert_never

import msgspec

from streamvis.events.envelope import Count
from streamvis.events.family import Cells, EventTypes, members
from streamvis.zone_layout import ZoneLayout

Direction = Literal["left_to_right", "right_to_left"]
ExitReason = Literal["left", "lost", "layout", "epoch", "eof", "drained", "failed"]


class Occupancy(msgspec.Struct, frozen=True, kw_only=True):
    """How many people are in a zone: as counted, and as a probability distribution."""

    people: Count  # who have entered and not left
    mean: float  # expected number of people in the zone
    sd: float  # standard deviation of the number
    p_occupied: float  # probability that at least one person is in the zone


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """The stay of a person in a zone."""

    track: str  # id of the track
    entered_us: int  # media time
    left_us: int | None = None  # media time; null while the person is in the zone
    reason: ExitReason | None = None  # why it ended: left the zone; lost: the track ended inside,
    # or no frame had it for `zones.absent_s`; layout: the zone was changed or removed; epoch:
    # reconnect or resume; eof; drained; failed


class ZoneEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A person has entered a zone."""

    name: str  # of the zone
    track: str  # id of the track
    at_us: int  # media time when the person entered, or was first seen inside
    seen_outside: bool  # false: the track began inside
    entries: Count  # visits of the zone so far, after corrections
    occupancy: Occupancy  # after the entry


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """A person is no longer in a zone."""

    name: str  # of the zone
    track: str  # id of the track
    at_us: int  # media time when the person left, or was last seen inside
    entered_us: int  # media time
    dwell_s: float  # time from `entered_us` to `at_us`
    reason: ExitReason  # left; lost: the track ended inside, or no frame had it for
    # `zones.absent_s`; layout: the zone was changed or removed; epoch: reconnect or resume; eof;
    # drained; failed
    occupancy: Occupancy | None = None  # after the exit; null where all ends at once


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """A person has been in a zone for a given time."""

    name: str  # of the zone
    track: str  # id of the track
    at_us: int  # media time when the threshold was reached
    entered_us: int  # media time
    threshold_s: float  # one of the zone's `dwell_s`


class ZoneCrowd(msgspec.Struct, frozen=True, kw_only=True):
    """The number of people in a zone has reached its threshold, or fallen below it."""

    name: str  # of the zone
    at_us: int  # media time when the number changed; the event follows `crowd_s` later
    people: Count  # people in the zone
    threshold: Count  # the zone's `crowd`


class ZoneState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a zone."""

    name: str  # of the zone
    occupancy: Occupancy  # now
    longest_s: float  # stay of the person who has been inside for longest; 0 without one
    entries: Count  # visits so far, after corrections
    crowded: bool = False  # whether it has had its `crowd` of people


class ZoneRevision(msgspec.Struct, frozen=True, kw_only=True):
    """Visits that were published and are corrected, as by merges and splits of ids."""

    name: str  # of the zone
    was: tuple[Visit, ...]  # as published before
    now: tuple[Visit, ...]  # what replaces them
    entries: Count  # visits of the zone so far, after corrections
    occupancy: Occupancy  # after the correction


class OccupancyForecast(msgspec.Struct, frozen=True, kw_only=True):
    """How many people will be in a zone, by the predicted states of the tracks."""

    name: str  # of the zone
    horizon_us: Count  # how far ahead
    target_us: int  # media time of the forecast
    p_occupied: float  # probability that at least one person will be in the zone
    mean: float  # expected number of people
    p_scene: float | None = None  # the same probability by the forecast of the segmentation, for a
    # zone of the same name there; null without one


class ForecastOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A published forecast of a zone, compared with what came."""

    name: str  # of the zone
    horizon_us: Count  # how far ahead the forecast was
    made_us: int  # media time when it was made
    p_occupied: float  # as forecast
    mean: float  # as forecast
    people: Count  # who were in the zone at the time that it was for
    brier: float  # squared difference of `p_occupied` and whether the zone was occupied


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """A person has crossed a line."""

    name: str  # of the line
    track: str  # id of the track
    direction: Direction  # left and right as seen when walking from `start` to `end`
    at_us: int  # media time when the path of the anchor cut the line
    p: float  # probability that a person has crossed here
    in_total: Count  # crossings from left to right so far, after corrections
    out_total: Count  # crossings from right to left so far, after corrections


class PastCrossing(msgspec.Struct, frozen=True, kw_only=True):
    """A crossing as it was published, or as it is after a correction."""

    track: str  # id of the track
    direction: Direction  # left and right as seen when walking from `start` to `end`
    at_us: int  # media time


class LineRevision(msgspec.Struct, frozen=True, kw_only=True):
    """Crossings that were published and are corrected, because ids were merged or split."""

    name: str  # of the line
    was: tuple[PastCrossing, ...]  # as published before
    now: tuple[PastCrossing, ...]  # what replaces them
    in_total: Count  # crossings from left to right so far, after corrections
    out_total: Count  # crossings from right to left so far, after corrections


class ZoneLayoutSet(msgspec.Struct, frozen=True, tag_field="type", tag="zone.layout"):
    """The zones and lines of the source, from this picture on."""

    zone: ZoneLayout  # all of them


class ZoneEnter(msgspec.Struct, frozen=True, tag_field="type", tag="zone.enter"):
    """A person has been in a zone for its `enter_s`."""

    zone: ZoneEntry  # who, and since when


class ZoneExit(msgspec.Struct, frozen=True, tag_field="type", tag="zone.exit"):
    """A person has been outside of a zone for its `exit_s`, or the track is lost inside."""

    zone: Departure  # who, when and why


class ZoneDwell(msgspec.Struct, frozen=True, tag_field="type", tag="zone.dwell"):
    """A person has been in a zone for one of its `dwell_s`."""

    zone: Stay  # who, and for how long


class ZoneCrowded(msgspec.Struct, frozen=True, tag_field="type", tag="zone.crowded"):
    """A zone has had its `crowd` of people for `crowd_s`."""

    zone: ZoneCrowd  # how many


class ZoneClear(msgspec.Struct, frozen=True, tag_field="type", tag="zone.clear"):
    """A crowded zone has had fewer people than its `crowd` for `crowd_s`."""

    zone: ZoneCrowd  # how many


class ZoneUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="zone.update"):
    """The state of a zone, at most once in `zones.update_s`, and when it has changed."""

    zone: ZoneState  # its state in this frame


class ZoneRevise(msgspec.Struct, frozen=True, tag_field="type", tag="zone.revise"):
    """A correction of earlier visits; totals are those of the corrected history."""

    zone: ZoneRevision  # what was published, and what is right


class ZoneForecastMade(msgspec.Struct, frozen=True, tag_field="type", tag="zone.forecast"):
    """A forecast of a zone's occupancy, at most once in `zones.update_s`."""

    zone: OccupancyForecast  # what is forecast


class ZoneScored(msgspec.Struct, frozen=True, tag_field="type", tag="zone.scored"):
    """A published forecast of a zone is compared with the frame that came."""

    zone: ForecastOutcome  # how well it fits


class LineCross(msgspec.Struct, frozen=True, tag_field="type", tag="line.cross"):
    """A person has crossed a line and settled beyond its band."""

    line: Crossing  # who, when and which way


class LineRevise(msgspec.Struct, frozen=True, tag_field="type", tag="line.revise"):
    """A correction of earlier crossings; totals are those of the corrected history."""

    line: LineRevision  # what was published, and what is right


ZoneBody = (
    ZoneLayoutSet
    | ZoneEnter
    | ZoneExit
    | ZoneDwell
    | ZoneCrowded
    | ZoneClear
    | ZoneUpdate
    | ZoneRevise
    | ZoneForecastMade
    | ZoneScored
    | LineCross
    | LineRevise
)


def line(what: ZoneBody) -> str:
    """Return the line of `events tail`, after the type."""
    match what:
        case ZoneLayoutSet(layout):
            zones = ", ".join(zone.name for zone in layout.zones) or "none"
            lines = ", ".join(line.name for line in layout.lines) or "none"
            return f"zones: {zones}; lines: {lines}"
        case ZoneEnter(entry):
            began = "" if entry.seen_outside else " (first seen inside)"
            return f"{entry.name}: {entry.track}{began}; {_people(entry.occupancy.people)} inside"
        case ZoneExit(gone):
            left = "" if gone.occupancy is None else f"; {_people(gone.occupancy.people)} inside"
            return f"{gone.name}: {gone.track} after {gone.dwell_s:.1f} s ({gone.reason}){left}"
        case ZoneDwell(stay):
            return f"{stay.name}: {stay.track} for {stay.threshold_s:g} s"
        case ZoneCrowded(crowd) | ZoneClear(crowd):
            return f"{crowd.name}: {_people(crowd.people)}, threshold {crowd.threshold}"
        case ZoneUpdate(state):
            number = state.occupancy
            expected = f"expected {number.mean:.2f} ± {number.sd:.2f}"
            so_far = f"longest {state.longest_s:.1f} s; {_count(state.entries, 'visit')} so far"
            return f"{state.name}: {_people(number.people)}, {expected}; {so_far}"
        case ZoneRevise(revision):
            changed = _changed(map(_visit, revision.was), map(_visit, revision.now))
            return f"{revision.name}: {changed}; {_count(revision.entries, 'visit')} so far"
        case ZoneForecastMade(ahead):
            expected = f"expected {ahead.mean:.2f}"
            when = f"in {ahead.horizon_us / 1e6:g} s"
            return f"{ahead.name}: {when} occupied p={ahead.p_occupied:.2f}, {expected}"
        case ZoneScored(score):
            made = f"forecast of {score.horizon_us / 1e6:g} s ago: p={score.p_occupied:.2f}"
            return f"{score.name}: {made}, expected {score.mean:.2f}; now {_people(score.people)}"
        case LineCross(cross):
            totals = f"in {cross.in_total}, out {cross.out_total}"
            return f"{cross.name}: {cross.track} {cross.direction} p={cross.p:.2f}; {totals}"
        case LineRevise(revised):
            totals = f"in {revised.in_total}, out {revised.out_total}"
            changed = _changed(map(_crossing, revised.was), map(_crossing, revised.now))
            return f"{revised.name}: {changed}; {totals}"
        case _:
            assert_never(what)


def _people(count: int) -> str:
    return f"{count} person" if count == 1 else f"{count} people"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _visit(visit: Visit) -> str:
    since = f"{visit.entered_us / 1e6:.1f}"
    if visit.left_us is None:
        return f"{visit.track} since {since} s"
    return f"{visit.track} {since} to {visit.left_us / 1e6:.1f} s"


def _crossing(past: PastCrossing) -> str:
    return f"{past.track} {past.direction} at {past.at_us / 1e6:.1f} s"


def _changed(was: Iterable[str], now: Iterable[str]) -> str:
    return f"not {', '.join(was) or 'nothing'}, but {', '.join(now) or 'nothing'}"


def csv_rows(what: ZoneBody) -> list[Cells]:
    """Return the row of the event, or one for each visit or crossing of a correction."""
    match what:
        case ZoneLayoutSet(layout):
            zones: list[Cells] = [{"zone": zone.name} for zone in layout.zones]
            lines: list[Cells] = [{"line": line.name} for line in layout.lines]
            return zones + lines
        case ZoneEnter(entry):
            known = members(entry, "track", "at_us", "entries")
            return [{"zone": entry.name, "people": entry.occupancy.people, **known}]
        case ZoneExit(gone):
            people = "" if gone.occupancy is None else gone.occupancy.people
            known = members(gone, "track", "at_us", "dwell_s", "reason")
            return [{"zone": gone.name, "since_us": gone.entered_us, "people": people, **known}]
        case ZoneDwell(stay):
            known = members(stay, "track", "at_us", "threshold_s")
            return [{"zone": stay.name, "since_us": stay.entered_us, **known}]
        case ZoneCrowded(crowd) | ZoneClear(crowd):
            return [{"zone": crowd.name, **members(crowd, "at_us", "people")}]
        case ZoneUpdate(state):
            number = members(state.occupancy, "people", "mean", "sd")
            known = members(state, "longest_s", "entries")
            return [{"zone": state.name, "p": state.occupancy.p_occupied, **number, **known}]
        case ZoneRevise(revision):
            common = {"zone": revision.name, "entries": revision.entries}
            common["people"] = revision.occupancy.people
            return [
                {**common, "track": v.track, "since_us": v.entered_us, "at_us": v.left_us}
                | {"reason": label}
                for label, visits in (("was", revision.was), ("now", revision.now))
                for v in visits
            ]
        case ZoneForecastMade(ahead):
            known = members(ahead, "horizon_us", "mean")
            return [{"zone": ahead.name, "p": ahead.p_occupied, **known}]
        case ZoneScored(score):
            known = members(score, "horizon_us", "made_us", "people")
            return [{"zone": score.name, "p": score.p_occupied, **known}]
        case LineCross(cross):
            known = members(cross, "track", "at_us", "direction", "p", "in_total", "out_total")
            return [{"line": cross.name, **known}]
        case LineRevise(revised):
            totals = members(revised, "in_total", "out_total")
            return [
                {"line": revised.name, "reason": label, **totals}
                | members(one, "track", "at_us", "direction")
                for label, crossings in (("was", revised.was), ("now", revised.now))
                for one in crossings
            ]
        case _:
            assert_never(what)


ZONE_EVENTS = EventTypes(
    ZoneBody.__args__,
    line,
    csv_rows,
    columns=(
        *("line", "at_us", "dwell_s", "threshold_s", "people", "entries", "mean", "sd"),
        *("in_total", "out_total", "direction", "longest_s"),
    ),
    identity=("name",),
)
