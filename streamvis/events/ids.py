"""Ids of runs and events: version 7 UUIDs, whose first 48 bits are milliseconds since 1970.

An event's id is a function of the run, the source and the offset, so an event that is derived or
sent twice, say after a kill -9, has the same id both times.
"""

import hashlib
import secrets
import time
import uuid


def new_epoch() -> str:
    """The id of a new run."""
    return _uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))


def event_id(epoch: str, source: str, offset: int, time_us: int) -> str:
    """The id of the event at `offset`; `time_us` is its wall clock in µs, as precisely as known."""
    digest = hashlib.blake2b(f"{epoch}/{source}/{offset}".encode(), digest_size=10).digest()
    return _uuid7(time_us // 1000, int.from_bytes(digest))


def epoch_us(epoch: str) -> int:
    """The start time of a run by its id, µs since 1970; 0 when the id is not a UUID."""
    try:
        return (uuid.UUID(epoch).int >> 80) * 1000
    except ValueError:
        return 0


def _uuid7(unix_ms: int, bits: int) -> str:
    rand_a = (bits >> 62) & 0xFFF
    rand_b = bits & ((1 << 62) - 1)
    value = (unix_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    return str(uuid.UUID(int=value))
