"""The state of each source and its lifecycle events, as MQTT messages.

    sv/status              online, offline (last will): of the bridge
    sv/SOURCE/status       online, stalled, offline, ended
    sv/SOURCE/people       number of open tracks
    sv/SOURCE/event        lifecycle events as in the feed, not retained
    sv/SOURCE/snapshot     a picture, JPEG, where snapshots are on
    sv/SOURCE/zone/ZONE/people, occupied, longest_s
    sv/SOURCE/line/LINE/in, out

`homeassistant/device/sv_SOURCE/config` describes the entities of a source (`home_assistant.py`).
"""

from collections.abc import Iterable, Sequence
from functools import partial

import msgspec

from streamvis.bridges.home_assistant import discovery
from streamvis.bridges.mqtt_broker import Message
from streamvis.bridges.selection import is_lifecycle
from streamvis.bridges.source_state import UPDATES, Shapes, SourceNow, fold, touched_by
from streamvis.errors import DataError
from streamvis.events.codec import Codec
from streamvis.events.log import Row
from streamvis.events.topics import SYSTEM
from streamvis.logs import warn

CUT_OFF_STATUSES = ("online", "stalled")


class Topics(msgspec.Struct, frozen=True):
    """The names of topics."""

    prefix: str = "sv"
    discovery: str = "homeassistant"  # empty: without messages for Home Assistant

    def of(self, source: str, name: str) -> str:
        return f"{self.prefix}/{source}/{name}"

    @property
    def status(self) -> str:
        return f"{self.prefix}/status"

    def device(self, source: str) -> str:
        """Return the name of a source's device."""
        return f"{self.prefix}_{source}".replace("/", "_")

    def config(self, source: str) -> str:
        return f"{self.discovery}/device/{self.device(source)}/config"


class MqttMapping:
    """The messages of events. What it remembers are the states of sources."""

    def __init__(self, codec: Codec, topics: Topics, *, snapshots: bool = False) -> None:
        self._codec = codec
        self._topics = topics
        self._snapshots = snapshots
        self._event_types = sorted(one for one in codec.names if is_lifecycle(one))
        self._sources: dict[str, SourceNow] = {}
        self._cut_off: dict[str, str] = {}  # source whose run was killed -> its status before
        self.events = 0  # taken so far

    def messages(self, rows: Sequence[Row]) -> list[Message]:
        self.events += len(rows)
        return latest_states(
            message
            for row in rows
            if is_lifecycle(row.type) or row.type in UPDATES
            for message in self._of(row)
        )

    def _of(self, row: Row) -> list[Message]:
        published = []
        if is_lifecycle(row.type):
            topic = self._topics.of(row.source, "event")
            published.append(Message(topic, row.payload, retain=False))
        if row.source == SYSTEM:
            return published
        try:
            event = self._codec.decode(row.payload)
        except DataError as error:
            warn("an event of the log cannot be read", source=row.source, reason=str(error))
            return published
        new = row.source not in self._sources
        now = self._sources.setdefault(row.source, SourceNow(pictured=self._snapshots))
        shapes, touched = now.shapes, touched_by(now, event)
        before = {} if new else _by_topic(self._states(row.source, now, touched))
        now.status = self._cut_off.pop(row.source, now.status)  # a run writes again
        fold(now, event)
        states = self._states(row.source, now, touched)
        announced = self._announcement(row.source, now) if new or now.shapes != shapes else []
        gone = [Message(topic, b"") for topic in before.keys() - _by_topic(states).keys()]
        changed = [one for one in states if before.get(one.topic) != one.payload]
        return [*announced, *changed, *sorted(gone), *published]

    def current(self) -> list[Message]:
        """Return the retained messages of all sources, as they are now, without pictures.

        Pictures of a time when snapshots were on are removed.
        """
        messages = []
        for source, now in self._sources.items():
            messages += [*self._announcement(source, now), *self._states(source, now, now.shapes)]
            if now.pictured and not self._snapshots:
                messages.append(self.snapshot(source, b""))
        return messages

    def cut_off(self) -> list[Message]:
        """Return that the sources are offline, after their run was killed.

        The next event of a source says that a run writes again.
        """
        there = {
            source: now for source, now in self._sources.items() if now.status in CUT_OFF_STATUSES
        }
        for source, now in there.items():
            self._cut_off[source], now.status = now.status, "offline"
        return [Message(self._topics.of(source, "status"), b"offline") for source in there]

    def online(self) -> list[str]:
        """Return the sources that are online."""
        return [source for source, now in self._sources.items() if now.status == "online"]

    def snapshot(self, source: str, jpeg: bytes) -> Message:
        """Return the message of a picture."""
        return Message(self._topics.of(source, "snapshot"), jpeg)

    def forget(self, source: str) -> list[Message]:
        """Forget a source; return the empty messages that remove what is retained of it."""
        now = self._sources.pop(source, SourceNow())
        retained = [*self._announcement(source, now), *self._states(source, now, now.shapes)]
        if now.pictured or self._snapshots:
            retained.append(self.snapshot(source, b""))
        return [message._replace(payload=b"") for message in retained]

    def state(self) -> msgspec.Raw:
        logged = {
            source: msgspec.structs.replace(now, status=self._cut_off.get(source, now.status))
            for source, now in self._sources.items()
        }
        return msgspec.Raw(msgspec.json.encode(logged))

    def restore(self, state: msgspec.Raw) -> None:
        try:
            self._sources = msgspec.json.decode(state, type=dict[str, SourceNow] | None) or {}
        except msgspec.DecodeError as error:
            raise DataError(
                f"the progress is not that of an MQTT bridge: {error}; give each bridge "
                "a --name of its own"
            ) from None
        for now in self._sources.values():
            now.pictured |= self._snapshots

    def _announcement(self, source: str, now: SourceNow) -> list[Message]:
        topics = self._topics
        if not topics.discovery:
            return []
        payload = discovery(
            topics.device(source),
            source,
            now,
            topic_of=partial(topics.of, source),
            bridge_status=topics.status,
            event_types=self._event_types,
            snapshots=self._snapshots,
        )
        return [Message(topics.config(source), msgspec.json.encode(payload))]

    def _states(self, source: str, now: SourceNow, shapes: Shapes) -> list[Message]:
        """Return the states of the source, and of these zones and lines as far as it has them."""
        values = {"status": now.status, "people": str(len(now.open))}
        for name in sorted(shapes.zones & now.zones.keys()):
            zone = now.zones[name]
            values[f"zone/{name}/people"] = str(zone.people)
            values[f"zone/{name}/occupied"] = "ON" if zone.people else "OFF"
            values[f"zone/{name}/longest_s"] = f"{zone.longest_s:.1f}"
        for name in sorted(shapes.lines & now.lines.keys()):
            line = now.lines[name]
            values[f"line/{name}/in"] = str(line.in_total)
            values[f"line/{name}/out"] = str(line.out_total)
        return [
            Message(self._topics.of(source, name), value.encode()) for name, value in values.items()
        ]


def _by_topic(messages: Iterable[Message]) -> dict[str, bytes]:
    return {message.topic: message.payload for message in messages}


def latest_states(messages: Iterable[Message]) -> list[Message]:
    """Leave out retained messages that a later one of the same topic replaces."""
    listed = list(messages)
    last = {message.topic: place for place, message in enumerate(listed) if message.retain}
    return [
        message
        for place, message in enumerate(listed)
        if not message.retain or last[message.topic] == place
    ]
