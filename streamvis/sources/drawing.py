"""Drawing a walker: an anti-aliased sprite, premultiplied RGBA, and the shadow on the ground."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.sources.body import HEAD, Body, Limb
from streamvis.sources.scene import Camera, Person

SCALE = 2  # sprites are drawn this much larger, then averaged
SHIFT = 4  # binary places of OpenCV's sub-pixel coordinates
SUN = np.array([0.55, 0.35, -1.0])  # the way light travels
LIGHT = np.array([-0.30, -0.12])  # where it comes from in the picture, in radii
SHADES = ((1.0, 0.0, 0.64), (0.74, 0.6, 0.86), (0.42, 1.0, 1.04))  # width, towards light, tone
ARC = np.linspace(-1, 1, 7)


@dataclass(frozen=True)
class Sprite:
    """One person's pixels; they may reach beyond the picture."""

    x: int  # of the left column in the picture
    y: int
    pixels: Array  # (h, w, 4) uint8, RGB premultiplied by alpha

    @property
    def mask(self) -> Array:
        """(h, w) bool: where the person covers at least half of the pixel."""
        return self.pixels[..., 3] >= 128


class Brush:
    """Draws shaded shapes on a canvas that is `SCALE` times a part of the picture."""

    def __init__(self, camera: Camera, low: Array, high: Array) -> None:
        self.camera = camera
        self.low = low  # (2,) whole pixels of the picture
        width, height = (high - low) * SCALE
        self.canvas = np.zeros((int(height), int(width), 4), np.uint8)

    def points(self, world: Array) -> tuple[Array, Array]:
        """World points (N, 3) on the canvas (N, 2), and canvas pixels per metre there (N,)."""
        at, depth = self.camera.project(world)
        return (at - self.low) * SCALE, SCALE * self.camera.focal / depth

    def capsule(self, limb: Limb, colour: Array) -> None:
        """A limb, as three capsules of growing light."""
        (a, b), (scale_a, scale_b) = self.points(np.stack([limb.a, limb.b]))
        radius_a, radius_b = limb.radius_a * scale_a, limb.radius_b * scale_b
        for width, towards, tone in SHADES:
            shift = LIGHT * towards * min(radius_a, radius_b)
            self.fill(outline(a, b, radius_a * width, radius_b * width) + shift, colour * tone)

    def fill(self, polygon: Array, colour: Array) -> None:
        # OpenCV puts the middle of pixel i at i, we at i + 1/2
        fixed = np.rint((polygon - 0.5) * (1 << SHIFT)).astype(np.int32)
        red, green, blue = np.clip(colour, 0, 255).tolist()
        cv2.fillConvexPoly(self.canvas, fixed, (red, green, blue, 255), cv2.LINE_AA, SHIFT)

    def sprite(self) -> Sprite:
        height, width = self.canvas.shape[:2]
        size = (width // SCALE, height // SCALE)
        pixels = cv2.resize(self.canvas, size, interpolation=cv2.INTER_AREA)
        return Sprite(int(self.low[0]), int(self.low[1]), pixels)


def outline(a: Array, b: Array, radius_a: float, radius_b: float) -> Array:
    """The convex hull (14, 2) of two circles."""
    along = b - a
    distance = math.hypot(along[0], along[1])
    if distance <= abs(radius_a - radius_b):  # one lies in the other
        if radius_a > radius_b:
            a, b, radius_b = a, a, radius_a
        else:
            a, b, radius_a = b, b, radius_b
    turn = math.atan2(along[1], along[0])
    # the common tangents touch both circles at this angle from the axis
    open_ = math.acos(max(-1.0, min(1.0, (radius_a - radius_b) / max(distance, 1e-9))))
    front = turn + open_ * ARC
    back = turn + math.pi + (math.pi - open_) * ARC
    return np.concatenate(
        [
            b + radius_b * np.column_stack([np.cos(front), np.sin(front)]),
            a + radius_a * np.column_stack([np.cos(back), np.sin(back)]),
        ]
    )


def draw(camera: Camera, person: Person, body: Body) -> Sprite:
    """The person as the camera sees them, with nobody in front."""
    h, g = person.height, person.girth
    brush = Brush(camera, *_extent(camera, person, body))
    cloth = {
        "skin": person.skin,
        "shirt": person.shirt,
        "trousers": person.trousers,
        "shoes": person.shoes,
    }
    parts: list[tuple[Array, Callable[[], None]]] = [
        ((limb.a + limb.b) / 2, partial(brush.capsule, limb, cloth[limb.cloth]))
        for limb in body.limbs
    ]
    middle = (body.hips.sum(axis=0) + body.shoulders.sum(axis=0)) / 4
    parts.append((middle, lambda: _trunk(brush, person, body)))
    parts.append((body.head, lambda: _head(brush, person, body)))
    if person.bag:
        back = middle - 0.085 * h * g * body.forward
        up = np.array([0.0, 0.0, h])
        bag = Limb(back - 0.05 * up, back + 0.11 * up, 0.075 * h, 0.065 * h, "trim")
        parts.append((back, lambda: brush.capsule(bag, person.trim)))
    if person.legs == "skirt":
        parts.append((body.hips.mean(axis=0), lambda: _skirt(brush, person, body)))
    _, depths = camera.project(np.stack([at for at, _ in parts]))
    for number in np.argsort(-depths, kind="stable"):
        parts[number][1]()
    return brush.sprite()


def _extent(camera: Camera, person: Person, body: Body) -> tuple[Array, Array]:
    world = np.stack([body.head, *(end for limb in body.limbs for end in (limb.a, limb.b))])
    at, depth = camera.project(world)
    margin = 0.17 * person.height * camera.focal / depth.min() + 2
    return np.floor(at.min(axis=0) - margin), np.ceil(at.max(axis=0) + margin)


def _trunk(brush: Brush, person: Person, body: Body) -> None:
    """Chest and belly, with the pattern of the shirt."""
    h, g = person.height, person.girth
    (hip_l, hip_r), scale = brush.points(body.hips)
    (top_l, top_r), _ = brush.points(body.shoulders)
    at_hip, at_top = 0.064 * h * g * scale[0], 0.042 * h * g * scale[0]
    neck = Limb(body.neck - [0, 0, 0.06 * h], body.neck, 0.03 * h, 0.028 * h, "skin")
    brush.capsule(neck, person.skin * 0.9)
    for width, towards, tone in SHADES:
        shift = LIGHT * towards * at_top
        low = outline(hip_l, hip_r, at_hip * width, at_hip * width)
        high = outline(top_l, top_r, at_top * width, at_top * width)
        hull = cv2.convexHull(np.concatenate([low, high]).astype(np.float32))[:, 0]
        brush.fill(hull + shift, person.shirt * tone)

    def band(low: float, high: float, tone: float = 0.9, inset: float = 0.95) -> None:
        """The trunk between two heights, as parts of the way from hip to shoulder."""
        edge = []
        for t in (low, high):
            left, right = hip_l + t * (top_l - hip_l), hip_r + t * (top_r - hip_r)
            radius = (at_hip + t * (at_top - at_hip)) * inset
            first, last = sorted((left, right), key=lambda p: float(p[0]))
            wider = np.array([radius, 0])
            edge.append((first - wider, last + wider))
        brush.fill(np.stack([*edge[0], *edge[1][::-1]]), person.trim * tone)

    if person.pattern == "stripes":
        for stripe in (0.12, 0.36, 0.60, 0.84):
            band(stripe, stripe + 0.11)
    elif person.pattern == "halves":
        band(-0.1, 0.42)
    elif person.pattern == "jacket" and _faces(brush.camera, body):
        front = body.forward * 0.03 * h
        (low_mid, high_mid), _ = brush.points(
            np.stack([body.hips.mean(axis=0) + front, body.shoulders.mean(axis=0) + front])
        )
        brush.fill(outline(low_mid, high_mid, 0.26 * at_hip, 0.5 * at_top), person.trim)


def _faces(camera: Camera, body: Body) -> bool:
    return bool(body.forward @ (body.neck - [0, 0, camera.height]) < 0)


def _skirt(brush: Brush, person: Person, body: Body) -> None:
    h, g = person.height, person.girth
    knees = [limb.b for limb in body.limbs if limb.cloth == "trousers"]
    ends, scale = brush.points(np.stack([*body.hips, *knees]))
    radius = np.array([0.062, 0.062, 0.058, 0.058]) * h * g * scale
    for width, towards, tone in SHADES:
        low = outline(ends[2], ends[3], radius[2] * width, radius[3] * width)
        high = outline(ends[0], ends[1], radius[0] * width, radius[1] * width)
        hull = cv2.convexHull(np.concatenate([low, high]).astype(np.float32))[:, 0]
        brush.fill(hull + LIGHT * towards * radius[0], person.trousers * tone)


def _head(brush: Brush, person: Person, body: Body) -> None:
    """Face and hair: whichever is nearer covers the other, so one sees which way they look."""
    r = HEAD * person.height
    up = np.array([0.0, 0.0, 1.0])
    chin = body.head + 0.25 * r * body.forward - 0.45 * r * up
    brow = body.head + 0.12 * r * body.forward + 0.25 * r * up
    face = Limb(chin, brow, 0.66 * r, 0.86 * r, "skin")
    crown = body.head - 0.12 * r * body.forward + 0.32 * r * up
    nape = body.head - 0.45 * r * body.forward - 0.1 * r * up
    hair = [Limb(nape, crown, 0.80 * r, 0.94 * r, "hair")]
    colour = person.trim if person.hair_style == "cap" else person.hair
    if person.hair_style == "long":
        ends = body.head - 0.55 * r * body.forward - 1.7 * r * up
        hair.insert(0, Limb(ends, crown, 0.72 * r, 0.9 * r, "hair"))
    if person.hair_style == "bald":
        hair, colour = [Limb(nape, crown, 0.78 * r, 0.9 * r, "skin")], person.skin * 0.97
    if person.hair_style == "cap":
        visor = crown + 0.9 * r * body.forward - 0.1 * r * up
        hair.append(Limb(crown, visor, 0.5 * r, 0.35 * r, "hair"))
    if _faces(brush.camera, body):
        for limb in hair[:1]:
            brush.capsule(limb, colour)
        brush.capsule(face, person.skin)
        for limb in hair[1:]:
            brush.capsule(limb, colour)
        return
    brush.capsule(face, person.skin)
    for limb in hair:
        brush.capsule(limb, colour)


def shade(camera: Camera, body: Body, shadow: Array, scale: float) -> None:
    """Add the person's shadow to a map (h, w) uint8 that is `scale` times the picture."""
    for limb in [*body.limbs, Limb(body.hips[0], body.neck, 0.2, 0.2, ""), _skull(body)]:
        ends = np.stack([limb.a, limb.b])
        ends = ends - SUN * (ends[:, 2:] / SUN[2])  # along the light, down to the ground
        (a, b), depth = camera.project(ends)
        radius = 0.9 * max(limb.radius_a, limb.radius_b) * camera.focal / depth.mean() * scale
        polygon = outline(a * scale, b * scale, radius, radius) - 0.5
        fixed = np.rint(polygon * (1 << SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(shadow, fixed, 255.0, cv2.LINE_AA, SHIFT)


def _skull(body: Body) -> Limb:
    return Limb(body.neck, body.head, 0.08, 0.11, "")
