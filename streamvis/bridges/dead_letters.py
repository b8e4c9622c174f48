"""Events that a server refused for good, kept as JSON lines beside the progress of the bridge."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from streamvis.bridges.jsonl import append_lines
from streamvis.bridges.loop import UnreachableError
from streamvis.errors import DataError
from streamvis.events.log import Row


class DeadLetter(msgspec.Struct, frozen=True):
    """A refused event, and the answer to it."""

    at: str  # ISO 8601, UTC
    id: str
    source: str
    type: str
    status: int  # of HTTP
    reason: str
    event: msgspec.Raw  # as it was sent; a text where that was no JSON


class DeadLetters:
    """Keeps and lists the dead letters of one bridge."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, id: str, row: Row, status: int, reason: str, at_s: float) -> None:
        """Append a letter. UnreachableError when the disk is full."""
        at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
        letter = DeadLetter(at, id, row.source, row.type, status, reason, _as_json(row.payload))
        try:
            append_lines(self.path, [msgspec.json.encode(letter)])
        except OSError as error:
            raise UnreachableError(
                f"dead letters cannot be kept in {self.path}: {error.strerror}"
            ) from None

    def listed(self) -> list[DeadLetter]:
        """Return the letters, the latest of each event, in the order in which they were refused."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from None
        letters: dict[str, DeadLetter] = {}
        for number, line in enumerate(lines, start=1):
            try:
                letter = msgspec.json.decode(line, type=DeadLetter)
            except (msgspec.DecodeError, RecursionError) as error:
                raise DataError(
                    f"{self.path}, line {number}, is no dead letter: {error}; delete the line"
                ) from None
            letters.pop(letter.id, None)
            letters[letter.id] = letter
        return list(letters.values())


def _as_json(payload: bytes) -> msgspec.Raw:
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(payload.decode(errors="replace")))
    return msgspec.Raw(payload)
