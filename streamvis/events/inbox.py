"""Reads the messages of a feed: checks each of them, and finds lost ones by their numbers. Pure."""

from collections.abc import Sequence

import msgspec

from streamvis.errors import DataError
from streamvis.events import topics
from streamvis.events.codec import Codec
from streamvis.events.envelope import Event, Heartbeat, Lost, Time, new_epoch
from streamvis.events.feed import LONGEST, ON_DEMAND, WELCOME
from streamvis.events.topics import SYSTEM, SYSTEM_TOPIC

MOST_PARTS = 16  # of a message


class Inbox:
    """Checks each message of the feed and finds lost ones by their numbers. Pure."""

    def __init__(self, codec: Codec, source: str | None = None, family: str | None = None) -> None:
        self.codec = codec
        self.source = source
        self.family = family
        self.lost = 0  # messages that were lost
        self.gaps = 0  # how often messages were missing, and fetched from the log
        self.repeated = 0  # messages received again, after the publisher was restarted
        self.refused = 0  # messages that are not of this feed format
        self.ready = False  # after the first heartbeat every loss is noticed
        self.ended = False  # the last heartbeat announced the end of the run
        self.sources: list[str] = []  # open sources, by the last heartbeat
        self._last: dict[str, int] = {}  # topic -> tseq
        self._epochs: dict[str, str] = {}  # source -> boot of its publisher

    def take(self, parts: Sequence[bytes]) -> list[Event]:
        """The events of a message: none, one, or a `Lost` and one."""
        event = self.read(parts)
        return [] if event is None else self.count(event)

    def read(self, parts: Sequence[bytes]) -> Event | None:
        """The event of a message, heartbeats included; None when it is none."""
        if len(parts) == 1 and parts[0].startswith(WELCOME):
            return None
        try:
            event = _parsed(parts, self.codec)
        except DataError:
            self.refused += 1
            return None
        if isinstance(event.what, Heartbeat):
            self.ready, self.ended = True, event.what.hb.ended
            if event.source == SYSTEM:
                self.sources = event.what.hb.sources
        return event

    def count(self, event: Event) -> list[Event]:
        """The event, if it is wanted and new, after what was lost before it."""
        topic = topics.of(event.source, event.family)
        if self._epochs.get(event.source) != event.epoch:
            self._epochs[event.source] = event.epoch
            for known in [t for t in self._last if t.startswith(f"sv1/{event.source}/")]:
                del self._last[known]
        if isinstance(event.what, Heartbeat):
            wanted = [event] if self.family == "hb" and topic != SYSTEM_TOPIC else []
            return self._lost_before_heartbeat(event, event.what) + wanted
        return self._counted(topic, event.tseq, event) if self.wants(event) else []

    def wants(self, event: Event) -> bool:
        """Whether it is of the source and family that were asked for."""
        return self.wants_source(event.source) and self.wants_family(event.family)

    def wants_source(self, source: str) -> bool:
        """Whether the source was asked for."""
        return self.source in (None, source)

    def wants_family(self, family: str) -> bool:
        """Whether the family was asked for."""
        return family == self.family or (self.family is None and family != ON_DEMAND)

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
            topic = topics.of(event.source, family)
            if self.wants_source(event.source) and self.wants_family(family):
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


def _parsed(parts: Sequence[bytes], codec: Codec) -> Event:
    longest = max(map(len, parts), default=0)
    if not 3 <= len(parts) <= MOST_PARTS or len(parts[1]) != 8 or longest > LONGEST:
        raise DataError(f"not a message of the feed: {len(parts)} frames, expected 3 or more")
    event = codec.decode(parts[2])
    tseq = int.from_bytes(parts[1])
    topic = topics.of(event.source, event.family)
    if parts[0] != topic.encode() or tseq != event.tseq:
        raise DataError("topic or number of a message differ from those of its event")
    if len(parts) > 3:
        event = msgspec.structs.replace(event, attachments=tuple(parts[3:]))
    return event
