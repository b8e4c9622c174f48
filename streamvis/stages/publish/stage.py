"""The publisher stage: events go into the log, then onto the feed.

A kill -9 leaves no trace in the log: the events of a batch and the `SourceState` of each source are
one transaction, written before anything is published or answered. A successor continues from the
state in the log. Packets and notices that come again add nothing. Events from the offset of the
last answer on may not have been published: they are published again with the same numbers, but
without attachments, which are not logged. A resumed run publishes no event that was logged before:
the sequence numbers show subscribers what they have missed.

While the log cannot be written, since the disk is full, events are published all the same and are
marked; a successor then continues from the last answer.
"""

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from streamvis.events import envelope
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
from streamvis.events.feed import Feed, Message, remove_announcement
from streamvis.events.kept_log import Missing
from streamvis.events.log import Cursor, LogDiskError, LogWriter, Row
from streamvis.events.replay_process import ReplayProcess
from streamvis.events.retention import FOREVER, Retention
from streamvis.events.topics import SYSTEM
from streamvis.messages import (
    ClipEvent,
    Ending,
    Findings,
    Notice,
    Packet,
    Receipt,
    SourceInfo,
    StageRun,
)
from streamvis.stages.protocol import Site
from streamvis.stages.publish import Publish
from streamvis.stages.publish.derive import (
    SourceEvents,
    SourceStatus,
    TimedDraft,
    kinds_with_events,
)
from streamvis.stages.publish.frames import frame_rows
from streamvis.stages.publish.opening import FeedPlace, Run, open_log
from streamvis.stages.publish.source_state import (
    Began,
    PublishedSource,
    PublisherState,
    SourceState,
    StreamPosition,
    answered_state,
    later,
    logged_state,
)
from streamvis.stages.publish.system import SystemEvents

CLIPS = 64  # that wait for the next receipt, at most


class Numbering(Protocol):
    """Where a source's numbers have come to."""

    next: int  # offset of the next event
    tseq: dict[str, int]  # family -> last


class OutgoingEvent(NamedTuple):
    """An event as it is logged, and its attachments, which only the feed has."""

    row: Row
    attachments: tuple[bytes, ...] = ()


class _Identified(msgspec.Struct):
    """What is read of an event that was encoded before."""

    id: str


_encoder = msgspec.msgpack.Encoder()


