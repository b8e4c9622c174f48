"""The heat map: for how long people have stood in each cell of a grid over the picture, by hour.

The time between two updates of a track counts half for the cell of each, so that a log with few
updates has the same sum as one with an update for every frame.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np

from streamvis.events.envelope import Box, FrameRef
from streamvis.messages import Array
from streamvis.runners.zone_report.hours import Hour, HourClock
from streamvis.runners.zone_report.tally import Columns, Scratch, Tally
from streamvis.stages.track.events import EndedTrack, Track

DAY = 24  # hours
MOST_ROWS = 1000


class _Place(NamedTuple):
    """Where and when the foot point of a track was last."""

    media_us: int
    hour: Hour
    column: int
    row: int


class Grid(NamedTuple):
    """Cells of the pictures of a source."""

    columns: int
    rows: int
    width: int  # px, of the last picture
    height: int

    def cell(self, box: Box) -> tuple[int, int]:
        """Return column and row of the foot point; outside of the picture, the nearest cell."""
        left, _, right, bottom = box
        column = int((left + right) / 2 / self.width * self.columns)
        row = int(bottom / self.height * self.rows)
        return min(max(column, 0), self.columns - 1), min(max(row, 0), self.rows - 1)


class HeatMaps:
    """Seconds of presence by source, hour and cell."""

    def __init__(self, scratch: Scratch) -> None:
        keys = ("source", "clock", "hour", "row", "column")
        self.tally = Tally(scratch, "heat", Columns(keys, ("seconds",)))
        self.grids: dict[str, Grid] = {}  # by source

    def hours(self, source: str) -> int:
        """Return in how many hours people were seen."""
        return sum(1 for _ in self.tally.rows("clock", "hour", source=source))

    def total(self, source: str) -> Array:
        """Return the seconds in each cell (rows, columns), of all hours together."""
        return self._grid(source, self.tally.rows("row", "column", source=source))

    def by_hour(self, source: str, *, of_day: bool = False) -> Iterator[tuple[Hour, Array]]:
        """Yield the seconds in each cell (rows, columns) of each hour, or hour of the day."""
        hour = f"hour % {DAY}" if of_day else "hour"
        rows = self.tally.rows("clock", hour, "row", "column", source=source)
        for key, cells in groupby(rows, key=lambda row: row[:2]):
            yield Hour(*key), self._grid(source, (row[2:] for row in cells))

    def _grid(self, source: str, cells: Iterable[tuple[int, int, float]]) -> Array:
        grid = self.grids[source]
        seconds = np.zeros((grid.rows, grid.columns))
        for row, column, value in cells:
            seconds[row, column] = value
        return seconds


class SourceHeat:
    """Adds up the presence of one source."""

    def __init__(self, source: str, maps: HeatMaps, columns: int) -> None:
        self._source, self._maps, self._columns = source, maps, columns
        self._last: dict[str, _Place] = {}  # by track that is open

    def update(self, track: Track, media_us: int, frame: FrameRef, clock: HourClock) -> None:
        """Take a begin or update of a track."""
        grid = self._maps.grids.get(self._source)
        if grid is None or (grid.width, grid.height) != (frame.w, frame.h):
            grid = self._resize(grid, frame)
        place = _Place(media_us, clock.hour(media_us), *grid.cell(track.box_px))
        self._between(self._last.get(track.id), place)
        self._last[track.id] = place

    def end(self, track: EndedTrack, clock: HourClock) -> None:
        """Take the end of a track, with its last position."""
        before, grid = self._last.pop(track.id, None), self._maps.grids.get(self._source)
        if grid is not None:
            us = track.last_seen_us
            self._between(before, _Place(us, clock.hour(us), *grid.cell(track.box_px)))

    def _between(self, before: _Place | None, now: _Place) -> None:
        if before is None or now.media_us <= before.media_us:
            return
        half_s = (now.media_us - before.media_us) / 2e6
        for place in (before, now):
            key = (self._source, *place.hour, place.row, place.column)
            self._maps.tally.add(key, half_s)

    def _resize(self, grid: Grid | None, frame: FrameRef) -> Grid:
        """Return the grid for pictures of another size; it keeps its number of cells."""
        width, height = max(frame.w, 1), max(frame.h, 1)
        rows = min(max(round(self._columns * height / width), 1), MOST_ROWS)
        columns, rows = (self._columns, rows) if grid is None else grid[:2]
        grid = self._maps.grids[self._source] = Grid(columns, rows, width, height)
        return grid
