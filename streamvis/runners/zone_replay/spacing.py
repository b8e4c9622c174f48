"""How far apart the positions of a track are in a log: `publish.update_every_s`, as it shows."""

from collections.abc import Iterable
from typing import NamedTuple

from streamvis.events.envelope import EventBody
from streamvis.runners.log_bodies import Head
from streamvis.stages.track.events import TrackBegin, TrackEnd, TrackUpdate

LOOKED_AT = 1000  # events of tracks, from the first on


class _Seen(NamedTuple):
    """When a track was last in the log."""

    stream_epoch: int
    seq: int
    media_us: int


def spacing_us(events: Iterable[tuple[Head, EventBody]]) -> int:
    """Return the shortest time between two updates of a track; 0: there is one for every frame."""
    seen: dict[str, _Seen] = {}
    adjacent, apart_us = 0, list[int]()
    for head, what in events:
        if isinstance(what, TrackEnd):
            seen.pop(what.track.id, None)
        if head.frame is None or not isinstance(what, TrackBegin | TrackUpdate):
            continue
        frame, track = head.frame, what.track
        before = seen.get(track.id)
        now = seen[track.id] = _Seen(frame.stream_epoch, frame.seq, head.time.media_us)
        if before is None or isinstance(what, TrackBegin):
            continue
        if now.stream_epoch == before.stream_epoch and now.seq - before.seq > 1:
            apart_us.append(now.media_us - before.media_us)
        else:
            adjacent += 1
    return min(apart_us) if len(apart_us) > adjacent else 0
