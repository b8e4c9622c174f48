"""Looks: densities against NumPy and scipy, and means of unit vectors."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm

from streamvis.tracking.appearance import (
    SPREAD,
    AppearanceLikelihood,
    NormalEstimate,
    blend,
    distances,
    unit,
)

distance = st.floats(0, 2)
batches = st.lists(st.lists(distance, max_size=8).map(np.array), max_size=8)
moments = st.builds(NormalEstimate, distance, st.floats(0, 0.25), st.just(60.0))
likenesses = st.builds(AppearanceLikelihood, moments, moments)


def units(n, width, seed):
    vectors = np.random.default_rng(seed).normal(size=(n, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(batches)
def test_below_the_most_it_is_the_mean_and_variance_of_all_samples(samples):
    told = NormalEstimate(0.5, 0.04, 0.0)
    for batch in samples:
        told = told.learn(batch, most=1e9)
    every = np.concatenate([*samples, []])
    assume(len(every))
    assert told.weight == len(every)
    assert told.mean == pytest.approx(every.mean(), abs=1e-9)
    assert told.variance == pytest.approx(every.var(), abs=1e-9)


@given(st.lists(distance, min_size=1, max_size=20), st.integers(1, 50))
def test_what_was_believed_before_counts_as_so_many_samples(samples, weight):
    rng = np.random.default_rng(0)
    before = rng.normal(0.4, 0.1, weight)
    told = NormalEstimate(before.mean(), before.var(), weight).learn(np.array(samples), most=1e9)
    both = np.concatenate([before, samples])
    assert (told.mean, told.variance) == pytest.approx((both.mean(), both.var()), abs=1e-9)


def test_beyond_the_most_older_samples_fade():
    told = NormalEstimate(0.9, 0.01, 100.0)
    for k in range(1, 4):
        told = told.learn(np.full(100, 0.1), most=100.0)
        assert told.mean == pytest.approx(0.1 + 0.8 * 0.5**k)  # a hundred new ones are half
        assert told.weight == 200.0
    rng = np.random.default_rng(0)
    for _ in range(400):
        told = told.learn(rng.normal(0.3, 0.05, 10), most=400.0)
    assert told.mean == pytest.approx(0.3, abs=0.01)
    assert told.variance == pytest.approx(0.05**2, rel=0.25)


def test_nothing_is_learnt_from_nothing():
    told = NormalEstimate(0.3, 0.1, 7.0)
    assert told.learn(np.empty(0), most=5.0) == told


@given(likenesses, st.floats(0, 1))
def test_between_the_means_it_is_the_log_ratio_of_two_normal_densities(likeness, share):
    same, other = likeness.same, likeness.other
    assume(same.mean <= other.mean)
    d = np.array([same.mean + share * (other.mean - same.mean)])
    p, q = (norm(m.mean, np.sqrt(m.variance + SPREAD**2)).logpdf(d) for m in (same, other))
    np.testing.assert_allclose(likeness.log_ratio(d, 1e9), p - q, rtol=1e-9, atol=1e-9)


@given(likenesses, st.lists(st.floats(-1, 3), min_size=2), st.floats(0.5, 10))
def test_the_ratio_falls_with_distance_and_keeps_its_limits(likeness, d, limit):
    ratio = likeness.log_ratio(np.sort(np.array(d)), limit)
    assert (np.diff(ratio) <= 1e-12).all()
    assert (np.abs(ratio) <= limit).all()


def test_where_nobody_looked_nothing_is_said():
    ratio = AppearanceLikelihood().log_ratio(np.array([[np.nan, 0.1], [1.2, np.nan]]), 3.0)
    assert ratio[0, 0] == ratio[1, 1] == 0
    assert ratio[0, 1] > 0 > ratio[1, 0]


def test_what_is_learnt_of_the_same_and_of_others_stays_apart():
    a = AppearanceLikelihood().learn(np.full(500, 0.1), np.empty(0), 400.0)
    assert (a.same.mean < 0.2, a.other) == (True, AppearanceLikelihood().other)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 8))
def test_distances_are_half_the_squared_euclidean_ones(n, m, width):
    a, b = units(n, width, 0), units(m, width, 1)
    expected = ((a[:, None] - b) ** 2).sum(axis=2) / 2
    np.testing.assert_allclose(distances(a, b), expected, atol=1e-6)  # in float32


def test_who_was_not_looked_at_has_no_distance():
    a, b = units(3, 4, 0), units(2, 4, 1)
    a[1], b[0] = 0, 0
    expected = [[True, False], [True, True], [True, False]]
    np.testing.assert_array_equal(np.isnan(distances(a, b)), expected)
    assert distances(np.zeros((2, 0)), np.zeros((3, 0))).shape == (2, 3)


def blended(vectors, dt, memory_s, mean=None, seconds=0.0):
    """The mean after one vector (D,) after the other."""
    mean = np.zeros(vectors.shape[1]) if mean is None else mean
    for vector in vectors:
        mean = blend(mean[None], np.array([seconds]), vector[None], np.array([dt]), memory_s)[0]
        seconds += dt
    return mean


@given(st.integers(1, 12), st.integers(2, 16), st.integers(0, 99), st.floats(0.01, 0.2))
def test_a_blend_has_unit_length(n, width, seed, dt):
    assert np.linalg.norm(blended(units(n, width, seed), dt, 8.0)) == pytest.approx(1)


@given(st.integers(1, 30), st.integers(0, 99), st.floats(0.02, 0.2))
def test_a_blend_is_at_first_the_plain_mean(n, seed, dt):
    around = units(1, 16, seed) + 0.05 * units(n, 16, seed + 1)
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    mean = around.mean(axis=0)
    assert n * dt < 8
    found = blended(around, dt, 8.0)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=2e-3)


@given(st.sampled_from([2.5, 7, 12.5, 25, 30, 60]), st.floats(0, 20))
def test_a_blend_does_not_depend_on_the_frame_rate(fps, before_s):
    """From one look to another for three seconds."""
    old, new = np.eye(2)
    rates = [blended(np.tile(new, (round(3 * f), 1)), 1 / f, 8.0, old, before_s) for f in (5, fps)]
    turned = [np.degrees(np.arctan2(*mean[::-1])) for mean in rates]
    assert turned[0] == pytest.approx(turned[1], abs=3)


def test_a_look_of_no_time_or_of_nothing_changes_nothing():
    mean, other = np.eye(3)[:1], np.eye(3)[1:2]
    one, none = np.ones(1), np.zeros(1)
    np.testing.assert_array_equal(blend(mean, one, other, none, 8.0), mean)
    np.testing.assert_array_equal(blend(np.zeros((1, 3)), none, other, none, 8.0), np.zeros((1, 3)))
    np.testing.assert_array_equal(blend(np.zeros((1, 3)), none, other, one, 8.0), other)
    np.testing.assert_array_equal(blend(mean, one, -mean, one, 8.0), mean)  # which way is between?


def test_what_is_no_direction_was_not_looked_at():
    nan, inf = np.nan, np.inf
    rows = [[3, 4], [0, 0], [nan, 1], [1, inf], [-inf, 1], [3e38, 0], [1e-40, 0]]
    expected = [[0.6, 0.8], [0, 0], [0, 0], [0, 0], [0, 0], [1, 0], [0, 0]]
    np.testing.assert_allclose(unit(np.array(rows, np.float32)), expected, atol=1e-7)
    assert unit(np.zeros((0, 5), np.float32)).shape == (0, 5)
