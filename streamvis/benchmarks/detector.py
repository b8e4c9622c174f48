"""Benchmark of one detector on several inference engines, measured side by side.

All contenders run the same weights on the same pictures and alternate picture by picture, so that
other load on the machine affects each of them alike.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from streamvis.api.networks import Detector
from streamvis.errors import DataError
from streamvis.models.inference.select import (
    DetectorPrecision,
    accelerate_detector,
    choose,
    has_int8,
    openvino_fault,
)
from streamvis.models.mask_rcnn import ARCHITECTURES, Dense, MaskRcnn
from streamvis.models.weights import load_detector, shipped
from streamvis.runtime.processes import keep_memory
from streamvis.sources import open_source, resolve

SCENE = "synthetic:walkers?people=6&seconds=2&fps=10&size=768x576&seed=3"
PICTURES = 3
WARM_UP = PICTURES  # rounds that do not count: engines compile for each picture size
MIN_SCORE = 0.1  # the default of the detection stage
ROUNDED: dict[torch.dtype, DetectorPrecision] = {torch.bfloat16: "bf16", torch.float32: "fp32"}
PLAIN, TORCHVISION = "torch fp32, plain", "torchvision fp32"

Parts = dict[str, Callable[[], object]]
Detect = Callable[[Tensor], int]  # picture (3, H, W) uint8 -> number of detections


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of one detector on one engine."""

    ms: float  # median per picture
    fps: float
    times_as_fast: float  # over torchvision where it takes part, else over plain torch
    found: float  # mean detections per picture


