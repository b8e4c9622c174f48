"""The tracker's beliefs beside the truth, on people who move as its model says."""

import numpy as np
import pytest

from streamvis.config import Jipda
from streamvis.datasets.motchallenge import rows
from streamvis.evaluation.consistency import consistency
from streamvis.messages import Detections, SourceInfo
from streamvis.runners.track_beliefs import observe_source
from streamvis.runners.tracker_inputs import TrackerFrame
from streamvis.tracking import kalman
from streamvis.tracking.state_space import MEASURED, ImageSpace
from streamvis.tracking.tracker import PARAMETERS

FPS, SIZE, HEIGHT = 10, 12_000, 200.0
SPACE = ImageSpace()
SOURCE = SourceInfo(id="s", label="s", width=SIZE, height=SIZE, fps=FPS, live=False)


def simulate(side=6, frames=40, noise=1.0, hidden=range(0), seed=0):
    """Return true rows, and frames of detections that miss the first person in frames `hidden`."""
    rng = np.random.default_rng(seed)
    n = side**2
    grid = np.stack(np.meshgrid(*[np.linspace(1500, SIZE - 1500, side)] * 2), axis=-1)
    x = np.zeros((n, 6))
    x[:, :2] = grid.reshape(-1, 2)
    x[:, 2:4] = (
        HEIGHT
        * PARAMETERS.speed
        * np.array([1, PARAMETERS.foreshortening])
        * rng.normal(size=(n, 2))
    )
    x[:, 4:] = np.log([0.4 * HEIGHT, HEIGHT])
    F, unit = kalman.constant_velocity(1 / FPS)
    boxes, found = [], []
    for frame in range(1, frames + 1):
        push = rng.normal(size=(n, 4)) @ np.linalg.cholesky(unit).T
        push *= (
            np.exp(x[:, 5:]) * PARAMETERS.acceleration * np.tile([1, PARAMETERS.foreshortening], 2)
        )
        x[:, :4] = x[:, :4] @ F.T + push
        x[:, 4:] += PARAMETERS.size_drift / np.sqrt(FPS) * rng.normal(size=(n, 2))
        boxes.append(SPACE.boxes(x))
        root = np.sqrt(np.diagonal(SPACE.measure(boxes[-1], np.zeros(n)).R, axis1=1, axis2=2))
        seen = x.copy()
        seen[:, MEASURED] += noise * root * rng.normal(size=(n, 4))
        there = SPACE.boxes(seen)[frame in hidden :]
        part = Detections.of(there, np.full(len(there), 0.95))
        found.append(TrackerFrame(frame, round(frame * 1e6 / FPS), part))
    numbers = np.repeat(np.arange(1, frames + 1), n)
    truth = rows(numbers, np.tile(np.arange(1, n + 1), frames), np.concatenate(boxes))
    return truth, found


def observed(truth, frames):
    return observe_source(SOURCE, truth, Jipda(), frames)


def test_the_tracker_is_consistent_with_people_of_its_own_model():
    found = consistency(observed(*simulate()))
    everyone = found.groups["all"]
    assert found.nis.n > 1200
    assert found.nis.mean == pytest.approx(1, abs=0.1)
    assert everyone.nees.mean == pytest.approx(1, abs=0.1)
    assert everyone.velocity.mean == pytest.approx(1, abs=0.25)
    assert everyone.calibration[-1].right > 0.95
    for one in found.components.values():
        assert one.detections == pytest.approx(1, abs=0.15)


def test_detections_of_twice_the_noise_are_seen_as_such():
    found = consistency(observed(*simulate(noise=2.0)))
    assert found.nis.mean > 2
    assert found.groups["all"].nees.mean > 2
    for one in found.components.values():
        assert one.detections == pytest.approx(4, rel=0.25)  # the gate cuts their tails off


def test_a_track_that_is_not_seen_is_compared_with_whom_it_followed():
    truth, frames = simulate(side=2, hidden=range(21, 31))
    beliefs = observed(truth, frames)
    unseen = beliefs.where(beliefs.unseen_s > 0)
    np.testing.assert_allclose(unseen.unseen_s, np.arange(1, 11) / FPS)
    assert np.isfinite(unseen.error).all()
    assert not unseen.edge.any()
    assert np.isnan(unseen.innovation).all()
    spread = np.trace(unseen.covariance[:, :2, :2], axis1=1, axis2=2)
    assert (np.diff(spread) > 0).all()
    assert sum(one.n for one in consistency(beliefs).unseen) == 10


def test_people_who_are_not_scored_make_tracks_neither_right_nor_wrong():
    truth, frames = simulate(side=2, frames=20)
    truth.scores[truth.ids == 1] = 0
    beliefs = observed(truth, frames)
    assert np.isnan(beliefs.right).mean() == pytest.approx(0.25)
    assert (beliefs.right[np.isfinite(beliefs.right)] == 1).all()


def test_without_people_nothing_is_believed():
    truth, _ = simulate(side=1, frames=2)
    nobody = [TrackerFrame(1, 0, Detections.of([], []))]
    assert len(observed(truth, nobody)) == 0
