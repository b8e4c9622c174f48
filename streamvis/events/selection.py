"""Checks sources, types and families of events that a caller selects."""

from collections.abc import Collection, Sequence
from pathlib import Path

from streamvis.errors import UsageError
from streamvis.events.codec import Codec
from streamvis.events.envelope import Event, Lost
from streamvis.events.feed import ON_DEMAND
from streamvis.events.log import LogReader
from streamvis.events.subscriber import Since, read_since
from streamvis.events.topics import SYSTEM
from streamvis.sources.spec import ID

ALONE = ("hb", ON_DEMAND)  # families that only come to those who ask for nothing else


def check_families(families: Collection[str], codec: Codec) -> None:
    """Raise UsageError for a family that no event has, or that is only published for itself."""
    for family in sorted(families):
        if family not in codec.families:
            known = ", ".join(codec.families)
            raise UsageError(
                f"--family {family}: no such family of events; expected one of {known}"
            )
        if family in ALONE and len(families) > 1:
            raise UsageError(f"--family {family} can only be followed alone; leave out the others")


def check_source(source: str | None) -> None:
    """Raise UsageError for what cannot be the id of a source."""
    if source is not None and source != SYSTEM and not ID.fullmatch(source):
        raise UsageError(f"--source {source}: expected the id of a source, of a-z, 0-9, _ and -")


def is_of(event: Event, families: Collection[str]) -> bool:
    """Whether an event, or what was lost before it, is of one of the families; none: of all."""
    family = event.what.topic.split("/")[2] if isinstance(event.what, Lost) else event.family
    return not families or family in families


def absent_types(
    log: LogReader, source: str | None, types: Sequence[str], codec: Codec
) -> list[str]:
    """Return a note for each type or family of which the log holds no event.

    Raises UsageError for a source that the log does not hold, or a type that no event has.
    """
    sources = log.cursors()
    if source is not None and source not in sources:
        raise UsageError(
            f"--source {source}: not in {log.path}, which holds {', '.join(sources) or 'none'}"
        )
    if not types:
        return []
    there = log.types()
    known = {*there, *codec.names}
    families = {one.partition(".")[0] for one in known}
    for name in types:
        if name not in known | families:
            raise UsageError(
                f"--type {name}: no such type or family of events; {log.path} holds "
                f"{', '.join(there) or 'none'}"
            )
    absent = [t for t in types if not any(one == t or one.startswith(f"{t}.") for one in there)]
    return [f"{log.path} holds no event of type {t}; it holds {', '.join(there)}" for t in absent]


def start_of(text: str, source: str | None) -> Since:
    """Return where a subscription begins: `now`, `snapshot`, an offset, or the cursor of a file."""
    if text in ("now", "snapshot") or text.startswith("{"):
        return read_since(text, source)
    if text.isascii() and text.isdecimal():
        if source is None:
            raise UsageError(f"--since {text} is an offset in one source: add --source NAME")
        return int(text)
    expected = (
        "Expected now, snapshot, an offset from 0, or a file with the cursor of a subscription"
    )
    try:
        data = Path(text).read_bytes()
    except OSError as error:
        raise UsageError(f"--since {text}: {error.strerror}. {expected}") from None
    try:
        return read_since(data, source)
    except UsageError:  # its text quotes the file
        raise UsageError(f"--since {text}: the file holds no cursor. {expected}") from None
