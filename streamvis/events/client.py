"""Subscribe to the feed of a run.

    async for event in streamvis.subscribe("tcp://127.0.0.1:5560", source="cam1", family="track"):
        match event.what:
            case TrackBegin(track): ...
            case Lost(topic, first, last): ...

Lost messages appear as a `Lost` event at their position. Attachments are in `event.attachments`;
`mask_attachments.mask_of(event)` decodes them.

A subscription continues after a run has ended or its publisher has died, with the next publisher
at the address. `until_ended=True` ends it with the run.
"""

from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
import zmq
import zmq.asyncio

from streamvis.errors import DataError, UsageError
from streamvis.events import envelope
from streamvis.events.codec import Codec
from streamvis.events.envelope import SYSTEM_TOPIC, Event, Heartbeat, Lost, Time, new_epoch
from streamvis.events.feed import LONGEST, WELCOME
from streamvis.transport.keys import ClientKeys

MOST_PARTS = 16  # of a message
QUEUE = 10_000  # messages that wait for a slow reader


class Inbox:
    """Checks each message of the feed and finds lost ones by their numbers. Pure."""

    def __init__(self, codec: Codec, source: str | None = None, family: str | None = None) -> None:
        self.codec = codec
        self.source = source
        self.family = family
        self.lost = 0  # messages that were lost
        self.repeated = 0  # messages received again, after the publisher was restarted
        self.refused = 0  # messages that are not of this feed format
        self.ready = False  # after the first heartbeat every loss is noticed
        self.ended = False  # the last heartbeat announced the end of the run
        self.sources: list[str] = []  # open sources, by the last heartbeat
        self._last: dict[str, int] = {}  # topic -> tseq
        self._epochs: dict[str, str] = {}  # source -> boot of its publisher

    def take(self, parts: Sequence[bytes]) -> list[Event]:
        """The events of a message: none, one, or a `Lost` and one."""
        if len(parts) == 1 and parts[0].startswith(WELCOME):
            return []
        try:
            topic, tseq, event = _parsed(parts, self.codec)
        except DataError:
            self.refused += 1
            return []
        if self._epochs.get(event.source) != event.epoch:
            self._epochs[event.source] = event.epoch
            for known in [t for t in self._last if t.startswith(f"sv1/{event.source}/")]:
                del self._last[known]
        if isinstance(event.what, Heartbeat):
            self.ready, self.ended = True, event.what.hb.ended
            if topic == SYSTEM_TOPIC:
                self.sources = event.what.hb.sources
            wanted = [event] if self.family == "hb" and topic != SYSTEM_TOPIC else []
            return self._lost_before_heartbeat(event, event.what) + wanted
        if self.source not in (None, event.source) or self.family not in (None, event.family):
            return []
        return self._counted(topic, tseq, event)

    def _counted(self, topic: str, tseq: int, event: Event) -> list[Event]:
        last = self._last.get(topic, tseq - 1)
        if tseq <= last:
            self.repeated += 1
            return []
        self._last[topic] = tseq
        return [*self._lost(event, topic, last + 1, tseq - 1), event]

    def _lost_before_heartbeat(self, event: Event, beat: Heartbeat) -> list[Event]:
        """A heartbeat is sent after the messages it counts: those not received are lost."""
        found: list[Event] = []
        for family, tseq in beat.hb.last.items():
            topic = envelope.topic(event.source, family)
            if self.source in (None, event.source) and self.family in (None, family):
                last = self._last.get(topic, tseq)
                self._last[topic] = max(tseq, last)
                found += self._lost(event, topic, last + 1, tseq)
        return found

    def _lost(self, event: Event, topic: str, first: int, last: int) -> list[Event]:
        if last < first:
            return []
        self.lost += last - first + 1
        time = Time(media_us=event.time.media_us, emit_us=event.time.emit_us)
        return [
            Event(
                id=new_epoch(),
                source=event.source,
                epoch=event.epoch,
                tseq=0,
                offset=-1,
                time=time,
                what=Lost(topic=topic, first=first, last=last),
            )
        ]


