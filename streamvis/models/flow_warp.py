"""Motion extrapolation of label maps by optical flow and the geometry of a moving camera.

    before = flow_frame(earlier, None, size)
    frame = flow_frame(pixels, before, size)               # (H, W, 3) uint8 RGB, of any size
    motion = scene_motion(frame.flow, classes, movable)
    source = extrapolate(motion, classes.shape, 3.0)       # (H, W, 2) px: 3 such steps later
    warp_image(classes, source)                            # (H, W)

A point that approaches the camera plane by the share e of its distance per step and appears at r
from the focus of expansion was at r / (1 + e) one step before, and is at r / (1 − k·e) k steps
later: 1/e is the time to contact in steps (Lee 1976, "A theory of visual control of braking based
on information about time-to-collision"). The static scene moves so about one focus, and is turned
by the camera's rotation (`models/ego_motion.py`). A moving object has a focus of its own: it is
shifted and scaled as a whole. Flow is DIS (Kroeger et al. 2016), initialised by the previous flow.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.models.ego_motion import (
    CLOSE,
    NOISE,
    CameraPath,
    EgoMotion,
    across,
    continued,
    estimate_ego,
    parallax,
    rotated,
)

FINE = 2  # px of a working picture to one of the picture that flow is seen in
OBJECT_CELL = 4  # px; objects are small
CELL = 12  # px; what stands is large
FOCAL = 1.5  # heights of a picture to the focal length: 60° across 16:9
GROWTH = 0.15  # that of a thing's e, a step
NEAREST = 0.9  # k·e, at most: what would have passed the camera has left the picture
LEAST = 2  # cells of a thing; fewer stand or fall with what is around
MOST = 255  # objects
FARTHEST = 8000  # px from a picture's corner that is told apart
WHOLE = 0.2  # of a thing's motion may be unlike that of a whole; else, as parked cars in a row, it
# is taken for what stands,
STRANGER = 10  # unless it moves so many times as far as what stands does in the mean
FOOT = 5  # cells of objects from a foot to where the flow is the ground's
ALIKE = 0.4  # of the ground's motion may be unlike that of what is parked on it
DRIVEN = 2.0  # px a step, at least, of the ground's motion for telling
ROUNDS = 3  # of fits, each weighed by how well the last one explained a cell
STEPS = 5  # towards the place where something comes from


class FlowFrame(NamedTuple):
    """A grey frame with the optical flow to the frame before it."""

    grey: Array  # (⌈H/2⌉, ⌈W/2⌉) uint8
    flow: Array | None  # (⌈H/2⌉, ⌈W/2⌉, 2) float32, px to the previous place; None without one


class ObjectMotion(NamedTuple):
    """The motion of N objects: the backward flow is `shift` − q·(x − centre) per step."""

    number: Array  # (H, W) uint8, object labels from 1; 0: none
    boxes: Array  # (N, 4) px: left, top, right and bottom, the last two beyond it
    centre: Array  # (N, 2) px
    shift: Array  # (N, 2) px
    growth: Array  # (N,) e


class SceneMotion(NamedTuple):
    """The motion of a scene in one step, in cells of CELL px, and of its objects."""

    ego: EgoMotion
    e: Array  # (h, w) share of its distance by which the static scene comes nearer
    sure: Array  # (h, w) share to which it moves as the static scene does; the rest goes on
    shift: Array  # (h, w, 2) px of flow, without that of the camera's rotation
    objects: ObjectMotion


def flow_frame(pixels: Array, before: FlowFrame | None, size: tuple[int, int]) -> FlowFrame:
    """Compute the flow of a frame (…, …, 3) uint8 RGB at a working `size`, height and width."""
    return follow(grey_half_size(pixels, size), before)


def grey_half_size(pixels: Array, size: tuple[int, int]) -> Array:
    """Return the grey frame at half size, (⌈H/2⌉, ⌈W/2⌉) uint8, the input of the flow."""
    half = (-(-size[1] // FINE), -(-size[0] // FINE))
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, half, interpolation=cv2.INTER_AREA)


def follow(grey: Array, before: FlowFrame | None) -> FlowFrame:
    """Compute the flow to the previous frame, if there is one of the same size."""
    if before is None or before.grey.shape != grey.shape:
        return FlowFrame(grey, None)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(0)
    if before.flow is not None:
        dis.setPatchStride(6)  # of 8 px patches; 4 sees little more and takes twice as long
        return FlowFrame(grey, dis.calc(grey, before.grey, before.flow.copy()))
    # without an initial flow: a fine search, then a second pass from it
    dis.setPatchStride(3)
    dis.setGradientDescentIterations(30)
    found = dis.calc(grey, before.grey, None)  # type: ignore[call-overload]
    return FlowFrame(grey, dis.calc(grey, before.grey, found))


def scene_motion(flow: Array | None, classes: Array, movable: Array) -> SceneMotion | None:
    """Estimate the motion of a scene from its flow; None without one.

    classes (H, W) uint8; `movable` (K,) bool marks movable classes.
    """
    if flow is None:
        return None
    of = _sampled(classes, CELL)
    moved = _cells(flow, of.shape, CELL)
    at = _from_middle(of.shape, CELL, classes.shape)
    ego = estimate_ego(moved, at, _table(movable)[of] == 0, FOCAL * classes.shape[0])
    shift, r = parallax(moved, at, ego)
    q = -(shift * r).sum(-1) / ((r * r).sum(-1) + CLOSE**2)
    q = np.clip(_smooth(q, of), -0.5, NEAREST)
    odd = cv2.blur(np.abs(across(shift, r)), (3, 3)) / (1 + 0.3 * _length(moved))
    objects = _object_motion(flow, classes, movable, ego)
    return SceneMotion(ego, q / (1 - q), 1 / (1 + odd * odd), shift, objects)


def extrapolate(motion: SceneMotion | None, size: tuple[int, int], ahead: float) -> Array:
    """Return source positions of the frame `ahead` steps later: x and y in px, (H, W, 2) int16.

    size: height and width. Regions that enter the frame are filled from its border, disoccluded
    regions from their neighbourhood.
    """
    if motion is None:
        return _places(*size).copy()
    path = continued(motion.ego, ahead)
    source = _stand(motion, path, size, ahead)
    _uncover(source, (motion.objects.number > 0).view(np.uint8))
    _move(source, motion, path, ahead)
    return source


def warp_image(picture: Array, source: Array, how: int = cv2.INTER_NEAREST) -> Array:
    """Warp an image (H, W, …) by source positions (h, w, 2), with its border repeated."""
    at = (source, None)  # x and y are in one
    return cv2.remap(picture, *at, how, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def _stand(motion: SceneMotion, path: CameraPath, size: tuple[int, int], ahead: float) -> Array:
    """Return source positions of the static scene."""
    shape, sure = (motion.e.shape[0], motion.e.shape[1]), motion.sure
    at = _from_middle(shape, CELL, size)
    nearer = path.approach * motion.e
    grown = sure * nearer / (1 - np.minimum(nearer, NEAREST))
    rest = -ahead * (1 - sure)[..., None] * motion.shift
    # what is at r from the path's focus now is later, before the rotation, at r·(1 + grown) + rest:
    # of what is later at a cell, r is sought
    r = at - path.focus
    later = rotated(at, path.rotation.T, motion.ego.focal) - path.focus
    field = np.concatenate([grown[..., None], rest], -1).astype(np.float32)
    place, found = _centres(shape, 1), (later - rest) / (1 + grown[..., None])
    for _ in range(STEPS):
        x = (place + (found - r) / CELL).astype(np.float32)
        there = warp_image(field, x, cv2.INTER_LINEAR)
        # half-way, for beyond a growth of 1 whole steps swing
        found = (found + (later - there[..., 1:]) / (1 + there[..., :1])) / 2
    # in quarters of px, and two for rounding
    back = np.rint((found - r).clip(-FARTHEST, FARTHEST) * 4 + 2).astype(np.int16)
    cells = (shape[1] * CELL, shape[0] * CELL)
    whole = cv2.resize(back, cells, interpolation=cv2.INTER_LINEAR)
    whole >>= 2
    return cv2.add(whole[: size[0], : size[1]], _places(*size))


def _smooth(x: Array, of: Array) -> Array:
    """Average x (h, w) around each cell over the cells of its class."""
    own = (of[..., None] == np.unique(of)).astype(np.float32)  # (h, w, classes)
    around = cv2.blur(own * x[..., None], (3, 3)), cv2.blur(own, (3, 3))
    total, count = ((own * y.reshape(own.shape)).sum(-1) for y in around)
    return total / count


def _object_motion(flow: Array, classes: Array, movable: Array, ego: EgoMotion) -> ObjectMotion:
    """Segment objects by class and connected component, and fit shift and growth of each."""
    number, boxes = _apart(classes, movable)
    moved = _cells(flow, number.shape, OBJECT_CELL)
    fit = _fitted(number, moved, len(boxes))
    few = number[::4, ::4]
    still = (_length(moved[::4, ::4]) * (few == 0)).sum() / max((few == 0).sum(), 1)
    own = (fit.away <= np.maximum(WHOLE * fit.length, 1.0)) | (fit.length > STRANGER * still)
    own &= ~_parked(number, moved, ego, _from_middle(number.shape, OBJECT_CELL, classes.shape))
    # px of a thing go with it from cells, too, whose middles are beside it
    number = np.where(number, number, cv2.dilate(number, np.ones((3, 3), np.uint8)))
    number *= np.append(False, own)[number]
    size = (number.shape[1] * OBJECT_CELL, number.shape[0] * OBJECT_CELL)
    wide = cv2.resize(number, size, interpolation=cv2.INTER_NEAREST)
    wide = wide[: classes.shape[0], : classes.shape[1]]
    wide = cv2.bitwise_and(wide, cv2.LUT(classes, _table(movable)))
    return ObjectMotion(wide, boxes, fit.centre, fit.shift, fit.q / (1 - fit.q))


class Fit(NamedTuple):
    """The fitted motion of N objects and its residual."""

    centre: Array  # (N, 2) px
    shift: Array  # (N, 2) px
    q: Array  # (N,)
    length: Array  # (N,) px of the flow, in the mean
    away: Array  # (N,) px of the flow from that of a whole, in the mean, at least one


def _fitted(number: Array, motion: Array, count: int) -> Fit:
    """Fit shift and growth of `count` labelled objects to the flow (h, w, 2) of their cells."""
    inside = np.flatnonzero(number)
    which = number.ravel()[inside].astype(np.int64) - 1
    at = _centres(number.shape, OBJECT_CELL).reshape(-1, 2)[inside].astype(np.float64)
    moved = motion.reshape(-1, 2)[inside].astype(np.float64)

    def total(x: Array) -> Array:
        return np.bincount(which, x, count)

    sums = [*at.T, *moved.T, (at * at).sum(-1), (at * moved).sum(-1), _length(moved)]
    trust = np.ones(len(inside))
    cells = np.maximum(total(trust) / 9, 1)  # independent ones
    for _ in range(ROUNDS):
        sure = total(trust)
        *means, spread, along, length = (total(trust * x) / sure for x in sums)
        centre, shift = np.stack(means[:2], -1), np.stack(means[2:], -1)
        spread, along = spread - (centre * centre).sum(-1), along - (centre * shift).sum(-1)
        q = -along / (spread + (NOISE / GROWTH) ** 2 / cells)
        off = _length(moved - shift[which] + q[which, None] * (at - centre[which]))
        away = np.maximum(total(trust * off) / sure, 1.0)
        trust = 1 / (1 + (off / away[which]) ** 2)
    return Fit(centre, shift, np.clip(q, -0.5, 0.75), length, away)


def _parked(number: Array, motion: Array, ego: EgoMotion, at: Array) -> Array:
    """Whether objects, by label, move like the ground at their feet: parked cars.

    The ground below a thing, where no flow of the thing is seen, tells that of the ground at its
    foot: 1/distance rises with the way down from the horizon, which goes through the focus.
    """
    count = int(number.max())
    feet = (number[:-FOOT] > 0) & (number[1 : 1 - FOOT] == 0) & (number[FOOT:] == 0)
    rows, columns = np.nonzero(feet)
    which = number[rows, columns].astype(np.int64) - 1
    shift, foot = parallax(motion[rows, columns], at[rows, columns], ego)
    along, below = parallax(motion[rows + FOOT, columns], at[rows + FOOT, columns], ego)
    q = -(along * below).sum(-1) / ((below * below).sum(-1) + CLOSE**2)
    q *= (foot[:, 1] / np.maximum(below[:, 1], CLOSE)).clip(0, 1)
    ground = -q[:, None] * foot
    driven = np.bincount(which, _length(ground), count)
    unlike = np.bincount(which, _length(shift - ground), count)
    seen = np.bincount(which, minlength=count)
    return (driven > DRIVEN * seen) & (unlike < ALIKE * driven)


def _apart(classes: Array, movable: Array) -> tuple[Array, Array]:
    """Return object labels (h, w) uint8 of cells, from 1, and boxes (N, 4) px."""
    of = _sampled(classes, OBJECT_CELL)
    height, width = of.shape
    indices = np.flatnonzero(movable)
    # one under the other, with a row between them, so that classes are looked at together
    layers = np.zeros((max(len(indices), 1), height + 1, width), np.uint8)  # cv2 needs some
    np.equal(of, indices[:, None, None], out=layers[: len(indices), :height], casting="unsafe")
    _, apart, boxed, _ = cv2.connectedComponentsWithStats(layers.reshape(-1, width))
    boxed = boxed[1:]
    kept = np.flatnonzero(boxed[:, 4] >= LEAST)[:MOST]
    named = np.zeros(len(boxed) + 1, np.uint8)
    named[kept + 1] = np.arange(1, len(kept) + 1)
    number = named[apart].reshape(layers.shape)[:, :height].max(0)
    left, top, wide, high, _ = boxed[kept].T
    top = top % (height + 1)
    # a cell around, for px of a thing whose cell's middle is beside it
    edges = np.stack([left - 1, top - 1, left + wide + 1, top + high + 1], -1)
    return number, edges * float(OBJECT_CELL)


def _uncover(source: Array, thing: Array) -> None:
    """Where a thing would come from, let the nearest come that is none: in place."""
    taken = warp_image(thing, source)
    cells = _sampled(thing, OBJECT_CELL)
    if not taken.any() or cells.all():
        return
    _, nearest = cv2.distanceTransformWithLabels(
        cells, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    free = np.flatnonzero(cells == 0)
    there = np.zeros(int(nearest.max()) + 1, np.int32)
    there[nearest.ravel()[free]] = _pairs(_centres(cells.shape, OBJECT_CELL) + 0.5)[free]
    flat, places = _pairs(source), np.flatnonzero(taken)
    x, y = flat[places].view(np.int16).reshape(-1, 2).T.astype(np.int64) // OBJECT_CELL
    height, width = cells.shape
    cell = y.clip(0, height - 1) * width + x.clip(0, width - 1)
    flat[places] = there[nearest.ravel()[cell]]


def _pairs(xy: Array) -> Array:
    """x and y (h, w, 2), of int16 in place, as one number for each place, (h·w,) int32."""
    return np.ascontiguousarray(xy, np.int16).view(np.int32).reshape(-1)


def _move(source: Array, motion: SceneMotion, path: CameraPath, ahead: float) -> None:
    """Things to where they will be, those in front that come up quickest: in place."""
    ego, objects = motion.ego, motion.objects
    height, width = objects.number.shape
    left = 1 - np.minimum(ahead * objects.growth, NEAREST)  # of their distance
    # their own way first, then the camera's rotation
    middle = np.array([width / 2, height / 2])
    at = objects.centre - middle
    own = parallax(objects.shift, at, ego)[0]
    at = at - own * (ahead * (1 + objects.growth) / left)[:, None]
    centre = rotated(at, path.rotation, ego.focal) + middle
    for i in np.argsort(objects.growth):
        corners = (objects.boxes[i].reshape(2, 2) - objects.centre[i]) / left[i] + centre[i]
        (x0, y0), (x1, y1) = np.rint(corners).astype(int).clip(0, (width, height))
        if x0 == x1 or y0 == y1:
            continue
        x = (np.arange(x0, x1) - centre[i, 0]) * left[i] + objects.centre[i, 0]
        y = (np.arange(y0, y1) - centre[i, 1]) * left[i] + objects.centre[i, 1]
        columns = np.rint(x).astype(int).clip(0, width - 1)
        rows = np.rint(y).astype(int).clip(0, height - 1)
        own = objects.number[rows].take(columns, 1) == i + 1
        np.copyto(source[y0:y1, x0:x1, 0], columns, "unsafe", own)
        np.copyto(source[y0:y1, x0:x1, 1], rows[:, None], "unsafe", own)


@lru_cache(maxsize=32)
def _centres(shape: tuple[int, int], cell: int) -> Array:
    """Return x and y in px of cell centres, (h, w, 2) float32, read-only."""
    y, x = np.indices(shape, np.float32)
    centres = np.stack([x, y], -1) * cell + np.float32((cell - 1) / 2)
    centres.flags.writeable = False
    return centres


@lru_cache(maxsize=16)
def _from_middle(shape: tuple[int, int], cell: int, picture: tuple[int, int]) -> Array:
    """Return cell centres relative to the centre of an image (height, width), read-only."""
    middle = np.array([picture[1] / 2, picture[0] / 2], np.float32)
    centres: Array = _centres(shape, cell) - middle
    centres.flags.writeable = False
    return centres


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> Array:
    """Return x and y of pixels, (H, W, 2) int16, read-only."""
    places = _centres((height, width), 1).astype(np.int16)
    places.flags.writeable = False
    return places


def _length(x: Array) -> Array:
    """Return lengths of vectors (…, 2)."""
    return np.hypot(x[..., 0], x[..., 1])


def _table(movable: Array) -> Array:
    """Return a lookup table (256,) uint8: 255 for movable classes, else 0."""
    table = np.zeros(256, np.uint8)
    table[: len(movable)] = movable * np.uint8(255)
    return table


def _sampled(x: Array, cell: int) -> Array:
    """Sample x (H, W) at the centres of cells, (h, w)."""
    inside = x[cell // 2 :: cell, cell // 2 :: cell]
    if inside.shape == (-(-x.shape[0] // cell), -(-x.shape[1] // cell)):
        return inside
    rows, columns = (np.minimum(np.arange(0, n, cell) + cell // 2, n - 1) for n in x.shape)
    return x[np.ix_(rows, columns)]


def _cells(flow: Array, shape: tuple[int, int], cell: int) -> Array:
    """Average flow over cells, (h, w, 2) px."""
    each = cell // FINE
    spare = [max(n * each - m, 0) for n, m in zip(shape, flow.shape[:2], strict=True)]
    if any(spare):
        flow = cv2.copyMakeBorder(flow, 0, spare[0], 0, spare[1], cv2.BORDER_REPLICATE)
    whole = flow[: shape[0] * each, : shape[1] * each]
    return cv2.resize(whole, shape[::-1], interpolation=cv2.INTER_AREA) * np.float32(FINE)
