"""Ranking against all pairs and all thresholds, Platt scaling against a grid of losses."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamvis.errors import DataError
from streamvis.evaluation.ranking import (
    ScoreCounts,
    average_precision,
    count,
    platt_scaling,
    roc_auc,
)

few_values = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30)


def split(rows) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = zip(*rows, strict=True)
    return np.array(scores, float), np.array(truth, bool)


@given(few_values)
def test_auc_is_the_share_of_pairs_in_order(rows):
    scores, truth = split(rows)
    pairs = [(p > n) + (p == n) / 2 for p in scores[truth] for n in scores[~truth]]
    assert roc_auc(count(scores, truth)) == (pytest.approx(np.mean(pairs)) if pairs else None)


@given(few_values)
def test_auc_of_the_other_class_is_the_same(rows):
    scores, truth = split(rows)
    assume(truth.any() and not truth.all())
    assert roc_auc(count(-scores, ~truth)) == pytest.approx(roc_auc(count(scores, truth)))


@given(few_values)
def test_ap_is_the_sum_over_thresholds(rows):
    scores, truth = split(rows)
    assume(truth.any())
    total = recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        said = scores >= threshold
        now = (said & truth).sum() / truth.sum()
        total += (now - recall) * (said & truth).sum() / said.sum()
        recall = now
    assert average_precision(count(scores, truth)) == pytest.approx(total)


def test_perfect_and_reversed_rankings():
    scores, truth = np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False])
    assert (roc_auc(count(scores, truth)), average_precision(count(scores, truth))) == (1.0, 1.0)
    assert roc_auc(count(-scores, truth)) == 0.0
    assert average_precision(count(-scores, truth)) == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_calibration_finds_the_law_that_made_the_labels():
    random = np.random.default_rng(0)
    margin = random.normal(scale=3, size=20000)
    truth = random.random(20000) < 1 / (1 + np.exp(-(0.8 * margin - 0.5)))
    scale, shift = platt_scaling(margin, truth)
    assert (scale, shift) == (pytest.approx(0.8, abs=0.05), pytest.approx(-0.5, abs=0.06))


@given(few_values)
def test_calibration_is_a_minimum_and_finite(rows):
    margin, truth = split(rows)
    assume(truth.any() and not truth.all())
    n, p = (~truth).sum(), truth.sum()
    target = np.where(truth, (p + 1) / (p + 2), 1 / (n + 2))

    def loss(a: float, b: float) -> float:
        z = a * margin + b
        return float((np.logaddexp(0, z) - target * z).sum())

    a, b = platt_scaling(margin, truth)
    assert np.isfinite([a, b]).all()
    near = [loss(a + da, b + db) for da in (-0.05, 0, 0.05) for db in (-0.05, 0, 0.05)]
    assert loss(a, b) <= min(near) + 1e-6


@given(few_values)
def test_empty_bins_change_nothing(rows):
    scores, truth = split(rows)
    bins = ScoreCounts(
        *(np.bincount((scores[own] + 3).astype(int), minlength=9) for own in (~truth, truth))
    )
    assert roc_auc(bins) == roc_auc(count(scores, truth))
    assert average_precision(bins) == average_precision(count(scores, truth))


def test_platt_scaling_needs_both_classes():
    with pytest.raises(DataError, match="2 positive and 0 negative"):
        platt_scaling(np.array([1.0, 2.0]), np.array([True, True]))
