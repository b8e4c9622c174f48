"""Derive the events of one source: its own, and those of the kinds of stages above. Pure.

The events of a frame come in this order: corrections of earlier events, ends, then begins and
updates. Corrections and updates follow the order of the kinds; an end comes before the ends of the
kinds that its own reads, so that an action ends before the track of its person.
"""

from collections.abc import Mapping, Sequence

import msgspec

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.envelope import EventBody, FrameRef, Reason, Time
from streamvis.events.source_events import (
    Change,
    Finish,
    Gap,
    Restart,
    SourceConnecting,
    SourceEof,
    SourceEpoch,
    SourceGap,
    SourceOffline,
    SourceOnline,
    SourceStalled,
    Stream,
)
from streamvis.messages import Ending, Findings, Frame, Notice, Packet, SourceInfo
from streamvis.stages.protocol import StageConfig, kind_name


class TimedDraft(msgspec.Struct, frozen=True):
    """An event body with its time, its frame if it is about one, and its attachments."""

    what: EventBody
    time: Time
    frame: FrameRef | None = None
    attachments: tuple[bytes, ...] = ()


class SourceStatus(msgspec.Struct):
    """How far a source has come."""

    info: SourceInfo
    epoch: int = 1  # stream epoch
    status: str = "online"
    restart: str = ""  # why the next stream epoch begins
    frames: int = 0
    media_us: int = 0  # of the last frame


class SourceEvents:
    """Derives the events of one source. `status` and `states` are all that it remembers."""

    def __init__(
        self,
        status: SourceStatus,
        kinds: Sequence[StageConfig],
        policy: PublishPolicy,
        states: Mapping[str, bytes] | None = None,
    ) -> None:
        self.status = status
        self.derivers: dict[str, Deriver] = {}  # by name of the kind, in order
        for kind in kinds:
            name = kind_name(type(kind))
            state = states.get(name) if states else None
            self.derivers[name] = kind.deriver(status.info, policy, state)
        self._closing = _readers_first(kinds)

    def states(self) -> dict[str, bytes]:
        """Return the state of each deriver."""
        return {name: deriver.state() for name, deriver in self.derivers.items()}

    def start(self) -> list[TimedDraft]:
        """Return the first event of a source that has just been opened."""
        return [TimedDraft(SourceOnline(_stream(self.status)), _time(self.status, 0))]

    def frame(self, packet: Packet) -> list[TimedDraft]:
        """Return the events of a frame; of a kind whose part is absent, none."""
        status, frame = self.status, packet.frame
        drafts = [] if frame.epoch == status.epoch else self._start_epoch(frame.epoch)
        status.frames += 1
        status.media_us = frame.media_us
        time, frame_ref = _time_and_frame(frame)
        events = {name: deriver.derive(packet) for name, deriver in self.derivers.items()}
        bodies = [what for one in events.values() for what in one.corrections]
        bodies += [what for name in self._closing for what in events[name].ends]
        drafts += [TimedDraft(what, time, frame_ref) for what in bodies]
        return drafts + [
            TimedDraft(what, time, frame_ref, attachments)
            for one in events.values()
            for what, attachments in one.drafts
        ]

    def notice(self, notice: Notice) -> list[TimedDraft]:
        """Return the events of a notice; none for a status that the source already has."""
        status = self.status
        if notice.kind == "epoch":  # published with the epoch's first frame, which has its number
            status.restart = notice.reason
            return []
        time = _time(status, notice.media_us)
        if notice.kind == "gap":
            first, last, count = notice.first_n, notice.last_n, notice.count
            gap = Gap(first=first, last=last, reason=notice.reason, count=count)
            return [TimedDraft(SourceGap(gap), time)]
        if notice.kind == status.status:
            return []
        status.status = notice.kind
        what: EventBody
        match notice.kind:
            case "online":
                what = SourceOnline(_stream(status))
            case "connecting":
                what = SourceConnecting(Change(notice.reason))
            case "stalled":
                what = SourceStalled(Change(notice.reason))
            case "offline":
                what = SourceOffline(Change(notice.reason))
        return [TimedDraft(what, time)]

    def resume(self, info: SourceInfo) -> list[TimedDraft]:
        """Continue a source in its next stream epoch after a resume: close everything open."""
        status = self.status
        status.restart = "resumed"
        drafts = self._start_epoch(info.epoch)
        status.info = info
        if status.status != "online":
            status.status = "online"
            online = SourceOnline(_stream(status))
            drafts.append(TimedDraft(online, Time(media_us=status.media_us)))
        return drafts

    def end(self, ending: Ending) -> list[TimedDraft]:
        """End a source, and with it all that is open."""
        time = _time(self.status, self.status.media_us)
        drafts = self._close(ending, time)
        if ending == "eof":
            drafts.append(TimedDraft(SourceEof(Finish(self.status.frames)), time))
        return drafts

    def findings(self) -> Findings:
        """Return the findings so far."""
        findings = Findings()
        for deriver in self.derivers.values():
            findings = deriver.findings(findings)
        return findings

    def _start_epoch(self, epoch: int) -> list[TimedDraft]:
        status = self.status
        time = _time(status, status.media_us)
        drafts = self._close("epoch", time)
        restart = Restart(epoch, status.restart)
        status.epoch, status.restart = epoch, ""
        return [*drafts, TimedDraft(SourceEpoch(restart), time)]

    def _close(self, reason: Reason, time: Time) -> list[TimedDraft]:
        bodies = [what for name in self._closing for what in self.derivers[name].close(reason)]
        return [TimedDraft(what, time) for what in bodies]


def _readers_first(kinds: Sequence[StageConfig]) -> list[str]:
    """Return the names of the kinds, each after those that read its part."""
    ordered: dict[str, None] = {}

    def add(kind: StageConfig) -> None:
        for reader in kinds:
            if reader.uses(kind) and reader is not kind:
                add(reader)
        ordered[kind_name(type(kind))] = None

    for kind in kinds:
        add(kind)
    return list(ordered)


def _time_and_frame(frame: Frame) -> tuple[Time, FrameRef]:
    frame_ref = FrameRef(
        n=frame.n, seq=frame.seq, w=frame.width, h=frame.height, stream_epoch=frame.epoch
    )
    return Time(media_us=frame.media_us, capture_us=frame.capture_us, clock=frame.clock), frame_ref


def _time(status: SourceStatus, media_us: int) -> Time:
    """Return the time of an event without a frame: only some files have a wall clock."""
    wall_us = status.info.wall_us(media_us)
    return Time(media_us=media_us, capture_us=wall_us, clock="file" if wall_us else "none")


def _stream(status: SourceStatus) -> Stream:
    info = status.info
    return Stream(label=info.label, w=info.width, h=info.height, fps=info.fps, live=info.live)
