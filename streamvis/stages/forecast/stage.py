"""The segmentation forecast stage.

It uses the features of the segmenter before it in the same worker. A sampled frame costs one pass
of each forecaster; other frames cost only the scores of the forecasts that are due.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from streamvis.errors import ConfigError, ModelError, RunError
from streamvis.geometry import inside
from streamvis.messages import (
    Array,
    Ending,
    Forecast,
    Frame,
    HorizonForecast,
    Packet,
    Segmentation,
    SourceInfo,
    ZoneOccupancy,
)
from streamvis.models.forecasting import ForecasterConfig
from streamvis.models.inference.forecasts import ForecastNetwork, PastFrame, accelerate_forecaster
from streamvis.models.inference.segmentation import SegmentedFrame
from streamvis.models.swiftnet import STRIDE
from streamvis.models.weights import check_origin, load_forecaster
from streamvis.parsing import alternatives
from streamvis.stages.forecast import Forecaster as Config
from streamvis.stages.forecast import Zone
from streamvis.stages.forecast.state import ForecastState, PendingForecast
from streamvis.stages.per_source import PerSource
from streamvis.stages.protocol import Site, StatefulStage
from streamvis.stages.segment.features import SegmenterFeatures, key_of


class Horizon(NamedTuple):
    """A network and its forecast horizon."""

    us: int
    network: ForecastNetwork
    about: ForecasterConfig


class ForecastStage(StatefulStage):
    """Forecast each source on its own clock; score each forecast at its target time."""

    def __init__(self, config: Config, site: Site) -> None:
        self.shared = shared = site.borrow(SegmenterFeatures)
        self.pixels = site.pixels
        self.labels = shared.model.architecture.segments
        self.zones = [ZoneGrid(zone, self.labels) for zone in config.zones]
        self.horizons = sorted(
            (_horizon(weights, shared, site, config) for weights in config.weights),
            key=lambda one: one.us,
        )
        self.every_us = _every_us(self.horizons)
        self.sources: PerSource[ForecastState] = PerSource("forecast")

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start or resume a source; a resumed one is not warm, since its state has no features."""
        lengths = [one.about.past for one in self.horizons]
        self.sources.begin(source, ForecastState(self.every_us, lengths), state)

    def state(self, source: str) -> bytes:
        """Return the pending forecasts and the time of the next sample, a few kB."""
        return self.sources.state(source)

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.sources.finish(source)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Forecast]:
        for packet in packets:
            now = packet.part(Segmentation)
            if now is None:  # the segmenter skipped this frame
                yield Forecast(labels=self.labels)
            else:
                yield self._forecast(packet.frame, now.classes)

    def _forecast(self, frame: Frame, classes: Array) -> Forecast:
        state, at_us = self.sources.at(frame), frame.media_us
        scores = tuple(state.score_due(at_us, classes, self.labels))
        horizons: list[HorizonForecast] = []
        if state.clock.is_due(at_us):
            seen, pixels = self._features(frame), self.pixels(frame)
            kept: dict[object, PastFrame] = {}
            for (_, network, _), was in zip(self.horizons, state.last_features(at_us), strict=True):
                if network.memory not in kept:
                    kept[network.memory] = network.encode(at_us, pixels, seen, was)
            moments = [kept[one.network.memory] for one in self.horizons]
            for horizon, known in zip(self.horizons, state.push(moments), strict=True):
                read = horizon.network.forecast(known, shares=bool(self.zones))
                size = read.classes.shape
                zones = tuple(zone.occupied(read.shares, size) for zone in self.zones)
                future = HorizonForecast(horizon_us=horizon.us, classes=read.classes, zones=zones)
                horizons.append(future)
                state.pending.append(PendingForecast.of(at_us, future))
        return Forecast(
            labels=self.labels, horizons=tuple(horizons), scores=scores, warm=state.warm
        )

    def _features(self, frame: Frame) -> SegmentedFrame:
        found = self.shared.frames.get(key_of(frame))
        if found is None:
            raise RunError(
                f"source {frame.source}: the segmenter lends no features of frame {frame.n}; run "
                "the forecast stage on each batch right after the segmenter"
            )
        return found


class ZoneGrid:
    """A zone on the grid of cells of the probability maps."""

    def __init__(self, zone: Zone, labels: Sequence[str]) -> None:
        unknown = [name for name in zone.holds if name not in labels]
        if unknown:
            raise ConfigError(
                f"zone '{zone.name}': `holds` lists '{unknown[0]}', which is no class of the "
                f"segmenter{alternatives(unknown[0], labels)}"
            )
        self.zone = zone
        self.classes = [labels.index(name) for name in dict.fromkeys(zone.holds)]
        self.cells: dict[tuple[int, ...], Array] = {}  # frame size -> flat indexes of cells

    def occupied(self, shares: Array, size: tuple[int, ...]) -> ZoneOccupancy:
        """Return the probability that at least k cells of the zone are of its classes.

        shares (K, h, w) are the probabilities of the classes in each cell, size is height and
        width of the frame, and k is the zone's least area in cells. The joint distribution of
        cells is unknown. Let q be the probability of any of the zone's classes in a cell; the k-th
        largest q is exact if cells are comonotone: where a cell is occupied, all with a larger q
        are too. This is nearly so for a pedestrian with blurred outlines who will come or not.
        """
        if size not in self.cells:
            self.cells[size] = self._cells(shares.shape[1:], size)
        cells = self.cells[size]
        q = shares[self.classes].reshape(len(self.classes), -1)[:, cells].sum(0)  # (cells,)
        least = self.zone.min_area * size[0] * size[1] / STRIDE**2
        k = min(max(1, math.ceil(least)), len(q))
        p = float(min(1.0, np.partition(q, len(q) - k)[len(q) - k]))
        return ZoneOccupancy(zone=self.zone.name, p=p, polygon=tuple(self.zone.polygon))

    def _cells(self, grid: Sequence[int], size: Sequence[int]) -> Array:
        """Return the cells whose centre is in the zone; if there is none, the nearest cell."""
        y, x = (np.indices(grid).reshape(2, -1) + 0.5) * STRIDE
        centres = np.column_stack([x / size[1], y / size[0]])  # (h·w, 2) shares of the frame
        polygon = np.array(self.zone.polygon)
        within = np.flatnonzero(inside(centres, polygon))
        if len(within):
            return within
        return np.array([np.argmin(((centres - polygon.mean(0)) ** 2).sum(1))])


def _horizon(weights: str, shared: SegmenterFeatures, site: Site, config: Config) -> Horizon:
    """Load a forecaster; ModelError if it was trained on features of another segmenter."""
    model = load_forecaster(weights, site.device)
    check_origin(weights, shared.weights)
    about = model.architecture
    network = accelerate_forecaster(
        model, shared.model, site.device, config.precision, config.engine
    )
    return Horizon(round(about.horizon_s * 1e6), network, about)


def _every_us(horizons: Sequence[Horizon]) -> int:
    """Return the sampling interval; ModelError unless all have the same and no two one horizon."""
    for one, other in itertools.pairwise(horizons):
        if one.us == other.us:
            raise ModelError(
                f"'{one.about.name}' and '{other.about.name}' have the same horizon, "
                f"{one.about.horizon_s:g} s; leave one of them out of `weights`"
            )
        if one.about.every_s != other.about.every_s:
            raise ModelError(
                f"'{one.about.name}' needs frames {one.about.every_s:g} s apart, "
                f"'{other.about.name}' {other.about.every_s:g} s; give each a stage of its own"
            )
    return round(horizons[0].about.every_s * 1e6)
