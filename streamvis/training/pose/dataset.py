"""Crops of people with keypoints to train on: cut once with a border, then augmented anew."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated, NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from streamvis.datasets.keypoints import FLIPPED, PersonKeypoints
from streamvis.datasets.pictures import read_picture
from streamvis.messages import Array
from streamvis.models.crops import crop
from streamvis.models.pose import MARGIN, crop_regions
from streamvis.training.color_jitter import jitter_levels, maybe_blur, maybe_compress
from streamvis.training.recipes import Amount, Share

BORDER = 1.6  # of what is kept over the crop that the network is given
FINEST = 1.5  # px kept for each px of that crop, at most
QUALITY = 92  # of JPEG
LEAST = 2 * 2**0.5 * 10  # px, least height of what is kept
PARTS = (np.arange(11), np.arange(7), np.arange(11, 17))  # upper half, head and shoulders, legs
PART_CHANCES = (0.45, 0.25, 0.3)


class PoseAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a crop may differ from the person's box."""

    scale: Annotated[float, Meta(ge=0, lt=1)] = 0.35
    rotation: Annotated[float, Meta(ge=0, le=180)] = 40.0  # degrees
    rotated: Share = 0.6
    shift: Annotated[float, Meta(ge=0, le=0.5)] = 0.08  # of the sides of the crop
    flip: Share = 0.5
    half_body: Share = 0.3
    least_points: Annotated[int, Meta(ge=1, le=17)] = 8  # of a person who may be halved
    occlude: Share = 0.3  # chance of a patch of another person
    coarse: Share = 0.3  # chance of a lower resolution, as of a distant person
    lowest: Annotated[float, Meta(ge=8)] = 40.0  # px, least height at that resolution
    blur: Share = 0.1
    compress: Share = 0.1
    contrast: Share = 0.3
    tint: Share = 0.1
    brightness: Amount = 30.0  # grey levels
    gamma: Amount = 0.3


class KeptCrop(NamedTuple):
    """A crop with its border, as JPEG, and the points in it."""

    data: bytes
    points: Array  # (17, 2) float32, px of the crop that the network is given without augmentation
    weights: Array  # (17,) float32
    scale: float  # px of the data for a px of that crop


class PoseBatch(NamedTuple):
    """One step's crops with their points."""

    pixels: Tensor  # (B, H, W, 3) uint8 RGB
    points: Tensor  # (B, 17, 2) float32, px of the crop
    weights: Tensor  # (B, 17) float32; 0 for points that are unknown or outside


class PoseDataset(NamedTuple):
    """All crops, and how often each is drawn."""

    crops: list[KeptCrop]
    chances: Array  # (N,) sum to 1
    size: tuple[int, int]


def cut(people: Sequence[PersonKeypoints], size: tuple[int, int], chances: Array) -> PoseDataset:
    """Cut everybody out of their pictures; `size` is the network's (height, width)."""
    crops = []
    for path, here in groupby(people, key=lambda one: one.path):
        some = list(here)
        pixels = read_picture(path, some[0].picture_size)
        crops += [kept_crop(pixels, one, size) for one in some]
    return PoseDataset(crops, chances / chances.sum(), size)


def kept_crop(pixels: Array, person: PersonKeypoints, size: tuple[int, int]) -> KeptCrop:
    """Cut a person out of a picture (H, W, 3) uint8 RGB, no finer than the picture is."""
    (inner,) = crop_regions(person.box[None], size)
    (region,) = crop_regions(person.box[None], size, MARGIN * BORDER)
    unit = (inner[2] - inner[0]) / size[1]  # px of the picture for a px of the crop
    scale = float(np.clip(unit, LEAST / (size[0] * BORDER), FINEST))
    sides = (round(size[0] * BORDER * scale), round(size[1] * BORDER * scale))
    shown = crop(pixels, region[None], sides)[0]
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    points = (person.points - inner[:2]) / unit
    return KeptCrop(
        data.tobytes(), points.astype(np.float32), person.weights.astype(np.float32), scale
    )


def batches(
    people: PoseDataset, count: int, change: PoseAugment, seed: int, start: int
) -> Iterator[PoseBatch]:
    """Yield batches from step `start` on; each step draws from a generator of its own."""
    step = start
    while True:
        rng = np.random.default_rng((seed, step))
        rows = rng.choice(len(people.crops), count, p=people.chances)
        made = [augmented(people.crops[row], people.size, change, rng) for row in rows]
        pixels = np.stack([one[0] for one in made])
        occlude(pixels, change.occlude, rng)
        yield PoseBatch(
            torch.from_numpy(pixels),
            torch.from_numpy(np.stack([one[1] for one in made])),
            torch.from_numpy(np.stack([one[2] for one in made])),
        )
        step += 1


