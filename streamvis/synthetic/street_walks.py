"""Walks through a simulated street: who is where in each frame, and what hides whom."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from streamvis.messages import Array
from streamvis.synthetic.scene import Camera
from streamvis.synthetic.street_scenes import StreetSetup

STEP_S = 0.05  # of walks; frames interpolate between steps
DEPTH_M = 13.0  # of the ground that people walk on, from the lower edge of the picture
TURN_S = 0.7  # time over which a change of direction is spread
WIDTH = 0.42  # of a person, as a share of the height
NARROW = 0.15  # share of a box, at either side, in which a person hides nothing
GRID = np.stack(np.meshgrid(np.linspace(0.2, 0.8, 5), np.linspace(0.05, 0.95, 10)), -1)
POINTS = GRID.reshape(-1, 2)  # (50, 2) places in a box at which visibility is sampled


@dataclass(frozen=True)
class Thing:
    """An upright rectangle that hides who is behind it; metres."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class StreetFrame:
    """The people in one frame, in the pixels of a camera that stands still."""

    ids: Array  # (N,) from 0
    ground: Array  # (N, 2) metres
    boxes: Array  # (N, 4) whole boxes, also where they leave the picture or are hidden
    visible: Array  # (N,) share that nothing hides
    hidden_by: Array  # (N,) row of the person who hides most, −1: nobody


@dataclass(frozen=True)
class _Walk:
    start_s: float
    height: float
    path: Array  # (T, 2) metres, a row every STEP_S

    @property
    def end_s(self) -> float:
        return self.start_s + (len(self.path) - 1) * STEP_S

    def at(self, t: float) -> Array:
        steps = np.arange(len(self.path))
        return np.array([np.interp((t - self.start_s) / STEP_S, steps, c) for c in self.path.T])


