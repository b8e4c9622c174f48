"""The events of a run over WebSocket: what goes on now, then every event as it is logged.

Messages are JSON objects with a `kind`: `begin`, `snapshot` of each source, `events`, `idle`. A
client keeps the last `cursor` and connects again with it: it misses nothing, and gets nothing
twice. All comes from the event log, so that the run does no work for viewers. For a viewer that
does not read, one chunk of events is held, and the connection ends after a while.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Annotated, Literal, NamedTuple

import msgspec
from anyio import CapacityLimiter
from msgspec import Meta
from starlette.websockets import WebSocket

from streamvis.errors import StreamvisError
from streamvis.events.log import LogReader
from streamvis.logs import log
from streamvis.web.event_pages import SOURCE, TYPES, is_of
from streamvis.web.problems import RefusedError
from streamvis.web.run_folder import Identity, RunFolder
from streamvis.web.snapshots import SourceSnapshots
from streamvis.web.tasks import Close, in_thread, serve_until_first

MOST_VIEWERS = 32
LOOK_S = 0.1  # between two looks at the log
IDLE_S = 5.0  # without an event, after which `idle` is sent
ATTEMPTS = 10  # to read a log, which may be in the making, within IDLE_S
CHUNK = 200  # events that are read at once
CHUNK_BYTES = 1 << 18  # of payloads in a message
PATH = "/ws/events"
_CURSOR = re.compile(r"([0-9a-zA-Z-]{1,64}):([0-9]{1,18})")

Why = Literal["start", "resumed", "evicted", "another_run"]


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are wanted."""

    source: Annotated[str, Meta(pattern=SOURCE)] | None = None  # absent: all
    types: Annotated[str, Meta(pattern=TYPES)] | None = None  # types and families, with commas
    cursor: Annotated[str, Meta(pattern=f"^({_CURSOR.pattern})?$")] | None = None  # the last one


class StreamBegin(msgspec.Struct, frozen=True, kw_only=True, tag="begin", tag_field="kind"):
    """SourceSnapshots of these sources follow; forget what was known, unless `why` is `resumed`."""

    why: Why  # start; resumed: at the cursor, without snapshots; evicted: events after the
    # cursor are no longer in the log; another_run: the cursor is of another log
    epoch: str  # id of the run
    sources: list[str]


class StreamEvents(msgspec.Struct, frozen=True, kw_only=True, tag="events", tag_field="kind"):
    """Events in order of commit, as they were published."""

    cursor: str  # of the last one
    events: list[msgspec.Raw]


class StreamIdle(msgspec.Struct, frozen=True, kw_only=True, tag="idle", tag_field="kind"):
    """Nothing has come for a while, or all snapshots were sent."""

    cursor: str  # empty: there is no log yet, or the snapshots are being made


class LogEnd(NamedTuple):
    """How far the log is."""

    identity: Identity | None = None  # of its file
    newest: int = 0


class Follower:
    """Reads the log for one viewer. Its methods block, and are called one after the other."""

    def __init__(self, folder: RunFolder, snapshots: SourceSnapshots, query: StreamQuery) -> None:
        self._folder = folder
        self._snapshots = snapshots
        self._source = query.source
        self._types = tuple(query.types.split(",")) if query.types else ()
        self._wanted = _CURSOR.fullmatch(query.cursor or "")
        self._why: Why = "start"
        self._log: LogReader | None = None
        self._identity: Identity | None = None
        self._epoch = ""
        self._number = 0  # of the last event that was looked at
        self._included: dict[str, int] = {}  # by source: the last offset in its snapshot

    @property
    def cursor(self) -> str:
        """The place after the last event that was returned."""
        return f"{self._epoch}:{self._number}" if self._epoch else ""

    def more(self) -> list[bytes] | None:
        """Return the next message, if there is one; None when `begin` has to be called first."""
        identity = self._folder.log_identity()
        if identity is None:
            return []
        if self._log is None or identity != self._identity:
            return None
        rows = self._log.numbered(self._number + 1, CHUNK)
        if not rows:
            return []
        if rows[0][0] != self._number + 1:
            self._why, self._epoch = "evicted", ""
            return None
        events: list[msgspec.Raw] = []
        size = 0
        for number, row in rows:
            self._number = number
            included = row.offset <= self._included.get(row.source, -1)
            if included or self._source not in (None, row.source) or not is_of(row, self._types):
                continue
            events.append(msgspec.Raw(row.payload))
            size += len(row.payload)
            if size > CHUNK_BYTES:
                break
        message = StreamEvents(cursor=self.cursor, events=events)
        return [msgspec.json.encode(message)] if events else []

    def begin(self) -> list[bytes]:
        """Return the first messages, from the cursor or with snapshots; none for an empty log.

        Raises DataError without a log.
        """
        identity = self._folder.log_identity()
        if self._log is not None and identity != self._identity:
            self._why = "another_run"
            self._log.close()
            self._log = None
        if self._log is None:
            self._log, self._identity = self._folder.log(), identity
        if (wanted := self._wanted) is not None:
            self._wanted = None
            if self._resumed(self._log, wanted[1], int(wanted[2])):
                begin = StreamBegin(why="resumed", epoch=self._epoch, sources=[])
                return [msgspec.json.encode(begin), self.idle()]
        taken = self._snapshots.take()
        if not taken.epoch:  # nothing is logged yet
            self.close()
            return []
        sources = [one for one in taken.sources if self._source in (None, one.source)]
        self._epoch, self._number = taken.epoch, taken.number
        self._included = {one.source: one.offset for one in sources}
        ids = [one.source for one in sources]
        messages: list[msgspec.Struct] = [
            StreamBegin(why=self._why, epoch=self._epoch, sources=ids)
        ]
        messages += sources
        self._why = "start"
        return [*map(msgspec.json.encode, messages), self.idle()]

    def _resumed(self, log: LogReader, epoch: str, number: int) -> bool:
        """Go on after an event, if the log has all that follow it."""
        newest = max((one.epoch for one in log.cursors().values()), default="")
        if epoch != newest or number > log.newest():
            self._why = "another_run"
            return False
        following = log.numbered(number + 1, 1)
        if following and following[0][0] != number + 1:
            self._why = "evicted"
            return False
        self._epoch, self._number = epoch, number
        return True

    def idle(self) -> bytes:
        """Return a message that says that the connection is alive."""
        return msgspec.json.encode(StreamIdle(cursor=self.cursor))

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None


