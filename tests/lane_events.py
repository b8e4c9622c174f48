"""Events of two sources for tests of lanes, drawn by hypothesis, and logs of them."""

from contextlib import closing

from hypothesis import strategies as st
from zone_logs import begin, cross, end, enter, leave, move, revise, update, visit

from streamvis.events.envelope import Event, FrameRef, Time, encode
from streamvis.events.log import Cursor, LogWriter, Row
from streamvis.events.source_events import (
    Change,
    Finish,
    SourceConnecting,
    SourceEof,
    SourceGap,
    SourceOffline,
    SourceOnline,
    SourceStalled,
    Stream,
)
from streamvis.events.source_events import Gap as SourceLoss
from streamvis.stages.actions.events import Action, ActionBegin, ActionEnd, EndedAction
from streamvis.stages.pose.events import EndedPosture, OpenPosture, PostureBegin, PostureEnd
from streamvis.stages.segment.events import EndedSighting, Sighting, UnknownBegin, UnknownEnd

BOX = (0.0, 0.0, 1.0, 1.0)
ACTION = {"label": "fight", "p": 0.9, "window_us": 1, "since_us": 0}
POSTURE = {"label": "fallen", "clear": 0.9, "since_us": 0}
SIGHT = {"share": 0.1, "box_px": BOX, "p": 0.5, "since_us": 0}


def bodies(key, zone):
    """Return one body of each kind."""
    name = f"cam1:1:{key}"
    return (
        begin(name),
        end(name, 1),
        move(name),
        enter(zone, name, 0),
        leave(zone, name, 0, 1),
        update(zone, 1),
        revise(zone, [visit(name, 0)], [visit("cam1:1:9", 0)]),
        revise(zone, [visit(name, 0, 1)], [visit(name, 0)]),
        cross("gate", name, 0),
        ActionBegin(Action(**ACTION, track=name)),
        ActionEnd(EndedAction(**ACTION, p_max=0.9, reason="over", track=name)),
        UnknownBegin(Sighting(**SIGHT)),
        UnknownEnd(EndedSighting(**SIGHT, share_max=0.1, reason="over")),
        SourceConnecting(Change("start")),
        SourceOnline(Stream(label="x", w=4, h=3)),
        SourceStalled(Change("nothing arrives")),
        SourceOffline(Change("lost")),
        SourceEof(Finish(5)),
        SourceGap(SourceLoss(first=1, last=2, reason="overload", count=2)),
        PostureBegin(OpenPosture(**POSTURE, track=name)),
        PostureEnd(EndedPosture(**POSTURE, clear_max=0.9, reason="over", track=name)),
    )


KINDS = len(bodies(0, "door"))
STEPS_US = (0, 0, 40_000, 1_000_000, 999_999, 61_000_000, 3_600_000_000, 7_300_000_000)

events_of_a_source = st.lists(
    st.tuples(
        st.sampled_from([*range(KINDS), *(0, 1, 3, 4) * 5]),  # tracks and visits more often
        st.integers(0, 2),
        st.sampled_from(["door", "yard"]),
        st.sampled_from(STEPS_US),
    ),
    min_size=1,
    max_size=60,
)


def made(drawn, source="cam1", first=0, epoch="e1", media_us=0):
    """Return events of what was drawn."""
    found = []
    for offset, (kind, key, zone, later_us) in enumerate(drawn, start=first):
        media_us += later_us
        found.append(
            Event(
                id="x",
                source=source,
                epoch=epoch,
                tseq=offset + 1,
                offset=offset,
                time=Time(media_us=media_us),
                frame=FrameRef(n=offset, seq=offset, w=640, h=480, stream_epoch=1),
                what=bodies(key, zone)[kind],
            )
        )
    return found


def append(path, events, first=0, epoch="e1"):
    """Write events of several sources in their order."""
    rows = [Row(e.source, e.offset, e.tseq, e.type, e.time.media_us, encode(e)) for e in events]
    nexts = {e.source: e.offset + 1 for e in events}
    with closing(LogWriter(path)) as log:
        log.commit(rows, [Cursor(name, epoch, first, end, "", b"") for name, end in nexts.items()])