class Street:
    """All walks of a scene, from its seed."""

    def __init__(self, setup: StreetSetup) -> None:
        self.setup = setup
        self.camera = setup.camera
        self.near = self.camera.nearest + 0.8
        self.far = self.near + DEPTH_M
        rng = np.random.default_rng([setup.seed, 0])
        self.things = [self._thing(rng) for _ in range(setup.things)]
        self.walks = [walk for _ in range(setup.people) for walk in self._one_after_another(rng)]

    @property
    def people(self) -> int:
        return len(self.walks)

    def frame(self, n: int) -> StreetFrame:
        """Return who is there in frame n, from 0."""
        t = n / self.setup.fps
        ids = np.array([i for i, w in enumerate(self.walks) if w.start_s <= t <= w.end_s], int)
        ground = np.array([self.walks[i].at(t) for i in ids]).reshape(-1, 2)
        height = np.array([self.walks[i].height for i in ids])
        boxes, depth = upright(self.camera, ground, height, WIDTH * height)
        front = depth > 0.5  # the others are behind the camera
        ids, ground, boxes, depth = ids[front], ground[front], boxes[front], depth[front]
        return StreetFrame(ids, ground, boxes, *self._visibility(boxes, depth))

    def _visibility(self, boxes: Array, depth: Array) -> tuple[Array, Array]:
        """Return the shares (N,) that are visible, and who hides most of each (N,)."""
        things = np.array([(t.x, t.y) for t in self.things]).reshape(-1, 2)
        sizes = np.array([(t.height, t.width) for t in self.things]).reshape(-1, 2)
        fixed, fixed_depth = upright(self.camera, things, sizes[:, 0], sizes[:, 1])
        inset = NARROW * (boxes[:, 2] - boxes[:, 0])
        slim = boxes + np.stack([inset, 0 * inset, -inset, 0 * inset], axis=1)
        before = np.concatenate([slim, fixed])  # (K, 4) what may hide somebody
        low, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
        at = (low + POINTS * size)[:, None]  # (N, 1, 50, 2)
        covered = ((at > before[:, None, :2]) & (at < before[:, None, 2:])).all(-1)  # (N, K, 50)
        nearer = np.append(depth, fixed_depth)[None] < depth[:, None] - 1e-9
        covered &= nearer[..., None]
        by_person = covered[:, : len(boxes)].mean(axis=2)  # (N, N)
        hidden_by = (
            np.where(by_person.any(1), by_person.argmax(1), -1) if len(boxes) else np.zeros(0, int)
        )
        return 1 - covered.any(axis=1).mean(axis=1), hidden_by

    def _thing(self, rng: np.random.Generator) -> Thing:
        y = float(rng.uniform(self.near + 0.2 * DEPTH_M, self.near + 0.6 * DEPTH_M))
        x = float(rng.uniform(-0.6, 0.6)) * self.camera.half_width(y)
        return Thing(x, y, float(rng.uniform(0.6, 2.0)), float(rng.uniform(1.5, 2.6)))

    def _one_after_another(self, rng: np.random.Generator) -> list[_Walk]:
        """Return walks, one of which is under way at almost any time of the scene."""
        walks, start = [], -float(rng.uniform(0, 12))
        while start < self.setup.seconds:
            walk = self._walk(rng, start)
            if walk.end_s > 0:
                walks.append(walk)
            start = walk.end_s + float(rng.exponential(0.7))
        return walks

    def _walk(self, rng: np.random.Generator, start_s: float) -> _Walk:
        stops = [self._inside(rng) for _ in range(int(rng.integers(0, 3)))]
        way = np.array([self._way_out(rng), *stops, self._way_out(rng)])
        speed = float(np.clip(rng.normal(1.25, 0.25), 0.6, 2.0))
        pieces = [way[:1]]
        for a, b in pairwise(way):
            steps = max(1, math.ceil(math.dist(a, b) / (speed * STEP_S)))
            pieces.append(a + np.linspace(0, 1, steps + 1)[1:, None] * (b - a))
            if rng.random() < 0.25:
                pieces.append(np.repeat(b[None], round(float(rng.uniform(1, 4)) / STEP_S), axis=0))
        path = np.concatenate(pieces)
        height = float(np.clip(rng.normal(1.72, 0.1), 1.45, 1.98))
        return _Walk(start_s, height, _smoothed(path))

    def _inside(self, rng: np.random.Generator) -> tuple[float, float]:
        y = float(rng.uniform(self.near, self.far))
        return float(rng.uniform(-0.8, 0.8)) * self.camera.half_width(y), y

    def _way_out(self, rng: np.random.Generator) -> tuple[float, float]:
        kind, setup = rng.random(), self.setup
        if self.things and kind < setup.hidden_exits:
            thing = self.things[int(rng.integers(len(self.things)))]
            return thing.x, thing.y + 0.6
        if kind > 1 - setup.near_exits:
            y = max(self.camera.nearest - 2.5, 0.3)
            return float(rng.uniform(-0.7, 0.7)) * self.camera.half_width(self.near), y
        y = float(rng.uniform(self.near, self.far))
        return float(rng.choice([-1, 1])) * (self.camera.half_width(y) + 1.0), y


def upright(camera: Camera, feet: Array, height: Array, width: Array) -> tuple[Array, Array]:
    """Return boxes (N, 4) and depths (N,) of upright things at feet (N, 2); metres to pixels."""
    zero = np.zeros(len(feet))
    low, depth = camera.project(np.column_stack([feet, zero]))
    high, _ = camera.project(np.column_stack([feet, height]))
    half = camera.focal * width / depth / 2
    return np.stack([low[:, 0] - half, high[:, 1], low[:, 0] + half, low[:, 1]], axis=1), depth


def _smoothed(path: Array) -> Array:
    """Return a path (T, 2) whose corners are rounded; its ends stay where they are."""
    n = round(TURN_S / STEP_S)
    padded = np.concatenate([np.repeat(path[:1], n, axis=0), path, np.repeat(path[-1:], n, axis=0)])
    total = np.cumsum(np.concatenate([np.zeros((1, 2)), padded]), axis=0)
    means: Array = (total[2 * n + 1 :] - total[: -2 * n - 1]) / (2 * n + 1)
    means[0], means[-1] = path[0], path[-1]
    return means
