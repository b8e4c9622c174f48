"""Pictures in shared memory, written once by the decode process and read in place by stages.

A segment is a file in /dev/shm with a number of equal slots; a slot is named
"segment:byte offset". The file loses its name at once: others open it through the descriptor of the
process that made it, in /proc/<pid>/fd. So the kernel frees it when that process has closed it, or
has died in whatever way, and no process maps it any more.
"""

import contextlib
import errno
import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from streamvis.errors import DataError, RunError
from streamvis.messages import Array, Frame
from streamvis.transport.owner import owned_name

DIRECTORY = Path("/dev/shm")
PAGE = 4096
MIB = 2**20
# the file's name when it was made, and where the process that made it has it open
SEGMENT = re.compile(r"(?P<name>(?P<file>streamvis-(?P<pid>\d+)-\d+-[0-9a-f]+)-(?P<fd>\d+))")


class Segment:
    """`count` slots of `size` bytes each, in memory that is allocated at once."""

    def __init__(self, count: int, size: int, what: str, directory: Path = DIRECTORY) -> None:
        self.size = size
        self.stride = -(-size // PAGE) * PAGE
        self._fd = -1
        path = directory / owned_name()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o600)
            path.unlink()
            os.posix_fallocate(self._fd, 0, count * self.stride)  # without it: SIGBUS when full
        except OSError as error:
            self.close()
            raise RunError(_too_small(directory, what, count, self.stride, error)) from None
        self.name = f"{path.name}-{self._fd}"
        self.slots = [f"{self.name}:{i * self.stride}" for i in range(count)]

    def close(self) -> None:
        """Close the segment; the memory is freed when no process maps it any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class SlotReader:
    """Reads the picture of a frame as a read-only view on its slot."""

    node = ""  # of the hub, whose slots need no name of a node
    received = (0, 0)  # frames and bytes that have come from other nodes

    def __init__(self) -> None:
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
            self._maps[name] = _mapped(name, mmap.ACCESS_READ)
        return _view(self._maps[name], slot, offset, shape)

    def sweep(self) -> None:
        """Unmap segments that their process has closed."""
        for name in [n for n in self._maps if not _is_open(*_link(n))]:
            _unmap(self._maps.pop(name))

    def close(self) -> None:
        while self._maps:
            _unmap(self._maps.popitem()[1])


class SlotWriter:
    """Writes pictures into slots."""

    def __init__(self) -> None:
        self._name = ""
        self._map: mmap.mmap | None = None

    def __call__(self, slot: str, pixels: Array) -> None:
        """Copy the picture (H, W, 3) uint8 into the slot: the only copy that is made of it."""
        name, offset = _parsed(slot)
        if self._map is None or name != self._name:
            self.close()
            self._name, self._map = name, _mapped(name, mmap.ACCESS_WRITE)
        _view(self._map, slot, offset, pixels.shape)[...] = pixels

    def close(self) -> None:
        if self._map is not None:
            _unmap(self._map)
            self._map = None


def _parsed(slot: str) -> tuple[str, int]:
    match = re.fullmatch(rf"(?:.*/)?{SEGMENT.pattern}:(?P<offset>[0-9]{{1,15}})", slot)
    if match is None:
        raise DataError(
            f"{slot!r} is not a slot; expected streamvis-<pid>-<start>-<random>-<fd>:<offset>"
        )
    return match["name"], int(match["offset"])


def _link(name: str) -> tuple[str, str]:
    """Return the descriptor that the segment's process has, and the end of what it links to."""
    match = SEGMENT.fullmatch(name)
    assert match is not None  # as parsed
    return f"/proc/{match['pid']}/fd/{match['fd']}", f"/{match['file']} (deleted)"


def _is_open(link: str, target: str) -> bool:
    try:
        return os.readlink(link).endswith(target)
    except OSError:
        return False


def _mapped(name: str, access: int) -> mmap.mmap:
    flags = os.O_RDONLY if access == mmap.ACCESS_READ else os.O_RDWR
    link, target = _link(name)
    fd = -1
    try:
        if _is_open(link, target):
            fd = os.open(link, flags | os.O_CLOEXEC)
        if not _is_open(f"/proc/self/fd/{fd}", target):  # it may be another file's by now
            raise RunError(f"shared memory {name} cannot be opened: its process has closed it")
        return mmap.mmap(fd, 0, access=access)
    except OSError as error:
        raise RunError(f"shared memory {name} cannot be opened: {error.strerror}") from None
    finally:
        if fd >= 0:
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
