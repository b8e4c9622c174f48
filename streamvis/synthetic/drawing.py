"""Drawing of one person: an anti-aliased sprite in premultiplied RGBA, and its shadow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.synthetic.body import HEAD, Body, Limb
from streamvis.synthetic.scene import Camera, Person

SCALE = 2  # sprites are drawn this much larger, then averaged
SHIFT = 4  # binary places of OpenCV's sub-pixel coordinates
SUN = np.array([0.55, 0.35, -1.0])  # direction in which light travels, in the world
LIGHT = np.array([-0.30, -0.12])  # direction towards the light in the picture, in radii
WIDTHS, TOWARDS, TONES = (1.0, 0.74, 0.42), (0.0, 0.6, 1.0), (0.64, 0.86, 1.04)  # of the shading
ARC = np.linspace(-1, 1, 7)


@dataclass(frozen=True)
class Sprite:
    """The pixels of one person, which may reach beyond the picture."""

    x: int  # of the left column in the picture
    y: int
    pixels: Array  # (h, w, 4) uint8, RGB premultiplied by alpha

    @property
    def mask(self) -> Array:
        """The pixels (h, w) bool of which the person covers at least half."""
        return self.pixels[..., 3] >= 128


class Shape(NamedTuple):
    polygon: Array  # (P, 2) on the canvas, convex
    colour: Array  # (3,)


class Brush:
    """A canvas of `SCALE` times the resolution of a part of the picture, to draw shapes on."""

    def __init__(self, camera: Camera, low: Array, high: Array) -> None:
        self.camera = camera
        self.low = low  # (2,) whole pixels of the picture
        width, height = (high - low) * SCALE
        self.canvas = np.zeros((int(height), int(width), 4), np.uint8)

    def points(self, world: Array) -> tuple[Array, Array]:
        """Return world points (N, 3) on the canvas (N, 2), and pixels per metre there (N,)."""
        at, depth = self.camera.project(world)
        return (at - self.low) * SCALE, SCALE * self.camera.focal / depth

    def capsules(self, limbs: Sequence[Limb], colours: Sequence[Array]) -> list[list[Shape]]:
        """Draw each limb as three capsules, from dark to light."""
        at, scale = self.points(np.array([end for limb in limbs for end in (limb.a, limb.b)]))
        radius = np.array([r for limb in limbs for r in (limb.radius_a, limb.radius_b)]) * scale
        centres, spokes = outlines(at[::2], at[1::2], radius[::2], radius[1::2])
        light = LIGHT * np.minimum(radius[::2], radius[1::2])[:, None]  # (L, 2)
        return [
            [
                Shape(centres[i] + width * spokes[i] + towards * light[i], colour * tone)
                for width, towards, tone in zip(WIDTHS, TOWARDS, TONES, strict=True)
            ]
            for i, colour in enumerate(colours)
        ]

    def hulls(self, ends: Array, radii: Array, colour: Array) -> list[Shape]:
        """Draw the convex hull of circles at ends (N, 2) as three shapes, from dark to light."""
        light = LIGHT * radii.min()
        centres, spokes = outlines(ends, ends, radii, radii)
        return [
            Shape(_hull(centres + width * spokes) + towards * light, colour * tone)
            for width, towards, tone in zip(WIDTHS, TOWARDS, TONES, strict=True)
        ]

    def fill(self, shape: Shape) -> None:
        red, green, blue = (min(255, int(value)) for value in shape.colour)
        fill(self.canvas, shape.polygon, (red, green, blue, 255))

    def sprite(self) -> Sprite:
        height, width = self.canvas.shape[:2]
        size = (width // SCALE, height // SCALE)
        pixels = cv2.resize(self.canvas, size, interpolation=cv2.INTER_AREA)
        return Sprite(int(self.low[0]), int(self.low[1]), pixels)


def fill(canvas: Array, polygon: Array, colour: tuple[float, ...]) -> None:
    """Fill a convex polygon (P, 2), anti-aliased; pixel i of the canvas covers [i, i + 1)."""
    # OpenCV has the centre of pixel i at i, streamvis at i + 1/2
    fixed = np.rint((polygon - 0.5) * (1 << SHIFT)).astype(np.int32)
    cv2.fillConvexPoly(canvas, fixed, colour, cv2.LINE_AA, SHIFT)


def outlines(a: Array, b: Array, radius_a: Array, radius_b: Array) -> tuple[Array, Array]:
    """Return the hulls of pairs of circles, a (L, 2) with b (L, 2), as centres and spokes.

    Both are (L, 14, 2). A hull's corners are centres + spokes; scaled spokes give a slimmer hull.
    """
    gap = np.hypot(*(b - a).T) - np.abs(radius_a - radius_b)
    a_only, b_only = (gap <= 0) & (radius_a >= radius_b), (gap <= 0) & (radius_a < radius_b)
    a, b = np.where(b_only[:, None], b, a), np.where(a_only[:, None], a, b)
    radius_a, radius_b = (
        np.where(b_only, radius_b, radius_a),
        np.where(a_only, radius_a, radius_b),
    )
    x, y = (b - a).T
    # the common tangents touch both circles at this angle from the axis
    tangent = np.arccos(np.clip((radius_a - radius_b) / np.maximum(np.hypot(x, y), 1e-9), -1, 1))
    axis = np.arctan2(y, x)[:, None]
    front = axis + tangent[:, None] * ARC
    back = axis + np.pi + (np.pi - tangent)[:, None] * ARC
    angle = np.concatenate([front, back], axis=1)  # (L, 14)
    radius = np.repeat(np.stack([radius_b, radius_a], axis=1), len(ARC), axis=1)
    spokes = radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=2)
    return np.repeat(np.stack([b, a], axis=1), len(ARC), axis=1), spokes


def _hull(points: Array) -> Array:
    return cv2.convexHull(points.reshape(-1, 2).astype(np.float32))[:, 0]


def draw(camera: Camera, person: Person, body: Body) -> Sprite:
    """Draw a person as the camera sees them with nobody in front."""
    brush = Brush(camera, *_extent(camera, person, body))
    skull = _head(person, body, faces_camera=_faces(camera, body))
    bare = [limb for limb in body.limbs if (limb.cloth, person.legs) != ("trousers", "skirt")]
    limbs = [*bare, *_extras(person, body), *skull]
    shapes = brush.capsules(limbs, [_colour(person, limb.cloth) for limb in limbs])
    own = len(limbs) - len(skull)
    parts = [((limb.a + limb.b) / 2, drawn) for limb, drawn in zip(limbs, shapes, strict=True)]
    parts[own:] = [(body.head, [shape for drawn in shapes[own:] for shape in drawn])]
    neck = len(bare)  # goes under the collar
    middle = (body.hips.sum(axis=0) + body.shoulders.sum(axis=0)) / 4
    parts[neck] = (middle, [*shapes[neck], *_trunk(brush, person, body)])
    if person.legs == "skirt":
        parts.append((body.hips.mean(axis=0), _skirt(brush, person, body)))
    _, depths = camera.project(np.array([at for at, _ in parts]))
    for number in np.argsort(-depths, kind="stable"):
        for shape in parts[number][1]:
            brush.fill(shape)
    return brush.sprite()


def _colour(person: Person, cloth: str) -> Array:
    colours: dict[str, Array] = {
        "skin": person.skin,
        "hair": person.hair,
        "shirt": person.shirt,
        "trim": person.trim,
        "trousers": person.trousers,
        "shoes": person.shoes,
    }
    return colours[cloth]


def _extent(camera: Camera, person: Person, body: Body) -> tuple[Array, Array]:
    world = np.array([body.head, *(end for limb in body.limbs for end in (limb.a, limb.b))])
    at, depth = camera.project(world)
    margin = 0.17 * person.height * camera.focal / depth.min() + 2
    return np.floor(at.min(axis=0) - margin), np.ceil(at.max(axis=0) + margin)


def _extras(person: Person, body: Body) -> list[Limb]:
    """Return the limbs for neck and bag."""
    h = person.height
    up = np.array([0.0, 0.0, h])
    neck = Limb(body.neck - 0.06 * up, body.neck, 0.03 * h, 0.028 * h, "skin")
    if not person.bag:
        return [neck]
    middle = (body.hips.sum(axis=0) + body.shoulders.sum(axis=0)) / 4
    back = middle - 0.085 * h * person.girth * body.forward
    return [neck, Limb(back - 0.05 * up, back + 0.11 * up, 0.075 * h, 0.065 * h, "trim")]


def _trunk(brush: Brush, person: Person, body: Body) -> list[Shape]:
    """Draw chest and belly with the pattern of the shirt."""
    h, g = person.height, person.girth
    ends, scale = brush.points(np.concatenate([body.hips, body.shoulders]))
    radii = np.array([0.064, 0.064, 0.042, 0.042]) * h * g * scale
    shapes = brush.hulls(ends, radii, person.shirt)
    bands = {"stripes": [(s, s + 0.11) for s in (0.12, 0.36, 0.60, 0.84)], "halves": [(-0.1, 0.42)]}
    for low, high in bands.get(person.pattern, []):
        shapes.append(Shape(_band(ends, radii * 0.95, low, high), person.trim * 0.9))
    if person.pattern == "jacket" and _faces(brush.camera, body):
        front = body.forward * 0.03 * h
        middle = np.array([body.hips.mean(axis=0) + front, body.shoulders.mean(axis=0) + front])
        (low_, high_), _ = brush.points(middle)
        centres, spokes = outlines(low_[None], high_[None], 0.26 * radii[:1], 0.5 * radii[2:3])
        shapes.append(Shape((centres + spokes)[0], person.trim))
    return shapes


def _band(ends: Array, radii: Array, low: float, high: float) -> Array:
    """Return the part (4, 2) of the trunk between two heights: 0 is the hip, 1 the shoulder."""
    corners = []
    for t in (low, high):
        across = ends[:2] + t * (ends[2:] - ends[:2])  # left and right of the body
        first, last = across[np.argsort(across[:, 0], kind="stable")]
        reach = np.array([radii[0] + t * (radii[2] - radii[0]), 0])
        corners.append((first - reach, last + reach))
    return np.array([*corners[0], *corners[1][::-1]])


def _faces(camera: Camera, body: Body) -> bool:
    return bool(body.forward @ (body.neck - [0, 0, camera.height]) < 0)


def _skirt(brush: Brush, person: Person, body: Body) -> list[Shape]:
    knees = [limb.b for limb in body.limbs if limb.cloth == "trousers"]
    ends, scale = brush.points(np.array([*body.hips, *knees]))
    radii = np.array([0.062, 0.062, 0.058, 0.058]) * person.height * person.girth * scale
    return brush.hulls(ends, radii, person.trousers)


def _head(person: Person, body: Body, *, faces_camera: bool) -> list[Limb]:
    """Return face and hair in drawing order, which depends on the direction of view."""
    r = HEAD * person.height
    front, up = r * body.forward, np.array([0.0, 0.0, r])
    chin, brow = body.head + 0.25 * front - 0.45 * up, body.head + 0.12 * front + 0.25 * up
    face = Limb(chin, brow, 0.66 * r, 0.86 * r, "skin")
    crown, nape = body.head - 0.12 * front + 0.32 * up, body.head - 0.45 * front - 0.1 * up
    cloth = {"bald": "skin", "cap": "trim"}.get(person.hair_style, "hair")
    hair = [Limb(nape, crown, 0.80 * r, 0.94 * r, cloth)]
    if person.hair_style == "long":
        hair = [Limb(body.head - 0.55 * front - 1.7 * up, crown, 0.72 * r, 0.92 * r, cloth)]
    visor = [Limb(crown, crown + 0.9 * front - 0.1 * up, 0.5 * r, 0.35 * r, cloth)]
    if person.hair_style != "cap":
        visor = []
    return [*hair, face, *visor] if faces_camera else [face, *visor, *hair]


def shade(camera: Camera, body: Body, shadow: Array, scale: float) -> None:
    """Add a person's shadow to a map (h, w) uint8 that is `scale` times the picture."""
    limbs = [
        *body.limbs,
        Limb(body.hips.mean(axis=0), body.neck, 0.2, 0.2, ""),
        Limb(body.neck, body.head, 0.08, 0.11, ""),
    ]
    ends = np.array([end for limb in limbs for end in (limb.a, limb.b)])
    ends = ends - SUN * (ends[:, 2:] / SUN[2])  # projected to the ground along the light
    at, depth = camera.project(ends)
    size = np.array([r for limb in limbs for r in (limb.radius_a, limb.radius_b)])
    radius = 0.9 * size * camera.focal / depth * scale
    at = at * scale
    for centres, spokes in zip(
        *outlines(at[::2], at[1::2], radius[::2], radius[1::2]), strict=True
    ):
        fill(shadow, centres + spokes, (255.0,))
