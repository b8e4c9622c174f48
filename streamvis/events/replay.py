"""The replay server: answers late joiners and those with gaps from the event log.

    python -m streamvis.events.replay   # settings on stdin, as `ReplaySettings`

It is a process beside the publisher and reads the log alone, so that the publisher is not
asked and does no work for it. One request, one reply, both bounded; a client that wants more asks
again. The states that snapshots consist of are folded from the log as it grows. They are stored in
`events.snapshot` beside the log from time to time, so that a server that is started again does not
begin with the first event; the file can be deleted at any time.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec
import zmq

from streamvis.errors import DataError
from streamvis.events.log import Cursor, GoneError, LogReader
from streamvis.events.replay_protocol import (
    LONGEST_REQUEST,
    MOST_BYTES,
    MOST_EVENTS,
    MOST_OFFSETS,
    Events,
    Failure,
    GetCursor,
    GetEvents,
    GetSnapshot,
    GetStatus,
    Gone,
    Reply,
    Request,
    Snapshot,
    SourceCursor,
    Status,
    decode_request,
    encode,
    raw,
)
from streamvis.events.snapshot import Identities, SourceState, fold
from streamvis.files import replace
from streamvis.transport.parent import exit_with_parent
from streamvis.transport.peers import Limits, Peers

STORE = "events.snapshot"
STORE_S = 60.0  # between two times that the states are stored: well before events are evicted
AT_ONCE = 5000  # events folded between two looks at the socket
LOOK_MS = 500  # between two looks at the log while nobody asks
LIMITS = Limits(sent=1 << 18, sent_s=float(1 << 16))  # a request has about 100 bytes
QUIET_S = 1.0  # nobody asks
LINGER_S = 5.0  # at most, from the end of a run to that of the server
QUEUED = 16  # messages that wait in each direction for each client


class ReplaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the server is given by the publisher."""

    log: str  # path
    endpoint: str
    parent: int  # process id
    listening: int = -1  # descriptor of a socket that listens there
    keys: str | None = None  # directory of keys, whose clients alone are answered
    identities: dict[str, tuple[str, ...]] = {}


class _Stored(msgspec.Struct):
    """The states in the file; of another version they are folded from the log again."""

    version: Literal[2]  # 2: with zones and lines
    states: dict[str, SourceState]


class LogStates:
    """The states of all sources, folded from the log as far as it has been read.

    `store` is the file that the states are read from at the start, and kept in.
    """

    def __init__(
        self,
        log: LogReader,
        identities: Identities,
        store: Path | None = None,
        *,
        keeps: bool = True,  # writes `store` too
    ) -> None:
        self.log = log
        self.states: dict[str, SourceState] = _stored(store)
        self._identities = identities
        self._store = store if keeps else None
        self._stored_at = time.monotonic()
        self._unstored = 0

    def behind(self) -> int:
        """Return how many events the states lack."""
        return sum(
            one.next - self._next(one) for one in self.log.cursors().values() if one.next > 0
        )

    def advance(self, most: int = AT_ONCE) -> bool:
        """Fold at most so many events of each source; return whether that was all."""
        done = True
        for cursor in self.log.cursors().values():
            first = self._next(cursor)
            if first >= cursor.next:
                continue
            state = self.states.setdefault(cursor.source, SourceState())
            rows = self.log.events(cursor.source, first=first, last=cursor.next - 1)
            count = 0
            for row in islice(rows, most):
                fold(state, row.payload, self._identities)
                count += 1
            self._unstored += count
            if count < most:  # offsets may be missing at the end, after a full disk
                state.epoch, state.offset = cursor.epoch, cursor.next - 1
            else:
                done = False
        self._store_states()
        return done

    def _next(self, cursor: Cursor) -> int:
        """Return the offset from which on events are not in the state."""
        state, oldest = self.states.get(cursor.source), self.log.oldest(cursor.source)
        if state is not None and state.epoch == cursor.epoch:
            first = max(state.offset + 1, cursor.first)
            if oldest <= first <= cursor.next:
                return first
        self.states.pop(cursor.source, None)  # of another run, or events after it are evicted
        return max(cursor.first, oldest)

    def _store_states(self) -> None:
        now = time.monotonic()
        if self._store is None or not self._unstored or now < self._stored_at + STORE_S:
            return
        self._stored_at, self._unstored = now, 0
        with suppress(OSError):  # a full disk: the next start takes longer
            data = msgspec.msgpack.encode(_Stored(2, self.states))
            replace(self._store, data, durable=False)


def _stored(store: Path | None) -> dict[str, SourceState]:
    """Return the states that a predecessor has stored; none where there are none to be read."""
    try:
        data = store.read_bytes() if store is not None else b""
        return msgspec.msgpack.decode(data, type=_Stored).states if data else {}
    except (OSError, msgspec.DecodeError):
        return {}


