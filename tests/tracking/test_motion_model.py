"""People walk on or stand still: the prediction, and a tracker in frames that show no movement."""

import numpy as np
import pytest
from factories import detections
from factories import source as source_of
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config import Jipda
from streamvis.messages import Detections, Embeddings, encode_part
from streamvis.stages.gate import not_looked
from streamvis.tracking.motion_model import stand_still, walk_on
from streamvis.tracking.tracker import PARAMETERS, Tracker

HOMOGRAPHY = (4.0, 0.0, -1280.0, 0.0, 0.0, 1600.0, 0.0, 1.0, -100.0)  # horizon at y = 100
FPS = 10


def tracker(space: str = "image", **changes) -> Tracker:
    info = source_of("s", size=(640, 480), ground_plane=HOMOGRAPHY)
    return Tracker(info, Jipda(space=space, **changes))


def seen(x: float, y: float = 300, height: float = 90) -> Detections:
    """The detection of somebody whose foot is at (x, y)."""
    return detections([[x - height / 6, y - height, x + height / 6, y]])


def walked(follow: Tracker, frames: int, start: float = 100, speed: float = 60) -> float:
    """Follow somebody from frame 0 on; return where they are."""
    for n in range(frames):
        follow.update(seen(start + speed * n / FPS), n * 100_000)
    return start + speed * (frames - 1) / FPS


@pytest.mark.parametrize("space", ["image", "ground"])
@pytest.mark.parametrize("predict", [walk_on, stand_still])
@given(one=st.floats(0, 3), two=st.floats(0, 3), seed=st.integers(0, 1000))
def test_two_steps_are_one(predict, space, one, two, seed):
    space = tracker(space).space
    rng = np.random.default_rng(seed)
    x, root = rng.normal(0, 0.2, (3, 6)), rng.normal(0, 1, (3, 6, 6))
    x[:, :2] += space.measure(seen(100).boxes, np.zeros(1)).z[:, :2]
    x[:, 4:] += np.log([30, 90])
    P = root @ root.transpose(0, 2, 1)
    apart = predict(*predict(x, P, one, space, PARAMETERS), two, space, PARAMETERS)
    together = predict(x, P, one + two, space, PARAMETERS)
    for a, b in zip(apart, together, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-7)


def test_on_the_ground_people_grow_as_they_come_nearer_and_in_the_image_they_keep_their_size():
    ground, image = tracker("ground").space, tracker("image").space
    for space, grown in ((ground, True), (image, False)):
        x = np.zeros((1, 6))
        x[:, [0, 1, 4, 5]] = space.measure(seen(320).boxes, np.zeros(1)).z
        away = x.copy()
        x[:, 2:4] = space.measure(seen(400, y=400).boxes, np.zeros(1)).z[:, :2] - x[:, :2]
        away[:, 2:4] = -x[:, 2:4] / 4
        for start in (x, away):
            after, _ = walk_on(start, np.zeros((1, 6, 6)), 1.0, space, PARAMETERS)
            before, later = space.boxes(start)[0], space.boxes(after)[0]
            distance = (later[3] - 100) / (before[3] - 100) if grown else 1  # horizon at y = 100
            np.testing.assert_allclose(
                later[2:] - later[:2], distance * (before[2:] - before[:2]), rtol=1e-9
            )


@pytest.mark.parametrize(
    ("camera", "across", "down"),
    [("fixed", (0.2 * 90) ** 2, (0.1 * 90) ** 2), ("moving", (0.25 * 90) ** 2, (0.25 * 90) ** 2)],
)
def test_a_fixed_camera_sees_people_change_their_pace_less_in_depth(camera, across, down):
    space = tracker("image", camera=camera).space
    x = np.array([[100.0, 200, 30, -10, 3, np.log(90)]])
    _, P = walk_on(x, np.zeros((1, 6, 6)), 2.0, space, PARAMETERS)
    by_axis = P[0, :4, :4].reshape(2, 2, 2, 2)  # place or velocity, axis, the same again
    for axis, density in enumerate((across, down)):
        np.testing.assert_allclose(
            by_axis[:, axis, :, axis], density * np.array([[8 / 3, 2], [2, 2]])
        )
    assert not by_axis[:, 0, :, 1].any()


