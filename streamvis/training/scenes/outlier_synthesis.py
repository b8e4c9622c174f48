"""Synthesis of out-of-distribution objects: cut-outs are pasted into street images.

    objects = read_objects(folder)  # animals, food, furniture: anything but streets
    for pixels, labels, unknown in pasted(scenes, objects, seed=0): ...  # for evaluation
    pixels, labels = paste(pixels, labels, objects, PasteAugment(), rng)  # for training

Bevandić et al., GCPR 2019, train with pasted rectangles and evaluate with animals pasted by their
masks. Here training has masks, ellipses and blobs as well, since the edges of rectangles alone
would be learnt.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import msgspec
import numpy as np
from msgspec import Meta

from streamvis.datasets.classes import VOID
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.sources.listing import entries
from streamvis.training.recipes import Share, Span, check_span

UNKNOWN = 254  # in training labels: an out-of-distribution object; VOID: not known
PICTURES = (".jpg", ".jpeg", ".png")
LEAST, MOST = 0.007, 0.1  # share of the image that an object covers in evaluation
BORDER = 0.1  # of an image's sides, taken for background by GrabCut
MARGIN = 16  # px around an object whose colours it is matched to
SOUGHT = 160  # px, the longer side of images that GrabCut works on


class OutlierObject(NamedTuple):
    """An image of an object, and the opacity of each of its pixels."""

    name: str
    pixels: Array  # (h, w, 3) uint8 RGB
    alpha: Array  # (h, w) float32 in [0, 1]
    cut: bool  # by an alpha channel; else all of the image is out of distribution


class PastedImage(NamedTuple):
    """A labelled image with one object pasted into it."""

    pixels: Array  # (H, W, 3) uint8 RGB
    labels: Array  # (H, W) uint8, VOID where the object is
    unknown: Array  # (H, W) bool


class PasteAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How objects are pasted into training images."""

    pictures: Share = 0.8  # chance that an image gets any
    most: Annotated[int, Meta(ge=1, le=32)] = 4  # objects of one image
    area: Span = (0.001, 0.1)  # share of the image, uniform on a log scale
    whole: Share = 0.5  # objects in their own outline; others are cut in random shapes
    swap: Share = 0.3  # of those in their own outline, filled with another object's pixels
    match: Share = 0.6  # largest step towards the light and colours of the surroundings
    soft: Annotated[float, Meta(ge=0, le=8)] = 1.5  # px, widest blur of the outline

    def __post_init__(self) -> None:
        check_span("area", self.area)


def read_objects(folder: Path) -> list[OutlierObject]:
    """Read cut-outs by their alpha channel, other images by their foreground; DataError if none.

    The foreground is that of GrabCut with a centred rectangle, or an ellipse where GrabCut fails.
    """
    inside = sorted(entries(folder)) if folder.is_dir() else []
    paths = [path for path in inside if path.suffix.lower() in PICTURES]
    if not paths:
        raise DataError(f"{folder} holds no images ({', '.join(PICTURES)}) of objects to paste")
    return [_read(path) for path in paths]


def pasted(
    scenes: Iterable[tuple[Array, Array]], objects: Sequence[OutlierObject], seed: int = 0
) -> Iterator[PastedImage]:
    """Paste one object by its mask into each scene (pixels, labels), on more than 0.7 % of it.

    Every object comes once before any comes again. Pixels of classes and of the object are scored:
    `(labels != VOID) | unknown`.
    """
    for place, (pixels, labels) in enumerate(scenes):
        epoch, at = divmod(place, len(objects))
        chosen = int(np.random.default_rng([seed, 0, epoch]).permutation(len(objects))[at])
        rng = np.random.default_rng([seed, 1, place])
        chosen_object = objects[chosen]
        share = float(np.exp(rng.uniform(*np.log((LEAST * 1.1, MOST)))))
        placed = _place(chosen_object.pixels, chosen_object.alpha, share, labels.shape, rng)
        unknown = np.zeros(labels.shape, bool)
        unknown[placed.window] = placed.alpha >= 0.5
        if unknown.mean() <= LEAST:
            raise DataError(
                f"{chosen_object.name} covers at most {unknown.mean():.2%} of an image of "
                f"{labels.shape[1]}×{labels.shape[0]} pixels; expected more than {LEAST:.1%}"
            )
        yield PastedImage(
            placed.over(pixels), np.where(unknown, VOID, labels).astype(np.uint8), unknown
        )


