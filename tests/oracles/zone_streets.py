"""Writes simulated streets as MOTChallenge sequences, on which zones are compared with peers.

The numbers of docs/zones.md, in about three minutes on one thread:

    python tests/oracles/zone_streets.py streets
    streamvis eval zones streets/* --public --seeds 2

Nobody has chosen a setting of zones on them. Of each group of scenes of a still camera the two
with the lowest frame rates are written.
"""

import sys
from itertools import groupby
from pathlib import Path

import numpy as np

from streamvis.datasets.motchallenge import Rows
from streamvis.messages import Detections
from streamvis.runners.tracker_trials.inputs import sequence_of
from streamvis.synthetic.street_scenes import SCENES
from streamvis.synthetic.street_simulation import SimulatedStreet, simulate

OF_EACH = 2
MOVING = "moving camera"
INFO = """[Sequence]
name={name}
imDir=img1
frameRate={fps:g}
seqLength={length}
imWidth={width}
imHeight={height}
imExt=.jpg
"""


def write(scene: SimulatedStreet, folder: Path) -> None:
    """Write seqinfo.ini, gt/gt.txt and det/det.txt."""
    sequence = sequence_of(scene)
    assert sequence.truth is not None
    for name in ("gt", "det"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    info = INFO.format(
        name=sequence.name,
        fps=sequence.fps,
        length=sequence.length,
        width=sequence.width,
        height=sequence.height,
    )
    (folder / "seqinfo.ini").write_text(info)
    (folder / "gt/gt.txt").write_text("\n".join(_truth(sequence.truth)) + "\n")
    lines = [
        line for n, frame in enumerate(scene.frames, 1) for line in _found(n, frame.detections)
    ]
    (folder / "det/det.txt").write_text("\n".join(lines) + "\n")


def _truth(rows: Rows) -> list[str]:
    columns = zip(
        rows.frames, rows.ids, _xywh(rows.boxes), rows.classes, rows.visibility, strict=True
    )
    return [f"{n},{track},{box},1,{kind},{visible:.3f}" for n, track, box, kind, visible in columns]


def _found(number: int, detections: Detections) -> list[str]:
    columns = zip(_xywh(detections.boxes), detections.scores, strict=True)
    return [f"{number},-1,{box},{score:.4f}" for box, score in columns]


def _xywh(boxes: np.ndarray) -> list[str]:
    return [f"{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f}" for x1, y1, x2, y2 in boxes.tolist()]


if __name__ == "__main__":
    still = (setup for setup in SCENES if setup.group != MOVING)
    for _, setups in groupby(still, key=lambda setup: setup.group):
        for one in sorted(setups, key=lambda setup: setup.fps)[:OF_EACH]:
            write(simulate(one), Path(sys.argv[1]) / one.name)
