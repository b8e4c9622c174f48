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
from streamvis.events.deriver import PublishPolicy
from streamvis.events.envelope import (
    Event,
    Provenance,
    encode,
    epoch_us,
    event_id,
    family_of,
    new_epoch,
)
from streamvis.events.feed import (
    Feed,
    Message,
    read_announcement,
    remove_announcement,
    write_announcement,
)
from streamvis.events.log import FILE_NAME, Cursor, LogWriter, Row
from streamvis.messages import Ending, Findings, Notice, Packet, Receipt, SourceInfo
from streamvis.stages import installed_kinds
from streamvis.stages.protocol import LogPosition, Site, StageConfig, has_events
from streamvis.stages.publish import Publish
from streamvis.stages.publish.derive import SourceEvents, SourceStatus, TimedDraft

REMEMBERED = 256  # notices since the last packet, at most


class SourceState(msgspec.Struct):
    """The state from which a successor continues one source."""

    status: SourceStatus
    epoch: str  # of the run
    events: dict[str, msgspec.Raw] = {}  # state of the events of each kind of stage
    first: int = 0  # offset at which this run begins in the log
    next: int = 0  # offset of the next event
    tseq: dict[str, int] = {}  # family -> last
    at: tuple[int, int] = (0, -1)  # stream epoch and seq of the last packet
    n: int = -1  # its number in the source
    notices: list[Notice] = []  # since that packet
    ending: str = ""
    findings: Findings | None = None  # once the source has ended


class StreamPosition(msgspec.Struct):
    """The last packet and notice received; behind the source state while packets come again."""

    at: tuple[int, int] = (0, -1)
    notices: int = 0


class OutgoingEvent(NamedTuple):
    """An event as it is logged, and its attachments, which only the feed has."""

    row: Row
    attachments: tuple[bytes, ...] = ()