def paste(
    pixels: Array,
    labels: Array,
    objects: Sequence[OutlierObject],
    how: PasteAugment,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Paste random objects, labelled UNKNOWN, into an image (H, W, 3) and its labels (H, W)."""
    labels = labels.copy()
    if rng.random() >= how.pictures:
        return pixels, labels
    for _ in range(int(rng.integers(1, how.most + 1))):
        texture, alpha = _shaped(objects, how, rng)
        share = float(np.exp(rng.uniform(*np.log(how.area))))
        placed = _place(texture, alpha, share, labels.shape, rng, outside=0.4)
        placed = placed.softened(rng.uniform(0, how.soft))
        if not (placed.alpha >= 0.5).any():
            continue
        placed = placed.matched(pixels, rng.uniform(0, how.match), rng)
        pixels = placed.over(pixels)
        beneath = labels[placed.window]
        beneath[placed.alpha > 0.1] = VOID  # a mixture of both
        beneath[placed.alpha >= 0.5] = UNKNOWN
    return pixels, labels


class _PlacedObject(NamedTuple):
    """An object at its place in an image; all arrays cover the window that it touches."""

    window: tuple[slice, slice]  # rows, columns of the picture
    texture: Array  # (h, w, 3) float32
    alpha: Array  # (h, w) float32

    def over(self, pixels: Array) -> Array:
        """Return the image with the object in it."""
        pixels = pixels.copy()
        under = pixels[self.window]
        mixed = under + self.alpha[..., None] * (self.texture - under)
        pixels[self.window] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
        return pixels

    def softened(self, blur: float) -> "_PlacedObject":
        if blur < 0.3:
            return self
        return self._replace(alpha=cv2.GaussianBlur(self.alpha, (0, 0), blur))

    def matched(self, pixels: Array, step: float, rng: np.random.Generator) -> "_PlacedObject":
        """Move mean and spread of each colour towards the surroundings, and change its light."""
        inside = self.alpha >= 0.5
        there, here = pixels[self.window][self.alpha == 0], self.texture[inside]
        if len(there) == 0:
            return self
        mean, spread = here.mean(0), here.std(0) + 1
        wanted = mean + step * (there.mean(0) - mean)
        gain = (1 + step * ((there.std(0) + 1) / spread - 1)) * rng.uniform(0.7, 1.3)
        shift = rng.uniform(-25, 25)
        texture = (self.texture - mean) * np.clip(gain, 0.3, 3) + wanted + shift
        return self._replace(texture=np.clip(texture, 0, 255).astype(np.float32))


def _place(
    texture: Array,
    alpha: Array,
    share: float,
    size: tuple[int, int],
    rng: np.random.Generator,
    outside: float = 0.0,  # share of its height and width that may lie outside
) -> _PlacedObject:
    """Scale an object to its share of an image and place it at random."""
    height, width = size
    scale = np.sqrt(share * height * width / max(int((alpha >= 0.5).sum()), 1))
    scale = min(scale, height / alpha.shape[0], width / alpha.shape[1])
    h, w = (max(2, round(side * scale)) for side in alpha.shape)
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    texture = cv2.resize(texture, (w, h), interpolation=smooth).astype(np.float32)
    alpha = cv2.resize(alpha, (w, h), interpolation=smooth)
    y = int(rng.integers(-int(outside * h), height - h + int(outside * h) + 1))
    x = int(rng.integers(-int(outside * w), width - w + int(outside * w) + 1))
    around = ((MARGIN, MARGIN), (MARGIN, MARGIN))
    texture, alpha = np.pad(texture, (*around, (0, 0)), "edge"), np.pad(alpha, around)
    y, x, h, w = y - MARGIN, x - MARGIN, h + 2 * MARGIN, w + 2 * MARGIN
    window = np.s_[max(y, 0) : min(y + h, height), max(x, 0) : min(x + w, width)]
    part = np.s_[max(-y, 0) : height - y, max(-x, 0) : width - x]
    return _PlacedObject(window, texture[part], alpha[part])


def _shaped(
    objects: Sequence[OutlierObject], how: PasteAugment, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return pixels and alpha of an object in its outline, or of a part in a random shape."""
    chosen_object = objects[int(rng.integers(len(objects)))]
    pixels, alpha = chosen_object.pixels, chosen_object.alpha
    if rng.random() < how.whole:
        if rng.random() < how.swap:
            pixels = _cropped(objects[int(rng.integers(len(objects)))], rng)[0]
            pixels = cv2.resize(pixels, alpha.shape[::-1], interpolation=cv2.INTER_AREA)
    else:
        pixels, alpha = _cropped(chosen_object, rng)
        alpha = alpha * _outline(alpha.shape, rng)
    if rng.random() < 0.5:
        pixels, alpha = pixels[:, ::-1], alpha[:, ::-1]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(alpha)


def _cropped(chosen_object: OutlierObject, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a random part of an object's image and its alpha, which is 1 without a cut-out."""
    height, width = chosen_object.alpha.shape
    h, w = (max(8, int(side * rng.uniform(0.3, 1))) for side in (height, width))
    y, x = int(rng.integers(max(1, height - h + 1))), int(rng.integers(max(1, width - w + 1)))
    pixels = chosen_object.pixels[y : y + h, x : x + w]
    alpha = chosen_object.alpha[y : y + h, x : x + w]
    return pixels, alpha if chosen_object.cut else np.ones_like(alpha)


def _outline(size: tuple[int, int], rng: np.random.Generator) -> Array:
    """Return a random rectangle, ellipse or blob (h, w)."""
    kind = int(rng.integers(3))
    if kind == 0:
        return np.ones(size, np.float32)
    if kind == 1:
        return _ellipse(size)
    noise = rng.standard_normal((6, 6)).astype(np.float32)
    hills = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC) + 3 * _bowl(size)
    return (hills > np.quantile(hills, 0.5)).astype(np.float32)


def _bowl(size: tuple[int, int]) -> Array:
    """Return a paraboloid (h, w): 1 in the middle, 0 on the inscribed ellipse, less outside."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    return 1 - y[:, None] ** 2 - x[None] ** 2


def _ellipse(size: tuple[int, int]) -> Array:
    return (_bowl(size) >= 0).astype(np.float32)


def _read(path: Path) -> OutlierObject:
    found: Array | None = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise DataError(f"{path} cannot be read as an image")
    if found.dtype != np.uint8:
        found = (found / 257).astype(np.uint8)
    if found.ndim == 2:
        found = np.repeat(found[..., None], 3, 2)
    pixels = np.ascontiguousarray(found[..., 2::-1])  # BGR(A) as OpenCV has it
    if found.shape[2] < 4 or found[..., 3].min() == 255:
        return OutlierObject(path.name, pixels, _foreground(pixels), False)
    alpha = found[..., 3].astype(np.float32) / 255
    rows, columns = np.nonzero(alpha >= 0.5)
    if len(rows) == 0:
        raise DataError(f"{path} is completely transparent; expected the outline of an object")
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return OutlierObject(path.name, np.ascontiguousarray(pixels[box]), alpha[box].copy(), True)


def _foreground(pixels: Array) -> Array:
    """Return the foreground in the middle of an image, (h, w) float32 0 or 1."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SOUGHT / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    x, y = (max(1, round(BORDER * side)) for side in size)
    mask = np.zeros(small.shape[:2], np.uint8)
    cv2.setRNGSeed(0)  # GrabCut initialises its mixtures at random
    rectangle = (x, y, size[0] - 2 * x, size[1] - 2 * y)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, mask, rectangle, *models, 4, cv2.GC_INIT_WITH_RECT)
    likely = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(likely, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(found)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if len(areas) == 0 or not 0.05 < areas.max() / found.size < 0.6:
        return _ellipse((height, width))
    largest = (parts == 1 + int(np.argmax(areas))).astype(np.float32)
    return (cv2.resize(largest, (width, height)) >= 0.5).astype(np.float32)
