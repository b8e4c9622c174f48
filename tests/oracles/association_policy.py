"""What each way to the marginals costs and how far it is off, by the size of the cluster.

The numbers of docs/decisions/008, in about half a minute on one thread:

    OMP_NUM_THREADS=1 python tests/oracles/association_policy.py
"""

import time
from collections.abc import Callable, Iterator

import numpy as np

from streamvis.tracking.association import (
    exact_marginals,
    hit_weight,
    lbp_marginals,
    miss_weight,
    paired_marginals,
)
from streamvis.tracking.gating import clusters

Array = np.ndarray
P_DETECT, P_GATE, CLUTTER, GATE = 0.9, 0.99, 0.012, 9.21
METHODS = {"LBP": lbp_marginals, "pairs": paired_marginals}
STATES = (0, 30, 300, 1000, 4000, 10_000, 30_000, 100_000)


def log_weights(
    r: Array,  # (N,) probability that the target exists; ones for JPDA
    p_detect: Array,  # (N,)
    p_gate: float,
    log_density: Array,  # (N, M) of each detection under each track's prediction, −inf: not gated
    log_clutter: Array,  # (M,) of false detections at each detection, per unit of measurement
) -> tuple[Array, Array]:
    """Return log_miss (N,) and log_hit (N, M)."""
    hit = hit_weight(r[:, None], p_detect[:, None], log_density, log_clutter)
    return miss_weight(r, p_detect, p_gate), hit


def crowd(seed: int, tracks: int, density: float) -> tuple[Array, Array]:
    """log_miss and log_hit of tracks anywhere in a square, so many per unit of area; S = 2I."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(tracks / density)
    truth = rng.uniform(0, side, (tracks, 2))
    seen = truth[rng.random(tracks) < P_DETECT]
    false = rng.uniform(0, side, (rng.poisson(CLUTTER * side**2), 2))
    detections = np.concatenate([seen + rng.normal(size=seen.shape), false])
    apart = (truth + rng.normal(size=truth.shape))[:, None] - detections
    distance2 = 0.5 * (apart**2).sum(axis=2)
    log_density = np.where(distance2 < GATE, -0.5 * distance2 - np.log(4 * np.pi), -np.inf)
    one, log_clutter = np.ones(tracks), np.full(len(detections), np.log(CLUTTER))
    return log_weights(one, P_DETECT * one, P_GATE, log_density, log_clutter)


def crowded_clusters(scenes: int) -> Iterator[tuple[Array, Array]]:
    rng = np.random.default_rng(0)
    for seed in range(scenes):
        log_miss, log_hit = crowd(seed, rng.integers(4, 40), rng.choice([0.02, 0.05, 0.08, 0.11]))
        gated = log_hit > -np.inf
        name = clusters(*np.nonzero(gated), len(gated))
        for rows in (np.flatnonzero(name == one) for one in np.unique(name)):
            if len(rows) > 1:
                yield log_miss[rows], log_hit[rows][:, gated[rows].any(axis=0)]


def timed(method: Callable[[], Array | None]) -> tuple[Array | None, float]:
    start = time.process_time()
    return method(), 1e3 * (time.process_time() - start)


def states(weights: tuple[Array, Array]) -> int:
    """Index into STATES of the least bound that the exact method stays below."""
    done = (exact_marginals(*weights, max_states=most) is not None for most in STATES[1:])
    return next((k for k, enough in enumerate(done) if enough), len(STATES))


def main(scenes: int = 250) -> None:
    times: dict[tuple[int, str], list[float]] = {}
    errors: dict[tuple[int, str], list[Array]] = {}
    for weights in crowded_clusters(scenes):
        k = states(weights)
        if k == len(STATES):
            continue
        exact, ms = timed(lambda weights=weights: exact_marginals(*weights, STATES[-1]))
        times.setdefault((k, "exact"), []).append(ms)
        gated = np.column_stack([np.ones(len(exact), bool), weights[1] > -np.inf])
        for name, method in METHODS.items():
            beta, ms = timed(lambda weights=weights, method=method: method(*weights))
            times.setdefault((k, name), []).append(ms)
            errors.setdefault((k, name), []).append(np.abs(beta - exact)[gated])
    for k, name in sorted(times):
        ms = times[k, name]
        print(f"{STATES[k]}-{STATES[k + 1]} {name:6} {len(ms)} × {np.mean(ms):.2f} ms", end="")  # noqa: T201
        if name != "exact":
            e = np.concatenate(errors[k, name])
            share = (e < 0.05).mean()
            print(f", mean {e.mean():.4f} within .05 {share:.3f} max {e.max():.3f}", end="")  # noqa: T201
        print()  # noqa: T201


if __name__ == "__main__":
    main()
