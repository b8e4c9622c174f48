"""Scenes of tracks and detections, and their marginals by enumeration of all joint events."""

import itertools
from functools import partial

import numpy as np
from association_policy import crowd, log_weights
from hypothesis import strategies as st

from streamvis.tracking.association import MAX_STATES, cluster_marginals, together

P_DETECT, P_GATE, CLUTTER = 0.9, 0.99, 0.012


def marginals(log_miss, log_hit, max_states=MAX_STATES):
    """Return β (N, M + 1), cluster by cluster, as the filters do."""
    track, detection = np.nonzero(log_hit > -np.inf)
    method = partial(cluster_marginals, max_states=max_states)
    hit = log_hit[track, detection]
    return together(log_miss, track, detection, hit, log_hit.shape[1], method).dense()


def brute_force(log_miss, log_hit):
    """Every joint event, one by one."""
    n, m = log_hit.shape
    log_w = np.column_stack([log_miss, log_hit])
    beta = np.zeros((n, m + 1))
    for event in itertools.product(range(m + 1), repeat=n):
        used = [j for j in event if j]
        if len(used) == len(set(used)):
            weight = np.exp(sum(log_w[i, j] for i, j in enumerate(event)))
            for i, j in enumerate(event):
                beta[i, j] += weight
    return beta / beta.sum(axis=1, keepdims=True)


def gaussian_weights(tracks, detections, r=1.0):
    """Weights of the golden scenes: S = 2I, nothing gated away."""
    apart = np.array(tracks)[:, None] - np.array(detections)[None]
    log_density = -0.25 * (apart**2).sum(axis=2) - np.log(4 * np.pi)
    r = np.broadcast_to(np.asarray(r, dtype=float), len(tracks))
    p_detect = np.full(len(tracks), P_DETECT)
    log_clutter = np.full(len(detections), np.log(CLUTTER))
    return log_weights(r, p_detect, P_GATE, log_density, log_clutter)


@st.composite
def scenes(draw, most=4):
    """(log_miss, log_hit) with up to `most` tracks and detections, some of them gated away."""
    n, m = draw(st.integers(1, most)), draw(st.integers(0, most))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    log_hit = rng.normal(0, draw(st.sampled_from([1, 5, 20])), (n, m))
    log_hit[rng.random((n, m)) < draw(st.sampled_from([0, 0.3, 0.7]))] = -np.inf
    return np.log(rng.uniform(1e-3, 1, n)), log_hit


def dense_errors(method):
    """How far all β are off in crowds where targets compete for some five detections each."""
    errors = []
    for seed in range(40):
        log_miss, log_hit = crowd(seed, tracks=16, density=0.1)
        exact = marginals(log_miss, log_hit, max_states=10**6)
        apart = np.abs(method(log_miss, log_hit) - exact)
        errors += [apart[:, 1:][log_hit > -np.inf], apart[:, 0]]
    return np.concatenate(errors)
