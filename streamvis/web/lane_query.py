"""The lanes of a source in a stretch of media time: their spans where these are few, else counts.

A short stretch is read from the log itself, from the last checkpoint before it; a long one from the
counts of the lane index.
"""

from bisect import bisect_left
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from streamvis.events.lane_bins import (
    BEGINS,
    EVENTS,
    HOUR_US,
    MOST,
    SECOND_US,
    Counts,
    binned,
    joined,
)
from streamvis.events.lane_index import CHECKPOINT, Checkpoint, LaneIndex, OpenSpans
from streamvis.events.lanes import SOURCE as LANE_OF_STATES
from streamvis.events.lanes import LaneChange, LaneMark, LaneName, LaneSpan
from streamvis.events.log import Cursor, GoneError, LogReader
from streamvis.web.event_pages import SOURCE, cursor_of
from streamvis.web.problems import RefusedError

MOST_BINS = 2000
MOST_SCANNED = 20_000  # events of a stretch that is read from the log
MOST_SPANS = 300  # spans and marks of a lane; more are counted
LATEST_US = 2**62
FAMILIES = ("source", "track", "zone", "line", "action", "posture", "unknown", "forecast")
MINUTE_US = 60 * SECOND_US
BIN_WIDTHS_US = (
    *(n * 10**k for k in range(6) for n in (1, 2, 5)),
    *(n * SECOND_US for n in (1, 2, 5, 10, 15, 30)),
    *(n * MINUTE_US for n in (1, 2, 5, 10, 15, 30)),
    *(n * HOUR_US for n in (1, 2, 3, 6, 12, 24)),
)

Time = Annotated[int, Meta(ge=0, le=LATEST_US)]


class LaneQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which stretch is wanted."""

    source: Annotated[str, Meta(pattern=SOURCE)]  # id of a source
    from_us: Time | None = None  # media time at which it begins; absent: that of the first event
    to_us: Time | None = None  # media time at which it ends; absent: that of the last event
    bins: Annotated[int, Meta(ge=1, le=MOST_BINS)] = 1000  # at most so many, where spans are many


class TimelineSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has begun, and perhaps ended."""

    key: str  # id of the track, name of the state; empty: there is one at a time
    from_us: int | None  # media time; null: before all that is known
    to_us: int | None  # media time; null: it goes on at the end of the stretch
    first: int  # offset of the event that began it; -1: unknown
    last: int  # offset of the event that ended it; -1: not in the stretch


class TimelineMark(msgspec.Struct, frozen=True, kw_only=True):
    """An event at one time."""

    at_us: int  # media time
    offset: int  # of the event
    type: str  # of the event


class TimelineBins(msgspec.Struct, frozen=True, kw_only=True):
    """Counts by bin; the first bin begins at `first_us` of the answer, each is `bin_us` long."""

    begins: list[int]  # how many began
    most: list[int]  # how many there were at most, at once
    events: list[int]  # how many events there were; updates are not counted


class TimelineLane(msgspec.Struct, frozen=True, kw_only=True):
    """The tracks of the source, a zone, a line, an action, a posture, or another family."""

    family: str  # source, track, zone, line, action, posture, unknown, forecast; other: a family of
    # its own
    name: str  # of the zone, line, action or posture
    spans: list[TimelineSpan]  # those of the stretch, unless there are `bins`
    marks: list[TimelineMark]  # events that are neither begin nor end, unless there are `bins`
    bins: TimelineBins | None  # where spans and marks are many


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """The lanes of a source in a stretch of its media time, as published."""

    source: str
    epoch: str  # id of the run
    live: bool  # whether the source has not ended
    oldest_us: int  # media time of the first event in the log
    newest_us: int  # media time of the last one
    until_us: int | None  # media time up to which the lanes are complete: `newest_us` once the log
    # is read, which takes a while when it is looked at first; null: none is read yet
    wall_us: int | None  # wall clock at media time 0, since 1970, as of this stretch; null: unknown
    from_us: int  # begin of the stretch
    to_us: int  # its end
    first_us: int  # begin of the first bin
    bin_us: int  # width of a bin
    lanes: list[TimelineLane]  # those without anything in the stretch included, as far as known


class _Stretch(msgspec.Struct, frozen=True):
    """What is asked for, after it was compared with the log."""

    source: str
    from_us: int
    to_us: int
    bin_us: int
    first_us: int  # begin of the first bin
    bins: int
    newest_us: int  # after which nothing is known

    @property
    def end_us(self) -> int:
        """The end of the last bin."""
        return self.first_us + self.bins * self.bin_us


class _Clock(msgspec.Struct, frozen=True):
    media_us: int
    capture_us: int = 0


class _Timed(msgspec.Struct, frozen=True):
    time: _Clock


