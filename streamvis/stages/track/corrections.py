"""Apply the corrections `track.split` and `track.merge` to earlier events.

    corrections = Corrections()
    for event in feed:
        corrections.take(event)
        if isinstance(event.what, TrackBegin | TrackUpdate):
            seen.append(event)
    people = Counter(corrections.track_id(event) for event in seen)

Events are kept as published and read through the corrections after them. A reader may also rewrite
its history when a correction arrives, before the events that follow it:

- `track.split`: all splits of the event at once. The history of `id` from `since_us` on becomes
  that of `other`.
- `track.merge`: the history of `gone` becomes that of `kept`.

Where this gives one track two boxes in one frame, the one that a detection supports is right, and
of two such boxes the one that was moved there.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import msgspec

from streamvis.errors import UsageError
from streamvis.events.envelope import Event, FrameRef
from streamvis.stages.track.events import (
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)

EVER = -(2**63)  # media µs
TrackObservation = TrackBegin | TrackUpdate


class Reassignment(NamedTuple):
    """Published at `offset`: the track was `other` from `since_us` until then."""

    offset: int
    since_us: int
    other: str


class Corrections:
    """All corrections so far; lookups are fast, since a track has few of them."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._moves: dict[
            tuple[str, str], list[Reassignment]
        ] = {}  # run, track -> in order of offset
        for event in events:
            self.take(event)

    def take(self, event: Event) -> None:
        """Add the corrections of an event; other events than splits and merges are ignored."""
        match event.what:
            case TrackSplit(splits):
                for split in splits:
                    self._add(event, split.id, split.since_us, split.other)
            case TrackMerge(merge):
                self._add(event, merge.gone, EVER, merge.kept)

    def _add(self, event: Event, track: str, since_us: int, other: str) -> None:
        moves = self._moves.setdefault((event.epoch, track), [])
        if not moves or moves[-1].offset < event.offset:  # else it is a repeated event
            moves.append(Reassignment(event.offset, since_us, other))

    def track_id(self, event: Event) -> str:
        """The corrected track id of a begin, update or end."""
        what, offset = event.what, event.offset
        if not isinstance(what, TrackBegin | TrackUpdate | TrackEnd):
            raise UsageError(f"{event.type} has no track; expected track.begin, .update or .end")
        track = what.track.id
        while move := self._next(event, track, offset):
            track, offset = move.other, move.offset
        return track

    def _next(self, event: Event, track: str, offset: int) -> Reassignment | None:
        moves = self._moves.get((event.epoch, track), ())
        return next(
            (m for m in moves if m.offset > offset and m.since_us <= event.time.media_us), None
        )


def corrected_tracks(
    events: Iterable[Event], corrections: Corrections
) -> Iterator[tuple[Event, Track]]:
    """The begins and updates among the events, with the corrected track.

    In the order of `events`; each track at most once in a frame.
    """
    observations = (
        (event, what) for event in events if isinstance(what := event.what, TrackObservation)
    )
    for _, frame in groupby(observations, key=lambda pair: _frame(pair[0])):
        best: dict[str, tuple[tuple[bool, bool], Event, Track]] = {}
        for event, what in frame:
            track, who = what.track, corrections.track_id(event)
            worth = (track.box_from == "update", who != track.id)
            if who not in best or worth > best[who][0]:
                best[who] = (worth, event, msgspec.structs.replace(track, id=who))
        yield from ((event, track) for _, event, track in best.values())


def _frame(event: Event) -> tuple[str, str, FrameRef | None]:
    return event.source, event.epoch, event.frame
