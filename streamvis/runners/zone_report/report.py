"""Reads a log once and adds up what its report has."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import msgspec

from streamvis.events.envelope import EventBody
from streamvis.events.log import LogReader, Row
from streamvis.events.selection import absent_types
from streamvis.events.source_events import (
    SourceEof,
    SourceEpoch,
    SourceOffline,
    SourceStalled,
)
from streamvis.runners.log_bodies import BodyReader, Head
from streamvis.runners.zone_report.counts import Counts, SourceCounts
from streamvis.runners.zone_report.heat import HeatMaps, SourceHeat
from streamvis.runners.zone_report.held import HeldNumbers, Sample, ZoneNumbers
from streamvis.runners.zone_report.hours import HourClock
from streamvis.runners.zone_report.queues import SourceQueues
from streamvis.runners.zone_report.tally import Scratch
from streamvis.stages import event_codec
from streamvis.stages.track.events import TrackBegin, TrackEnd, TrackUpdate
from streamvis.stages.zones.events import (
    Occupancy,
    ZoneBody,
    ZoneEnter,
    ZoneExit,
    ZoneLayoutSet,
    ZoneRevise,
    ZoneUpdate,
)
from streamvis.zone_layout import ZoneLayout

FAMILIES = ("zone", "line", "track", "source")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is reported."""

    source: str | None = None  # only of this one
    queue_speed: float = 0.3  # m/s, or heights/s without a ground plane; slower people queue
    columns: int = 64  # cells of the heat map in a row


_Body = (
    TrackBegin | TrackUpdate | TrackEnd | SourceEpoch | SourceEof | SourceOffline | SourceStalled
)


class ZoneReport:
    """The numbers of all sources in a log."""

    def __init__(self, path: Path, options: Options, scratch: Scratch) -> None:
        self.path, self.options = path, options
        self._reader = BodyReader(path, (*_Body.__args__, *ZoneBody.__args__))
        self.counts = Counts(scratch)
        self.occupancy = HeldNumbers(scratch, "occupancy")
        self.queues = HeldNumbers(scratch, "queues")
        self.heat = HeatMaps(scratch)
        self.sources: dict[str, SourceScan] = {}  # in order of their first event
        self.events = 0  # that were read
        self.older_runs = False  # whether the log has runs that are left out

    def take(self, row: Row) -> None:
        """Add an event; those of other families are ignored."""
        self.events += 1
        read = self._reader.read(row)
        if read is None:
            return
        head, what = read
        source = self.sources.get(row.source)
        if source is None:
            source = self.sources[row.source] = SourceScan(row.source, self)
        source.take(what, head)

    def close(self) -> None:
        """End what still holds at the end of the log."""
        for source in self.sources.values():
            source.close()

    @property
    def has_zones(self) -> bool:
        """Whether the log has events of zones or lines."""
        return any(source.has_zones for source in self.sources.values())

    @property
    def has_tracks(self) -> bool:
        """Whether the log has events of tracks."""
        return bool(self.heat.grids)


class SourceScan:
    """Adds up the events of one source, in order."""

    def __init__(self, name: str, report: ZoneReport) -> None:
        self._clock = HourClock()
        self._counts = SourceCounts(name, report.counts)
        self._occupancy = ZoneNumbers(name, report.occupancy)
        self._queues = SourceQueues(name, report.queues, report.options.queue_speed)
        self._heat = SourceHeat(name, report.heat, report.options.columns)
        self._media_us = 0  # of the latest event
        self.layout: ZoneLayout | None = None  # the latest
        self.has_zones = False

    @property
    def units(self) -> set[str]:
        """The units in which speeds were compared."""
        return self._queues.units

    def take(self, what: EventBody, head: Head) -> None:
        """Add an event."""
        time, clock = head.time, self._clock
        if head.frame is not None:
            clock.learn(time.media_us, time.capture_us)
        self._media_us = max(self._media_us, time.media_us)
        match what:
            case TrackBegin(track) | TrackUpdate(track):
                self._counts.label(track)
                self._queues.update(track, time.media_us, clock)
                if head.frame is not None:
                    self._heat.update(track, time.media_us, head.frame, clock)
            case TrackEnd(ended):
                self._queues.end(ended.id, time.media_us, clock)
                self._heat.end(ended, clock)
            case SourceEpoch():
                self._restart()
            case SourceEof() | SourceOffline() | SourceStalled():
                self.close()
            case _:
                self._zone(cast(ZoneBody, what), time.media_us)

    def close(self) -> None:
        """End what holds, at the latest event."""
        self._occupancy.close(self._media_us, self._clock)
        self._queues.close(self._media_us, self._clock)

    def _restart(self) -> None:
        """Begin a stream epoch; the media time of a file begins anew."""
        self.close()
        self._counts.restart()
        self._clock, self._media_us = HourClock(), 0

    def _zone(self, what: ZoneBody, media_us: int) -> None:
        self.has_zones = True
        if isinstance(what, ZoneLayoutSet):
            self._begin(what.zone, media_us)
        self._counts.take(what, self._clock)
        self._queues.take(what, media_us, self._clock)
        match what:
            case ZoneEnter(one) | ZoneExit(one) | ZoneUpdate(one) | ZoneRevise(one):
                self._people(one.name, one.occupancy, media_us)

    def _begin(self, layout: ZoneLayout, media_us: int) -> None:
        """Change the zones; nobody is in those that are new or changed."""
        before = () if self.layout is None else self.layout.zones
        keep = frozenset(zone.name for zone in layout.zones if zone in before)
        self._occupancy.close(media_us, self._clock, keep)
        self._queues.close(media_us, self._clock, keep)
        for zone in layout.zones:
            if zone.name not in keep:
                self._occupancy.take(zone.name, Sample(media_us, 0, 0.0), self._clock)
        self.layout = layout

    def _people(self, zone: str, occupancy: Occupancy | None, media_us: int) -> None:
        if occupancy is not None:
            sample = Sample(media_us, occupancy.people, occupancy.mean)
            self._occupancy.take(zone, sample, self._clock)


@contextmanager
def report_of(path: Path, options: Options) -> Iterator[ZoneReport]:
    """Read a log, also one that is being written, and yield its report.

    Raises DataError for a file that is no log, and for damaged events; UsageError for a source
    that it does not hold.
    """
    with LogReader(path) as log, Scratch() as scratch:
        absent_types(log, options.source, (), event_codec())
        report = ZoneReport(path, options, scratch)
        report.older_runs = log.has_older_runs()
        for row in log.latest(options.source, types=FAMILIES):
            report.take(row)
        report.close()
        yield report
