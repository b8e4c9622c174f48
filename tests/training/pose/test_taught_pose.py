"""Keypoints of the teacher: the same in the picture whichever view they were seen in."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pose_teacher_file import LOGIT, offsets, world, write_teacher

from streamvis.training.detector.pose_teacher import SIDE, PoseTeacher, View, around
from streamvis.training.pose.taught_pose import COCO, LEFT_RIGHT, _see, probability, teach


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> PoseTeacher:
    return PoseTeacher(write_teacher(tmp_path_factory.mktemp("teacher")))


def person() -> np.ndarray:
    """A bright square of which the middle is at (160, 120)."""
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[100:140, 140:180] = 255
    return pixels


@given(st.floats(20, 900), st.floats(-3.2, 3.2), st.booleans())
def test_the_middle_of_a_view_is_its_centre_and_its_up_is_turned(side, turn, mirrored):
    view = View(np.array([70.0, -20]), side, turn, mirrored)
    affine = view.affine()
    np.testing.assert_allclose(affine @ [70, -20, 1], [SIDE / 2, SIDE / 2], atol=1e-6)
    up = np.array([math.sin(turn), -math.cos(turn)]) * side / 2
    np.testing.assert_allclose(affine @ [70 + up[0], -20 + up[1], 1], [SIDE / 2, 0], atol=1e-6)
    assert (np.linalg.det(affine[:, :2]) < 0) == mirrored


@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_landmarks_are_placed_in_the_picture(teacher, turn):
    seen = _see(teacher, person(), View(np.array([150.0, 125]), 160, turn))
    cos, sin = math.cos(turn), math.sin(turn)
    back = offsets() @ np.array([[cos, sin], [-sin, cos]]) * 160 / SIDE
    np.testing.assert_allclose(seen.landmarks, np.array([160, 120]) + back, atol=0.3)
    expected = world()
    expected[:, :2] = expected[:, :2] @ np.array([[cos, sin], [-sin, cos]])
    np.testing.assert_allclose(seen.world, expected, atol=1e-3)
    np.testing.assert_allclose(seen.confidence, (1 / (1 + math.exp(-LOGIT))) ** 2, atol=1e-4)


def test_a_mirrored_view_swaps_left_and_right(teacher):
    seen = _see(teacher, person(), around(np.array([100.0, 60, 220, 180]))._replace(mirrored=True))
    left, right = LEFT_RIGHT[4]
    scale = 1.25 * 120 / SIDE
    expected = np.array([160, 120]) + offsets()[right] * [-scale, scale]
    np.testing.assert_allclose(seen.landmarks[left], expected, atol=0.3)
    np.testing.assert_allclose(seen.world[left], world()[right] * [-1, 1, 1], atol=1e-3)


def test_a_pose_has_the_points_of_coco_and_metres_about_the_hips(teacher):
    pose = teach(teacher, person(), np.array([100.0, 60, 220, 180]))
    assert pose.points.shape == (17, 2)
    assert pose.presence == pytest.approx(1)
    np.testing.assert_allclose(pose.world[[11, 12]].mean(0), 0, atol=1e-9)
    # nose: its place in the plain views and in the mirrored ones, of which the median is taken
    nose = offsets()[COCO[0]] * 1.25 * 120 / SIDE
    np.testing.assert_allclose(pose.points[0], [160, 120 + nose[1]], atol=0.5)


@given(st.floats(0.001, 0.2), st.floats(1.01, 5), st.integers(0, 99))
def test_points_are_less_probable_the_more_views_differ(spread, more, seed):
    rng = np.random.default_rng(seed)
    middle, apart = rng.uniform(0, 100, (17, 2)), rng.normal(size=(4, 17, 2))
    apart -= apart.mean(0)
    near, far = (
        probability(middle + 100 * x * apart / 10, np.ones(17), 0.9)
        for x in (spread, spread * more)
    )
    assert (near >= far - 0.05).all()  # the size of the person changes a little with the spread
    assert near.mean() >= far.mean()


def test_a_probability_is_that_of_the_formula():
    points = np.zeros((2, 17, 2))
    points[:, 1:, 1] = 100  # the person is 100 px tall
    points[1, 0, 0] = 2  # the views of the nose are 2 px apart: 1 px from their mean
    odds = -1.556 - 1.028 * math.log(1 / 100 / 0.052) + 0.365 * math.log(9) + 0.344 * 0.5
    found = probability(points, np.full(17, 0.5), 0.9)
    assert found[0] == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-6)
    assert found[1:].min() > found[0]
