"""Confusions against counting pixel by pixel, outliers against every threshold tried in turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import DataError
from streamvis.evaluation import ranking
from streamvis.evaluation.segmentation import (
    CELLS,
    Confusion,
    OutlierHistogram,
    Reliability,
    gap_closed,
)

NAMES = ("road", "tree", "car", "person")
VOID = 255
pictures = st.lists(  # of (said, truth)
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 3, VOID])), max_size=40),
    max_size=4,
)


def confusion_of(rows):
    confusion = Confusion(NAMES, VOID)
    for picture in rows:
        said, truth = np.array(picture, np.uint8).reshape(-1, 2).T
        confusion.add(said, truth)
    return confusion


@given(pictures)
def test_iou_is_of_the_pixels_of_all_pictures_together(rows):
    pixels = {(i, j): pair for i, row in enumerate(rows) for j, pair in enumerate(row)}
    counted = {place: pair for place, pair in pixels.items() if pair[1] != VOID}
    expected = {}
    for c, name in enumerate(NAMES):
        said = {place for place, (s, _) in counted.items() if s == c}
        there = {place for place, (_, t) in counted.items() if t == c}
        expected[name] = len(said & there) / len(said | there) if said | there else None
    scores = confusion_of(rows).scores(movable=(2, 3))
    assert scores.per_class == pytest.approx(expected)
    assert scores.skipped == [name for name in NAMES if expected[name] is None]
    for names, mean in ((NAMES, scores.miou), (("car", "person"), scores.movable_miou)):
        known = [expected[name] for name in names if expected[name] is not None]
        assert mean == (pytest.approx(np.mean(known)) if known else None)
    assert (scores.pictures, scores.pixels) == (len(rows), len(counted))


@given(pictures)
def test_accuracies_are_counts(rows):
    counted = [pair for row in rows for pair in row if pair[1] != VOID]
    scores = confusion_of(rows).scores()
    right = {c: [s == t for s, t in counted if t == c] for _, c in counted}
    if counted:
        assert scores.accuracy == pytest.approx(np.mean([s == t for s, t in counted]))
        assert scores.class_accuracy == pytest.approx(np.mean([np.mean(r) for r in right.values()]))
    else:
        assert (scores.accuracy, scores.class_accuracy, scores.miou) == (None, None, None)
    assert scores.confusion == [
        [counted.count((s, t)) for t in range(len(NAMES))] for s in range(len(NAMES))
    ]


def test_the_set_is_not_the_mean_of_its_pictures():
    small = (np.array([[0, 0]]), np.array([[1, 0]]))  # road 1/2, tree 0
    large = (np.array([[0] * 8]), np.array([[0] * 8]))  # road 1
    confusion = Confusion(NAMES, VOID)
    for said, truth in (small, large):
        confusion.add(said, truth)
    assert confusion.scores().per_class["road"] == pytest.approx(9 / 10)
    assert confusion.miou() == pytest.approx((9 / 10 + 0) / 2)


def test_what_is_said_but_never_there_costs_and_what_is_neither_does_not():
    confusion = Confusion(NAMES, VOID)
    confusion.add(np.array([0, 0, 2]), np.array([0, 0, 0]))
    scores = confusion.scores(movable=(2, 3))
    assert scores.per_class == {
        "road": pytest.approx(2 / 3),
        "tree": None,
        "car": 0,
        "person": None,
    }
    assert scores.miou == pytest.approx(1 / 3)
    assert scores.movable_miou == 0
    assert scores.skipped == ["tree", "person"]
    assert scores.confusion[2][0] == 1  # said car, was road
    assert confusion.miou((1,)) is None


@pytest.mark.parametrize(
    ("said", "truth", "message"),
    [
        ([0, 0], [0, 11], "a label of the truth is 11 .*expected 0 to 3 .*or 255"),
        ([0, 7], [0, 1], "a label found is 7 .*expected 0 to 3"),
        ([0, 0], [0, -1], "is -1"),
        ([0.0, 1.0], [0, 1], "float64; expected integers"),
        ([0], [0, 1], "of 1 pixels were found for a truth of 2"),
    ],
)
def test_labels_of_another_list_are_refused(said, truth, message):
    confusion = Confusion(NAMES, VOID)
    with pytest.raises(DataError, match=message):
        confusion.add(np.array(said), np.array(truth))
    assert confusion.counts.sum() == confusion.pictures == 0


def test_what_is_said_where_nothing_counts_is_free():
    confusion = Confusion(NAMES, VOID)
    confusion.add(np.array([99, 1]), np.array([VOID, 1]))
    assert confusion.scores().accuracy == 1


def test_the_gap_between_copying_and_seeing():
    assert gap_closed(38.6, 52.4, 72.5) == pytest.approx(0.407, abs=1e-3)  # Šarić et al. 2019
    assert gap_closed(0.5, 0.5, 0.7) == 0
    assert gap_closed(0.5, 0.4, 0.6) == pytest.approx(-1)
    assert gap_closed(0.5, 0.6, 0.5) is None
    assert gap_closed(None, 0.6, 0.7) is None


few_cells = st.lists(st.tuples(st.sampled_from([0, 1, 2, 40_000, CELLS - 1]), st.booleans()))
any_cells = st.lists(st.tuples(st.integers(0, CELLS - 1), st.booleans()), max_size=60)


def outliers_of(rows, pictures=1):
    found = OutlierHistogram()
    for part in np.array_split(np.array(rows, np.int64).reshape(-1, 2), pictures):
        found.add(part[:, 0] / (CELLS - 1), part[:, 1].astype(bool))
    return found.scores()


def by_every_threshold(rows):
    """(AP, FPR at 95 % found, threshold) of (cell, unknown) pairs, from the definitions."""
    unknown = [cell for cell, positive in rows if positive]
    known = [cell for cell, positive in rows if not positive]
    total = recall = 0.0
    flagged = threshold = None
    for cell in sorted({cell for cell, _ in rows}, reverse=True):
        hits, alarms = sum(c >= cell for c in unknown), sum(c >= cell for c in known)
        now = hits / len(unknown)
        total += (now - recall) * hits / (hits + alarms)
        recall = now
        if threshold is None and 100 * hits >= 95 * len(unknown):
            flagged, threshold = (alarms / len(known) if known else None), cell / (CELLS - 1)
    return total, flagged, threshold


@given(st.one_of(few_cells, any_cells), st.integers(1, 3))
def test_outliers_are_ranked_by_every_distinct_score(rows, pictures):
    scores = outliers_of(rows, pictures)
    values, truth = np.array(rows, float).reshape(-1, 2).T
    truth = truth.astype(bool)
    assert (scores.pictures, scores.pixels) == (pictures, len(rows))
    assert scores.unknown == (pytest.approx(truth.mean()) if rows else None)
    if not truth.any():
        assert (scores.ap, scores.fpr95, scores.auroc, scores.threshold) == (None,) * 4
        return
    ap, fpr95, threshold = by_every_threshold(rows)
    assert (scores.ap, scores.threshold) == (pytest.approx(ap), pytest.approx(threshold))
    assert scores.fpr95 == (None if fpr95 is None else pytest.approx(fpr95))
    auroc = ranking.roc_auc(ranking.count(values, truth))
    assert scores.auroc == (None if auroc is None else pytest.approx(auroc))


def test_many_pixels_with_ties_agree_with_the_ranking_of_clips():
    random = np.random.default_rng(0)
    truth = random.random((7, 120, 160)) < 0.02
    cells = np.clip(random.normal(300 + 250 * truth, 150), 0, CELLS - 1).astype(int)
    found = OutlierHistogram()
    for cell, unknown in zip(cells, truth, strict=True):
        found.add((cell / (CELLS - 1)), unknown)
    scores, flat = found.scores(), cells.ravel().astype(float)
    assert scores.ap == pytest.approx(ranking.average_precision(ranking.count(flat, truth.ravel())))
    assert scores.auroc == pytest.approx(ranking.roc_auc(ranking.count(flat, truth.ravel())))
    threshold = np.sort(cells[truth])[::-1][int(np.ceil(0.95 * truth.sum())) - 1]
    assert scores.threshold == pytest.approx(threshold / (CELLS - 1))
    assert scores.fpr95 == pytest.approx((cells[~truth] >= threshold).mean())


def test_a_perfect_a_blind_and_a_reversed_ranking():
    truth = np.array([True] * 20 + [False] * 80)
    for score, ap, fpr95, auroc in (
        (truth * 1.0, 1, 0, 1),
        (np.full(100, 0.5), 0.2, 1, 0.5),
        (1.0 - truth, 0.2, 1, 0),
    ):
        found = OutlierHistogram()
        found.add(score, truth)
        scores = found.scores()
        assert (scores.ap, scores.fpr95, scores.auroc) == pytest.approx((ap, fpr95, auroc))


def test_finer_scores_lose_no_more_than_their_rounding():
    random = np.random.default_rng(1)
    truth = random.random(20_000) < 0.05
    values = random.beta(2 + 3 * truth, 5).astype(np.float32)
    found = OutlierHistogram()
    found.add(values, truth)
    assert found.scores().ap == pytest.approx(
        ranking.average_precision(ranking.count(values, truth)), abs=1e-3
    )
    assert found.scores().auroc == pytest.approx(
        ranking.roc_auc(ranking.count(values, truth)), abs=1e-5
    )


def test_pixels_that_do_not_count_are_not_looked_at():
    found = OutlierHistogram()
    found.add(np.array([[np.nan, 0.9, 0.1]]), np.array([[1, 1, 0]]) > 0, np.array([[0, 1, 1]]) > 0)
    assert found.scores().pixels == 2
    assert found.scores().ap == 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.1, np.nan], "none of them NaN"),
        ([0.1, 1.5], r"to 1\.5 were found"),
        ([-0.1, 0.5], r"from -0\.1"),
        ([0.1], "of 1 pixels were found for a truth of 2"),
    ],
)
def test_scores_that_are_none_are_refused(scores, message):
    with pytest.raises(DataError, match=message):
        OutlierHistogram().add(np.array(scores), np.array([True, False]))


def test_what_is_told_with_a_probability_comes_true_as_often():
    random = np.random.default_rng(2)
    predicted = random.random((400, 500))
    reliability = Reliability()
    reliability.add(predicted[:100], random.random((100, 500)) < predicted[:100])
    reliability.add(predicted[100:], random.random((300, 500)) < predicted[100:])
    steps = reliability.steps()
    assert [step.predicted for step in steps] == pytest.approx(np.arange(0.05, 1, 0.1), abs=0.002)
    assert [step.observed for step in steps] == pytest.approx(
        [step.predicted for step in steps], abs=0.02
    )
    assert sum(step.samples for step in steps) == predicted.size
    unsure = ((predicted >= 0.1) & (predicted < 0.9)).sum()
    assert reliability.unsure() == (
        pytest.approx(0.5, abs=0.01),
        pytest.approx(0.5, abs=0.01),
        unsure,
    )


def test_who_is_certain_is_asked_apart():
    reliability = Reliability()
    reliability.add(np.array([0.0, 0.05, 1.0, 0.95]), np.array([False, True, True, True]))
    assert reliability.unsure() is None
    reliability.add(np.array([0.8]), np.array([False]))
    assert reliability.unsure() == (pytest.approx(0.8), 0, 1)
    assert reliability.steps() == [
        (pytest.approx(0.025), 0.5, 2), (pytest.approx(0.8), 0, 1), (pytest.approx(0.975), 1, 2)
    ]  # fmt: skip
