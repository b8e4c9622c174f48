"""The publisher stage: events go into the log, then onto the feed.

A kill -9 leaves no trace in the log: the events of a batch and the `SourceState` of each source are
one transaction, written before anything is published or answered. A successor continues from the
state in the log. Packets and notices that come again add nothing. Events from the offset of the
last answer on may not have been published: they are published again with the same numbers, but
without attachments, which are not logged. A resumed run publishes no event that was logged before:
the sequence numbers show subscribers what they have missed.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamvis.errors import RunError
from streamvis.events import derive, schema
from streamvis.events.derive import Draft, State
from streamvis.events.feed import (
    Feed,
    Message,
    read_announcement,
    remove_announcement,
    write_announcement,
)
from streamvis.events.ids import epoch_us, event_id, new_epoch
from streamvis.events.log import FILE_NAME, Cursor, LogWriter, Row
from streamvis.events.scenes import PublishPolicy
from streamvis.messages import (
    Actions,
    Ending,
    Findings,
    Forecast,
    Notice,
    Packet,
    Receipt,
    Segmentation,
    SourceInfo,
    Tracks,
)
from streamvis.stages.protocol import LogPosition, Site
from streamvis.stages.publish import Publish

REMEMBERED = 256  # notices since the last packet, at most


class SourceState(msgspec.Struct, rename={"notices": "told"}):
    """The state from which a successor continues one source."""

    derived: State
    epoch: str  # of the run
    first: int = 0  # offset at which this run begins in the log
    next: int = 0  # offset of the next event
    tseq: dict[str, int] = {}  # family -> last
    at: tuple[int, int] = (0, -1)  # stream epoch and seq of the last packet
    n: int = -1  # its number in the source
    notices: list[Notice] = []  # since that packet
    ending: str = ""


class StreamPosition(msgspec.Struct, rename={"notices": "told"}):
    """The last packet and notice received; behind the source state while packets come again."""

    at: tuple[int, int] = (0, -1)
    notices: int = 0


class OutgoingEvent(NamedTuple):
    """An event as it is logged, and its attachments, which only the feed has."""

    row: Row
    attachments: tuple[bytes, ...] = ()


class PublisherState(NamedTuple):
    """The stage state that is returned with each answer."""

    source_state: SourceState
    position: StreamPosition


_encoder = msgspec.msgpack.Encoder()
_states = msgspec.msgpack.Decoder(SourceState)
_answers = msgspec.msgpack.Decoder(PublisherState)


class PublishStage:
    """Turn tracks, actions, scenes and notices into events; log them, then publish them."""

    def __init__(self, config: Publish, site: Site) -> None:
        self._policy = PublishPolicy(
            every_us=round(config.update_every_s * 1e6),
            alarm=config.unknown,
            masks="masks" in config.attach and config.bind not in (None, "none"),
        )
        self._epoch = site.epoch or new_epoch()
        self._prov = schema.Provenance(pipeline=site.pipeline)
        self._out = site.out
        self._logged = site.logged
        self._states: dict[str, SourceState] = {}
        self._positions: dict[str, StreamPosition] = {}
        self._log: LogWriter | None = None
        self._feed: Feed | None = None
        try:
            if site.out is not None:
                self._log = _open_log(site.out)
            if config.bind not in (None, "none"):
                self._feed = self._open_feed(config.bind)
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> str | None:
        """The address the feed is bound to; None without a feed."""
        return self._feed.endpoint if self._feed else None

    def _open_feed(self, bind: str) -> Feed:
        """Open the feed; a successor binds the port of its predecessor again."""
        feed = None
        note = read_announcement(self._out) if self._out and bind.endswith(":*") else None
        if note and note[1] == self._epoch:
            with suppress(RunError):
                feed = Feed(note[0], epoch=self._epoch, pipeline=self._prov.pipeline)
        feed = feed or Feed(bind, epoch=self._epoch, pipeline=self._prov.pipeline)
        if self._out:
            write_announcement(self._out, feed.endpoint, self._epoch)
        return feed

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or continue it from the state in the log."""
        answered = _read(source.id, state) if state is not None else None
        logged = self._log.cursor(source.id) if self._log else None
        if logged and logged.epoch == self._epoch:
            source_state = _states.decode(logged.state)
        elif answered:
            source_state = answered.source_state
        else:
            self._start(source, first=logged.next if logged else 0)
            return
        self._states[source.id] = source_state
        self._positions[source.id] = answered.position if answered else StreamPosition()
        if self._feed:
            self._feed.open_source(source.id, source_state.tseq)
        if self._log:
            before = self._logged.get(source.id)
            first = answered.source_state.next if answered else source_state.first
            first = max(first, before.offset) if before else first
            self._publish(OutgoingEvent(row) for row in self._log.events(source.id, first))
            if before and not answered:
                self._resume(source, source_state, before)

    def _resume(self, source: SourceInfo, source_state: SourceState, before: LogPosition) -> None:
        """Continue a resumed run in another stream epoch: close everything open."""
        if (before.epoch, before.seq) != source_state.at or source.epoch <= before.epoch:
            return
        if source_state.next == before.offset and source.epoch > source_state.derived.epoch:
            source_state.notices, source_state.ending = [], ""
            self._commit(
                [source_state],
                self._numbered(source_state, derive.resume_source(source_state.derived, source)),
            )
        self._positions[source.id] = StreamPosition(source_state.at)

    def _start(self, source: SourceInfo, first: int) -> None:
        derived, drafts = derive.start_source(source)
        source_state = SourceState(derived, self._epoch, first=first, next=first)
        self._states[source.id] = source_state
        self._positions[source.id] = StreamPosition()
        if self._feed:
            self._feed.open_source(source.id)
        self._commit([source_state], self._numbered(source_state, drafts))

    def __call__(self, packets: Sequence[Packet]) -> list[Receipt]:
        """Log the batch in one transaction, publish it, and return the event count of each packet.

        A packet without `Tracks` gives no track events, and so on.
        """
        outgoing: list[OutgoingEvent] = []
        receipts: list[Receipt] = []
        changed: dict[str, SourceState] = {}
        for packet in packets:
            frame = packet.frame
            source_state = self._states[frame.source]
            at = (frame.epoch, frame.seq)
            self._positions[frame.source] = StreamPosition(at)
            if at <= source_state.at:  # it comes again after a restart
                receipts.append(Receipt())
                continue
            source_state.at, source_state.n, source_state.notices = at, frame.n, []
            new = self._numbered(source_state, self._derive(source_state.derived, packet))
            outgoing += new
            receipts.append(Receipt(written=len(new)))
            changed[frame.source] = source_state
        self._commit(changed.values(), outgoing)
        return receipts

    def _derive(self, state: State, packet: Packet) -> list[Draft]:
        frame, policy = packet.frame, self._policy
        tracks, actions = packet.part(Tracks), packet.part(Actions)
        seen, forecast = packet.part(Segmentation), packet.part(Forecast)
        drafts = derive.derive_frame_events(state, frame, tracks, policy.every_us, actions)
        return drafts + derive.derive_scene_events(state, frame, seen, forecast, policy)

    def notice(self, notice: Notice) -> None:
        """Handle a notice between packets; a repeated one gives no event."""
        source_state, position = self._states[notice.source], self._positions[notice.source]
        if position.at < source_state.at:
            return
        ahead = source_state.notices[position.notices :]
        if notice in ahead:
            position.notices += ahead.index(notice) + 1
            return
        source_state.notices = [*source_state.notices[-REMEMBERED + 1 :], notice]
        position.notices = len(source_state.notices)
        self._commit(
            [source_state],
            self._numbered(source_state, derive.derive_notice_events(source_state.derived, notice)),
        )

    def finish(self, source: str, ending: Ending) -> Findings:
        """End open tracks, then the source; return its findings."""
        source_state = self._states[source]
        if not source_state.ending:
            source_state.ending = ending
            self._commit(
                [source_state],
                self._numbered(source_state, derive.end_source(source_state.derived, ending)),
            )
        del self._states[source], self._positions[source]
        if self._feed:
            self._feed.close_source(source)
        return derive.source_findings(source_state.derived)

    def state(self, source: str) -> bytes:
        return _encoder.encode(PublisherState(self._states[source], self._positions[source]))

    def close(self) -> None:
        if self._feed:
            self._feed.close(ended=not self._states)  # open ones: this worker has failed
            if self._out:
                remove_announcement(self._out, self._epoch)
        if self._log:
            self._log.close()

    def _numbered(self, source_state: SourceState, drafts: Iterable[Draft]) -> list[OutgoingEvent]:
        source, emit_us = source_state.derived.info.id, time.time_ns() // 1000
        outgoing = []
        for draft in drafts:
            family = schema.family_of(draft.what)
            source_state.tseq[family] = source_state.tseq.get(family, 0) + 1
            wall_us = draft.time.capture_us or epoch_us(self._epoch) + draft.time.media_us
            event = schema.Event(
                id=event_id(self._epoch, source, source_state.next, wall_us),
                source=source,
                epoch=self._epoch,
                tseq=source_state.tseq[family],
                offset=source_state.next,
                time=msgspec.structs.replace(draft.time, emit_us=emit_us),
                frame=draft.frame,
                prov=self._prov,
                what=draft.what,
            )
            source_state.next += 1
            row = Row(
                source,
                event.offset,
                event.tseq,
                event.type,
                event.time.media_us,
                schema.encode(event),
            )
            outgoing.append(OutgoingEvent(row, draft.attachments))
        return outgoing

    def _commit(self, source_states: Iterable[SourceState], outgoing: list[OutgoingEvent]) -> None:
        """Log, then publish: a published event is never missing from the log."""
        if self._log:
            cursors = [
                Cursor(
                    source_state.derived.info.id,
                    source_state.epoch,
                    source_state.first,
                    source_state.next,
                    source_state.ending,
                    _encoder.encode(source_state),
                )
                for source_state in source_states
            ]
            if cursors:
                self._log.commit([one.row for one in outgoing], cursors)
        self._publish(outgoing)

    def _publish(self, outgoing: Iterable[OutgoingEvent]) -> None:
        if self._feed:
            self._feed.publish(
                Message(row.source, row.type.partition(".")[0], row.tseq, row.payload, attachments)
                for row, attachments in outgoing
            )


def _open_log(out: Path) -> LogWriter:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot make the output directory: {error.strerror}") from None
    return LogWriter(out / FILE_NAME)


def _read(source: str, state: bytes) -> PublisherState:
    try:
        return _answers.decode(state)
    except msgspec.DecodeError as error:
        raise RunError(
            f"{source}: the publisher cannot read the state of its predecessor "
            f"({len(state)} bytes): {error}. Run all workers with the same version"
        ) from None
