"""Colours, text and lines, in sizes that follow the size of the picture.

Everything draws in place on RGB arrays (H, W, 3) uint8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array

Colour = tuple[int, int, int]
Plate = tuple[int, int, int, int]  # xyxy, px


class PlacedLabel(NamedTuple):
    """A label and its place, which may be wider than its text."""

    text: str
    plate: Plate
    colour: Colour


# Okabe and Ito's colours, then Tol's, in an order that keeps neighbours apart for all eyes.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky
    (240, 228, 66),  # yellow
    (204, 121, 167),  # purple
    (0, 158, 115),  # green
    (213, 94, 0),  # vermilion
    (153, 221, 255),  # light cyan
    (187, 204, 51),  # pear
    (0, 114, 178),  # blue
    (255, 170, 187),  # pink
    (68, 187, 153),  # mint
    (238, 136, 102),  # salmon
)
DARK: Colour = (18, 20, 24)
PALE: Colour = (236, 238, 240)
GREY: Colour = (150, 156, 164)
UNKNOWN: Colour = (0, 255, 255)  # cyan, which neither streets nor class colours have
FONT = cv2.FONT_HERSHEY_SIMPLEX
SMALLEST_TEXT = 9  # px; capitals below that are illegible after encoding
FARTHEST = 30_000  # px; OpenCV's fixed-point coordinates overflow beyond 32767


@dataclass(frozen=True)
class Style:
    """Line width and text size for one picture size."""

    line: int  # px, of boxes and trails
    text: int  # px, height of a capital
    font_scale: float
    font_weight: int

    @classmethod
    def for_size(cls, height: int, width: int) -> "Style":
        unit = min(height / 480, width / 640)  # 1 at 640×480, 2.25 at 1080p
        text = max(SMALLEST_TEXT, round(10 * max(unit, 0.1) ** 0.8))
        weight = max(1, text // 11)
        scale = cv2.getFontScaleFromHeight(FONT, text, weight)
        return cls(max(1, round(1.6 * unit)), text, scale, weight)

    @property
    def bar(self) -> int:
        """Height of the caption bar, px."""
        return self.text + 2 * max(3, self.text // 2)

    def width(self, text: str) -> int:
        """Width of the text, px."""
        return int(cv2.getTextSize(_plain(text), FONT, self.font_scale, self.font_weight)[0][0])

    def ending(self, text: str, room: int) -> str:
        """Return the text, or as much of its end as fits into `room` px."""
        if self.width(text) <= room:
            return text
        while text and self.width("..." + text) > room:
            text = text[1:]
        return "..." + text if text else ""

    def beginning(self, text: str, room: int) -> str:
        """Return the text, or as much of its beginning as fits into `room` px."""
        if self.width(text) <= room:
            return text
        while text and self.width(text + "...") > room:
            text = text[:-1]
        return text + "..." if text else ""

    def write(self, image: Array, text: str, x: int, y: int, colour: Colour) -> None:
        """Write the text with the left end of its baseline at (x, y)."""
        cv2.putText(
            image,
            _plain(text),
            (x, y),
            FONT,
            self.font_scale,
            colour,
            self.font_weight,
            cv2.LINE_AA,
        )

    def place(self, image: Array, text: str, x: int, y: int) -> Plate:
        """Return the plate for a text with its lower left corner at (x, y), moved inside."""
        height, width = image.shape[:2]
        pad = max(2, self.text // 3)
        w, h = self.width(text) + 2 * pad, self.text + 2 * pad
        x = max(0, min(x, width - w))
        y = max(h, min(y, height))
        return x, y - h, x + w, y

    def plate(self, image: Array, text: str, x: int, y: int, colour: Colour) -> Plate:
        """Write the text on a filled plate at `place(image, text, x, y)`, and return that."""
        x1, y1, x2, y2 = plate = self.place(image, text, x, y)
        pad = max(2, self.text // 3)
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), colour, cv2.FILLED)
        self.write(image, text, x1 + pad, y2 - pad, on(colour))
        return plate

    def write_label(self, image: Array, label: PlacedLabel) -> None:
        """Write a label on its filled plate."""
        x1, y1, x2, y2 = label.plate
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), label.colour, cv2.FILLED)
        self.plate(image, label.text, x1, y2, label.colour)

    def label(self, image: Array, text: str, x: int, y: int, colour: Colour) -> None:
        """Write on a darkened background with the baseline's left end at (x, y), moved inside."""
        height, width = image.shape[:2]
        w = self.width(text) + 6
        x, y = max(0, min(x, width - w)), max(self.text + 4, min(y, height - 4))
        shade(image[max(0, y - self.text - 4) : y + 4, x : x + w], DARK, 0.6)
        self.write(image, text, x + 3, y, colour)


