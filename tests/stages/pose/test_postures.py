"""Postures of mannequins, seen from all sides, in the picture and on the ground plane."""

import mannequin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.datasets.keypoints import FLIPPED, NAMES
from streamvis.geometry import foot
from streamvis.stages.pose.keypoints import POSTURES
from streamvis.stages.pose.postures import ground_plane, image_plane, postures
from streamvis.stages.pose.state import camera_of
from streamvis.synthetic.scene import Camera

BEGIN, END = 0.7, 0.3
WHO = mannequin.person(3)
CAMERA = camera_of(mannequin.CAMERA.homography, (640, 480))
SIDES = [-np.pi / 2, -np.pi / 4, 0.0, np.pi]  # facing the camera, or from the side
ALL_SIDES = [*SIDES, np.pi / 4, np.pi / 2, 3 * np.pi / 4]


def of_picture(points, known=None) -> dict[str, float]:
    points = np.asarray(points)[None]
    known = np.ones((1, 17), bool) if known is None else np.asarray(known)[None]
    return dict(zip(POSTURES, postures(image_plane(points), known)[0].tolist(), strict=True))


def on_ground(who: mannequin.Posed, camera: Camera = mannequin.CAMERA) -> dict[str, float]:
    feet = foot(mannequin.box_of(who, camera)[None])
    seen = camera_of(camera.homography, (camera.width, camera.height_px))
    assert seen is not None
    plane = ground_plane(mannequin.projected(who, camera)[None], feet, seen)
    return dict(zip(POSTURES, postures(plane, np.ones((1, 17), bool))[0].tolist(), strict=True))


def both(who: mannequin.Posed) -> list[dict[str, float]]:
    return [of_picture(mannequin.projected(who)), on_ground(who)]


@pytest.mark.parametrize("heading", ALL_SIDES)
@pytest.mark.parametrize("y", [6.0, 9.0, 14.0])
@pytest.mark.parametrize("body", [mannequin.standing, mannequin.bending])
def test_who_stands_or_bends_has_no_posture(body, heading, y):
    for found in both(body(WHO, heading=heading, y=y)):
        assert max(found.values()) < END


@pytest.mark.parametrize("heading", SIDES)
@pytest.mark.parametrize("y", [9.0, 14.0])
@pytest.mark.parametrize(
    ("body", "name"),
    [
        (mannequin.sitting, "sitting"),
        (mannequin.crouching, "crouching"),
        (mannequin.hands_up, "hands_up"),
    ],
)
def test_each_posture_is_clear_and_the_clearest(body, name, heading, y):
    for found in both(body(WHO, heading=heading, y=y)):
        assert found[name] >= 0.68
        assert max(found, key=found.__getitem__) == name
        assert found["fallen"] < END


@pytest.mark.parametrize("towards", np.arange(0, 2 * np.pi, np.pi / 8).tolist())
@pytest.mark.parametrize("y", [9.0, 14.0])
def test_who_lies_has_fallen_in_any_direction_that_is_not_along_the_view(towards, y):
    picture, ground = both(mannequin.fallen(WHO, towards=towards, y=y, heading=0.3))
    away = max(np.sin(towards), 0)  # feet towards the camera
    if away < 0.6:
        assert picture["fallen"] >= BEGIN
    if away < 0.6 or (away < 0.9 and y > 9):
        assert ground["fallen"] >= BEGIN
        assert max(ground[name] for name in POSTURES[1:]) < BEGIN


@pytest.mark.parametrize("degrees", [25, 35, 45])
def test_a_ground_plane_undoes_the_tilt_of_the_camera(degrees):
    camera = Camera(640, 480, height=6.0, pitch=np.radians(degrees))
    y = 6.0 / np.tan(np.radians(degrees)) + 0.5
    assert max(on_ground(mannequin.standing(WHO, y=y), camera).values()) < END
    assert on_ground(mannequin.fallen(WHO, towards=0.0, y=y), camera)["fallen"] >= BEGIN


BODIES = (
    *(mannequin.standing, mannequin.fallen, mannequin.sitting),
    *(mannequin.crouching, mannequin.bending, mannequin.hands_up),
)


@settings(max_examples=30)
@given(
    st.sampled_from(BODIES),
    st.floats(-3, 3),
    st.floats(0.1, 10),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    st.integers(0, 99),
)
def test_mirror_image_scale_and_place_keep_postures(body, heading, scale, by, seed):
    noise = np.random.default_rng(seed).normal(0, 3, (17, 2))
    points = mannequin.projected(body(WHO, heading=heading)) + noise
    expected = of_picture(points)
    mirrored = (points * [-1, 1])[FLIPPED]
    assert of_picture(mirrored) == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert of_picture(scale * points + by) == pytest.approx(expected, abs=1e-4, nan_ok=True)


def only(*names: str) -> list[bool]:
    """Which keypoints are known when all but these joints are."""
    return [not any(name.endswith(one) for one in names) for name in NAMES]


def test_what_is_hidden_leaves_postures_unknown_unless_they_are_excluded():
    lying = mannequin.projected(mannequin.fallen(WHO))
    upright = mannequin.projected(mannequin.standing(WHO))
    legs = ("knee", "ankle")
    assert np.isnan(of_picture(lying, only(*legs))["fallen"])
    assert of_picture(upright, only(*legs))["fallen"] == 0  # its trunk is upright
    assert np.isnan(of_picture(upright, only(*legs))["sitting"])
    assert np.isnan(of_picture(lying, only("shoulder"))["fallen"])
    assert of_picture(lying, only("ankle"))["fallen"] >= BEGIN  # by its knees
    assert of_picture(lying, only("left_ankle", "left_knee", "left_hip"))["fallen"] >= BEGIN
    raised = mannequin.projected(mannequin.hands_up(WHO, heading=-1.5))
    assert of_picture(raised, only(*legs))["hands_up"] >= BEGIN
    assert np.isnan(of_picture(raised, only("left_wrist"))["hands_up"])
    assert all(np.isnan(value) for value in of_picture(upright, [False] * 17).values())


def test_one_hand_up_is_no_hands_up():
    points = mannequin.projected(mannequin.hands_up(WHO, heading=-1.5))
    points[[8, 10]] = mannequin.projected(mannequin.standing(WHO, heading=-1.5))[[8, 10]]
    assert of_picture(points)["hands_up"] == 0


def test_above_the_horizon_there_is_no_upright_plane():
    assert CAMERA is not None
    points = mannequin.projected(mannequin.standing(WHO))[None]
    plane = ground_plane(points, np.array([[320.0, 20.0]]), CAMERA)
    assert np.isnan(postures(plane, np.ones((1, 17), bool))).all()


def test_a_plane_of_no_camera_gives_no_camera():
    assert camera_of(None, (640, 480)) is None
    assert camera_of(np.eye(3).ravel().tolist(), (640, 480)) is None
