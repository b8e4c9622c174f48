"""Brief events of each frame, made while their topic has a subscriber, and never logged."""

import time
from collections.abc import Iterable

import msgspec

from streamvis.events.envelope import (
    Event,
    Provenance,
    encode,
    epoch_us,
    event_id,
    family_of,
    type_of,
)
from streamvis.events.log import Row
from streamvis.stages.publish.derive import TimedDraft


def frame_rows(
    source: str, tseq: dict[str, int], drafts: Iterable[TimedDraft], epoch: str, prov: Provenance
) -> list[Row]:
    """Return the drafts as events outside of the log, and advance the `tseq` of their family."""
    rows = []
    for draft in drafts:
        family = family_of(draft.what)
        tseq[family] = tseq.get(family, 0) + 1
        wall_us = draft.time.capture_us or epoch_us(epoch) + draft.time.media_us
        event = Event(
            id=event_id(epoch, f"{source}/{family}", tseq[family], wall_us),
            source=source,
            epoch=epoch,
            tseq=tseq[family],
            offset=-1,
            time=msgspec.structs.replace(draft.time, emit_us=time.time_ns() // 1000),
            frame=draft.frame,
            prov=prov,
            what=draft.what,
        )
        kind, media_us = type_of(draft.what), draft.time.media_us
        rows.append(Row(source, -1, event.tseq, kind, media_us, encode(event)))
    return rows
