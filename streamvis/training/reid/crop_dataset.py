"""Crops of people to train embedders on: cut once with a border, then augmented in each batch."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.models.crops import crop
from streamvis.models.onnx_reid import Teacher
from streamvis.training.color_jitter import jitter, maybe_blur, maybe_compress, to_bytes
from streamvis.training.progress import progress
from streamvis.training.recipes import Share
from streamvis.training.reid.identity_boxes import IdentityBoxes

BORDER = 0.125  # of a box's side, kept around it on either side for jitter to draw on
KEY, CROPS = "key.txt", "crops.npy"  # the files of the cache


class CropDataset(NamedTuple):
    """The crops of all sources, with their identities."""

    crops: Array  # (N, H, W, 3) uint8 RGB, with the border
    person: Array  # (N,) int64, over all sources
    source: Array  # (N,) int64
    apart: list[Array | None]  # of each source (P, P) bool: its pairs of certainly different people
    first: Array  # (sources + 1,) number of each source's first person


class CropBatch(NamedTuple):
    """The crops of one step: `people` × `views` with identities, then others."""

    crops: Tensor  # (B, H, W, 3) uint8
    same: Tensor  # (B, B) bool
    other: Tensor  # (B, B) bool; pairs neither same nor other may be either
    teacher_vectors: Tensor  # (B, T, D) float32: unit vectors of T teachers, of these crops


class CropAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a crop may differ from the image that it was cut from."""

    jitter: Annotated[float, Meta(ge=0, le=0.1)] = 0.1  # of each side of the box
    flip: Share = 0.5
    brightness: Share = 0.3
    contrast: Share = 0.3
    saturation: Share = 0.3
    tint: Share = 0.08  # of each channel, as between lamps
    coarse: Share = 0.5  # chance of a lower resolution, as of a distant person
    lowest: Annotated[float, Meta(ge=8)] = 24.0  # px, least height at that resolution
    blur: Share = 0.15
    compress: Share = 0.2
    erase: Share = 0.3
    surround: Share = 0.3  # chance, on either side, of another crop's margin


class BatchComposition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of people and crops of a batch."""

    people: Annotated[int, Meta(ge=2)] = 16
    views: Annotated[int, Meta(ge=2)] = 4
    neighbours: Annotated[int, Meta(ge=1)] = 4  # people taken from one source at a time
    others: Annotated[int, Meta(ge=0)] = 32  # crops of anybody, for distillation only


class SyntheticIdentities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """People made by changing and combining crops, for distillation."""

    wardrobes: Annotated[int, Meta(ge=1)] = 5  # colourings of each person; 1: the original only
    strangers: Annotated[int, Meta(ge=0)] = 0  # people made of one's upper and another's lower half


def gather(
    sources: Sequence[IdentityBoxes],
    size: tuple[int, int],
    strangers: int,
    cache: Path,
) -> CropDataset:
    """Cut all crops, and combine `strangers` more; `cache`, a folder, keeps them."""
    counts = [int(one.ids.max()) + 1 for one in sources]
    first = np.concatenate([[0], np.cumsum(counts)])
    source = np.repeat(np.arange(len(sources)), [len(one) for one in sources])
    person = np.concatenate([one.ids for one in sources]) + first[source]
    person = np.concatenate([person, first[-1] + np.arange(strangers)])
    source = np.concatenate([source, np.full(strangers, len(sources))])
    first = np.append(first, first[-1] + strangers)
    key = _key(sources, size, strangers)
    if _read_key(cache) != key:
        crops = _cut(sources, size)
        _start(cache, key, np.concatenate([crops, composed(crops, strangers)]))
    crops = np.load(cache / CROPS, mmap_mode="r")
    return CropDataset(crops, person, source, [*(s.apart() for s in sources), None], first)


def _cut(sources: Sequence[IdentityBoxes], size: tuple[int, int]) -> Array:
    total = sum(map(len, sources))
    large = tuple(round(side * (1 + 2 * BORDER)) for side in size)
    crops = np.zeros((total, *large, 3), np.uint8)
    start = 0
    for one in progress(sources, "people"):
        ends = np.searchsorted(one.frames, np.arange(int(one.frames.max()) + 2))
        done = 0
        for number, pixels in one.pictures():
            if number + 1 >= len(ends):
                break
            boxes = one.boxes[ends[number] : ends[number + 1]]
            if len(boxes):
                sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
                border = sides * (-BORDER, -BORDER, BORDER, BORDER)
                at = slice(start + ends[number], start + ends[number + 1])
                crops[at] = crop(pixels, boxes + border, (large[0], large[1]))
                done += len(boxes)
        if done < len(one):
            raise DataError(
                f"{one.name} has boxes up to frame {one.frames.max()}, but fewer pictures"
            )
        start += len(one)
    return crops


def taught(teachers: Sequence[Teacher], crops: Array) -> Array:
    """Return the teachers' vectors (B, T, D) of crops (B, h, w, 3) as the student gets them."""
    found = []
    for teacher in teachers:
        height, width = teacher.size
        found.append(teacher(np.stack([cv2.resize(pixels, (width, height)) for pixels in crops])))
    return np.stack(found, 1) if found else np.zeros((len(crops), 0, 0), np.float32)


