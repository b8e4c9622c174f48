"""Simulated detections, embeddings and camera motion of a street scene, with the truth.

    scene = simulate(SCENES[0])
    scene.frames[0].detections, scene.frames[0].embeddings, scene.frames[0].truth

Nothing is drawn: a detector is simulated by boxes that miss, are noisy over several frames, are
clipped at the picture's edges and found where nobody is. Embeddings are unit vectors around a mean
for each person; the distance of two looks of one person grows with the time between them, from
about .06 at one frame to .27 after half a second and .41 after two, as measured on two sequences
(`variation` 1). Crops that show a second person are a mixture of both.
"""

from dataclasses import dataclass

import numpy as np

from streamvis.geometry import Homography, area, iou
from streamvis.messages import Array, Detections, Embeddings, Motion
from streamvis.synthetic.street_scenes import StreetSetup
from streamvis.synthetic.street_walks import Street, StreetFrame

SEEN = (0.25, 0.6)  # visible share at which detection begins, and is as in full view
MISSES_S = 0.4  # correlation time of misses
ERRORS_S = 0.8  # correlation time of the slow part of box errors
SAME_BOX = 0.6  # IoU of two detections, of which the weaker is suppressed
SPOTS, SPOT_SHARE = 2, 0.15  # fixed places of false detections, and their share of frames
LOST_MOTION = 0.02  # share of frames in which camera motion is unknown
SIDE_PX = 3.0  # least width of a detection

DIMENSIONS = 32
COMMON = 0.528  # of a mean's squared length, what all people have in common
FAST, SLOW, WHITE = (0.578, 0.35), (0.477, 3.0), 0.058  # squared length, and time constant in s


@dataclass(frozen=True)
class SimulatedFrame:
    """Detections of one frame with all that a tracker may use, and who is there."""

    detections: Detections
    embeddings: Embeddings
    motion: Motion | None
    person: Array  # (N,) whom each detection shows, −1: nobody
    truth: StreetFrame  # boxes in the pixels of this frame


@dataclass(frozen=True)
class SimulatedStreet:
    """A scene, frame by frame."""

    setup: StreetSetup
    frames: list[SimulatedFrame]

    @property
    def plane(self) -> Homography | None:
        """The map from pixels to metres, where the tracker is given it."""
        return self.setup.camera.homography if self.setup.plane else None

    @property
    def size(self) -> tuple[int, int]:
        return self.setup.camera.width, self.setup.camera.height_px


def simulate(setup: StreetSetup) -> SimulatedStreet:
    """Simulate a scene; deterministic."""
    street = Street(setup)
    rng = np.random.default_rng([setup.seed, 1])
    views = _views(setup, np.random.default_rng([setup.seed, 2]))
    detector = _Detector(setup, street.people, rng)
    looks = _Looks(setup, street.people, np.random.default_rng([setup.seed, 3]))
    frames = []
    for n, (view, motion) in enumerate(views):
        truth = _seen_from(street.frame(n), view)
        found, person = detector(truth)
        vectors = looks(truth, found, person)
        frames.append(SimulatedFrame(found, Embeddings(vectors=vectors), motion, person, truth))
    return SimulatedStreet(setup, frames)


def within(boxes: Array, size: tuple[int, int]) -> Array:
    """Return the share (N,) of each box that lies within the picture."""
    clipped = np.clip(boxes, 0, np.tile(size, 2))
    return np.asarray(area(clipped) / np.maximum(area(boxes), 1e-9))


