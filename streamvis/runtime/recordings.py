"""Room for recordings: a thread of the hub deletes the oldest, by the settings of each source."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from streamvis import logs
from streamvis.recording.room import Room, RoomKeeper
from streamvis.recording.settings import Recording
from streamvis.sources.spec import SourceSpec

EVERY_S = 10.0


class RecordingRoom:
    """Keeps room on the disk of the output directory while sources are recorded."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._keeper = RoomKeeper(out)
        self._pool: ThreadPoolExecutor | None = None  # once a source is recorded
        self._work: Future[Room] | None = None
        self._due = 0.0
        self._low = False

    def tick(self, at: float, specs: Mapping[str, SourceSpec]) -> None:
        """Log what was deleted, and begin the next round if it is due; returns at once."""
        if self._work is not None and self._work.done():
            self._log(self._work)
            self._work = None
        settings = {name: spec.record for name, spec in specs.items() if spec.record is not None}
        if settings and self._work is None and at >= self._due:
            self._due = at + EVERY_S
            self._begin(settings)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _begin(self, settings: dict[str, Recording]) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "recordings")
        self._work = self._pool.submit(self._keeper.make_room, settings)

    def _log(self, work: "Future[Room]") -> None:
        try:
            room = work.result()
        except OSError as error:
            logs.log("warning", "room for recordings is unknown", reason=error.strerror)
            return
        for reason, count in Counter(one.reason for one in room.deleted).items():
            oldest = min(str(one.file.path) for one in room.deleted if one.reason == reason)
            logs.log("info", "recordings deleted", reason=reason, count=count, oldest=oldest)
        if room.is_low and not self._low:
            logs.log(
                "warning",
                "too little room, and no recording left to delete",
                free_bytes=room.free_bytes,
                wanted_bytes=room.wanted_bytes,
            )
        self._low = room.is_low
