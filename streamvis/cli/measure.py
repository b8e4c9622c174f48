"""What `streamvis bench` measures of whole pipelines and of the detector."""

import time
from itertools import islice
from typing import Any

from streamvis import config
from streamvis.runtime.processes import keep_memory

SCENE = "synthetic:walkers?people=6&seconds=15&fps=10&size=768x576&seed=3"
ALONE = 60  # pictures on which the detector is timed alone
ROUNDS = 15


def pipeline(source: str | None) -> dict[str, Any]:
    """Frames per second of the whole, over those of its detector alone in this process."""
    from streamvis.runtime import launch
    from streamvis.sources import resolve

    whole = config.without_feed(config.default_pipeline())
    specs = resolve([source or SCENE])
    alone = _alone(specs[0], whole)
    placement = config.default_placement(whole)
    summary = launch.run(whole, placement, specs)
    frames = sum(s.admitted for s in summary.sources)
    wall = frames / summary.wall_s
    ms = {stage.name: stage.service_ms.p50 for stage in summary.stages}
    busiest = max(sum(ms[name] for name in worker.stages) for worker in placement.workers)
    return {
        "frames": frames,
        "pipeline_fps": round(wall, 2),
        "steady_fps": round(1000 / max(busiest, 1e-9), 2),
        "detector_alone_fps": round(alone, 2),
        "ratio": round(wall / alone, 3),
        "stages_p50_ms": ms,
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
