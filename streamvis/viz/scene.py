"""Segmentations in colour: label maps over the picture, outlier scores, and strips of panels.

    palette = palette_of(CAMVID.names)
    panels = [Panel("picture", pixels), Panel("ours", blended(pixels, labels, palette))]
    sheet = strips("street-seg", [Row("0016E5_07961: mIoU 0.62", panels)], CAMVID.names)

Pictures are RGB arrays (H, W, 3) uint8, labels integer arrays (H, W). Void pixels show the picture,
or black without one.
"""

import colorsys
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.sheets.layout import FAINT, MARGIN, TITLE, blank
from streamvis.viz.style import DARK, Colour, Style

# The colours of Cityscapes; classes that other lists name differently have the same colour.
COLOURS: dict[str, Colour] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
    # CamVid
    "pavement": (244, 35, 232),
    "tree": (107, 142, 35),
    "sign": (220, 220, 0),
    "pedestrian": (220, 20, 60),
    "bicyclist": (255, 128, 0),  # a rider's red is too near a pedestrian's
}
GOLDEN = 0.618034  # of a turn of hue: each is far from those just before
VOID: Colour = (0, 0, 0)
CODES = 256  # of a byte; the last one is no class
OPACITY = 0.6  # of classes over a picture
DIM = 0.45  # share of a picture's light that is left under outlier scores
WIDE = 1520  # px of a strip, however many panels it has
LARGEST = 480  # px, width of a panel
GAP = 10  # px
TEXT = Style.for_size(480, 640)
STEP = TEXT.text + GAP  # px from line to line

Palette = tuple[Colour, ...]


@dataclass(frozen=True)
class Panel:
    """A picture of a strip, and its caption."""

    caption: str
    pixels: Array


@dataclass(frozen=True)
class Row:
    """Panels beside each other under one title."""

    title: str
    panels: Sequence[Panel]


def palette_of(names: Sequence[str]) -> Palette:
    """Return different colours for the classes; street classes have those of Cityscapes."""
    taken = {COLOURS[name] for name in names if name in COLOURS}
    free = (colour for colour in _hues() if colour not in taken)
    palette: list[Colour] = []
    for name in names:
        usual = COLOURS.get(name)
        palette.append(usual if usual and usual not in palette else next(free))
    return tuple(palette)


def _hues() -> Iterator[Colour]:
    """Yield colours without end, the first fifty far from each other."""
    for i in itertools.count():
        value = (0.95, 0.7, 0.5)[i // 17 % 3]
        red, green, blue = colorsys.hsv_to_rgb(i * GOLDEN % 1, 0.75, value)
        yield round(255 * red), round(255 * green), round(255 * blue)


def painted(labels: Array, palette: Palette) -> Array:
    """Return the label map in class colours, (H, W, 3) uint8."""
    table = np.full((CODES, 1, 3), VOID, np.uint8)
    table[: len(palette), 0] = palette
    return cv2.LUT(cv2.merge([_codes(labels, palette)] * 3), table)


def blended(pixels: Array, labels: Array, palette: Palette, opacity: float = OPACITY) -> Array:
    """Blend the label map, scaled to the picture's size, with the picture."""
    codes = _sized(_codes(labels, palette), pixels)
    colours = cv2.addWeighted(pixels, 1 - opacity, painted(codes, palette), opacity, 0)
    void = (codes == CODES - 1).astype(np.uint8)
    return cv2.copyTo(pixels, void, colours)


def heat(pixels: Array, scores: Array) -> Array:
    """Return outlier scores (H, W) in [0, 1] as a heat map over the dimmed grey picture."""
    grey = cv2.convertScaleAbs(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), alpha=DIM)
    grey = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    height, width = grey.shape[:2]
    share = cv2.resize(np.nan_to_num(scores).astype(np.float32), (width, height)).clip(0, 1)
    hot = cv2.applyColorMap(cv2.convertScaleAbs(share, alpha=255), cv2.COLORMAP_INFERNO)
    hot = cv2.cvtColor(hot, cv2.COLOR_BGR2RGB)
    return cv2.blendLinear(grey, hot, 1 - share, share)


def outlined(pixels: Array, mask: Array, colour: Colour, line: int = 2) -> Array:
    """Return the picture with the outline of a region (H, W) bool."""
    image = np.array(pixels, order="C")
    region = _sized(mask.astype(np.uint8), pixels)
    edges, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, edges, -1, colour, line)
    return image


def strips(title: str, rows: Sequence[Row], names: Sequence[str] = ()) -> Array:
    """Return rows of panels below a title and the legend of the classes."""
    bands = [_head(title), *([legend(names, WIDE)] if names else [])]
    return np.concatenate([*bands, *(_strip(row) for row in rows), blank(MARGIN, WIDE)])


def legend(names: Sequence[str], width: int) -> Array:
    """Return the class names beside their colours, in as many lines as needed."""
    lines: list[list[tuple[int, str, Colour]]] = [[]]
    x = MARGIN
    for name, colour in zip(names, palette_of(names), strict=True):
        step = 2 * TEXT.text + TEXT.width(name) + 2 * GAP
        if x + step > width - MARGIN and lines[-1]:
            lines.append([])
            x = MARGIN
        lines[-1].append((x, name, colour))
        x += step
    band = blank(len(lines) * STEP + GAP, width)
    for i, line in enumerate(lines):
        base = i * STEP + TEXT.text
        for x, name, colour in line:
            box = (x, base - TEXT.text), (x + TEXT.text + 4, base)
            cv2.rectangle(band, *box, colour, cv2.FILLED)
            TEXT.write(band, name, x + 2 * TEXT.text, base, DARK)
    return band


def _strip(row: Row) -> Array:
    """Return one row: its title, captions, and panels."""
    count = max(len(row.panels), 1)
    width = min((WIDE - 2 * MARGIN - (count - 1) * GAP) // count, LARGEST)
    seen = [_narrowed(panel.pixels, width) for panel in row.panels]
    top = 2 * STEP
    band = blank(top + max((len(image) for image in seen), default=0) + GAP, WIDE)
    TEXT.write(band, TEXT.beginning(row.title, WIDE - 2 * MARGIN), MARGIN, TEXT.text + 2, DARK)
    for i, (panel, image) in enumerate(zip(row.panels, seen, strict=True)):
        x = MARGIN + i * (width + GAP)
        TEXT.write(band, TEXT.beginning(panel.caption, width), x, top - GAP + 2, FAINT)
        band[top : top + len(image), x : x + width] = image
    return band


def _head(title: str) -> Array:
    band = blank(MARGIN + TITLE.text + 2 * GAP, WIDE)
    TITLE.write(band, title, MARGIN, MARGIN + TITLE.text, DARK)
    return band


def _codes(labels: Array, palette: Palette) -> Array:
    """Return the labels as uint8, void as CODES − 1."""
    known = (labels >= 0) & (labels < len(palette))
    return np.where(known, labels, CODES - 1).astype(np.uint8)


def _sized(codes: Array, pixels: Array) -> Array:
    """Return labels (H, W) uint8 at the picture's size."""
    height, width = pixels.shape[:2]
    return cv2.resize(codes, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _narrowed(pixels: Array, width: int) -> Array:
    height = max(round(pixels.shape[0] * width / pixels.shape[1]), 1)
    smooth = cv2.INTER_AREA if width < pixels.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), interpolation=smooth)