def test_who_stands_still_stays_where_they_are_and_may_set_out_at_any_time():
    x = np.array([[100.0, 200, 30, -10, 3, 4]])
    P = np.diag([1.0, 1, 25, 25, 0.01, 0.01])[None]
    x[:, 5] = np.log(90)
    later, wide = stand_still(x, P, 5.0, tracker().space, PARAMETERS)
    np.testing.assert_allclose(later, [[100, 200, 0, 0, 3, np.log(90)]], atol=1e-9)
    drift = (PARAMETERS.still_drift * 90) ** 2 * 5
    sets_out = (PARAMETERS.still_speed * 90) ** 2
    np.testing.assert_allclose(
        wide[0], np.diag([1 + drift, 1 + drift, sets_out, sets_out, 0.01, 0.01]), atol=1e-9
    )


@pytest.mark.parametrize("space", ["image", "ground"])
def test_one_look_a_second_keeps_the_track_of_somebody_who_stands(space):
    """Each frame reports it, at its place, whatever `memory_s` of 2 s says about misses."""
    follow = tracker(space)
    x = walked(follow, 15)
    for n in range(15, 20):
        follow.update(seen(x), n * 100_000)  # has stopped, and the looks linger
    for n in range(20, 320):
        part = seen(x) if n % FPS == 0 else not_looked()
        tracks = follow.update(part, n * 100_000)
        assert tracks.ids.tolist() == [1]
        assert tracks.boxes[0].tolist() == pytest.approx(seen(x).boxes[0].tolist(), abs=5)
        assert (tracks.detection[0] >= 0) == part.looked


@pytest.mark.parametrize("space", ["image", "ground"])
def test_who_stops_does_not_slide_on(space):
    """Without the knowledge that nothing moves, the box would slide out of its place."""
    held, coasted = tracker(space), tracker(space)
    x = walked(held, 15)
    walked(coasted, 15)
    for n in range(15, 19):
        still = held.update(not_looked(), n * 100_000)
        sliding = coasted.coast(n * 100_000)
    assert still.boxes[0, [0, 2]].mean() == pytest.approx(x, abs=3)
    assert sliding.boxes[0, [0, 2]].mean() > x + 20


def test_a_frame_that_is_not_looked_at_is_no_miss():
    follow = tracker()
    walked(follow, 15)
    before = follow.tracks.r.copy(), follow.tracks.hidden.copy(), follow.clutter
    for n in range(15, 30):
        follow.update(not_looked(), n * 100_000)
    assert (follow.tracks.r.tolist(), follow.tracks.hidden.tolist(), follow.clutter) == (
        before[0].tolist(),
        before[1].tolist(),
        before[2],
    )


def test_who_sets_out_again_is_the_same_person():
    follow = tracker()
    x = walked(follow, 15)
    for n in range(15, 60):
        follow.update(seen(x) if n % FPS == 0 or n < 20 else not_looked(), n * 100_000)
    for n in range(60, 90):
        tracks = follow.update(seen(x - 6 * (n - 59)), n * 100_000)  # back again
    assert tracks.ids.tolist() == [1]
    assert tracks.velocity[0, 0] == pytest.approx(-60, abs=5)


def test_who_leaves_without_being_seen_ends_after_the_memory():
    follow = tracker(memory_s=2.0)
    walked(follow, 15)
    ended = []
    for n in range(15, 45):
        part = Detections.of([], []) if n % FPS == 0 else not_looked()
        ended += follow.update(part, n * 100_000).ended.tolist()
    assert ended == [1]


@given(st.integers(15, 40))
def test_a_successor_holds_the_same_tracks(cut):
    looked = Embeddings(vectors=np.eye(1, 8, dtype=np.float32))
    none = Embeddings(vectors=np.zeros((0, 8), np.float32))

    def update(follow: Tracker, n: int) -> bytes:
        look = n % FPS == 0 or n < 18
        part, looks = (seen(184), looked) if look else (not_looked(), none)
        return encode_part(follow.update(part, n * 100_000, looks))

    whole, first, second = tracker(), tracker(), tracker()
    expected = [update(whole, n) for n in range(45)]
    assert [update(first, n) for n in range(cut)] == expected[:cut]
    second.restore(first.state())
    assert [update(second, n) for n in range(cut, 45)] == expected[cut:]
