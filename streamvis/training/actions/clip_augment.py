"""Augmented views of action clips, and batches of their frames or of a frozen trunk's maps."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from streamvis.messages import Array
from streamvis.models.off import Modality, Off
from streamvis.training.actions.clip_sampling import ClipFrames
from streamvis.training.color_jitter import jitter_levels
from streamvis.training.progress import progress
from streamvis.training.recipes import Share

Scales = Annotated[tuple[Annotated[float, Meta(gt=0, le=1)], ...], Meta(min_length=1)]


class ClipAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a view may differ from its clip; all frames of a clip are changed alike."""

    scales: Scales = (1.0, 0.875, 0.75, 0.66)  # sides of crops, relative to the frame
    distort: Annotated[int, Meta(ge=0)] = 1  # steps in `scales` between height and width
    mirror: Share = 0.5
    light: Share = 0.2  # change of contrast, brightness and each colour
    backwards: Share = 0.0  # chance of reversed time, for rgb only


class ClipBatch(NamedTuple):
    """Consecutive frames of several clips, as pixels or as a trunk's maps."""

    pixels: Tensor | None  # (B, T, H, W, C) uint8
    maps: list[Tensor]  # of B·T frames, as `Off.tap_maps` returns them, if there are no pixels
    labels: Tensor  # (B,)


class TrunkMaps(NamedTuple):
    """The maps of a frozen trunk, as of `Off.tap_maps`, for a few views of every frame."""

    levels: list[Array]  # (views, N, …) float16 each, perhaps mapped from files
    first: Array  # (clips + 1,) index of each clip's first frame


def whole_frames(pixels: Array, size: tuple[int, int]) -> Array:
    """Return whole frames (T, H, W, C) at the network's size."""
    return _resized(pixels, size) if pixels.shape[1:3] != size else pixels


def augment_clip(
    pixels: Array,
    size: tuple[int, int],
    modality: Modality,
    how: ClipAugment,
    random: np.random.Generator,
) -> Array:
    """Return randomly augmented frames (T, H, W, C) at the network's size."""
    pixels = _resized(pixels[:, *_crop(pixels.shape[1:3], how, random)], size)
    if random.random() < how.mirror:
        pixels = pixels[:, :, ::-1]
        if modality == "flow":  # the x component changes its sign
            pixels = pixels.copy()
            pixels[..., ::2] = 255 - np.maximum(pixels[..., ::2], 1) + 1
    if modality == "flow":
        return np.ascontiguousarray(pixels)
    if modality == "rgb" and random.random() < how.backwards:
        pixels = pixels[::-1]
    if not how.light:
        return np.ascontiguousarray(pixels)
    return jitter_levels(
        pixels, random, contrast=how.light, tint=how.light / 2, brightness=128 * how.light
    )


def _crop(
    shape: Sequence[int], how: ClipAugment, random: np.random.Generator
) -> tuple[slice, slice]:
    """Return a crop at a corner or the centre, with similar scales of height and width."""
    i = int(random.integers(len(how.scales)))
    j = int(np.clip(i + random.integers(-how.distort, how.distort + 1), 0, len(how.scales) - 1))
    corner = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))[int(random.integers(5))]
    slices = []
    for side, scale, at in zip(shape, (how.scales[i], how.scales[j]), corner, strict=True):
        length = max(round(side * scale), 1)
        start = round((side - length) * at)
        slices.append(slice(start, start + length))
    return slices[0], slices[1]


def _resized(pixels: Array, size: tuple[int, int]) -> Array:
    height, width = size
    shrinks = pixels.shape[1] > height
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out = np.empty((len(pixels), height, width, pixels.shape[-1]), np.uint8)
    for i, picture in enumerate(pixels):
        for c in range(0, pixels.shape[-1], 2):  # OpenCV takes four channels at most
            part = np.ascontiguousarray(picture[..., c : c + 2])
            resized = cv2.resize(part, (width, height), interpolation=how)
            out[i, ..., c : c + 2] = resized.reshape(height, width, -1)
    return out


