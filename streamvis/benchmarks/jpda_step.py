"""One step of JPDA, from prediction to update: ours and Stone-Soup's, on the same targets."""

import datetime
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from streamvis.benchmarks.peers import imports
from streamvis.benchmarks.simulated_detections import DETECTED, EDGE, FPS, HEIGHT_PX, Scene
from streamvis.messages import Array
from streamvis.tracking import filters, kalman

DEVIATION = 15.0, 60.0  # px, px/s: one sigma of the prior along either axis
ACCELERATION = 100.0  # px²/s³, spectral density
P_GATE = 0.99
NOW = datetime.datetime(2020, 1, 1)
ORDER = [0, 2, 1, 3]  # of Stone-Soup's state: x, vx, y, vy


class Step(NamedTuple):
    """The input of one step: the targets' states one frame ago, and the detections of now."""

    x: Array  # (N, 4) x, y, vx, vy
    P: Array  # (N, 4, 4)
    z: Array  # (M, 2)
    R: Array  # (2, 2), one for all
    dt: float  # s
    q: float  # spectral density of the acceleration
    p_detect: float
    p_gate: float
    clutter: float  # per px²


Associate = Callable[
    [Step], Callable[[], Array]
]  # the returned callable runs the step: β (N, M + 1)


def step(scene: Scene, frame: int) -> Step:
    """Return the step to this frame, with the centres of the people as point targets."""
    rng = np.random.default_rng(frame)
    before, now = (_centres(scene.truth[k]) for k in (frame - 1, frame))
    deviation = np.repeat(DEVIATION, 2)
    state = np.concatenate([before, (now - before) * FPS], axis=1)
    return Step(
        x=state + deviation * rng.normal(size=state.shape),
        P=np.tile(np.diag(deviation**2), (len(state), 1, 1)),
        z=_centres(scene.frames[frame].boxes.astype(np.float64)),
        R=np.eye(2) * (EDGE * HEIGHT_PX) ** 2 / 2,  # a centre lies between two edges
        dt=1 / FPS,
        q=ACCELERATION,
        p_detect=DETECTED,
        p_gate=P_GATE,
        clutter=scene.clutter,
    )


def _centres(boxes: Array) -> Array:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def ours(step: Step) -> Callable[[], Array]:
    """Prepare `filters.jipda` with existence probabilities of 1, which is JPDA."""
    F, Q = kalman.constant_velocity(step.dt)
    Q = np.broadcast_to(step.q * Q, step.P.shape)
    H, certain = np.eye(2, 4), np.ones(len(step.x))
    R = np.broadcast_to(step.R, (len(step.z), 2, 2))

    def run() -> Array:
        x, P = kalman.predict(step.x, step.P, F, Q)
        after = filters.jipda(
            x, P, certain, step.z, R, H,
            p_detect=step.p_detect, p_gate=step.p_gate, clutter=step.clutter,
        )  # fmt: skip
        return after.beta

    return run


def associators() -> dict[str, Associate]:
    """Return Stone-Soup's two faster associators, where it is installed."""
    if not imports("stonesoup.dataassociator.probability"):
        return {}
    from stonesoup.dataassociator.probability import JPDAwithEHM2, JPDAwithLBP

    return {
        "Stone-Soup LBP": lambda step: _stone_soup(step, JPDAwithLBP),
        "Stone-Soup EHM2": lambda step: _stone_soup(step, JPDAwithEHM2),
    }


def _stone_soup(step: Step, associator: Any) -> Callable[[], Array]:
    from stonesoup.models.measurement.linear import LinearGaussian
    from stonesoup.types.detection import Detection
    from stonesoup.types.state import GaussianState
    from stonesoup.types.track import Track
    from stonesoup.updater.probability import PDAUpdater

    before = NOW - datetime.timedelta(seconds=step.dt)
    states = zip(step.x[:, ORDER], step.P[:, ORDER][:, :, ORDER], strict=True)
    tracks = [Track([GaussianState(x, P, timestamp=before)]) for x, P in states]
    model = LinearGaussian(4, (0, 2), step.R)  # one for all: predictions are cached by model
    method, updater = associator(_hypothesiser(step)), PDAUpdater(model)
    detections = [Detection(z, timestamp=NOW, measurement_model=model) for z in step.z]
    every = set(detections)
    column = {id(one): j for j, one in enumerate(detections, 1)}

    def run() -> Array:
        beta = np.zeros((len(tracks), len(detections) + 1))
        found = method.associate(tracks, every, NOW)
        for i, track in enumerate(tracks):
            for one in found[track]:
                beta[i, column[id(one.measurement)] if one else 0] = float(one.probability)
            updater.update(found[track])
        return beta

    return run


def _hypothesiser(step: Step) -> Any:
    from stonesoup.hypothesiser.probability import PDAHypothesiser
    from stonesoup.models.transition.linear import (
        CombinedLinearGaussianTransitionModel,
        ConstantVelocity,
    )
    from stonesoup.predictor.kalman import KalmanPredictor
    from stonesoup.updater.kalman import KalmanUpdater

    motion = CombinedLinearGaussianTransitionModel([ConstantVelocity(step.q)] * 2)
    return PDAHypothesiser(
        KalmanPredictor(motion),
        KalmanUpdater(None),
        clutter_spatial_density=step.clutter,
        prob_detect=step.p_detect,
        prob_gate=step.p_gate,
    )
