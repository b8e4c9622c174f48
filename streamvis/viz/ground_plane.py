"""The check picture of a ground plane: its grid, horizon and posts drawn into the picture.

    picture = check(pixels, H, points=clicked, metres=entered, notes=["camera 4.2 m high", …])

Yellow lines are 5 m apart, pale ones 1 m; posts as tall as people stand on the crossings where the
camera can be derived from the plane. Notes are below the picture.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from streamvis.calibration.ground_plane import PERSON_M, pinhole, residuals, visible
from streamvis.geometry import to_ground
from streamvis.messages import Array
from streamvis.viz.style import DARK, FARTHEST, PALE, Colour, Style, at, nice_step

WIDTH = 1280  # px at least: text must be legible beside the lines
STEPS: tuple[tuple[int, Colour, float], ...] = (  # metres between lines, colour, opacity
    (1, (236, 238, 240), 0.4),
    (5, (240, 228, 66), 0.8),
    (25, (230, 159, 0), 0.9),
)
APART_PX = 9.0  # lines nearer to each other than this would be a carpet
LABEL_PX = 90.0  # crossings nearer to each other than this stay without their coordinates
POST_PX = 40.0  # and than this, without their posts
PEOPLE_PX = 1 / 36  # of the picture's height: smaller people are not followed
POSTS = 24
SPAN_M = 400.0  # of the ground that is drawn
HORIZON: Colour = (204, 121, 167)
MARK: Colour = (213, 94, 0)
POST: Colour = (86, 180, 233)
AXES: tuple[tuple[str, Colour], ...] = (("x", (255, 90, 70)), ("y", (60, 220, 120)))

NONE = np.empty((0, 2))


def check(
    pixels: Array,
    H: Array,
    points: Array = NONE,  # (N, 2) pixels
    metres: Array = NONE,  # (N, 2)
    notes: Sequence[str] = (),
) -> Array:
    """Return the picture (H, W, 3) with the ground plane drawn on it and notes below."""
    scale = max(1.0, WIDTH / pixels.shape[1])
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    image = np.array(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    style = Style.for_size(*image.shape[:2])
    off = residuals(H, points, metres) if len(points) else (NONE, NONE)
    back = np.diag([pixels.shape[1] / size[0], pixels.shape[0] / size[1], 1])
    plane = H @ back  # of the enlarged picture
    nodes, apart = _grid(image, plane, size)
    _posts(image, plane, nodes, style)
    _coordinates(image, plane, nodes[apart > LABEL_PX], style)
    _horizon(image, plane, size, style)
    _axes(image, plane, style)
    _scale_bars(image, plane, style)
    _marks(image, plane, points / np.diag(back)[:2], metres, off, style)
    return np.concatenate([image, _strip(notes, size[0], style)])


def _grid(image: Array, H: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Draw the grid; return crossings (K, 2) of lines 5 or 25 m apart, and their distance in px."""
    M = np.linalg.inv(H)
    ground = visible(H, size, PEOPLE_PX * size[1])
    ground = ground[np.isfinite(ground).all(axis=1)]
    middle = ground.mean(axis=0)
    low = np.maximum(ground.min(axis=0), middle - SPAN_M / 2)
    high = np.minimum(ground.max(axis=0), middle + SPAN_M / 2)
    nodes, between = NONE, np.empty(0)
    for step, colour, opacity in STEPS:
        if step > 5 and len(nodes):  # for the view from a roof only
            break
        xs, ys = (
            np.arange(np.floor(a / step) * step, b + step, step)
            for a, b in zip(low, high, strict=True)
        )
        crossings = np.stack(np.meshgrid(xs, ys), axis=2).reshape(-1, 2)
        apart = _pixels_apart(M, crossings, step)
        if step > 1 and not len(nodes):
            clear = (apart > POST_PX) & _shown(M, crossings, size)
            nodes, between = crossings[clear], apart[clear]
        if not (apart > APART_PX).any():
            continue
        veil = image.copy()
        for line in _lines(xs, ys, step):
            _polyline(veil, M, line, step, colour, 1 if step == 1 else 2)
        cv2.addWeighted(veil, opacity, image, 1 - opacity, 0, dst=image)
    return nodes, between


def _lines(xs: Array, ys: Array, step: float) -> list[Array]:
    """Return each line of the grid as points (P, 2), a fifth of a step apart."""
    fine = [np.linspace(a[0], a[-1], max(2, 5 * len(a))) for a in (xs, ys)]
    along_y = [np.column_stack([np.full(len(fine[1]), x), fine[1]]) for x in xs]
    along_x = [np.column_stack([fine[0], np.full(len(fine[0]), y)]) for y in ys]
    return along_y + along_x


def _polyline(image: Array, M: Array, line: Array, step: float, colour: Colour, width: int) -> None:
    drawn = _pixels_apart(M, line, step) > APART_PX
    places, _ = to_ground(M, line)
    for run in np.split(np.arange(len(line)), np.flatnonzero(np.diff(drawn)) + 1):
        if drawn[run[0]] and len(run) > 1:
            path = places[run].clip(-FARTHEST, FARTHEST).round().astype(np.int32)
            cv2.polylines(image, [path], False, colour, width, cv2.LINE_AA)


