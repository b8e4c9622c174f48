"""Panels around the picture: the segmentation, the forecast made for now, the forecast ahead.

    panels = Panels()
    panels.see(pixels, media_us, segmentation, forecast)  # None: as before
    picture = panels.around(annotate(glowing(pixels, panels.unknown), …), pixels)

Small pictures have panels of their own size, the present below the picture and its forecast beside
that; from TALL lines on, panels are stacked on the right. A band below names the class colours.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import msgspec
import numpy as np

from streamvis.messages import Array, Forecast, HorizonForecast, Segmentation, ZoneOccupancy
from streamvis.viz.scene import blended, palette_of
from streamvis.viz.style import DARK, GREY, PALE, UNKNOWN, Colour, Style, shade

TALL = 720  # lines from which panels are stacked beside the picture
PENDING = 64  # forecasts whose time has not come, at most
TOLERANCE_PX = 5  # px at 360 lines; narrower errors are not outlined
HIGHLIGHT_FROM = 0.3  # out-of-distribution probability from which a pixel is highlighted
HIGHLIGHT_OPACITY = 0.75  # of the highlight at probability 1
SURE = 0.5  # probability from which a highlighted region is outlined
FORECAST_OPACITY = 0.8  # of classes in the forecast ahead
WRONG = "wrongly forecast"
FREE: Colour = (86, 180, 233)  # sky: a zone that will probably be empty
OCCUPIED: Colour = (213, 94, 0)  # vermilion: a zone that will probably be occupied

Role = Literal["now", "came", "ahead"]
Place = tuple[int, int]  # x, y of a panel's upper left corner, px


class PanelSet(msgspec.Struct, frozen=True, array_like=True):
    """The panels of a video; fixed once chosen, since a video has one size."""

    labels: tuple[str, ...]
    future: bool  # with panels of forecasts
    unknown: bool  # out-of-distribution pixels are highlighted


class PendingForecast(NamedTuple):
    """A forecast whose time has not come yet."""

    made_us: int
    horizon_us: int
    classes: Array


@dataclass(frozen=True)
class Layout:
    """Positions and sizes, in pixels."""

    width: int
    height: int
    cell: tuple[int, int]  # width and height of a panel
    places: Mapping[Role, Place]


class Panels:
    """The current panels of one source; between two samples they stay as they are."""

    def __init__(self, shown: PanelSet | None = None, horizon_us: int | None = None) -> None:
        self.shown = shown
        self.wanted_us = horizon_us  # None: the farthest
        self.forget()

    def forget(self) -> None:
        """Discard everything at the start of another stream epoch."""
        self.unknown: Array | None = None
        self.classes: Array | None = None
        self.made: deque[PendingForecast] = deque(maxlen=PENDING)
        self.drawn: dict[Role, Array] = {}

    def see(
        self,
        pixels: Array,
        media_us: int,
        segmentation: Segmentation | None,
        forecast: Forecast | None,
    ) -> None:
        """Redraw the panels for which this frame has a part."""
        if segmentation is None and forecast is None:
            return
        if segmentation is not None:
            future = forecast is not None or (self.shown is not None and self.shown.future)
            self.shown = PanelSet(segmentation.labels, future, segmentation.unknown.size > 0)
            self.classes, self.unknown = segmentation.classes, segmentation.unknown
        if self.shown is None:
            return
        width, height = _cell(pixels, self.shown)
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        if segmentation is not None:
            self.drawn["now"] = _now(small, segmentation)
        if forecast is not None:
            self._came(small, forecast)
            self._ahead(small, media_us, forecast)

    def around(self, picture: Array, pixels: Array) -> Array:
        """Return the annotated picture of `pixels`, with or without a map, surrounded by panels."""
        if self.shown is None:
            return picture
        layout = _layout(picture, pixels, self.shown)
        band = _legend(self.shown, layout.width)
        whole = np.full((layout.height + len(band), layout.width, 3), DARK, np.uint8)
        whole[: len(picture), : picture.shape[1]] = picture
        whole[layout.height :] = band
        width, height = layout.cell
        for role, (x, y) in layout.places.items():
            panel = self.drawn.get(role)
            if panel is None or panel.shape[:2] != (height, width):
                panel = _nothing(role, width, height)
            whole[y : y + height, x : x + width] = panel
        return whole

    def _came(self, small: Array, forecast: Forecast) -> None:
        """Draw the forecast that was made for this frame, if there is one."""
        scores = {(came.made_us, came.horizon_us): came.miou for came in forecast.scores}
        due = [made for made in self.made if (made.made_us, made.horizon_us) in scores]
        if not due or self.classes is None:
            return
        made = due[-1]
        while self.made and self.made[0].made_us <= made.made_us:
            self.made.popleft()
        self.drawn["came"] = _came(
            small, forecast.labels, made, self.classes, scores[made.made_us, made.horizon_us]
        )

    def _ahead(self, small: Array, media_us: int, forecast: Forecast) -> None:
        if not forecast.horizons:
            return
        future = _chosen(forecast.horizons, self.wanted_us)
        self.made.append(PendingForecast(media_us, future.horizon_us, future.classes))
        self.drawn["ahead"] = _ahead(small, forecast.labels, future, forecast.warm)


def highlighted(pixels: Array, unknown: Array | None) -> Array:
    """Highlight out-of-distribution pixels; `unknown` (h, w) uint8 is 255 · probability."""
    if unknown is None or not (unknown > 255 * HIGHLIGHT_FROM).any():
        return pixels
    height, width = pixels.shape[:2]
    code = cv2.resize(unknown, (width, height), interpolation=cv2.INTER_LINEAR)
    x, y, w, h = cv2.boundingRect((code > 255 * HIGHLIGHT_FROM).astype(np.uint8))
    lit = np.array(pixels, order="C")
    region = lit[y : y + h, x : x + w]
    p = code[y : y + h, x : x + w] / np.float32(255)
    share = np.clip((p - HIGHLIGHT_FROM) / (1 - HIGHLIGHT_FROM), 0, 1) * np.float32(
        HIGHLIGHT_OPACITY
    )
    region[:] = cv2.blendLinear(region, np.full_like(region, UNKNOWN), 1 - share, share)
    _outline(
        lit, (code >= 255 * SURE).astype(np.uint8), UNKNOWN, Style.for_size(height, width).line
    )
    return lit


def _chosen(horizons: Sequence[HorizonForecast], wanted_us: int | None) -> HorizonForecast:
    if wanted_us is None:
        return max(horizons, key=lambda future: future.horizon_us)
    return min(horizons, key=lambda future: abs(future.horizon_us - wanted_us))


def _cell(pixels: Array, shown: PanelSet) -> tuple[int, int]:
    """Return width and height of a panel."""
    height, width = pixels.shape[:2]
    if height < TALL:
        return width, height
    lines = height // (3 if shown.future else 2)
    return round(width * lines / height), lines


def _layout(picture: Array, pixels: Array, shown: PanelSet) -> Layout:
    right, lines = picture.shape[1], picture.shape[0]
    cell = width, height = _cell(pixels, shown)
    places: dict[Role, Place]
    if not shown.future:
        places = {"now": (right, 0)}
    elif lines >= TALL:
        places = {"now": (right, 0), "came": (right, height), "ahead": (right, 2 * height)}
    else:
        places = {"now": (0, lines), "came": (width, lines), "ahead": (right, 0)}
    below = lines if shown.future and lines < TALL else 0
    return Layout(width=right + width, height=lines + below, cell=cell, places=places)


def _now(small: Array, segmentation: Segmentation) -> Array:
    panel = blended(small, segmentation.classes, palette_of(segmentation.labels))
    return _titled(panel, "now")


def _came(
    small: Array, labels: tuple[str, ...], made: PendingForecast, now: Array, miou: float
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
    _outline(panel, wrong, PALE, 1)
    return _titled(
        panel, f"forecast for now, made {made.horizon_us / 1e6:g} s ago", f"mIoU {miou:.2f}"
    )


def _ahead(small: Array, labels: tuple[str, ...], future: HorizonForecast, warm: bool) -> Array:
    panel = blended(small, future.classes, palette_of(labels), FORECAST_OPACITY)
    for zone in future.zones:
        _zone(panel, zone)
    return _titled(
        panel, f"forecast: in {future.horizon_us / 1e6:g} s", "" if warm else "from few frames"
    )


def _zone(panel: Array, zone: ZoneOccupancy) -> None:
    if len(zone.polygon) < 3:
        return
    height, width = panel.shape[:2]
    style, colour = _panel_style(panel), OCCUPIED if zone.p >= SURE else FREE
    corners = (np.array(zone.polygon) * (width, height)).round().astype(np.int32)
    cv2.polylines(panel, [corners], True, DARK, 2 * style.line + 1, cv2.LINE_AA)
    cv2.polylines(panel, [corners], True, colour, style.line, cv2.LINE_AA)
    x, y = corners[corners[:, 1].argmin()].tolist()
    style.plate(panel, f"{zone.zone} {zone.p:.2f}", x, max(y, 2 * style.bar), colour)


def _outline(image: Array, mask: Array, colour: Colour, line: int) -> None:
    edges, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, edges, -1, colour, line, cv2.LINE_AA)


def _titled(panel: Array, title: str, aside: str = "") -> Array:
    """Add a title bar along the upper edge and a thin border."""
    style = _panel_style(panel)
    height, width = panel.shape[:2]
    pad = (style.bar - style.text) // 2
    shade(panel[: style.bar], DARK, 0.62)
    style.write(panel, title, pad, style.bar - pad, PALE)
    x = width - pad - style.width(aside)
    if x > 2 * pad + style.width(title):
        style.write(panel, aside, x, style.bar - pad, PALE)
    cv2.rectangle(panel, (0, 0), (width - 1, height - 1), DARK, 1)
    return panel


def _nothing(role: Role, width: int, height: int) -> Array:
    """Return an empty panel with its title."""
    titles: dict[Role, str] = {"now": "now", "came": "forecast for now", "ahead": "forecast"}
    panel = np.full((height, width, 3), DARK, np.uint8)
    return _titled(panel, titles[role], "not yet")


def _legend(shown: PanelSet, width: int) -> Array:
    """Return the band that names the colours, in as many lines as needed."""
    style = Style.for_size(480, 640)
    entries = list(zip(shown.labels, palette_of(shown.labels), strict=True))
    entries += [("out-of-distribution", UNKNOWN)] if shown.unknown else []
    places: list[Place] = []
    x, y = style.text, 2 * style.text
    for name in [*(name for name, _ in entries), *([WRONG] if shown.future else [])]:
        room = 3 * style.text + style.width(name)
        if x + room > width and x > style.text:
            x, y = style.text, y + 2 * style.text
        places.append((x, y))
        x += room
    band = np.full((y + style.text, width, 3), DARK, np.uint8)
    for (name, colour), place in zip(entries, places, strict=False):
        _entry(band, name, colour, place, style)
    if shown.future:
        _entry(band, WRONG, None, places[-1], style)
    return band


def _entry(band: Array, name: str, colour: Colour | None, place: Place, style: Style) -> None:
    """Draw a filled swatch, or an outline without a colour, and its name."""
    x, y = place
    box = (x, y - style.text), (x + style.text, y)
    if colour is not None:
        cv2.rectangle(band, *box, colour, cv2.FILLED)
    cv2.rectangle(band, *box, PALE if colour is None else GREY, 1)  # some are nearly black
    style.write(band, name, x + style.text + style.text // 2, y, PALE)


def _panel_style(panel: Array) -> Style:
    """Return a style whose text is legible in small panels."""
    height, width = panel.shape[:2]
    return Style.for_size(max(height, 480), max(width, 640))
