"""Event types by family, and the codec that reads the events of all of them.

    codec = Codec([TRACKS, ACTIONS])
    event = codec.decode(payload)

Each family states its types, and how one of its events is shown in a line and in CSV.
"""

from collections.abc import Sequence
from typing import Any, Union

import msgspec

from streamvis.errors import ConfigError, DataError, UsageError
from streamvis.events.envelope import ASIDE, MAJOR, Event, EventBody, Heartbeat, Other
from streamvis.events.family import EventTypes
from streamvis.events.schema import json_schema
from streamvis.events.source_events import SOURCE_EVENTS
from streamvis.events.system_events import SYSTEM_EVENTS
from streamvis.parsing import alternatives


class _Type(msgspec.Struct):
    type: str


_ENVELOPE = {*Event.__struct_fields__, "type"} - {*ASIDE}
_events = msgspec.json.Decoder(Event)
_types = msgspec.json.Decoder(_Type)
_members = msgspec.json.Decoder(dict[str, Any])


class Codec:
    """Reads and describes the events of these families, of sources, the system, and heartbeats.

    Raises ConfigError when two families have types of one name.
    """

    def __init__(self, families: Sequence[EventTypes] = ()) -> None:
        self.of_types = (*families, SOURCE_EVENTS, SYSTEM_EVENTS)
        self._family_of = {one: family for family in self.of_types for one in family.types}
        self.types: tuple[type[EventBody], ...] = (
            *(one for family in self.of_types for one in family.types),
            Heartbeat,
        )
        self.names = {tag_of(one) for one in self.types}  # such as `track.begin`
        if len(self.names) < len(self.types):
            tags = [tag_of(one) for one in self.types]
            twice = next(tag for tag in tags if tags.count(tag) > 1)
            raise ConfigError(f"two kinds of stages have events of type '{twice}'")
        self.families = tuple(sorted({_family(one) for one in self.types}))
        union: Any = Union[self.types]  # noqa: UP007 - of types known when it runs
        self._bodies = msgspec.json.Decoder(union)

    @property
    def identities(self) -> dict[str, tuple[str, ...]]:
        """By family: the members of a body that identify what the event is about."""
        return {
            tag_of(one).partition(".")[0]: family.identity
            for one, family in self._family_of.items()
        }

    def types_of(self, what: EventBody) -> EventTypes | None:
        """Return the family of a body; None for heartbeats and unknown types."""
        return self._family_of.get(type(what))

    def decode(self, data: bytes | memoryview) -> Event:
        """Return the event that `encode` wrote, also by a later version of major 1.

        Its body is `Other` when the type is unknown here. Raises DataError on anything else.
        """
        try:
            event = _events.decode(data)
            kind = _types.decode(data).type
            what = self._bodies.decode(data) if kind in self.names else _other(kind, data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(f"not an event of {MAJOR}x ({len(data)} bytes): {error}") from None
        return msgspec.structs.replace(event, attachments=(), what=what)

    def json_schema(self, *names: str) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of these types and families on the wire; none: of all.

        Raises UsageError for a name that is neither.
        """
        for name in names:
            if name not in self.names and name not in self.families:
                known = sorted({*self.names, *self.families})
                raise UsageError(f"--type {name}: no such event type{alternatives(name, known)}")
        return json_schema(
            [one for one in self.types if not names or {tag_of(one), _family(one)} & {*names}]
        )


def tag_of(kind: type[EventBody]) -> str:
    """Return the name of an event type, such as `track.begin`."""
    return str(kind.__struct_config__.tag)


def _family(kind: type[EventBody]) -> str:
    return tag_of(kind).partition(".")[0]


def _other(kind: str, data: bytes | memoryview) -> Other:
    members = _members.decode(data)
    return Other(kind, {key: value for key, value in members.items() if key not in _ENVELOPE})
