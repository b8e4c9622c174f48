"""What `streamvis bench detector` measures: one detector on several engines, side by side.

All contenders have the same weights and pictures and take turns, so that a busy machine is
busy for each of them.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from streamvis.errors import DataError
from streamvis.models.inference.select import accelerate_detector, choose, openvino_fault
from streamvis.models.mask_rcnn import ARCHITECTURES, Dense, MaskRcnn
from streamvis.models.weights import load_detector, shipped
from streamvis.runtime.processes import keep_memory
from streamvis.sources import open_source, resolve

SCENE = "synthetic:walkers?people=6&seconds=2&fps=10&size=768x576&seed=3"
PICTURES = 3  # looked at in turn
WARM_UP = PICTURES  # rounds that do not count: engines compile for each size they see
MIN_SCORE = 0.1  # as the stage has it

Parts = dict[str, Callable[[], object]]
Find = Callable[[Tensor], int]  # a picture (3, H, W) uint8 -> how many were found


def detector(
    weights: str, source: str | None, against: Path | None, rounds: int, masks: bool
) -> dict[str, Any]:
    """Frames per second of each contender, its ratio to the plain one, and the time of parts."""
    keep_memory()
    images = pictures(source or SCENE)
    contenders: dict[str, Find] = {"torch fp32, plain": _plain(weights, masks)}
    for engine in ("torch", "openvino"):
        if engine == "torch" or not openvino_fault():
            _, dtype = choose("cpu", "auto", "auto")
            name = f"{engine} {str(dtype).removeprefix('torch.')}"
            contenders[name] = _ours(weights, engine, masks)
    if (theirs := _torchvision(weights)) is not None:
        contenders["torchvision fp32"] = theirs
    if against is not None:
        contenders[f"onnxruntime {against.stem}"] = _onnx(against)
    with torch.inference_mode():
        times, found = turns(contenders, images, rounds)
        parts = _parts(weights, images[0], rounds)
    plain = times["torchvision fp32" if theirs else "torch fp32, plain"]
    return {
        "weights": weights if weights in shipped() or Path(weights).is_file() else "random",
        "size": f"{images[0].shape[2]}x{images[0].shape[1]}",
        "threads": torch.get_num_threads(),
        "masks": masks,
        "contenders": {
            name: {
                "ms": round(seconds * 1e3, 1),
                "fps": round(1 / seconds, 2),
                "times_as_fast": round(plain / seconds, 2),
                "found": found[name],
            }
            for name, seconds in times.items()
        },
        "parts_ms": parts,
    }


def pictures(source: str) -> list[Tensor]:
    """A few pictures (3, H, W) uint8, spread over the source's first seconds."""
    opened = open_source(resolve([source])[0])
    try:
        shown = [picture.pixels.copy() for picture, _ in zip(opened, range(20), strict=False)]
    finally:
        opened.close()
    if not shown:
        raise DataError(f"source '{source}' has no pictures to look at")
    step = max(len(shown) // PICTURES, 1)
    return [torch.from_numpy(pixels).permute(2, 0, 1) for pixels in shown[::step][:PICTURES]]


def turns(
    contenders: Mapping[str, Find], images: Sequence[Tensor], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds a picture, and how many were found in one, of contenders taking turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    found: dict[str, list[int]] = {name: [] for name in contenders}
    for round_ in range(WARM_UP + rounds):
        for name, find in contenders.items():
            image = images[round_ % len(images)]
            began = time.perf_counter()
            count = find(image)
            if round_ >= WARM_UP:
                times[name].append(time.perf_counter() - began)
                found[name].append(count)
    return (
        {name: statistics.median(values) for name, values in times.items()},
        {name: round(statistics.mean(values), 1) for name, values in found.items()},
    )


def _model(weights: str) -> MaskRcnn:
    """The detector of these weights, or of an architecture's name with random ones."""
    if weights in ARCHITECTURES and weights not in shipped():
        torch.manual_seed(0)
        return MaskRcnn(ARCHITECTURES[weights]).eval()
    model = load_detector(weights)
    model.roi_heads.min_score = MIN_SCORE
    return model


def _plain(weights: str, masks: bool) -> Find:
    model = _model(weights).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return lambda image: len(model([image], masks)[0].boxes)


def _ours(weights: str, engine: Any, masks: bool) -> Find:
    find = accelerate_detector(_model(weights), "cpu", engine=engine)
    return lambda image: len(find([image], masks)[0].boxes)


def _torchvision(weights: str) -> Find | None:
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


def _onnx(path: Path) -> Find:
    from streamvis.models.yolox import Yolox

    yolox = Yolox(path, min_score=MIN_SCORE, threads=torch.get_num_threads())
    return lambda image: len(yolox([image.permute(1, 2, 0).numpy()])[0].boxes)


def _parts(weights: str, image: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each part; OpenVINO computes all that is dense in one."""
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
    """Median milliseconds of parts taking turns."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for round_ in range(WARM_UP + rounds):
        for name, part in parts.items():
            began = time.perf_counter()
            part()
            if round_ >= WARM_UP:
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: round(statistics.median(values), 2) for name, values in times.items()}
