"""The event types of the system, of no source: the disk that the log is on."""

from typing import assert_never

import msgspec

from streamvis.events.envelope import Count
from streamvis.events.family import Cells, EventTypes, members


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The file system of the output directory."""

    free_bytes: Count  # free for users other than root
    path: str  # the output directory


class Unlogged(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """Events of a source that were published, but will never be in the log.

    Not all between the first and the last offset need be missing: `count` of them are.
    """

    source: str  # id of the source
    count: Count  # how many are missing
    first: int  # offset of the first missing event
    last: int  # offset of the last one


class SysDiskLow(msgspec.Struct, frozen=True, tag_field="type", tag="sys.disk_low"):
    """Less than 1 GB, or than 5 % of the disk if that is less, is free for the output directory."""

    disk: Disk  # free space


class SysDiskOk(msgspec.Struct, frozen=True, tag_field="type", tag="sys.disk_ok"):
    """20 % more than the limit of `sys.disk_low` is free again."""

    disk: Disk  # free space


class SysUnlogged(msgspec.Struct, frozen=True, tag_field="type", tag="sys.unlogged"):
    """Events were published that are not in the log, and never will be."""

    log: Unlogged  # which ones


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