class Tail:
    """Looks at how far the log is, for all viewers together, while there is one."""

    def __init__(self, folder: RunFolder, reads: CapacityLimiter) -> None:
        self._folder = folder
        self._reads = reads
        self._mark = LogEnd()
        self._changed = asyncio.Event()
        self._viewers = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """The number of those who watch."""
        return self._viewers

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at the log while there are viewers."""
        self._viewers += 1
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._look_again_and_again())
            yield
        finally:
            self._viewers -= 1
            if self._viewers == 0 and self._task is not None:
                task, self._task = self._task, None
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def beyond(self, known: LogEnd) -> LogEnd:
        """Return how far the log is, once it is farther than `known`, or after IDLE_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                while self._mark == known:
                    await self._changed.wait()
        return self._mark

    async def _look_again_and_again(self) -> None:
        with closing(LogWatch(self._folder)) as watch:  # of this task: another may begin meanwhile
            while True:
                mark = await in_thread(watch.look, self._reads)
                if mark != self._mark:
                    self._mark = mark
                    self._changed.set()
                    self._changed = asyncio.Event()
                await asyncio.sleep(LOOK_S)


class LogWatch:
    """Says how far a log is, whichever file it is by now. One thread at a time uses it."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._log: LogReader | None = None
        self._end = LogEnd()  # at the last look

    def look(self) -> LogEnd:
        """Return how far the log is."""
        identity = self._folder.log_identity()
        if identity is None:
            self._end = LogEnd()
            return self._end
        with suppress(StreamvisError):  # the file is being created, or a disk fails: look again
            if self._log is None or identity != self._end.identity:
                self.close()
                self._log = self._folder.log()
            self._end = LogEnd(identity, self._log.newest())
        return self._end

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None


class EventStream:
    """The endpoint of `/ws/events`."""

    def __init__(self, folder: RunFolder, snapshots: SourceSnapshots) -> None:
        self._folder = folder
        self._snapshots = snapshots
        self._reads = CapacityLimiter(4)
        self._folds = CapacityLimiter(1)  # apart: it may take long
        self._tail = Tail(folder, self._reads)

    async def serve(self, socket: WebSocket, query: StreamQuery) -> None:
        """Send events until the viewer has gone. RefusedError when there are too many viewers."""
        if self._tail.viewers >= MOST_VIEWERS:
            raise RefusedError(
                503,
                PATH,
                f"{MOST_VIEWERS} viewers are connected",
                expected=f"at most {MOST_VIEWERS}",
                to_do="close one of them",
            )
        async with self._tail.watched():
            await socket.accept()
            follower = Follower(self._folder, self._snapshots, query)
            try:
                await serve_until_first(
                    socket, self._send_all(socket, follower), _until_gone(socket)
                )
            finally:
                follower.close()

    async def _send_all(self, socket: WebSocket, follower: Follower) -> Close:
        mark, failures = LogEnd(), 0
        while True:
            try:
                messages = await in_thread(follower.more, self._reads)
                if messages is None:
                    messages = await self._begun(socket, follower)
                failures = 0
            except StreamvisError as error:
                failures += 1
                if failures == ATTEMPTS:
                    log("error", "events cannot be read", error=str(error))
                    return Close(1011, "the event log cannot be read")
                await asyncio.sleep(IDLE_S / ATTEMPTS)
                continue
            for message in messages:
                await socket.send_text(message.decode())
            if messages:
                continue
            known, mark = mark, await self._tail.beyond(mark)
            if known == mark:
                await socket.send_text(follower.idle().decode())

    async def _begun(self, socket: WebSocket, follower: Follower) -> list[bytes]:
        """Return the first messages; a long log takes minutes, in which `idle` is sent."""
        task = asyncio.ensure_future(in_thread(follower.begin, self._folds))
        try:
            while not (await asyncio.wait([task], timeout=IDLE_S))[0]:
                await socket.send_text(msgspec.json.encode(StreamIdle(cursor="")).decode())
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _until_gone(socket: WebSocket) -> Close | None:
    """Return when the viewer has gone; one that sends something is disconnected."""
    message = await socket.receive()
    if message["type"] == "websocket.receive":
        return Close(1008, "no messages are expected")
    return None
