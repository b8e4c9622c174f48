"""Benchmark of the appearance embeddings of one frame: crops, and the network on each engine."""

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import torch

from streamvis.benchmarks.detector import Parts, timed
from streamvis.messages import Array
from streamvis.models.crops import crop
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.inference.select import (
    Engine,
    Precision,
    accelerate_embedder,
    choose,
    openvino_fault,
)
from streamvis.models.weights import load_embedder, shipped
from streamvis.runtime.processes import keep_memory

SCENE = (1080, 1920)  # height, width in px
HEIGHTS = (40, 300)  # px of the people, log-uniform


class EmbedderReport(msgspec.Struct, frozen=True, kw_only=True):
    """Median milliseconds for the people of one frame."""

    weights: str  # "random" for an architecture's name
    crops: str  # number and size
    threads: int
    cutting_ms: float  # resampling the crops
    network_ms: dict[str, float]  # by engine and precision
    together_ms: dict[str, float]


def measure(weights: str = "person-r18", people: int = 32, rounds: int = 25) -> EmbedderReport:
    """Time the crops of `people` people, and the network on each engine, `rounds` times."""
    keep_memory()
    pixels, boxes = scene(people)
    size = _model(weights).size
    crops = crop(pixels, boxes, size)
    parts: Parts = {"cutting": lambda: crop(pixels, boxes, size)}
    for engine, precision in engines():
        parts[f"{engine} {precision}"] = _network(weights, engine, precision, crops)
    times = timed(parts, rounds)
    cutting = times.pop("cutting")
    return EmbedderReport(
        weights=weights if weights not in ARCHITECTURES or weights in shipped() else "random",
        crops=f"{people} of {size[1]}x{size[0]}",
        threads=torch.get_num_threads(),
        cutting_ms=cutting,
        network_ms=times,
        together_ms={name: round(cutting + ms, 2) for name, ms in times.items()},
    )


def engines() -> Iterator[tuple[Engine, Precision]]:
    """Yield the engines with the precisions that this machine has."""
    bf16 = choose("cpu", "auto", "auto")[1] == torch.bfloat16
    able: list[Engine] = ["torch"] if openvino_fault() else ["torch", "openvino"]
    for engine in able:
        yield engine, "fp32"
        if bf16:
            yield engine, "bf16"


def scene(people: int) -> tuple[Array, Array]:
    """Return noise (H, W, 3) uint8 and boxes (N, 4) at random places in it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*SCENE, 3), dtype=np.uint8)
    low, high = np.log(HEIGHTS)
    height = np.exp(rng.uniform(low, high, (people, 1)))
    size = height * [0.4, 1]
    corner = rng.uniform(0, 1, (people, 2)) * (np.array(SCENE[::-1]) - size)
    return pixels, np.concatenate([corner, corner + size], axis=1)


def _model(weights: str) -> Embedder:
    """The embedder of these weights, or of an architecture's name with random ones."""
    if weights in ARCHITECTURES and weights not in shipped():
        torch.manual_seed(0)
        return Embedder(ARCHITECTURES[weights]).eval()
    return load_embedder(weights)


def _network(
    weights: str, engine: Engine, precision: Precision, crops: Array
) -> Callable[[], Array]:
    embed = accelerate_embedder(_model(weights), "cpu", precision, engine)
    return lambda: embed(crops)
