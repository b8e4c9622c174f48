"""Simulation of a street scene: where people walk, and the calibrated camera.

World: X to the right, Y away from the camera, Z up, in metres; the ground is Z = 0. All of it is a
function of seed and time, so any picture can be drawn without those before it.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from streamvis.geometry import Homography
from streamvis.messages import Array

STEP_S = 0.05  # of the simulation; pictures interpolate between steps
STRIDE = 0.85  # metres walked in one gait cycle, per metre of body height
WALL_Y = 24.0  # metres: the ground ends here at a house front


@dataclass(frozen=True)
class Camera:
    """A pinhole camera `height` metres above the origin, along Y and `pitch` radians downwards."""

    width: int
    height_px: int
    height: float = 4.2
    pitch: float = math.radians(17)

    @property
    def focal(self) -> float:
        return 0.94 * self.width

    @cached_property
    def matrix(self) -> Array:
        """The projection (3, 4) from world to homogeneous pixels; pixel i covers [i, i + 1)."""
        K = np.array(
            [[self.focal, 0, self.width / 2], [0, self.focal, self.height_px / 2], [0, 0, 1]]
        )
        R = self.rotation
        return K @ np.column_stack([R, R @ [0, 0, -self.height]])

    @property
    def rotation(self) -> Array:
        """The rotation (3, 3) from the world to right, down and away from the camera."""
        c, s = math.cos(self.pitch), math.sin(self.pitch)
        return np.array([[1, 0, 0], [0, -s, -c], [0, c, -s]])

    @property
    def homography(self) -> Homography:
        """The map from pixels to metres on the ground, row-major."""
        H = np.linalg.inv(self.matrix[:, [0, 1, 3]])
        return tuple((H / H[2, 2]).ravel().tolist())

    def project(self, points: Array) -> tuple[Array, Array]:
        """Project world points (N, 3) to pixels (N, 2); return their depths (N,) in metres too."""
        u = points @ self.matrix[:, :3].T + self.matrix[:, 3]
        return u[:, :2] / u[:, 2:], u[:, 2]

    def half_width(self, y: float) -> float:
        """Return half of the visible width in metres at distance y on the ground."""
        depth = y * math.cos(self.pitch) + self.height * math.sin(self.pitch)
        return depth * self.width / (2 * self.focal)

    @property
    def nearest(self) -> float:
        """The Y, in metres, of the ground at the picture's lower edge."""
        below = self.pitch + math.atan(self.height_px / (2 * self.focal))
        return self.height / math.tan(below)


@dataclass(frozen=True)
class Person:
    """The attributes of one walking person that stay the same."""

    id: int
    height: float  # metres
    girth: float  # 1 is average
    speed: float  # metres per second when nobody is in the way
    skin: Array  # colours (3,) in 0-255, RGB
    hair: Array
    shirt: Array
    trim: Array  # stripes, jacket lining or bag
    trousers: Array
    shoes: Array
    pattern: str  # plain, stripes, halves or jacket
    sleeves: str  # long or short
    legs: str  # long, shorts or skirt
    hair_style: str  # short, long, cap or bald
    bag: bool


@dataclass
class Walk:
    """The states of one person at each step of the simulation from `start` on."""

    person: Person
    start: int
    states: list[tuple[float, ...]] = field(default_factory=list)  # x, y, heading, phase, speed

    def at(self, t: float) -> Array | None:
        """Return x, y (m), heading, phase (rad), speed (m/s) at t seconds; None when absent."""
        step = t / STEP_S - self.start
        if not 0 <= step < len(self.states) - 1:
            return None
        low = int(step)
        a, b = np.array(self.states[low]), np.array(self.states[low + 1])
        return a + (step - low) * (b - a)


def simulate(seed: int, people: int, seconds: float, camera: Camera) -> list[Walk]:
    """Return all walks within the first `seconds`, of `people` at any time.

    Everyone walks towards a goal at a speed of their own and keeps a distance from the others; a
    new person replaces each one who leaves.
    """
    walks = WalkingCrowd(seed, people, camera).until(seconds)
    return [walk for walk in walks if walk.start + len(walk.states) > 1]


