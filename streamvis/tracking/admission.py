"""Validation of a frame's detections before they reach the tracker."""

from typing import NamedTuple

import numpy as np

from streamvis.geometry import overlaps
from streamvis.messages import Array, Detections
from streamvis.tracking import existence
from streamvis.tracking.clipped_boxes import complete
from streamvis.tracking.state_space import Measurements, StateSpace

MAX_DETECTIONS = 1000  # per frame, the highest scores
FAR_OUT = 4.0  # times the longer side of the frame: limit of box coordinates


class AdmittedDetections(NamedTuple):
    """The usable detections of one frame, sorted by falling score."""

    row: Array  # (M,) index into Detections
    boxes: Array  # (M, 4) float64
    scores: Array  # (M,)
    at: Measurements


def admit(detections: Detections, space: StateSpace, size: tuple[int, int]) -> AdmittedDetections:
    """Drop invalid boxes and sort the rest, so that the order of the input does not matter.

    `size` is (width, height) of the frame in px.
    """
    boxes = np.asarray(detections.boxes, dtype=np.float64).reshape(-1, 4)
    scores = np.asarray(detections.scores, dtype=np.float64)
    row = _sound(boxes, scores, FAR_OUT * max(size))
    row = row[np.lexsort((*boxes[row].T, -scores[row]))][:MAX_DETECTIONS]
    boxes, scores = boxes[row], scores[row]
    hidden = 1 - existence.visibility(boxes, overlaps(boxes, boxes), scores)
    whole = complete(boxes, size)
    at = space.measure(whole.boxes, hidden, whole.clipped)
    usable = at.usable
    at = Measurements(*(field[usable] for field in at))
    return AdmittedDetections(row[usable], boxes[usable], scores[usable], at)


def _sound(boxes: Array, scores: Array, limit: float) -> Array:
    """Return rows of finite boxes of at least 1 px, within the limit, with scores in [0, 1]."""
    with np.errstate(invalid="ignore"):
        sound = (np.abs(boxes) <= limit).all(axis=1) & (scores >= 0) & (scores <= 1)
        sound &= (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return np.flatnonzero(sound)
