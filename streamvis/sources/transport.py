"""Split an MPEG transport stream where its video streams change.

FFmpeg keeps the decoder of the first stream, and PyAV ignores streams that start later. So each
part is opened as a file of its own that ends where the next program map begins.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamvis.messages import Array

SYNC = 0x47
SIZES = (188, 192, 204)  # bytes of a packet: as broadcast, with a time code before, with parity
IN_A_ROW = 5  # sync bytes that show a size
BLOCK = 1024  # packets read at once
VIDEO = frozenset({0x01, 0x02, 0x10, 0x1B, 0x24, 0x33, 0x42, 0xD1, 0xD2, 0xEA})  # stream types
PAT, PMT = 0, 2  # table ids


class Change(NamedTuple):
    """Where the next part begins, and the program table to put before it."""

    at: int
    table: bytes


class Part:
    """A file object with the bytes from one change of video streams to the next."""

    def __init__(self, path: Path, size: int, start: Change) -> None:
        self.name = str(path)
        self.next: Change | None = None  # once everything before it was read
        self._file = path.open("rb", buffering=0)
        self._size = size
        self._start = start
        self._tables = Tables(size)
        self._tables.changed(start.table, 0, follows=True)
        self._scanned = start.at  # no change before this byte
        self._step = start.at  # from here on packets lie in step
        self._at = 0  # position of the next byte, from the start of the part
        self._block = b""
        self._block_at = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer than `size` at times; none at the end of the part."""
        offset = self._at - self._block_at
        if not 0 <= offset < len(self._block):
            self._block, self._block_at = self._load(self._at)
            offset = self._at - self._block_at
        data = self._block[offset : None if size < 0 else offset + size]
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position as in a file; the end is that of the whole file."""
        end = Path(self.name).stat().st_size - self._start.at + len(self._start.table)
        self._at = offset + (0, self._at, end)[whence]
        return self._at

    def tell(self) -> int:
        """The position of the next byte."""
        return self._at

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def follow(self, pid: int) -> None:
        """End the part where this stream ends, regardless of others."""
        self._tables.followed = pid

    def following(self) -> "Part | None":
        """The part after this one, which was read to its end; None after the last."""
        return Part(Path(self.name), self._size, self.next) if self.next else None

    def _load(self, at: int) -> tuple[bytes, int]:
        """A block that holds position `at`, and the position where it begins."""
        table = self._start.table
        if at < len(table):
            return table, 0
        begin, block = self._block_of(self._start.at + at - len(table))
        follows = begin <= self._scanned < begin + len(block)
        changed = self._tables.changed(block, begin, follows=follows)
        if changed is not None:
            block = block[: changed.at - begin]
            if follows:
                self.next = changed
        if follows:
            self._scanned = begin + len(block)
        return block, begin - self._start.at + len(table)

    def _block_of(self, position: int) -> tuple[int, bytes]:
        """Where the block that holds a byte of the file begins, and its packets that lie in step.

        It is empty at the end of the part.
        """
        while True:
            step = self._step if position >= self._step else self._start.at
            begin = step + (position - step) // self._size * self._size
            end = BLOCK * self._size if self.next is None else max(0, self.next.at - begin)
            self._file.seek(begin)
            block = self._file.read(min(end, BLOCK * self._size)) or b""
            out_of_step = self._tables.out_of_step(block)
            if not out_of_step:
                return begin, block
            self._step = begin + out_of_step  # bytes were lost on the way
            if position < self._step:
                return begin, block[:out_of_step]


class Tables:
    """The video streams of each program, by the tables of a transport stream."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._head = size - 188 if size == 192 else 0  # bytes before the sync byte
        self._maps: dict[int, int] = {}  # program -> PID of its map
        self._video: dict[int, frozenset[tuple[int, int]]] = {}  # program -> (PID, stream type)
        self._sections: dict[int, tuple[int, bytes]] = {}  # PID -> where it began, so far
        self._table = b""  # the packet of the last association table
        self.followed: int | None = None  # PID of the stream that is decoded, once it is chosen

    def changed(self, block: bytes, begin: int, *, follows: bool) -> Change | None:
        """The first change in a block of packets that begins at byte `begin` of the file."""
        if not follows:
            self._sections.clear()
        for offset in self._of_tables(block):
            packet = block[offset : offset + self._size]
            for at, section in self._complete(packet[self._head :][:188], begin + offset):
                if section[0] == PAT and self._other_programs(section):
                    return Change(at, b"")
                if section[0] == PAT:
                    self._table = packet
                if section[0] == PMT and self._other_video(section):
                    return Change(at, self._table)
        return None

    def out_of_step(self, block: bytes) -> int:
        """Where in a block packets begin that do not follow on those before; 0 if all do."""
        syncs = np.frombuffer(block, np.uint8)[self._head :: self._size] == SYNC
        if syncs.all():
            return 0
        lost = int(syncs.argmin()) * self._size
        row = bytes([SYNC]) + b"." * (self._size - 1)
        found = re.compile(row * (IN_A_ROW - 1) + row[:1], re.DOTALL).search(
            block, lost + self._head + 1
        )
        return found.start() - self._head if found else 0

    def _of_tables(self, block: bytes) -> Iterator[int]:
        """Offsets of the packets with tables, as far as their PIDs are known."""
        count = len(block) // self._size
        packets: Array = np.frombuffer(block, np.uint8, count * self._size)
        head = packets.reshape(count, self._size)[:, self._head : self._head + 3].astype(np.int32)
        pids = (head[:, 1] & 0x1F) << 8 | head[:, 2]
        pids[head[:, 0] != SYNC] = -1
        row = 0
        while (found := np.isin(pids[row:], [0, *self._maps.values()])).any():
            row += int(found.argmax())
            yield row * self._size
            row += 1

    def _complete(self, packet: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        """The section that a packet completes, and where in the file that began."""
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)  # after the adaptation field
        payload = packet[start:] if packet[3] & 0x10 else b""
        if packet[1] & 0x40 and payload:  # a section begins in it
            self._sections[pid] = at, payload[1 + payload[0] :]
        elif pid in self._sections:
            began, section = self._sections[pid]
            self._sections[pid] = began, section + payload
        began, section = self._sections.get(pid, (at, b""))
        length = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF) if len(section) >= 3 else 0
        if length and len(section) >= length:
            del self._sections[pid]
            section = section[:length]
            if length >= 12 and section[5] & 1 and not checksum(section):  # valid now
                yield began, section

    def _other_programs(self, section: bytes) -> bool:
        """Record an association table; return whether all programs differ from before."""
        body = section[8:-4]
        entries = struct.iter_unpack(">HH", body[: len(body) // 4 * 4])
        maps = {program: pid & 0x1FFF for program, pid in entries if program}
        gone = bool(maps and self._maps) and not maps.items() & self._maps.items()
        if not gone:
            self._maps = maps or self._maps
        return gone

    def _other_video(self, section: bytes) -> bool:
        """Record a program map; return whether the decoded stream is no longer in it.

        As long as none is chosen: whether all of its video streams differ from before.
        """
        program = int.from_bytes(section[3:5], "big")
        at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
        video = set()
        while at + 5 <= len(section) - 4:
            kind, pid, length = struct.unpack_from(">BHH", section, at)
            if kind in VIDEO:
                video.add((pid & 0x1FFF, kind))
            at += 5 + (length & 0xFFF)
        if not video:  # a pause
            return False
        before = self._video.get(program, frozenset(video))
        ours = {stream for stream in before if self.followed in (None, stream[0])}
        gone = bool(ours) and not ours & video
        self._video[program] = before if gone else frozenset(video)
        return gone


def first_part(path: Path) -> Part | None:
    """The first part of a transport stream; None for other files."""
    if not path.is_file():  # a pipe: what is read here would be missing there
        return None
    try:
        with path.open("rb") as file:
            head = file.read(IN_A_ROW * max(SIZES))
    except OSError:
        return None
    for size in SIZES:
        first = 4 if size == 192 else 0
        if head[first::size][:IN_A_ROW] == bytes([SYNC]) * IN_A_ROW:
            return Part(path, size, Change(0, b""))
    return None


def checksum(section: bytes) -> int:
    """CRC-32/MPEG-2 of a section with its own checksum: 0 if it is whole."""
    crc = 0xFFFFFFFF
    for byte in section:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc
