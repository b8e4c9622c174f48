"""Subscribe to the feed of a run.

    async for event in streamvis.subscribe("tcp://127.0.0.1:5560", source="cam1", family="track"):
        match event.what:
            case TrackBegin(track): ...
            case Lost(topic, first, last): ...

What the subscriber has missed is fetched from the log by way of the replay server; what cannot be
had appears as a `Lost` event at its position. Attachments are in `event.attachments`;
`mask_attachments.mask_of(event)` decodes them.

A subscription continues after a run has ended or its publisher has died, with the next publisher
at the address. `until_ended=True` ends it with the run.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress

import msgspec
import zmq
import zmq.asyncio

from streamvis.errors import DataError, UsageError
from streamvis.events import replay_protocol as protocol
from streamvis.events import topics
from streamvis.events.codec import Codec
from streamvis.events.envelope import Event, Lost, Snapshot
from streamvis.events.feed import LONGEST, WELCOME
from streamvis.events.inbox import Inbox
from streamvis.events.subscriber import Cursor, Place, Subscriber, read_since
from streamvis.events.topics import SYSTEM_TOPIC
from streamvis.transport.keys import ClientKeys
from streamvis.transport.refusal import check, refusals

QUEUE = 10_000  # messages that wait for a slow reader
REPLY_MS = 1000  # until a request is repeated
AGAIN_S = 0.1  # until one is repeated that the server cannot answer yet
LONGEST_REPLY = 1 << 28


class Subscription:
    """Events of each source in order, for `for` and `async for`; `inbox` has the counts.

    `since`: `now`; `snapshot`, which begins with a `Snapshot` event of each source; the offset in
    the log of `source` from which on events are wanted; or the `cursor` of an earlier subscription.
    `timeout_s` ends it after that long without any message, heartbeats included; None: never.
    `until_ended` ends it with the run. `keys`: those of a client, for a feed that asks for them.
    `replay`: the address of the replay server, where it is another than that of the heartbeats.

    Raises UsageError for a `since` that is none, and, when it iterates, for one other than `now`
    where the publisher has no replay server, and when the publisher refuses the keys or their
    absence.
    """

    def __init__(
        self,
        endpoint: str,
        codec: Codec,
        source: str | None = None,
        family: str | None = None,
        timeout_s: float | None = None,
        *,
        since: object = "now",
        until_ended: bool = False,
        keys: ClientKeys | None = None,
        replay: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.notes = True  # the cursor follows the events by itself
        self._keys = keys
        self._replay = replay
        self.inbox = Inbox(codec, source, family)
        self._since = read_since(since, source)
        self._cursor = self._since if isinstance(self._since, Cursor) else Cursor()
        self._timeout_ms = None if timeout_s is None else int(timeout_s * 1000)
        self._until_ended = until_ended

    @property
    def with_keys(self) -> bool:
        """Whether it connects with the keys of a client."""
        return self._keys is not None

    @property
    def cursor(self) -> str:
        """Where the loop has come to, as JSON: `since=cursor` goes on after its last event.

        It has the run and, by source, the offset of the last event and the last tseq by family.
        """
        return msgspec.json.encode(self._cursor).decode()

    def check_address(self) -> None:
        """Raise UsageError for what is not the address of a feed; nobody needs to be there."""
        with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
            self._connect(subscriber)

    def __iter__(self) -> Iterator[Event]:
        for events in self.messages(self._timeout_ms):
            if events is None:
                return
            yield from events
            if self._until_ended and self.inbox.ended:
                return

    def until(self, left: Callable[[], bool], look_s: float) -> Iterator[Event]:
        """The events, until `left` says so; it is asked with each message, and every `look_s`."""
        look_ms = round(look_s * 1000)
        silent_ms = 0
        for events in self.messages(look_ms):
            if left():
                return
            if events is None:
                silent_ms += look_ms
                if self._timeout_ms is not None and silent_ms >= self._timeout_ms:
                    return
                continue
            silent_ms = 0
            yield from events
            if self._until_ended and self.inbox.ended:
                return

    def messages(self, wait_ms: int | None) -> Iterator[Iterator[Event] | None]:
        """The events of each message, often none; None after `wait_ms` without a message."""
        context = zmq.Context()
        subscriber = context.socket(zmq.SUB)
        state = Subscriber(self.inbox, self._since)
        asker = _Asker(context, self._keys)
        monitor = refusals(context, subscriber)
        poller = zmq.Poller()
        try:
            self._connect(subscriber)
            poller.register(subscriber, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            since = time.monotonic()
            while True:
                came = dict(poller.poll(_left_ms(wait_ms, since)))
                if monitor in came:
                    self._check(monitor.recv_multipart())
                if subscriber in came:
                    yield self._events(state, asker, subscriber.recv_multipart())
                elif not came:
                    yield None
                else:
                    continue  # a failed handshake is no message
                since = time.monotonic()
        finally:
            asker.close()
            subscriber.disable_monitor()
            monitor.close(linger=0)
            subscriber.close(
                linger=0
            )  # by hand: under a garbage collection, destroy() would miss it
            context.term()

    def _events(
        self, state: Subscriber, asker: "_Asker", parts: Sequence[bytes]
    ) -> Iterator[Event]:
        yield from self._noted(state.take(parts))
        while (request := state.request) is not None:
            reply = asker.ask(self._replay_at(state), request)
            yield from self._noted(state.answer(reply))
            if _is_early(reply):
                time.sleep(AGAIN_S)

    async def __aiter__(self) -> AsyncIterator[Event]:
        context = zmq.asyncio.Context()
        subscriber = context.socket(zmq.SUB)
        state = Subscriber(self.inbox, self._since)
        asker = _Asker(context, self._keys)
        monitor = refusals(context, subscriber)
        poller = zmq.asyncio.Poller()
        try:
            self._connect(subscriber)
            poller.register(subscriber, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            since = time.monotonic()
            while came := dict(await poller.poll(_left_ms(self._timeout_ms, since))):
                if monitor in came:
                    await asyncio.to_thread(self._check, await monitor.recv_multipart())
                if subscriber not in came:
                    continue
                for event in self._noted(state.take(await subscriber.recv_multipart())):
                    yield event
                while (request := state.request) is not None:
                    reply = await asker.ask_async(self._replay_at(state), request)
                    for event in self._noted(state.answer(reply)):
                        yield event
                    if _is_early(reply):
                        await asyncio.sleep(AGAIN_S)
                if self._until_ended and self.inbox.ended:
                    return
                since = time.monotonic()
        finally:
            asker.close()
            subscriber.disable_monitor()
            monitor.close(linger=0)
            subscriber.close(
                linger=0
            )  # by hand: under a garbage collection, destroy() would miss it
            context.term()

    def _check(self, parts: Sequence[bytes]) -> None:
        check(parts, self.endpoint, with_keys=self.with_keys)

    def _noted(self, events: Sequence[Event]) -> Iterator[Event]:
        """Yield the events, each once the cursor is behind it."""
        for event in events:
            if self.notes:
                self.note(event)
            yield event

    def note(self, event: Event) -> None:
        """Have the cursor be behind this event."""
        if self._cursor.epoch != event.epoch:
            self._cursor = Cursor(event.epoch)
        place = self._cursor.sources.setdefault(event.source, Place(-1))
        if isinstance(event.what, Snapshot):
            place.offset, place.tseq = event.offset, dict(event.what.tseq)
        elif isinstance(event.what, Lost):
            family = event.what.topic.split("/")[2] or "sys"
            place.tseq[family] = event.what.last
        elif event.offset >= 0:
            place.offset, place.tseq[event.family] = event.offset, event.tseq

    def _replay_at(self, state: Subscriber) -> str:
        return self._replay or beside(self.endpoint, state.replay)

    def _connect(self, subscriber: "zmq.Socket[bytes] | zmq.asyncio.Socket") -> None:
        source, family = self.inbox.source, self.inbox.family
        if self._keys is not None:
            self._keys.use(subscriber)
        subscriber.setsockopt(zmq.RCVHWM, QUEUE)
        subscriber.setsockopt(zmq.MAXMSGSIZE, LONGEST)
        subscriber.setsockopt(zmq.IPV6, int("[" in self.endpoint))
        wanted = [f"sv1/{source}/" if source else "sv1/"]
        if source and family:
            wanted = [topics.of(source, family)]
        wanted += [topics.of(source, "hb"), SYSTEM_TOPIC] if source else []
        for topic in wanted:  # heartbeats last: when one comes, all before it are in force
            subscriber.setsockopt(zmq.SUBSCRIBE, topic.encode())
        subscriber.setsockopt(zmq.SUBSCRIBE, WELCOME)
        _connect(subscriber, self.endpoint, "a feed")


class _Asker:
    """The socket to the replay server, made anew when its address changes."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]] | zmq.asyncio.Context",
        keys: ClientKeys | None,
    ) -> None:
        self._context = context
        self._keys = keys
        self._socket: zmq.Socket[bytes] | zmq.asyncio.Socket | None = None
        self._endpoint = ""

    def ask(self, endpoint: str, request: protocol.Request) -> protocol.Reply | None:
        """Return the reply; None when there was none in time."""
        socket = self._connected(endpoint)
        with suppress(zmq.Again):  # the server refuses this client
            socket.send(protocol.encode(request), zmq.NOBLOCK)
        while socket.poll(REPLY_MS):
            reply = _reply(socket.recv_multipart(), request)  # type: ignore[arg-type]
            if reply is not None:
                return reply
        return None

    async def ask_async(self, endpoint: str, request: protocol.Request) -> protocol.Reply | None:
        """Return the reply; None when there was none in time."""
        socket = self._connected(endpoint)
        with suppress(zmq.Again):  # the server refuses this client
            await socket.send(protocol.encode(request), zmq.NOBLOCK)  # type: ignore[misc]
        while await socket.poll(REPLY_MS):  # type: ignore[misc]
            reply = _reply(await socket.recv_multipart(), request)  # type: ignore[misc]
            if reply is not None:
                return reply
        return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _connected(self, endpoint: str) -> "zmq.Socket[bytes] | zmq.asyncio.Socket":
        if self._socket is None or endpoint != self._endpoint:
            self.close()
            self._socket, self._endpoint = self._context.socket(zmq.DEALER), endpoint
            if self._keys is not None:
                self._keys.use(self._socket)
            self._socket.setsockopt(zmq.MAXMSGSIZE, LONGEST_REPLY)
            self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))
            _connect(self._socket, endpoint, "a replay server")
        return self._socket


