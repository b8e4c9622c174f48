"""The event types of the system, of no source: the disk that the log is on."""

from typing import assert_never

import msgspec

from streamvis.events.envelope import Count
from streamvis.events.family import Cells, EventTypes, members


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The file system of the output directory."""

    free_bytes: Count  # that a user other than root can write
    path: str  # the output directory


class Unlogged(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """Events of a source that were published, but will never be in the log.

    Not all between the first and the last offset need be missing: `count` of them are.
    """

    source: str
    count: Count
    first: int  # offset
    last: int


class SysDiskLow(msgspec.Struct, frozen=True, tag_field="type", tag="sys.disk_low"):
    disk: Disk


class SysDiskOk(msgspec.Struct, frozen=True, tag_field="type", tag="sys.disk_ok"):
    disk: Disk


class SysUnlogged(msgspec.Struct, frozen=True, tag_field="type", tag="sys.unlogged"):
    log: Unlogged


SystemBody = SysDiskLow | SysDiskOk | SysUnlogged


def line(what: SystemBody) -> str:
    """Return the line of `events tail`, after the type."""
    match what:
        case SysDiskLow(disk) | SysDiskOk(disk):
            return f"{disk.free_bytes / 1e6:.0f} MB free at {disk.path}"
        case SysUnlogged(log):
            return f"{log.count} events of {log.source}, offsets {log.first}..{log.last}"
        case _:
            assert_never(what)


def csv_rows(what: SystemBody) -> list[Cells]:
    """Return the row of the event."""
    match what:
        case SysDiskLow(disk) | SysDiskOk(disk):
            return [members(disk, "path", "free_bytes")]
        case SysUnlogged(log):
            return [{"other": log.source, "count": log.count}]
        case _:
            assert_never(what)


SYSTEM_EVENTS = EventTypes(
    (SysDiskLow, SysDiskOk, SysUnlogged), line, csv_rows, ("path", "free_bytes")
)
