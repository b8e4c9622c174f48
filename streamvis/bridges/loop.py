"""The loop of every bridge: read the log from a place on, deliver, store the place.

At least once and in order: an event is delivered before the place moves past it, and the next ones
wait while it cannot be delivered. After a kill -9, or where an acknowledgement was lost, the latest
events are delivered again, with the same `id`.

A bridge is a mapping, pure, and a sink, which has the connection:

    rows -> Mapping.messages -> Sink.deliver
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from streamvis.bridges.follower import LogFollower, Reading
from streamvis.bridges.place import BridgeProgress, Place, ProgressFile, digest_of
from streamvis.bridges.publisher_watch import PublisherWatch
from streamvis.bridges.stop import Stop, Stopped
from streamvis.errors import StreamvisError
from streamvis.events.log import Row
from streamvis.logs import log, warn
from streamvis.runtime.reconnect import pause_s

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)

AT_ONCE = 1000  # events read at a time
NOTHING = msgspec.Raw(b"null")


class UnreachableError(StreamvisError):
    """The other system cannot take a message now; it is tried again."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s  # as the other system asked for


class Mapping(Protocol[M_co]):
    """Which messages events become. Pure: what it remembers is its state."""

    def messages(self, rows: Sequence[Row]) -> Sequence[M_co]:
        """Return the messages of events that follow those before."""

    def state(self) -> msgspec.Raw:
        """Return what it remembers, as JSON."""

    def restore(self, state: msgspec.Raw) -> None:
        """Go on from a state. DataError for one that it does not know."""


class Sink(Protocol[M_contra]):
    """Where messages are delivered."""

    batch: int  # events whose messages are delivered together, at most

    def deliver(self, messages: Sequence[M_contra]) -> int:
        """Deliver the messages, in order; return how many of them were refused for good.

        UnreachableError: call again with the same ones.
        """

    def idle(self, seconds: float) -> None:
        """Keep the connection for so long, where there is nothing to deliver."""

    def close(self) -> None:
        """Close the connection. Raises nothing."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Times of the loop, in seconds."""

    poll_s: float = 0.2  # between two looks at a log without new events
    store_s: float = 0.5  # between two replacements of the progress file while events come
    retry_first_s: float = 1.0  # pause after the first failure; doubled after each further one
    retry_longest_s: float = 60.0
    until_ended: bool = False  # end when the run has ended and all is delivered


class DeliveryCounts(msgspec.Struct):
    """What a bridge has done since it began."""

    delivered: int = 0  # messages
    refused: int = 0  # messages, for good
    failed: int = 0  # attempts
    evicted: int = 0  # events that the log no longer held when their turn came
    connected: bool = False  # the last attempt was no failure


