"""Belief propagation: how far its marginals are from the exact ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joint_events import dense_errors, gaussian_weights

from streamvis.tracking.association import exact_marginals, lbp_marginals


@pytest.mark.parametrize(("apart", "worst", "mean"), [(5.0, 0.05, 1e-3), (3.0, 0.2, 0.02)])
def test_belief_propagation_is_close_where_tracks_keep_apart(apart, worst, mean):
    """Five tracks in a row, 3.5 and 2 sigma from each other, one of them undetected."""
    errors = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        tracks = np.stack([np.arange(5) * apart, rng.uniform(0, 1, 5)], axis=1)
        false_detection = rng.uniform(0, 4 * apart, (1, 2))
        detections = np.concatenate([tracks[:4] + rng.normal(size=(4, 2)), false_detection])
        weights = gaussian_weights(tracks, detections)
        exact = exact_marginals(*weights, max_states=10_000)
        errors.append(np.abs(lbp_marginals(*weights) - exact))
    assert np.max(errors) < worst
    assert np.mean(errors) < mean


def test_belief_propagation_in_dense_crowds():
    """95 % within 0.05, but not where two targets on one place share two detections."""
    error = dense_errors(lbp_marginals)
    assert np.mean(error) < 0.015
    assert np.quantile(error, 0.95) < 0.05
    assert np.max(error) < 0.25


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_belief_propagation_is_exact_on_a_chain(seed, n):
    """Neighbours share one detection each, so the gated pairs form a tree."""
    rng = np.random.default_rng(seed)
    log_hit = np.full((n, n + 1), -np.inf)
    for i in range(n):
        log_hit[i, [i, i + 1]] = rng.normal(0, 3, 2)
    log_miss = rng.normal(size=n)
    exact = exact_marginals(log_miss, log_hit, max_states=10_000)
    np.testing.assert_allclose(lbp_marginals(log_miss, log_hit), exact, atol=1e-5)
