"""Accuracy against counting, confidence against accuracy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import DataError
from streamvis.evaluation.classification import (
    calibration_error,
    evaluate,
)

NAMES = ("fight", "normal")


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


def test_what_cannot_be_scored_is_told():
    with pytest.raises(DataError, match="expected"):
        evaluate(np.zeros((2, 3)), np.array([0, 1]), NAMES)
    with pytest.raises(DataError, match="not finite"):
        evaluate(np.array([[np.nan, 0.0]]), np.array([0]), NAMES)
