"""Heat maps: for how long people were where in the picture, of all hours and of each.

    image = heat_map(Page("cam1: time of presence", total, aspect=16 / 9, panels=panels))

Grids are seconds (rows, columns) over the picture. Colours are in proportion to the square root, so
that ways show beside places where people stand; the scale at the right has the seconds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.sheets.layout import FAINT, MARGIN, TITLE, blank
from streamvis.viz.style import DARK, Colour, Style

Point = tuple[float, float]  # shares of width and height

WIDE = 1280  # px, of the page
GAP = 12  # px
BAR = 18  # px, width of the scale
SCALE_WIDE = 130  # px, of the scale and its numbers
TALLEST = 900  # px, of the map
PANELS = 6  # beside each other
TEXT = Style.for_size(480, 640)
LINE: Colour = (86, 180, 233)
ZONE: Colour = (240, 228, 66)
CAPTION = TEXT.text + GAP


class Outline(NamedTuple):
    """A zone (closed) or a line over the picture."""

    name: str
    points: tuple[Point, ...]
    closed: bool


class SmallMap(NamedTuple):
    """A smaller map with a caption."""

    caption: str
    seconds: Array  # (rows, columns)


class Page(NamedTuple):
    """What a page of heat maps shows."""

    title: str
    seconds: Array  # (rows, columns), of all hours
    aspect: float  # width / height of the picture
    outlines: Sequence[Outline] = ()
    panels: Sequence[SmallMap] = ()
    by: str = "by hour"  # what the panels are


def heat_map(page: Page) -> Array:
    """Return the page (H, W, 3) uint8 RGB."""
    width = min(WIDE - 2 * MARGIN - SCALE_WIDE - GAP, round(TALLEST * page.aspect))
    height = max(round(width / page.aspect), 1)
    most = float(page.seconds.max(initial=0.0))
    image = _coloured(page.seconds, most, (width, height))
    for outline in page.outlines:
        _draw(image, outline)
    body = blank(height + GAP, WIDE)
    body[:height, MARGIN : MARGIN + width] = image
    _scale(body, MARGIN + width + GAP, height, most)
    bands = [_head(page.title), body]
    most = max((float(panel.seconds.max(initial=0.0)) for panel in page.panels), default=0.0)
    if page.panels:
        note = f"{page.by}; the brightest is {_duration(most)}"
        band = blank(CAPTION + GAP, WIDE)
        TEXT.write(band, note, MARGIN, GAP + TEXT.text, FAINT)
        bands.append(band)
    for first in range(0, len(page.panels), PANELS):
        bands.append(_row(page.panels[first : first + PANELS], most, page.aspect))
    return np.concatenate([*bands, blank(MARGIN, WIDE)])


def _coloured(seconds: Array, most: float, size: tuple[int, int]) -> Array:
    """Return the grid in colours, at this size."""
    share = np.sqrt(seconds / most) if most > 0 else np.zeros_like(seconds)
    smooth = cv2.resize(share.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    levels = (255 * smooth.clip(0, 1)).round().astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def _draw(image: Array, outline: Outline) -> None:
    """Draw a zone or line, and its name at its first point."""
    size = np.array([image.shape[1], image.shape[0]])
    points = (np.array(outline.points) * size).round().astype(np.int32)
    colour = ZONE if outline.closed else LINE
    cv2.polylines(image, [points], outline.closed, colour, 2, cv2.LINE_AA)
    x, y = points[0].tolist()
    TEXT.label(image, outline.name, x + 4, y + TEXT.text + 6, colour)


def _scale(body: Array, x: int, height: int, most: float) -> None:
    """Draw the scale of colours, with five numbers."""
    ramp = np.linspace(most, 0, max(height, 2))[:, None] if most > 0 else np.zeros((height, 1))
    share = (ramp / most) ** 2 * most if most > 0 else ramp  # linear in the colour
    body[:height, x : x + BAR] = _coloured(share, most, (BAR, height))
    for step in range(5):
        level = 1 - step / 4
        y = round(step / 4 * (height - 1 - TEXT.text)) + TEXT.text
        TEXT.write(body, _duration(level**2 * most), x + BAR + GAP // 2, y, DARK)


def _row(panels: Sequence[SmallMap], most: float, aspect: float) -> Array:
    width = (WIDE - 2 * MARGIN - (PANELS - 1) * GAP) // PANELS
    height = max(round(width / aspect), 1)
    band = blank(CAPTION + height + GAP, WIDE)
    for i, panel in enumerate(panels):
        x = MARGIN + i * (width + GAP)
        TEXT.write(band, TEXT.beginning(panel.caption, width), x, TEXT.text, DARK)
        band[CAPTION : CAPTION + height, x : x + width] = _coloured(
            panel.seconds, most, (width, height)
        )
    return band


def _head(title: str) -> Array:
    band = blank(MARGIN + TITLE.text + 2 * GAP, WIDE)
    TITLE.write(band, TITLE.beginning(title, WIDE - 2 * MARGIN), MARGIN, MARGIN + TITLE.text, DARK)
    return band


def _duration(seconds: float) -> str:
    """Return a time in the unit in which it is short."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
