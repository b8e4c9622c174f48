"""Reads a log and yields the events of zones and lines as if others had been configured."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from streamvis.config.zones import on_ground
from streamvis.errors import ConfigError
from streamvis.events.envelope import Event, EventBody, event_id, family_of
from streamvis.events.log import LogReader
from streamvis.events.source_events import SourceBody
from streamvis.runners.log_bodies import BodyReader, Head
from streamvis.runners.zone_replay.source import SourceReplay
from streamvis.runners.zone_replay.spacing import LOOKED_AT, spacing_us
from streamvis.stages.forecast.events import ForecastSegmentation
from streamvis.stages.track.events import (
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)
from streamvis.stages.zones import ZoneCounter
from streamvis.zone_layout import ZoneLayout

TRACKS = (TrackBegin, TrackUpdate, TrackEnd, TrackMerge, TrackSplit)
Read = tuple[Head, EventBody]
READ = ("track", "source", "forecast.segmentation")  # types and families


class _Numbers:
    """Numbers the events of one source, as the log of a run does."""

    def __init__(self) -> None:
        self._offset = 0
        self._tseq: Counter[str] = Counter()

    def event(self, source: str, head: Head, what: EventBody) -> Event:
        """Return the next event."""
        family, offset = family_of(what), self._offset
        self._tseq[family] += 1
        self._offset += 1
        return Event(
            id=event_id(head.epoch, source, offset, head.time.emit_us),
            source=source,
            epoch=head.epoch,
            tseq=self._tseq[family],
            offset=offset,
            time=head.time,
            frame=head.frame,
            prov=head.prov,
            what=what,
        )


class ZoneReplay:
    """The replay of a log with these zones and lines of each source; other sources have none.

    Raises ConfigError for zones in metres of a source whose tracks have none.
    """

    def __init__(
        self, log: LogReader, layouts: Mapping[str, ZoneLayout], settings: ZoneCounter
    ) -> None:
        self._log = log
        types = (*TRACKS, ForecastSegmentation, *SourceBody.__args__)
        self._reader = BodyReader(log.path, types)
        first = {name: self._first(name) for name in layouts}
        for name, layout in layouts.items():
            self._check_ground(name, layout, first[name])
        self.sources = {
            name: SourceReplay(name, layout, settings, spacing_us(first[name]))
            for name, layout in layouts.items()
        }
        self.tracks = 0  # events of tracks that were read

    def __iter__(self) -> Iterator[Event]:
        """Yield the events of zones and lines, and those of the sources, in order.

        Events of one frame have its time, picture and origin; their numbers are new.
        """
        numbers = {name: _Numbers() for name in self.sources}
        last = {name: self._last(name) for name in self.sources}  # before others are written
        only = next(iter(self.sources)) if len(self.sources) == 1 else None
        for row in self._log.latest(only, types=READ):
            source, read = self.sources.get(row.source), self._reader.read(row)
            if source is None or read is None:
                continue
            head, what = read
            number = numbers[row.source]
            self.tracks += isinstance(what, TRACKS)
            for timed in source.take(head, what):
                yield number.event(row.source, *timed)
            if row.type.startswith("source."):
                yield number.event(row.source, head, what)
        for name, source in self.sources.items():
            for timed in source.end(last[name]):
                yield numbers[name].event(name, *timed)

    def _check_ground(self, source: str, layout: ZoneLayout, first: Sequence[Read]) -> None:
        """Raise ConfigError for zones in metres where the first tracks have no such position."""
        tracks = [what.track for _, what in first if isinstance(what, TrackBegin | TrackUpdate)]
        wrong = on_ground(layout)
        if wrong and tracks and all(track.ground_m is None for track in tracks):
            raise ConfigError(f"source '{source}' of {self._log.path}: {wrong}")

    def _first(self, source: str) -> list[Read]:
        """Return the first events of tracks of a source."""
        rows = islice(self._log.latest(source, types=["track"]), LOOKED_AT)
        return [read for row in rows if (read := self._reader.read(row)) is not None]

    def _last(self, source: str) -> Head | None:
        """Return the head of the last event of a source."""
        cursor = self._log.cursors().get(source)
        first = 0 if cursor is None else max(cursor.next - 1, cursor.first)
        rows = list(self._log.events(source, first=first, last=first))
        return self._reader.head(rows[0]) if rows else None

    @property
    def played_s(self) -> float:
        """The media time that was replayed, of all sources together."""
        return sum(source.played_us for source in self.sources.values()) / 1e6

    def notes(self) -> Iterator[str]:
        """Yield a line for each source whose log does not have the tracks of every frame."""
        for name, source in self.sources.items():
            if source.spacing_us:
                yield (
                    f"{name}: the log has a track's position every {source.spacing_us / 1e6:.3g} s "
                    "(publish.update_every_s), so times of events are interpolated, and shorter "
                    "visits and crossings are missing"
                )
        if not self.tracks:
            yield f"{self._log.path} holds no events of tracks, of which zones are computed"
