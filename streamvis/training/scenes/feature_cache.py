"""What a frozen segmenter sees in driving video, on disk, for forecasters to learn from.

    cache = gather([Path("driving")], "street-seg", Sampling(), Path("runs/forecast/maps"))
    maps = cache.read(run, [0, 2, 4, 6, 8])  # (5, C, h, w) fp16

A video is one file of maps, made at once or not at all: what was interrupted goes on.
"""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from streamvis.datasets.driving import DriveSampling, VideoShot, read_drives, runs, sample_drive
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.models.flow_warp import grey_half_size
from streamvis.models.inference.select import choose
from streamvis.models.swiftnet import SwiftNet
from streamvis.models.weights import find, load_segmenter
from streamvis.training.actions.clip_sampling import progress

FORMAT = 2  # of what lies on disk
Look = Callable[[Array], Array]  # a picture (H, W, 3) uint8 RGB -> its map (C, h, w) fp16


class CachedVideo(msgspec.Struct, frozen=True):
    """What is known of the maps of one video."""

    name: str
    runs: list[VideoShot]  # what lies between cuts
    shape: tuple[int, int, int, int, int]  # of what is on disk: moments, views, C, h, w
    grey: tuple[int, int, int, int]  # moments, views, h, w of the small pictures
    total: list[float]  # the sum of each channel's numbers
    square: list[float]  # that of their squares


class FeatureSequence(NamedTuple):
    """Maps of one view at neighbouring moments, no cut between them."""

    name: str  # of the video
    view: int
    first: int
    length: int


class FeatureCache:
    """The maps of all videos, mapped from disk, and the mean and deviation of each channel.

    Beside them, what flow is seen in: the pictures, small and grey.
    """

    def __init__(self, folder: Path, entries: Sequence[CachedVideo], every_s: float) -> None:
        self.every_s = every_s
        self.maps = {
            e.name: np.memmap(folder / f"{e.name}.maps", np.float16, "r", shape=e.shape)
            for e in entries
        }
        self.greys = {
            e.name: np.memmap(folder / f"{e.name}.grey", np.uint8, "r", shape=e.grey)
            for e in entries
        }
        self.stretches = [
            FeatureSequence(e.name, view, *run)
            for e in entries
            for view in range(e.shape[1])
            for run in e.runs
        ]
        count = sum(math.prod(e.shape) // e.shape[2] for e in entries)
        mean = np.sum([e.total for e in entries], 0) / count
        variance = np.sum([e.square for e in entries], 0) / count - mean**2
        self.mean = torch.from_numpy(mean).float()  # (C,)
        self.std = torch.from_numpy(np.sqrt(variance.clip(min=0))).float()

    def read(self, stretch: FeatureSequence, moments: Sequence[int] | Array) -> Tensor:
        """Maps (n, C, h, w) fp16 at moments of a stretch."""
        at = stretch.first + np.asarray(moments)
        return torch.from_numpy(np.asarray(self.maps[stretch.name][at, stretch.view]))

    def look(self, stretch: FeatureSequence, moments: Sequence[int] | Array) -> Array:
        """Small pictures (n, h, w) uint8 of the same, as of `reduced`."""
        return np.asarray(
            self.greys[stretch.name][stretch.first + np.asarray(moments), stretch.view]
        )


def gather(
    data: Sequence[Path], weights: str, sampling: DriveSampling, folder: Path
) -> FeatureCache:
    """Look at all videos of the folders, unless what is seen in them lies in `folder` already."""
    paths = read_drives(data)
    key = msgspec.json.encode([FORMAT, sampling, sha256_of(find(weights))])
    folder = folder / hashlib.sha256(key).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    absent = [path for path in paths if not (folder / f"{path.stem}.json").exists()]
    if absent:
        look = _look(load_segmenter(weights, "cuda" if torch.cuda.is_available() else "cpu"))
        for path in progress(absent, "looking"):
            _write(path, look, sampling, folder)
    entries = [
        msgspec.json.decode((folder / f"{path.stem}.json").read_bytes(), type=CachedVideo)
        for path in paths
    ]
    return FeatureCache(folder, entries, sampling.every_s)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Seen(nn.Module):
    """From pixels to the map that everything is read from."""

    def __init__(self, model: SwiftNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        return (self.model.features(self.model.normalise(pixels)),)


def _look(model: SwiftNet) -> Look:
    """The segmenter up to its map, by the quickest engine there is."""
    part = _Seen(model).eval()
    engine, dtype = choose(str(model.mean.device), "auto", "auto")
    compiled: Callable[..., Sequence[Tensor]] | None = None

    @torch.inference_mode()
    def look(pixels: Array) -> Array:
        nonlocal compiled
        x = torch.from_numpy(np.ascontiguousarray(pixels[None]))
        if engine == "openvino":
            if compiled is None:
                from streamvis.models.inference.openvino import CompiledParts

                compiled = CompiledParts(part, [x], dtype)
            return compiled(x)[0][0].half().numpy()
        with torch.autocast(model.mean.device.type, dtype, enabled=dtype != torch.float32):
            return part(x)[0][0].half().cpu().numpy()

    return look


def _write(path: Path, look: Look, sampling: DriveSampling, folder: Path) -> None:
    """The maps of one video, and what is known of them."""
    part, greys = folder / f"{path.stem}.part", folder / f"{path.stem}.grey"
    small: list[Array] = []
    sums: list[tuple[Array, Array]] = []  # of each map: (C,) of its numbers, of their squares
    shape, size = (0, 0, 0), (0, 0)
    with part.open("wb") as file, greys.open("wb") as pictures:
        for moment in sample_drive(path, sampling):
            small.append(moment.small)
            for pixels in moment.views:
                seen = look(pixels)
                if not np.isfinite(seen).all():
                    raise DataError(f"{path}: the segmenter's map is beyond what fp16 holds")
                wide, shape = seen.astype(np.float64), seen.shape
                sums.append((wide.sum((1, 2)), (wide**2).sum((1, 2))))
                file.write(seen.tobytes())
                grey = grey_half_size(pixels, sampling.size)
                size = (grey.shape[0], grey.shape[1])
                pictures.write(grey.tobytes())
    os.replace(part, folder / f"{path.stem}.maps")
    entry = CachedVideo(
        name=path.stem,
        runs=runs(small, sampling.cut),
        shape=(len(small), len(sums) // len(small), *shape),
        grey=(len(small), len(sums) // len(small), *size),
        total=np.sum([total for total, _ in sums], 0).tolist(),
        square=np.sum([square for _, square in sums], 0).tolist(),
    )
    part.write_bytes(msgspec.json.encode(entry))
    os.replace(part, folder / f"{path.stem}.json")
