"""Where events go: into the log, with those of the system, then onto the feed."""

from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from streamvis.errors import RunError
from streamvis.events import envelope
from streamvis.events.envelope import SYSTEM
from streamvis.events.feed import (
    Feed,
    Message,
    read_announcement,
    remove_announcement,
    write_announcement,
)
from streamvis.events.kept_log import KeptLog, Missing
from streamvis.events.log import FILE_NAME, Cursor, Row
from streamvis.logs import warn
from streamvis.stages.publish.numbering import OutgoingEvent, Run
from streamvis.stages.publish.system import SystemEvents


class Outbox:
    """The log in `out` and the feed on `bind`; either may be None."""

    def __init__(self, out: Path | None, bind: str | None, run: Run) -> None:
        self._out = out
        self._run = run
        self._log: KeptLog | None = None
        self._feed: Feed | None = None
        try:
            if out is not None:
                self._log = _open_log(out)
                self._system = SystemEvents(out, run, self._log.cursor(SYSTEM))
                for source, missing in self._system.missing.items():
                    self._log.count_missing(source, missing)
            if bind not in (None, "none"):
                self._feed = self._open_feed(bind)
        except BaseException:
            self.close(ended=False)
            raise

    @property
    def endpoint(self) -> str | None:
        """The address that the feed is bound to; None without a feed."""
        return self._feed.endpoint if self._feed else None

    def cursor(self, source: str) -> Cursor | None:
        """Return the latest cursor of the source in the log."""
        return self._log.cursor(source) if self._log else None

    def open_source(self, source: str, tseq: Mapping[str, int]) -> None:
        """Start heartbeats of a source, which continue these sequence numbers."""
        if self._feed:
            self._feed.open_source(source, dict(tseq))

    def close_source(self, source: str) -> None:
        """Send the last heartbeat of a source."""
        if self._feed:
            self._feed.close_source(source)

    def send(self, outgoing: Sequence[OutgoingEvent], cursors: Sequence[Cursor]) -> None:
        """Log, then publish: an event that is not in the log when it is published is marked."""
        if self._log is None:
            self._publish(outgoing)
        elif cursors:
            self._commit(self._log, [*outgoing, *self._system.of_disk()], cursors)
            self._commit_missing(self._log)

    def send_again(self, source: str, first: int) -> list[Row]:
        """Publish the logged events of a source from this offset on again, and return them."""
        rows = list(self._log.events(source, first)) if self._log else []
        self._publish(OutgoingEvent(row) for row in rows)
        return rows

    def count_missing(self, source: str, first: int, last: int) -> None:
        """Count the events from one offset to another as absent from the log for good."""
        if self._log:
            self._log.count_missing(source, Missing(last - first + 1, first, last))

    def close(self, *, ended: bool) -> None:
        """Commit what is kept, if that is possible, and close; `ended`: so has the run."""
        with ExitStack() as stack:
            if self._log:
                stack.callback(self._log.close)
                self._log.flush()
                self._commit_missing(self._log)
            if self._feed:
                self._feed.close(ended=ended)
                if self._out:
                    remove_announcement(self._out, self._run.epoch)

    def _commit(
        self, log: KeptLog, outgoing: Sequence[OutgoingEvent], cursors: Sequence[Cursor]
    ) -> None:
        rows = [one.row for one in outgoing]
        log.shed(rows)
        if log.missing or not log.writable or any(row.source == SYSTEM for row in rows):
            cursors = [*cursors, self._system.cursor(log.missing)]
        self._publish(outgoing, log.commit(rows, cursors))

    def _commit_missing(self, log: KeptLog) -> None:
        """Publish what will never be in the log, once that is certain."""
        if missing := log.take_missing():
            self._commit(log, self._system.of_missing(missing), [])

    def _publish(
        self,
        outgoing: Iterable[OutgoingEvent],
        unlogged: Container[tuple[str, int]] = frozenset(),
    ) -> None:
        if self._feed:
            self._feed.publish(
                Message(
                    row.source,
                    row.type.partition(".")[0],
                    row.tseq,
                    envelope.unlogged(row.payload)
                    if (row.source, row.offset) in unlogged
                    else row.payload,
                    attachments,
                )
                for row, attachments in outgoing
            )

    def _open_feed(self, bind: str) -> Feed:
        """Open the feed; a successor binds the port of its predecessor again."""
        feed, epoch, pipeline = None, self._run.epoch, self._run.prov.pipeline
        note = read_announcement(self._out) if self._out and bind.endswith(":*") else None
        if note and note[1] == epoch:
            with suppress(RunError):
                feed = Feed(note[0], epoch=epoch, pipeline=pipeline)
        feed = feed or Feed(bind, epoch=epoch, pipeline=pipeline)
        if self._out:
            try:
                write_announcement(self._out, feed.endpoint, epoch)
            except OSError as error:  # the disk is full
                reason = error.strerror or str(error)
                warn("address of the feed not written", path=str(self._out), error=reason)
        return feed


def _open_log(out: Path) -> KeptLog:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot make the output directory: {error.strerror}") from None
    return KeptLog(out / FILE_NAME)
