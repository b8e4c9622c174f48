"""Who leaves over the frame's border: shares of boxes, speeds across it, rates."""

import numpy as np
import pytest

from streamvis.tracking.border import at_edge, leaving_rate, outward, share_inside
from streamvis.tracking.parameters import TrackerParameters

SIZE = (640, 480)
PARAMETERS = TrackerParameters()
INSIDE = [300.0, 200, 341, 300]


@pytest.mark.parametrize(
    ("box", "velocity", "speed"),
    [
        (INSIDE, (50, 50), 0.0),
        ([-20.0, 200, 21, 300], (-50, 0), 0.5),  # out on the left
        ([-20.0, 200, 21, 300], (50, 0), 0.0),  # comes in
        ([-20.0, 200, 21, 300], (0, 50), 0.0),  # walks along the border
        ([620.0, 200, 661, 300], (50, 0), 0.5),
        ([300.0, 400, 341, 500], (10, 50), 0.5),
        ([300.0, -10, 341, 90], (10, -50), 0.5),
    ],
)
def test_speeds_across_the_border_are_in_bodies(box, velocity, speed):
    found = outward(np.array([box]), np.array([velocity], dtype=float), SIZE)
    assert found[0] == pytest.approx(speed)


def test_shares_inside_are_those_of_the_areas():
    boxes = np.array([INSIDE, [-20, 200, 20, 300], [620, 430, 660, 530], [700, 0, 741, 100]])
    np.testing.assert_allclose(share_inside(boxes, SIZE), [1, 0.5, 0.25, 0])
    assert at_edge(boxes, SIZE).tolist() == [False, True, True, True]


def test_who_walks_out_unseen_leaves_soonest():
    half = np.full(4, 0.5)
    speed, seen = np.array([0.0, 0.25, 1.0, 1.0]), np.array([False, False, False, True])
    along, out, fast, detected = leaving_rate(half, speed, seen, PARAMETERS)
    assert along < detected < out < fast
    assert out == pytest.approx(1 / PARAMETERS.lifetime_s + 0.5 / PARAMETERS.leave_s)
    whole = leaving_rate(np.ones(4), speed, seen, PARAMETERS)
    np.testing.assert_allclose(whole, 1 / PARAMETERS.lifetime_s)
