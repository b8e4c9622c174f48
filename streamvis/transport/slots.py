"""Pictures in shared memory, written once by the decode process and read in place by stages.

A segment is a plain file in /dev/shm with a number of equal slots; a slot is named
"segment:byte offset". The hub creates segments and unlinks them; workers only map them.
`multiprocessing.shared_memory` is not used: before Python 3.13 its resource tracker unlinks
segments that others still use.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from streamvis.errors import DataError, RunError
from streamvis.messages import Array, Frame
from streamvis.transport.owner import is_abandoned, owned_name

DIRECTORY = Path("/dev/shm")
PAGE = 4096
MIB = 2**20


class Segment:
    """`count` slots of `size` bytes each, in memory that is allocated at once."""

    def __init__(self, count: int, size: int, what: str, directory: Path = DIRECTORY) -> None:
        self.name = owned_name()
        self.size = size
        self.stride = -(-size // PAGE) * PAGE
        self.slots = [f"{self.name}:{i * self.stride}" for i in range(count)]
        self._path = directory / self.name
        self._fd = -1
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
            # held as long as this process lives: segments without lock are removed
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            os.posix_fallocate(self._fd, 0, count * self.stride)  # without it: SIGBUS when full
        except OSError as error:
            self.close()
            raise RunError(_too_small(directory, what, count, self.stride, error)) from None

    def close(self) -> None:
        """Unlink the segment; the memory is freed when no process maps it any more."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


class SlotReader:
    """Reads the picture of a frame as a read-only view on its slot."""

    node = ""  # of the hub, whose slots need no name of a node
    received = (0, 0)  # frames and bytes that have come from other nodes

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._maps: dict[str, mmap.mmap] = {}

    def hold(self, frames: Iterable[Frame]) -> list[str]:
        """Make sure that these frames can be read; return the slots of those that cannot.

        Here all can: the hub, which keeps their memory, ends last.
        """
        return []

    def __call__(self, frame: Frame) -> Array:
        """Return the picture (H, W, 3) uint8 RGB, valid until the frame is answered."""
        return self.view(frame.slot, (frame.height, frame.width, 3))

    def view(self, slot: str, shape: tuple[int, ...]) -> Array:
        """Return what is in a slot; RunError when its segment cannot be mapped."""
        name, offset = _parsed(slot)
        if name not in self._maps:
            self.sweep()
            self._maps[name] = _mapped(self._directory, name, mmap.ACCESS_READ)
        return _view(self._maps[name], slot, offset, shape)

    def sweep(self) -> None:
        """Unmap segments that the hub has unlinked."""
        for name in [n for n in self._maps if not (self._directory / n).exists()]:
            _unmap(self._maps.pop(name))

    def close(self) -> None:
        while self._maps:
            _unmap(self._maps.popitem()[1])


class SlotWriter:
    """Writes pictures into slots."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._name = ""
        self._map: mmap.mmap | None = None

    def __call__(self, slot: str, pixels: Array) -> None:
        """Copy the picture (H, W, 3) uint8 into the slot: the only copy that is made of it."""
        name, offset = _parsed(slot)
        if self._map is None or name != self._name:
            self.close()
            self._name, self._map = name, _mapped(self._directory, name, mmap.ACCESS_WRITE)
        _view(self._map, slot, offset, pixels.shape)[...] = pixels

    def close(self) -> None:
        if self._map is not None:
            _unmap(self._map)
            self._map = None


def sweep_leftovers(directory: Path = DIRECTORY) -> list[str]:
    """Unlink the segments of runs that were killed, and return their names."""
    swept = []
    for path in directory.glob("streamvis-*"):
        if is_abandoned(path):
            path.unlink(missing_ok=True)
            swept.append(path.name)
    return swept


def _parsed(slot: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:.*/)?(streamvis-\d+-\d+-[0-9a-f]+):([0-9]{1,15})", slot)
    if match is None:
        raise DataError(
            f"{slot!r} is not a slot; expected streamvis-<pid>-<start>-<random>:<offset>"
        )
    return match[1], int(match[2])


def _mapped(directory: Path, name: str, access: int) -> mmap.mmap:
    flags = os.O_RDONLY if access == mmap.ACCESS_READ else os.O_RDWR
    try:
        fd = os.open(directory / name, flags | os.O_CLOEXEC)
    except OSError as error:
        raise RunError(
            f"shared memory {directory / name} cannot be opened: {error.strerror}"
        ) from None
    try:
        return mmap.mmap(fd, 0, access=access)
    finally:
        os.close(fd)


def _view(memory: mmap.mmap, slot: str, offset: int, shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape))
    if min(shape) < 1 or offset + count > len(memory):
        raise DataError(
            f"a picture of shape {shape} does not fit slot {slot}: the segment has "
            f"{len(memory)} bytes"
        )
    return np.frombuffer(memory, np.uint8, count, offset).reshape(shape)


def _unmap(memory: mmap.mmap) -> None:
    with contextlib.suppress(BufferError):  # a view still exists: unmapped when it is freed
        memory.close()


def _too_small(directory: Path, what: str, count: int, stride: int, error: OSError) -> str:
    if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM):
        return f"{directory}: no shared memory for {what}: {error.strerror}"
    need = (
        f"{directory}: {what} needs {count} slots of {stride / 1e6:.1f} MB = "
        f"{count * stride / 1e6:.1f} MB of shared memory"
    )
    if error.errno == errno.EFBIG:
        return f"{need}, more than this process may write to a file. Raise the limit (ulimit -f)"
    stat = os.statvfs(directory)
    free, total = (blocks * stat.f_frsize for blocks in (stat.f_bavail, stat.f_blocks))
    size = f"{-(-(total - free + count * stride) // MIB)}m"
    fit = min(count - 1, free // stride)
    slots = f"set `slots: {fit}` in the placement" if fit else "take a smaller picture"
    return (
        f"{need}, {free / 1e6:.1f} MB of {total / 1e6:.1f} MB are free ({error.strerror}). Make it "
        f"{size} or larger, and more for each further source (docker run --shm-size={size}, "
        f"mount -o remount,size={size} {directory}), or {slots}"
    )
