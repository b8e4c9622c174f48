"""Pages of the event log: by source and media time, or of all sources in order of commit.

Each page is found by an index and bounded three times: by the number of events in it, by their
bytes, and by the number of events that are looked at. A page may therefore have fewer events than
asked for, or none, and still a `next`.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from streamvis.events.log import Cursor, LogReader, Row
from streamvis.stages import event_codec
from streamvis.web.problems import RefusedError, shown

MOST_EVENTS = 1000
MOST_BYTES = 1 << 20  # of payloads in a page
MOST_SCANNED = 20_000  # events of a source that are looked at for a page
MOST_SCANNED_OF_ALL = 2000  # the same without a source: these are read as a whole
LATEST_US = 2**63 - 2

_TYPE = r"[a-z_]{1,32}(\.[a-z_]{1,32})?"
TYPES = rf"^{_TYPE}(,{_TYPE}){{0,31}}$"
SOURCE = r"^[a-z0-9_-]{1,64}$"

Time = Annotated[int, Meta(ge=0, le=LATEST_US)]
Place = Annotated[int, Meta(ge=0, le=LATEST_US)]


class EventQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are wanted."""

    source: Annotated[str, Meta(pattern=SOURCE)] | None = None  # id of a source; `_sys`: the
    # publisher itself; absent: all of them, in order of commit
    from_us: Time | None = None  # media time of the first event; needs `source`
    to_us: Time | None = None  # media time of the last event, included; needs `source`
    types: Annotated[str, Meta(pattern=TYPES)] | None = None  # types and families, separated by
    # commas: `track.begin,zone`
    limit: Annotated[int, Meta(ge=1, le=MOST_EVENTS)] = 100  # events at most
    cursor: Place | None = None  # `next` of the page before


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order, as they were published."""

    events: list[msgspec.Raw]
    next: str | None  # `cursor` of the next page; null: these were the last ones


def cursor_of(log: LogReader, source: str) -> Cursor:
    """Return how far the log is for a source; RefusedError for an unknown one."""
    cursors = log.cursors()
    known = cursors.get(source)
    if known is None:
        raise RefusedError(
            404,
            "query parameter source",
            f"no source {shown(source)} in the log",
            expected=f"one of {', '.join(cursors) or 'none: nothing is logged yet'}",
        )
    return known


def types_of(text: str | None, log: LogReader) -> tuple[str, ...]:
    """Return types and families; RefusedError for one that no installed stage has, nor the log."""
    types = tuple(text.split(",")) if text else ()
    codec = event_codec()
    families = [*codec.families]
    unknown = [name for name in types if name not in codec.names and name not in families]
    if unknown:
        there = log.types()
        unknown = [name for name in unknown if not any(is_named(one, (name,)) for one in there)]
    if unknown:
        raise RefusedError(
            400,
            "query parameter types",
            f"{shown(unknown[0])} is no type or family of events",
            expected=f"one of {', '.join(families)}, or a type such as track.end",
        )
    return types


def page_of(log: LogReader, query: EventQuery) -> EventPage:
    """Return a page; RefusedError for an unknown source, GoneError for events that are evicted."""
    types = types_of(query.types, log)
    if query.source is None:
        return _of_all(log, query, types)
    known = cursor_of(log, query.source)
    if query.from_us is not None and query.to_us is not None and query.from_us > query.to_us:
        raise RefusedError(
            400,
            "query parameters from_us, to_us",
            f"{query.from_us} is after {query.to_us}",
            expected="from_us at most to_us",
        )
    oldest = max(known.first, log.oldest(query.source))
    first, last = oldest, known.next - 1
    if query.cursor is not None:
        first = query.cursor
    elif query.from_us is not None:
        first = log.first_at(query.source, query.from_us, oldest)
    if query.to_us is not None:
        last = min(last, log.first_at(query.source, query.to_us + 1, oldest) - 1)
    end = min(last, first + MOST_SCANNED - 1)
    events: list[msgspec.Raw] = []
    size = 0
    for row in log.since(query.source, first, end, types=types):
        size += len(row.payload)
        if len(events) == query.limit or (events and size > MOST_BYTES):
            return EventPage(events=events, next=str(row.offset))
        events.append(msgspec.Raw(row.payload))
    return EventPage(events=events, next=str(end + 1) if end < last else None)


def _of_all(log: LogReader, query: EventQuery, types: tuple[str, ...]) -> EventPage:
    if query.from_us is not None or query.to_us is not None:
        raise RefusedError(
            400,
            "query parameters from_us, to_us",
            "no source, and each source has a media time of its own",
            expected="source=ID",
            to_do="ask for the events of one source",
        )
    newest = log.newest()
    rows = log.numbered(query.cursor or 0, MOST_SCANNED_OF_ALL)
    events: list[msgspec.Raw] = []
    size = 0
    for number, row in rows:
        if not is_of(row, types):
            continue
        size += len(row.payload)
        if len(events) == query.limit or (events and size > MOST_BYTES):
            return EventPage(events=events, next=str(number))
        events.append(msgspec.Raw(row.payload))
    following = rows[-1][0] + 1 if rows else newest + 1
    return EventPage(events=events, next=str(following) if following <= newest else None)


def is_of(row: Row, types: tuple[str, ...]) -> bool:
    """Whether an event is of one of the types or families; of none: all are wanted."""
    return not types or is_named(row.type, types)


def is_named(type_: str, types: Sequence[str]) -> bool:
    """Whether a type is one of these, or of one of these families."""
    return type_ in types or type_.partition(".")[0] in types
