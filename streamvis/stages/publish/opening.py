"""Open the log and the feed of a run: all that the publisher does before the first event."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from streamvis.errors import RunError
from streamvis.events.envelope import Provenance
from streamvis.events.feed import Announcement, Feed, read_announcement, write_announcement
from streamvis.events.kept_log import KeptLog
from streamvis.events.log import FILE_NAME, LogWriter
from streamvis.events.replay_process import ReplayProcess, addresses_beside
from streamvis.events.retention import Retention, evictor_of
from streamvis.logs import warn
from streamvis.stages import event_codec


class Run(NamedTuple):
    """What all events of a run share."""

    epoch: str
    prov: Provenance


def open_log(out: Path, retention: Retention) -> tuple[LogWriter, KeptLog]:
    """Open the log in `out`, which is made, and what waits for it; RunError when that fails."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot make the output directory: {error.strerror}") from None
    log = LogWriter(out / FILE_NAME)
    try:
        return log, KeptLog(log, evictor_of(log, retention))
    except BaseException:
        log.close()
        raise


class FeedPlace(NamedTuple):
    """Where a run publishes: on `bind`, for those with `keys`, and announced in `out`."""

    bind: str
    run: Run
    keys: Path | None = None
    out: Path | None = None

    def announced(self) -> Announcement | None:
        """Return what a predecessor of the same run has announced."""
        note = read_announcement(self.out) if self.out else None
        return note if note and note.epoch == self.run.epoch else None

    def open_replay(self, log: Path) -> ReplayProcess | None:
        """Reserve the address of the replay server of a log, which is not started yet."""
        before = self.announced()
        addresses = addresses_beside(self.bind, before.replay if before else None)
        if not addresses:
            return None
        return ReplayProcess(log, addresses, event_codec().identities, self.keys)

    def open_feed(self, replay: str | None) -> Feed:
        """Open the feed; a successor binds the port of its predecessor again."""
        before = self.announced()
        if before and self.bind.endswith(":*"):
            with suppress(RunError):
                return self._feed_at(before.endpoint, replay)
        return self._feed_at(self.bind, replay)

    def announce(self, endpoint: str, replay: str | None) -> None:
        """Write to `out` where the feed and its replay server are."""
        if self.out is None:
            return
        try:
            write_announcement(self.out, endpoint, self.run.epoch, replay)
        except OSError as error:  # the disk is full
            reason = error.strerror or str(error)
            warn("address of the feed not written", path=str(self.out), error=reason)

    def _feed_at(self, bind: str, replay: str | None) -> Feed:
        return Feed(
            bind,
            epoch=self.run.epoch,
            pipeline=self.run.prov.pipeline,
            keys=self.keys,
            replay=replay,
        )
