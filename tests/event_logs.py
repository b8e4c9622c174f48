"""Event logs for tests, as a run would write them."""

from contextlib import closing

from streamvis.events.envelope import Event, FrameRef, Time, encode
from streamvis.events.log import Cursor, LogWriter, Row
from streamvis.events.source_events import Finish, SourceEof
from streamvis.stages.track.events import (
    Association,
    EndedTrack,
    Merge,
    Split,
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)


def track_of(number, box, epoch=1, ground=None):
    return Track(
        id=f"cam1:{epoch}:{number}",
        box_px=box,
        box_from="update",
        score=0.8,
        vel_px_s=(0.0, 0.0),
        cov_diag=(1.0, 1.0, 1.0, 1.0),
        p_exist=0.75,
        assoc=Association(),
        first_seen_us=0,
        age_s=0.0,
        ground_m=ground,
    )


def logged(path, source, whats, first=0, epoch="e1"):
    """A log with these (frame number, what), as a run would write it."""
    rows = []
    for offset, (n, what) in enumerate(whats, start=first):
        event = Event(
            id="x",
            source=source,
            epoch=epoch,
            tseq=offset + 1,
            offset=offset,
            time=Time(media_us=40_000 * n),
            frame=FrameRef(n=n, seq=n, w=640, h=480, stream_epoch=1),
            what=what,
        )
        payload = encode(event)
        rows.append(Row(source, offset, offset + 1, event.type, event.time.media_us, payload))
    with closing(LogWriter(path)) as log:
        log.commit(rows, [Cursor(source, epoch, first, first + len(rows), "eof", b"")])
    return rows


END = TrackEnd(
    EndedTrack(
        id="cam1:1:3",
        reason="lost",
        box_px=(0.0, 0.0, 1.0, 1.0),
        first_seen_us=0,
        last_seen_us=1,
        age_s=0.0,
    )
)

WALK = [
    (0, TrackBegin(track_of(3, (10.0, 20.0, 30.5, 80.25)))),
    (2, TrackUpdate(track_of(3, (11.0, 20.0, 31.5, 80.25), ground=(1.5, -2.0)))),
    (2, TrackBegin(track_of(1, (0.0, 0.0, 5.0, 9.0), epoch=2))),
    (3, END),
    (4, SourceEof(Finish(5))),
]

LEFT, RIGHT = (0.0, 0.0, 10.0, 20.0), (50.0, 0.0, 60.0, 20.0)

SWAP = tuple(
    Split(id=f"cam1:1:{a}", other=f"cam1:1:{b}", since_us=40_000) for a, b in [(3, 4), (4, 3)]
)

CORRECTED = [
    *((0, TrackBegin(track_of(3, LEFT))), (0, TrackBegin(track_of(4, RIGHT)))),
    *((1, TrackUpdate(track_of(3, RIGHT))), (1, TrackUpdate(track_of(4, LEFT)))),
    (2, TrackSplit(SWAP)),
    *((2, TrackUpdate(track_of(3, LEFT))), (2, TrackBegin(track_of(5, RIGHT)))),
    (3, TrackMerge(Merge(gone="cam1:1:5", kept="cam1:1:4"))),
    (3, TrackUpdate(track_of(4, RIGHT))),
]