def unchanged(pixels: Array, size: tuple[int, int]) -> Array:
    """Return what is in the box (h, w, 3) of a crop with its border (H, W, 3)."""
    (h, w), whole = pixels.shape[:2], 1 + 2 * BORDER
    own = np.array([[w, h, w, h]]) * (BORDER, BORDER, 1 + BORDER, 1 + BORDER) / whole
    return np.asarray(crop(pixels, own, size)[0])


def composed(crops: Array, count: int) -> Array:
    """Combine crops (N, H, W, 3) at the waist into new people (count, H, W, 3)."""
    rng = np.random.default_rng(0)
    out = np.empty((count, *crops.shape[1:]), np.uint8)
    for stranger in out:
        above, below = crops[rng.integers(len(crops), size=2)]
        share = _below(len(above), rng.uniform(0.4, 0.6))[:, None, None]
        stranger[:] = (1 - share) * above + share * below
    return out


def _below(height: int, waist: float) -> Array:
    """Return the weight (H,) of each line for the part below the waist, a share of the height."""
    y = (np.arange(height) + 0.5) / height
    return 1 / (1 + np.exp((waist - y) / 0.04))


def recoloured(pixels: Array, person: int, wardrobe: int) -> Array:
    """Change the colours of a crop, above and below the waist apart; wardrobe 0 is the original.

    All crops of a person change alike, which makes a new person for the teachers to embed.
    """
    if wardrobe == 0:
        return pixels
    rng = np.random.default_rng((person, wardrobe))
    above, below = _tint(rng), _tint(rng)
    share = _below(len(pixels), 0.5)[:, None, None]
    mixed = (1 - share) * above + share * below  # (H, 3, 3)
    out = pixels.astype(np.float32) @ mixed.astype(np.float32).transpose(0, 2, 1)
    return np.clip(out, 0, 255).astype(np.uint8)


def _tint(rng: np.random.Generator) -> Array:
    """Return a random matrix (3, 3) that rotates hues and scales saturation and brightness."""
    hue, vivid, bright = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.6), rng.uniform(0.5, 1.5)
    grey = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = np.cos(hue) * (np.eye(3) - grey) + np.sin(hue) * across  # about the axis of greys
    return np.asarray(bright * (grey + vivid * turn))


