"""The map beside the picture: who is where on it, and that it stays where it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.calibration.ground_plane import from_view
from streamvis.geometry import to_ground
from streamvis.messages import Tracks
from streamvis.stages.track.ground_map import GroundMap, Trail, follow, widen
from streamvis.viz.style import DARK, colour_of

SIZE = (640, 480)
H = from_view(5, 25, 600, SIZE)  # the camera at the origin, y ahead of it
GROUND = GroundMap(H, *SIZE)
NAN = float("nan")


def people(places, velocity=None, covariance=None, space="ground"):
    """Tracks that stand at these places (N, 2), metres."""
    places = np.reshape(np.array(places, np.float64), (-1, 2))
    n = len(places)
    feet, _ = to_ground(np.linalg.inv(H), places)
    ground = np.full((n, 2), NAN) if space == "image" else places
    still = np.zeros((n, 2), np.float32) if velocity is None else np.array(velocity, np.float32)
    spread = np.zeros((n, 2, 2)) if covariance is None else np.array(covariance)
    metric = space == "ground"
    return Tracks(
        ids=np.arange(1, n + 1),
        boxes=np.hstack([feet - (10, 60), feet + np.array([10, 0])]).astype(np.float32),
        scores=np.ones(n, np.float32),
        existence=np.ones(n, np.float32),
        velocity=np.zeros((n, 2), np.float32),
        covariance=np.ones((n, 4), np.float32),
        ground=ground.astype(np.float32),
        entropy=np.zeros(n, np.float32),
        gated=np.ones(n, np.int32),
        detection=np.arange(n),
        first_seen_us=np.zeros(n, np.int64),
        ended=np.zeros(0, np.int64),
        space=space,
        ground_velocity=still if metric else None,
        ground_covariance=spread.astype(np.float32) if metric else None,
    )


def spot(place, ground=GROUND, view=None):
    """Where a place (2,) is drawn, by the view's own arithmetic: column and row."""
    x1, y1, x2, y2 = view or ground.view
    scale = min(ground.width / (x2 - x1), ground.height / (y2 - y1))
    x, y = ground.turn @ place
    column = ground.width / 2 + (x - (x1 + x2) / 2) * scale
    return round(column), round(ground.height / 2 - (y - (y1 + y2) / 2) * scale)


def drawn(tracks=None, trails=None, view=None):
    return GROUND.draw(view or GROUND.view, tracks, trails or {}).astype(int)


def changed(before, after):
    rows, columns = np.nonzero(np.abs(after - before).max(axis=2) > 40)
    return columns, rows


@pytest.mark.parametrize("space", ["ground", "image"])
def test_people_stand_on_the_map_where_they_stand_in_the_world(space):
    places = [(0.0, 9.0), (-1.5, 12.0)]
    picture = drawn(people(places, space=space))
    for i, place in enumerate(places):
        column, row = spot(place)
        assert np.abs(picture[row, column] - colour_of(i + 1)).max() < 30


@pytest.mark.parametrize("quarter", range(4))
def test_left_in_the_picture_is_left_on_the_map_however_the_world_lies(quarter):
    angle = np.radians(90 * quarter + 20)
    R = np.array(
        [[np.cos(angle), -np.sin(angle), 3], [np.sin(angle), np.cos(angle), -8], [0, 0, 1]]
    )
    turned = GroundMap(R @ H, *SIZE)
    near, left, far = ((R @ [*place, 1])[:2] for place in [(0, 9), (-2, 9), (0, 13)])
    assert spot(left, turned)[0] < spot(near, turned)[0]
    assert spot(left, turned)[1] == pytest.approx(spot(near, turned)[1], abs=1)
    assert spot(far, turned)[1] < spot(near, turned)[1]


def test_arrows_and_ellipses_are_in_metres():
    at = (0.0, 10.0)
    x1, _, x2, _ = GROUND.view
    scale = min(GROUND.width / (x2 - x1), GROUND.height / (GROUND.view[3] - GROUND.view[1]))
    still = drawn(people([at]))
    columns, rows = changed(still, drawn(people([at], velocity=[(-2.0, 0.0)])))
    assert np.ptp(columns) == pytest.approx(2.0 * 1.5 * scale, abs=12)  # 2 m/s for 1.5 s
    assert columns.max() <= spot(at)[0] + 2
    wide = [[[0.25, 0.0], [0.0, 0.04]]]  # σ 0.5 m across, 0.2 m along
    columns, rows = changed(still, drawn(people([at], covariance=wide)))
    assert np.ptp(columns) == pytest.approx(4 * 0.5 * scale, abs=4)
    assert np.ptp(rows) == pytest.approx(4 * 0.2 * scale, abs=4)