class Replay:
    """Answers requests from a log."""

    def __init__(self, log: LogReader, identities: Identities, store: Path | None = None) -> None:
        self._log = log
        self._states = LogStates(log, identities, store)
        self.answered = 0
        self.refused = 0

    def advance(self) -> bool:
        """Fold what is new in the log; return whether that was all."""
        return self._states.advance()

    def handle(self, frames: list[bytes]) -> list[bytes]:
        """Return the frames of the reply."""
        head: list[bytes] = []
        try:
            head, request = decode_request(frames)
        except DataError as error:
            self.refused += 1
            return [encode(Failure(error=str(error)))]
        try:
            reply = self._reply(request)
        except DataError as error:  # of the log
            reply = Failure(error=str(error), retry=True)
        self.answered += 1
        return [*head, encode(msgspec.structs.replace(reply, id=request.id))]

    def _reply(self, request: Request) -> Reply:
        match request:
            case GetSnapshot(source):
                return self._snapshot(source, with_events=True)
            case GetCursor(source):
                return self._snapshot(source, with_events=False)
            case GetEvents():
                return self._events(request)
            case GetStatus():
                behind = self._states.behind()
                return Status(requests=self.answered, refused=self.refused, behind=behind)

    def _snapshot(self, source: str | None, *, with_events: bool) -> Reply:
        if not self._states.advance():
            return Failure(error="the log is still being read; ask again", retry=True)
        cursors = self._log.cursors()
        wanted = (
            cursors if source is None else {source: cursors[source]} if source in cursors else {}
        )
        return Snapshot({name: self._cursor(one, with_events) for name, one in wanted.items()})

    def _cursor(self, cursor: Cursor, with_events: bool) -> SourceCursor:
        state = self._states.states.get(cursor.source) or SourceState(offset=cursor.first - 1)
        return SourceCursor(
            epoch=cursor.epoch,
            first=cursor.first,
            oldest=self._log.oldest(cursor.source),
            offset=state.offset,
            tseq=state.tseq,
            ending=cursor.ending,
            events=raw(state.events()) if with_events else msgspec.UNSET,
        )

    def _events(self, request: GetEvents) -> Reply:
        source, first = request.source, request.from_offset
        cursor = self._log.cursors().get(source)
        if cursor is None:
            return Failure(error=f"no source {source!r} in the log")
        end = cursor.next - 1 if request.to_offset is None else request.to_offset
        end = min(end, cursor.next - 1)
        last = min(end, first + MOST_OFFSETS - 1)
        payloads: list[bytes] = []
        size, following = 0, max(first, last + 1)
        try:
            for row in self._log.since(source, first, last, types=request.types):
                size += len(row.payload)
                if payloads and (size > MOST_BYTES or len(payloads) == MOST_EVENTS):
                    following = row.offset
                    break
                payloads.append(row.payload)
        except GoneError as error:
            return Gone(source=source, oldest=error.oldest)
        return Events(source=source, events=raw(payloads), next=following, more=following <= end)


def router(
    context: "zmq.Context[zmq.Socket[bytes]]",
    endpoint: str,
    listening: int = -1,
    keys: Path | None = None,
) -> "tuple[zmq.Socket[bytes], Peers]":
    """Return the socket that requests come to, and its peers: with `keys` only their clients.

    `listening` is a descriptor that is bound to the endpoint.
    """
    server = context.socket(zmq.ROUTER)
    server.setsockopt(zmq.MAXMSGSIZE, LONGEST_REQUEST)
    server.setsockopt(zmq.SNDHWM, QUEUED)
    server.setsockopt(zmq.RCVHWM, QUEUED)
    server.setsockopt(zmq.LINGER, 0)
    server.setsockopt(zmq.IPV6, int("[" in endpoint))
    if listening >= 0:
        server.setsockopt(zmq.USE_FD, listening)
    peers = Peers(context, server, keys, LIMITS)
    server.bind(endpoint)
    return server, peers


def serve(server: "zmq.Socket[bytes]", peers: Peers, replay: Replay, parent: int) -> None:
    """Answer requests until the parent is gone.

    After SIGTERM, until nobody has asked for QUIET_S, and for at most LINGER_S.
    """
    asked_s = -QUIET_S
    deadline_s = math.inf

    def end(*_: object) -> None:
        nonlocal deadline_s
        deadline_s = time.monotonic() + LINGER_S
        if time.monotonic() > asked_s + QUIET_S:
            os._exit(0)

    signal.signal(signal.SIGTERM, end)
    caught_up = False
    while os.getppid() == parent and time.monotonic() < deadline_s:
        if server.poll(LOOK_MS if caught_up else 0):
            asked_s = time.monotonic()
            _answer(server, peers, replay)
        elif deadline_s < math.inf and time.monotonic() > asked_s + QUIET_S:
            return
        with suppress(DataError):  # the log cannot be read now; the replies say so
            caught_up = replay.advance()


def _answer(server: "zmq.Socket[bytes]", peers: Peers, replay: Replay, most: int = 64) -> None:
    for _ in range(most):
        try:
            first, *rest = server.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return
        if not peers.admit(first):
            continue
        peer, frames = first.bytes, [frame.bytes for frame in rest]
        with suppress(zmq.Again, zmq.ZMQError):  # it has left, or does not read its replies
            server.send_multipart([peer, *replay.handle(frames)], zmq.NOBLOCK)


def main(settings: ReplaySettings) -> None:
    """Serve until the parent ends this process, or is gone."""
    exit_with_parent(settings.parent)
    path = Path(settings.log)
    context = zmq.Context()
    keys = Path(settings.keys) if settings.keys else None
    server, peers = router(context, settings.endpoint, settings.listening, keys)
    with closing(LogReader(path)) as log:
        serve(
            server, peers, Replay(log, settings.identities, path.with_name(STORE)), settings.parent
        )


def settings_of(lines: Iterable[str]) -> ReplaySettings:
    """Return the settings that the parent has written."""
    return msgspec.json.decode("".join(lines), type=ReplaySettings)


if __name__ == "__main__":
    main(settings_of(sys.stdin))
