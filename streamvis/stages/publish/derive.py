"""Derive the events of one source: its own, and those of the kinds of stages above. Pure.

The events of a frame come in this order: corrections of earlier events, ends, then begins and
updates. Corrections and updates follow the order of the kinds; an end comes before the ends of the
kinds that its own reads, so that an action ends before the track of its person.
"""

from collections.abc import Mapping, Sequence

import msgspec

from streamvis.events.deriver import Deriver, FrameDeriver, PublishPolicy
from streamvis.events.envelope import EventBody, FrameRef, Reason, Time
from streamvis.events.source_events import (
    Change,
    Clip,
    Finish,
    Gap,
    Restart,
    SourceClip,
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
from streamvis.stages import installed_kinds
from streamvis.stages.protocol import StageConfig, has_events, kind_name


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
    status: str = "online"  # empty before the first notice of a source that was never open
    restart: str = ""  # why the next stream epoch begins
    frames: int = 0
    media_us: int = 0  # of the last frame


class SourceEvents:
    """Derives the events of one source. `status` and `states` are all that it remembers.

    `live` is the policy of a live source; None: the same as of a file.
    """

    def __init__(
        self,
        status: SourceStatus,
        kinds: Sequence[StageConfig],
        policy: PublishPolicy,
        states: Mapping[str, bytes] | None = None,
        live: PublishPolicy | None = None,
    ) -> None:
        self.status = status
        self._kinds = kinds
        self._policies = (policy, live or policy)
        self._closing = _readers_first(kinds)
        self.derivers = self._derivers(states or {})  # by name of the kind, in order

    def _derivers(self, states: Mapping[str, bytes]) -> dict[str, Deriver]:
        info = self.status.info
        return {
            name: kind.deriver(info, self._policies[info.live], states.get(name))
            for kind in self._kinds
            for name in [kind_name(type(kind))]
        }

    def states(self) -> dict[str, bytes]:
        """Return the state of each deriver."""
        return {name: deriver.state() for name, deriver in self.derivers.items()}

    def start(self) -> list[TimedDraft]:
        """Return the first event of a source that has just begun: none before it is open."""
        if not self.status.info.width:
            self.status.status = ""
            return []
        return [TimedDraft(SourceOnline(_stream(self.status.info)), _time(self.status, 0))]

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

    def frame_bodies(self, packet: Packet) -> list[TimedDraft]:
        """Return the brief events of a frame that is not logged, after `frame`."""
        time, frame_ref = _time_and_frame(packet.frame)
        describing = (one for one in self.derivers.values() if isinstance(one, FrameDeriver))
        bodies = (deriver.frame_body(packet) for deriver in describing)
        return [TimedDraft(what, time, frame_ref) for what in bodies if what is not None]

    def notice(self, notice: Notice) -> list[TimedDraft]:
        """Return the events of a notice; none for a status that the source already has."""
        status = self.status
        time = _time(status, notice.media_us)
        match notice.kind:
            case "epoch":  # published with the epoch's first frame, which has its number
                status.restart = notice.reason or status.restart
                return []
            case "gap":
                first, last, count = notice.first_n, notice.last_n, notice.count
                gap = Gap(first=first, last=last, reason=notice.reason, count=count)
                return [TimedDraft(SourceGap(gap), time)]
            case "clip":
                clip = Clip(path=notice.path, event=notice.event)
                return [TimedDraft(SourceClip(clip), time)]
            case "zones":  # the stage that counts in them publishes the change
                return []
            case "online":
                return self._online(notice.info or status.info, time)
        if notice.kind == status.status:
            return []
        status.status = notice.kind
        kind = {
            "connecting": SourceConnecting,
            "stalled": SourceStalled,
            "offline": SourceOffline,
        }[notice.kind]
        return [TimedDraft(kind(Change(notice.reason)), time)]

    def _online(self, info: SourceInfo, time: Time) -> list[TimedDraft]:
        """Publish that the source is online: again where it is so with another size or rate."""
        status, before = self.status, _stream(self.status.info)
        status.info = info
        if status.frames == 0 and not status.restart:
            status.epoch = info.epoch  # no frame of another stream epoch came before
        if (changed := _stream(info)) != before:
            self.derivers = self._derivers(self.states())
        elif status.status == "online":
            return []
        status.status = "online"
        return [TimedDraft(SourceOnline(changed), time)]

    def resume(self, info: SourceInfo) -> list[TimedDraft]:
        """Continue a source in its next stream epoch after a resume: close everything open."""
        status = self.status
        status.restart = "resumed"
        drafts = self._start_epoch(info.epoch)
        if not info.width:  # it is not open yet
            return drafts
        status.info = info
        if status.status != "online":
            status.status = "online"
            drafts.append(TimedDraft(SourceOnline(_stream(info)), Time(media_us=status.media_us)))
        return drafts

    def add_again(self, info: SourceInfo) -> list[TimedDraft]:
        """Begin a source that has ended again: its first frame starts a stream epoch."""
        self.status.info, self.status.restart, self.status.frames = info, "added", 0
        self.derivers = self._derivers(self.states())
        return self.start()

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
        n=frame.n,
        seq=frame.seq,
        w=frame.width,
        h=frame.height,
        stream_epoch=frame.epoch,
        suspect=frame.suspect,
    )
    return Time(media_us=frame.media_us, capture_us=frame.capture_us, clock=frame.clock), frame_ref


def _time(status: SourceStatus, media_us: int) -> Time:
    """Return the time of an event without a frame: only some files have a wall clock."""
    wall_us = status.info.wall_us(media_us)
    return Time(media_us=media_us, capture_us=wall_us, clock="file" if wall_us else "none")


def _stream(info: SourceInfo) -> Stream:
    return Stream(label=info.label, w=info.width, h=info.height, fps=info.fps, live=info.live)


def kinds_with_events(above: Sequence[StageConfig]) -> list[StageConfig]:
    """Return the settings of each kind with events, once, in the order of all kinds."""
    first: dict[type[StageConfig], StageConfig] = {}
    for config in above:
        first.setdefault(type(config), config)
    return [
        first[kind] for kind in installed_kinds().kinds if kind in first and has_events(first[kind])
    ]