class PublishStage:
    """Turn tracks, actions, scenes and notices into events; log them, then publish them."""

    def __init__(self, config: Publish, site: Site) -> None:
        self._kinds = kinds_with_events(site.above)
        masks = "masks" in config.attach and config.bind not in (None, "none")
        self._policy = PublishPolicy(config.every_us(live=False), masks)
        self._live_policy = PublishPolicy(config.every_us(live=True), masks)
        self._epoch = site.epoch or new_epoch()
        self._run = Run(self._epoch, Provenance(pipeline=site.pipeline))
        self._logged = site.logged
        self._sources: dict[str, PublishedSource] = {}
        keys = Path(config.keys) if config.keys else None
        retention = Retention(config.keep_days, config.keep_gb)
        self._outbox = Outbox(
            site.out, config.bind, self._run, keys, replay=config.replay, retention=retention
        )

    @property
    def endpoint(self) -> str | None:
        """The address that the feed is bound to; None without a feed."""
        return self._outbox.endpoint

    def refused_clients(self) -> Mapping[str, int]:
        """Return, by reason, how many connections to the feed were refused."""
        return self._outbox.refused_clients

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or continue it from the state in the log."""
        source = _without_zones(source)
        answered = answered_state(source.id, state) if state is not None else None
        logged = self._outbox.cursor(source.id)
        if logged and logged.epoch == self._epoch:
            source_state = self._later(logged_state(logged.state), answered)
        elif answered:
            source_state = answered.source_state
        else:
            self._start(source, first=logged.next if logged else 0)
            return
        position = answered.position if answered else StreamPosition(source_state.began.at)
        opened = self._opened(source, source_state, position)
        self._outbox.open_source(source.id, source_state.tseq)
        before = self._logged.get(source.id)
        if answered is None and (drafts := opened.begin_again(source, before)) is not None:
            self._commit([opened], self._numbered(source_state, drafts))
            return
        first = answered.source_state.next if answered else source_state.began.next
        rows = self._outbox.send_again(source.id, max(first, before.offset if before else 0))
        self._want_clips(opened, rows)

    def _later(self, logged: SourceState, answered: PublisherState | None) -> SourceState:
        state = later(logged, answered)
        if state.next > logged.next:
            self._outbox.count_missing(state.status.info.id, logged.next, state.next - 1)
        return state

    def _start(self, source: SourceInfo, first: int) -> None:
        status = SourceStatus(info=source, epoch=source.epoch)
        state = SourceState(status, self._epoch, first=first, next=first, began=Began(first))
        opened = self._opened(source, state, StreamPosition())
        self._outbox.open_source(source.id, {})
        self._commit([opened], self._numbered(state, opened.events.start()))

    def _opened(
        self, source: SourceInfo, state: SourceState, position: StreamPosition
    ) -> PublishedSource:
        states = {name: bytes(raw) for name, raw in state.events.items()}
        events = SourceEvents(state.status, self._kinds, self._policy, states, self._live_policy)
        opened = PublishedSource(state, events, position, frozenset(source.clips_on))
        self._sources[source.id] = opened
        return opened

    def __call__(self, packets: Sequence[Packet]) -> list[Receipt]:
        """Log the batch in one transaction, publish it, and return the event count of each packet.

        Of a kind whose part a packet lacks, there are no events.
        """
        outgoing: list[OutgoingEvent] = []
        frames: list[Row] = []
        receipts: list[Receipt] = []
        changed: dict[str, PublishedSource] = {}
        for packet in packets:
            frame = packet.frame
            opened = self._sources[frame.source]
            state, at = opened.state, (frame.epoch, frame.seq)
            opened.position = StreamPosition(at)
            new: list[OutgoingEvent] = []
            if at > state.at:  # otherwise it comes again after a restart
                state.at, state.n, state.noticed = at, frame.n, 0
                new = self._numbered(state, opened.events.frame(packet), packet.ran)
                self._want_clips(opened, [one.row for one in new])
                outgoing += new
                changed[frame.source] = opened
                if self._outbox.wants_frames(frame.source):
                    bodies = opened.events.frame_bodies(packet)
                    frames += frame_rows(frame.source, state.tseq, bodies, *self._run)
            receipts.append(Receipt(written=len(new), clips=opened.clips))
            opened.clips = []
        self._commit(changed.values(), outgoing)
        self._outbox.publish(OutgoingEvent(row) for row in frames)
        return receipts

    def notice(self, notice: Notice) -> None:
        """Handle a notice between packets; a repeated one gives no event.

        After a restart the items since the last answer come again, one by one as before, so that a
        count is enough to distinguish repeated notices from new ones.
        """
        opened = self._sources[notice.source]
        state, position = opened.state, opened.position
        if _replaces_last_packet(notice, state):
            opened.position = position = StreamPosition(state.at)
        if position.at < state.at:
            return
        position.noticed += 1
        if position.noticed <= state.noticed:
            return
        state.noticed = position.noticed
        if notice.info is not None:
            notice = msgspec.structs.replace(notice, info=_without_zones(notice.info))
        outgoing = self._numbered(state, opened.events.notice(notice))
        opened.clips_on = frozenset(notice.info.clips_on) if notice.info else opened.clips_on
        self._want_clips(opened, [one.row for one in outgoing])
        self._commit([opened], outgoing)

    def finish(self, source: str, ending: Ending) -> Findings:
        """End all that is open, then the source; return its findings."""
        opened = self._sources[source]
        state, findings = opened.state, opened.events.findings()
        if not state.ending:
            drafts = opened.events.end(ending)
            state.ending, state.findings = ending, findings
            self._commit([opened], self._numbered(state, drafts))
        del self._sources[source]
        self._outbox.close_source(source)
        return findings

    def state(self, source: str) -> bytes:
        opened = self._sources[source]
        return _encoder.encode(PublisherState(_stored(opened), opened.position))

    def close(self) -> None:
        self._outbox.close(ended=not self._sources)  # open ones: this worker has failed

    def _numbered(
        self,
        state: SourceState,
        drafts: Iterable[TimedDraft],
        ran: dict[str, StageRun] | None = None,
    ) -> list[OutgoingEvent]:
        return numbered(state.status.info.id, state, drafts, self._run, ran)

    def _want_clips(self, opened: PublishedSource, rows: Iterable[Row]) -> None:
        """Ask for a clip of each event of the types that are configured, with the next receipt."""
        for row in rows:
            if row.type in opened.clips_on:
                event = msgspec.json.decode(row.payload, type=_Identified).id
                opened.clips = [*opened.clips, ClipEvent(event, row.type, row.media_us)][-CLIPS:]

    def _commit(
        self, sources: Iterable[PublishedSource], outgoing: Sequence[OutgoingEvent]
    ) -> None:
        self._outbox.send(outgoing, [_cursor(opened) for opened in sources])


class Outbox:
    """The log in `out` and the feed on `bind`, for those with `keys`; each may be None."""

    def __init__(
        self,
        out: Path | None,
        bind: str | None,
        run: Run,
        keys: Path | None = None,
        *,
        replay: bool = False,
        retention: Retention = FOREVER,
    ) -> None:
        self._out = out
        self._run = run
        self._log: LogWriter | None = None
        self._feed: Feed | None = None
        self._replay: ReplayProcess | None = None
        try:
            if out is not None:
                self._log, self._kept = open_log(out, retention)
                self._system = SystemEvents(out, run.epoch, self._log.cursor(SYSTEM))
                for source, missing in self._system.state.missing.items():
                    self._kept.count_missing(source, missing)
            if bind not in (None, "none"):
                self._open_feed(FeedPlace(bind, run, keys, out), replay=replay)
        except BaseException:
            self.close(ended=False)
            raise

    @property
    def endpoint(self) -> str | None:
        """The address that the feed is bound to; None without a feed."""
        return self._feed.endpoint if self._feed else None

    @property
    def refused_clients(self) -> Mapping[str, int]:
        """By reason: how many connections to the feed were refused."""
        return self._feed.refused if self._feed else {}

    def cursor(self, source: str) -> Cursor | None:
        """Return the latest cursor of the source in the log."""
        return (self._kept.cursor(source) or self._log.cursor(source)) if self._log else None

    def open_source(self, source: str, tseq: Mapping[str, int]) -> None:
        """Start heartbeats of a source, which continue these sequence numbers."""
        if self._feed:
            self._feed.open_source(source, dict(tseq))

    def wants_frames(self, source: str) -> bool:
        """Whether there is a subscriber to the frames of a source."""
        return self._feed is not None and self._feed.wants_frames(source)

    def close_source(self, source: str) -> None:
        """Send the last heartbeat of a source."""
        if self._feed:
            self._feed.close_source(source)

    def send(self, outgoing: Sequence[OutgoingEvent], cursors: Sequence[Cursor]) -> None:
        """Log, then publish: an event that is not in the log when it is published is marked."""
        if self._log is None:
            self.publish(outgoing)
        elif cursors:
            self._commit(self._log, outgoing, cursors, self._system.of_disk())
            self._commit_missing(self._log)

    def send_again(self, source: str, first: int) -> list[Row]:
        """Publish the logged events of a source from this offset on again, and return them."""
        rows = list(self._log.events(source, first)) if self._log else []
        self.publish(OutgoingEvent(row) for row in rows)
        return rows

    def count_missing(self, source: str, first: int, last: int) -> None:
        """Count the events from one offset to another as absent from the log for good."""
        if self._log:
            self._kept.count_missing(source, Missing(last - first + 1, first, last))

    def close(self, *, ended: bool) -> None:
        """Commit what is kept, if that is possible, and close; `ended`: so has the run."""
        with ExitStack() as stack:
            if self._log:
                stack.callback(self._log.close)
                if self._replay:
                    stack.callback(self._replay.close, linger=ended)
                stack.callback(self._kept.close)
                self._kept.flush()
                self._commit_missing(self._log)
            if self._feed:
                self._feed.close(ended=ended)
                if self._out:
                    remove_announcement(self._out, self._run.epoch)

    def _open_feed(self, place: FeedPlace, *, replay: bool) -> None:
        if replay and self._log:
            self._replay = place.open_replay(self._log.path)
        address = self._replay.endpoint if self._replay else None
        self._feed = place.open_feed(address)
        if self._replay:
            self._replay.start()
        place.announce(self._feed.endpoint, address)

    def _commit(
        self,
        log: LogWriter,
        outgoing: Sequence[OutgoingEvent],
        cursors: Sequence[Cursor],
        system: Sequence[TimedDraft] = (),
    ) -> None:
        kept = self._kept
        outgoing = [*outgoing, *numbered(SYSTEM, self._system.state, system, self._run)]
        rows = [one.row for one in outgoing]
        if not kept.writable:
            kept.shed(rows)
        if system or kept.missing or not kept.writable:
            cursors = [*cursors, self._system.cursor(kept.missing)]
        unlogged: Container[tuple[str, int]] = frozenset()
        try:
            if kept.writable:
                log.commit(rows, cursors)
        except LogDiskError as error:
            kept.fail(error)
        if not kept.writable:
            unlogged = kept.commit(rows, cursors)
        self.publish(outgoing, unlogged)

    def _commit_missing(self, log: LogWriter) -> None:
        """Publish what will never be in the log, once that is certain."""
        if missing := self._kept.take_missing():
            self._commit(log, [], [], self._system.of_missing(missing))

    def publish(
        self,
        outgoing: Iterable[OutgoingEvent],
        unlogged: Container[tuple[str, int]] = frozenset(),
    ) -> None:
        """Publish events; of those in `unlogged`, say so."""
        if self._feed:
            self._feed.publish(
                Message(
                    row.source,
                    row.type.partition(".")[0],
                    row.tseq,
                    envelope.unlogged(row.payload)
                    if (row.source, row.offset) in unlogged
                    else row.payload,
                    attachments,
                )
                for row, attachments in outgoing
            )


def numbered(
    source: str,
    numbering: Numbering,
    drafts: Iterable[TimedDraft],
    run: Run,
    ran: dict[str, StageRun] | None = None,
) -> list[OutgoingEvent]:
    """Return the drafts as events with the next numbers, and advance `numbering`.

    Events about the frame state which stages `ran`.
    """
    of_frame = msgspec.structs.replace(run.prov, stages=ran) if ran else run.prov
    emit_us = time.time_ns() // 1000
    outgoing = []
    for draft in drafts:
        family = family_of(draft.what)
        numbering.tseq[family] = numbering.tseq.get(family, 0) + 1
        wall_us = draft.time.capture_us or epoch_us(run.epoch) + draft.time.media_us
        event = Event(
            id=event_id(run.epoch, source, numbering.next, wall_us),
            source=source,
            epoch=run.epoch,
            tseq=numbering.tseq[family],
            offset=numbering.next,
            time=msgspec.structs.replace(draft.time, emit_us=emit_us),
            frame=draft.frame,
            prov=run.prov if draft.frame is None else of_frame,
            what=draft.what,
        )
        numbering.next += 1
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


def _without_zones(source: SourceInfo) -> SourceInfo:
    """Return the source as the state of each commit has it: zones would make that heavy."""
    return msgspec.structs.replace(source, zones=None)


def _replaces_last_packet(notice: Notice, state: SourceState) -> bool:
    """Whether the notice comes in place of the last packet, whose events are in the log.

    A packet is given up when workers have died while they processed it, even after its events were
    committed.
    """
    return notice.reason == "poison" and notice.first_n == state.n


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
