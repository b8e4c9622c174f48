"""The numbers of events: offsets in the log, and sequence numbers in the topics of the feed."""

import time
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec

from streamvis.events.envelope import Event, Provenance, encode, epoch_us, event_id, family_of
from streamvis.events.log import Row
from streamvis.stages.publish.derive import TimedDraft


class Counts(Protocol):
    """Where a source's numbers have come to."""

    next: int  # offset of the next event
    tseq: dict[str, int]  # family -> last


class Run(NamedTuple):
    """What all events of a run share."""

    epoch: str
    prov: Provenance


class OutgoingEvent(NamedTuple):
    """An event as it is logged, and its attachments, which only the feed has."""

    row: Row
    attachments: tuple[bytes, ...] = ()


def numbered(
    source: str, counts: Counts, drafts: Iterable[TimedDraft], run: Run
) -> list[OutgoingEvent]:
    """Return the drafts as events with the next numbers, and advance `counts`."""
    emit_us = time.time_ns() // 1000
    outgoing = []
    for draft in drafts:
        family = family_of(draft.what)
        counts.tseq[family] = counts.tseq.get(family, 0) + 1
        wall_us = draft.time.capture_us or epoch_us(run.epoch) + draft.time.media_us
        event = Event(
            id=event_id(run.epoch, source, counts.next, wall_us),
            source=source,
            epoch=run.epoch,
            tseq=counts.tseq[family],
            offset=counts.next,
            time=msgspec.structs.replace(draft.time, emit_us=emit_us),
            frame=draft.frame,
            prov=run.prov,
            what=draft.what,
        )
        counts.next += 1
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
