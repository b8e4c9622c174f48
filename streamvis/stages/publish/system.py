"""Derive the events of the system: of the disk of the log, and of what could not be logged."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from streamvis.events.disk import DiskWatch
from streamvis.events.envelope import EventBody, Time
from streamvis.events.kept_log import Missing
from streamvis.events.log import Cursor
from streamvis.events.system_events import Disk, SysDiskLow, SysDiskOk, SysUnlogged, Unlogged
from streamvis.events.topics import SYSTEM
from streamvis.stages.publish.derive import TimedDraft


class SystemState(msgspec.Struct):
    """The state from which a successor continues."""

    first: int = 0  # offset at which this run begins in the log
    next: int = 0  # offset of the next event
    tseq: dict[str, int] = {}  # family -> last
    low: bool = False  # the disk, by the last event
    missing: dict[str, Missing] = {}  # by source: what is not in the log, and in no event yet


class SystemEvents:
    """Derives the events of the system; most runs have none."""

    def __init__(self, out: Path, epoch: str, logged: Cursor | None) -> None:
        if logged is None:
            self.state = SystemState()
        elif logged.epoch == epoch:
            self.state = msgspec.msgpack.decode(logged.state, type=SystemState)
        else:
            self.state = SystemState(first=logged.next, next=logged.next)
        self._out = out
        self._epoch = epoch
        self._watch = DiskWatch(out, self.state.low)

    def of_disk(self) -> list[TimedDraft]:
        """Return the event of a disk that is low, or no longer so."""
        if not self._watch.changed():
            return []
        self.state.low = self._watch.low
        disk = Disk(free_bytes=self._watch.free_bytes, path=str(self._out))
        return [_draft(SysDiskLow(disk) if self._watch.low else SysDiskOk(disk))]

    def of_missing(self, missing: Mapping[str, Missing]) -> list[TimedDraft]:
        """Return an event for each source with events that will never be in the log."""
        return [
            _draft(
                SysUnlogged(
                    Unlogged(source=source, count=one.count, first=one.first, last=one.last)
                )
            )
            for source, one in missing.items()
        ]

    def cursor(self, missing: Mapping[str, Missing]) -> Cursor:
        """Return the end of the events in the log, and the state to continue from."""
        state = self.state
        state.missing = dict(missing)
        encoded = msgspec.msgpack.encode(state)
        return Cursor(SYSTEM, self._epoch, state.first, state.next, "", encoded)


def _draft(what: EventBody) -> TimedDraft:
    return TimedDraft(what, Time(media_us=0))
