"""Where the boxes of tracks are reported, between the filter's estimate and the detection."""

import numpy as np
import pytest

from streamvis.config import Jipda
from streamvis.messages import Detections, SourceInfo
from streamvis.tracking.parameters import TrackerParameters
from streamvis.tracking.reported_boxes import follow_across
from streamvis.tracking.tracker import Tracker

SIZE = (640, 480)
BOX = [300.0, 200, 340, 300]


@pytest.mark.parametrize(
    ("box", "seen", "expected"),
    [
        (BOX, [310.0, 190, 360, 320], [307.5, 200, 347.5, 300]),  # centre 320 -> 335, half the way
        (BOX, BOX, BOX),
        (BOX, [np.nan] * 4, BOX),  # not detected
        ([-12.0, 200, 28, 300], [0.0, 200, 26, 300], [-12.0, 200, 28, 300]),  # clipped on the left
        ([610.0, 200, 650, 300], [618.0, 200, 638, 300], [610.0, 200, 650, 300]),  # on the right
        ([300.0, -10, 340, 90], [310.0, 0, 350, 90], [305.0, -10, 345, 90]),  # above: centre known
    ],
)
def test_boxes_move_across_and_keep_their_size(box, seen, expected):
    found = follow_across(np.array([box]), np.array([seen]), SIZE, 0.5)
    np.testing.assert_allclose(found, [expected])


def test_a_person_who_turns_back_is_reported_nearer_to_where_the_detection_is():
    """Walks to the right for 3 s and turns: the filter's velocity still points to the right."""
    info = SourceInfo(id="a", label="a", width=640, height=480, fps=10, live=False)
    tracker = Tracker(info, Jipda(clutter=0.1))
    steps = np.concatenate([np.full(30, 4.0), np.full(2, -4.0)])
    for i, x in enumerate(100 + np.cumsum(steps)):
        box = np.array([[x - 20, 200, x + 20, 300]], dtype=np.float32)
        tracks = tracker.update(Detections.of(box, [0.9]), i * 100_000)
    estimate = tracker.space.boxes(tracker.tracks.x)[0, [0, 2]].mean()
    reported = tracks.boxes[0, [0, 2]].mean()
    assert estimate > x + 4  # px: it lags behind
    share = TrackerParameters().follow_across
    assert reported - x == pytest.approx((1 - share) * (estimate - x), abs=0.01)