_timed = msgspec.json.Decoder(_Timed)


def timeline_of(log: LogReader, index: LaneIndex, query: LaneQuery) -> Timeline:
    """Return the lanes; RefusedError for an unknown source."""
    known = cursor_of(log, query.source)
    oldest = max(known.first, log.oldest(known.source))
    oldest_us = _media_us(log, known.source, oldest, 0)
    newest_us = _media_us(log, known.source, max(known.next - 64, oldest), oldest_us, 64)
    stretch = _stretch(query, oldest_us, newest_us)
    first = log.first_at(known.source, stretch.first_us, oldest)
    last = log.first_at(known.source, stretch.end_us, oldest) - 1
    progress = index.progress(known.source)
    until_us = None
    if is_known := progress is not None and progress.epoch == known.epoch:
        until_us = newest_us if progress.offset >= known.next - 1 else progress.at_us
    if last - first < MOST_SCANNED:
        before = index.checkpoint(known.source, stretch.first_us) if is_known else None
        lanes, is_complete = _near(log, before, stretch, first, last, oldest)
        if is_complete:
            until_us = max(until_us or 0, min(stretch.to_us, newest_us))
    else:
        if stretch.bin_us < SECOND_US:
            stretch = _widened(stretch, SECOND_US)
        lanes = [] if until_us is None else _far(index, stretch)
    if is_known:
        lanes += _empty(index.lanes(known.source), lanes)
    return Timeline(
        source=known.source,
        epoch=known.epoch,
        live=not known.ending,
        oldest_us=oldest_us,
        newest_us=newest_us,
        until_us=until_us,
        wall_us=_wall_us(log, known, first),
        from_us=stretch.from_us,
        to_us=stretch.to_us,
        first_us=stretch.first_us,
        bin_us=stretch.bin_us,
        lanes=sorted(lanes, key=_order),
    )