def _key(
    sources: Sequence[IdentityBoxes],
    size: tuple[int, int],
    strangers: int,
) -> str:
    """Return a digest of everything that the content of the cache depends on."""
    digest = hashlib.sha256(json.dumps([size, BORDER, strangers]).encode())
    for one in sources:
        digest.update(one.name.encode())
        for values in (one.frames, one.ids, one.boxes):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _read_key(cache: Path) -> str:
    """Return what the crops of the cache were made of; "" without any."""
    try:
        return (cache / KEY).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _start(cache: Path, key: str, crops: Array) -> None:
    """Write the crops anew; the key, last, says that they are whole."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / KEY).unlink(missing_ok=True)
    np.save(cache / CROPS, crops)
    (cache / KEY).write_text(key, encoding="utf-8")


def batches(
    people: CropDataset,
    size: tuple[int, int],
    mixture: BatchComposition,
    change: CropAugment,
    seed: int,
    start: int,
    *,
    wardrobes: int = 1,
    teachers: Sequence[Teacher] = (),
) -> Iterator[CropBatch]:
    """Yield batches from step `start` on; each step draws from a generator of its own.

    Teachers are asked about the augmented crops, so that a student learns from what both see
    (Beyer et al. 2022, Knowledge distillation: a good teacher is patient and consistent).
    """
    rows = _rows_of(people)
    step = start
    while True:
        rng = np.random.default_rng((seed, step))
        chosen = np.array(_draw(people, rows, mixture, rng))
        worn = rng.integers(wardrobes, size=len(chosen))
        compared = mixture.people * mixture.views
        worn[:compared] = np.repeat(worn[: mixture.people], mixture.views)
        crops = np.empty((len(chosen), *size, 3), np.uint8)
        for out, row, wardrobe in zip(crops, chosen, worn, strict=True):
            pixels = recoloured(people.crops[row], int(people.person[row]), int(wardrobe))
            out[:] = augmented(pixels, size, change, rng)
        swap_margins(crops, change.surround, rng)
        same, other = relations(people, chosen)
        same &= worn[:, None] == worn[None]
        known = np.arange(len(chosen)) < compared
        known = known[:, None] & known[None]
        yield CropBatch(
            torch.from_numpy(crops),
            torch.from_numpy(same & known),
            torch.from_numpy(other & known),
            torch.from_numpy(taught(teachers, crops)),
        )
        step += 1


def _rows_of(people: CropDataset) -> list[list[Array]]:
    """Return, by source, the rows of each person with at least two crops."""
    order = np.argsort(people.person, kind="stable")
    ends = np.searchsorted(people.person[order], np.arange(people.first[-1] + 1))
    found = []
    for low, high in zip(people.first[:-1], people.first[1:], strict=True):
        seen = [order[ends[p] : ends[p + 1]] for p in range(low, high)]
        found.append([rows for rows in seen if len(rows) > 1])
    found = [rows for rows in found if rows]
    if sum(map(len, found)) < 2:
        raise DataError("fewer than two people have two crops; expected more people to compare")
    return found


def _draw(
    people: CropDataset,
    rows: list[list[Array]],
    mixture: BatchComposition,
    rng: np.random.Generator,
) -> list[int]:
    """Draw the rows of people to compare, several of each source, then rows of anybody."""
    weights = np.sqrt([len(seen) for seen in rows])
    chosen: list[int] = []
    while len(chosen) < mixture.people * mixture.views:
        seen = rows[rng.choice(len(rows), p=weights / weights.sum())]
        left = mixture.people - len(chosen) // mixture.views
        for i in rng.permutation(len(seen))[: min(mixture.neighbours, left)]:
            again = len(seen[i]) < mixture.views
            chosen += rng.choice(seen[i], mixture.views, replace=again).tolist()
    return chosen + rng.integers(len(people.person), size=mixture.others).tolist()


def relations(people: CropDataset, chosen: Array) -> tuple[Array, Array]:
    """Return pairs of one person and of certainly different people, (B, B) bool each."""
    person, source = people.person[chosen], people.source[chosen]
    same = person[:, None] == person[None]
    other = source[:, None] != source[None]
    for one in np.unique(source):
        (here,) = np.nonzero(source == one)
        local, apart = person[here] - people.first[one], people.apart[one]
        other[np.ix_(here, here)] = False if apart is None else apart[np.ix_(local, local)]
    return same, other


def augmented(
    large: Array, size: tuple[int, int], change: CropAugment, rng: np.random.Generator
) -> Array:
    """Return an augmented crop (h, w, 3) of one with a border (H, W, 3)."""
    h, w = size
    H, W = large.shape[:2]
    own = np.array([W, H]) / (1 + 2 * BORDER)  # the box itself
    low = own * (BORDER + rng.uniform(-change.jitter, change.jitter, 2))
    high = own * (1 + BORDER + rng.uniform(-change.jitter, change.jitter, 2))
    scale = (high - low) / (w, h)
    M = np.array(
        [[scale[0], 0, low[0] + scale[0] / 2 - 0.5], [0, scale[1], low[1] + scale[1] / 2 - 0.5]]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = np.asarray(cv2.warpAffine(large, M, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE))
    if rng.random() < change.flip:
        out = out[:, ::-1]
    out = _distorted(np.ascontiguousarray(out), change, rng)
    if rng.random() < change.erase:
        eh, ew = int(h * rng.uniform(0.1, 0.4)), int(w * rng.uniform(0.2, 0.8))
        y, x = int(rng.integers(h - eh + 1)), int(rng.integers(w - ew + 1))
        out[y : y + eh, x : x + ew] = rng.integers(256, size=3)
    return out


def swap_margins(crops: Array, share: float, rng: np.random.Generator) -> None:
    """Replace margins of some crops (B, h, w, 3), up to a quarter wide, by those of others."""
    given = crops.copy()
    for step in (1, -1):  # from the left, from the right
        for row in np.flatnonzero(rng.random(len(crops)) < share):
            wide = int(crops.shape[2] * rng.uniform(0.05, 0.25))
            giver = given[rng.integers(len(crops))]
            crops[row, :, ::step][:, :wide] = giver[:, ::step][:, :wide]


def _distorted(out: Array, change: CropAugment, rng: np.random.Generator) -> Array:
    """Change resolution, sharpness, light, colour and compression."""
    h, w = out.shape[:2]
    if rng.random() < change.coarse:
        ratio = rng.uniform(change.lowest / h, 1) if change.lowest < h else 1.0
        less = max(round(w * ratio), 4), max(round(h * ratio), 4)
        out = cv2.resize(cv2.resize(out, less, interpolation=cv2.INTER_AREA), (w, h))
    x = jitter(
        maybe_blur(out, change.blur, rng).astype(np.float32),
        rng,
        saturation=change.saturation,
        contrast=change.contrast,
        brightness=change.brightness,
        tint=change.tint,
    )
    return maybe_compress(to_bytes(x), change.compress, (20, 80), rng)
