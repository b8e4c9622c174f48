"""Notices that the run that writes a log was killed: no event says that its sources are gone."""

from collections.abc import Callable
from pathlib import Path

from streamvis.runtime.output import was_killed

SILENT_S = 2.0  # without an event before the run is looked at: its last ones may not be read yet


class PublisherWatch:
    """Tells once, for each run in `out`, that it was killed."""

    def __init__(self, out: Path, now: Callable[[], float]) -> None:
        self._out = out
        self._now = now
        self._events = -1
        self._look_s: float | None = None  # when to look at the run; None: it is known to be gone

    def died(self, events: int) -> bool:
        """Whether the run was killed, by the number of events that were read so far."""
        if events != self._events:
            self._events, self._look_s = events, self._now() + SILENT_S
        if self._look_s is None or self._now() < self._look_s:
            return False
        self._look_s = None if was_killed(self._out) else self._now() + SILENT_S
        return self._look_s is None
