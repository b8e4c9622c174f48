"""People whose feet a thing hides: their tracks take the detections that show the feet again."""

import numpy as np
import pytest
from factories import detections, source

from streamvis.config import Jipda
from streamvis.geometry import iou
from streamvis.tracking import cut_boxes, gating, kalman, track_array
from streamvis.tracking.admission import admit
from streamvis.tracking.association import Pairs
from streamvis.tracking.parameters import TrackerParameters
from streamvis.tracking.state_space import H_STATE, GroundSpace
from streamvis.tracking.tracker import Tracker

HOMOGRAPHY = (4.0, 0.0, -1280.0, 0.0, 0.0, 1600.0, 0.0, 1.0, -100.0)  # horizon at y = 100
SIZE = (640, 480)
PARAMETERS = TrackerParameters()
SPACE = GroundSpace(np.array(HOMOGRAPHY), *SIZE)


def person(x, foot, cut=0.0):
    """The box of a person of 90 px at (x, foot), without a share of its height at the feet."""
    return [x - 15, foot - 90, x + 15, foot - 90 * cut]


def tracks_at(boxes, sigma=0.1):
    x = np.zeros((len(boxes), 6))
    x[:, [0, 1, 4, 5]] = SPACE.measure(np.array(boxes, float), np.zeros(len(boxes))).z
    tracks = track_array.blank(len(boxes), 0)
    tracks.x, tracks.P = x, np.tile(np.eye(6) * sigma**2, (len(boxes), 1, 1))
    tracks.id = np.arange(1, len(boxes) + 1)
    return tracks


def found_cut(tracks, boxes, found, likeness=None):
    nothing = np.zeros(0, np.int64)
    pairs = Pairs(nothing, nothing, np.zeros(0), np.ones(len(tracks)), len(found.boxes))
    track, detection = cut_boxes.cut_short(
        tracks, np.array(boxes, float), found, pairs, likeness, 0.5, PARAMETERS
    )
    return list(zip(track.tolist(), detection.tolist(), strict=True))


def test_who_was_cut_short_takes_the_whole_box():
    follow = Tracker(source("s", ground_plane=HOMOGRAPHY), Jipda(space="ground"))
    seen = []
    for k in range(60):
        cut = 0.09 * max(k - 30, 0) if k <= 36 else 0.0  # a sign that is walked behind
        box = person(100 + 4 * k, 300, cut)
        tracks = follow.update(detections(np.array([box])), k * 100_000)
        if k > 38:
            seen.append((tracks.ids.tolist(), tracks.detection.tolist()))
            assert iou(tracks.boxes, np.array([box])).max() > 0.7
    assert seen == [([1], [0])] * len(seen)


def test_the_detection_is_in_the_gate_of_the_wider_covariance():
    rng = np.random.default_rng(0)
    gate = gating.threshold(PARAMETERS.p_gate, 4)
    for _ in range(20):
        cut = rng.uniform(0.3, 0.6)
        tracks = tracks_at([person(200, 300, cut), person(400, 300)])
        found = admit(detections(np.array([person(200, 300)])), SPACE, SIZE)
        before = tracks.P.copy()
        at = np.array([0]), np.array([0])
        P = cut_boxes.widened(tracks, SPACE, found, *at, PARAMETERS)
        was = kalman.innovations(tracks.x, before, found.at.z, found.at.R, H_STATE, *at)
        now = kalman.innovations(tracks.x, P, found.at.z, found.at.R, H_STATE, *at)
        assert was.distance2[0] > gate
        assert now.distance2[0] <= 4  # νᵀ(diag ν² + S)⁻¹ν is at most the dimension
        assert np.linalg.eigvalsh(P).min() > 0
        np.testing.assert_array_equal(P[1], before[1])
        np.testing.assert_array_equal(tracks.P, before)


def test_a_detection_in_the_gate_widens_nothing():
    tracks = tracks_at([person(200, 300)])
    found = admit(detections(np.array([person(201, 300)])), SPACE, SIZE)
    at = np.array([0]), np.array([0])
    assert cut_boxes.widened(tracks, SPACE, found, *at, PARAMETERS) is None


def test_only_where_there_is_no_choice():
    one, near = person(200, 300, 0.4), person(206, 300)
    alone = admit(detections(np.array([person(200, 300)])), SPACE, SIZE)
    two = admit(detections(np.array([person(200, 300), near])), SPACE, SIZE)
    assert found_cut(tracks_at([one]), [one], alone) == [(0, 0)]
    assert found_cut(tracks_at([one]), [one], two) == []  # two detections
    other = person(204, 300, 0.4)
    assert found_cut(tracks_at([one, other]), [one, other], alone) == []  # two tracks
    tentative = tracks_at([one])
    tentative.id[:] = 0
    assert found_cut(tentative, [one], alone) == []


@pytest.mark.parametrize(("ratio", "taken"), [(-1.0, []), (0.0, [(0, 0)]), (3.0, [(0, 0)])])
def test_who_looks_different_is_not_taken(ratio, taken):
    one = person(200, 300, 0.4)
    found = admit(detections(np.array([person(200, 300)])), SPACE, SIZE)
    likeness = lambda i, j: np.full(len(i), ratio)  # noqa: E731
    assert found_cut(tracks_at([one]), [one], found, likeness) == taken
