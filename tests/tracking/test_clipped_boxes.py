"""Boxes at the border: completion by the shape of people, noise against samples, whole scenes."""

import numpy as np
import pytest
from factories import source
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from streamvis.config import Jipda
from streamvis.messages import Detections
from streamvis.tracking.clipped_boxes import ASPECT, SIGMA_CLIPPED, complete
from streamvis.tracking.state_space import ImageSpace
from streamvis.tracking.tracker import Tracker

SIZE = (640, 480)
WHOLE = np.zeros(1)

sides = st.tuples(st.floats(-80, 600), st.floats(-80, 440), st.floats(8, 80), st.floats(30, 200))
everywhere = sides.map(lambda b: np.array([[b[0], b[1], b[0] + b[2], b[1] + b[3]]]))


def clip(boxes):
    return np.clip(boxes, 0, np.tile(SIZE, 2))


@given(everywhere)
def test_a_completed_box_keeps_what_is_seen_and_grows_outward_alone(box):
    seen = clip(box)
    if (seen[:, 2:] - seen[:, :2] < 1).any():
        return
    whole, clipped = complete(seen, SIZE)
    np.testing.assert_allclose(clip(whole), seen, atol=2.5)
    assert (whole[~clipped] == seen[~clipped]).all()
    assert (whole[:, :2] <= seen[:, :2]).all()
    assert (whole[:, 2:] >= seen[:, 2:]).all()


@pytest.mark.parametrize(
    ("true", "edge"),
    [
        ([-30, 200, 11, 300], 0),
        ([620, 200, 661, 300], 2),
    ],
)
def test_a_person_of_the_usual_shape_is_completed_exactly(true, edge):
    true = np.array([true], dtype=float)
    true[:, 2:] = true[:, :2] + [ASPECT * 100, 100]
    whole, clipped = complete(clip(true), SIZE)
    np.testing.assert_allclose(whole, true, atol=1e-6)
    assert np.flatnonzero(clipped[0]).tolist() == [edge]


def test_where_both_sides_are_clipped_nothing_tells_the_size():
    corner = np.array([[0.0, 400, 20, 480], [0, 0, 640, 480], [300, 430, 341, 480]])
    whole, clipped = complete(corner, SIZE)
    np.testing.assert_array_equal(whole, corner)
    no, yes = False, True
    assert clipped.tolist() == [[yes, no, no, no], [yes, no, yes, no], [no, no, no, no]]


def test_noise_of_a_clipped_edge_is_that_of_samples_of_the_edge():
    box = np.array([[600.0, 200, 640, 300]])
    rng = np.random.default_rng(0)
    small = 0.02  # linear in the edge, for the size is a logarithm
    edges = np.tile(box, (50_000, 1))
    edges[:, 2] += small * SIGMA_CLIPPED * 40 * rng.normal(size=len(edges))
    z = ImageSpace().measure(edges, np.zeros(len(edges))).z
    right = np.array([[False, False, True, False]])
    with_, without = (ImageSpace().measure(box, WHOLE, c).R[0] for c in (right, None))
    np.testing.assert_allclose((with_ - without) * small**2, np.cov(z.T), atol=2e-3)
    assert np.corrcoef(z[:, 0], z[:, 2])[0, 1] > 0.99


def test_the_edge_that_is_seen_stays_as_sure_as_without_the_border():
    """The left edge is centre less half the width: along it, the right edge's noise is nothing."""
    box = np.array([[600.0, 200, 640, 300]])
    at = ImageSpace().measure(box, WHOLE, np.array([[False, False, True, False]]))
    left = np.array([1, 0, -20.0, 0])  # derivative of the left edge: 1 and −w / 2
    size_noise = ImageSpace().measure(box, WHOLE).R[0]
    assert left @ at.R[0] @ left == pytest.approx(left @ size_noise @ left)
    assert multivariate_normal(at.z[0], at.R[0]).logpdf(at.z[0]) < multivariate_normal(
        at.z[0], size_noise
    ).logpdf(at.z[0])


def walk_out(speed, width, fps=10.0):
    """Follow one who walks over the right edge: true box, tracked boxes and velocities by frame."""
    tracker = Tracker(source("s", size=SIZE), Jipda(space="image"))
    rows = []
    for k in range(round((240 / speed + 2.5) * fps)):
        x = 400 + speed * k / fps
        true = np.array([[x, 200, x + width, 300]])
        seen = clip(true)
        boxes = seen if seen[0, 2] - seen[0, 0] > 8 else np.zeros((0, 4))
        tracker.update(Detections.of(boxes, np.full(len(boxes), 0.9)), round(k / fps * 1e6))
        mine = tracker.tracks.take(tracker.tracks.id > 0)
        rows.append((true[0], tracker.space.boxes(mine.x), mine.x[:, 2]))
    return rows


@pytest.mark.parametrize("speed", [40.0, 80.0, 160.0])
@pytest.mark.parametrize("width", [34.0, 41.0, 50.0])
def test_who_walks_out_keeps_speed_and_size_and_is_forgotten(speed, width):
    """Clipped boxes as they are halve the speed and the width of the slowest."""
    rows = walk_out(speed, width)
    cut = [row for row in rows if 645 < row[0][2] < 640 + 0.7 * width]
    assert cut
    for true, boxes, velocity in cut:
        assert velocity[0] == pytest.approx(speed, rel=0.25)
        assert boxes[0, 2] - boxes[0, 0] == pytest.approx(width, rel=0.2)
        assert boxes[0, 0] == pytest.approx(true[0], abs=3)
    assert len(rows[-1][1]) == 0


def test_a_track_begins_with_the_correlations_of_its_box():
    tracker = Tracker(source("s", size=SIZE), Jipda(space="image"))
    tracker.update(Detections.of([[620, 200, 640, 300]], [0.9]), 0)
    P = tracker.tracks.P[0]
    left = np.array([1, 0, 0, 0, -41 / 2, 0])
    assert P[0, 4] > 0
    assert left @ P @ left < P[0, 0] + P[4, 4] * left[4] ** 2
    assert np.linalg.eigvalsh(P).min() > 0