def test_trails_lie_in_metres_and_fade():
    walked = np.column_stack([np.linspace(-2, 2, 30), np.full(30, 11.0)])
    trail = Trail(np.full((30, 2), NAN), walked, np.linspace(0, 1, 30))
    columns, rows = changed(drawn(), drawn(trails={1: trail}))
    (first, row), (last, _) = spot(walked[0]), spot(walked[-1])
    assert (columns.min(), columns.max()) == pytest.approx((first, last), abs=12)
    assert rows.min() - 4 <= row <= rows.max() + 4
    strength = np.abs(drawn(trails={1: trail}) - drawn()).sum(axis=2).max(axis=0)
    assert strength[first + 10 : first + 40].mean() < strength[last - 40 : last - 10].mean()


def test_the_map_begins_with_the_ground_that_is_seen_and_its_size_never_changes():
    x1, y1, x2, y2 = GROUND.view
    nearest, _ = to_ground(H, np.array([[320.0, 480.0]]))
    assert x1 < 0 < x2
    assert y1 < nearest[0, 1] < y2 < 60
    far = widen(GROUND.view, np.array([[0.0, 70.0]]))
    assert drawn(view=far).shape == drawn().shape == (480, GROUND.width, 3)
    assert GROUND.width % 2 == 0
    lit = drawn()[spot((0, 10))[1] + 40, spot((0, 10))[0] + 15]
    assert (lit > np.array(DARK)).all()


def test_the_view_grows_in_steps_and_never_shrinks():
    view = (0.0, 0.0, 10.0, 10.0)
    assert widen(view, np.array([[NAN, 1.0]])) == view
    assert widen(view, np.array([[5.0, 5.0], [8.9, 1.1]])) == view
    assert widen(view, np.array([[-1.0, 5.0], [5.0, 14.5]])) == (-5.0, 0.0, 10.0, 20.0)
    assert widen(view, np.array([[1e7, 5.0], [5.0, -np.inf]])) == view  # gone wild at the horizon
    assert widen(view, np.empty((0, 2))) == view


def test_the_view_moves_smoothly_and_arrives():
    view, goal = (0.0, 0.0, 10.0, 10.0), (-5.0, 0.0, 10.0, 20.0)
    heights = []
    for _ in range(100):
        view = follow(view, goal, 0.04)
        heights.append(view[3])
    steps = np.diff([10.0, *heights])
    assert (steps >= 0).all()
    assert steps.max() < 1.0  # metres in a fortieth of the way
    assert view == goal
    back = (1.0, 0.0, 5.0, 5.0)
    assert follow(back, goal, -1.0) == back  # a clock that goes back moves nothing


anywhere = st.floats(-1e6, 1e6) | st.sampled_from([NAN, float("inf"), -1e30])


@settings(max_examples=40)
@given(
    st.lists(st.tuples(anywhere, anywhere), max_size=3),
    st.sampled_from([(8, 8), (64, 48), (320, 240), (1920, 400)]),
    st.floats(0, 1e3),
)
def test_no_place_is_too_wild_to_draw(places, size, far):
    ground = GroundMap(from_view(5, 25, size[0], size), *size)
    with np.errstate(all="ignore"):
        found = people(places, velocity=places, covariance=[[[far, 0], [0, far]]] * len(places))
    trail = Trail(np.zeros((2, 2)), np.array([(NAN, 0), (1e30, -1e30)]), np.ones(2))
    view = widen(ground.view, ground.turned(ground.places(found)))
    assert ground.draw(view, found, {1: trail}).shape == (size[1], ground.width, 3)


def test_a_camera_that_looks_straight_down_has_a_map_too():
    down = GroundMap(from_view(8, 90, 500, SIZE), *SIZE)
    assert spot((-1, 0), down)[0] < spot((1, 0), down)[0]
    assert np.subtract(down.view[2:], down.view[:2]).max() < 16


@pytest.mark.parametrize("last_row", [(0, 1, -480.0), (0, -1, 480.0), (1, 0, -320.0), (1, 1, -800)])
def test_a_horizon_through_the_lower_edge_of_the_picture_leaves_a_map(last_row):
    """Its middle has no place on the ground, so that it does not tell which side is below."""
    H = np.array([(1, 0, 0), (0, 1, 0), last_row], float)
    shown = GroundMap(H, 640, 480)
    assert np.isfinite(shown.view).all()
    assert shown.draw(shown.view, None, {}).shape == (480, shown.width, 3)