class WalkingCrowd:
    """People who walk, simulated as far as they are looked at."""

    WARM_UP = 240  # steps before the first picture, so that people are spread over the place

    def __init__(self, seed: int, people: int, camera: Camera) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.camera = camera
        self.near = camera.nearest + 1.5
        self.far = min(camera.nearest + 13.0, WALL_Y - 2.0)
        self.next_id = 1
        self.places = [self._enter(-self.WARM_UP, entering=False) for _ in range(people)]
        self.walks = [place.walk for place in self.places]
        self.step = -self.WARM_UP  # the next one

    def until(self, seconds: float) -> list[Walk]:
        """Return the walks so far, simulated to this time at least."""
        end = math.ceil(seconds / STEP_S) + 2
        for step in range(self.step, end):
            for number, place in enumerate(self.places):
                if not place.goals:
                    self.places[number] = self._enter(step, entering=True)
                    self.walks.append(self.places[number].walk)
            pushes = self._pushes()
            for place, push in zip(self.places, pushes, strict=True):
                place.move(push)
        self.step = max(self.step, end)
        return self.walks

    def _pushes(self) -> Array:
        """Return the acceleration (N, 2) by which the others keep each person away, m/s²."""
        at = np.array([(p.x, p.y) for p in self.places]).reshape(-1, 2)
        apart = at[:, None] - at[None]  # (N, N, 2)
        distance = np.linalg.norm(apart, axis=2) + 1e-9
        strength = 2.5 * np.exp((0.75 - distance) / 0.25)
        np.fill_diagonal(strength, 0)
        away = apart / distance[..., None]
        aside = np.stack([away[..., 1], -away[..., 0]], axis=2)  # all pass on the same side
        return np.clip((strength[..., None] * (away + 0.4 * aside)).sum(axis=1), -4, 4)

    def _enter(self, step: int, *, entering: bool) -> "_Walker":
        rng = self.rng
        side = float(rng.choice([-1, 1]))
        goals = [self._inside() for _ in range(int(rng.integers(0, 3)))]
        leave = side if goals and rng.random() < 0.3 else -side
        goals.append(self._edge(leave))
        start = self._edge(side) if entering else self._inside()
        person = dress(self.rng, self.next_id)
        self.next_id += 1
        pauses = [float(rng.uniform(2, 6)) if rng.random() < 0.5 else 0.0 for _ in goals]
        return _Walker(Walk(person, step), *start, goals=goals, pauses=[*pauses[:-1], 0.0])

    def _inside(self) -> tuple[float, float]:
        y = float(self.rng.uniform(self.near, self.far))
        return float(self.rng.uniform(-0.8, 0.8)) * self.camera.half_width(y), y

    def _edge(self, side: float) -> tuple[float, float]:
        y = float(self.rng.uniform(self.near, self.far))
        return side * (self.camera.half_width(y) + 1.0), y


@dataclass
class _Walker:
    """One person whose walk is being simulated."""

    walk: Walk
    x: float
    y: float
    goals: list[tuple[float, float]]
    pauses: list[float]  # seconds to stand at each goal
    vx: float = 0.0
    vy: float = 0.0
    heading: float | None = None  # radians from the X axis
    phase: float = 0.0

    def move(self, push: Array) -> None:
        person = self.walk.person
        dx, dy = self.goals[0][0] - self.x, self.goals[0][1] - self.y
        distance = math.hypot(dx, dy)
        wanted = person.speed
        if distance < 0.5:
            self.pauses[0] -= STEP_S
            wanted = 0.0
            if self.pauses[0] <= 0:
                self.goals.pop(0)
                self.pauses.pop(0)
        distance = max(distance, 1e-6)
        self.vx += STEP_S * ((wanted * dx / distance - self.vx) / 0.4 + push[0])
        self.vy += STEP_S * ((wanted * dy / distance - self.vy) / 0.4 + push[1])
        self.x += STEP_S * self.vx
        self.y += STEP_S * self.vy
        self._turn(dx, dy)
        speed = math.hypot(self.vx, self.vy)
        self.phase += 2 * math.pi * speed * STEP_S / (STRIDE * person.height)
        assert self.heading is not None
        self.walk.states.append((self.x, self.y, self.heading, self.phase, speed))

    def _turn(self, dx: float, dy: float) -> None:
        """Turn towards the direction of motion; headings are unwrapped, to be interpolated."""
        if self.heading is None:
            self.heading = math.atan2(dy, dx)
        if math.hypot(self.vx, self.vy) > 0.25:
            off = math.atan2(self.vy, self.vx) - self.heading
            self.heading += 0.15 * math.remainder(off, 2 * math.pi)


SKIN = [(241, 205, 178), (224, 172, 135), (198, 140, 100), (141, 93, 60), (92, 60, 42)]
HAIR = [(32, 26, 22), (60, 42, 30), (110, 76, 44), (176, 140, 84), (150, 150, 150), (40, 30, 60)]
CLOTH = [
    (200, 44, 48), (222, 120, 40), (232, 196, 70), (70, 140, 70), (40, 110, 140), (50, 76, 160),
    (112, 66, 140), (214, 214, 208), (60, 64, 70), (150, 150, 146), (128, 84, 56), (210, 130, 150),
]  # fmt: skip
DARK = [(36, 40, 54), (52, 66, 100), (66, 62, 58), (96, 88, 74), (30, 30, 32), (120, 116, 110)]
SHOES = [(30, 28, 28), (70, 48, 34), (220, 220, 216), (170, 40, 40)]


def dress(rng: np.random.Generator, id: int) -> Person:
    """Draw a person of random build and clothes."""

    def pick(colours: list[tuple[int, int, int]]) -> Array:
        colour = np.array(colours[int(rng.integers(len(colours)))], dtype=np.float64)
        return np.clip(colour * rng.uniform(0.85, 1.1) + rng.normal(0, 5, 3), 8, 250)

    def one_of(*names: str) -> str:
        return names[int(rng.integers(len(names)))]

    return Person(
        id=id,
        height=float(np.clip(rng.normal(1.72, 0.1), 1.45, 1.98)),
        girth=float(np.clip(rng.normal(1.0, 0.1), 0.8, 1.3)),
        speed=float(np.clip(rng.normal(1.3, 0.18), 0.8, 1.8)),
        skin=pick(SKIN),
        hair=pick(HAIR),
        shirt=pick(CLOTH),
        trim=pick(CLOTH),
        trousers=pick(DARK),
        shoes=pick(SHOES),
        pattern=one_of("plain", "plain", "stripes", "halves", "jacket"),
        sleeves=one_of("long", "long", "short"),
        legs=one_of("long", "long", "long", "shorts", "skirt"),
        hair_style=one_of("short", "short", "long", "cap", "bald"),
        bag=bool(rng.random() < 0.35),
    )
