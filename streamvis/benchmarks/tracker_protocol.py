"""The interface by which benchmarks call a tracker, ours or another."""

from collections.abc import Callable
from typing import NamedTuple

from streamvis.messages import Array, Detections


class ReportedTracks(NamedTuple):
    """The tracks of one frame."""

    ids: Array  # (N,)
    boxes: Array  # (N, 4) xyxy pixels


Update = Callable[[Detections], ReportedTracks]  # called with each frame in order
Start = Callable[[float, float], Update]  # frames/s, score threshold -> a fresh tracker
