"""Values that hold until they change: their time and maximum in each hour."""

from typing import NamedTuple

from streamvis.runners.zone_report.hours import HourClock
from streamvis.runners.zone_report.tally import Columns, Scratch, Tally


class Sample(NamedTuple):
    """A number of people from a media time on."""

    since_us: int
    people: int
    expected: float  # mean of its distribution


class HeldNumbers:
    """Adds up numbers of people in zones over the time that each held."""

    def __init__(self, scratch: Scratch, name: str) -> None:
        keys = ("source", "clock", "hour", "zone")
        sums = ("seconds", "people_s", "expected_s")
        self.tally = Tally(scratch, name, Columns(keys, sums, ("most",)))

    def add(self, source: str, zone: str, sample: Sample, until_us: int, clock: HourClock) -> None:
        """Count a sample that held until `until_us`."""
        people, expected = sample.people, sample.expected
        for hour, seconds in clock.pieces(sample.since_us, until_us):
            values = (seconds, seconds * people, seconds * expected, people)
            self.tally.add((source, *hour, zone), *values)


class ZoneNumbers:
    """The numbers of one source at the moment."""

    def __init__(self, source: str, held: HeldNumbers) -> None:
        self._source, self._held = source, held
        self._samples: dict[str, Sample] = {}  # by zone

    def take(self, zone: str, sample: Sample, clock: HourClock) -> None:
        """Take a number, which ends the one before it."""
        before = self._samples.get(zone)
        if before is not None and before[1:] == sample[1:]:
            return
        self._end(zone, sample.since_us, clock)
        self._samples[zone] = sample

    def close(self, media_us: int, clock: HourClock, keep: frozenset[str] = frozenset()) -> None:
        """End the numbers of all zones but these."""
        for zone in [zone for zone in self._samples if zone not in keep]:
            self._end(zone, media_us, clock)
            del self._samples[zone]

    def _end(self, zone: str, media_us: int, clock: HourClock) -> None:
        if (sample := self._samples.get(zone)) is not None:
            self._held.add(self._source, zone, sample, media_us, clock)
