"""The events of the system: the disk of the log, and what could not be logged."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from streamvis.events.disk import DiskWatch
from streamvis.events.envelope import SYSTEM, EventBody, Time
from streamvis.events.kept_log import Missing
from streamvis.events.log import Cursor
from streamvis.events.system_events import Disk, SysDiskLow, SysDiskOk, SysUnlogged, Unlogged
from streamvis.stages.publish.derive import TimedDraft
from streamvis.stages.publish.numbering import OutgoingEvent, Run, numbered


class SystemState(msgspec.Struct):
    """The state from which a successor continues."""

    first: int = 0  # offset at which this run begins in the log
    next: int = 0  # offset of the next event
    tseq: dict[str, int] = {}  # family -> last
    low: bool = False  # the disk, by the last event
    missing: dict[str, Missing] = {}  # by source: what is not in the log, and no event told of


class SystemEvents:
    """Derives and numbers the events of the system; most runs have none."""

    def __init__(self, out: Path, run: Run, logged: Cursor | None) -> None:
        if logged is None:
            self._state = SystemState()
        elif logged.epoch == run.epoch:
            self._state = msgspec.msgpack.decode(logged.state, type=SystemState)
        else:
            self._state = SystemState(first=logged.next, next=logged.next)
        self.missing = self._state.missing  # of a predecessor
        self._out = out
        self._run = run
        self._watch = DiskWatch(out, self._state.low)

    def of_disk(self) -> list[OutgoingEvent]:
        """Return the event of a disk that is low, or no longer so."""
        if not self._watch.changed():
            return []
        self._state.low = self._watch.low
        disk = Disk(free_bytes=self._watch.free_bytes, path=str(self._out))
        return self._numbered([SysDiskLow(disk) if self._watch.low else SysDiskOk(disk)])

    def of_missing(self, missing: Mapping[str, Missing]) -> list[OutgoingEvent]:
        """Return an event for each source with events that will never be in the log."""
        return self._numbered(
            SysUnlogged(Unlogged(source=source, count=one.count, first=one.first, last=one.last))
            for source, one in missing.items()
        )

    def cursor(self, missing: Mapping[str, Missing]) -> Cursor:
        """Return the end of the events in the log, and the state to continue from."""
        self._state.missing = dict(missing)
        state, encoded = self._state, msgspec.msgpack.encode(self._state)
        return Cursor(SYSTEM, self._run.epoch, state.first, state.next, "", encoded)

    def _numbered(self, whats: Iterable[EventBody]) -> list[OutgoingEvent]:
        drafts = [TimedDraft(what, Time(media_us=0)) for what in whats]
        return numbered(SYSTEM, self._state, drafts, self._run)
