"""Reads the bodies of some types of events from the rows of a log, and little else of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

import msgspec

from streamvis.errors import DataError
from streamvis.events.codec import tag_of
from streamvis.events.envelope import EventBody, FrameRef, Provenance, Time
from streamvis.events.log import Row


class Head(msgspec.Struct, frozen=True):
    """What is read of an event beside its body."""

    epoch: str  # of the run
    time: Time
    frame: FrameRef | None = None
    prov: Provenance = Provenance()


class _RawHead(msgspec.Struct, frozen=True):
    """The members of a head as they are written, which events of one frame have in common."""

    epoch: msgspec.Raw
    time: msgspec.Raw
    frame: msgspec.Raw = msgspec.Raw(b"null")
    prov: msgspec.Raw = msgspec.Raw(b"{}")


class BodyReader:
    """Decodes events of these types; others are passed over."""

    def __init__(self, path: Path, types: Sequence[type[EventBody]]) -> None:
        self._path = path  # of the log, for errors
        self._heads = msgspec.json.Decoder(Head)
        self._whole = {_whole(one): one for one in types}
        union: Any = Union[tuple(self._whole)]  # noqa: UP007 - of types known when it runs
        self._events = msgspec.json.Decoder(union)
        self._last = b"", Head("", Time(media_us=0))  # a head as it is written, and decoded
        self.names = frozenset(tag_of(one) for one in types)

    def read(self, row: Row) -> tuple[Head, EventBody] | None:
        """Return head and body of an event; None for another type. DataError for a damaged one."""
        if row.type not in self.names:
            return None
        event = self._decoded(row, self._events)
        body = self._whole[type(event)]
        written = b"|".join((event.epoch, event.time, event.frame, event.prov))
        if written != self._last[0]:
            self._last = written, self.head(row)
        head = self._last[1]
        return head, body(*[getattr(event, name) for name in body.__struct_fields__])

    def head(self, row: Row) -> Head:
        """Return the head of an event of any type."""
        head: Head = self._decoded(row, self._heads)
        return head

    def _decoded(self, row: Row, decoder: Any) -> Any:
        try:
            return decoder.decode(row.payload)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(
                f"{self._path}: event {row.offset} of '{row.source}' is damaged: {error}. "
                f"Expected a {row.type}; restore the file from a copy"
            ) from None


def _whole(body: type[EventBody]) -> type[msgspec.Struct]:
    """Return a type with the members of a body, and those of the head as they are written."""
    fields: list[Any] = []
    for field in (*msgspec.structs.fields(body), *msgspec.structs.fields(_RawHead)):
        default: Any = {"default": field.default, "default_factory": field.default_factory}
        more = () if field.required else (msgspec.field(**default),)
        fields.append((field.name, field.type, *more))
    return msgspec.defstruct(
        body.__name__, fields, tag_field="type", tag=tag_of(body), frozen=True, kw_only=True
    )
