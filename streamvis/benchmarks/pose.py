"""Benchmark of the poses of one frame's people: crops, the network on each engine, decoding."""

from collections.abc import Callable

import msgspec
import numpy as np
import torch

from streamvis.benchmarks.detector import Parts, timed
from streamvis.benchmarks.embedder import engines, scene
from streamvis.messages import Array
from streamvis.models.crops import crop
from streamvis.models.heatmaps import decode
from streamvis.models.hrnet import ARCHITECTURES, Hrnet
from streamvis.models.inference.pose import accelerate_pose
from streamvis.models.inference.select import Engine, Precision
from streamvis.models.pose import crop_regions
from streamvis.models.weights import load_pose, shipped
from streamvis.runtime.processes import keep_memory


class PoseReport(msgspec.Struct, frozen=True, kw_only=True):
    """Median milliseconds for each person of one frame."""

    weights: str  # "random" for an architecture's name
    crops: str  # number and size
    threads: int
    cutting_ms: float  # resampling the crops
    decoding_ms: float  # from heatmaps to points and covariances
    network_ms: dict[str, float]  # by engine and precision
    together_ms: dict[str, float]


def measure(weights: str = "pose-lite", people: int = 10, rounds: int = 25) -> PoseReport:
    """Time the crops, the network on each engine and the decoding for `people` people."""
    keep_memory()
    pixels, boxes = scene(people)
    architecture = _model(weights).architecture
    regions = crop_regions(boxes, architecture.size)
    crops = crop(pixels, regions, architecture.size)
    heatmaps = accelerate_pose(_model(weights), "cpu")(crops)
    parts: Parts = {
        "cutting": lambda: crop(pixels, regions, architecture.size),
        "decoding": lambda: decode(heatmaps, architecture.sigma),
    }
    for engine, precision in engines():
        parts[f"{engine} {precision}"] = _network(weights, engine, precision, crops)
    times = {name: round(ms / people, 2) for name, ms in timed(parts, rounds).items()}
    cutting, decoding = times.pop("cutting"), times.pop("decoding")
    return PoseReport(
        weights=weights if weights not in ARCHITECTURES or weights in shipped() else "random",
        crops=f"{people} of {architecture.size[1]}x{architecture.size[0]}",
        threads=torch.get_num_threads(),
        cutting_ms=cutting,
        decoding_ms=decoding,
        network_ms=times,
        together_ms={name: round(cutting + ms + decoding, 2) for name, ms in times.items()},
    )


def _model(weights: str) -> Hrnet:
    """Return the network of these weights, or of an architecture's name with random ones."""
    if weights in ARCHITECTURES and weights not in shipped():
        torch.manual_seed(0)
        return Hrnet(ARCHITECTURES[weights]).eval()
    return load_pose(weights)


def _network(
    weights: str, engine: Engine, precision: Precision, crops: Array
) -> Callable[[], Array]:
    heatmaps = accelerate_pose(_model(weights), "cpu", precision, engine)
    return lambda: np.asarray(heatmaps(crops))
