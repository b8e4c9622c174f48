"""Batches of augmented crops of labelled street images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from torch import Tensor

from streamvis.datasets.classes import VOID, Classes
from streamvis.datasets.pictures import read_picture
from streamvis.datasets.street import LabelledImage, read_labels
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.models.inference.segmentation import resize_to_lines
from streamvis.training.color_jitter import jitter_levels
from streamvis.training.recipes import Share, Span, check_span


class StreetAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a crop may differ from its image."""

    scales: Span = (0.6, 2.0)  # smallest and largest zoom, even on a log scale
    mirror: Share = 0.5
    light: Share = 0.4  # change of contrast, brightness and gamma
    tint: Share = 0.1  # change of each colour
    grey: Share = 0.05  # chance of no colour
    rare: Share = 0.4  # chance of a crop around a rare class
    mix: Share = 0.3  # chance of rare classes of another image on top

    def __post_init__(self) -> None:
        check_span("scales", self.scales)


class StreetBatch(NamedTuple):
    """A batch of crops."""

    pixels: Tensor  # (B, H, W, 3) uint8 RGB
    labels: Tensor  # (B, H, W) int64, VOID where no class is known


class StreetDataset:
    """Labelled images in memory, scaled to the height that the network is trained at."""

    def __init__(self, scenes: Sequence[LabelledImage], classes: Classes, lines: int) -> None:
        self.pictures: list[Array] = []
        self.labels: list[Array] = []
        places: dict[LabelledImage, int] = {}  # of scenes that come more than once
        for place, scene in enumerate(scenes):
            first = places.setdefault(scene, place)
            if first < place:
                self.pictures.append(self.pictures[first])
                self.labels.append(self.labels[first])
                continue
            image, labels = read_picture(scene.image), read_labels(scene.label, classes)
            if image.shape[:2] != labels.shape:
                raise DataError(
                    f"{scene.label} has {labels.shape[1]}×{labels.shape[0]} pixels, its image "
                    f"{image.shape[1]}×{image.shape[0]}; expected equal sizes"
                )
            image = resize_to_lines(image, lines)
            labels = cv2.resize(labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            self.pictures.append(image)
            self.labels.append(labels)
        counts = [np.bincount(x.ravel(), minlength=256)[: len(classes.names)] for x in self.labels]
        self.pixels = np.array(counts)  # (N, K)
        if not self.pixels.any():
            raise DataError(f"no pixel of {len(self)} images has a class of {classes.name}")
        self.share = share = self.pixels.sum(0) / self.pixels.sum()  # (K,)
        self.rare = np.flatnonzero((share > 0) & (share < np.median(share[share > 0])))

    def __len__(self) -> int:
        return len(self.pictures)


def view(
    streets: StreetDataset,
    index: int,
    size: tuple[int, int],
    how: StreetAugment,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Return a crop (H, W, 3) and its labels (H, W): zoomed, shifted, mirrored, jittered, mixed."""
    pixels, labels = _zoomed(streets, index, size, how, rng)
    if rng.random() < how.mix and len(streets.rare):
        wanted = rng.choice(streets.rare, min(3, len(streets.rare)), replace=False)
        having = np.flatnonzero(streets.pixels[:, wanted].any(1))
        other, theirs = _zoomed(streets, int(rng.choice(having)), size, how, rng, wanted)
        there = np.isin(theirs, wanted)
        pixels, labels = pixels.copy(), labels.copy()
        pixels[there], labels[there] = other[there], theirs[there]
    return _jittered(pixels, how, rng), labels


def _zoomed(
    streets: StreetDataset,
    index: int,
    size: tuple[int, int],
    how: StreetAugment,
    rng: np.random.Generator,
    wanted: Array | None = None,  # classes, one of which has to be in the crop
) -> tuple[Array, Array]:
    pixels, labels = streets.pictures[index], streets.labels[index]
    zoom = float(np.exp(rng.uniform(*np.log(how.scales))))
    sequence = float(np.exp(rng.uniform(-0.1, 0.1)))
    sx, sy = zoom * sequence, zoom / sequence
    if wanted is None and rng.random() < how.rare:
        wanted = streets.rare
    centre = _centre(labels, wanted, rng)
    height, width = size
    # centre of the crop, such that the crop lies inside the image where the image is larger
    x = _kept(centre[0], width / sx, pixels.shape[1], rng)
    y = _kept(centre[1], height / sy, pixels.shape[0], rng)
    flip = -1 if rng.random() < how.mirror else 1
    matrix = np.array(
        [[flip * sx, 0, width / 2 - flip * sx * x], [0, sy, height / 2 - sy * y]], np.float64
    )
    seen = cv2.warpAffine(
        pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(127, 127, 127)
    )
    truth = cv2.warpAffine(
        labels, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=VOID
    )
    return seen, truth


def _centre(labels: Array, wanted: Array | None, rng: np.random.Generator) -> tuple[float, float]:
    height, width = labels.shape
    if wanted is not None:
        present = [c for c in wanted if (labels == c).any()]
        if present:
            rows, columns = np.nonzero(labels == rng.choice(present))
            at = int(rng.integers(len(rows)))
            spread = 0.15 * width * rng.standard_normal(2)
            return float(columns[at] + spread[0]), float(rows[at] + spread[1])
    return float(rng.uniform(0, width)), float(rng.uniform(0, height))


def _kept(centre: float, seen: float, there: int, rng: np.random.Generator) -> float:
    """Return the centre of a crop of `seen` px in an image of `there` px."""
    if seen >= there:
        slack = (seen - there) / 2
        return there / 2 + float(rng.uniform(-slack, slack))
    return float(np.clip(centre, seen / 2, there - seen / 2))


def _jittered(pixels: Array, how: StreetAugment, rng: np.random.Generator) -> Array:
    """Change contrast, brightness, gamma and tint, or remove all colour."""
    out = jitter_levels(
        pixels, rng, contrast=how.light, tint=how.tint, brightness=100 * how.light, gamma=how.light
    )
    if rng.random() < how.grey:
        out = np.repeat(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    return out


def views(
    streets: StreetDataset,
    size: tuple[int, int],
    batch: int,
    how: StreetAugment,
    seed: int,
    step: int,
) -> Iterator[StreetBatch]:
    """Yield batches from a step on; each image comes once before any comes again."""
    count = len(streets)
    while True:
        pictures, labels = [], []
        for place in range(step * batch, (step + 1) * batch):
            epoch, at = divmod(place, count)
            index = int(np.random.default_rng([seed, epoch]).permutation(count)[at])
            rng = np.random.default_rng([seed, 1, place])
            seen, truth = view(streets, index, size, how, rng)
            pictures.append(seen)
            labels.append(truth)
        step += 1
        yield StreetBatch(
            torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(labels)).long()
        )
