"""The newest picture of a live source, and a count of the pictures that it replaced."""

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import msgspec

from streamvis.runtime.gaps import Gap, GapCounter
from streamvis.runtime.overload import SkipPolicy
from streamvis.sources.picture import LiveSource, Picture, Source


class LatestFrame:
    """Reads a source in a thread; `fd` becomes readable with a picture, or at the end."""

    def __init__(self, source: Source) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # asked once: isinstance of a protocol is slow
        self._live = source if isinstance(source, LiveSource) else None
        self._lock = threading.Lock()
        self._counter = GapCounter()
        self._picture: Picture | None = None
        self.arrived_s = time.monotonic()  # arrival of the last picture
        self._over = self._closed = False
        self._pool = ThreadPoolExecutor(1, "latest-frame")
        self._reading = self._pool.submit(self._read, source)
        self._reading.add_done_callback(lambda _: os.eventfd_write(self.fd, 1))

    @property
    def ended(self) -> bool:
        """Whether the source has ended; raises its exception."""
        return self._reading.done() and self._reading.result() is None

    @property
    def silent_s(self) -> float:
        """For how long nothing has arrived from the source."""
        if self._live is not None:
            return self._live.silent_s
        return time.monotonic() - self.arrived_s

    def take(self) -> tuple[Picture | None, list[Gap]]:
        """Return the newest picture unless it was taken before, and the gaps before it."""
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self.fd)
            picture, self._picture = self._picture, None
            return picture, self._counter.take()

    def close(self, timeout_s: float = 1.0) -> bool:
        """Stop reading; False when the source still blocks the thread after the timeout.

        May be called again.
        """
        if self._closed:
            return True
        self._over = True
        _, stuck = wait([self._reading], timeout_s)
        if stuck:
            return False
        self._pool.shutdown()
        self._closed = True
        os.close(self.fd)
        return True

    def _read(self, source: Source) -> None:
        live = self._live
        policy, skipped, restarted = SkipPolicy(time.monotonic()), 0, False
        for count, picture in enumerate(source):
            if self._over:
                return
            self.arrived_s = now = time.monotonic()
            before, skipped = skipped, live.stats.skipped if live else 0
            restarted |= picture.restarted
            with self._lock:
                replaced = self._picture is not None
                if self._picture is not None:
                    self._counter.add("overload", self._picture.n, self._picture.n)
                else:
                    restarted = picture.restarted
                self._counter.note(picture, skipped - before)
                self._picture = _marked(picture, restarted)
                os.eventfd_write(self.fd, 1)
            if count:  # the fate of the picture before this one
                policy.add(replaced=replaced)
            if live is not None:
                live.skip = policy.update(now, live.stats.key_fps)


def _marked(picture: Picture, restarted: bool) -> Picture:
    """Return the picture, marked as the first of a stream epoch if that was replaced by it."""
    if restarted == picture.restarted:
        return picture
    return msgspec.structs.replace(picture, restarted=restarted)
