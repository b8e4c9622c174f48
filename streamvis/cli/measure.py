"""What `streamvis bench` measures of whole pipelines and of the detector."""

import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from streamvis import config
from streamvis.errors import DataError
from streamvis.runtime.processes import keep_memory

SCENE = "synthetic:walkers?people=6&seconds=15&fps=10&size=768x576&seed=3"
ALONE = 60  # pictures on which the detector is timed alone
ROUNDS = 15


def pipeline(source: str | None) -> dict[str, Any]:
    """Frames per second of the whole, over those of its slowest stage alone in this process."""
    from streamvis.runtime import launch
    from streamvis.sources import resolve

    whole = config.without_feed(config.default_pipeline())
    specs = resolve([source or SCENE])
    alone = _alone(specs[0], whole)
    summary = launch.run(whole, config.default_placement(whole), specs)
    frames = sum(s.admitted for s in summary.sources)
    wall = frames / summary.wall_s
    busy = next(s for s in summary.stages if s.name == "detect")
    return {
        "frames": frames,
        "pipeline_fps": round(wall, 2),
        "steady_fps": round(1000 / max(busy.service_ms.p50, 1e-9), 2),
        "detector_alone_fps": round(alone, 2),
        "ratio": round(wall / alone, 3),
        "latency_p50_ms": max(s.latency_ms.p50 for s in summary.sources),
    }


def _alone(spec: Any, whole: config.Pipeline) -> float:
    from streamvis.cli.detectors import open_detector
    from streamvis.sources import open_source

    keep_memory()
    run = whole.stage("detect").run
    assert isinstance(run, config.MaskRcnn)
    detect = open_detector(run)
    source = open_source(spec)
    try:
        pictures = [picture.pixels.copy() for picture in islice(source, ALONE)]
    finally:
        source.close()
    for warm_up in (True, False):
        began = time.perf_counter()
        for pixels in pictures[: 5 if warm_up else None]:
            detect(pixels)
    return len(pictures) / (time.perf_counter() - began)


def detector(weights: str, image: Path | None) -> dict[str, Any]:
    """Milliseconds of each part and of the whole, medians over rounds taken in turn."""
    import cv2
    import torch

    from streamvis.models.accelerate import accelerate
    from streamvis.models.weights import load_detector

    keep_memory()
    model = accelerate(load_detector(weights), "cpu")
    picture = cv2.imread(str(image)) if image else None
    if image and picture is None:
        raise DataError(f"{image} is not an image that can be read")
    noise = torch.randint(0, 255, (3, 576, 768), dtype=torch.uint8)
    x = noise if picture is None else torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)
    model.roi_heads.min_score = 0.3
    with torch.inference_mode():
        batch, sizes = model.prepare([x])
        batch = batch.to(model.backbone.dtype)
        body = model.backbone.body(batch)
        maps = model.backbone.fpn(body)
        size = (batch.shape[2], batch.shape[3])
        proposals = model.rpn(maps, size, sizes)
        parts: dict[str, Callable[[], Any]] = {
            "prepare_ms": lambda: model.prepare([x]),
            "body_ms": lambda: model.backbone.body(batch),
            "fpn_ms": lambda: model.backbone.fpn(body),
            "rpn_ms": lambda: model.rpn(maps, size, sizes),
            "boxes_ms": lambda: model.roi_heads(maps, proposals, sizes, masks=False),
            "boxes_and_masks_ms": lambda: model.roi_heads(maps, proposals, sizes),
            "whole_ms": lambda: model([x]),
        }
        times: dict[str, list[float]] = {name: [] for name in parts}
        for round_ in range(ROUNDS + 2):
            for name, part in parts.items():
                began = time.perf_counter()
                part()
                if round_ >= 2:  # the first two warm up
                    times[name].append((time.perf_counter() - began) * 1e3)
        found = len(model([x])[0].boxes)
    return {
        "weights": weights,
        "precision": str(model.backbone.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "size": f"{x.shape[2]}x{x.shape[1]}",
        "found": found,
        **{name: round(statistics.median(values), 2) for name, values in times.items()},
    }
