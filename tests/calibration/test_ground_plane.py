"""Ground planes from what is known of a place, against cameras that are known exactly."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from streamvis.calibration import ground_plane
from streamvis.errors import UsageError
from streamvis.geometry import to_ground
from streamvis.synthetic.scene import Camera

SIZE = (640, 480)
SQUARE = np.array([(-2, 8), (2, 8), (3, 14), (-3, 14)], np.float64)
H = ground_plane.from_view(4.2, 17, 600, SIZE)


def seen(metres, plane=H):
    """Where places (N, 2) are in the picture."""
    return to_ground(np.linalg.inv(plane), np.array(metres, np.float64))[0]


def moved(plane, angle, offset):
    """The plane of the same camera in a world that is turned and shifted."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, offset[0]], [s, c, offset[1]], [0, 0, 1]]) @ plane


views = st.builds(
    lambda height, tilt, focal, angle, x, y: moved(
        ground_plane.from_view(height, tilt, focal, SIZE), angle, (x, y)
    ),
    st.floats(1, 30),
    st.floats(10, 89),
    st.floats(300, 2000),
    st.floats(0, 6.28),
    st.floats(-9e4, 9e4),
    st.floats(-100, 100),
)


@settings(max_examples=60)
@given(views, st.integers(4, 9), st.integers(0, 99))
def test_exact_points_give_back_the_plane_they_were_made_with(plane, count, seed):
    horizon = -(plane[2, 0] * SIZE[0] / 2 + plane[2, 2]) / plane[2, 1]
    corners = np.array([(40, 470), (600, 470), (500, 300), (100, 300)], np.float64)
    assume(horizon < 200 or horizon > 2000)
    more = np.random.default_rng(seed).uniform((50, 290), (600, 470), (count - 4, 2))
    pixels = np.concatenate([corners, more])
    metres, _ = to_ground(plane, pixels)
    fitted = ground_plane.fit(pixels, metres, SIZE)
    off_px, off_m = ground_plane.residuals(fitted, pixels, metres)
    assert off_px.max() < 0.01
    assert off_m.max() < 0.02
    assert (fitted[2] @ [*corners[0], 1]) > 0


def test_more_points_than_four_are_met_with_the_least_squares_in_the_picture():
    rng = np.random.default_rng(1)
    metres = rng.uniform((-5, 7), (5, 20), (9, 2))
    pixels = seen(metres) + rng.normal(0, 2, (9, 2))
    fitted = ground_plane.fit(pixels, metres, SIZE)

    def off(h):  # pixels
        return (seen(metres, np.append(h, 1).reshape(3, 3)) - pixels).ravel()

    best = least_squares(off, (H / H[2, 2]).ravel()[:8], x_scale="jac", xtol=1e-14, ftol=1e-14)
    cost = (ground_plane.residuals(fitted, pixels, metres)[0] ** 2).sum()
    assert cost == pytest.approx(2 * best.cost, rel=1e-4)


def test_every_point_counts_the_same_wherever_it_is_in_the_list():
    rng = np.random.default_rng(2)
    pixels = seen(SQUARE := np.vstack([[(-2, 8), (2, 8), (3, 14), (-3, 14)], [(0, 10), (1, 17)]]))
    pixels = pixels + rng.normal(0, 1, pixels.shape)
    a = ground_plane.fit(pixels, SQUARE, SIZE)
    order = rng.permutation(6)
    np.testing.assert_allclose(ground_plane.fit(pixels[order], SQUARE[order], SIZE), a, rtol=1e-3)


@pytest.mark.parametrize(
    ("pixels", "metres", "says"),
    [
        (seen(SQUARE)[:3], SQUARE[:3], "3 points; .* at least 4"),
        (seen(SQUARE), SQUARE * [-1, 1], "mirrored"),
        (seen(SQUARE), SQUARE[:, ::-1], "mirrored"),
        (seen(SQUARE), SQUARE[[0, 1, 3, 2]], "the horizon would run between the points, with 3, 4"),
        (seen(SQUARE) * [1, -1] + [0, 480], SQUARE * [1, -1], "above the horizon"),
        (seen([(0, 8), (0, 10), (0, 12), (2, 9)]), SQUARE, "points 1, 2 and 3 lie on a line in"),
        (seen(SQUARE), [(0, 0), (2, 1), (1, 1), (2, 2)], "points 1, 3 and 4 lie on a line on"),
        (np.full((4, 2), 7.0), SQUARE, "points 1, 2 and 3 lie on a line"),
        (seen(SQUARE), SQUARE + np.array([5e5, 5e6]), "5000 km from the origin; .* common offset"),
        (seen(SQUARE), SQUARE * np.nan, "not finite"),
    ],
)
def test_what_no_camera_above_the_ground_can_see_is_told_in_one_line(pixels, metres, says):
    with pytest.raises(UsageError, match=says) as caught:
        ground_plane.fit(np.array(pixels), np.array(metres, np.float64), SIZE)
    assert "\n" not in str(caught.value)


