"""What of a frame's detections a tracker can use."""

from typing import NamedTuple

import numpy as np

from streamvis.geometry import overlaps
from streamvis.messages import Array, Detections
from streamvis.tracking import existence
from streamvis.tracking.state_space import Measurements, StateSpace

MAX_DETECTIONS = 1000  # the best of one frame; no detector for people means more
FAR_OUT = 4.0  # of the picture's longer side: no box has a corner beyond


class AdmittedDetections(NamedTuple):
    """The detections of one frame that can be used, best first."""

    row: Array  # (M,) index into Detections
    boxes: Array  # (M, 4) float64
    scores: Array  # (M,)
    at: Measurements


def admit(detections: Detections, space: StateSpace, size: tuple[int, int]) -> AdmittedDetections:
    """Refuse rows that are no boxes, order the rest so that theirs does not matter."""
    boxes = np.asarray(detections.boxes, dtype=np.float64).reshape(-1, 4)
    scores = np.asarray(detections.scores, dtype=np.float64)
    row = _sound(boxes, scores, FAR_OUT * max(size))
    row = row[np.lexsort((*boxes[row].T, -scores[row]))][:MAX_DETECTIONS]
    boxes, scores = boxes[row], scores[row]
    hidden = 1 - existence.visibility(boxes, overlaps(boxes, boxes), scores)
    at = space.measure(boxes, hidden)
    usable = at.usable
    at = Measurements(*(field[usable] for field in at))
    return AdmittedDetections(row[usable], boxes[usable], scores[usable], at)


def _sound(boxes: Array, scores: Array, limit: float) -> Array:
    """Rows of finite boxes of at least a pixel, within the limit, whose scores are in [0, 1]."""
    with np.errstate(invalid="ignore"):
        sound = (np.abs(boxes) <= limit).all(axis=1) & (scores >= 0) & (scores <= 1)
        sound &= (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return np.flatnonzero(sound)
