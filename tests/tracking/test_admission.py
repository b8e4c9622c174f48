"""Which detections of a frame reach the tracker, and in which order."""

import numpy as np
import pytest
from factories import detections
from hypothesis import given
from hypothesis import strategies as st

from streamvis.tracking.admission import FAR_OUT, MAX_DETECTIONS, admit
from streamvis.tracking.state_space import ImageSpace

SIZE = (640, 480)
PERSON = (100.0, 100.0, 140.0, 200.0)


def admitted(boxes, scores):
    return admit(detections(boxes, scores), ImageSpace(), SIZE)


@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_the_order_of_detections_does_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 400, (n, 2)), rng.uniform(5, 100, (n, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    scores = rng.choice([0.3, 0.6, 0.9], n).astype(np.float32)
    shuffle = rng.permutation(n)
    one, other = admitted(boxes, scores), admitted(boxes[shuffle], scores[shuffle])
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)
    for a, b in zip(one.at, other.at, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.diff(one.scores) <= 0).all()
    np.testing.assert_array_equal(boxes[one.row], one.boxes.astype(np.float32))


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ((100, 100, 100.5, 200), 0.9),  # narrower than 1 px
        ((140, 100, 100, 200), 0.9),  # corners swapped
        ((np.nan, 100, 140, 200), 0.9),
        ((100, 100, np.inf, 200), 0.9),
        ((100, 100, FAR_OUT * 640 + 1, 200), 0.9),
        (PERSON, 1.5),
        (PERSON, -0.1),
        (PERSON, np.nan),
    ],
)
def test_an_invalid_detection_is_dropped_and_the_valid_one_keeps_its_row(box, score):
    found = admitted([box, PERSON], [score, 0.5])
    assert found.row.tolist() == [1]
    assert found.boxes.tolist() == [list(PERSON)]


def test_of_too_many_detections_the_highest_scores_are_kept():
    n = MAX_DETECTIONS + 10
    scores = np.linspace(0.1, 0.9, n)
    found = admitted([PERSON] * n, scores)
    assert found.row.tolist() == list(range(n - 1, 9, -1))


def test_no_detections():
    found = admitted(np.zeros((0, 4)), np.zeros(0))
    assert (len(found.row), found.boxes.shape, len(found.scores)) == (0, (0, 4), 0)
