"""Retrieval and pairs against definitions written out, and cases by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.datasets.motchallenge import Rows
from streamvis.errors import DataError
from streamvis.evaluation.reid import (
    BLOCK,
    CELLS,
    LAGS,
    LabelledEmbeddings,
    evaluate,
    people_of,
    retrieve,
    verification_auc,
)


def looks(vectors, ids, frames, fps=10.0):
    rows = np.array(vectors, np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return LabelledEmbeddings(rows, np.array(ids), np.array(frames), fps)


def random_looks(seed, n, people=4, frames=60, fps=10.0):
    rng = np.random.default_rng(seed)
    ids, when = np.divmod(rng.choice(people * frames, n, replace=False), frames)  # once a frame
    vectors = rng.normal(size=(people, 6))[ids] + rng.normal(size=(n, 6))
    return looks(vectors, ids, when, fps)


def asked_one_by_one(found, apart_s):
    """(query, rank of the first right answer, average precision), as information retrieval has it.

    Average precision is the mean, over the right answers, of the share of right ones among those
    ranked no worse.
    """
    rows = []
    for q in range(len(found.ids)):
        gallery = [
            i
            for i in range(len(found.ids))
            if i != q
            and (
                found.ids[i] != found.ids[q]
                or abs(found.frames[i] - found.frames[q]) >= apart_s * found.fps - 1e-6
            )
        ]
        ranked = sorted(gallery, key=lambda i: -float(found.vectors[i] @ found.vectors[q]))
        right = [found.ids[i] == found.ids[q] for i in ranked]
        if not any(right):
            continue
        shares = [sum(right[: k + 1]) / (k + 1) for k in range(len(right)) if right[k]]
        rows.append((q, right.index(True) + 1, sum(shares) / len(shares)))
    return rows


@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0, 0.1, 1, 2.0, 5]))
@settings(max_examples=40)
def test_answers_are_those_of_the_definition(seed, n, apart_s):
    found = random_looks(seed, n)
    answers = retrieve(found, apart_s)
    expected = asked_one_by_one(found, apart_s)
    assert answers.queries.tolist() == [q for q, _, _ in expected]
    assert answers.first.tolist() == [first for _, first, _ in expected]
    np.testing.assert_allclose(answers.precision, [p for _, _, p in expected], atol=1e-9)
    for q, best in zip(answers.queries, answers.best, strict=True):
        assert q not in best
        alike = [float(found.vectors[i] @ found.vectors[q]) for i in best if i >= 0]
        assert alike == sorted(alike, reverse=True)


def test_the_best_answers_are_the_most_alike_and_end_where_there_are_no_more():
    found = looks([[1, 0], [1, 0.1], [1, 0.3], [0, 1]], [1, 2, 1, 2], [0, 0, 50, 90])
    answers = retrieve(found, 2.0)
    assert answers.queries.tolist() == [0, 1, 2, 3]
    assert answers.best[0].tolist() == [1, 2, 3, -1, -1]
    assert answers.first.tolist() == [2, 3, 2, 2]
    np.testing.assert_allclose(answers.precision, [1 / 2, 1 / 3, 1 / 2, 1 / 2])


def test_the_same_person_a_moment_ago_is_not_in_the_gallery_and_others_are():
    found = looks([[1, 0], [1, 0], [0, 1], [0.9, -0.1]], [1, 1, 1, 2], [0, 5, 40, 0])
    scores, answers = evaluate(found, 2.0)
    assert answers.best[0].tolist() == [3, 2, -1, -1, -1]
    assert (scores.rank1, scores.rank5, scores.queries) == (1 / 3, 1.0, 3)


def test_who_says_the_same_of_everyone_is_wrong():
    found = looks(np.ones((6, 4)), [1, 1, 1, 2, 2, 2], [0, 30, 60, 0, 30, 60])
    scores, _ = evaluate(found, 2.0)
    assert scores.rank1 == 0
    assert scores.auc["5 s"] == 0.5


def test_more_looks_than_a_block_are_no_different():
    found = random_looks(1, BLOCK + 40, people=9, frames=900)
    order = np.random.default_rng(2).permutation(len(found.ids))
    mixed = LabelledEmbeddings(
        found.vectors[order], found.ids[order], found.frames[order], found.fps
    )
    one, other = evaluate(found)[0], evaluate(mixed)[0]
    assert one.map == pytest.approx(other.map, abs=1e-5)
    assert one.rank1 == pytest.approx(other.rank1)
    assert one.auc == pytest.approx(other.auc, abs=1e-5)


def pairs_one_by_one(found, low, high):
    """Share of (same, different) couples of pairs in which the same are more alike.

    The pairs are those with low < frames apart <= high. Couples as alike as a cell is wide may
    be counted either way: the least and the most.
    """
    same, different = [], []
    for i in range(len(found.ids)):
        for j in range(i):
            if low < abs(int(found.frames[i]) - int(found.frames[j])) <= high:
                alike = float(found.vectors[i] @ found.vectors[j])
                (same if found.ids[i] == found.ids[j] else different).append(alike)
    if not same or not different:
        return None
    apart = np.subtract.outer(same, different)
    cell = 2.01 / CELLS
    return float((apart > cell).mean()), float((apart > -cell).mean())


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=25)
def test_areas_are_those_of_all_pairs(seed, n):
    found = random_looks(seed, n, frames=120)
    areas = verification_auc(found)
    edges = [(0, 1), (1, 1), (1, 2), (2, 5), (5, 10), (10, 20), (20, 50), (50, 100), (100, 999)]
    for name, (low, high) in zip(LAGS, edges, strict=True):
        expected = pairs_one_by_one(found, low, high)
        if expected is None:
            assert areas[name] is None
        else:
            assert expected[0] <= areas[name] <= expected[1]


def test_pairs_within_a_frame_are_nobodys():
    found = looks([[1, 0], [0, 1], [1, 0], [0, 1]], [1, 2, 1, 2], [3, 3, 4, 4], fps=5)
    areas = verification_auc(found)
    assert areas["1 frame"] == 1
    assert [name for name, area in areas.items() if area is not None] == ["1 frame"]


def test_nobody_and_nobody_twice():
    nobody, _ = evaluate(looks(np.zeros((0, 3)), [], []))
    assert (nobody.looks, nobody.queries, nobody.rank1, nobody.map) == (0, 0, None, None)
    strangers, answers = evaluate(looks(np.eye(3), [1, 2, 3], [0, 50, 100]))
    assert (strangers.people, strangers.queries, strangers.rank5) == (3, 0, None)
    assert answers.best.shape == (0, 5)


def test_numbers_that_are_none_are_told():
    with pytest.raises(DataError, match="not finite"):
        evaluate(looks([[np.nan, 1], [1, 0]], [1, 1], [0, 50]))


def test_pedestrians_of_some_frames_count_if_they_can_be_seen():
    n = 6
    truth = Rows(
        frames=np.array([1, 1, 1, 1, 2, 11]),
        ids=np.arange(n),
        boxes=np.zeros((n, 4)),
        scores=np.array([1, 0, 1, 1, 1, 1.0]),
        classes=np.array([1, 1, 7, 1, 1, 1]),
        visibility=np.array([0.5, 1, 1, 0.4, 1, 1]),
        world=np.zeros((n, 2)),
    )
    assert people_of(truth).ids.tolist() == [0, 5]
    assert people_of(truth, every=1, min_visibility=0).ids.tolist() == [0, 3, 4, 5]
