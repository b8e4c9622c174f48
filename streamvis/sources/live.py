"""Measure a live stream: its rate, and the clock of its camera."""

import statistics
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import NamedTuple, TypeVar

from av.packet import Packet
from av.stream import Stream

from streamvis.messages import Clock
from streamvis.sources.picture import StreamStats, Waiting

Opened = TypeVar("Opened")
RATE_S = 10.0  # over which the rate of arrival is measured
KEYS_S = 60.0  # and that of key frames
JOIN_US = 1_500_000  # after the first packet: what demuxer and camera have kept comes at once
OFFSETS = 101  # packets over which the offset of the camera's clock is smoothed
OFF_US = 5_000_000  # a capture time this far from that offset comes from a faulty stamp
WRONG_US = 30_000_000  # the clock of a camera that is further off is not used
DRIFT_S = 60  # before that, the drift is unknown
MOST_POINTS = 600  # seconds over which the drift is measured
LEAP_US = 1_000_000  # a change of arrival − stamp after which they are fitted anew
HELD = 1000  # packets whose picture may still come


class Arrival(NamedTuple):
    """When a packet arrived and was captured, µs since 1970."""

    arrival_us: int
    capture_us: int | None  # by the sender reports of the camera


class LiveMeter:
    """Measures the packets of a live stream; `stats` may be read by another thread.

    The offset is the median of arrival − capture time over the last packets, so that a burst of
    delayed ones or a faulty stamp does not move it. It holds the delay of the network, the
    demuxer (one picture) and the error of the camera's clock, which cannot be told apart.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque()  # seconds, by time.monotonic()
        self._keys: deque[float] = deque()  # those of key frames
        self._offsets: deque[int] = deque(maxlen=OFFSETS)
        self._drift = Drift()
        self._held: dict[int | None, Arrival] = {}  # by pts
        self._skipped = 0
        self._suspect = 0
        self.began = time.monotonic()
        self.heard = self.began  # when the last packet of the video arrived
        self._first: float | None = None
        self._joined = False

    def add_packet(self, packet: "Packet[Stream]", stamp_us: int | None) -> None:
        """Record the arrival of a packet of the video."""
        now, arrival_us, captured = time.monotonic(), time.time_ns() // 1000, capture_us(packet)
        self._held[packet.pts] = Arrival(arrival_us, captured)
        while len(self._held) > HELD:
            del self._held[next(iter(self._held))]
        with self._lock:
            if self._first is None:
                self._first = now
            if not self._joined and now - self._first > JOIN_US / 1e6:
                self._joined = True
                self._offsets.clear()  # what came at once was late
                self._arrivals.clear()
                self._keys.clear()
            self.heard = now
            self._arrivals.append(now)
            while now - self._arrivals[0] > RATE_S:
                self._arrivals.popleft()
            if packet.is_keyframe:
                self._keys.append(now)
            while self._keys and now - self._keys[0] > KEYS_S:
                self._keys.popleft()
            if captured is not None:
                self._offsets.append(arrival_us - captured)
            if stamp_us is not None and self._joined:
                self._drift.add(stamp_us, round(now * 1e6))

    def captured(self, pts: int | None) -> tuple[int, Clock]:
        """The capture time of a picture, µs since 1970, and the clock that it comes from."""
        arrival = self._held.pop(pts, None)
        if arrival is None:
            return time.time_ns() // 1000, "arrival"
        offset = self._offset()
        if arrival.capture_us is None or offset is None or abs(offset) > WRONG_US:
            return arrival.arrival_us, "arrival"
        if abs(arrival.arrival_us - arrival.capture_us - offset) > OFF_US:
            return arrival.arrival_us, "arrival"
        return arrival.capture_us, "rtcp_sr"

    def count(self, *, skipped: int = 0, suspect: int = 0) -> None:
        """Count pictures that were skipped, or given as suspect."""
        with self._lock:
            self._skipped += skipped
            self._suspect += suspect

    @property
    def stats(self) -> StreamStats:
        """What was measured so far."""
        with self._lock:
            return StreamStats(
                fps=self._fps(),
                key_fps=self._key_fps(),
                skipped=self._skipped,
                suspect=self._suspect,
                offset_us=self._offset(),
                drift_ppm=self._drift.ppm,
            )

    def _offset(self) -> int | None:
        return round(statistics.median(list(self._offsets))) if self._offsets else None

    def _key_fps(self) -> float:
        times = self._keys
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def _fps(self) -> float:
        """Packets per second between the first and the last, or until now if they have stopped."""
        now = time.monotonic()
        if not self._joined:
            return 0.0
        times = [at for at in self._arrivals if now - at <= RATE_S]
        if len(times) < 2:
            return 0.0
        step = (times[-1] - times[0]) / (len(times) - 1)
        end = now if now - times[-1] > 1 + 2 * step else times[-1]
        return (len(times) - 1) / (end - times[0]) if end > times[0] else 0.0


def open_and_report(opening: Callable[[], Opened], report: Waiting | None) -> Opened:
    """Return what `opening` returns, and report each second that it has not ended."""
    if report is None:
        return opening()
    began = time.monotonic()
    with ThreadPoolExecutor(1, "open") as threads:
        future = threads.submit(opening)
        while True:
            try:
                return future.result(timeout=1)
            except FutureTimeout:
                if future.done():  # it was the exception of `opening`
                    return future.result()
                elapsed_s = time.monotonic() - began
                report(f"no answer, or no key frame with the size, since {elapsed_s:.0f} s")


class Drift:
    """How fast the clock of a camera's stamps runs against that of this machine.

    Of each second the packet with the least delay counts; a line is fitted through them. Stamps
    that leap are ignored, unless they stay where they are.
    """

    def __init__(self) -> None:
        self.ppm: float | None = None  # positive: the stamps run fast
        self._points: deque[tuple[int, int]] = deque(maxlen=MOST_POINTS)  # arrival, its delay
        self._best: tuple[int, int] | None = None  # of the present second
        self._off = 0  # leaps in a row

    def add(self, stamp_us: int, arrival_us: int) -> None:
        """Record the stamp of a packet and its arrival, in µs of any origin."""
        delay = arrival_us - stamp_us
        if self._best is not None and abs(delay - self._best[1]) > LEAP_US:
            self._off += 1
            if self._off < 3:
                return
            self._points.clear()
            self._best = self.ppm = None
        self._off = 0
        if self._best is None or arrival_us - self._best[0] < 1_000_000:
            if self._best is None or delay < self._best[1]:
                self._best = (self._best or (arrival_us,))[0], delay
            return
        self._points.append(self._best)
        self._best = arrival_us, delay
        if self._points[-1][0] - self._points[0][0] >= DRIFT_S * 1_000_000:
            self.ppm = round(-1e6 * _slope(self._points), 1)


def _slope(points: deque[tuple[int, int]]) -> float:
    """The slope of the least-squares line through the points."""
    x0, y0 = points[0]
    pairs = [(x - x0, y - y0) for x, y in points]
    x_mean = sum(x for x, _ in pairs) / len(pairs)
    y_mean = sum(y for _, y in pairs) / len(pairs)
    spread = sum((x - x_mean) ** 2 for x, _ in pairs)
    return sum((x - x_mean) * (y - y_mean) for x, y in pairs) / spread


def capture_us(packet: "Packet[Stream]") -> int | None:
    """The capture time of a packet by RTCP sender reports, µs since 1970; None without reports."""
    if not packet.has_sidedata("prft"):
        return None
    wall_us, _flags = struct.unpack_from("<qi", bytes(packet.get_sidedata("prft")))
    return int(wall_us)
