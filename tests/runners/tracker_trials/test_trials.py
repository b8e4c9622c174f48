"""Trials of the tracker: the copies, the scores, and that settings change only the trial."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from streamvis.config import Jipda
from streamvis.datasets.motchallenge import Rows, rows
from streamvis.errors import UsageError
from streamvis.evaluation.mot import evaluate
from streamvis.runners.tracker_trials.constants import TrialSetting, settings_of
from streamvis.runners.tracker_trials.inputs import SimulatedInput, simulated_inputs
from streamvis.runners.tracker_trials.trials import Thinning, run, track
from streamvis.synthetic.street_scenes import SCENES
from streamvis.tracking import tracker

SETUP = replace(SCENES[0], seconds=8.0)
ONE = SimulatedInput(SETUP, True)
TODAY = TrialSetting()


@pytest.fixture(scope="module")
def material():
    return ONE.read()


def detections(frames):
    return sum(len(one.detections.boxes) for one in frames)


def test_a_copy_lacks_its_share_and_keeps_each_embedding_beside_its_box(material):
    thinning = Thinning(copies=2, drop=0.3)
    first, second = thinning.thinned(material, 0), thinning.thinned(material, 1)
    assert detections(first) == pytest.approx(0.7 * detections(material.frames), rel=0.15)
    assert [one.number for one in first] == [one.number for one in material.frames]
    differ = 0
    for whole, one, other in zip(material.frames, first, second, strict=True):
        boxes = whole.detections.boxes.tolist()
        kept = [boxes.index(box) for box in one.detections.boxes.tolist()]
        assert kept == sorted(set(kept))
        np.testing.assert_array_equal(one.embeddings.vectors, whole.embeddings.vectors[kept])
        np.testing.assert_array_equal(one.detections.scores, whole.detections.scores[kept])
        differ += one.detections.boxes.tolist() != other.detections.boxes.tolist()
    assert differ > 5


def test_copies_depend_on_the_seed_alone_and_not_on_the_embeddings(material):
    thinning = Thinning(drop=0.3, seed=4)
    bare = SimulatedInput(SETUP, False).read()
    for a, b in zip(thinning.thinned(material, 2), thinning.thinned(bare, 2), strict=True):
        np.testing.assert_array_equal(a.detections.boxes, b.detections.boxes)
        assert b.embeddings is None
    other = Thinning(drop=0.3, seed=5).thinned(material, 2)
    assert any(
        a.detections.boxes.tolist() != b.detections.boxes.tolist()
        for a, b in zip(thinning.thinned(material, 2), other, strict=True)
    )


def test_trials_are_the_same_each_time():
    inputs = simulated_inputs([SETUP])
    thinning = Thinning(copies=2)
    first = run(inputs, [TODAY], thinning)
    assert run(inputs, [TODAY], thinning) == first
    assert [(one.inputs, one.copy) for one in first[0]] == [
        ("simulated detections, boxes", 0),
        ("simulated detections, boxes", 1),
        ("simulated detections, embeddings", 0),
        ("simulated detections, embeddings", 1),
    ]


def test_the_score_is_that_of_eval_mot(material):
    thinning = Thinning(copies=1)
    ((score,),) = run([ONE], [TODAY], thinning)
    found = track(material, Jipda(), thinning.thinned(material, 0))
    expected = evaluate(material.sequence, found)
    assert (score.mota, score.idf1, score.hota, score.idsw) == (
        expected.mota,
        expected.idf1,
        expected.hota,
        expected.idsw,
    )


def perfect(truth: Rows) -> Rows:
    return rows(truth.frames, truth.ids, truth.boxes)


@pytest.mark.parametrize("setup", SCENES[::4], ids=lambda one: one.group)
def test_perfect_tracks_of_a_scene_have_perfect_scores(setup):
    """Also where people are hidden or nearly out of the picture, for those are not scored."""
    sequence = SimulatedInput(replace(setup, seconds=6.0), False).read().sequence
    scores = evaluate(sequence, perfect(sequence.truth))
    assert (scores.idf1, scores.mota, scores.idsw) == (1.0, 1.0, 0)
    assert scores.people > 1
    assert (sequence.truth.boxes[:, 2:] > sequence.truth.boxes[:, :2]).all()


def test_perfect_detections_are_tracked_perfectly_where_nobody_is_hidden():
    """One person at a time, nothing in the way, a detector without noise, misses and clutter."""
    setup = replace(
        SETUP, people=1, things=0, noise=1e-6, clutter=0.0, p_detect=1 - 1e-9, near_exits=0.0,
        hidden_exits=0.0, fps=20.0, seconds=20.0, plane=False,
    )  # fmt: skip
    one = SimulatedInput(setup, False)
    ((score,),) = run([one], [TODAY], Thinning(copies=1, drop=0.0))
    sequence = one.read().sequence
    people = len(set(sequence.truth.ids.tolist()))
    assert score.idsw == 0
    late = 5 * people / len(sequence.truth)  # a track takes some frames to be confirmed
    assert score.idf1 > 1 - late


def test_a_constant_changes_for_the_trial_alone():
    before = tracker.PARAMETERS
    setting = TrialSetting(("tracker.acceleration=2.5", "memory_s=0.5"))
    with setting.applied() as config:
        assert msgspec.structs.replace(before, acceleration=2.5) == tracker.PARAMETERS
        assert config.memory_s == 0.5
    assert tracker.PARAMETERS is before
    today, changed = run([ONE], [TODAY, setting], Thinning(copies=1))
    assert today != changed
    assert tracker.PARAMETERS is before


def test_a_constant_is_restored_after_a_failure():
    before = tracker.PARAMETERS
    with pytest.raises(RuntimeError), TrialSetting(("tracker.acceleration=2.5",)).applied():
        raise RuntimeError
    assert tracker.PARAMETERS is before


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("memry_s=1", "did you mean memory_s"),
        ("tracker.acceleraton=1", "did you mean acceleration"),
        ("trackr.acceleration=1", "did you mean tracker"),
        ("tracker.acceleration=fast", "tracker.acceleration=fast"),
        ("tracker.acceleration=[", "not YAML"),
    ],
)
def test_an_unknown_setting_is_refused(pair, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.").replace("[", r"\[")):
        settings_of([pair], [], alone=False)


def test_settings_to_try():
    def names(*arguments, alone=False):
        return [str(one) for one in settings_of(*arguments, alone=alone)]

    assert names([], []) == ["as it is"]
    assert names([], [], alone=True) == ["as it is"]
    assert names(["memory_s=1"], []) == ["as it is", "memory_s=1"]
    assert names(["memory_s=1"], [], alone=True) == ["memory_s=1"]
    assert names([], ["memory_s=1 p_detect=0.8", "memory_s=3"]) == [
        "as it is",
        "memory_s=1 p_detect=0.8",
        "memory_s=3",
    ]
    with pytest.raises(UsageError, match="two settings to try are 'memory_s=1'"):
        names(["memory_s=1"], ["memory_s=1 ", ""])
