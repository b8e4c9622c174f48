"""Events as JSON lines in a file, or on standard output.

A line is in the file completely or not at all: what a killed bridge, or a full disk, left of one is
cut off. The file is opened for each batch, so that it may be renamed at any time (logrotate).
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from streamvis.bridges.loop import NOTHING, UnreachableError
from streamvis.bridges.selection import TypeFilter
from streamvis.bridges.stop import Stop
from streamvis.events.log import Row

MODE = 0o640
TAIL_BYTES = 1 << 16  # read at a time to find the last line end


class Lines:
    """The payloads of the selected events, as published."""

    def __init__(self, wanted: TypeFilter) -> None:
        self._wanted = wanted

    def messages(self, rows: Sequence[Row]) -> list[bytes]:
        return [row.payload for row in rows if row.type in self._wanted]

    def state(self) -> msgspec.Raw:
        return NOTHING

    def restore(self, state: msgspec.Raw) -> None:
        """Nothing is remembered."""


class LinesFile:
    """Appends lines to a file, which others may rename."""

    batch = 1000

    def __init__(self, path: Path, stop: Stop) -> None:
        self._path = path
        self._stop = stop

    def deliver(self, messages: Sequence[bytes]) -> int:
        try:
            append_lines(self._path, messages)
        except OSError as error:
            raise UnreachableError(f"{self._path} cannot be written: {error.strerror}") from None
        return 0

    def idle(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def close(self) -> None:
        """Nothing is open."""


class LinesOut:
    """Writes lines to standard output."""

    batch = 1000

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def deliver(self, messages: Sequence[bytes]) -> int:
        with self._stop.interrupts():  # the reader of a pipe may not read
            sys.stdout.buffer.writelines(line + b"\n" for line in messages)
            sys.stdout.buffer.flush()
        return 0

    def idle(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def close(self) -> None:
        """Standard output stays open."""


def append_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Append all of the lines to a file, or none of them."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        _append(fd, b"".join(line + b"\n" for line in lines))
    finally:
        os.close(fd)


def _append(fd: int, data: bytes) -> None:
    """Write all of the data after the last whole line, or none of it."""
    end = _end_of_lines(fd)
    os.ftruncate(fd, end)
    try:
        os.lseek(fd, end, os.SEEK_SET)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, end)
        raise


def _end_of_lines(fd: int) -> int:
    """Return the size of the file without a last line that has no end."""
    end = os.fstat(fd).st_size
    while end:
        start = max(0, end - TAIL_BYTES)
        last = os.pread(fd, end - start, start).rfind(b"\n")
        if last >= 0:
            return start + last + 1
        end = start
    return 0
