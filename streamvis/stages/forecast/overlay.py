"""Forecasts in panels around the picture: the one made for this frame, and the one ahead."""

from collections import deque
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import cv2
import numpy as np

from streamvis.messages import (
    Array,
    Forecast,
    HorizonForecast,
    Packet,
    Segmentation,
    ZoneOccupancy,
)
from streamvis.stages.overlay import Canvas, Overlay
from streamvis.viz.panels import BandEntry, Panel, outline, panel_style, titled
from streamvis.viz.scene import blended, palette_of
from streamvis.viz.style import DARK, PALE, Colour

PENDING = 64  # forecasts whose time has not come, at most
TOLERANCE_PX = 5  # px at 360 lines; narrower errors are not outlined
FORECAST_OPACITY = 0.8  # of classes in the forecast ahead
PROBABLE = 0.5  # probability from which a zone has the colour of an occupied one
WRONG = BandEntry("wrongly forecast", None)
FREE: Colour = (86, 180, 233)  # sky: a zone that will probably be empty
OCCUPIED: Colour = (213, 94, 0)  # vermilion: a zone that will probably be occupied


class ShownForecast(NamedTuple):
    """A forecast whose time has not come yet."""

    made_us: int
    horizon_us: int
    classes: Array


class ForecastOverlay(Overlay):
    """Show forecasts beside the segmentation; as before between two samples."""

    order: ClassVar[int] = 60
    panels: ClassVar[int] = 2

    def __init__(self, horizon_us: int | None) -> None:
        self.wanted_us = horizon_us  # None: the farthest
        self.restart()

    def restart(self) -> None:
        self.classes: Array | None = None  # of the last segmentation
        self.made: deque[ShownForecast] = deque(maxlen=PENDING)
        self.came: Array | None = None
        self.ahead: Array | None = None

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        if not canvas.panels:  # there was no segmentation yet that could be forecast
            return
        segmentation, forecast = packet.part(Segmentation), packet.part(Forecast)
        if segmentation is not None:
            self.classes = segmentation.classes
        if forecast is not None:
            self._score(canvas.small, forecast)
            self._look_ahead(canvas.small, packet.frame.media_us, forecast)
        canvas.panels += Panel("forecast for now", self.came), Panel("forecast", self.ahead)
        canvas.band.append(WRONG)

    def _score(self, small: Array, forecast: Forecast) -> None:
        """Draw the forecast that was made for this frame, if there is one."""
        scores = {(came.made_us, came.horizon_us): came.miou for came in forecast.scores}
        due = [made for made in self.made if (made.made_us, made.horizon_us) in scores]
        if not due or self.classes is None:
            return
        made = due[-1]
        while self.made and self.made[0].made_us <= made.made_us:
            self.made.popleft()
        miou = scores[made.made_us, made.horizon_us]
        self.came = _came(small, forecast.labels, made, self.classes, miou)

    def _look_ahead(self, small: Array, media_us: int, forecast: Forecast) -> None:
        if not forecast.horizons:
            return
        future = _chosen(forecast.horizons, self.wanted_us)
        self.made.append(ShownForecast(media_us, future.horizon_us, future.classes))
        self.ahead = _ahead(small, forecast.labels, future, forecast.warm)


def _chosen(horizons: Sequence[HorizonForecast], wanted_us: int | None) -> HorizonForecast:
    if wanted_us is None:
        return max(horizons, key=lambda future: future.horizon_us)
    return min(horizons, key=lambda future: abs(future.horizon_us - wanted_us))


def _came(
    small: Array, labels: tuple[str, ...], made: ShownForecast, now: Array, miou: float
) -> Array:
    """Draw a past forecast over the present picture and outline where it was wrong."""
    panel = blended(small, made.classes, palette_of(labels))
    then = made.classes
    if then.shape != now.shape:
        size = (now.shape[1], now.shape[0])
        then = cv2.resize(then, size, interpolation=cv2.INTER_NEAREST_EXACT)
    height, width = panel.shape[:2]
    wrong = cv2.resize(
        (then != now).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    side = max(3, round(TOLERANCE_PX * height / 360))
    wrong = cv2.morphologyEx(wrong, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    outline(panel, wrong, PALE, 1)
    return titled(
        panel, f"forecast for now, made {made.horizon_us / 1e6:g} s ago", f"mIoU {miou:.2f}"
    )


def _ahead(small: Array, labels: tuple[str, ...], future: HorizonForecast, warm: bool) -> Array:
    panel = blended(small, future.classes, palette_of(labels), FORECAST_OPACITY)
    for zone in future.zones:
        _zone(panel, zone)
    return titled(
        panel, f"forecast: in {future.horizon_us / 1e6:g} s", "" if warm else "from few frames"
    )


def _zone(panel: Array, zone: ZoneOccupancy) -> None:
    if len(zone.polygon) < 3:
        return
    height, width = panel.shape[:2]
    style, colour = panel_style(panel), OCCUPIED if zone.p >= PROBABLE else FREE
    corners = (np.array(zone.polygon) * (width, height)).round().astype(np.int32)
    cv2.polylines(panel, [corners], True, DARK, 2 * style.line + 1, cv2.LINE_AA)
    cv2.polylines(panel, [corners], True, colour, style.line, cv2.LINE_AA)
    x, y = corners[corners[:, 1].argmin()].tolist()
    style.plate(panel, f"{zone.zone} {zone.p:.2f}", x, max(y, 2 * style.bar), colour)
