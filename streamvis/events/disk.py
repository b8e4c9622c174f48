"""The disk of the output directory: how much is free, and a reserve for when it is full."""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOW_BYTES = 1_000_000_000  # less than this is low …
LOW_SHARE = 0.05  # … or than this share of the disk, if that is less
OK_RATIO = 1.2  # of the limit: from here on it is no longer low
CHECK_S = 2.0  # between two looks at the disk
RESERVE_FILE = "events.reserve"
RESERVE_BYTES = 2 << 20


class DiskWatch:
    """Reports when the disk of a directory becomes low, and when it is no longer so.

    The space of a reserve that was given up does not count as free.
    """

    def __init__(
        self, path: Path, low: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.low = low
        self.free_bytes = 0  # at the last look
        self._path = path
        self._now = now
        self._due = now()

    def changed(self) -> bool:
        """Look at the disk, at most every CHECK_S; return whether `low` is another than before."""
        if self._now() < self._due:
            return False
        self._due = self._now() + CHECK_S
        try:
            usage = shutil.disk_usage(self._path)
        except OSError:
            return False
        self.free_bytes = usage.free
        limit = low_limit(usage.total) * (OK_RATIO if self.low else 1)
        given_up = 0 if (self._path / RESERVE_FILE).exists() else RESERVE_BYTES
        low = usage.free - given_up < limit
        changed, self.low = low != self.low, low
        return changed


def has_room(path: Path) -> bool:
    """Whether so much is free that the reserve is safe from others who write there."""
    try:
        return shutil.disk_usage(path).free >= 2 * RESERVE_BYTES
    except OSError:
        return False


def low_limit(total_bytes: int) -> float:
    """Return the number of free bytes below which a disk of this size is low."""
    return min(LOW_BYTES, LOW_SHARE * total_bytes)


class Reserve:
    """A file of RESERVE_BYTES that is given up when the disk is full, so that a little can be
    written."""

    def __init__(self, out: Path) -> None:
        self._path = out / RESERVE_FILE

    def make(self) -> bool:
        """Take the space, if there is twice as much; return whether the reserve is there."""
        with suppress(OSError):
            if self._path.exists() and self._path.stat().st_size == RESERVE_BYTES:
                return True
            if self.has_room():
                with self._path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
                return True
        self.release()
        return False

    def has_room(self) -> bool:
        """Whether twice the reserve is free."""
        return has_room(self._path.parent)

    def release(self) -> None:
        """Give the space back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
