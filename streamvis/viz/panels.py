"""Panels around the annotated picture, and the band below that names their colours.

    cell = cell_of(height, width, panels=3)
    picture = surrounded(picture, panels, cell, band)

Small pictures have panels of their own size, the last one beside the picture and the others below;
from TALL lines on, panels are stacked on the right.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.style import DARK, GREY, PALE, Colour, Style, shade

TALL = 720  # lines from which panels are stacked beside the picture
EMPTY = "not yet"  # beside the title of a panel without a picture

Place = tuple[int, int]  # x, y of an upper left corner, px


class Panel(NamedTuple):
    """A picture beside the annotated one."""

    title: str  # of the panel while it has no picture of its size
    picture: Array | None  # with its title drawn on it, see `titled`


class BandEntry(NamedTuple):
    """A colour of the panels and its meaning."""

    name: str
    colour: Colour | None  # None: a pale outline


def cell_of(height: int, width: int, panels: int) -> tuple[int, int]:
    """Return width and height of each of so many panels around a picture of this size, px."""
    if height < TALL:
        return width, height
    lines = height // max(panels, 2)
    return round(width * lines / height), lines


def surrounded(
    picture: Array, panels: Sequence[Panel], cell: tuple[int, int], band: Sequence[BandEntry]
) -> Array:
    """Return the picture, with or without a map beside it, surrounded by its panels."""
    if not panels:
        return picture
    (width, height), (lines, right) = cell, picture.shape[:2]
    places = _places(lines, right, cell, len(panels))
    low = max(lines, *(y + height for _, y in places))
    across = max(right, *(x + width for x, _ in places))
    below = _band(band, across)
    whole = np.full((low + len(below), across, 3), DARK, np.uint8)
    whole[:lines, :right] = picture
    whole[low:] = below
    for panel, (x, y) in zip(panels, places, strict=True):
        shown = panel.picture
        if shown is None or shown.shape[:2] != (height, width):
            shown = titled(np.full((height, width, 3), DARK, np.uint8), panel.title, EMPTY)
        whole[y : y + height, x : x + width] = shown
    return whole


def _places(lines: int, right: int, cell: tuple[int, int], count: int) -> list[Place]:
    width, height = cell
    if count == 1 or lines >= TALL:
        return [(right, i * height) for i in range(count)]
    return [*((i * width, lines) for i in range(count - 1)), (right, 0)]


def titled(panel: Array, title: str, aside: str = "") -> Array:
    """Add a title bar along the upper edge and a thin border."""
    style = panel_style(panel)
    height, width = panel.shape[:2]
    pad = (style.bar - style.text) // 2
    shade(panel[: style.bar], DARK, 0.62)
    style.write(panel, title, pad, style.bar - pad, PALE)
    x = width - pad - style.width(aside)
    if x > 2 * pad + style.width(title):
        style.write(panel, aside, x, style.bar - pad, PALE)
    cv2.rectangle(panel, (0, 0), (width - 1, height - 1), DARK, 1)
    return panel


def panel_style(panel: Array) -> Style:
    """Return a style whose text is legible in small panels."""
    height, width = panel.shape[:2]
    return Style.for_size(max(height, 480), max(width, 640))


def outline(image: Array, mask: Array, colour: Colour, line: int) -> None:
    """Draw the edges of a mask (H, W) uint8."""
    edges, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, edges, -1, colour, line, cv2.LINE_AA)


def _band(entries: Sequence[BandEntry], width: int) -> Array:
    """Return the band that names the colours, in as many lines as needed."""
    style = Style.for_size(480, 640)
    places: list[Place] = []
    x, y = style.text, 2 * style.text
    for entry in entries:
        room = 3 * style.text + style.width(entry.name)
        if x + room > width and x > style.text:
            x, y = style.text, y + 2 * style.text
        places.append((x, y))
        x += room
    band = np.full((y + style.text, width, 3), DARK, np.uint8)
    for entry, place in zip(entries, places, strict=True):
        _entry(band, entry.name, entry.colour, place, style)
    return band


def _entry(band: Array, name: str, colour: Colour | None, place: Place, style: Style) -> None:
    """Draw a filled swatch, or an outline without a colour, and its name."""
    x, y = place
    box = (x, y - style.text), (x + style.text, y)
    if colour is not None:
        cv2.rectangle(band, *box, colour, cv2.FILLED)
    cv2.rectangle(band, *box, PALE if colour is None else GREY, 1)  # some are nearly black
    style.write(band, name, x + style.text + style.text // 2, y, PALE)
