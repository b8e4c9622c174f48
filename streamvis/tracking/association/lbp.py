"""Approximate marginals by loopy belief propagation (Williams and Lau 2014), in logarithms."""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.tracking.gating import grouped

MOST_SWEEPS = 200


class Side(NamedTuple):
    """E gated pairs, grouped by track or by detection."""

    group: Array  # (E,) track or detection
    rank: Array  # (E,) of the pair within its group
    shape: tuple[int, int]  # (largest number of pairs in a group, groups)
    order: Array  # (E,) pairs, sorted by group
    start: Array  # (G,) of each group that is not empty, in this order
    run: Array  # (E,) 0 … G − 1, in this order


class Messages(NamedTuple):
    """The messages of E gated pairs, ordered by track."""

    track: Array  # (E,)
    detection: Array  # (E,)
    tracks: Side
    detections: Side
    psi: Array  # (E,) log ψ = log_hit − log_miss
    mu: Array  # (E,) log μ, message from track to detection
    nu: Array  # (E,) log ν, message from detection to track


def lbp_marginals(log_miss: Array, log_hit: Array, tolerance: float = 1e-6) -> Array:
    """Return β (N, M + 1), exact if the gated pairs form a tree.

    The worst case are two tracks at one place that share two detections: an error of up to 0.25,
    which `paired_marginals` corrects.
    """
    found = propagate(log_miss, log_hit, tolerance)
    log_beta = np.full((len(log_hit), log_hit.shape[1] + 1), -np.inf)
    log_beta[:, 0] = 0
    log_beta[found.track, found.detection + 1] = found.psi + found.nu
    beta = np.exp(log_beta - log_beta.max(axis=1, keepdims=True))
    return beta / beta.sum(axis=1, keepdims=True)


def propagate(log_miss: Array, log_hit: Array, tolerance: float = 1e-6) -> Messages:
    """Return the converged messages; a sweep is linear in the pairs, convergence is guaranteed.

    μ_ij = ψ_ij / (1 + Σ_{j'≠j} ψ_ij' ν_ij') goes from tracks to detections and
    ν_ij = 1 / (1 + Σ_{i'≠i} μ_i'j) back, until no log ν moves by the tolerance.
    """
    n, m = log_hit.shape
    track, detection = np.divmod(np.flatnonzero(log_hit > -np.inf), m)  # (E,)
    tracks, detections = _side(track, n), _side(detection, m)
    psi = log_hit[track, detection] - log_miss[track]
    mu = nu = np.zeros_like(psi)
    for _ in range(MOST_SWEEPS):
        mu = psi - _one_plus_others(psi + nu, tracks)
        after = -_one_plus_others(mu, detections)
        moved = np.abs(after - nu).max(initial=0.0)
        nu = after
        if moved < tolerance:
            break
    return Messages(track, detection, tracks, detections, psi, mu, nu)


def _side(group: Array, groups: int) -> Side:
    order, start, rank = grouped(group, groups)
    size = np.diff(start)
    some = np.flatnonzero(size)
    run = np.repeat(np.arange(len(some)), size[some])
    return Side(group, rank, (size.max(initial=0), groups), order, start[some], run)


def _one_plus_others(log_a: Array, side: Side) -> Array:
    """Return log(1 + Σ a) over each pair's group (E,) without the pair itself.

    Subtracting from the whole sum would cancel where one entry dominates, so the greatest entry of
    a group is kept apart: it is in all sums but its own, beside it nothing is lost.
    """
    if len(log_a) == 0:
        return log_a
    log_a, run = log_a[side.order], side.run
    top = np.maximum.reduceat(log_a, side.start)  # (G,)
    best = np.flatnonzero(log_a == top[run])[::-1]
    greatest = np.empty(len(top), dtype=np.int64)
    greatest[run[best]] = best  # the first one
    log_a[greatest] = -np.inf
    second = np.maximum.reduceat(log_a, side.start)
    second = np.where(second > -np.inf, second, 0.0)
    share = np.exp(log_a - second[run])  # (E,), 0 for the greatest
    rest = np.add.reduceat(share, side.start)  # (G,)
    scale = np.maximum(top, 0.0)
    with_top = np.exp(-scale) + np.exp(top - scale)
    total = with_top[run] + np.maximum(rest[run] - share, 0.0) * np.exp(second - scale)[run]
    found = np.log(total) + scale[run]
    scale = np.maximum(second, 0.0)
    found[greatest] = np.log(np.exp(-scale) + rest * np.exp(second - scale)) + scale
    after = np.empty_like(found)
    after[side.order] = found
    return after
