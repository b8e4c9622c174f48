"""The interface by which benchmarks call a tracker, ours or another."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import Rows
from streamvis.messages import Array, Detections


class ReportedTracks(NamedTuple):
    """The tracks of one frame."""

    ids: Array  # (N,)
    boxes: Array  # (N, 4) xyxy pixels


Update = Callable[[Detections], ReportedTracks]  # called with each frame in order
Start = Callable[[float, float], Update]  # frames/s, score threshold -> a fresh tracker


def rows_of(reported: Sequence[ReportedTracks]) -> Rows:
    """Return the tracks of frames 1 and on as rows."""
    return motchallenge.rows(
        frames=np.repeat(np.arange(1, len(reported) + 1), [len(one.ids) for one in reported]),
        ids=np.concatenate([np.zeros(0), *(one.ids for one in reported)]),
        boxes=np.concatenate([np.zeros((0, 4)), *(one.boxes for one in reported)]),
    )
