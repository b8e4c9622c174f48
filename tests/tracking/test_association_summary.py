"""What is reported of the association of each track, against sums over the matrix β."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamvis.tracking.association import Pairs
from streamvis.tracking.association_summary import join_newborn, summarise, without_detections


def random_beta(seed, n, m):
    """β (N, M + 1), some detections outside the gates, and the admitted detections."""
    rng = np.random.default_rng(seed)
    beta = rng.exponential(size=(n, m + 1))
    beta[:, 1:][rng.random((n, m)) < 0.4] = 0
    beta /= beta.sum(axis=1, keepdims=True)
    boxes = rng.uniform(0, 100, (m, 4))
    return beta, SimpleNamespace(row=rng.permutation(m) + 100, scores=rng.random(m), boxes=boxes)


def pairs_of(beta):
    track, detection = np.nonzero(beta[:, 1:])
    hit = beta[track, detection + 1]
    return Pairs(track, detection, hit, beta[:, 0], beta.shape[1] - 1)


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4))
def test_the_summary_is_that_of_each_row_of_the_matrix(seed, n, m):
    beta, found = random_beta(seed, n, m)
    summary = summarise(found, pairs_of(beta))
    for i, row in enumerate(beta):
        best = int(row[1:].argmax()) if m else 0
        hit = row[0] < 0.5
        assert summary.detection[i] == (found.row[best] if hit else -1)
        assert summary.score[i] == (found.scores[best] if hit else 0)
        expected = found.boxes[best] if hit else np.full(4, np.nan)
        np.testing.assert_array_equal(summary.box[i], expected)
        assert summary.gated[i] == np.count_nonzero(row[1:])
        positive = row[row > 0]
        np.testing.assert_allclose(summary.entropy[i], -(positive * np.log(positive)).sum())


def test_new_tracks_follow_the_surviving_ones_with_their_own_detection():
    beta, found = random_beta(0, 3, 2)
    old = summarise(found, pairs_of(beta))
    alive, born = np.array([True, False, True]), np.array([False, True])
    both = join_newborn(old, alive, found, born)
    assert both.detection.tolist() == [*old.detection[alive], found.row[1]]
    assert both.score.tolist() == [*old.score[alive], found.scores[1]]
    np.testing.assert_array_equal(both.box, [*old.box[alive], found.boxes[1]])
    assert both.gated.tolist() == [*old.gated[alive], 1]
    assert both.entropy.tolist() == [*old.entropy[alive], 0.0]


def test_without_detections_every_track_is_missed_for_certain():
    summary = without_detections(2)
    assert summary.box.shape == (2, 4)
    assert np.isnan(summary.box).all()
    rest = (summary.score, summary.detection, summary.gated, summary.entropy)
    assert [field.tolist() for field in rest] == [[0, 0], [-1, -1], [0, 0], [0, 0]]
