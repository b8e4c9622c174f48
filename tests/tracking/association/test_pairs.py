"""Belief propagation corrected for pairs: exact for two tracks, closer in crowds."""

import numpy as np
from hypothesis import given
from joint_events import dense_errors, scenes

from streamvis.tracking.association import exact_marginals, lbp_marginals, paired_marginals
from streamvis.tracking.association import pairs as module
from streamvis.tracking.association.lbp import propagate


@given(scenes(most=2))
def test_corrected_for_pairs_it_is_exact_for_two_tracks(scene):
    exact = exact_marginals(*scene, max_states=10_000)
    np.testing.assert_allclose(paired_marginals(*scene), exact, atol=1e-5)


@given(scenes(most=8))
def test_corrected_for_pairs_marginals_sum_to_one(scene):
    beta = paired_marginals(*scene)
    np.testing.assert_allclose(beta.sum(axis=1), 1, atol=1e-9)
    assert (beta[:, 1:][scene[1] == -np.inf] == 0).all()


def test_corrected_for_pairs_it_is_twice_as_good():
    error = dense_errors(paired_marginals)
    assert np.mean(error) < 0.008
    assert np.quantile(error, 0.99) < 0.05
    assert np.max(error) < 0.12


def corrected(log_miss, log_hit):
    """The definition, pair by pair: the belief of i times what each rival a makes of it."""
    n, m = log_hit.shape
    mu = np.full((n, m), -np.inf)
    found = propagate(log_miss, log_hit)
    mu[found.track, found.detection] = found.mu
    nu = np.zeros((n, m))
    nu[found.track, found.detection] = found.nu
    psi = log_hit - log_miss[:, None]
    belief = np.exp(np.column_stack([np.zeros(n), psi + nu]))
    belief /= belief.sum(axis=1, keepdims=True)
    after = belief.copy()
    for i in range(n):
        for a in range(n):
            gated = (log_hit[[i, a]] > -np.inf).all(axis=0)
            if a == i or gated.sum() < 2:
                continue
            others = [k for k in range(n) if k not in (i, a)]
            w = np.exp(psi[[i, a]]) / (1 + np.exp(mu[others]).sum(axis=0))
            left = [1 + np.delete(w[1], j).sum() for j in range(m)]  # a difference would cancel
            pair = np.array([1 + w[1].sum(), *(w[0] * left)])
            pair /= pair.sum()
            known = belief[i] > 0
            after[i, known] *= pair[known] / belief[i, known]
    return after / after.sum(axis=1, keepdims=True)


@given(scenes(most=7))
def test_it_is_what_its_definition_says(scene):
    np.testing.assert_allclose(paired_marginals(*scene), corrected(*scene), atol=1e-5)


def test_in_chunks_it_is_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    log_miss, log_hit = np.log(rng.uniform(0.1, 1, 12)), rng.normal(0, 3, (12, 15))
    whole = paired_marginals(log_miss, log_hit)
    monkeypatch.setattr(module, "AT_ONCE", 40)
    np.testing.assert_allclose(paired_marginals(log_miss, log_hit), whole, atol=1e-12)


def test_beliefs_of_very_large_clusters_are_not_corrected():
    rng = np.random.default_rng(0)
    log_miss, log_hit = np.full(120, -2.0), rng.normal(0, 1, (120, 130))
    beta = paired_marginals(log_miss, log_hit)
    np.testing.assert_allclose(beta, lbp_marginals(log_miss, log_hit), atol=1e-3)