class DetectorReport(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of each contender, and the time of the detector's parts."""

    weights: str  # "random" for an architecture's name
    size: str
    threads: int
    masks: bool
    contenders: dict[str, Contender]
    parts_ms: dict[str, dict[str, float]]  # engine -> part -> median
    call_overhead: float | None  # of streamvis.Detector over its network alone, as a share of that;
    # None for random weights


def measure(
    weights: str = "person-lite",
    source: str | None = None,
    against: Path | None = None,
    rounds: int = 15,
    masks: bool = True,
) -> DetectorReport:
    """Time each contender on pictures of the source; a synthetic scene for None.

    `against` adds a detector of the YOLOX layout (.onnx).
    """
    keep_memory()
    images = pictures(source or SCENE)
    contenders = _contenders(weights, against, masks)
    with torch.inference_mode():
        times, found = interleaved(contenders, images, rounds)
        parts = _parts(weights, images[0], rounds)
        overhead = _call_overhead(weights, images, masks, rounds)
    baseline = times.get(TORCHVISION, times[PLAIN])
    return DetectorReport(
        weights=weights if weights in shipped() or Path(weights).is_file() else "random",
        size=f"{images[0].shape[2]}x{images[0].shape[1]}",
        threads=torch.get_num_threads(),
        masks=masks,
        contenders={
            name: Contender(
                ms=round(seconds * 1e3, 1),
                fps=round(1 / seconds, 2),
                times_as_fast=round(baseline / seconds, 2),
                found=found[name],
            )
            for name, seconds in times.items()
        },
        parts_ms=parts,
        call_overhead=overhead,
    )


def _contenders(weights: str, against: Path | None, masks: bool) -> dict[str, Detect]:
    contenders = {PLAIN: _plain(weights, masks)}
    for engine in ("torch", "openvino"):
        if engine == "torch" or not openvino_fault():
            _, dtype = choose("cpu", "auto", "auto")
            name = f"{engine} {str(dtype).removeprefix('torch.')}"
            contenders[name] = _accelerated(weights, engine, masks, ROUNDED[dtype])
    if not openvino_fault() and has_int8(_model(weights)):
        contenders["openvino int8"] = _accelerated(weights, "openvino", masks, "int8")
    if (theirs := _torchvision(weights)) is not None:
        contenders[TORCHVISION] = theirs
    if against is not None:
        contenders[f"onnxruntime {against.stem}"] = _onnx(against)
    return contenders


def pictures(source: str) -> list[Tensor]:
    """Return a few pictures (3, H, W) uint8, spread over the first 20 of the source."""
    opened = open_source(resolve([source])[0])
    try:
        shown = [picture.pixels.copy() for picture, _ in zip(opened, range(20), strict=False)]
    finally:
        opened.close()
    if not shown:
        raise DataError(f"source '{source}' has 0 pictures; expected 1 or more")
    step = max(len(shown) // PICTURES, 1)
    return [torch.from_numpy(pixels).permute(2, 0, 1) for pixels in shown[::step][:PICTURES]]


def interleaved(
    contenders: Mapping[str, Detect], images: Sequence[Tensor], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Alternate the contenders; return median seconds and mean detections per picture."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    found: dict[str, list[int]] = {name: [] for name in contenders}
    for round_ in range(WARM_UP + rounds):
        for name, detect in contenders.items():
            image = images[round_ % len(images)]
            began = time.perf_counter()
            count = detect(image)
            if round_ >= WARM_UP:
                times[name].append(time.perf_counter() - began)
                found[name].append(count)
    return (
        {name: statistics.median(values) for name, values in times.items()},
        {name: round(statistics.mean(values), 1) for name, values in found.items()},
    )


def _call_overhead(
    weights: str, images: Sequence[Tensor], masks: bool, rounds: int
) -> float | None:
    """Alternate a Detector and the network in it; the median difference over the network's time."""
    if weights not in shipped() and not Path(weights).is_file():
        return None
    detect = Detector(weights, masks=masks)
    network, pictures = detect.detector.network, [i.permute(1, 2, 0).numpy() for i in images]
    times: list[tuple[float, float]] = []
    for round_ in range(WARM_UP + rounds):
        n = round_ % len(images)
        began = time.perf_counter()
        network([images[n]], masks)
        between = time.perf_counter()
        detect(pictures[n])
        times.append((between - began, time.perf_counter() - between))
    alone = statistics.median(one for one, _ in times[WARM_UP:])
    more = statistics.median(whole - one for one, whole in times[WARM_UP:])
    return round(more / alone, 4)


def _model(weights: str) -> MaskRcnn:
    """Load the detector of these weights; an architecture's name gives random weights."""
    if weights in ARCHITECTURES and weights not in shipped():
        torch.manual_seed(0)
        return MaskRcnn(ARCHITECTURES[weights]).eval()
    model = load_detector(weights)
    model.roi_heads.min_score = MIN_SCORE
    return model


def _plain(weights: str, masks: bool) -> Detect:
    model = _model(weights).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return lambda image: len(model([image], masks)[0].boxes)


def _accelerated(weights: str, engine: Any, masks: bool, precision: DetectorPrecision) -> Detect:
    model = accelerate_detector(_model(weights), "cpu", precision, engine)
    return lambda image: len(model([image], masks)[0].boxes)


def _torchvision(weights: str) -> Detect | None:
    model = _model(weights)
    name = model.architecture.name
    if not name.startswith("maskrcnn_resnet50") or not importlib.util.find_spec("torchvision"):
        return None
    from torchvision.models import detection

    build = getattr(detection, name)
    theirs = build(weights=None, weights_backbone=None, num_classes=model.architecture.classes)
    theirs.load_state_dict(model.state_dict(), strict=False)
    theirs.eval().roi_heads.score_thresh = model.roi_heads.min_score
    return lambda image: len(theirs([image.float() / 255])[0]["boxes"])


def _onnx(path: Path) -> Detect:
    from streamvis.models.inference.onnx_networks import EngineChoice
    from streamvis.models.yolox import OnnxDetector

    choice = EngineChoice(engine="onnxruntime", threads=torch.get_num_threads())
    yolox = OnnxDetector(path, min_score=MIN_SCORE, choice=choice)
    return lambda image: len(yolox([image.permute(1, 2, 0).numpy()])[0].boxes)


def _parts(weights: str, image: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each part; OpenVINO runs the dense layers as one part."""
    model = _model(weights)
    accelerate_detector(model, "cpu", engine="torch")
    batch, (size,) = model.prepare([image])
    batch = batch.to(model.backbone.dtype)
    body, dense = model.backbone.body(batch), model.dense(batch)
    whole: Parts = {
        "prepare": lambda: model.prepare([image]),
        "backbone": lambda: model.backbone.body(batch),
        "fpn": lambda: model.backbone.fpn(body),
        "rpn": lambda: model.rpn(dense.maps),
    }
    regions = _regions(model, dense, (batch.shape[2], batch.shape[3]), size)
    ends: Parts = {
        "whole, no masks": lambda: model([image], False),
        "whole": lambda: model([image], True),
    }
    results = {"torch": timed(whole | regions | ends, rounds)}
    if not openvino_fault():
        from streamvis.models.inference.openvino import CompiledDetector, one_thread

        compiled = accelerate_detector(_model(weights), "cpu", engine="openvino")
        assert isinstance(compiled, CompiledDetector)
        regions = _regions(compiled.model, *compiled.dense(image))
        with one_thread():
            results["openvino"] = timed({"dense": lambda: compiled.dense(image)} | regions, rounds)
        ends = {
            "whole, no masks": lambda: compiled([image], False),
            "whole": lambda: compiled([image], True),
        }
        results["openvino"] |= timed(ends, rounds)
    return results


def _regions(
    model: MaskRcnn, dense: Dense, padded: tuple[int, int], size: tuple[int, int]
) -> Parts:
    anchors = model.rpn.anchors(dense.maps, padded)
    proposals = model.rpn.propose(dense.logits, dense.deltas, anchors, [size])
    return {
        "proposals": lambda: model.rpn.propose(dense.logits, dense.deltas, anchors, [size]),
        "boxes": lambda: model.roi_heads(dense.maps, proposals, [size], False),
        "boxes and masks": lambda: model.roi_heads(dense.maps, proposals, [size], True),
    }


def timed(parts: Parts, rounds: int) -> dict[str, float]:
    """Alternate the parts; return the median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for round_ in range(WARM_UP + rounds):
        for name, part in parts.items():
            began = time.perf_counter()
            part()
            if round_ >= WARM_UP:
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: round(statistics.median(values), 2) for name, values in times.items()}
