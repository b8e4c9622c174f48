"""Logs with zones and lines for tests, as a run would write them."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice

from streamvis.events.envelope import Event, FrameRef, Time, encode
from streamvis.events.log import Cursor, LogWriter, Row
from streamvis.stages.track.events import (
    Association,
    EndedTrack,
    Track,
    TrackBegin,
    TrackEnd,
    TrackUpdate,
)
from streamvis.stages.zones.events import (
    Crossing,
    Departure,
    LineCross,
    LineRevise,
    LineRevision,
    Occupancy,
    PastCrossing,
    Visit,
    ZoneEnter,
    ZoneEntry,
    ZoneExit,
    ZoneRevise,
    ZoneRevision,
    ZoneState,
    ZoneUpdate,
)

SECOND = 1_000_000  # µs
HOUR = 3600 * SECOND
WIDTH, HEIGHT = 640, 480


def inside(people: int, mean: float | None = None) -> Occupancy:
    """The occupancy of a zone."""
    expected = float(people) if mean is None else mean
    return Occupancy(people=people, mean=expected, sd=0.0, p_occupied=float(people > 0))


def enter(zone, track, at_us, people=1):
    return ZoneEnter(
        ZoneEntry(
            name=zone,
            track=track,
            at_us=at_us,
            seen_outside=True,
            entries=1,
            occupancy=inside(people),
        )
    )


def leave(zone, track, entered_us, at_us, reason="left", people=0):
    return ZoneExit(
        Departure(
            name=zone,
            track=track,
            at_us=at_us,
            entered_us=entered_us,
            dwell_s=(at_us - entered_us) / 1e6,
            reason=reason,
            occupancy=inside(people),
        )
    )


def visit(track, entered_us, left_us=None, reason="left"):
    reason = None if left_us is None else reason
    return Visit(track=track, entered_us=entered_us, left_us=left_us, reason=reason)


def revise(zone, was, now, people=0):
    return ZoneRevise(
        ZoneRevision(name=zone, was=was, now=now, entries=1, occupancy=inside(people))
    )


def update(zone, people, mean=None):
    return ZoneUpdate(
        ZoneState(name=zone, occupancy=inside(people, mean), longest_s=0.0, entries=0)
    )


def cross(line, track, at_us, direction="left_to_right"):
    return LineCross(
        Crossing(
            name=line, track=track, direction=direction, at_us=at_us, p=1.0, in_total=0, out_total=0
        )
    )


def past(track, at_us, direction="left_to_right"):
    return PastCrossing(track=track, direction=direction, at_us=at_us)


def revise_line(line, was, now):
    return LineRevise(LineRevision(name=line, was=was, now=now, in_total=0, out_total=0))


def track(name, foot=(320.0, 240.0), speed=None, speed_px=0.0):
    """A track 20 px wide and 50 px high."""
    x, y = foot
    return Track(
        id=name,
        box_px=(x - 10, y - 50, x + 10, y),
        box_from="update",
        score=0.8,
        vel_px_s=(speed_px, 0.0),
        cov_diag=(1.0, 1.0, 1.0, 1.0),
        p_exist=0.9,
        assoc=Association(),
        first_seen_us=0,
        age_s=0.0,
        speed_m_s=speed,
    )


def begin(name, foot=(320.0, 240.0), **speed):
    return TrackBegin(track(name, foot, **speed))


def move(name, foot=(320.0, 240.0), **speed):
    return TrackUpdate(track(name, foot, **speed))


def end(name, last_us, foot=(320.0, 240.0)):
    return TrackEnd(
        EndedTrack(
            id=name,
            reason="lost",
            box_px=track(name, foot).box_px,
            first_seen_us=0,
            last_seen_us=last_us,
            age_s=0.0,
        )
    )


def rows_of(
    timed: Iterable, source="cam1", epoch="e1", capture_us=0, first=0, seqs=None
) -> Iterator[Row]:
    """Rows of (media µs, body); `capture_us` is the wall clock at media time 0, 0: unknown.

    `seqs` gives the number of a frame by its media time; without it, frames follow each other.
    """
    seq, last_us = -1, None
    for offset, (media_us, what) in enumerate(timed, start=first):
        seq += media_us != last_us
        last_us = media_us
        n = seqs(media_us) if seqs else seq
        wall_us = capture_us + media_us if capture_us else 0
        event = Event(
            id="x",
            source=source,
            epoch=epoch,
            tseq=offset + 1,
            offset=offset,
            time=Time(media_us=media_us, capture_us=wall_us, clock="file"),
            frame=FrameRef(n=n, seq=n, w=WIDTH, h=HEIGHT, stream_epoch=1),
            what=what,
        )
        yield Row(source, offset, offset + 1, event.type, media_us, encode(event))


def write_log(path, timed: Iterable, source="cam1", epoch="e1", capture_us=0, first=0, seqs=None):
    """Write (media µs, body) as a log, or behind what it holds."""
    rows = rows_of(timed, source, epoch, capture_us, first, seqs)
    following = first
    with closing(LogWriter(path)) as log:
        while chunk := list(islice(rows, 10_000)):
            following = chunk[-1].offset + 1
            log.commit(chunk, [])
        log.commit([], [Cursor(source, epoch, first, following, "eof", b"")])
    return path
