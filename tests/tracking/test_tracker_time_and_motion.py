"""Time stamps and camera motions, true ones and others, and what the tracker makes of them."""

import numpy as np
import pytest
from factories import detections
from factories import source as source_of

from streamvis.config import Jipda
from streamvis.messages import Motion, encode_part
from streamvis.tracking.tracker import Tracker

HOMOGRAPHY = (4.0, 0.0, -1280.0, 0.0, 0.0, 1600.0, 0.0, 1.0, -100.0)  # horizon at y = 100
SPACES = ["image", "ground"]


def person(x, y, height=90.0):
    """The box of someone whose foot is at (x, y)."""
    return [x - height / 6, y - height, x + height / 6, y]


def tracker(space="image", **changes):
    return Tracker(source_of("s", ground_plane=HOMOGRAPHY), Jipda(space=space, **changes))


@pytest.mark.parametrize("space", SPACES)
def test_a_time_stamp_counts_once_however_often_and_in_which_order_it_comes(space):
    """Frames that come again, or late, leave the states of the tracks as they were."""
    once, often = tracker(space), tracker(space)
    for k in range(20):
        now = k * 100_000
        found = detections([person(200 + 4 * k, 300), person(420 - 3 * k, 280)])
        once.update(found, now)
        often.update(found, now)
        for stamp in (now, now - 40_000, now - 100_000, now):
            late = often.update(detections([person(230, 310)]), max(stamp, 0))
            assert (late.detection == -1).all()
        assert often.looked_us == often.now_us == now
    assert once.tracks.pack() == often.tracks.pack()


def test_a_jump_back_in_time_is_a_cut():
    follow = tracker()
    for at in range(9_000_000, 10_000_000, 100_000):
        tracks = follow.update(detections([person(300, 300)]), at)
    assert tracks.ids.tolist() == [1]
    tracks = follow.update(detections([person(300, 300)]), 0)
    assert tracks.ended.tolist() == [1]
    for at in range(100_000, 1_000_000, 100_000):
        tracks = follow.update(detections([person(300, 300)]), at)
    assert tracks.ids.tolist() == [2]
    assert tracks.first_seen_us.tolist() == [0]


def warp_of(linear):
    return np.column_stack([linear, [3.0, 4.0]])


@pytest.mark.parametrize(
    "warp",
    [
        np.zeros((2, 3)),
        warp_of(np.ones((2, 2))),  # onto a line
        warp_of(np.diag([1.0, 1e-9])),
        warp_of(np.diag([1e9, 1e9])),
        warp_of(np.diag([-1.0, 1.0])),  # mirrored
        np.full((2, 3), np.nan),
        np.full((2, 3), np.inf),
        np.eye(3),
    ],
)
def test_a_motion_that_no_camera_makes_is_unknown_and_counted(warp):
    none, broken = tracker(camera="moving"), tracker(camera="moving")
    for k in range(10):
        found, now = detections([person(200 + 4 * k, 300)]), k * 100_000
        one = none.update(found, now)
        other = broken.update(found, now, motion=Motion(warp=warp, support=0.9))
        assert encode_part(one) == encode_part(other)
    broken.coast(1_000_000, Motion(warp=warp, support=0.9))
    assert broken.refused_motions == 11
    successor = tracker(camera="moving")
    successor.restore(broken.state())
    assert successor.refused_motions == 11


def panned(step_px, seed=0, frames=40):
    """Where a camera that is carried about looks: z·p + b of points p, (z, b) for each frame."""
    rng = np.random.default_rng(seed)
    b = np.cumsum(rng.choice([-1, 1], (frames, 2)) * [step_px, step_px / 4], axis=0)
    zoom = 1 + 0.1 * np.sin(0.2 * np.arange(frames))
    return list(zip(zoom, np.clip(b, -90, 90), strict=True))


def motion_of(view, before):
    """The warp from one view to the next."""
    (z, b), (z0, b0) = view, before
    return Motion(warp=np.column_stack([z / z0 * np.eye(2), b - z / z0 * b0]), support=0.8)


