"""Marginals against brute force, the golden numbers of the literature, and their invariants."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.tracking import existence
from streamvis.tracking.association import (
    exact,
    exact_marginals,
    lbp_marginals,
    log_weights,
    marginals,
    paired_marginals,
    pda_marginals,
)

sys.path.append(str(Path(__file__).parents[1] / "oracles"))
from association_policy import crowd

P_DETECT, P_GATE, CLUTTER = 0.9, 0.99, 0.012


def brute_force(log_miss, log_hit):
    """Every joint event, one by one."""
    n, m = log_hit.shape
    log_w = np.column_stack([log_miss, log_hit])
    beta = np.zeros((n, m + 1))
    for event in itertools.product(range(m + 1), repeat=n):
        used = [j for j in event if j]
        if len(used) == len(set(used)):
            weight = np.exp(sum(log_w[i, j] for i, j in enumerate(event)))
            for i, j in enumerate(event):
                beta[i, j] += weight
    return beta / beta.sum(axis=1, keepdims=True)


def gaussian_weights(tracks, detections, r=1.0):
    """Weights of the golden scenes: S = 2I, nothing gated away."""
    apart = np.array(tracks)[:, None] - np.array(detections)[None]
    log_density = -0.25 * (apart**2).sum(axis=2) - np.log(4 * np.pi)
    r = np.broadcast_to(np.asarray(r, dtype=float), len(tracks))
    p_detect = np.full(len(tracks), P_DETECT)
    log_clutter = np.full(len(detections), np.log(CLUTTER))
    return log_weights(r, p_detect, P_GATE, log_density, log_clutter)


@st.composite
def scenes(draw, most=4):
    """(log_miss, log_hit) with up to `most` tracks and detections, some of them gated away."""
    n, m = draw(st.integers(1, most)), draw(st.integers(0, most))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    log_hit = rng.normal(0, draw(st.sampled_from([1, 5, 20])), (n, m))
    log_hit[rng.random((n, m)) < draw(st.sampled_from([0, 0.3, 0.7]))] = -np.inf
    return np.log(rng.uniform(1e-3, 1, n)), log_hit


def test_golden_a_two_tracks_apart():
    weights = gaussian_weights([(0, 0), (3, 3)], [(0, 0), (5, 5)])
    np.testing.assert_allclose(
        np.exp(np.column_stack([weights[0], weights[1]])),
        [[0.109, 5.9683103659, 2.2241822757e-5], [0.109, 0.0663019392, 0.807722974]],
        rtol=1e-8,
    )
    pda = [[0.0179355002, 0.98206084, 3.6598e-6], [0.1108822356, 0.0674468554, 0.8216709090]]
    np.testing.assert_allclose(pda_marginals(*weights), pda, atol=1e-8)
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
    np.testing.assert_allclose(pda_marginals(*weights), pda, atol=1e-9)
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


@given(scenes())
def test_dynamic_programming_equals_brute_force(scene):
    beta = exact_marginals(*scene, max_states=10_000)
    np.testing.assert_allclose(beta, brute_force(*scene), atol=1e-9)


@given(scenes())
def test_dynamic_programming_on_arrays_equals_brute_force(scene):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "FEW_STATES", 0)  # whatever the size
        beta = exact_marginals(*scene, max_states=10_000)
    np.testing.assert_allclose(beta, brute_force(*scene), atol=1e-9)


def test_dictionaries_and_arrays_agree_on_a_large_cluster(monkeypatch):
    scene = crowd(seed=1, tracks=16, density=0.1)
    on_arrays = exact_marginals(*scene, max_states=10**5)
    monkeypatch.setattr(exact, "FEW_STATES", 10**5)
    np.testing.assert_allclose(exact_marginals(*scene, max_states=10**5), on_arrays, atol=1e-9)


def test_a_chain_of_more_detections_than_a_mask_has_bits():
    """Bits are given back along the way, so it takes few states however long it is."""
    log_hit = np.full((100, 101), -np.inf)
    for i in range(100):
        log_hit[i, [i, i + 1]] = 0.0
    small = np.exp(exact_marginals(np.zeros(100), log_hit, max_states=250))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "FEW_STATES", 0)
        np.testing.assert_allclose(
            np.exp(exact_marginals(np.zeros(100), log_hit, max_states=250)), small, atol=1e-12
        )


def test_more_detections_at_once_than_a_mask_has_bits_is_too_much():
    assert exact_marginals(np.zeros(2), np.zeros((2, 70)), max_states=100) is not None
    assert exact_marginals(np.zeros(3), np.zeros((3, 70)), max_states=10**9) is None


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


def dense_errors(method):
    """How far all β are off in crowds where targets compete for some five detections each."""
    errors = []
    for seed in range(40):
        log_miss, log_hit = crowd(seed, tracks=16, density=0.1)
        exact = marginals(log_miss, log_hit, max_states=10**6)
        apart = np.abs(method(log_miss, log_hit) - exact)
        errors += [apart[:, 1:][log_hit > -np.inf], apart[:, 0]]
    return np.concatenate(errors)


def test_belief_propagation_in_dense_crowds():
    """95 % within 0.05, but not where two targets on one place share two detections."""
    error = dense_errors(lbp_marginals)
    assert np.mean(error) < 0.015
    assert np.quantile(error, 0.95) < 0.05
    assert np.max(error) < 0.25


def test_corrected_for_pairs_it_is_twice_as_good():
    error = dense_errors(paired_marginals)
    assert np.mean(error) < 0.008
    assert np.quantile(error, 0.99) < 0.05
    assert np.max(error) < 0.12


@given(scenes(most=2))
def test_corrected_for_pairs_it_is_exact_for_two_tracks(scene):
    exact = exact_marginals(*scene, max_states=10_000)
    np.testing.assert_allclose(paired_marginals(*scene), exact, atol=1e-5)


@given(scenes(most=8))
def test_corrected_for_pairs_marginals_sum_to_one(scene):
    beta = paired_marginals(*scene)
    np.testing.assert_allclose(beta.sum(axis=1), 1, atol=1e-9)
    assert (beta[:, 1:][scene[1] == -np.inf] == 0).all()


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
