"""Weighted boxes fusion: whom it joins, and what the means are worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.geometry import iou
from streamvis.training.detector.box_fusion import ScoredBoxes, fuse, limits_of, within

NO_LIMITS = np.array([-np.inf, -np.inf, np.inf, np.inf])
ONE, OTHER = [10.0, 10, 50, 110], [200.0, 10, 240, 110]


def scored(*rows, limits=NO_LIMITS) -> ScoredBoxes:
    """A list of (box, score)."""
    boxes = np.array([box for box, _ in rows], float).reshape(-1, 4)
    return ScoredBoxes(boxes, np.array([score for _, score in rows], float), limits)


def test_boxes_of_one_person_are_averaged_by_score_and_missing_ones_count_as_zero():
    shifted = [14.0, 10, 54, 110]
    boxes, scores = fuse(
        [scored((ONE, 0.9), (OTHER, 0.6)), scored((shifted, 0.3)), scored()],
    )
    np.testing.assert_allclose(boxes, [[11, 10, 51, 110], OTHER])
    np.testing.assert_allclose(scores, [(0.9 + 0.3) / 3, 0.6 / 3])


def test_two_boxes_of_one_list_are_two_people_even_if_they_overlap():
    near = [16.0, 10, 56, 110]
    boxes, scores = fuse([scored((ONE, 0.9), (near, 0.8)), scored((ONE, 0.7), (near, 0.9))])
    assert len(boxes) == 2
    np.testing.assert_allclose(sorted(scores), [0.8, 0.85])


def test_a_list_that_cannot_have_seen_somebody_does_not_count():
    part = limits_of(np.array([0, 0, 120, 120]), 120, 240)
    np.testing.assert_allclose(part, [-np.inf, -np.inf, 117, np.inf])
    _, scores = fuse([scored((OTHER, 0.8)), scored(limits=part)])
    np.testing.assert_allclose(scores, [0.8])
    _, scores = fuse([scored((ONE, 0.8)), scored(limits=part)])
    np.testing.assert_allclose(scores, [0.4])


def test_nobody_in_all_lists_is_nobody():
    boxes, scores = fuse([scored(), scored()])
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("part", [[0, 0, 240, 120], [60, 0, 240, 120], [0, 30, 240, 90]])
def test_limits_are_where_a_part_ends_inside_the_picture(part):
    limits = limits_of(np.array(part), 120, 240)
    inside = np.array([[part[0] + 5, part[1] + 5, part[2] - 5, part[3] - 5]], float)
    assert within(inside, limits).all()
    touching = np.array([part], float)
    assert within(touching, limits).all() == (part == [0, 0, 240, 120])


rows = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 20), st.floats(0.05, 1)), max_size=5
).map(
    lambda people: scored(
        *(([60.0 * at + off, 10, 60.0 * at + off + 40, 110], s) for at, off, s in people)
    )
)


@given(st.lists(rows, min_size=1, max_size=4))
def test_scores_are_means_and_everybody_is_of_one_group(lists):
    boxes, scores = fuse(lists)
    assert ((scores > 0) & (scores <= 1 + 1e-9)).all()
    total = sum(one.scores.sum() for one in lists)
    np.testing.assert_allclose(scores.sum() * len(lists), total, atol=1e-9)
    everybody = np.concatenate([one.boxes for one in lists])
    if len(everybody):
        assert (iou(everybody, boxes).max(axis=1) >= 0.5).all()
