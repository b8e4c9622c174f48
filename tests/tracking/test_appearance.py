"""Looks: densities against NumPy and scipy, and means of unit vectors."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm

from streamvis.tracking.appearance import (
    SPREAD,
    AppearanceLikelihood,
    KnownDistances,
    NormalEstimate,
    RatioCalibration,
    age,
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


def distances_of(same, other, ages=0.0, copy=None, copy_age=0.0, seconds=1.0):
    """The distances of one frame."""
    same, other = np.atleast_1d(same), np.atleast_1d(other)
    copy = np.zeros(0) if copy is None else np.atleast_1d(copy)
    return KnownDistances(
        same,
        np.broadcast_to(ages, same.shape),
        np.arange(len(copy)),
        copy,
        np.broadcast_to(copy_age, copy.shape),
        other,
        np.broadcast_to(ages, other.shape),
        seconds,
    )


@given(batches)
def test_without_fading_it_is_the_mean_and_variance_of_all_samples(samples):
    told = NormalEstimate(0.5, 0.04, 0.0)
    for batch in samples:
        told = told.learn(batch, 0.1 * len(batch), keep=1.0)
    every = np.concatenate([*samples, []])
    assume(len(every))
    assert told.weight == pytest.approx(0.1 * len(every))
    assert told.mean == pytest.approx(every.mean(), abs=1e-9)
    assert told.variance == pytest.approx(every.var(), abs=1e-9)


@given(st.lists(distance, min_size=1, max_size=20), st.integers(1, 50))
def test_what_was_believed_before_counts_for_its_time(samples, weight):
    rng = np.random.default_rng(0)
    before = rng.normal(0.4, 0.1, weight)
    told = NormalEstimate(before.mean(), before.var(), 0.2 * weight)
    told = told.learn(np.array(samples), 0.2 * len(samples), keep=1.0)
    both = np.concatenate([before, samples])
    assert (told.mean, told.variance) == pytest.approx((both.mean(), both.var()), abs=1e-9)


def test_nothing_is_learnt_from_nothing():
    likeness = AppearanceLikelihood()
    assert likeness.learn(distances_of([], [], seconds=0.0), 30.0, 4.0) == likeness
    assert likeness.learn(distances_of([0.3], [0.5], seconds=0.0), 30.0, 4.0) == likeness


@given(st.sampled_from([5, 12.5, 25, 50]), st.sampled_from([1, 2, 12]), st.integers(0, 3))
def test_the_memory_is_in_seconds_of_media_time(fps, people, seed):
    """The same people at another frame rate are the same evidence."""
    told = []
    for rate in (fps, 10):
        likeness, rng = AppearanceLikelihood(), np.random.default_rng(seed)
        for _ in range(20):  # seconds, in each of which distances stay as they are
            same, other = rng.normal(0.3, 0.05, people), rng.normal(0.6, 0.1, people)
            copy = same + 0.2 + rng.normal(0, 0.02, people)
            found = distances_of(same, other, 0.1, copy, 1.0, seconds=people / rate)
            for _ in range(round(rate)):
                likeness = likeness.learn(found, 30.0, 4.0)
        told.append(likeness)
    for one, other in ((t.same, u.same) for t, u in [told]):
        assert one.mean == pytest.approx(other.mean, abs=0.01)
        assert one.variance**0.5 == pytest.approx(other.variance**0.5, abs=0.01)
        assert one.weight == pytest.approx(other.weight, rel=0.05)
    assert told[0].growth.rate == pytest.approx(told[1].growth.rate, abs=0.01)
    assert told[0].calibration.power == pytest.approx(told[1].calibration.power, abs=0.05)


@pytest.mark.parametrize("people", [1, 10])
def test_half_of_what_is_older_than_the_memory_is_forgotten_however_many_people_there_are(people):
    likeness = AppearanceLikelihood()
    for mean in (0.2, 0.4):
        for _ in range(10 * 60 if mean == 0.2 else 10 * 20):  # a minute; then log(2) of 30 s
            found = distances_of(np.full(people, mean), [], seconds=people / 10)
            likeness = likeness.learn(found, 20 / np.log(2), 4.0)
    assert likeness.same.mean == pytest.approx(0.3, abs=0.02)


@given(st.integers(0, 99), st.floats(0.03, 0.25), st.floats(0.0, 0.06))
def test_growth_with_age_recovers_the_curve(seed, rate, spread):
    rng = np.random.default_rng(seed)
    growth = AppearanceLikelihood().growth
    for _ in range(300):
        ages = np.log1p(rng.uniform(0, 2, 6) / rng.uniform(0.3, 4, 6))
        grown = ages * rng.normal(rate, spread, 6)
        growth = growth.learn(ages, grown, 0.6, keep=1.0)
    assert growth.rate == pytest.approx(rate, abs=0.01)
    assert growth.variance**0.5 == pytest.approx(spread, abs=0.025)  # 0.05 before


def test_growth_of_nothing_or_at_no_age_teaches_nothing():
    growth = AppearanceLikelihood().growth
    assert growth.learn(np.zeros(0), np.zeros(0), 1.0, 1.0) == growth
    assert growth.learn(np.zeros(3), np.full(3, 0.1), 1.0, 1.0) == growth


@given(likenesses, st.floats(0, 1), st.floats(0, 2))
def test_with_age_it_is_the_log_ratio_of_a_density_that_has_grown(likeness, share, years):
    same, other, growth = likeness.same, likeness.other, likeness.growth
    mean = same.mean + growth.rate * years
    assume(mean <= other.mean)
    d = np.array([mean + share * (other.mean - mean)])
    narrow = same.variance + SPREAD**2 + growth.variance * years**2
    p = norm(mean, np.sqrt(narrow)).logpdf(d)
    q = norm(other.mean, np.sqrt(other.variance + SPREAD**2)).logpdf(d)
    found = likeness.log_ratio(d, 1e9, np.full(1, years))
    np.testing.assert_allclose(found, p - q, rtol=1e-9, atol=1e-9)


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0.1, 8), st.floats(1.0, 4.0))
def test_means_age_with_time_and_those_over_a_longer_time_less(gap, more, known, longer):
    one, later, long = age(
        np.array([gap, gap + more, gap]), np.array([known, known, known * longer])
    )
    assert 0 <= long <= one <= later
    assert age(np.zeros(1), np.array([known])) == 0


def test_who_was_not_seen_for_a_while_may_look_different():
    """Distances of the same person grow from 0.15 to 0.35: then 0.45 says little against it."""
    likeness = AppearanceLikelihood()
    rng = np.random.default_rng(0)
    for _ in range(200):
        found = distances_of(
            rng.normal(0.15, 0.04, 5), rng.normal(0.65, 0.15, 5), 0.05,
            rng.normal(0.35, 0.06, 5), 1.0, seconds=0.5,
        )  # fmt: skip
        likeness = likeness.learn(found, 30.0, 4.0)
    at_once, later = likeness.log_ratio(np.array([0.45, 0.45]), 5.0, np.array([0.0, 1.0]))
    assert at_once == pytest.approx(-5)
    assert later > -0.5


@given(st.integers(0, 20), st.floats(0.3, 0.7))
def test_embeddings_that_tell_nobody_apart_count_nothing(seed, mean):
    rng = np.random.default_rng(seed)
    likeness = AppearanceLikelihood()
    for _ in range(300):
        same, other = rng.normal(mean, 0.15, (2, 5))
        likeness = likeness.learn(distances_of(same, other, seconds=0.5), 30.0, 5.0)
    assert np.abs(likeness.log_ratio(np.linspace(0, 1.5, 9), 5.0)).max() < 0.5


def test_a_ratio_that_is_often_wrong_counts_less_until_it_is_right_again():
    calibration = RatioCalibration()
    for _ in range(200):  # three nats that are wrong each fourth time: log(3) is right
        wrong, right = np.array([3.0, 3, 3, -3]), np.array([-3.0, -3, -3, 3])
        calibration = calibration.learn(wrong, right, 0.5, keep=0.98)
    assert 3 * calibration.power == pytest.approx(np.log(3), abs=0.05)
    for _ in range(400):
        calibration = calibration.learn(np.full(4, 3.0), np.full(4, -3.0), 0.5, keep=0.98)
    assert calibration.power == 1.0


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
    a = AppearanceLikelihood().learn(distances_of(np.full(50, 0.1), [], seconds=50.0), 30.0, 4.0)
    assert (a.same.mean < 0.15, a.other) == (True, AppearanceLikelihood().other)


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