def clips_of_step(seed: int, count: int, size: int, step: int) -> Array:
    """Return the indexes of a step's clips: each of `count` comes once before any comes again."""
    at = step * size + np.arange(size)
    epochs, places = at // count, at % count
    orders = {e: np.random.default_rng([seed, int(e)]).permutation(count) for e in set(epochs)}
    return np.array([orders[e][p] for e, p in zip(epochs, places, strict=True)])


def rows_of(first: Array, clip: int, moments: int, random: np.random.Generator) -> Array:
    """Return indexes of consecutive frames of a clip; the last frame of a short clip repeats."""
    low, high = int(first[clip]), int(first[clip + 1])
    start = int(random.integers(max(high - low - moments, 0) + 1))
    return low + np.minimum(start + np.arange(moments), high - low - 1)


def pixel_batches(
    data: ClipFrames,
    clips: Array,  # indexes of those to train on
    labels: Array,  # of all clips
    shape: tuple[int, int],  # clips and frames of a batch
    size: tuple[int, int],
    modality: Modality,
    how: ClipAugment,
    seed: int,
    step: int = 0,
) -> Iterator[ClipBatch]:
    """Yield batches of frames from a step on; a batch depends on seed and step only."""
    while True:
        random = np.random.default_rng([seed, 1, step])
        chosen = clips[clips_of_step(seed, len(clips), shape[0], step)]
        views = [
            augment_clip(
                data.pixels[rows_of(data.first, c, shape[1], random)], size, modality, how, random
            )
            for c in chosen
        ]
        yield ClipBatch(torch.from_numpy(np.stack(views)), [], torch.from_numpy(labels[chosen]))
        step += 1


def map_batches(
    data: TrunkMaps,
    clips: Array,
    labels: Array,
    shape: tuple[int, int],
    how: ClipAugment,
    seed: int,
    step: int = 0,
) -> Iterator[ClipBatch]:
    """Yield batches of maps from a step on, each clip in a random one of its views."""
    while True:
        random = np.random.default_rng([seed, 2, step])
        chosen = clips[clips_of_step(seed, len(clips), shape[0], step)]
        picks = []
        for clip in chosen:
            rows = rows_of(data.first, clip, shape[1], random)
            backwards = random.random() < how.backwards
            picks.append(
                (int(random.integers(len(data.levels[0]))), rows[::-1] if backwards else rows)
            )
        maps = [np.concatenate([level[v, rows] for v, rows in picks]) for level in data.levels]
        yield ClipBatch(None, [torch.from_numpy(m) for m in maps], torch.from_numpy(labels[chosen]))
        step += 1


@torch.inference_mode()
def trunk_maps(
    model: Off,
    data: ClipFrames,
    how: ClipAugment,
    views: int,
    folder: Path,
    *,
    taps: bool = True,
    seed: int = 0,
) -> TrunkMaps:
    """Compute the trunk's maps of the whole frames and of further views, cached in `folder`.

    Without `taps`, only the last map is kept, which the frame classifier reads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size, modality = model.size, model.architecture.modality
    done = folder / "done"
    total = int(data.first[-1])
    device = next(model.parameters()).device
    levels: list[Array] = []
    if not done.exists():
        for c, v in progress(
            [(c, v) for c in range(len(data.first) - 1) for v in range(views)], "computing maps"
        ):
            random = np.random.default_rng([seed, 3, c, v])
            pixels = data.of(c)
            frames = (
                augment_clip(pixels, size, modality, how, random)
                if v
                else whole_frames(pixels, size)
            )
            x = model.normalise(torch.from_numpy(np.ascontiguousarray(frames)).to(device))
            x = x.to(next(model.body.parameters()).dtype)
            maps = model.tap_maps(x.contiguous(memory_format=torch.channels_last))
            maps = maps if taps else maps[-1:]
            if not levels:
                levels = [
                    np.lib.format.open_memmap(
                        folder / f"{i}.npy", "w+", np.float16, (views, total, *m.shape[1:])
                    )
                    for i, m in enumerate(maps)
                ]
            for level, m in zip(levels, maps, strict=True):
                level[v, data.first[c] : data.first[c + 1]] = m.half().cpu().numpy()
        done.touch()
    count = len(list(folder.glob("*.npy")))
    return TrunkMaps(
        [np.load(folder / f"{i}.npy", mmap_mode="r") for i in range(count)], data.first
    )
