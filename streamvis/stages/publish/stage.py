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

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from streamvis.errors import RunError
from streamvis.events.deriver import PublishPolicy
from streamvis.events.envelope import Provenance, new_epoch
from streamvis.events.log import Cursor, Row
from streamvis.messages import ClipEvent, Ending, Findings, Notice, Packet, Receipt, SourceInfo
from streamvis.stages import installed_kinds
from streamvis.stages.protocol import LogPosition, Site, StageConfig, has_events
from streamvis.stages.publish import Publish
from streamvis.stages.publish.derive import SourceEvents, SourceStatus, TimedDraft
from streamvis.stages.publish.numbering import OutgoingEvent, Run, numbered
from streamvis.stages.publish.outbox import Outbox

CLIPS = 64  # that wait for the next receipt, at most


class Began(msgspec.Struct, frozen=True):
    """Where a source was begun last: it may be removed and added again, or resumed."""

    next: int = 0  # offset of the next event then
    at: tuple[int, int] = (0, -1)  # stream epoch and seq of the last packet then


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
    noticed: int = 0  # notices since that packet
    began: Began = Began()
    ending: str = ""
    findings: Findings | None = None  # once the source has ended

    @property
    def reached(self) -> tuple[int, tuple[int, int], int]:
        """Grows with every packet, notice and event."""
        return self.next, self.at, self.noticed


class StreamPosition(msgspec.Struct):
    """The last packet and notice received; behind the source state while packets come again."""

    at: tuple[int, int] = (0, -1)
    noticed: int = 0  # notices since that packet


class PublishedSource(msgspec.Struct):
    """A source from its begin to its end."""

    state: SourceState
    events: SourceEvents
    position: StreamPosition
    clips_on: frozenset[str]  # types of events of which a clip is recorded
    clips: list[ClipEvent] = []  # wanted, and not in a receipt yet


class _Identified(msgspec.Struct):
    """What is read of an event that was encoded before."""

    id: str


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
        self._run = Run(self._epoch, Provenance(pipeline=site.pipeline))
        self._logged = site.logged
        self._sources: dict[str, PublishedSource] = {}
        self._outbox = Outbox(site.out, config.bind, self._run)

    @property
    def endpoint(self) -> str | None:
        """The address that the feed is bound to; None without a feed."""
        return self._outbox.endpoint

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or continue it from the state in the log."""
        answered = _read(source.id, state) if state is not None else None
        logged = self._outbox.cursor(source.id)
        if logged and logged.epoch == self._epoch:
            source_state = self._latest(_states.decode(logged.state), answered)
        elif answered:
            source_state = answered.source_state
        else:
            self._start(source, first=logged.next if logged else 0)
            return
        position = answered.position if answered else StreamPosition(source_state.began.at)
        opened = self._opened(source, source_state, position)
        self._outbox.open_source(source.id, source_state.tseq)
        if answered is None and self._begin_again(source, opened):
            return
        before = self._logged.get(source.id)
        first = answered.source_state.next if answered else source_state.began.next
        rows = self._outbox.send_again(source.id, max(first, before.offset if before else 0))
        self._want_clips(opened, rows)

    def _latest(self, logged: SourceState, answered: PublisherState | None) -> SourceState:
        """Return the later state: that of the log, unless its last events were never logged."""
        if answered is None or answered.source_state.reached <= logged.reached:
            return logged
        state = answered.source_state
        if state.next > logged.next:
            self._outbox.count_missing(state.status.info.id, logged.next, state.next - 1)
        return state

    def _begin_again(self, source: SourceInfo, opened: PublishedSource) -> bool:
        """Begin a source of a resumed run, or one that has ended and is added again.

        Its numbers go on in another stream epoch. False when it is neither: its worker has died.
        """
        state, before = opened.state, self._logged.get(source.id)
        if source.epoch <= state.status.epoch:
            return False
        if before and before == LogPosition(state.next, *state.at):
            drafts = opened.events.resume(source)
        elif state.ending:
            drafts = opened.events.add_again(source)
        else:
            return False
        state.noticed, state.ending, state.findings = 0, "", None
        state.began = Began(state.next, state.at)
        opened.position = StreamPosition(state.at)
        self._commit([opened], self._numbered(state, drafts))
        return True

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
        events = SourceEvents(state.status, self._kinds, self._policy, states)
        opened = PublishedSource(state, events, position, frozenset(source.clips_on))
        self._sources[source.id] = opened
        return opened

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
            opened.position = StreamPosition(at)
            new: list[OutgoingEvent] = []
            if at > state.at:  # otherwise it comes again after a restart
                state.at, state.n, state.noticed = at, frame.n, 0
                new = self._numbered(state, opened.events.frame(packet))
                self._want_clips(opened, [one.row for one in new])
                outgoing += new
                changed[frame.source] = opened
            receipts.append(Receipt(written=len(new), clips=opened.clips))
            opened.clips = []
        self._commit(changed.values(), outgoing)
        return receipts

    def notice(self, notice: Notice) -> None:
        """Handle a notice between packets; a repeated one gives no event.

        After a restart the items since the last answer come again, one by one as before, so that a
        count is enough to tell repeated notices from new ones.
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

    def _numbered(self, state: SourceState, drafts: Iterable[TimedDraft]) -> list[OutgoingEvent]:
        return numbered(state.status.info.id, state, drafts, self._run)

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


def _replaces_last_packet(notice: Notice, state: SourceState) -> bool:
    """Whether the notice comes in place of the last packet, whose events are in the log.

    A packet is given up when workers have died while they processed it, even after its events were
    committed.
    """
    return notice.reason == "poison" and notice.first_n == state.n


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


def _read(source: str, state: bytes) -> PublisherState:
    try:
        return _answers.decode(state)
    except msgspec.DecodeError as error:
        raise RunError(
            f"{source}: the publisher cannot read the state of its predecessor "
            f"({len(state)} bytes): {error}. Run all workers with the same version"
        ) from None
