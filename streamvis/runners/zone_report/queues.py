"""The lengths of queues: people who are in a zone and move slower than a given speed.

Who is in a zone is known from its entries and exits, the speed from the latest update of the track.
"""

from collections import defaultdict

from streamvis.runners.zone_report.held import HeldNumbers, Sample, ZoneNumbers
from streamvis.runners.zone_report.hours import HourClock
from streamvis.stages.track.events import Track
from streamvis.stages.zones.events import (
    Visit,
    ZoneBody,
    ZoneEnter,
    ZoneExit,
    ZoneLayoutSet,
    ZoneRevise,
    ZoneUpdate,
)


class SourceQueues:
    """The queues of one source."""

    def __init__(self, source: str, held: HeldNumbers, slower_than: float) -> None:
        self._numbers = ZoneNumbers(source, held)
        self._slower_than = slower_than  # m/s, or heights/s of a track without a ground position
        self._slow: dict[str, bool] = {}  # by track that is open
        self._inside: defaultdict[str, set[str]] = defaultdict(set)  # track -> zones
        self._length: defaultdict[str, int] = defaultdict(int)  # by zone
        self._changed: set[str] = set()  # zones, in the frame at `_media_us`
        self._media_us = 0
        self.units: set[str] = set()

    def take(self, what: ZoneBody, media_us: int, clock: HourClock) -> None:
        """Take an event; it is known from it on that there is a zone."""
        self._at(media_us, clock)
        match what:
            case ZoneEnter(entry):
                self._move(entry.name, entry.track, inside=True)
            case ZoneExit(gone):
                self._move(gone.name, gone.track, inside=False)
            case ZoneRevise(revision):
                for visits, inside in ((revision.was, False), (revision.now, True)):
                    for visit in filter(_is_open, visits):
                        self._move(revision.name, visit.track, inside=inside)
            case ZoneUpdate(state):
                self._changed.add(state.name)
            case ZoneLayoutSet(layout):
                self._changed.update(zone.name for zone in layout.zones)

    def update(self, track: Track, media_us: int, clock: HourClock) -> None:
        """Take the speed of a track."""
        self._at(media_us, clock)
        slow = self._speed(track) < self._slower_than
        if slow != self._slow.get(track.id, False):
            for zone in self._inside.get(track.id, ()):
                self._add(zone, 1 if slow else -1)
        self._slow[track.id] = slow

    def end(self, track: str, media_us: int, clock: HourClock) -> None:
        """Forget a track that has ended; its exits came before."""
        self._at(media_us, clock)
        for zone in self._inside.pop(track, ()):
            if self._slow.get(track, False):
                self._add(zone, -1)
        self._slow.pop(track, None)

    def close(self, media_us: int, clock: HourClock, keep: frozenset[str] = frozenset()) -> None:
        """End the numbers of all zones but these."""
        self._at(media_us, clock)
        self._settle(clock)
        self._numbers.close(media_us, clock, keep)

    def _at(self, media_us: int, clock: HourClock) -> None:
        """Take over what has changed in the frame before, when the next one begins."""
        if media_us != self._media_us:
            self._settle(clock)
            self._media_us = media_us

    def _settle(self, clock: HourClock) -> None:
        for zone in sorted(self._changed):
            length = self._length[zone]
            self._numbers.take(zone, Sample(self._media_us, length, float(length)), clock)
        self._changed.clear()

    def _move(self, zone: str, track: str, *, inside: bool) -> None:
        zones = self._inside[track]
        if inside != (zone in zones):
            (zones.add if inside else zones.remove)(zone)
            self._add(zone, (1 if inside else -1) * self._slow.get(track, False))
        if not zones:
            del self._inside[track]

    def _add(self, zone: str, people: int) -> None:
        self._length[zone] += people
        self._changed.add(zone)

    def _speed(self, track: Track) -> float:
        if track.speed_m_s is not None:
            self.units.add("m/s")
            return track.speed_m_s
        self.units.add("heights/s")
        _, top, _, bottom = track.box_px
        dx, dy = track.vel_px_s
        return float((dx * dx + dy * dy) ** 0.5 / max(bottom - top, 1e-6))


def _is_open(visit: Visit) -> bool:
    return visit.left_us is None
