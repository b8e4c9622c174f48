"""The legend of the annotated video: what its lines and colours mean, in a corner of the picture.

draw_legend(picture, [Entry("box", GREY, 0, "detection without a track, and its score")])
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.style import DARK, PALE, Colour, Style, rectangle, shade

WIDEST, TALLEST = 0.85, 0.6  # shares of the picture that the legend may take; else there is none


class Entry(NamedTuple):
    """One line of the legend: a symbol and its meaning."""

    shape: str  # box, dashed, line, bar, area
    colour: Colour
    thick: int  # multiple of the style's line width; 0: one pixel
    text: str
    place: int = 50  # in the legend: lower ones stand above


def draw_legend(image: Array, entries: Sequence[Entry]) -> bool:
    """Draw the legend above the caption bar at the left; False where the picture is too small."""
    entries = sorted(entries, key=lambda entry: entry.place)
    height, width = image.shape[:2]
    style = Style.for_size(height, width)
    pad, step = style.text // 2, round(1.7 * style.text)
    symbol = 2 * style.text
    wide = symbol + 3 * pad + max((style.width(entry.text) for entry in entries), default=0)
    tall = step * len(entries) + pad
    if not entries or wide > WIDEST * width or tall > TALLEST * height:
        return False
    top = height - style.bar - tall
    shade(image[top : top + tall, :wide], DARK, 0.75)
    for i, entry in enumerate(entries):
        base = top + step * (i + 1) - pad // 2
        corners = np.array([pad, base - style.text, pad + symbol, base])
        _symbol(image, entry, corners, max(1, entry.thick * style.line))
        style.write(image, entry.text, symbol + 2 * pad, base, PALE)
    return True


def _symbol(image: Array, entry: Entry, corners: Array, line: int) -> None:
    x1, y1, x2, y2 = corners.tolist()
    middle = (y1 + y2) // 2
    if entry.shape == "line":
        cv2.line(image, (x1, middle), (x2, middle), entry.colour, line, cv2.LINE_AA)
    elif entry.shape == "bar":
        cv2.rectangle(image, (x1, middle - 2), (x2, middle + 2), entry.colour, cv2.FILLED)
    elif entry.shape == "area":
        cv2.rectangle(image, (x1, y1), (x2, y2), entry.colour, cv2.FILLED)
    else:
        rectangle(image, corners, entry.colour, line, dashed=entry.shape == "dashed")