def test_points_along_an_edge_are_welcome_beside_others():
    metres = np.array([(-2, 8), (-2, 10), (-2, 12), (-2, 14), (2, 8), (3, 14)], np.float64)
    fitted = ground_plane.fit(seen(metres), metres, SIZE)
    np.testing.assert_allclose(fitted, H, atol=1e-4)


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("way", [1, -1])
def test_a_rectangle_may_begin_anywhere_and_go_either_way_round(first, way):
    corners = np.array([(-2, 8), (2, 8), (2, 14), (-2, 14)], np.float64)
    order = [(first + way * i) % 4 for i in range(4)]
    lengths = np.linalg.norm(np.diff(corners[order], axis=0), axis=1)
    metres = ground_plane.rectangle(seen(corners)[order], (lengths[0], lengths[1]))
    plane = ground_plane.fit(seen(corners), metres[np.argsort(order)], SIZE)
    between = to_ground(plane, seen([(0, 9), (1, 12)]))[0]
    assert np.linalg.norm(np.diff(between, axis=0)) == pytest.approx(np.hypot(1, 3), abs=1e-3)
    assert metres[0].tolist() == [0, 0]


def test_a_rectangle_with_swapped_corners_or_no_size_is_told():
    corners = seen([(-2, 8), (2, 8), (-2, 14), (2, 14)])
    with pytest.raises(UsageError, match="not in order around it"):
        ground_plane.rectangle(corners, (4, 6))
    with pytest.raises(UsageError, match="0 by 6 m"):
        ground_plane.rectangle(corners, (0, 6))


def test_a_view_is_the_camera_that_made_up_scenes_have():
    camera = Camera(width=640, height_px=480)
    plane = ground_plane.from_view(4.2, 17, camera.focal, SIZE)
    exact = np.reshape(camera.homography, (3, 3))
    np.testing.assert_allclose(plane, exact / (exact[2] @ [320, 480, 1]), atol=1e-12)
    fov = np.degrees(2 * np.arctan(320 / camera.focal))
    assert ground_plane.focal_px(fov, SIZE) == pytest.approx(camera.focal)


@pytest.mark.parametrize(
    ("height", "tilt", "focal"),
    [
        *((0, 20, 600), (4, 0, 600), (4, 91, 600), (4, 20, 0), (-1, 9, 9)),
        *((math.inf, 20, 600), (4, math.nan, 600), (4, 20, math.inf)),
    ],
)
def test_a_view_that_cannot_be_is_told(height, tilt, focal):
    with pytest.raises(UsageError, match=f"{height} m high, tilted {tilt} degrees"):
        ground_plane.from_view(height, tilt, focal, SIZE)


def test_a_camera_that_looks_into_the_sky_is_told():
    looks = ground_plane.Pinhole(
        np.array([[600, 0, 320], [0, 600, 240], [0, 0, 1.0]]),
        np.array([[1, 0, 0], [0, np.sin(1), -np.cos(1)], [0, np.cos(1), np.sin(1)]]),
        np.zeros(3),
    )
    looks = looks._replace(t=looks.R @ [0, 0, -4.2])
    with pytest.raises(
        UsageError, match=r"the horizon lies below the picture; .* must show ground"
    ):
        ground_plane.from_pinhole(looks, SIZE)


@settings(max_examples=60)
@given(st.floats(1, 30), st.floats(8, 75), st.floats(300, 3000), st.floats(0, 6.28))
def test_the_camera_can_be_told_from_its_plane(height, tilt, focal, angle):
    plane = moved(ground_plane.from_view(height, tilt, focal, SIZE), angle, (30, -7))
    camera = ground_plane.pinhole(plane, SIZE)
    assert camera is not None
    np.testing.assert_allclose(camera.centre, [30, -7, height], rtol=1e-5, atol=1e-5)
    assert camera.tilt_deg == pytest.approx(tilt, abs=1e-4)
    assert camera.K[0, 0] == pytest.approx(focal, rel=1e-5)
    place = np.array([[30 - 2 * np.sin(angle), -7 + 2 * np.cos(angle), 0.0]])
    below = seen(place[:, :2], plane)
    np.testing.assert_allclose(camera.project(place), below, rtol=1e-4, atol=1e-3)


