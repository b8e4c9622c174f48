"""Time stamps and camera motions that cannot be true, and what the tracker makes of them."""

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
