"""Ranking against all pairs, accuracy against counting, calibration against a grid."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamvis.errors import DataError
from streamvis.evaluation.classification import (
    auc,
    average_precision,
    calibration_error,
    evaluate,
    platt,
)

NAMES = ("fight", "normal")
few_values = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30)


def split(rows) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = zip(*rows, strict=True)
    return np.array(scores, float), np.array(truth, bool)


@given(few_values)
def test_auc_is_the_share_of_pairs_in_order(rows):
    scores, truth = split(rows)
    pairs = [(p > n) + (p == n) / 2 for p in scores[truth] for n in scores[~truth]]
    assert auc(scores, truth) == (pytest.approx(np.mean(pairs)) if pairs else None)


@given(few_values)
def test_auc_of_the_other_class_is_the_same(rows):
    scores, truth = split(rows)
    assume(truth.any() and not truth.all())
    assert auc(-scores, ~truth) == pytest.approx(auc(scores, truth))


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
    assert average_precision(scores, truth) == pytest.approx(total)


def test_perfect_and_reversed_rankings():
    scores, truth = np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False])
    assert (auc(scores, truth), average_precision(scores, truth)) == (1.0, 1.0)
    assert auc(-scores, truth) == 0.0
    assert average_precision(-scores, truth) == pytest.approx((1 / 3 + 2 / 4) / 2)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_accuracies_are_counts(rows):
    truth, said = (np.array(column) for column in zip(*rows, strict=True))
    found = evaluate(np.eye(3)[said], truth, "abc")
    assert found.top1 == pytest.approx(np.mean([t == s for t, s in rows]))
    classes = {t: [s == t for u, s in rows if u == t] for t in set(truth)}
    assert found.mean_class == pytest.approx(np.mean([np.mean(c) for c in classes.values()]))
    assert found.confusion == [[rows.count((t, s)) for s in range(3)] for t in range(3)]
    assert (found.auc, found.ap) == (None, None)
    absent = {name for i, name in enumerate("abc") if i not in classes}
    assert {name for name, share in found.per_class.items() if share is None} == absent


def test_the_positive_class_is_the_first_unless_told():
    scores = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    truth = np.array([0, 1, 1])
    assert evaluate(scores, truth, NAMES).auc == 1.0
    assert evaluate(scores, truth, NAMES).ap == 1.0
    assert evaluate(scores, truth, NAMES, positive=1).ap == pytest.approx(1.0)
    reversed_ = evaluate(scores[:, ::-1], truth, NAMES, positive=1)
    assert reversed_.auc == 0.0
    assert reversed_.ap == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_confidence_is_held_against_accuracy():
    sure = np.array([[0.9, 0.1]] * 10)
    assert calibration_error(sure, np.array([0] * 9 + [1])) == pytest.approx(0)
    assert calibration_error(sure, np.array([1] * 10)) == pytest.approx(0.9)
    assert evaluate(sure, np.array([0] * 9 + [1]), NAMES).ece == pytest.approx(0)
    assert evaluate(10 * sure, np.array([0] * 9 + [1]), NAMES).ece is None


def test_calibration_finds_the_law_that_made_the_labels():
    random = np.random.default_rng(0)
    margin = random.normal(scale=3, size=20000)
    truth = random.random(20000) < 1 / (1 + np.exp(-(0.8 * margin - 0.5)))
    scale, shift = platt(margin, truth)
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

    a, b = platt(margin, truth)
    assert np.isfinite([a, b]).all()
    near = [loss(a + da, b + db) for da in (-0.05, 0, 0.05) for db in (-0.05, 0, 0.05)]
    assert loss(a, b) <= min(near) + 1e-6


def test_what_cannot_be_scored_is_told():
    with pytest.raises(DataError, match="expected"):
        evaluate(np.zeros((2, 3)), np.array([0, 1]), NAMES)
    with pytest.raises(DataError, match="not finite"):
        evaluate(np.array([[np.nan, 0.0]]), np.array([0]), NAMES)
    with pytest.raises(DataError, match="one class"):
        platt(np.array([1.0, 2.0]), np.array([True, True]))