def test_no_camera_is_made_up_where_any_would_do():
    assert ground_plane.pinhole(ground_plane.from_view(5, 90, 600, SIZE), SIZE) is None


DISTORTION = np.array([-0.12, 0.02, 0.001, -0.0005, 0.0])


def test_a_lens_without_distortion_is_a_plane_and_one_with_it_is_told_how_far_off():
    camera = ground_plane.pinhole(H, SIZE)
    plane, off_px = ground_plane.from_lens(camera, np.zeros(5), SIZE)
    np.testing.assert_allclose(plane, H, atol=1e-4)
    assert off_px < 0.01
    plane, off_px = ground_plane.from_lens(camera, DISTORTION, SIZE)
    places = np.stack(np.meshgrid(np.linspace(-9, 9, 25), np.linspace(6, 25, 20)), 2).reshape(-1, 2)
    world = np.column_stack([places, np.zeros(len(places))])
    rotation, _ = cv2.Rodrigues(camera.R)
    shown, _ = cv2.projectPoints(world, rotation, camera.t, camera.K, DISTORTION)
    shown = shown[:, 0]
    inside = ((shown > 0) & (shown < SIZE)).all(axis=1)
    fitted = ground_plane.residuals(plane, shown[inside], places[inside])[0].max()
    unbent = ground_plane.residuals(H, shown[inside], places[inside])[0].max()
    assert fitted < off_px * 1.1  # which was looked for on another grid
    assert fitted < 0.7 * unbent


def test_a_camera_below_the_ground_is_told():
    camera = ground_plane.pinhole(H, SIZE)
    upside = camera._replace(t=camera.R @ [0, 0, 4.2])
    with pytest.raises(UsageError, match=r"-4.2 m above the ground; expected R and t"):
        ground_plane.from_pinhole(upside, SIZE)


def test_a_survey_is_what_a_ruler_finds():
    found = ground_plane.plane_properties(H, SIZE)
    assert found.horizon_row == pytest.approx(240 - 600 * np.tan(np.radians(17)))

    def ruler(u, v, du, dv):
        ends, _ = to_ground(H, np.array([[u - du, v - dv], [u + du, v + dv]]) / 1.0)
        return np.linalg.norm(ends[1] - ends[0]) / 2e-3

    for scale, row in ((found.middle, 240), (found.bottom, 480)):
        assert scale == pytest.approx((ruler(320, row, 1e-3, 0), ruler(320, row, 0, 1e-3)))
    worst = {v: max(ruler(320, v, 1e-3, 0), ruler(320, v, 0, 1e-3)) for v in range(60, 480)}
    assert found.reach_row == min(v for v, metres in worst.items() if metres < 0.5)
    ends, _ = to_ground(H, np.array([[320, found.reach_row], [320, 480]]))
    assert found.reach_m == pytest.approx(np.linalg.norm(ends[1] - ends[0]))


def test_a_survey_of_a_look_straight_down_has_no_horizon_and_reaches_everywhere():
    found = ground_plane.plane_properties(ground_plane.from_view(6, 90, 600, SIZE), SIZE)
    assert (found.horizon_row, found.reach_row, found.camera) == (None, 0, None)
    assert found.middle == pytest.approx((0.01, 0.01))


def test_a_survey_where_the_upper_half_is_sky_has_no_middle():
    found = ground_plane.plane_properties(ground_plane.from_view(2, 0.1, 600, SIZE), SIZE)
    assert found.middle is not None
    level = ground_plane.from_view(2, 5, 600, (640, 100))
    lowered = level @ np.array([[1, 0, 0], [0, 1, -300], [0, 0, 1]])  # cropped: more sky above
    found = ground_plane.plane_properties(lowered / (lowered[2] @ [320, 400, 1]), (640, 400))
    assert found.middle is None


@settings(max_examples=60)
@given(views, st.floats(5, 200))
def test_the_visible_ground_is_in_the_picture(plane, person_px):
    ground = ground_plane.visible(plane, SIZE, person_px)
    assert np.isfinite(ground).all()
    pixels = seen(ground, plane)
    assert (pixels > -0.1).all()
    assert (pixels < np.array(SIZE) + 0.1).all()
