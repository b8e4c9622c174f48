"""Scores to probabilities: what must hold for any scores, and how near they come to the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.datasets.motchallenge import read_sequences
from streamvis.geometry import iou
from streamvis.tracking.score_calibration import AT_MEAN, MEMORY, ScoreCalibration, fit

frames = st.lists(st.lists(st.floats(-1e3, 1e3, width=32), max_size=6), min_size=1, max_size=6)


def calibrated(scores):
    calibration = ScoreCalibration()
    return [calibration(np.array(one)) for one in scores]


def made_up(people, clutter, seed=0, floor=-1.0):
    """Shuffled scores of a detector whose clutter decays from its floor, and who is a person."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(3, 1, people), floor + rng.exponential(0.8, clutter)])
    true = np.arange(people + clutter) < people
    keep = scores >= floor  # what a file holds
    order = rng.permutation(int(keep.sum()))
    return scores[keep][order], true[keep][order]


@given(frames)
@settings(max_examples=40)
def test_frames_that_follow_change_nothing(scores):
    whole = calibrated(scores)
    for n in range(1, len(scores)):
        for now, later in zip(calibrated(scores[:n]), whole, strict=False):
            np.testing.assert_array_equal(now, later)


@given(frames)
@settings(max_examples=40)
def test_probabilities_rise_with_the_score(scores):
    for raw, found in zip(scores, calibrated(scores), strict=True):
        assert ((found >= 0) & (found <= 1)).all()
        assert (np.diff(found[np.argsort(raw, kind="stable")]) >= -1e-12).all()


@given(st.permutations(range(8)))
@settings(max_examples=20)
def test_the_order_within_a_frame_does_not_matter(order):
    frame = np.array([3.0, -1, 7, 2, 2, 9, 0, 4])
    found = calibrated([[1, 5, 6], frame])[1]
    np.testing.assert_allclose(calibrated([[1, 5, 6], frame[order]])[1], found[order], atol=1e-12)


@pytest.mark.parametrize(("unit", "zero"), [(50, 0), (0.01, 5), (1, -400), (30, 7)])
def test_another_scale_gives_the_same_probabilities(unit, zero):
    scores = made_up(60, 40)[0].reshape(-1, 5)
    np.testing.assert_allclose(
        calibrated(scores * unit + zero), calibrated(scores), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("alike", [0.0, -1.0, 50.0, 1e12])
def test_scores_that_are_all_alike_say_nothing(alike):
    usual = 1 / (1 + np.exp(-AT_MEAN))
    np.testing.assert_allclose(np.concatenate(calibrated([[alike], [alike, alike]])), usual)


def test_no_scores():
    assert len(ScoreCalibration()(np.empty(0))) == 0


def test_shares_stand_as_they_are_until_one_is_none():
    many = np.linspace(0, 1, 200)
    first, second, third = calibrated([many, [1.0, 0.0], [0.4, 1.2]])
    np.testing.assert_array_equal([*first, *second], [*many, 1, 0])
    expected = ScoreCalibration(believe_shares=False)
    for frame in (many, [1.0, 0.0]):
        expected(np.array(frame))
    np.testing.assert_allclose(third, expected(np.array([0.4, 1.2])), atol=0.01)
    assert third[0] < third[1]
    assert ScoreCalibration(believe_shares=False)(np.array([0.2, 0.2]))[0] > 0.5


def test_few_scores_say_little():
    (found,) = calibrated([[1.0, 2.0, 3.0]])
    assert (found > 0.6).all()


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_probabilities_are_near_the_share_of_people(share):
    scores, true = made_up(round(2000 * share), 2000 - round(2000 * share), seed=1)
    found = np.concatenate(calibrated(scores[: len(scores) // 4 * 4].reshape(-1, 4)))[500:]
    true = true[500 : 500 + len(found)]
    brier = np.mean((found - true) ** 2)
    assert brier < 0.45 * np.mean((true.mean() - true) ** 2)  # of one that knows only the share
    assert true[found > 0.9].mean() > 0.9
    assert true[found < 0.3].mean() < 0.3


def test_the_mixture_finds_how_many_are_people():
    """Towards what the prior expects, which is 0.75, but never on its other side."""
    found = [fit(made_up(round(4000 * p), 4000 - round(4000 * p), seed=2)[0]) for p in (0.4, 0.6)]
    assert 0.4 < found[0].people < 0.6 < found[1].people < 0.7


def test_a_detector_with_a_deeper_floor_is_seen_through():
    """Ten times as much clutter as people: the mixture alone knows of it."""
    scores, true = made_up(300, 3000, seed=3, floor=-4.0)
    odds = fit(scores).log_odds(scores)
    assert true[odds > 0].mean() > 0.5  # of 0.09
    assert (odds[true] > 0).mean() > 0.95


def test_only_the_latest_scores_are_kept():
    calibration = ScoreCalibration()
    for _ in range(8):
        calibration(np.arange(1000.0))
    assert len(calibration.seen) == MEMORY


def test_real_scores_become_near_the_share_of_hits(data):
    """Public detections on two scales, against whether a box is on a person."""
    for one in read_sequences(data / "mot"):
        calibration = ScoreCalibration()
        found = [calibration(seen.scores) for seen in one.detections.by_frame(one.length)]
        hit = [
            iou(seen.boxes, there.boxes).max(axis=1, initial=0) >= 0.5
            for seen, there in zip(
                one.detections.by_frame(one.length), one.truth.by_frame(one.length), strict=True
            )
        ]
        found, hit = np.concatenate(found), np.concatenate(hit)
        brier = np.mean((found - hit) ** 2)
        assert brier < 0.85 * np.mean((hit.mean() - hit) ** 2)  # of one that knows only the share
        assert found.mean() == pytest.approx(hit.mean(), abs=0.12)
        assert hit[found > 0.9].mean() > 0.88
        assert hit[found < 0.3].mean() < 0.45