def _pixels_apart(M: Array, metres: Array, step: float) -> Array:
    """Return the distance in px (N,) of lines `step` metres apart; 0 behind the camera."""
    _, J = to_ground(M, metres)
    sound = (metres @ M[2, :2] + M[2, 2] > 0) & np.isfinite(J).all(axis=(1, 2))
    apart = np.zeros(len(metres))
    apart[sound] = step * np.linalg.svd(J[sound], compute_uv=False)[:, 1]
    return apart


def _shown(M: Array, metres: Array, size: tuple[int, int]) -> Array:
    places, _ = to_ground(M, metres)
    return np.asarray(((places > 0) & (places < size)).all(axis=1))


def _posts(image: Array, H: Array, nodes: Array, style: Style) -> None:
    """Draw posts as tall as people; none where the camera cannot be derived from the plane."""
    height, width = image.shape[:2]
    camera = pinhole(H, (width, height))
    if camera is None or not len(nodes):
        return
    nodes = nodes[:: -(-len(nodes) // POSTS)]
    feet = np.column_stack([nodes, np.zeros(len(nodes))])
    heads = feet + np.array([0, 0, PERSON_M])
    rises = camera.project(heads) - camera.project(feet)
    for foot, rise in zip(to_ground(np.linalg.inv(H), nodes)[0], rises, strict=True):
        if np.isfinite(rise).all():
            cv2.line(image, at(foot), at(foot + rise), POST, max(2, style.line), cv2.LINE_AA)
            cv2.circle(image, at(foot + rise), 2 * style.line, POST, cv2.FILLED, cv2.LINE_AA)


def _coordinates(image: Array, H: Array, nodes: Array, style: Style) -> None:
    places, _ = to_ground(np.linalg.inv(H), nodes)
    for (x, y), place in zip(nodes.tolist(), places, strict=True):
        u, v = at(place)
        style.label(image, f"{x:g}, {y:g}", u + 5, v + style.text + 4, STEPS[1][1])


def _horizon(image: Array, H: Array, size: tuple[int, int], style: Style) -> None:
    if abs(H[2, 1]) * size[1] < 1e-9:
        return
    left, right = (-(H[2, 0] * u + H[2, 2]) / H[2, 1] for u in (0, size[0]))
    cv2.line(image, at(np.array([0, left])), at(np.array([size[0], right])), HORIZON, 3)
    if 0 < left < size[1]:
        style.label(image, "horizon", style.text, at(np.array([0, left]))[1] - style.text, HORIZON)


def _axes(image: Array, H: Array, style: Style) -> None:
    """Draw one metre along x and y from the origin, if that is in the picture."""
    M = np.linalg.inv(H)
    ends = np.array([(0, 0), (1, 0), (0, 1)], dtype=np.float64)
    height, width = image.shape[:2]
    if not (_pixels_apart(M, ends, 1) > 0).all() or not _shown(M, ends[:1], (width, height))[0]:
        return
    places, _ = to_ground(M, ends)
    for (name, colour), tip in zip(AXES, places[1:], strict=True):
        cv2.arrowedLine(image, at(places[0]), at(tip), colour, 2 * style.line, cv2.LINE_AA, 0, 0.2)
        u, v = at(tip)
        style.label(image, name, u + 6, v, colour)


def _scale_bars(image: Array, H: Array, style: Style) -> None:
    """Draw horizontal scale bars near the lower edge and in the middle."""
    height, width = image.shape[:2]
    for share in (0.55, 0.95):
        place = np.array([[0.04 * width, share * height]])
        if (place @ H[2, :2] + H[2, 2])[0] <= 0:
            continue
        across = float(np.linalg.norm(to_ground(H, place)[1][0, :, 0]))  # metres per pixel
        metres = nice_step(across * width / 5, 2)
        u, v = at(place[0])
        end = round(u + metres / across)
        for colour, thick in ((DARK, 7), (PALE, 3)):
            cv2.line(image, (u, v), (end, v), colour, thick)
            for x in (u, end):
                cv2.line(image, (x, v - 6), (x, v + 6), colour, thick)
        style.label(image, f"{metres:g} m across", u, v - style.text, PALE)


def _marks(
    image: Array, H: Array, points: Array, metres: Array, off: tuple[Array, Array], style: Style
) -> None:
    """Draw the given points as crosses and their positions by the plane as rings."""
    if not len(points):
        return
    places, _ = to_ground(np.linalg.inv(H), metres)
    arm = style.text
    for i, (point, place) in enumerate(zip(points, places, strict=True)):
        u, v = at(point)
        for start, end in (((u - arm, v), (u + arm, v)), ((u, v - arm), (u, v + arm))):
            cv2.line(image, start, end, MARK, max(2, style.line), cv2.LINE_AA)
        cv2.circle(image, at(place), max(4, arm // 2), PALE, 2, cv2.LINE_AA)
        cv2.line(image, (u, v), at(place), PALE, 1, cv2.LINE_AA)
        text = f"{i + 1}: {off[0][i]:.1f} px, {100 * off[1][i]:.1f} cm"
        style.label(image, text, u + arm, v - arm // 2, PALE)


def _strip(notes: Sequence[str], width: int, style: Style) -> Array:
    line = 2 * style.text
    strip = np.full((line * len(notes) + style.text if notes else 0, width, 3), DARK, np.uint8)
    for i, note in enumerate(notes):
        style.write(strip, note, style.text, line * (i + 1), PALE)
    return strip
