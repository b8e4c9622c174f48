"""Image or ground: by the size of gates on planes from steep to grazing, and what follows."""

import math

import msgspec
import numpy as np
import pytest
from factories import detections
from factories import source as source_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamvis.config import Jipda
from streamvis.errors import ConfigError
from streamvis.messages import encode_part
from streamvis.synthetic.scene import Camera
from streamvis.tracking.space_choice import MOST_GATE_M2, choose_space, gate_size
from streamvis.tracking.state_space import UNEVEN_M, GroundSpace, ImageSpace
from streamvis.tracking.tracker import Tracker, TrackerState

WIDTH, HEIGHT = 1280, 720
STEEP, GRAZING = (8.0, 35.0), (1.7, 2.0)  # m above the ground, degrees below the horizon
# the homography of PETS09-S2L1, whose camera is on a building
PETS = (
    *(0.05345140448574646, -0.6041246001254676, 88.57655060805672),
    *(-0.1393037539463731, -0.39981067832345185, 120.41751904079723),
    *(0.0009174801655896033, 0.019625301612511713, 1.0),
)


def camera(height, pitch, size=(WIDTH, HEIGHT)):
    return Camera(*size, height=height, pitch=math.radians(pitch))


def plane(height, pitch, size=(WIDTH, HEIGHT)):
    return tuple(np.ravel(camera(height, pitch, size).homography).tolist())


def source(homography, size=(WIDTH, HEIGHT)):
    return source_of("s", width=size[0], height=size[1], ground_plane=homography)


def test_the_ground_is_taken_where_the_camera_is_high_and_the_image_where_the_plane_is_grazing():
    for view in ((12, 60), (8, 35), (7, 28), (6, 15)):
        assert choose_space(source(plane(*view)), "auto").space == "ground"
    for view in ((2.5, 6), (2, 5), (1.7, 2), (1.5, 0)):
        assert choose_space(source(plane(*view)), "auto").space == "image"
    assert choose_space(source(PETS, (768, 576)), "auto").space == "ground"


def test_a_lower_camera_has_larger_gates():
    sizes = [
        gate_size(np.reshape(plane(h, p), (3, 3)), WIDTH, HEIGHT)
        for h, p in ((12, 50), (9, 35), (6, 20), (4, 10), (2, 5))
    ]
    assert sizes == sorted(sizes)


@settings(max_examples=40)
@given(st.floats(2, 12), st.floats(3, 50), st.floats(0.5, 3), st.floats(0, 6.28))
def test_the_choice_depends_on_neither_resolution_nor_the_origin_and_north_of_the_plan(
    height, pitch, zoom, turn
):
    H = np.reshape(plane(height, pitch), (3, 3))
    size = gate_size(H, WIDTH, HEIGHT)
    moved = np.array(
        [
            [math.cos(turn), -math.sin(turn), 30.0],
            [math.sin(turn), math.cos(turn), -7.0],
            [0.0, 0.0, 1.0],
        ]
    )
    larger = np.diag([1 / zoom, 1 / zoom, 1.0])
    scaled = gate_size(-3.0 * moved @ H @ larger, WIDTH * zoom, HEIGHT * zoom)
    assert scaled == pytest.approx(size, rel=1e-6)


@example([-237.75, -227.75, -10.0, 1007.75, 966.75, 41.0, 1.0, 0.0, 1.0])
@settings(max_examples=200)
@given(st.lists(st.floats(-1e4, 1e4), min_size=9, max_size=9))
def test_no_plane_that_can_be_inverted_breaks_the_choice(numbers):
    if not abs(np.linalg.det(np.reshape(numbers, (3, 3)))) >= 1e-12:
        return
    assert choose_space(source(tuple(numbers)), "auto").space in ("image", "ground")


def test_a_horizon_through_the_lower_edge_shows_nobody():
    through = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, -float(HEIGHT))
    assert choose_space(source(through), "auto").gate_m2 == 0.0


def test_the_noise_that_a_gate_is_made_of_is_that_of_feet_on_the_ground():
    """Against detections of one person, drawn with the detector's noise."""
    view = camera(*STEEP)
    H = np.reshape(view.homography, (3, 3))
    space = GroundSpace(H, WIDTH, HEIGHT)
    foot = np.array([WIDTH / 2, HEIGHT / 2])
    at = space.measure(np.array([[foot[0] - 15, foot[1] - 90, foot[0] + 15, foot[1]]]), np.zeros(1))
    rng = np.random.default_rng(0)
    feet = foot + rng.normal(0, 0.035 * 90, (4000, 2))
    boxes = np.column_stack([feet - (15, 90), feet + (15, 0)])  # noqa: RUF005 - arrays
    z = space.measure(boxes, np.zeros(len(feet))).z[:, :2]
    noise = at.R[0, :2, :2] - UNEVEN_M**2 * np.eye(2)
    assert np.sqrt(np.linalg.det(np.cov(z.T))) == pytest.approx(
        np.sqrt(np.linalg.det(noise)), rel=0.1
    )