class _Ornstein:
    """A stationary Gauss-Markov process of unit variance, of any shape."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], keep: float) -> None:
        self.rng, self.keep = rng, keep
        self.value = rng.normal(size=shape)

    def step(self) -> Array:
        fresh = self.rng.normal(size=self.value.shape)
        self.value = self.keep * self.value + np.sqrt(1 - self.keep**2) * fresh
        return self.value


def _keep(setup: StreetSetup, time_s: float) -> float:
    return float(np.exp(-1 / (setup.fps * time_s)))


class _Detector:
    def __init__(self, setup: StreetSetup, people: int, rng: np.random.Generator) -> None:
        self.setup, self.rng = setup, rng
        self.size = (setup.camera.width, setup.camera.height_px)
        self.luck = _Ornstein(rng, (people,), _keep(setup, MISSES_S))
        self.errors = _Ornstein(rng, (people, 4), _keep(setup, ERRORS_S))
        self.spots = self._anywhere(SPOTS)

    def __call__(self, truth: StreetFrame) -> tuple[Detections, Array]:
        """Return detections, best first, and whom each shows (N,): −1 nobody, −2 − i spot i."""
        boxes, scores, person = self._people(truth)
        false, false_scores, spot = self._false()
        boxes = np.concatenate([boxes, false])
        scores = np.concatenate([scores, false_scores])
        person = np.concatenate([person, spot])
        boxes = np.clip(boxes, 0, np.tile(self.size, 2))
        large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=1e9) >= SIDE_PX)
        order = large[np.argsort(-scores[large], kind="stable")]
        order = order[_unsuppressed(boxes[order])]
        return Detections.of(boxes[order], scores[order]), person[order]

    def _people(self, truth: StreetFrame) -> tuple[Array, Array, Array]:
        luck, slow = self.luck.step()[truth.ids], self.errors.step()[truth.ids]
        share = truth.visible * within(truth.boxes, self.size)
        rise = np.clip((share - SEEN[0]) / (SEEN[1] - SEEN[0]), 0, 1)
        found = luck < _normal_quantile(self.setup.p_detect * rise)
        height = truth.boxes[:, 3:] - truth.boxes[:, 1:2]
        fast = self.rng.normal(size=slow.shape)
        sigma = self.setup.noise * (1 + 2 * (1 - truth.visible[:, None]))
        boxes = truth.boxes + height * sigma * (0.8 * slow + 0.6 * fast) + 0.5 * fast
        scores = 0.5 + 0.45 * share + self.rng.normal(0, 0.08, len(share))
        return boxes[found], np.clip(scores[found], 0.05, 0.99), truth.ids[found]

    def _false(self) -> tuple[Array, Array, Array]:
        rng = self.rng
        often = np.flatnonzero(rng.random(SPOTS) < SPOT_SHARE)
        jitter = rng.normal(0, 2, (len(often), 4))
        others = self._anywhere(int(rng.poisson(self.setup.clutter)))
        boxes = np.concatenate([self.spots[often] + jitter, others])
        scores = np.concatenate(
            [rng.normal(0.5, 0.12, len(often)), rng.uniform(0.05, 0.75, len(others))]
        )
        return boxes, np.clip(scores, 0.05, 0.9), np.append(-2 - often, np.full(len(others), -1))

    def _anywhere(self, n: int) -> Array:
        """Return boxes (n, 4) of the size of people."""
        width, height = self.size
        tall = height * self.rng.uniform(0.1, 0.4, n)
        foot = np.stack([self.rng.uniform(0, width, n), self.rng.uniform(0.3, 1, n) * height], 1)
        return np.concatenate(
            [foot - np.stack([0.2 * tall, tall], 1), foot + np.stack([0.2 * tall, 0 * tall], 1)], 1
        )


class _Looks:
    def __init__(self, setup: StreetSetup, people: int, rng: np.random.Generator) -> None:
        self.rng, self.variation = rng, setup.variation
        common = _unit(rng.normal(size=DIMENSIONS))
        clothes = _unit(rng.normal(size=(3, DIMENSIONS)))[rng.integers(0, 3, people)]
        own = _unit(rng.normal(size=(people, DIMENSIONS)))
        own = _unit(np.sqrt(setup.alike) * clothes + np.sqrt(1 - setup.alike) * own)
        self.means = np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * own  # (P, D)
        self.spots = np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * _unit(
            rng.normal(size=(SPOTS, DIMENSIONS))
        )
        shape = (people, DIMENSIONS)
        self.fast = _Ornstein(rng, shape, _keep(setup, FAST[1]))
        self.slow = _Ornstein(rng, shape, _keep(setup, SLOW[1]))

    def __call__(self, truth: StreetFrame, found: Detections, person: Array) -> Array:
        """Return embeddings (N, D) float32 of unit length."""
        changes = np.sqrt(FAST[0]) * self.fast.step() + np.sqrt(SLOW[0]) * self.slow.step()
        scale = np.sqrt(self.variation / DIMENSIONS)
        now = self.means + scale * changes  # (P, D)
        vectors = np.sqrt(WHITE) * scale * self.rng.normal(size=(len(person), DIMENSIONS))
        row_of = {int(one): row for row, one in enumerate(truth.ids)}
        for i, who in enumerate(person.tolist()):
            if who >= 0:
                vectors[i] += self._crop(truth, row_of[who], now)
            elif who <= -2:
                vectors[i] += self.spots[-2 - who]
            else:
                vectors[i] += self.rng.normal(size=DIMENSIONS) / np.sqrt(DIMENSIONS)
        return _unit(vectors).astype(np.float32)

    def _crop(self, truth: StreetFrame, row: int, now: Array) -> Array:
        """Return what the crop of a person shows: also who is in front, or some thing."""
        visible, by = truth.visible[row], int(truth.hidden_by[row])
        thing = self.rng.normal(size=DIMENSIONS) / np.sqrt(DIMENSIONS)
        before = now[truth.ids[by]] if by >= 0 else thing
        return np.asarray(visible * now[truth.ids[row]] + (1 - visible) * before)


def _views(setup: StreetSetup, rng: np.random.Generator) -> list[tuple[Array, Motion | None]]:
    """Return the camera's view (3, 3) in each frame, and the measured motion."""
    if not setup.pan:
        return [(np.eye(3), None)] * setup.frames
    width, height = setup.camera.width, setup.camera.height_px
    velocity = _Ornstein(rng, (3,), _keep(setup, 1.0))
    shift, zoom, before = np.zeros(2), 0.0, np.eye(3)
    views: list[tuple[Array, Motion | None]] = []
    centre = np.array([width / 2, height / 2])
    for _ in range(setup.frames):
        vx, vy, vz = velocity.step() / setup.fps
        shift = 0.995 * shift + setup.pan * width * np.array([vx, 0.2 * vy])
        zoom = 0.99 * zoom + 0.02 * vz
        view = np.eye(3)
        view[:2, :2] *= np.exp(zoom)
        view[:2, 2] = centre - np.exp(zoom) * centre + shift
        warp = (view @ np.linalg.inv(before))[:2]
        warp[:, 2] += rng.normal(0, 0.3, 2)
        known = bool(views) and rng.random() >= LOST_MOTION
        warp = warp if known else np.eye(3)[:2]
        views.append((view, Motion(warp=warp, support=0.6 if known else 0.0)))
        before = view
    return views


def _seen_from(frame: StreetFrame, view: Array) -> StreetFrame:
    """Return the frame in the pixels of a camera that has moved."""
    scale = np.diagonal(view)[:2]
    boxes = frame.boxes * np.tile(scale, 2) + np.tile(view[:2, 2], 2)
    return StreetFrame(frame.ids, frame.ground, boxes, frame.visible, frame.hidden_by)


def _unsuppressed(boxes: Array) -> Array:
    """Return the rows that non-maximum suppression keeps of boxes (N, 4), best first."""
    alike = iou(boxes, boxes) > SAME_BOX
    kept: list[int] = []
    for i in range(len(boxes)):
        if not alike[i, kept].any():
            kept.append(i)
    return np.array(kept, int)


def _normal_quantile(p: Array) -> Array:
    from scipy.special import ndtri

    return np.asarray(ndtri(p))


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
