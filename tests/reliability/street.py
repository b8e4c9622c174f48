"""A pipeline without networks for films of `films`: its detector finds the block that they draw.

Decoding, tracker and publisher are the real ones. Worker processes import this module.
"""

import json
import os
import time
from pathlib import Path

import numpy as np

from streamvis.config import (
    Jipda,
    MaskRcnn,
    Pipeline,
    Placement,
    Publish,
    StageSpec,
    WorkerSpec,
)
from streamvis.errors import DataError
from streamvis.events.log import LogReader
from streamvis.messages import Detections
from streamvis.runtime import inline, launch
from streamvis.runtime.host import build_stage
from streamvis.stages import event_codec

PIPELINE = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn()),
        StageSpec("track", Jipda(space="image"), after=["detect"]),
        StageSpec("publish", Publish(bind=None, update_every_s=0.0), after=["track"]),
    ]
)
APART = Placement(workers=[WorkerSpec([stage.name]) for stage in PIPELINE.stages], slots=4)
TOGETHER = Placement(workers=[WorkerSpec([stage.name for stage in PIPELINE.stages])], slots=2)
SLOW_S = "STREET_SLOW_S"  # environment variable: how long the detector takes for a picture


class Block:
    """Finds the red block, wherever it is."""

    def __init__(self, pixels):
        self.pixels = pixels
        self.slow_s = float(os.environ.get(SLOW_S, "0"))

    def __call__(self, packets):
        for packet in packets:
            time.sleep(self.slow_s)
            red, green, blue = np.moveaxis(self.pixels(packet.frame).astype(int), 2, 0)
            rows, columns = np.nonzero((red > green + 80) & (red > blue + 80))
            box = [columns.min(), rows.min(), columns.max(), rows.max()] if len(rows) else None
            yield Detections(
                boxes=np.array([box] if box else [], np.float32).reshape(-1, 4),
                scores=np.full(int(box is not None), 0.95, np.float32),
                labels=np.ones(int(box is not None), np.int32),
                masks=np.zeros((0, 0, 0), np.uint8),
            )

    def close(self):
        pass


def build(spec, site):
    return Block(site.pixels) if spec.run.writes is Detections else build_stage(spec, site)


def run(sources, out, placement=TOGETHER, **settings):
    return launch.run(PIPELINE, placement, sources, build="street:build", out=out, **settings)


def undisturbed(sources, out):
    """The event log of a run in one process."""
    inline.run(PIPELINE, sources, build=build, out=out)
    return rows(out)


def rows(out: Path):
    """The events of a log, without what no two runs have in common."""
    found = []
    with LogReader(out / "events.db") as log:
        for row in log.events():
            event = json.loads(row.payload)
            for key in ("id", "epoch"):
                del event[key]
            del event["time"]["emit_us"]
            found.append((row.source, row.offset, row.tseq, event))
    return found


def logged(out: Path) -> int:
    """How many events the log of a run has by now."""
    try:
        with LogReader(out / "events.db") as log:
            return sum(cursor.next for cursor in log.cursors().values())
    except DataError:  # not there yet
        return 0


def balanced(summary):
    for report in summary.sources:
        assert report.decoded == report.admitted + sum(report.dropped.values())
    return {report.id: report for report in summary.sources}


def types(out: Path):
    with LogReader(out / "events.db") as log:
        return [event_codec().decode(row.payload).type for row in log.events()]
