"""The density stage: foot points of tracks, counted in cells and averaged over an interval."""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from streamvis.errors import ConfigError
from streamvis.geometry import foot
from streamvis.messages import Array, Density, Ending, Frame, Packet, SourceInfo, Tracks
from streamvis.stages.density import DensityMap
from streamvis.stages.per_source import PerSource
from streamvis.stages.protocol import StatefulStage

Cell = tuple[int, int]  # column, row
FARTHEST_M = 1e4  # people who are placed farther from the origin are not counted: near the horizon
# of a ground plane, a pixel is kilometres


class _StoredCounts(msgspec.Struct, array_like=True):
    start_us: int | None
    frames: int
    counts: list[tuple[int, int, int]]  # column, row, people summed over frames


class CellCounts:
    """The people of one source in the current interval, by cell."""

    def __init__(self, config: DensityMap) -> None:
        self.config = config
        self.every_us = round(config.interval_s * 1e6)
        self.restart()

    def restart(self) -> None:
        """Begin an interval with the next frame."""
        self.start_us: int | None = None
        self.frames = 0
        self.counts: Counter[Cell] = Counter()

    def resize(self, width: int, height: int) -> None:
        """Begin anew: cells of the frame are elsewhere in it now."""
        if self.config.cell_m is None:
            self.restart()

    def state(self) -> bytes:
        """Return the counts so far."""
        counts = [(*cell, people) for cell, people in self.counts.items()]
        return msgspec.msgpack.encode(_StoredCounts(self.start_us, self.frames, counts))

    def restore(self, state: bytes) -> None:
        """Continue from `state`; DecodeError on anything else."""
        was = msgspec.msgpack.decode(state, type=_StoredCounts)
        self.start_us, self.frames = was.start_us, was.frames
        self.counts = Counter({(column, row): people for column, row, people in was.counts})

    def add(self, frame: Frame, tracks: Tracks | None) -> Density:
        """Count a frame; the part has the means of an interval if one ended before the frame.

        Intervals follow each other without gaps, from the first frame on; one without frames is
        left out. So a frame that was dropped is neither people nor nobody.
        """
        start_us = frame.media_us if self.start_us is None else self.start_us
        ended = (frame.media_us - start_us) // self.every_us  # intervals
        part = self._means(start_us) if ended and self.frames else self._part(start_us, start_us)
        if ended:
            self.restart()
        self.start_us = start_us + ended * self.every_us
        if tracks is not None:
            self.frames += 1
            self.counts.update(self._cells(frame, tracks))
        return part

    def _cells(self, frame: Frame, tracks: Tracks) -> list[Cell]:
        """Return the cell of each person who is in one."""
        if self.config.cell_m is not None:
            points, side = tracks.ground, self.config.cell_m
            within = (np.abs(points) <= FARTHEST_M).all(axis=1)  # NaN is not
        else:
            points, side = foot(tracks.boxes), self.config.cell_px
            within = ((points >= 0) & (points < (frame.width, frame.height))).all(axis=1)
        cells = np.floor(points[within].astype(np.float64) / side).astype(np.int64)  # (N, 2)
        return [(column, row) for column, row in cells.tolist()]

    def _means(self, start_us: int) -> Density:
        cells = sorted(self.counts)
        people = [self.counts[cell] / self.frames for cell in cells]
        return self._part(start_us, start_us + self.every_us, cells, people)

    def _part(
        self, start_us: int, end_us: int, cells: Sequence[Cell] = (), people: Sequence[float] = ()
    ) -> Density:
        metres = self.config.cell_m
        return Density(
            cells=_table(cells),
            people=np.array(people, np.float32),
            cell=self.config.cell_px if metres is None else metres,
            unit="px" if metres is None else "m",
            start_us=start_us,
            end_us=end_us,
            frames=self.frames if end_us > start_us else 0,
        )


class DensityStage(StatefulStage):
    """Average the number of people in each cell of every source over intervals of media time."""

    def __init__(self, config: DensityMap) -> None:
        self.config = config
        self.sources: PerSource[CellCounts] = PerSource("density")

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from `state`; ConfigError for metres without a plane."""
        if self.config.cell_m is not None and source.ground_plane is None:
            raise ConfigError(
                f"source {source.id}: density has cell_m {self.config.cell_m:g}, but the source "
                "has no ground plane; calibrate one with `streamvis calibrate`, or leave out "
                "cell_m to count in cells of cell_px pixels"
            )
        self.sources.begin(source, CellCounts(self.config), state)

    def state(self, source: str) -> bytes:
        """Return the counts of the current interval."""
        return self.sources.state(source)

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended, with its last interval."""
        self.sources.finish(source)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Density]:
        for packet in packets:
            yield self.sources.at(packet.frame).add(packet.frame, packet.part(Tracks))


def _table(cells: Sequence[Cell]) -> Array:
    return np.array(cells, np.int32).reshape(-1, 2)
