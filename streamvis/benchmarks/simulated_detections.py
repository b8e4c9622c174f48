"""Simulated detections of walking people, in scenes that differ in the number of people alone.

The picture grows with the number of people, so that their density is constant: the difficulty of
association stays the same, and a tracker's time shows how it grows with the number of targets.
"""

import math
from typing import NamedTuple

import numpy as np

from streamvis.messages import Array, Detections

FPS = 25.0
ROOM_PX = 150.0  # side of the square per person
HEIGHT_PX, WIDTH = 100.0, 0.4  # of a person; the width as a share of the height
SPEED_PX_S = 60.0  # one sigma, along either axis: a metre per second
EDGE = 0.03  # one sigma of the error of a detection's edges, as a share of the height
DETECTED = 0.9  # share of the people
DETECTIONS = 1.4  # per person, clutter included
PERSON = 1  # category id of COCO


class Scene(NamedTuple):
    """Ground truth and detections of walking people, frame by frame."""

    width: int
    height: int
    truth: Array  # (T, N, 4) boxes
    frames: list[Detections]

    @property
    def clutter(self) -> float:
        """Expected false detections per px²."""
        people = self.truth.shape[1]
        return (detections_of(people) - DETECTED * people) / (self.width * self.height)


def scene(people: int, frames: int, seed: int = 0) -> Scene:
    """Simulate a scene; deterministic, with the same number of detections in every frame."""
    rng = np.random.default_rng(seed)
    area = people * ROOM_PX**2
    width = max(math.ceil(math.sqrt(area * 16 / 9)), 2 * ROOM_PX)
    height = max(math.ceil(area / width), 2 * ROOM_PX)
    size = HEIGHT_PX * rng.normal(1, 0.1, (people, 1)).clip(0.7, 1.3) * [WIDTH, 1]  # (N, 2)
    start = rng.uniform(0, 1, (people, 2)) * ([width, height] - size)  # upper left corners
    way = SPEED_PX_S / FPS * rng.normal(size=(people, 2)) * np.arange(frames)[:, None, None]
    corner = _folded(start + way, [width, height] - size)  # (T, N, 2)
    truth = np.concatenate([corner, corner + size], axis=2)
    found = [_detected(rng, boxes, width, height) for boxes in truth]
    return Scene(int(width), int(height), truth, found)


def detections_of(people: int) -> int:
    """Return the number of detections in each frame of a scene of so many people."""
    return round(DETECTIONS * people)


def _folded(at: Array, most: Array) -> Array:
    """Reflect positions at 0 and at `most`."""
    return most - np.abs(np.mod(at, 2 * most) - most)


def _detected(rng: np.random.Generator, truth: Array, width: float, height: float) -> Detections:
    """Detect 90 % of the people, among false detections with overlapping scores."""
    seen = truth[rng.permutation(len(truth))[: round(DETECTED * len(truth))]]
    seen = seen + EDGE * (seen[:, 3:] - seen[:, 1:2]) * rng.normal(size=seen.shape)
    false = detections_of(len(truth)) - len(seen)
    size = HEIGHT_PX * rng.normal(1, 0.1, (false, 1)).clip(0.7, 1.3) * [WIDTH, 1]
    corner = rng.uniform(0, 1, (false, 2)) * ([width, height] - size)
    scores = np.concatenate([rng.normal(0.8, 0.1, len(seen)), rng.uniform(0.1, 0.8, false)])
    order = np.argsort(-scores)  # best first
    boxes = np.concatenate([seen, np.concatenate([corner, corner + size], axis=1)])[order]
    return Detections(
        boxes=boxes.astype(np.float32),
        scores=scores[order].clip(0.1, 0.99).astype(np.float32),
        labels=np.full(len(boxes), PERSON, np.int32),
        masks=np.zeros((0, 0, 0), np.uint8),
    )