def _connect(socket: "zmq.Socket[bytes] | zmq.asyncio.Socket", endpoint: str, server: str) -> None:
    """Connect; UsageError for what is no address."""
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise UsageError(
            f"{endpoint} is not the address of {server} ({zmq.strerror(error.errno or 0)}). "
            "Expected tcp://HOST:PORT, such as tcp://127.0.0.1:5560, or ipc://PATH"
        ) from None


def _left_ms(wait_ms: int | None, since: float) -> int:
    """Return what is left of a wait since a monotonic time, for a poller; −1: without end."""
    return -1 if wait_ms is None else max(0, wait_ms - round((time.monotonic() - since) * 1000))


def _reply(frames: list[bytes], request: protocol.Request) -> protocol.Reply | None:
    """Return the reply to this request; None for that to an earlier one."""
    try:
        reply = protocol.decode_reply(frames)
    except DataError:
        return None
    return reply if reply.id == request.id else None


def _is_early(reply: protocol.Reply | None) -> bool:
    return isinstance(reply, protocol.Failure) and reply.retry


def beside(endpoint: str, replay: str) -> str:
    """Return the address of the replay server as the feed at `endpoint` is reached.

    The publisher may have bound all interfaces, or be reached by another name.
    """
    scheme, _, rest = replay.partition("://")
    if scheme != "tcp" or not endpoint.startswith("tcp://"):
        return replay
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    return f"tcp://{host}:{rest.rpartition(':')[2]}"
