"""Weights of gated pairs against the same in matrices."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from joint_events import marginals

from streamvis.tracking.association import Pairs, alone, exact_marginals, together

seeds = st.integers(0, 2**32 - 1)


def gated_scene(seed):
    """log_miss (N,), log_hit (N, M), mostly −inf; and the gated pairs and their weights."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(0, 7, 2)
    log_miss, log_hit = rng.normal(size=n), rng.normal(size=(n, m))
    log_hit[rng.random((n, m)) > 0.3] = -np.inf
    track, detection = np.nonzero(log_hit > -np.inf)
    return log_miss, log_hit, (log_miss, track, detection, log_hit[track, detection], m)


@given(seeds)
def test_alone_is_pda(seed):
    log_miss, log_hit, pairs = gated_scene(seed)
    weights = np.exp(np.column_stack([log_miss, log_hit]))
    expected = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(alone(*pairs).dense(), expected, atol=1e-12)


@given(seeds)
def test_the_method_sees_each_cluster_once_and_only_what_is_its_own(seed):
    log_miss, log_hit, pairs = gated_scene(seed)
    seen = []

    def method(miss, hit):
        seen.append(hit.shape)
        assert (hit > -np.inf).any(axis=0).all()
        return exact_marginals(miss, hit, max_states=10**6)

    beta = together(*pairs, method).dense()
    np.testing.assert_allclose(beta, marginals(log_miss, log_hit), atol=1e-12)
    if log_hit.size:
        np.testing.assert_allclose(beta, exact_marginals(log_miss, log_hit, 10**6), atol=1e-9)
    assert all(tracks > 1 for tracks, _ in seen)
    assert sum(tracks for tracks, _ in seen) <= len(log_miss)


@given(seeds)
def test_sums_and_the_best_are_those_of_the_matrix(seed):
    beta = marginals(*gated_scene(seed)[:2])
    hit = beta[:, 1:]
    track, detection = np.nonzero(hit)
    pairs = Pairs(track, detection, hit[track, detection], beta[:, 0], hit.shape[1])
    np.testing.assert_array_equal(pairs.dense(), beta)
    np.testing.assert_allclose(pairs.of_tracks(pairs.hit), hit.sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(pairs.of_detections(pairs.hit), hit.sum(axis=0), atol=1e-12)
    best = pairs.best()
    assert (best >= 0).tolist() == hit.any(axis=1).tolist()
    for i in np.flatnonzero(best >= 0):
        assert (track[best[i]], detection[best[i]]) == (i, hit[i].argmax())


@given(seeds)
def test_what_tracks_share_is_the_product_of_the_matrix_with_itself(seed):
    beta = marginals(*gated_scene(seed)[:2])
    hit = beta[:, 1:]
    track, detection = np.nonzero(hit)
    pairs = Pairs(track, detection, hit[track, detection], beta[:, 0], hit.shape[1])
    i, j, share = pairs.shared()
    expected = np.triu(hit @ hit.T, 1)
    assert list(zip(i, j, strict=True)) == list(zip(*np.nonzero(expected), strict=True))
    np.testing.assert_allclose(share, expected[i, j], atol=1e-12)


def test_of_equals_the_first_is_the_best():
    pairs = Pairs(
        np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.4, 0.4, 0.0]), np.ones(3), 2
    )
    assert pairs.best().tolist() == [0, 2, -1]
