"""Feature maps of a frozen segmenter on driving video, cached on disk to train forecasters.

    cache = build_cache([Path("driving")], "street-seg", DriveSampling(), Path("runs/maps"))
    maps = cache.read(cache.sequences[0], [0, 2, 4, 6, 8])  # (5, C, h, w) fp16

Each video has one file of maps, which is complete or absent: an interrupted call goes on at the
first video that has none.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from streamvis.datasets.driving import DriveSampling, VideoShot, read_drives, sample_drive, shots_of
from streamvis.errors import DataError
from streamvis.files import drafted, replace, sha256_of
from streamvis.messages import Array
from streamvis.models.flow_warp import grey_half_size
from streamvis.models.inference.select import choose
from streamvis.models.swiftnet import SwiftNet
from streamvis.models.weights import find, load_segmenter
from streamvis.training.progress import progress

FORMAT = 2  # version of the files
Encode = Callable[[Array], Array]  # a picture (H, W, 3) uint8 RGB -> its map (C, h, w) fp16


class CachedVideo(msgspec.Struct, frozen=True):
    """The sizes and sums of the maps of one video."""

    name: str
    runs: list[VideoShot]  # the samples between two cuts
    shape: tuple[int, int, int, int, int]  # of the maps: samples, views, C, h, w
    grey: tuple[int, int, int, int]  # of the small pictures: samples, views, h, w
    total: list[float]  # sum of each channel
    square: list[float]  # sum of squares of each channel


class FeatureSequence(NamedTuple):
    """Maps of one view at consecutive samples without a cut between them."""

    name: str  # of the video
    view: int
    first: int
    length: int


class FeatureCache:
    """The maps of all videos, mapped from disk, with the mean and deviation of each channel.

    The pictures lie beside them, small and grey, to compute optical flow from.
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
        self.sequences = [
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

    def read(self, sequence: FeatureSequence, samples: Sequence[int] | Array) -> Tensor:
        """Return maps (n, C, h, w) fp16 at samples of a sequence."""
        at = sequence.first + np.asarray(samples)
        return torch.from_numpy(np.asarray(self.maps[sequence.name][at, sequence.view]))

    def read_grey(self, sequence: FeatureSequence, samples: Sequence[int] | Array) -> Array:
        """Return the small grey pictures (n, h, w) uint8 at samples of a sequence."""
        return np.asarray(
            self.greys[sequence.name][sequence.first + np.asarray(samples), sequence.view]
        )


def build_cache(
    data: Sequence[Path], weights: str, sampling: DriveSampling, folder: Path
) -> FeatureCache:
    """Run the segmenter on all videos of the folders whose maps are not in `folder` yet."""
    paths = read_drives(data)
    key = msgspec.json.encode([FORMAT, sampling, sha256_of(find(weights))])
    folder = folder / hashlib.sha256(key).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    absent = [path for path in paths if not (folder / f"{path.stem}.json").exists()]
    if absent:
        encode = _encoder(load_segmenter(weights, "cuda" if torch.cuda.is_available() else "cpu"))
        for path in progress(absent, "caching maps"):
            _write(path, encode, sampling, folder)
    entries = [
        msgspec.json.decode((folder / f"{path.stem}.json").read_bytes(), type=CachedVideo)
        for path in paths
    ]
    return FeatureCache(folder, entries, sampling.every_s)


class _FeatureNetwork(nn.Module):
    """The part of a segmenter from pixels to its last feature map."""

    def __init__(self, model: SwiftNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        return (self.model.features(self.model.normalise(pixels)),)


def _encoder(model: SwiftNet) -> Encode:
    """Return the segmenter up to its feature map, on the fastest engine of this machine."""
    part = _FeatureNetwork(model).eval()
    engine, dtype = choose(str(model.mean.device), "auto", "auto")
    compiled: Callable[..., Sequence[Tensor]] | None = None

    @torch.inference_mode()
    def encode(pixels: Array) -> Array:
        nonlocal compiled
        x = torch.from_numpy(np.ascontiguousarray(pixels[None]))
        if engine == "openvino":
            if compiled is None:
                from streamvis.models.inference.openvino import CompiledParts

                compiled = CompiledParts(part, [x], dtype)
            return compiled(x)[0][0].half().numpy()
        with torch.autocast(model.mean.device.type, dtype, enabled=dtype != torch.float32):
            return part(x)[0][0].half().cpu().numpy()

    return encode


def _write(path: Path, encode: Encode, sampling: DriveSampling, folder: Path) -> None:
    """Write the maps of one video, then the entry that tells that they are complete."""
    small: list[Array] = []
    sums: list[tuple[Array, Array]] = []  # of each map: (C,) of its numbers, of their squares
    shape, size = (0, 0, 0), (0, 0)
    maps, greys = (folder / f"{path.stem}.{kind}" for kind in ("maps", "grey"))
    with (
        drafted(maps) as maps_draft,
        drafted(greys) as greys_draft,
        maps_draft.open("wb") as file,
        greys_draft.open("wb") as pictures,
    ):
        for sample in sample_drive(path, sampling):
            small.append(sample.small)
            for pixels in sample.views:
                features = encode(pixels)
                if not np.isfinite(features).all():
                    raise DataError(
                        f"{path}: the segmenter's feature map has numbers that fp16 cannot hold"
                    )
                wide, shape = features.astype(np.float64), features.shape
                sums.append((wide.sum((1, 2)), (wide**2).sum((1, 2))))
                file.write(features.tobytes())
                grey = grey_half_size(pixels, sampling.size)
                size = (grey.shape[0], grey.shape[1])
                pictures.write(grey.tobytes())
    entry = CachedVideo(
        name=path.stem,
        runs=shots_of(small, sampling.cut),
        shape=(len(small), len(sums) // len(small), *shape),
        grey=(len(small), len(sums) // len(small), *size),
        total=np.sum([total for total, _ in sums], 0).tolist(),
        square=np.sum([square for _, square in sums], 0).tolist(),
    )
    replace(folder / f"{path.stem}.json", msgspec.json.encode(entry))