class PublishedSource(NamedTuple):
    """A source while it is open."""

    state: SourceState
    events: SourceEvents


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
        self._kinds = _kinds_with_events(site.above)
        self._policy = PublishPolicy(
            every_us=round(config.update_every_s * 1e6),
            masks="masks" in config.attach and config.bind not in (None, "none"),
        )
        self._epoch = site.epoch or new_epoch()
        self._prov = Provenance(pipeline=site.pipeline)
        self._out = site.out
        self._logged = site.logged
        self._sources: dict[str, PublishedSource] = {}
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
        states = {name: bytes(raw) for name, raw in source_state.events.items()}
        events = SourceEvents(source_state.status, self._kinds, self._policy, states)
        opened = self._sources[source.id] = PublishedSource(source_state, events)
        self._positions[source.id] = answered.position if answered else StreamPosition()
        if self._feed:
            self._feed.open_source(source.id, source_state.tseq)
        if self._log:
            before = self._logged.get(source.id)
            first = answered.source_state.next if answered else source_state.first
            first = max(first, before.offset) if before else first
            self._publish(OutgoingEvent(row) for row in self._log.events(source.id, first))
            if before and not answered:
                self._resume(source, opened, before)

    def _resume(self, source: SourceInfo, opened: PublishedSource, before: LogPosition) -> None:
        """Continue a resumed run in another stream epoch: close everything open."""
        state = opened.state
        if (before.epoch, before.seq) != state.at or source.epoch <= before.epoch:
            return
        if state.next == before.offset and source.epoch > state.status.epoch:
            state.notices, state.ending, state.findings = [], "", None
            self._commit([opened], self._numbered(state, opened.events.resume(source)))
        self._positions[source.id] = StreamPosition(state.at)

    def _start(self, source: SourceInfo, first: int) -> None:
        status = SourceStatus(info=source, epoch=source.epoch)
        state = SourceState(status, self._epoch, first=first, next=first)
        opened = PublishedSource(state, SourceEvents(status, self._kinds, self._policy))
        self._sources[source.id] = opened
        self._positions[source.id] = StreamPosition()
        if self._feed:
            self._feed.open_source(source.id)
        self._commit([opened], self._numbered(state, opened.events.start()))

    def __call__(self, packets: Sequence[Packet]) -> list[Receipt]:
        """Log the batch in one transaction, publish it, and return the event count of each packet.

        Of a kind whose part a packet lacks, there are no events.
        """
        outgoing: list[OutgoingEvent] = []
        receipts: list[Receipt] = []
        changed: dict[str, PublishedSource] = {}
        for packet in packets:
            frame = packet.frame
            opened = self._sources[frame.source]
            state, at = opened.state, (frame.epoch, frame.seq)
            self._positions[frame.source] = StreamPosition(at)
            if at <= state.at:  # it comes again after a restart
                receipts.append(Receipt())
                continue
            state.at, state.n, state.notices = at, frame.n, []
            new = self._numbered(state, opened.events.frame(packet))
            outgoing += new
            receipts.append(Receipt(written=len(new)))
            changed[frame.source] = opened
        self._commit(changed.values(), outgoing)
        return receipts

    def notice(self, notice: Notice) -> None:
        """Handle a notice between packets; a repeated one gives no event."""
        opened, position = self._sources[notice.source], self._positions[notice.source]
        state = opened.state
        if position.at < state.at:
            return
        ahead = state.notices[position.notices :]
        if notice in ahead:
            position.notices += ahead.index(notice) + 1
            return
        state.notices = [*state.notices[-REMEMBERED + 1 :], notice]
        position.notices = len(state.notices)
        self._commit([opened], self._numbered(state, opened.events.notice(notice)))

    def finish(self, source: str, ending: Ending) -> Findings:
        """End all that is open, then the source; return its findings."""
        opened = self._sources[source]
        state, findings = opened.state, opened.events.findings()
        if not state.ending:
            drafts = opened.events.end(ending)
            state.ending, state.findings = ending, findings
            self._commit([opened], self._numbered(state, drafts))
        del self._sources[source], self._positions[source]
        if self._feed:
            self._feed.close_source(source)
        return findings

    def state(self, source: str) -> bytes:
        opened = self._sources[source]
        return _encoder.encode(PublisherState(_stored(opened), self._positions[source]))

    def close(self) -> None:
        if self._feed:
            self._feed.close(ended=not self._sources)  # open ones: this worker has failed
            if self._out:
                remove_announcement(self._out, self._epoch)
        if self._log:
            self._log.close()

    def _numbered(
        self, source_state: SourceState, drafts: Iterable[TimedDraft]
    ) -> list[OutgoingEvent]:
        source, emit_us = source_state.status.info.id, time.time_ns() // 1000
        outgoing = []
        for draft in drafts:
            family = family_of(draft.what)
            source_state.tseq[family] = source_state.tseq.get(family, 0) + 1
            wall_us = draft.time.capture_us or epoch_us(self._epoch) + draft.time.media_us
            event = Event(
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
                encode(event),
            )
            outgoing.append(OutgoingEvent(row, draft.attachments))
        return outgoing

    def _commit(self, sources: Iterable[PublishedSource], outgoing: list[OutgoingEvent]) -> None:
        """Log, then publish: a published event is never missing from the log."""
        if self._log and (cursors := [_cursor(opened) for opened in sources]):
            self._log.commit([one.row for one in outgoing], cursors)
        self._publish(outgoing)

    def _publish(self, outgoing: Iterable[OutgoingEvent]) -> None:
        if self._feed:
            self._feed.publish(
                Message(row.source, row.type.partition(".")[0], row.tseq, row.payload, attachments)
                for row, attachments in outgoing
            )


def _kinds_with_events(above: Sequence[StageConfig]) -> list[StageConfig]:
    """Return the settings of each kind with events, once, in the order of all kinds."""
    first: dict[type[StageConfig], StageConfig] = {}
    for config in above:
        first.setdefault(type(config), config)
    return [
        first[kind] for kind in installed_kinds().kinds if kind in first and has_events(first[kind])
    ]


def _stored(opened: PublishedSource) -> SourceState:
    """Return the state with the states of all kinds of events."""
    opened.state.events = {
        name: msgspec.Raw(state) for name, state in opened.events.states().items()
    }
    return opened.state


def _cursor(opened: PublishedSource) -> Cursor:
    state = _stored(opened)
    return Cursor(
        state.status.info.id,
        state.epoch,
        state.first,
        state.next,
        state.ending,
        _encoder.encode(state),
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
