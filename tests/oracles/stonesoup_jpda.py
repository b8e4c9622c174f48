"""Stone-Soup's associators on arrays, and a clock beside ours.

tests/tracking/test_stonesoup.py compares results. For times, in one process on one thread:

    OMP_NUM_THREADS=1 python tests/oracles/stonesoup_jpda.py
"""

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from stonesoup.dataassociator.probability import (
    JPDA,
    PDA,
    JPDAwithEHM,
    JPDAwithEHM2,
    JPDAwithLBP,
)
from stonesoup.hypothesiser.probability import PDAHypothesiser
from stonesoup.models.measurement.linear import LinearGaussian
from stonesoup.models.transition.linear import (
    CombinedLinearGaussianTransitionModel,
    ConstantVelocity,
)
from stonesoup.predictor.kalman import KalmanPredictor
from stonesoup.types.detection import Detection
from stonesoup.types.state import GaussianState
from stonesoup.types.track import Track
from stonesoup.updater.kalman import KalmanUpdater
from stonesoup.updater.probability import PDAUpdater

from streamvis.tracking import filters

Array = np.ndarray
ASSOCIATORS = {
    "PDA": PDA,
    "JPDA": JPDA,
    "EHM": JPDAwithEHM,
    "EHM2": JPDAwithEHM2,
    "LBP": JPDAwithLBP,
}
THEN = datetime.datetime(2020, 1, 1)
DT_S = 1.0
NOW = THEN + datetime.timedelta(seconds=DT_S)
MAPPING = (0, 2)  # of the state x, vx, y, vy, what is measured


@dataclass(frozen=True)
class Scene:
    """Targets a step ago, and what is detected now."""

    x: Array  # (N, 4) x, vx, y, vy
    P: Array  # (N, 4, 4)
    z: Array  # (M, 2)
    R: Array  # (M, 2, 2)
    q: float = 0.1  # spectral density
    p_detect: float = 0.9
    p_gate: float = 0.99
    clutter: float = 0.012


def scene(seed: int, targets: int, false: int, side: float) -> Scene:
    """Targets anywhere in a square, some undetected, and false detections; every R is its own."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(targets, 4, 4))
    P = 0.1 * a @ a.mT + 0.2 * np.eye(4)
    x = rng.uniform(0, side, (targets, 4)) * [1, 0, 1, 0] + rng.normal(size=(targets, 4)) / 3
    truth = x + np.einsum("nij,nj->ni", np.linalg.cholesky(P), rng.normal(size=x.shape))
    here = (truth[:, [0, 2]] + DT_S * truth[:, [1, 3]])[rng.random(targets) < 0.9]
    z = np.concatenate([here + rng.normal(size=here.shape), rng.uniform(0, side, (false, 2))])
    a = rng.normal(size=(len(z), 2, 2))
    return Scene(x, P, z, 0.1 * a @ a.mT + 0.5 * np.eye(2), clutter=max(false, 1) / side**2)


def predicted(scene: Scene) -> tuple[Array, Array, Array]:
    """Means (N, 4) and covariances (N, 4, 4) after the step, and H (2, 4)."""
    dt, block = DT_S, np.array([[1, DT_S], [0, 1]])
    F = np.kron(np.eye(2), block)
    Q = scene.q * np.kron(np.eye(2), [[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    return scene.x @ F.T, F @ scene.P @ F.T + Q, np.eye(4)[list(MAPPING)]


def prepared(scene: Scene, associator: str) -> tuple[object, list[Track], list[Detection]]:
    """Stone-Soup's associator, tracks and detections of a scene."""
    steps = [ConstantVelocity(scene.q)] * 2
    hypothesiser = PDAHypothesiser(
        KalmanPredictor(CombinedLinearGaussianTransitionModel(steps)),
        KalmanUpdater(None),
        clutter_spatial_density=scene.clutter,
        prob_detect=scene.p_detect,
        prob_gate=scene.p_gate,
    )
    tracks = [
        Track([GaussianState(x, P, timestamp=THEN)]) for x, P in zip(scene.x, scene.P, strict=True)
    ]
    # Stone-Soup remembers what it predicts for a model: detections alike share one
    models = {R.tobytes(): LinearGaussian(4, MAPPING, R) for R in scene.R}
    detections = [
        Detection(z, timestamp=NOW, measurement_model=models[R.tobytes()])
        for z, R in zip(scene.z, scene.R, strict=True)
    ]
    return ASSOCIATORS[associator](hypothesiser), tracks, detections


def stonesoup(scene: Scene, associator: str) -> tuple[Array, Array, Array]:
    """β (N, M + 1), and means and covariances after the update."""
    method, tracks, detections = prepared(scene, associator)
    found = method.associate(tracks, set(detections), NOW)
    updater = PDAUpdater(None, gm_method=True)  # the mixture: the other form shares one R
    row = {id(detection): j + 1 for j, detection in enumerate(detections)}
    beta = np.zeros((len(tracks), len(detections) + 1))
    x, P = np.empty_like(scene.x), np.empty_like(scene.P)
    for i, track in enumerate(tracks):
        for one in found[track]:
            beta[i, row[id(one.measurement)] if one else 0] = float(one.probability)
        after = updater.update(found[track])
        x[i], P[i] = after.mean.ravel(), after.covar
    return beta, x, P


def ours(scene: Scene) -> filters.Associated:
    x, P, H = predicted(scene)
    constants = {"p_detect": scene.p_detect, "p_gate": scene.p_gate, "clutter": scene.clutter}
    return filters.jpda(x, P, scene.z, scene.R, H, **constants)


def milliseconds(run: Callable[[], object], times: int) -> float:
    """Median of this process's time."""
    spent = []
    for _ in range(times):
        start = time.process_time()
        run()
        spent.append(1e3 * (time.process_time() - start))
    return float(np.median(spent))


def main() -> None:
    """Ours predicts, associates and updates; Stone-Soup predicts and associates.

    All detections have one R, which is what Stone-Soup is fastest at.
    """
    for targets, false, side in ((20, 12, 90.0), (50, 25, 150.0), (50, 25, 90.0), (6, 2, 6.0)):
        case = scene(0, targets, false, side)
        case = replace(case, R=np.stack([np.eye(2)] * len(case.z)))
        jpda, at = ours(case), milliseconds(partial(ours, case), 50)
        gated = jpda.gated.sum() / targets
        print(f"{targets} × {len(case.z)}, {gated:.1f} gated: ours {at:.2f} ms")  # noqa: T201
        for name in ("PDA", "EHM", "EHM2", "LBP"):
            method, tracks, detections = prepared(case, name)
            its = milliseconds(partial(method.associate, tracks, set(detections), NOW), 5)
            apart = np.abs(stonesoup(case, name)[0] - jpda.beta).max()
            print(f"  Stone-Soup {name:5} {its:7.1f} ms, {its / at:4.0f} ×, β {apart:.1e} apart")  # noqa: T201


if __name__ == "__main__":
    main()
