"""Shapes against circles drawn point by point, and sprites against the bodies that they show."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamvis.synthetic.body import pose
from streamvis.synthetic.drawing import SUN, draw, fill, outlines, shade
from streamvis.synthetic.scene import Camera, dress

CAMERA = Camera(640, 480)
circles = st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(2, 40))


@settings(max_examples=60)
@given(circles, circles)
def test_the_outline_of_two_circles_is_their_convex_hull(one, other):
    assume(np.hypot(one[0] - other[0], one[1] - other[1]) > 0.1)
    a, b = np.array([one[:2]]), np.array([other[:2]])
    centres, spokes = outlines(a, b, np.array([one[2]]), np.array([other[2]]))
    assert centres.shape == spokes.shape == (1, 14, 2)
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], 1)
    points = np.concatenate([a + one[2] * around, b + other[2] * around])
    exact = cv2.contourArea(cv2.convexHull(points.astype(np.float32)))
    found = cv2.contourArea(cv2.convexHull((centres + spokes)[0].astype(np.float32)))
    largest = max(one[2], other[2])
    assert found <= exact + 1e-2 * exact
    assert found >= exact - 0.2 * np.pi * largest**2  # corners on the circles cut them off
    middle = a + 0.5 * (b - a)
    assert cv2.pointPolygonTest(
        cv2.convexHull((centres + spokes)[0].astype(np.float32)), middle[0].tolist(), False
    ) >= 0 or largest < np.hypot(*(b - a)[0])


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_a_filled_polygon_lies_where_it_was_asked_for_within_a_part_of_a_pixel(shift):
    canvas = np.zeros((40, 40), np.uint8)
    low, high = 10 + shift, 30 + shift
    fill(canvas, np.array([(low, 8), (high, 8), (high, 28), (low, 28)]), (255.0,))
    weights = canvas / 255
    assert 20**2 <= weights.sum() < 22**2  # OpenCV's anti-aliasing adds up to a pixel
    columns = (np.arange(40) + 0.5) @ weights.sum(0) / weights.sum()
    assert columns == pytest.approx((low + high) / 2, abs=0.1)


def sprite_of(seed: int, heading: float = 0.0, x: float = 0.5, y: float = 9.0):
    person = dress(np.random.default_rng(seed), 1)
    body = pose(person, np.array([x, y, heading, 1.0, 1.2]))
    return person, body, draw(CAMERA, person, body)


@pytest.mark.parametrize("seed", range(6))
def test_a_sprite_covers_head_feet_and_no_more_than_the_body(seed):
    person, body, sprite = sprite_of(seed, heading=seed)
    rows, columns = np.nonzero(sprite.mask)
    (head, hip), depth = CAMERA.project(np.array([body.head, body.hips.mean(0)]))
    scale = CAMERA.focal / depth[0]  # px per metre
    for point in (head, hip):
        column, row = (point - (sprite.x, sprite.y)).astype(int)
        assert sprite.mask[row, column]
    soles, _ = CAMERA.project(np.array([[*body.hips.mean(0)[:2], 0.0]]))
    bottom = sprite.y + rows.max() + 1
    assert abs(bottom - soles[0, 1]) < 0.3 * scale  # a stride before or behind the hips
    tall = rows.max() + 1 - rows.min()
    assert 0.85 * person.height * scale < tall < 1.2 * person.height * scale
    assert columns.max() - columns.min() < tall


def test_a_sprite_is_premultiplied_and_empty_at_its_border():
    for seed in range(6):
        pixels = sprite_of(seed)[-1].pixels
        assert (pixels[..., :3].max(-1) <= pixels[..., 3]).all()
        rim = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
        assert not any(side.any() for side in rim)


def test_the_same_person_further_away_is_smaller_in_proportion():
    near, far = sprite_of(2, y=8.0)[-1].mask, sprite_of(2, y=18.0)[-1].mask
    depths = [CAMERA.project(np.array([[0.5, y, 0.9]]))[1][0] for y in (8.0, 18.0)]
    assert near.sum() / far.sum() == pytest.approx((depths[1] / depths[0]) ** 2, rel=0.2)


def test_a_shadow_lies_on_the_ground_away_from_the_light():
    _, body, _ = sprite_of(1)
    shadow = np.zeros((CAMERA.height_px // 2, CAMERA.width // 2), np.uint8)
    shade(CAMERA, body, shadow, 0.5)
    head = body.head - SUN * (body.head[2] / SUN[2])
    feet = np.array([*body.hips.mean(0)[:2], 0])
    at, _ = CAMERA.project(np.array([head, (head + feet) / 2, 2 * feet - head]))
    lit = [shadow[int(v / 2), int(u / 2)] for u, v in at]
    assert lit[0] > 128
    assert lit[1] > 128
    assert lit[2] == 0
