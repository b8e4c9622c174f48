"""Visits of zones and crossings of lines, as they are after all corrections."""

from collections.abc import Iterator, Sequence
from typing import Any

from streamvis.runners.zone_report.hours import HourClock
from streamvis.runners.zone_report.quantiles import TimeHistogram
from streamvis.runners.zone_report.tally import Columns, Scratch, Tally
from streamvis.stages.track.events import Track
from streamvis.stages.zones.events import (
    LineCross,
    LineRevise,
    Visit,
    ZoneBody,
    ZoneEnter,
    ZoneExit,
    ZoneRevise,
)

PERSON = "person"
WHOLE = ("left", "lost")  # reasons of exits; a visit that ends otherwise is cut short
COUNTED = (*("source", "clock", "hour", "kind", "name", "event", "direction", "reason", "class"),)


class Counts:
    """Counts by hour, and times of stay, of all sources."""

    def __init__(self, scratch: Scratch) -> None:
        self.tally = Tally(scratch, "counts", Columns(COUNTED, ("count",)))
        self.stays: dict[tuple[str, str, str], TimeHistogram] = {}  # source, zone, class
        self.cut: dict[tuple[str, str, str], int] = {}  # visits that were cut short

    def rows(self, *by: str) -> Iterator[tuple[Any, ...]]:
        """Yield the keys and counts that are above zero."""
        return (row for row in self.tally.rows(*by) if row[-1] > 0)


class SourceCounts:
    """Counts the visits and crossings of one source. Corrections take back what they replace."""

    def __init__(self, source: str, counts: Counts) -> None:
        self._source, self._counts = source, counts
        self._labels: dict[str, str] = {}  # of tracks that are no people; none at present

    def restart(self) -> None:
        """Begin a stream epoch, which corrections do not reach back over."""
        self._labels.clear()

    def label(self, track: Track) -> None:
        """Note the class of a track, which events of zones do not have."""
        if track.label != PERSON:
            self._labels[track.id] = track.label

    def take(self, what: ZoneBody, clock: HourClock) -> None:
        """Count an event; those that count nothing are ignored."""
        match what:
            case ZoneEnter(entry):
                self._entry(entry.name, entry.track, entry.at_us, 1, clock)
            case ZoneExit(gone):
                visit = Visit(
                    track=gone.track,
                    entered_us=gone.entered_us,
                    left_us=gone.at_us,
                    reason=gone.reason,
                )
                self._exit(gone.name, visit, 1, clock)
            case ZoneRevise(revision):
                self._visits(revision.name, revision.was, -1, clock)
                self._visits(revision.name, revision.now, 1, clock)
            case LineCross(cross):
                self._crossing(cross.name, (cross.track, cross.direction, cross.at_us), 1, clock)
            case LineRevise(revised):
                for crossings, times in ((revised.was, -1), (revised.now, 1)):
                    for one in crossings:
                        key = (one.track, one.direction, one.at_us)
                        self._crossing(revised.name, key, times, clock)

    def _visits(self, zone: str, visits: Sequence[Visit], times: int, clock: HourClock) -> None:
        for visit in visits:
            self._entry(zone, visit.track, visit.entered_us, times, clock)
            if visit.left_us is not None:
                self._exit(zone, visit, times, clock)

    def _entry(self, zone: str, track: str, at_us: int, times: int, clock: HourClock) -> None:
        what = ("zone", zone, "entry", "", "", self._label(track))
        self._counts.tally.add((self._source, *clock.hour(at_us), *what), times)

    def _exit(self, zone: str, visit: Visit, times: int, clock: HourClock) -> None:
        label, left_us, reason = self._label(visit.track), visit.left_us or 0, visit.reason or ""
        what = ("zone", zone, "exit", "", reason, label)
        self._counts.tally.add((self._source, *clock.hour(left_us), *what), times)
        key = (self._source, zone, label)
        if reason in WHOLE:
            stays = self._counts.stays.setdefault(key, TimeHistogram())
            stays.add((left_us - visit.entered_us) / 1e6, times)
        else:
            self._counts.cut[key] = self._counts.cut.get(key, 0) + times

    def _crossing(
        self, line: str, crossing: tuple[str, str, int], times: int, clock: HourClock
    ) -> None:
        track, direction, at_us = crossing
        what = ("line", line, "crossing", direction, "", self._label(track))
        self._counts.tally.add((self._source, *clock.hour(at_us), *what), times)

    def _label(self, track: str) -> str:
        return self._labels.get(track, PERSON)
