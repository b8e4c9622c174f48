"""The media time of each picture in a segment, in a file beside it: `080000-e1.times`.

Players have no use for it. It is for those who look at recorded pictures together with events:
media times follow from when packets arrived, and cannot be found in the recording alone.

The file is a row of records, little endian: the number of a packet of the video in the segment,
from 0, u32; the media time of its picture in the connection, µs, i64. A record with the highest
number has what is added for the media time of the source; without it, media times are not known.
"""

import os
import struct
from collections import OrderedDict, deque
from pathlib import Path
from typing import NamedTuple

RECORD = struct.Struct("<Iq")
SHIFT = 2**32 - 1  # in the place of a number
MOST_DUE = 256  # packets whose pictures have not been decoded yet
BUFFERED = 25  # records, until they are written
MOST_HELD = 100_000  # records while no stage has taken a picture: over an hour
ENDING = ".times"


class _Place(NamedTuple):
    path: Path  # of the segment
    number: int


class PictureTimes:
    """Writes the media times of a stream epoch; a full disk ends those of a file."""

    def __init__(self) -> None:
        self._due: OrderedDict[int, _Place] = OrderedDict()  # by time stamp
        self._unstamped: deque[_Place] = deque(maxlen=MOST_DUE)  # as the first packets of RTP
        self._buffers: dict[Path, bytearray] = {}
        self._whole: dict[Path, bool] = {}  # files that have the shift, without a torn record
        self._shift_us: int | None = None

    def written(self, stamp: int | None, path: Path, number: int) -> None:
        """Record that a packet is that of this number in a segment."""
        if stamp is None:
            self._unstamped.append(_Place(path, number))
            return
        self._due[stamp] = _Place(path, number)
        while len(self._due) > MOST_DUE:
            self._due.popitem(last=False)

    def decoded(self, stamp: int | None, media_us: int) -> None:
        """Record the media time of the picture with a time stamp."""
        place = self._place(stamp)
        if place is None:
            return
        buffer = self._buffers.setdefault(place.path, bytearray())
        buffer += RECORD.pack(place.number, media_us)
        if len(self._buffers) > 1 or len(buffer) >= BUFFERED * RECORD.size:
            self.flush()

    def _place(self, stamp: int | None) -> _Place | None:
        if stamp is None:
            return self._unstamped.popleft() if self._unstamped else None
        self._unstamped.clear()  # those that are left were lost
        return self._due.pop(stamp, None)

    def shift(self, shift_us: int) -> None:
        """Record what is added to the media time of the connection for that of the source."""
        self._shift_us = shift_us

    def flush(self) -> None:
        """Write what is known by now; nothing before the shift is, which stands first in a file."""
        if self._shift_us is None:
            while sum(map(len, self._buffers.values())) > MOST_HELD * RECORD.size:
                del self._buffers[next(iter(self._buffers))]
            return
        whole: dict[Path, bool] = {}
        for path, buffer in self._buffers.items():
            data = bytes(buffer)
            if path not in self._whole:
                data = RECORD.pack(SHIFT, self._shift_us) + data
            whole[path] = self._whole.get(path, True) and _append(path, data)
        self._whole = whole
        self._buffers.clear()


def _append(segment: Path, records: bytes) -> bool:
    """Write records for a segment; False where it was deleted, or the disk may have torn one."""
    if not segment.exists():
        return False
    try:
        with open(segment.with_suffix(ENDING), "ab", opener=_open) as file:
            file.write(records)
    except OSError:
        return False
    return True


def _open(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)


def read_times(segment: Path) -> dict[int, int]:
    """Return media times (µs) by the number of the packet; none where they are not known."""
    try:
        data = segment.with_suffix(ENDING).read_bytes()
    except OSError:
        return {}
    whole = len(data) // RECORD.size * RECORD.size  # a kill may have torn the last record
    shift_us: int | None = None
    found: dict[int, int] = {}
    for number, media_us in RECORD.iter_unpack(data[:whole]):
        if number == SHIFT:
            shift_us = media_us
        else:
            found[number] = media_us
    return {} if shift_us is None else {number: us + shift_us for number, us in found.items()}


def first_time(segment: Path) -> int | None:
    """Return the lowest media time of a segment, without reading all of its times."""
    try:
        with segment.with_suffix(ENDING).open("rb") as file:
            head = file.read(RECORD.size * (BUFFERED + 2))
    except OSError:
        return None
    records = list(RECORD.iter_unpack(head[: len(head) // RECORD.size * RECORD.size]))
    shifts = [us for number, us in records if number == SHIFT]
    times = [us for number, us in records if number != SHIFT]
    return min(times) + shifts[0] if shifts and times else None