def _parsed(parts: Sequence[bytes], codec: Codec) -> tuple[str, int, Event]:
    longest = max(map(len, parts), default=0)
    if not 3 <= len(parts) <= MOST_PARTS or len(parts[1]) != 8 or longest > LONGEST:
        raise DataError(f"not a message of the feed: {len(parts)} frames, expected 3 or more")
    event = codec.decode(parts[2])
    tseq = int.from_bytes(parts[1])
    topic = envelope.topic(event.source, event.family)
    if parts[0] != topic.encode() or tseq != event.tseq:
        raise DataError("topic or number of a message differ from those of its event")
    if len(parts) > 3:
        event = msgspec.structs.replace(event, attachments=tuple(parts[3:]))
    return topic, tseq, event


class Subscription:
    """Events in order of arrival, for `for` and `async for`; `inbox` has the counts.

    `timeout_s` ends it after that long without any message, heartbeats included; None: never.
    `until_ended` ends it with the run. `keys`: those of a client, for a feed that asks for them.
    """

    def __init__(
        self,
        endpoint: str,
        codec: Codec,
        source: str | None = None,
        family: str | None = None,
        timeout_s: float | None = None,
        *,
        until_ended: bool = False,
        keys: ClientKeys | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._keys = keys
        self.inbox = Inbox(codec, source, family)
        self._timeout_ms = None if timeout_s is None else int(timeout_s * 1000)
        self._until_ended = until_ended

    def __iter__(self) -> Iterator[Event]:
        for events in self.messages(self._timeout_ms):
            if events is None:
                return
            yield from events
            if self._until_ended and self.inbox.ended:
                return

    def messages(self, wait_ms: int | None) -> Iterator[list[Event] | None]:
        """The events of each message, often none; None after `wait_ms` without a message."""
        context = zmq.Context()
        subscriber = context.socket(zmq.SUB)
        try:
            self._connect(subscriber)
            while True:
                came = subscriber.poll(wait_ms)
                yield self.inbox.take(subscriber.recv_multipart()) if came else None
        finally:
            subscriber.close(
                linger=0
            )  # by hand: under a garbage collection, destroy() would miss it
            context.term()

    async def __aiter__(self) -> AsyncIterator[Event]:
        context = zmq.asyncio.Context()
        subscriber = context.socket(zmq.SUB)
        try:
            self._connect(subscriber)
            while await subscriber.poll(self._timeout_ms):
                for event in self.inbox.take(await subscriber.recv_multipart()):
                    yield event
                if self._until_ended and self.inbox.ended:
                    return
        finally:
            subscriber.close(
                linger=0
            )  # by hand: under a garbage collection, destroy() would miss it
            context.term()

    def _connect(self, subscriber: "zmq.Socket[bytes] | zmq.asyncio.Socket") -> None:
        source, family = self.inbox.source, self.inbox.family
        if self._keys is not None:
            self._keys.use(subscriber)
        subscriber.setsockopt(zmq.RCVHWM, QUEUE)
        subscriber.setsockopt(zmq.MAXMSGSIZE, LONGEST)
        subscriber.setsockopt(zmq.IPV6, int("[" in self.endpoint))
        topics = [f"sv1/{source}/" if source else "sv1/"]
        if source and family:
            topics = [envelope.topic(source, family)]
        topics += [envelope.topic(source, "hb"), SYSTEM_TOPIC] if source else []
        for topic in topics:  # heartbeats last: when one comes, all before it are in force
            subscriber.setsockopt(zmq.SUBSCRIBE, topic.encode())
        subscriber.setsockopt(zmq.SUBSCRIBE, WELCOME)
        try:
            subscriber.connect(self.endpoint)
        except zmq.ZMQError as error:
            raise UsageError(
                f"{self.endpoint}: {error.strerror}. Expected an address like tcp://127.0.0.1:5560"
            ) from None
