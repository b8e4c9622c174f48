"""Marginals of clusters: the golden numbers of the literature, and their invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joint_events import P_DETECT, P_GATE, gaussian_weights, marginals, scenes

from streamvis.tracking import existence
from streamvis.tracking.association import (
    alone,
    exact_marginals,
    lbp_marginals,
    paired_marginals,
)


def independent(log_miss, log_hit):
    """β (N, M + 1) of tracks that do not compete."""
    n, m = log_hit.shape
    track, detection = np.divmod(np.arange(n * m), m)
    return alone(log_miss, track, detection, log_hit.ravel(), m).dense()


def test_golden_a_two_tracks_apart():
    weights = gaussian_weights([(0, 0), (3, 3)], [(0, 0), (5, 5)])
    np.testing.assert_allclose(
        np.exp(np.column_stack([weights[0], weights[1]])),
        [[0.109, 5.9683103659, 2.2241822757e-5], [0.109, 0.0663019392, 0.807722974]],
        rtol=1e-8,
    )
    pda = [[0.0179355002, 0.98206084, 3.6598e-6], [0.1108822356, 0.0674468554, 0.8216709090]]
    np.testing.assert_allclose(independent(*weights), pda, atol=1e-8)
    jpda = [
        [0.019207825010, 0.98079147604, 6.9894703e-7],
        [0.11874810059, 0.0012957717493, 0.87995612766],
    ]
    np.testing.assert_allclose(marginals(*weights), jpda, atol=1e-10)
    np.testing.assert_allclose(lbp_marginals(*weights), jpda, atol=2.4e-7)


def test_golden_b_two_tracks_that_compete():
    weights = gaussian_weights([(0, 0), (1, 1)], [(0, 0), (1, 0), (-1, 2)])
    pda = [
        [0.0087653098, 0.4799457764, 0.3737821465, 0.1375067672],
        [0.0108059477, 0.3588727813, 0.4608017725, 0.1695194986],
    ]
    np.testing.assert_allclose(independent(*weights), pda, atol=1e-9)
    jpda = [
        [0.013864533, 0.486714586, 0.3187902145, 0.1806306665],
        [0.0170923128, 0.295207319, 0.4564335488, 0.2312668194],
    ]
    np.testing.assert_allclose(marginals(*weights), jpda, atol=1e-9)
    lbp = [
        [0.018564112, 0.5052509108, 0.2804062053, 0.195778772],
        [0.0228859933, 0.2488295547, 0.4647056889, 0.2635787631],
    ]
    np.testing.assert_allclose(lbp_marginals(*weights, tolerance=1e-12), lbp, atol=1e-8)


def test_golden_b_with_existence():
    r = np.array([0.9, 0.4])
    beta = marginals(*gaussian_weights([(0, 0), (1, 1)], [(0, 0), (1, 0), (-1, 2)], r))
    np.testing.assert_allclose(
        beta,
        [
            [0.0256989851, 0.4791283411, 0.3249905996, 0.1701820742],
            [0.203413645, 0.2399450876, 0.3699277422, 0.1867135251],
        ],
        atol=1e-9,
    )
    seen, hit = np.full(2, P_DETECT * P_GATE), beta[:, 1:]
    after, missed = existence.posterior(r, seen, beta[:, 0], hit.sum(axis=1))
    np.testing.assert_allclose(after, [0.9870272665, 0.8103663968], atol=1e-9)
    np.testing.assert_allclose(
        np.column_stack([missed, hit / after[:, None]]),
        [
            [0.0128935157, 0.4854256386, 0.3292620281, 0.1724188176],
            [0.0170047054, 0.2960945673, 0.4564944248, 0.2304063025],
        ],
        atol=1e-9,
    )


@given(scenes(most=5))
def test_clusters_change_nothing(scene):
    whole = exact_marginals(*scene, max_states=10_000)
    np.testing.assert_allclose(marginals(*scene), whole, atol=1e-9)


@given(scenes(most=8))
def test_marginals_sum_to_one_and_no_detection_is_claimed_twice(scene):
    beta = marginals(*scene)
    np.testing.assert_allclose(beta.sum(axis=1), 1, atol=1e-9)
    assert (beta[:, 1:].sum(axis=0) <= 1 + 1e-9).all()
    assert (beta[:, 1:][scene[1] == -np.inf] == 0).all()


@given(scenes(most=6), st.integers(0, 2**32 - 1), st.booleans())
def test_order_does_not_matter(scene, seed, approximate):
    log_miss, log_hit = scene
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(log_hit)), rng.permutation(log_hit.shape[1])
    states = 0 if approximate else 10_000
    beta = marginals(log_miss, log_hit, states)
    shuffled = marginals(log_miss[rows], log_hit[np.ix_(rows, columns)], states)
    expected = beta[rows][:, [0, *(columns + 1)]]
    # belief propagation stops when messages have settled to 1e-6
    np.testing.assert_allclose(shuffled, expected, atol=1e-5 if approximate else 1e-9)


def test_a_cluster_too_large_falls_back_to_belief_propagation():
    rng = np.random.default_rng(0)
    scene = np.log(rng.uniform(0.1, 1, 30)), rng.normal(0, 1, (30, 30))
    assert exact_marginals(*scene, max_states=500) is None
    np.testing.assert_allclose(marginals(*scene, 500), paired_marginals(*scene), atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_associate(n, m):
    beta = marginals(np.full(n, -1.0), np.zeros((n, m)))
    assert beta.shape == (n, m + 1)
    assert (beta[:, 0] == 1).all() or m
    for method in (lbp_marginals, paired_marginals):
        assert (method(np.full(n, -1.0), np.full((n, m), -np.inf))[:, 0] == 1).all()


def test_weights_that_exponentials_cannot_hold():
    log_miss = np.array([-800.0, -900.0, 0.0])
    log_hit = np.array([[0.0, 700.0], [700.0, -np.inf], [-900.0, -900.0]])
    for method in (lbp_marginals, paired_marginals, marginals):
        np.testing.assert_allclose(
            method(log_miss, log_hit), [[0, 0, 1], [0, 1, 0], [1, 0, 0]], atol=1e-9
        )
