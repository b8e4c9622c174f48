"""Existence in closed form, and who hides whom."""

import numpy as np
import scipy.linalg
from association_policy import log_weights
from hypothesis import given
from hypothesis import strategies as st
from joint_events import marginals

from streamvis.geometry import overlaps
from streamvis.tracking import existence

SEEN = np.array([0.9 * 0.99])
LOG_CLUTTER = np.log(0.012)
probabilities = st.floats(1e-6, 1 - 1e-6)


def after_and_given(r, beta):
    after, miss = existence.posterior(r, SEEN, beta[:, 0], beta[:, 1:].sum(axis=1))
    return after, np.column_stack([miss, beta[:, 1:] / after[:, None]])


def one_track(r, log_density, log_clutter=LOG_CLUTTER):
    log_density = np.atleast_2d(log_density)
    weights = log_weights(
        np.array([r]),
        np.array([0.9]),
        0.99,
        log_density,
        np.full(log_density.shape[1], log_clutter),
    )
    return after_and_given(np.array([r]), marginals(*weights))


def test_golden_single_track():
    apart2 = np.array([0.0, 1.0, 5.0])  # track (0, 0); detections (0, 0), (1, 0), (−1, 2)
    after, _ = one_track(0.5, -0.25 * apart2 - np.log(4 * np.pi))
    np.testing.assert_allclose(after, 0.9255696787, atol=1e-10)


def test_golden_no_detections():
    np.testing.assert_allclose(existence.missed(np.array([0.5]), SEEN), 0.0982867448, atol=1e-10)


@given(probabilities, st.lists(st.floats(-20, 5), max_size=5))
def test_ipda_closed_form(r, log_density):
    """r⁺ = (1 − δ) r / (1 − δ r), δ = P_D P_G − Σ P_D N/λ (Musicki et al. 1994)."""
    after, given_exists = one_track(r, np.array(log_density).reshape(1, -1))
    delta = SEEN - 0.9 * np.exp(log_density).sum() / 0.012
    np.testing.assert_allclose(after, (1 - delta) * r / (1 - delta * r), rtol=1e-9)
    np.testing.assert_allclose(given_exists.sum(), 1)


@given(probabilities, st.lists(st.booleans(), max_size=12), st.floats(0.01, 2))
def test_existence_and_hiding_are_those_of_a_three_state_chain(r, detections, dt):
    """Absent, detectable, undetectable: the forward algorithm on the whole chain."""
    hide_s, appear_s, density = 3.0, 0.5, 4.0
    generator = np.zeros((3, 3))  # columns: from
    generator[1:, 1:] = [[-1 / hide_s, 1 / appear_s], [1 / hide_s, -1 / appear_s]]
    move = scipy.linalg.expm(generator * dt)
    chain = np.array([1 - r, r, 0.0])
    r, hidden = np.array([r]), np.zeros(1)
    for detected in detections:
        chain = move @ chain
        gain = density if detected else 0.0  # P_D N/λ
        likelihood = np.array([1, 1 - SEEN[0] + gain, 1])
        chain = chain * likelihood / (chain @ likelihood)
        hidden = existence.hiding(hidden, dt, hide_s, appear_s)
        seen = SEEN * (1 - hidden)
        weights = np.array([1 - seen * r, r * (1 - hidden) * gain])
        missed, hit = weights / weights.sum(axis=0)
        r, missed = existence.posterior(r, seen, missed, hit)
        hidden = missed * hidden / existence.missed_likelihood(hidden, SEEN)
        np.testing.assert_allclose([1 - r[0], r[0] * (1 - hidden[0])], chain[:2], atol=1e-9)


@given(st.lists(st.floats(-20, 5), max_size=5))
def test_with_certain_existence_jipda_is_jpda(log_density):
    log_density = np.array(log_density).reshape(1, -1)
    weights = log_weights(
        np.ones(1), np.array([0.9]), 0.99, log_density, np.full(log_density.shape[1], -4.0)
    )
    beta = marginals(*weights)
    after, given_exists = after_and_given(np.ones(1), beta)
    np.testing.assert_allclose(after, 1)
    np.testing.assert_allclose(given_exists, beta)


@given(st.floats(-15, 15))
def test_logit_and_sigmoid_are_inverse(odds):
    np.testing.assert_allclose(existence.logit(existence.sigmoid(np.array(odds))), odds, atol=1e-6)


def test_logit_is_finite_at_the_ends():
    assert np.isfinite(existence.logit(np.array([0.0, 1.0]))).all()


def test_the_nearer_hides_the_farther_but_not_itself():
    boxes = np.array([[0, 0, 10, 20], [0, 5, 10, 25.0]])  # the second stands nearer
    near = overlaps(boxes, boxes)
    np.testing.assert_allclose(existence.visibility(boxes, near, np.ones(2)), [0.25, 1])
    weight = np.array([1, 0.5])
    np.testing.assert_allclose(existence.visibility(boxes, near, weight), [0.625, 1])