def _stretch(query: LaneQuery, oldest_us: int, newest_us: int) -> _Stretch:
    from_us = oldest_us if query.from_us is None else query.from_us
    to_us = max(newest_us, from_us) if query.to_us is None else query.to_us
    if from_us > to_us:
        raise RefusedError(
            400,
            "query parameters from_us, to_us",
            f"{from_us} is after {to_us}",
            expected="from_us at most to_us",
        )
    least = max(1, -(-(to_us - from_us + 1) // query.bins))
    place = bisect_left(BIN_WIDTHS_US, least)
    day = BIN_WIDTHS_US[-1]
    width = BIN_WIDTHS_US[place] if place < len(BIN_WIDTHS_US) else -(-least // day) * day
    return _widened(_Stretch(query.source, from_us, to_us, 1, 0, 0, newest_us), width)


def _widened(stretch: _Stretch, bin_us: int) -> _Stretch:
    first = stretch.from_us // bin_us
    bins = stretch.to_us // bin_us - first + 1
    return msgspec.structs.replace(stretch, bin_us=bin_us, first_us=first * bin_us, bins=bins)


def _media_us(log: LogReader, source: str, first: int, otherwise: int, count: int = 1) -> int:
    """Return the media time of the last of some events; offsets may be missing."""
    times = [row.media_us for row in log.since(source, first, first + count - 1)]
    return max(times[-1], 0) if times else otherwise


def _wall_us(log: LogReader, known: Cursor, first: int) -> int | None:
    """Return the wall clock at media time 0, by the next event that knows it."""
    start = max(min(first, known.next - 50), log.oldest(known.source))
    for row in log.since(known.source, start, start + 49):
        try:
            clock = _timed.decode(row.payload).time
        except msgspec.MsgspecError:
            continue
        if clock.capture_us:
            return clock.capture_us - clock.media_us
    return None


def _near(
    log: LogReader,
    checkpoint: Checkpoint | None,
    stretch: _Stretch,
    first: int,
    last: int,
    oldest: int,
) -> tuple[list[TimelineLane], bool]:
    """Return lanes from the log, and whether all is known that was open before the stretch."""
    start, spans = oldest, OpenSpans([], [])
    if checkpoint is not None and checkpoint.offset + 1 >= oldest:
        start, spans = checkpoint.offset + 1, checkpoint.spans
    is_complete = first - start <= 2 * CHECKPOINT
    if not is_complete:  # the log is not read so far
        start, spans = first - CHECKPOINT, OpenSpans([], [])
    fold = spans.fold()
    before: dict[LaneName, int] = {lane: len(found) for lane, found in fold.open.items()}
    found: dict[LaneName, list[LaneChange]] = {lane: [] for lane in before if before[lane]}
    at_us = 0
    for row in log.outlined(stretch.source, start, last):
        at_us = max(at_us, row.media_us)
        for change in fold.take(row.type, row.offset, at_us, row.payload):
            if change.at_us >= stretch.first_us:
                found.setdefault(change.lane, []).append(change)
            else:
                before[change.lane] = before.get(change.lane, 0) + change.open
    if start > oldest and log.oldest(stretch.source) > start:
        raise GoneError(log.path, stretch.source, start, log.oldest(stretch.source))
    lanes = []
    for lane in {**found, **{name: [] for name, spans in fold.open.items() if spans}}:
        changes = found.get(lane, [])
        open_ = fold.open.get(lane, {})
        lanes.append(_lane(stretch, lane, changes, before.get(lane, 0), open_))
    return lanes, is_complete


def _lane(
    stretch: _Stretch,
    lane: LaneName,
    changes: list[LaneChange],
    before: int,
    open_: dict[str, tuple[int, int]],
) -> TimelineLane:
    """Return a lane by its changes in the stretch, and what is open as it begins and ends."""
    spans = [change.ended for change in changes if change.ended is not None]
    spans += [LaneSpan(key, at_us, None, offset, -1) for key, (at_us, offset) in open_.items()]
    marks = [change.mark for change in changes if change.mark is not None]
    if len(spans) + len(marks) > MOST_SPANS:
        counts = binned(changes, before, stretch.first_us, stretch.bin_us, stretch.bins)
        known = max((stretch.newest_us - stretch.first_us) // stretch.bin_us + 1, 0)
        counts[MOST, known:] = 0
        return _counted(lane, counts)
    return TimelineLane(
        family=lane.family,
        name=lane.name,
        spans=[_span(one) for one in spans],
        marks=[_mark(one) for one in marks],
        bins=None,
    )


def _span(span: LaneSpan) -> TimelineSpan:
    return TimelineSpan(
        key=span.key, from_us=span.from_us, to_us=span.to_us, first=span.first, last=span.last
    )


def _mark(mark: LaneMark) -> TimelineMark:
    return TimelineMark(at_us=mark.at_us, offset=mark.offset, type=mark.type)


def _far(index: LaneIndex, stretch: _Stretch) -> list[TimelineLane]:
    """Return lanes from the counts of the index."""
    first, last = stretch.first_us // HOUR_US, (stretch.end_us - 1) // HOUR_US
    if stretch.bin_us % HOUR_US == 0:
        parts, small_us = index.hours(stretch.source, first, last), HOUR_US
    elif stretch.bin_us % MINUTE_US == 0:
        parts, small_us = index.parts(stretch.source, first, last, seconds=False), MINUTE_US
    else:
        parts, small_us = index.parts(stretch.source, first, last, seconds=True), SECOND_US
    start, factor = stretch.first_us // stretch.bin_us, stretch.bin_us // small_us
    lanes = [
        _counted(lane, joined(found, start, factor, stretch.bins)) for lane, found in parts.items()
    ]
    states = _states(index, stretch)
    return lanes if states is None else [states, *(one for one in lanes if one.family != "source")]


def _empty(names: list[LaneName], lanes: list[TimelineLane]) -> list[TimelineLane]:
    """Return the lanes in which nothing is in the stretch."""
    known = {(lane.family, lane.name) for lane in lanes}
    return [
        TimelineLane(family=family, name=name, spans=[], marks=[], bins=None)
        for family, name in names
        if (family, name) not in known
    ]


def _states(index: LaneIndex, stretch: _Stretch) -> TimelineLane | None:
    """Return the states of the source, unless there are too many."""
    limit = MOST_SPANS + 1
    spans = index.states(stretch.source, stretch.first_us, stretch.end_us - 1, limit)
    progress = index.progress(stretch.source)
    if progress is not None:
        now = progress.spans.fold().open.get(LANE_OF_STATES, {})
        spans += [LaneSpan(key, at, None, first, -1) for key, (at, first) in now.items()]
    spans = [
        one._replace(to_us=None, last=-1) if (one.to_us or 0) >= stretch.end_us else one
        for one in spans
        if one.from_us is None or one.from_us < stretch.end_us
    ]
    if not 0 < len(spans) <= MOST_SPANS:
        return None
    return TimelineLane(
        family="source", name="", spans=[_span(one) for one in spans], marks=[], bins=None
    )


def _counted(lane: LaneName, counts: Counts) -> TimelineLane:
    bins = TimelineBins(
        begins=counts[BEGINS].tolist(), most=counts[MOST].tolist(), events=counts[EVENTS].tolist()
    )
    return TimelineLane(family=lane.family, name=lane.name, spans=[], marks=[], bins=bins)


def _order(lane: TimelineLane) -> tuple[Any, ...]:
    place = FAMILIES.index(lane.family) if lane.family in FAMILIES else len(FAMILIES)
    return place, lane.family, lane.name