def augmented(
    kept: KeptCrop, size: tuple[int, int], change: PoseAugment, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return pixels (H, W, 3), points (17, 2) and weights (17,) of an augmented crop."""
    height, width = size
    centre, zoom = np.array([width / 2, height / 2]), 1.0
    half = _half_body(kept, size, change, rng)
    if half is not None:
        centre, zoom = half
    zoom *= float(np.clip(1 + rng.normal() * change.scale, 1 - change.scale, 1 + change.scale))
    centre = centre + rng.uniform(-change.shift, change.shift, 2) * (width, height) * zoom
    angle = 0.0
    if rng.random() < change.rotated:
        angle = np.deg2rad(change.rotation) * float(np.clip(rng.normal(), -2, 2))
    # a point p of the new crop shows turn·(p − middle)·zoom + centre of the old one
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < change.flip:
        turn = turn @ np.diag([-1.0, 1.0])
        order = FLIPPED
    else:
        order = np.arange(len(FLIPPED))
    middle = np.array([width / 2, height / 2])
    points = (kept.points - centre) @ np.linalg.inv(turn).T + middle
    points, weights = points[order].astype(np.float32), kept.weights[order].copy()
    weights[((points < 0) | (points >= (width, height))).any(1)] = 0
    pixels = _warped(kept, size, turn, centre - turn @ middle)
    pixels = _coarser(pixels, change, rng)
    pixels = maybe_blur(pixels, change.blur, rng)
    pixels = maybe_compress(pixels, change.compress, (25, 80), rng)
    pixels = jitter_levels(
        pixels,
        rng,
        contrast=change.contrast,
        tint=change.tint,
        brightness=change.brightness,
        gamma=change.gamma,
    )
    return pixels, points, weights


def _half_body(
    kept: KeptCrop, size: tuple[int, int], change: PoseAugment, rng: np.random.Generator
) -> tuple[Array, float] | None:
    """Return the centre and zoom of a part of a body, in px of the crop; None for all of it."""
    known = kept.weights > 0
    if rng.random() >= change.half_body or known.sum() < change.least_points:
        return None
    rows = PARTS[rng.choice(len(PARTS), p=PART_CHANCES)]
    points = kept.points[rows[known[rows]]]
    if len(points) < 3:
        return None
    low, high = points.min(0), points.max(0)
    # the region about the points is half as large again, as a crop is a quarter larger than a box
    zoom = 1.5 * float(np.max((high - low) / (size[1], size[0])))
    return (low + high) / 2, float(np.clip(zoom, 0.35, 1.2))


def _warped(kept: KeptCrop, size: tuple[int, int], turn: Array, shift: Array) -> Array:
    """Return pixels of the crop whose point p shows turn·p + shift of the one without changes."""
    encoded = np.frombuffer(kept.data, np.uint8)
    pixels = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB))
    rows, columns = pixels.shape[:2]
    ratio = np.array([columns / (size[1] * BORDER), rows / (size[0] * BORDER)])
    border = np.array([size[1], size[0]]) * (BORDER - 1) / 2
    linear = turn * ratio[:, None]
    offset = (shift + border) * ratio
    # centres of pixels: p = i + 1/2
    offset = offset + linear @ [0.5, 0.5] - 0.5
    affine = np.column_stack([linear, offset])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(
            pixels, affine, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
    )


def _coarser(pixels: Array, change: PoseAugment, rng: np.random.Generator) -> Array:
    """Lower the resolution at the asked chance."""
    if rng.random() >= change.coarse:
        return pixels
    height, width = pixels.shape[:2]
    share = rng.uniform(min(change.lowest / height, 1), 1)
    small = (max(round(width * share), 1), max(round(height * share), 1))
    less = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(less, (width, height), interpolation=cv2.INTER_LINEAR))


def occlude(pixels: Array, chance: float, rng: np.random.Generator) -> None:
    """Paste a patch of another crop into some of the crops (B, H, W, 3), in place.

    Points under it stay: where they are has to be inferred from the others.
    """
    count, height, width = pixels.shape[:3]
    for i in np.flatnonzero(rng.random(count) < chance):
        h, w = int(height * rng.uniform(0.1, 0.4)), int(width * rng.uniform(0.15, 0.5))
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        v, u = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        pixels[i, y : y + h, x : x + w] = pixels[rng.integers(count), v : v + h, u : u + w].copy()
