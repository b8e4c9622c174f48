"""A synthetic street scene with walking people, and exact ground truth for every picture."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.synthetic.backdrop import backdrop
from streamvis.synthetic.body import Body, pose
from streamvis.synthetic.drawing import Sprite, draw, shade
from streamvis.synthetic.scene import Camera, Person, WalkingCrowd

SHADOW_SCALE = 0.5
SHADOW_DEPTH = 0.46  # how much darker the middle of a shadow is
NOISE = 2.2  # standard deviation of the camera's noise, grey levels
NOISE_MARGIN = 64


@dataclass(frozen=True)
class SceneTruth:
    """The people of one picture by ascending id, those included whom others hide completely."""

    ids: Array  # (N,) int64, from 1, never used twice in a scene
    boxes: Array  # (N, 4) float32 xyxy pixels of the whole person, hidden parts included
    visible_boxes: Array  # (N, 4) float32 around the visible part; zeros where it is empty
    visibility: Array  # (N,) float32, visible share of the person's pixels
    ground: Array  # (N, 2) float64 metres, below the middle of the hips
    id_map: Array  # (H, W) int32, id of the person who is visible there, 0 for none

    def mask(self, id: int) -> Array:
        """Return the visible pixels (H, W) bool of a person."""
        return self.id_map == id


class SyntheticScene:
    """A street scene as a function of the picture number; equal seeds give equal bytes."""

    def __init__(
        self,
        seed: int = 0,
        people: int = 6,
        size: tuple[int, int] = (640, 480),
        fps: float = 10.0,
        seconds: float = 10.0,
    ) -> None:
        self.fps = fps
        self.frames = max(1, round(seconds * fps))
        self.camera = Camera(*size)
        self._crowd = WalkingCrowd(seed, people, self.camera)
        self._seed = seed
        self._last: tuple[int, Array, SceneTruth] | None = None  # drawn together

    @property
    def homography(self) -> tuple[float, ...]:
        """Pixels to metres on the ground, row-major 3×3."""
        return self.camera.homography

    def picture(self, n: int) -> Array:
        """Return picture n, (H, W, 3) uint8 RGB, as a copy that belongs to the caller."""
        return self._drawn(n)[0].copy()

    def truth(self, n: int) -> SceneTruth:
        """Return the people of picture n."""
        return self._drawn(n)[1]

    def _drawn(self, n: int) -> tuple[Array, SceneTruth]:
        if self._last is None or self._last[0] != n:
            self._last = (n, *self._draw(n))
        return self._last[1:]

    def _draw(self, n: int) -> tuple[Array, SceneTruth]:
        present = []
        seconds = n / self.fps
        for walk in self._crowd.until(seconds):
            state = walk.at(seconds)
            if state is not None:
                present.append((walk.person, state, pose(walk.person, state)))
        middles = np.array([body.hips.mean(axis=0) for _, _, body in present]).reshape(-1, 3)
        _, depths = self.camera.project(middles)
        far_first = [present[i] for i in np.argsort(-depths, kind="stable")]
        picture = self._shaded([body for _, _, body in far_first])
        sprites = []
        id_map = np.zeros(picture.shape[:2], np.int32)
        for person, _, body in far_first:
            sprite = draw(self.camera, person, body)
            sprites.append(sprite)
            _lay(sprite, person.id, picture, id_map)
        truth = _truth([(p, s) for p, s, _ in far_first], sprites, id_map)
        return self._noisy(picture, n), truth

    def _shaded(self, bodies: list[Body]) -> Array:
        """Draw the empty place with the shadows of these bodies."""
        height, width = self._backdrop.shape[:2]
        size = (round(height * SHADOW_SCALE), round(width * SHADOW_SCALE))
        shadow = np.zeros(size, np.uint8)
        for body in bodies:
            shade(self.camera, body, shadow, SHADOW_SCALE)
        shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.8, width / 640))
        light = cv2.resize(255 - (SHADOW_DEPTH * shadow).astype(np.uint8), (width, height))
        return cv2.multiply(self._backdrop, cv2.cvtColor(light, cv2.COLOR_GRAY2RGB), scale=1 / 255)

    @cached_property
    def _backdrop(self) -> Array:
        return backdrop(self.camera, self._seed)

    @cached_property
    def _noise(self) -> tuple[Array, Array]:
        """Noise that brightens and noise that darkens, larger than any picture's part."""
        height, width = self._backdrop.shape[:2]
        rng = np.random.default_rng([self._seed, 3])
        shape = (height + NOISE_MARGIN, width + NOISE_MARGIN, 3)
        noise = np.rint(NOISE * rng.standard_normal(shape, dtype=np.float32))
        return np.maximum(noise, 0).astype(np.uint8), np.maximum(-noise, 0).astype(np.uint8)

    def _noisy(self, picture: Array, n: int) -> Array:
        height, width = picture.shape[:2]
        y, x = n * 37 % NOISE_MARGIN, n * 11 % NOISE_MARGIN
        more, less = (part[y : y + height, x : x + width] for part in self._noise)
        return cv2.subtract(cv2.add(picture, more), less)


def _lay(sprite: Sprite, id: int, picture: Array, id_map: Array) -> None:
    """Draw a sprite over those that are farther away."""
    height, width = id_map.shape
    h, w = sprite.pixels.shape[:2]
    top, left = max(sprite.y, 0), max(sprite.x, 0)
    bottom, right = min(sprite.y + h, height), min(sprite.x + w, width)
    if top >= bottom or left >= right:
        return
    part = sprite.pixels[top - sprite.y : bottom - sprite.y, left - sprite.x : right - sprite.x]
    below = picture[top:bottom, left:right]
    through = cv2.cvtColor(255 - part[..., 3], cv2.COLOR_GRAY2RGB)
    below[:] = cv2.add(cv2.multiply(below, through, scale=1 / 255), part[..., :3])
    id_map[top:bottom, left:right][part[..., 3] >= 128] = id


def _truth(people: list[tuple[Person, Array]], sprites: list[Sprite], id_map: Array) -> SceneTruth:
    height, width = id_map.shape
    rows = []
    for (person, state), sprite in zip(people, sprites, strict=True):
        box = _bounds(sprite.mask) + np.tile([sprite.x, sprite.y], 2)
        if box[0] >= width or box[2] <= 0 or box[1] >= height or box[3] <= 0:
            continue
        inside = np.clip(box, 0, [width, height, width, height]).astype(int)
        left, top, right, bottom = inside
        seen = id_map[top:bottom, left:right] == person.id
        count = int(seen.sum())
        seen_box = _bounds(seen) + np.tile([left, top], 2) if count else np.zeros(4)
        rows.append((person.id, box, seen_box, count / int(sprite.mask.sum()), state[:2]))
    rows.sort(key=lambda row: row[0])
    ids, boxes, seen_boxes, visibility, ground = zip(*rows, strict=True) if rows else ([],) * 5
    return SceneTruth(
        ids=np.array(ids, np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        visible_boxes=np.array(seen_boxes, np.float32).reshape(-1, 4),
        visibility=np.array(visibility, np.float32),
        ground=np.array(ground, np.float64).reshape(-1, 2),
        id_map=id_map,
    )


def _bounds(mask: Array) -> Array:
    """Return the tight box, xyxy, of a mask (h, w) that is not empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
