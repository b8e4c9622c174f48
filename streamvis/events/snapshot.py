"""The state of a source as a fold of its events: what a subscriber that joins late has to know.

    state = SourceState()
    for row in rows:
        fold(state, row.payload, identities)
    state.events()

The state holds, for everything that goes on, the latest event about it, as it was published: the
`track.begin` or `track.update` of each open track, the last `source.online`, the last
`scene.update`, the last forecast of each horizon; of zones and lines what `zone_snapshot.py`
describes. A late joiner applies these events as it applies those that follow. Pure.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from streamvis.events.zone_snapshot import FAMILIES as OF_SHAPES
from streamvis.events.zone_snapshot import ZonesAndLines, fold_shapes

Identities = Mapping[str, tuple[str, ...]]  # by family: members that identify what events are about

_STATES = {f"source.{name}" for name in ("connecting", "online", "stalled", "offline", "eof")}
_DISK = {"sys.disk_low", "sys.disk_ok"}


class SourceState(msgspec.Struct):
    """What the events of one source up to an offset say."""

    epoch: str = ""  # of the run
    offset: int = -1  # of the last event
    tseq: dict[str, int] = {}  # family -> last
    latest: dict[str, tuple[int, bytes]] = {}  # by what it is about: offset and payload
    shapes: ZonesAndLines = msgspec.field(default_factory=ZonesAndLines)

    def events(self) -> list[bytes]:
        """Return the latest event of all that goes on, as published, in order of offset."""
        by_offset = dict(self.latest.values())  # `source.online` may be there twice
        by_offset |= dict(self.shapes.kept())
        return [payload for _, payload in sorted(by_offset.items())]


class _Head(msgspec.Struct):
    type: str
    epoch: str
    offset: int
    tseq: int


_heads = msgspec.json.Decoder(_Head)
_members = msgspec.json.Decoder(dict[str, Any])


def fold(state: SourceState, payload: bytes, identities: Identities) -> None:
    """Apply one event, the next of its source; one that is not newer than the state is ignored.

    With the first event of another run the state begins anew.
    """
    head = _heads.decode(payload)
    if head.epoch != state.epoch:
        state.epoch, state.tseq, state.latest = head.epoch, {}, {}
        state.shapes = ZonesAndLines()
    elif head.offset <= state.offset:
        return
    family, _, verb = head.type.partition(".")
    state.offset = head.offset
    state.tseq[family] = max(head.tseq, state.tseq.get(family, 0))
    if family in ("source", "sys"):
        _fold_status(state, head, payload)
        return
    if family in OF_SHAPES:
        fold_shapes(state.shapes, head.offset, payload)
        return
    what = _members.decode(payload).get(family)
    identity = identities.get(family, ())
    if not isinstance(what, dict) or any(name not in what for name in identity):
        return  # about several things, or about what was published before, such as `track.split`
    key = msgspec.json.encode([what[name] for name in identity]).decode()
    if verb == "end":
        state.latest.pop(f"{family}:{key}", None)
    else:
        topic = family if verb in ("begin", "update") else head.type
        state.latest[f"{topic}:{key}"] = (head.offset, payload)


def _fold_status(state: SourceState, head: _Head, payload: bytes) -> None:
    """Keep how the source is, its last size and rate, its stream epoch, and how the disk is."""
    if head.type in _STATES:
        state.latest["source"] = (head.offset, payload)
    if head.type in _DISK:
        state.latest["sys.disk"] = (head.offset, payload)
    if head.type in ("source.online", "source.epoch"):
        state.latest[head.type] = (head.offset, payload)