def colour_of(track: int) -> Colour:
    """Return the colour of a track id, the same in every frame and on every machine."""
    return PALETTE[(track - 1) % len(PALETTE)]


def on(colour: Colour) -> Colour:
    """Return the text colour, dark or pale, that is legible on this colour."""
    red, green, blue = colour
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else PALE


def at(point: Array) -> tuple[int, int]:
    """Return a point as integers, clipped to the range of OpenCV's fixed-point arithmetic."""
    x, y = np.clip(point, -FARTHEST, FARTHEST).round().astype(int).tolist()
    return x, y


def rectangle(image: Array, box: Array, colour: Colour, line: int, dashed: bool = False) -> None:
    """Outline an xyxy box; predicted boxes are dashed."""
    (x1, y1), (x2, y2) = at(box[:2]), at(box[2:])
    if not dashed:
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, line)
        return
    height, width = image.shape[:2]
    dash = max(4, 4 * line)
    for y in (y1, y2):
        for x in range(max(x1, -dash), min(x2, width), 2 * dash):
            cv2.line(image, (x, y), (min(x + dash, x2), y), colour, line)
    for x in (x1, x2):
        for y in range(max(y1, -dash), min(y2, height), 2 * dash):
            cv2.line(image, (x, y), (x, min(y + dash, y2)), colour, line)


def shade(region: Array, colour: Colour, opacity: float) -> None:
    """Blend a region with one colour, in place."""
    if region.size:
        levels = np.arange(256)[:, None, None] * (1 - opacity) + np.array(colour) * opacity
        region[:] = cv2.LUT(region, levels.round().astype(np.uint8))  # (256, 1, 3)


def fading_line(image: Array, points: Array, strength: Array, colour: Colour, line: int) -> None:
    """Draw a line through points (P, 2) whose opacity at each is `strength` (P,) in [0, 1]."""
    sound = np.isfinite(points).all(axis=1)
    points, strength = points[sound].clip(-FARTHEST, FARTHEST), strength[sound]
    if len(points) < 2:
        return
    height, width = image.shape[:2]
    low = np.maximum(points.min(axis=0) - 2 * line, 0).astype(int)
    high = np.minimum(points.max(axis=0) + 2 * line + 1, (width, height)).astype(int)
    if (low >= high).any():
        return
    region = image[low[1] : high[1], low[0] : high[0]]
    coverage = np.zeros(region.shape[:2], np.uint8)
    ends = (points - low).round().astype(int).tolist()
    for start, end, share in zip(ends, ends[1:], strength[1:], strict=False):
        cv2.line(coverage, start, end, int(255 * share), line, cv2.LINE_AA)
    share = coverage.astype(np.float32) / 255
    region[:] = cv2.blendLinear(region, np.full_like(region, colour), 1 - share, share)


def nice_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2, 5, 10, … (and 0.1, 0.2, …) with span / step <= most."""
    if not span > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(span / most))
    steps: Sequence[float] = (1, 2, 5, 10)
    return float(next(s * power for s in steps if s * power * most >= span * (1 - 1e-9)))


def _plain(text: str) -> str:
    """Return the text in ASCII, the only characters in OpenCV's fonts."""
    return text.encode("ascii", "replace").decode()