def test_the_setting_and_a_missing_plane_decide_before_the_plane():
    grazing = source(plane(*GRAZING))
    assert choose_space(grazing, "ground").space == "ground"
    assert choose_space(source(plane(*STEEP)), "image").space == "image"
    assert choose_space(source(None), "auto").space == "image"
    with pytest.raises(ConfigError, match="no ground plane"):
        choose_space(source(None), "ground")
    told = choose_space(grazing, "auto")
    assert told.gate_m2 > MOST_GATE_M2
    assert told.text.startswith("image: ")
    assert f"more than {MOST_GATE_M2:g} m²" in told.text


def walked(view, seconds=3.0):
    """A tracker with `space: auto`, its last tracks of one who walks across, and where he is."""
    eye = camera(*view)
    follow = Tracker(source(plane(*view)), Jipda())
    for k in range(round(10 * seconds)):
        place = np.array([-2.0 + 0.12 * k, 9.0])
        foot = eye_foot(eye, place)
        tall = eye_tall(eye, place)
        box = [foot[0] - tall / 6, foot[1] - tall, foot[0] + tall / 6, foot[1]]
        tracks = follow.update(detections([box]), k * 100_000)
    return follow, tracks, place


def eye_foot(eye, place):
    u = np.linalg.inv(np.reshape(eye.homography, (3, 3))) @ [*place, 1]
    return u[:2] / u[2]


def eye_tall(eye, place):
    """Pixels of 1.7 m across the view at a place."""
    side = 0.85 * np.array([1.0, 0.0])
    return float(np.linalg.norm(eye_foot(eye, place + side) - eye_foot(eye, place - side)))


@pytest.mark.parametrize(("view", "space"), [(STEEP, "ground"), (GRAZING, "image")])
def test_people_have_places_speeds_and_errors_in_metres_in_either_space(view, space):
    follow, tracks, place = walked(view)
    assert tracks.space == follow.space.name == space
    assert tracks.ids.tolist() == [1]
    np.testing.assert_allclose(tracks.ground[0], place, atol=0.15)
    np.testing.assert_allclose(tracks.ground_velocity[0], [1.2, 0.0], atol=0.2)
    assert (np.linalg.eigvalsh(tracks.ground_covariance[0].astype(np.float64)) > 0).all()


def test_the_error_in_metres_is_that_of_the_foot_projected():
    """Against the finite differences of the projection."""
    space = GroundSpace(np.reshape(plane(*GRAZING), (3, 3)), WIDTH, HEIGHT)
    x = np.array([[600.0, 300.0, 30.0, -4.0, math.log(60.0), math.log(180.0)]])
    root = np.random.default_rng(1).normal(0, 0.05, (6, 6)) * [20, 20, 1, 1, 0.5, 0.5]
    P = (root.T @ root)[None]

    def foot_on_ground(state):
        return ImageSpace(space).on_ground(state[None], P).place[0]

    steps = 1e-5 * np.eye(6)
    G = np.stack([(foot_on_ground(x[0] + d) - foot_on_ground(x[0] - d)) / 2e-5 for d in steps], 1)
    found = ImageSpace(space).on_ground(x, P)
    np.testing.assert_allclose(
        found.covariance[0], G @ P[0] @ G.T + 0.1**2 * np.eye(2), rtol=1e-4, atol=1e-8
    )
    np.testing.assert_allclose(found.velocity[0], G[:, :2] @ x[0, 2:4], rtol=1e-4)


def test_who_stands_too_near_the_horizon_has_no_place():
    space = ImageSpace(GroundSpace(np.reshape(plane(*GRAZING), (3, 3)), WIDTH, HEIGHT))
    horizon = HEIGHT / 2 - math.tan(math.radians(GRAZING[1])) * 1000
    x = np.array([[600.0, horizon - h, 0.0, 0.0, 3.0, math.log(60.0)] for h in (55.0, 200.0)])
    found = space.on_ground(x, np.stack([np.eye(6)] * 2))
    for values in found:
        assert np.isnan(values).all()


def test_without_a_plane_or_by_the_setting_nobody_has_a_place():
    for homography, setting in ((None, "auto"), (plane(*STEEP), "image")):
        follow = Tracker(source(homography), Jipda(space=setting))
        for k in range(5):
            tracks = follow.update(detections([[600, 300, 660, 480]]), k * 100_000)
        assert np.isnan(tracks.ground).all()
        assert tracks.ground_velocity is None
        assert tracks.ground_covariance is None


@pytest.mark.parametrize("view", [STEEP, GRAZING])
def test_a_successor_goes_on_in_the_space_of_the_state(view):
    follow, _, _ = walked(view)
    successor = Tracker(source(plane(*view)), Jipda())
    successor.restore(follow.state())
    found = detections([[600, 300, 660, 480]])
    assert encode_part(successor.update(found, 3_100_000)) == encode_part(
        follow.update(found, 3_100_000)
    )


def test_tracks_that_were_on_the_ground_stay_there_when_the_run_is_resumed():
    """Whatever `auto` says now: a state of metres is no state of pixels."""
    view = source(plane(*GRAZING))
    before = Tracker(view, Jipda(space="ground"))
    for k in range(5):
        before.update(detections([[600, 300, 660, 480]]), k * 100_000)
    after = Tracker(view, Jipda())
    assert after.space.name == "image"
    after.restore(before.state())
    assert after.space.name == "ground"
    after.resize(WIDTH // 2, HEIGHT // 2)
    assert after.space.name == "ground"
    assert msgspec.msgpack.decode(after.state(), type=TrackerState).space == "ground"