def carried(follow, views, motion_known=True, seed=1, start=0):
    """Three walkers seen by a camera: Tracks of each frame, their boxes as a fixed one has them."""
    for k, (z, b) in list(enumerate(views))[start:]:
        rng = np.random.default_rng([seed, k])
        feet = [(180 + 3 * k, 300), (300 - 2 * k, 330), (420, 290 + k)]
        boxes = np.array([person(*foot, 70.0) for foot in feet])
        boxes = z * (boxes + rng.normal(0, 1, boxes.shape)) + np.tile(b, 2)
        motion = motion_of(views[k], views[max(k - 1, 0)]) if motion_known else None
        found = detections(
            boxes, np.array([0.95, 0.9, 0.85])
        )  # the best is the first to be numbered
        tracks = follow.update(found, k * 100_000, motion=motion)
        yield tracks, (tracks.boxes - np.tile(b, 2)) / z


def test_a_camera_that_moves_sees_the_same_people_when_it_says_how():
    views = panned(30)
    fixed = [tracks for tracks, _ in carried(tracker(), [(1.0, np.zeros(2))] * len(views))]
    for camera in ("moving", "auto"):
        moving = list(carried(tracker(camera=camera), views))
        assert [tracks.ids.tolist() for tracks, _ in moving[10:]] == [[1, 2, 3]] * 30
        for a, (_, boxes) in zip(fixed[20:], moving[20:], strict=True):
            np.testing.assert_allclose(boxes, a.boxes, atol=1.0)


def test_a_shift_of_the_picture_changes_nothing_but_the_place():
    """Exactly: without zoom all noise stays as large as it was."""
    views = [(1.0, b) for _, b in panned(30)]
    still = carried(tracker(camera="moving"), [(1.0, np.zeros(2))] * len(views))
    for (a, _), (b, boxes) in zip(still, carried(tracker(camera="moving"), views), strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        np.testing.assert_allclose(boxes, a.boxes, atol=1e-3)
        np.testing.assert_allclose(b.covariance, a.covariance, rtol=1e-4)


def test_a_successor_knows_that_the_camera_moves():
    views = panned(30, frames=20)
    follow, states, expected = tracker(camera="auto"), [], []
    for tracks, _ in carried(follow, views):
        states.append(follow.state())
        expected.append(encode_part(tracks))
    moves = [not one.space.foreshortened for one in map(restored, states)]
    assert moves == sorted(moves)
    assert set(moves) == {False, True}
    for cut, state in enumerate(states[:-1], 1):
        views_left = list(carried(restored(state), views, start=cut))
        assert [encode_part(tracks) for tracks, _ in views_left] == expected[cut:]


def restored(state, **changes):
    follow = tracker(**changes)
    follow.restore(state)
    return follow


@pytest.mark.parametrize("camera", ["fixed", "auto"])
def test_a_jerky_camera_loses_people_when_its_motion_is_not_known_or_not_believed(camera):
    out = list(carried(tracker(camera=camera), panned(30), motion_known=camera == "fixed"))
    followed = [tracks.ids.tolist() == [1, 2, 3] for tracks, _ in out[10:]]
    assert not all(followed)
    assert max(max(tracks.ids, default=0) for tracks, _ in out) > 3


def test_on_the_ground_the_motion_of_the_picture_is_ignored():
    a, b = tracker("ground", camera="moving"), tracker("ground", camera="moving")
    rng = np.random.default_rng(0)
    for k in range(20):
        found = detections([person(200 + 4 * k, 300), person(400, 350)])
        warp = np.column_stack([np.eye(2), rng.normal(0, 50, 2)])
        one = a.update(found, k * 100_000)
        other = b.update(found, k * 100_000, motion=Motion(warp=warp, support=0.9))
        assert encode_part(one) == encode_part(other)
    assert encode_part(a.coast(2_000_000)) == encode_part(
        b.coast(2_000_000, Motion(warp=warp, support=0.9))
    )
