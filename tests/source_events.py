"""The events of one source, derived from parts without a pipeline, a log or a feed."""

from typing import Any

import msgspec

from streamvis.config import Alarm, Forecaster, Jipda, OffActions, Segment
from streamvis.events.deriver import PublishPolicy
from streamvis.messages import Ending, Findings, Frame, Notice, Packet, Part, SourceInfo
from streamvis.stages.publish.derive import SourceEvents, SourceStatus, TimedDraft

KINDS = (Jipda(), OffActions(), Segment(), Forecaster())


def start_source(info: SourceInfo) -> tuple[SourceEvents, list[TimedDraft]]:
    """Return a source with the events of all kinds, and its first events."""
    events = SourceEvents(SourceStatus(info, info.epoch), KINDS, PublishPolicy())
    return events, events.start()


def frame_events(
    events: SourceEvents,
    frame: Frame,
    *parts: Part | None,
    every_us: int = 0,
    masks: bool = False,
    alarm: Alarm | None = None,
) -> list[TimedDraft]:
    """Return the events of a frame with these parts, under this policy."""
    for deriver in events.derivers.values():
        deriver.policy = PublishPolicy(every_us, masks)
    if alarm is not None:
        events.derivers["segment"].alarm = alarm
    return events.frame(Packet(frame=frame, parts=[part for part in parts if part is not None]))


def notice_events(events: SourceEvents, notice: Notice) -> list[TimedDraft]:
    return events.notice(notice)


def end_source(events: SourceEvents, ending: Ending) -> list[TimedDraft]:
    return events.end(ending)


def source_findings(events: SourceEvents) -> Findings:
    return events.findings()


def inner(events: SourceEvents, kind: str) -> Any:
    """Return the state of the events of one kind."""
    return events.derivers[kind]._state


def successor(events: SourceEvents) -> SourceEvents:
    """Return the events that continue from the stored state."""
    status = msgspec.msgpack.decode(msgspec.msgpack.encode(events.status), type=SourceStatus)
    return SourceEvents(status, KINDS, PublishPolicy(), events.states())
