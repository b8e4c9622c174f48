"""Mistakes: agreement with the scores they explain, and cases worked out by hand."""

import numpy as np
import pytest

from streamvis.datasets.coco import ImageTruth
from streamvis.evaluation.detection import evaluate, examine
from streamvis.evaluation.mistakes import mistakes
from streamvis.messages import Detections

A, B, C = (0, 0, 20, 60), (100, 0, 120, 60), (200, 0, 220, 60)


def truth(*boxes, ignore=(), crowd=()):
    n = len(boxes)
    return ImageTruth(
        name="picture",
        width=400,
        height=300,
        boxes=np.array(boxes, np.float64).reshape(n, 4),
        ignore=np.isin(np.arange(n), ignore),
        crowd=np.isin(np.arange(n), crowd),
        masks=(None,) * n,
    )


def found(*scored, labels=None):
    n = len(scored)
    return Detections(
        boxes=np.array([box for box, _ in scored], np.float32).reshape(n, 4),
        scores=np.array([score for _, score in scored], np.float32),
        labels=np.ones(n, np.int32) if labels is None else np.array(labels, np.int32),
        masks=np.zeros((0, 0, 0), np.uint8),
    )


def shifted(box, x, y=0):
    return tuple(np.add(box, (x, y, x, y)))


def test_who_was_found_by_what():
    truths = [truth(), truth(C, A, B, ignore=[0]), truth(), truth(A)]
    parts = [
        found((C, 0.3)),
        found((A, 0.4), (C, 0.9), (shifted(A, 2), 0.8), (B, 0.99), labels=[1, 1, 1, 3]),
        found(),
        found((C, 0.2), (A, 0.1)),
    ]
    _, (alone, mixed, nothing, last) = examine(truths, parts)
    assert alone.wrong.tolist() == [True]
    np.testing.assert_allclose(mixed.scores, [0.9, 0.8, 0.4])  # people, best first
    assert mixed.wrong.tolist() == [False, False, True]  # on the ignored one; a hit; a second box
    assert mixed.counts.tolist() == [False, True, True]
    assert mixed.finder[1:].tolist() == [1, -1]
    assert (len(nothing.boxes), len(nothing.finder)) == (0, 0)
    assert (last.wrong.tolist(), last.finder.tolist()) == ([True, False], [1])


def scene(seed, pictures=15):
    rng = np.random.default_rng(seed)
    truths, parts = [], []
    for _ in range(pictures):
        n = rng.integers(0, 6)
        low = rng.uniform(0, 200, (n, 2))
        boxes = np.concatenate([low, low + rng.uniform(20, 120, (n, 2))], axis=1)
        near = boxes + rng.normal(0, 6, boxes.shape)
        low = rng.uniform(0, 200, (3, 2))
        near = np.concatenate([near, np.concatenate([low, low + 40], axis=1)])
        scores = rng.uniform(0, 1, len(near)).round(2)
        marked = rng.random((2, n)) < 0.15
        truths.append(truth(*boxes, ignore=np.flatnonzero(marked[0]), crowd=marked[1].nonzero()[0]))
        parts.append(found(*zip(near, scores, strict=True)))
    return truths, parts


@pytest.mark.parametrize("film", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_mistakes_are_those_that_the_scores_count(seed, film):
    truths, parts = scene(seed)
    scores, matches = examine(truths, parts)
    assert scores == evaluate(truths, parts)
    wrong, missed = mistakes(truths, matches, scores.threshold, film)
    hits = scores.recall * scores.people
    assert sum(one.pictures for one in missed) == pytest.approx(scores.people - hits)
    assert sum(one.pictures for one in wrong) == pytest.approx(hits / scores.precision - hits)
    for some in (wrong, missed):
        assert [one.weight for one in some] == sorted((one.weight for one in some), reverse=True)
    assert all(one.score >= scores.threshold for one in wrong)
    assert all(one.score < scores.threshold for one in missed)


def test_how_close_and_how_sure_a_mistake_was():
    there = truth(A, B, C)
    half = shifted(B, 10)  # IoU 1/3 with B
    parts = found((half, 0.9), (A, 0.2), (shifted(C, 0, 150), 0.8))
    _, matches = examine([there], [parts])
    wrong, missed = mistakes([there], matches, 0.5, film=False)
    assert [(one.score, one.iou) for one in wrong] == [
        (pytest.approx(0.9), pytest.approx(1 / 3)),
        (pytest.approx(0.8), 0),
    ]
    by_box = {tuple(one.box): (one.score, one.iou) for one in missed}
    assert by_box[A] == (pytest.approx(0.2), 0)  # its detection does not count here
    assert by_box[B] == (0, pytest.approx(1 / 3))
    assert by_box[C] == (0, 0)


def test_a_person_behind_others_weighs_what_is_in_view():
    behind, before = (-30, 0, 40, 100), (20, 10, 60, 120)  # the one partly outside the picture
    there = truth(behind, before)
    _, matches = examine([there], [found((C, 0.9))])
    _, missed = mistakes([there], matches, 0.5, film=False)
    assert [one.weight for one in missed] == pytest.approx([40 * 110, 40 * 100 - 20 * 90])


def test_a_film_shows_one_mistake_for_many_frames():
    walk = [shifted(A, 3 * n) for n in range(10)]  # IoU 17/23 from frame to frame
    gone = {4, 5}  # two frames without it do not end it
    pictures = [truth(B) if n in gone else truth(box, B) for n, box in enumerate(walk)]
    parts = [found((shifted(C, 0, 100), 0.5 + n / 100), (B, 0.9)) for n in range(10)]
    _, matches = examine(pictures, parts)
    wrong, missed = mistakes(pictures, matches, 0.3, film=True)
    assert [(one.picture, one.pictures) for one in wrong] == [(9, 10)]
    assert [one.pictures for one in missed] == [8]
    wrong, missed = mistakes(pictures, matches, 0.3, film=False)
    assert (len(wrong), len(missed)) == (10, 8)


def test_places_and_times_apart_are_mistakes_apart():
    pictures = [truth(A, C), *[truth()] * 3, truth(A), truth(A)]
    _, matches = examine(pictures, [found((B, 0.9)), *[found()] * 5])
    _, missed = mistakes(pictures, matches, 0.5, film=True)
    assert sorted((one.picture, one.pictures) for one in missed) == [(0, 1), (0, 1), (4, 2)]


def test_no_mistakes_are_none():
    scores, matches = examine([truth(A)], [found((A, 0.9))])
    assert mistakes([truth(A)], matches, scores.threshold, film=True) == ([], [])
