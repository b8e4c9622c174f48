"""Computes the events of the zones of one source again, from its events in order."""

from collections.abc import Iterable, Iterator

from streamvis.events.envelope import EventBody, FrameRef, Reason
from streamvis.events.source_events import SourceEof, SourceEpoch, SourceOnline
from streamvis.messages import Frame, Packet, SourceInfo
from streamvis.runners.log_bodies import Head
from streamvis.runners.zone_replay.frames import LoggedFrame, OpenTracks, Size, number_of
from streamvis.stages.track.events import TrackEnd
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.deriver import ZonesDeriver
from streamvis.stages.zones.observed import Observed, passed
from streamvis.stages.zones.stage import SourceZones
from streamvis.zone_layout import ZoneLayout

Timed = tuple[Head, EventBody]


class SourceReplay:
    """The zones and lines of one source, over its stream epochs."""

    def __init__(
        self, source: str, layout: ZoneLayout, settings: ZoneCounter, spacing_us: int = 0
    ) -> None:
        info = SourceInfo(id=source, label="", width=0, height=0, fps=0.0, live=False, zones=layout)
        self._source = source
        self.spacing_us = spacing_us  # between two updates of a track; 0: one for every frame
        self._zones = SourceZones(settings, info)
        self._deriver = ZonesDeriver(info, None)
        self._open: OpenTracks = {}
        self._pending: LoggedFrame | None = None
        self._size: Size = (1, 1)
        self._epoch = 1  # stream epoch
        self._media_us: int | None = None  # of the last frame in this stream epoch
        self.played_us = 0  # media time that was replayed

    def take(self, head: Head, what: EventBody) -> Iterable[Timed]:
        """Take an event of the source; return the events of zones and lines before it, once."""
        if self._pending is not None and self._pending.head is head:
            self._pending.add(what)
            return ()
        return self._begin(head, what)

    def _begin(self, head: Head, what: EventBody) -> Iterator[Timed]:
        if head.frame is None:
            yield from self.finish()
            yield from self._without_frame(head, what)
            return
        pending = self._pending
        if pending is not None and not _is_same(pending.head.frame, head.frame):
            yield from self.finish()
        if self._pending is None:
            self._pending = LoggedFrame(head)
        self._pending.add(what)

    def finish(self) -> Iterator[Timed]:
        """Yield the events of the frame whose events came last."""
        pending, self._pending = self._pending, None
        if pending is None or pending.head.frame is None:
            return
        frame = pending.head.frame
        if frame.stream_epoch != self._epoch:
            self._begin_epoch(frame.stream_epoch)
        self._size = (frame.w, frame.h)
        yield from self._step(pending.head, pending.observed(self._open, self.spacing_us))

    def end(self, last: Head | None) -> Iterator[Timed]:
        """Yield what is left at the end of the log, also of one that is being written.

        last: the source's last event of any type, which shows that time has passed until then.
        """
        yield from self.finish()
        if last is not None:
            yield from self._pass(last)

    def _without_frame(self, head: Head, what: EventBody) -> Iterator[Timed]:
        match what:
            case SourceOnline(stream):
                self._size = (max(stream.w, 1), max(stream.h, 1))
            case TrackEnd(ended):
                self._open.pop(number_of(ended.id), None)
                yield from self._pass(head)
                if ended.reason != "lost":
                    yield from self._close(head, ended.reason)
            case SourceEpoch(restart):
                yield from self._pass(head)
                yield from self._close(head, "epoch")
                self._begin_epoch(restart.stream_epoch)
            case SourceEof(finish) if finish.frames:
                yield from self._pass(head)
                yield from self._close(head, "eof")

    def _begin_epoch(self, epoch: int) -> None:
        self._epoch, self._media_us = epoch, None
        self._open.clear()
        self._zones.restart()

    def _pass(self, head: Head) -> Iterator[Timed]:
        """Let time pass until an event without a frame: there were frames without tracks."""
        media_us = head.time.media_us
        if self._media_us is None or media_us > self._media_us:
            yield from self._step(head, passed(media_us, self._size))

    def _step(self, head: Head, observed: Observed) -> Iterator[Timed]:
        if self._media_us is not None:
            self.played_us += max(observed.media_us - self._media_us, 0)
        self._media_us = observed.media_us
        part = self._zones.take(observed, self._epoch)
        events = self._deriver.derive(Packet(frame=self._frame(observed), parts=[part]))
        for body in (*events.corrections, *events.ends, *(draft.what for draft in events.drafts)):
            yield head, body

    def _close(self, head: Head, reason: Reason) -> Iterator[Timed]:
        for body in self._deriver.close(reason):
            yield head, body

    def _frame(self, observed: Observed) -> Frame:
        width, height = observed.size
        return Frame(
            source=self._source,
            seq=0,
            n=0,
            media_us=observed.media_us,
            width=width,
            height=height,
            epoch=self._epoch,
        )


def _is_same(a: FrameRef | None, b: FrameRef) -> bool:
    return a is not None and (a.stream_epoch, a.seq) == (b.stream_epoch, b.seq)
