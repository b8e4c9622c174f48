"""A tracker of boxes built from Stone-Soup's components, for `streamvis bench tracker`.

Stone-Soup is a framework, not a tracker, so the scores depend on the configuration as much as on
Stone-Soup. Here: `MultiTargetMixtureTracker` with JPDA by EHM2, as in its guides; the centre of a
box moves with constant velocity and its sides follow a random walk; `MultiMeasurementInitiator`
confirms a track at its third detection, and a track without detections for a second is deleted.
Noise scales with the height of the first boxes.
"""

import datetime
from typing import Any

import numpy as np

from streamvis.benchmarks.tracker_protocol import ReportedTracks, Update
from streamvis.messages import Array, Detections

CENTRE, SIDES = 0.05, 0.1  # one sigma of a detection, as a share of the height
SPEED = 0.8  # heights/s: one sigma along either axis
ACCELERATION = 0.5  # heights/s^1.5, root of its spectral density
DRIFT = 0.1  # heights/√s, of the sides
CLUTTER = 10.0  # false detections per height⁴: in two sides' lengths as in the place
MEMORY_S = 1.0
POINTS = 3
START = datetime.datetime(2020, 1, 1)


def stone_soup(fps: float, threshold: float) -> Update:
    """Leave out detections below the threshold; scores are not used otherwise."""
    from stonesoup.types.detection import Detection

    tracker: Any = None
    numbers: dict[str, int] = {}  # by UUID
    frames = 0

    def update(detections: Detections) -> ReportedTracks:
        nonlocal tracker, frames
        boxes = detections.boxes[detections.scores >= threshold].astype(np.float64)
        now = START + datetime.timedelta(seconds=frames / fps)
        frames += 1
        if tracker is None and len(boxes):
            tracker = _tracker(float(np.median(boxes[:, 3] - boxes[:, 1])))
        if tracker is None:
            return ReportedTracks(np.zeros(0, np.int64), np.zeros((0, 4)))
        model = tracker.updater.measurement_model
        z = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        found = {Detection(one, timestamp=now, measurement_model=model) for one in z}
        tracker.detector_iter = iter([(now, found)])
        _, tracks = next(tracker)
        seen = [one for one in tracks if hasattr(one.state, "hypothesis")]
        ids = [numbers.setdefault(one.id, len(numbers)) for one in seen]
        return ReportedTracks(np.array(ids, np.int64), _boxes(model, [one.state for one in seen]))

    return update


def _boxes(model: Any, states: list[Any]) -> Array:
    z = np.array([np.ravel(model.function(one, noise=False)) for one in states], np.float64)
    middle, half = z.reshape(-1, 4)[:, :2], z.reshape(-1, 4)[:, 2:] / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def _tracker(height: float) -> Any:
    """Build the tracker for boxes of this height (px); its state is x, vx, y, vy, width, height."""
    from stonesoup.dataassociator.neighbour import GNNWith2DAssignment
    from stonesoup.dataassociator.probability import JPDAwithEHM2
    from stonesoup.deleter.time import UpdateTimeDeleter
    from stonesoup.hypothesiser.distance import DistanceHypothesiser
    from stonesoup.hypothesiser.probability import PDAHypothesiser
    from stonesoup.initiator.simple import MultiMeasurementInitiator
    from stonesoup.measures import Mahalanobis
    from stonesoup.models.measurement.linear import LinearGaussian
    from stonesoup.models.transition import linear
    from stonesoup.predictor.kalman import KalmanPredictor
    from stonesoup.tracker.simple import MultiTargetMixtureTracker
    from stonesoup.types.state import GaussianState
    from stonesoup.updater.kalman import KalmanUpdater

    place = linear.ConstantVelocity((ACCELERATION * height) ** 2)
    side = linear.RandomWalk((DRIFT * height) ** 2)
    motion = linear.CombinedLinearGaussianTransitionModel([place, place, side, side])
    noise = np.array([CENTRE, CENTRE, SIDES, SIDES]) * height
    model = LinearGaussian(6, (0, 2, 4, 5), np.diag(noise**2))
    predictor, updater = KalmanPredictor(motion), KalmanUpdater(model)
    unmeasured = np.array([0, SPEED, 0, SPEED, 0, 0]) * height
    prior = GaussianState(np.zeros((6, 1)), np.diag(unmeasured**2), timestamp=START)
    delete = UpdateTimeDeleter(datetime.timedelta(seconds=MEMORY_S))
    nearest = DistanceHypothesiser(predictor, updater, Mahalanobis(), missed_distance=3)
    pairs = GNNWith2DAssignment(nearest)
    start = MultiMeasurementInitiator(prior, delete, pairs, updater, model, min_points=POINTS)
    joint = PDAHypothesiser(
        predictor,
        updater,
        clutter_spatial_density=CLUTTER / height**4,
        prob_detect=0.9,
        prob_gate=0.99,
    )
    return MultiTargetMixtureTracker(start, delete, None, JPDAwithEHM2(joint), updater)