class Loop:
    """Delivers a log; `run` returns when it was asked to stop, or all is delivered."""

    def __init__(
        self,
        follower: LogFollower,
        file: ProgressFile,
        stop: Stop,
        settings: Settings,
        now: Callable[[], float],
    ) -> None:
        self.counts = DeliveryCounts()
        self.progress = BridgeProgress()
        self._follower = follower
        self._file = file
        self._stop = stop
        self._settings = settings
        self._now = now
        self._run = PublisherWatch(follower.path.parent, now)
        self._stored = BridgeProgress()
        self._stored_at = now()

    def run(self, mapping: Mapping[M], sink: Sink[M], *, skip: bool = False) -> None:
        """Deliver what follows the stored progress, as `mapping` has it, to `sink`.

        `skip`: without a stored progress, begin with what comes from now on.
        """
        skip = skip and self._follower.path.is_file()  # all of one that comes later is new
        try:
            if not self._wait_for_log():
                return
            with self._file.held():
                try:
                    if (stored := self._file.load()) is not None:
                        self._stored = stored
                        log(
                            "info",
                            "goes on where it ended; delete the file to deliver all again",
                            after=stored.place.number,
                            path=str(self._file.path),
                        )
                        mapping.restore(stored.state)
                        self.progress = BridgeProgress(stored.place, mapping.state())
                    elif skip:
                        self._skip(mapping)
                    self._deliver_all(mapping, sink)
                finally:
                    self._store()
        except Stopped:
            pass
        finally:
            sink.close()

    def _wait_for_log(self) -> bool:
        """Return True once there is a log; its directory may not be there before."""
        said = False
        while not self._stop.asked:
            if self._follower.read(Place(), 0) is not None:
                return True
            if not said:
                there = self._follower.path.is_file()  # it may be in the making
                what = "waits until the log can be read" if there else "waits for the log"
                log("info", what, path=str(self._follower.path))
                said = True
            self._stop.wait(self._settings.poll_s)
        return False

    def _skip(self, mapping: Mapping[M]) -> None:
        """Go to the end of the log; the mapping knows what was before."""
        while rows := self._read().rows:
            mapping.messages([row for _, row in rows])
            self._move(rows, mapping)

    def _deliver_all(self, mapping: Mapping[M], sink: Sink[M]) -> None:
        while not self._stop.asked:
            reading = self._read()
            for start in range(0, len(reading.rows), sink.batch):
                chunk = reading.rows[start : start + sink.batch]
                messages = mapping.messages([row for _, row in chunk])
                if messages and not self._attempt(partial(self._deliver, sink, messages)):
                    return
                self._move(chunk, mapping)
                if self._now() - self._stored_at >= self._settings.store_s:
                    self._store()
            if len(reading.rows) < AT_ONCE:
                self._store()
                if self._settings.until_ended and not reading.rows:
                    if reading.ended:
                        return
                    if self._run.died(self.progress.place.number):
                        warn("the run was killed before its end: waits until it is resumed")
                self._attempt(lambda: sink.idle(self._settings.poll_s))

    def _deliver(self, sink: Sink[M], messages: Sequence[M]) -> None:
        refused = sink.deliver(messages)
        self.counts.refused += refused
        self.counts.delivered += len(messages) - refused

    def _read(self) -> Reading:
        reading = self._follower.read(self.progress.place, AT_ONCE)
        if reading is None:  # it is being replaced, or made
            return Reading([])
        path = str(self._follower.path)
        if reading.evicted:
            self.counts.evicted += reading.evicted
            warn("the log no longer has some events", path=path, count=reading.evicted)
        if reading.replaced:
            log("info", "the log was replaced: the new one is delivered", path=path)
            self.progress = BridgeProgress(Place(), self.progress.state)
        return reading

    def _move(self, rows: Sequence[tuple[int, Row]], mapping: Mapping[M]) -> None:
        number, row = rows[-1]
        self.progress = BridgeProgress(Place(number, digest_of(row)), mapping.state())

    def _attempt(self, act: Callable[[], None]) -> bool:
        """Do it, again and again while the other system cannot be reached; False when stopped."""
        failed = 0
        while not self._stop.asked:
            try:
                act()
            except UnreachableError as error:
                failed += 1
                self.counts.failed += 1
                self.counts.connected = False
                if failed & (failed - 1) == 0:  # the 1st, 2nd, 4th, 8th, …
                    warn("cannot deliver", reason=str(error), attempts=failed)
                first_s, longest_s = self._settings.retry_first_s, self._settings.retry_longest_s
                pause = pause_s(failed, random.random(), first_s, longest_s)
                self._stop.wait(max(pause, error.retry_after_s))
            except Stopped:
                break
            else:
                if failed:
                    log("info", "delivers again", attempts=failed)
                self.counts.connected = True
                return True
        return False

    def _store(self) -> None:
        """Replace the file, if there is something new; on a full disk, try it again later."""
        self._stored_at = self._now()
        if self.progress == self._stored:
            return
        try:
            self._file.store(self.progress)
            self._stored = self.progress
        except OSError as error:
            warn(
                "progress cannot be stored: after a restart, events are delivered again",
                path=str(self._file.path),
                reason=error.strerror,
            )
