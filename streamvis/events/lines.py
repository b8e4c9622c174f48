"""Format each event as one line of text for `streamvis events tail`."""

import msgspec

from streamvis.events.codec import Codec
from streamvis.events.envelope import Event, EventBody, Heartbeat, Lost, Other

LONGEST = 200  # characters of an event of an unknown type


def line(event: Event, codec: Codec) -> str:
    """The event in one line: media time, source, type, and the members of its type."""
    seconds = event.time.media_us / 1e6
    text = _body(event.what, codec)
    return f"{seconds:10.3f}  {event.source}  {event.type:<12}  {text}".rstrip()


def _body(what: EventBody, codec: Codec) -> str:
    family = codec.types_of(what)
    if family is not None:
        return family.line(what)
    match what:
        case Heartbeat(beat):
            if beat.sources:
                return f"open: {', '.join(beat.sources)}"
            return ", ".join(f"{name} {tseq}" for name, tseq in beat.last.items())
        case Lost(topic, first, last):
            return f"{topic} {first}..{last} never came; the log has them"
        case Other(_, members):
            return msgspec.json.encode(members).decode()[:LONGEST]
        case _:
            raise TypeError(f"{type(what).__name__} is of no family of this codec")
