"""Approximate marginals by loopy belief propagation (Williams and Lau 2014), in logarithms."""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array


class _Side(NamedTuple):
    """Where each of E gated pairs stands in a table with a column for each of G tracks, or of G
    detections, that holds its pairs one below the other.
    """

    row: Array  # (E,)
    column: Array  # (E,)
    shape: tuple[int, int]  # most pairs of one, G


def lbp_marginals(
    log_miss: Array, log_hit: Array, tolerance: float = 1e-6, max_sweeps: int = 200
) -> Array:
    """β (N, M + 1). It always converges; a sweep costs as much as there are gated pairs.

    ψ = exp(log_hit − log_miss); μ_ij = ψ_ij / (1 + Σ_{j'≠j} ψ_ij' ν_ij') goes from tracks to
    detections and ν_ij = 1 / (1 + Σ_{i'≠i} μ_i'j) back, until no log ν moves by the tolerance.
    Exact where the pairs form a tree. Two tracks on one place that share two detections are the
    worst case: β is off by up to 0.25 there, and by 0.05 where it is typically worst in a crowd.
    """
    n, m = log_hit.shape
    track, detection = np.divmod(np.flatnonzero(log_hit > -np.inf), m)  # (E,)
    tracks, detections = _side(track, n), _side(detection, m)
    psi = log_hit[track, detection] - log_miss[track]  # (E,) log ψ
    nu = np.zeros_like(psi)  # (E,) log ν
    for _ in range(max_sweeps):
        mu = psi - _one_plus_others(psi + nu, tracks)
        after = -_one_plus_others(mu, detections)
        moved = np.abs(after - nu).max(initial=0.0)
        nu = after
        if moved < tolerance:
            break
    log_beta = np.full((n, m + 1), -np.inf)
    log_beta[:, 0] = 0
    log_beta[track, detection + 1] = psi + nu
    beta = np.exp(log_beta - log_beta.max(axis=1, keepdims=True))
    return beta / beta.sum(axis=1, keepdims=True)


def _side(group: Array, groups: int) -> _Side:
    count = np.bincount(group, minlength=groups)  # (G,)
    order = np.argsort(group, kind="stable")
    row = np.empty_like(group)
    row[order] = np.arange(len(group)) - np.repeat(np.cumsum(count) - count, count)
    return _Side(row, group, (count.max(initial=0), groups))


def _one_plus_others(log_a: Array, side: _Side) -> Array:
    """log(1 + Σ a) over each pair's column (E,), the pair leaving itself out of its sum.

    Subtracting from the whole sum would cancel where one entry dominates, so sums run from both
    ends instead.
    """
    table = np.full((side.shape[0] + 1, side.shape[1]), -np.inf)  # with an edge of nothing
    table[side.row + 1, side.column] = log_a
    before = np.logaddexp.accumulate(table[:-1], axis=0)
    table[:-1] = table[1:]
    table[-1] = -np.inf
    after = np.logaddexp.accumulate(table[:0:-1], axis=0)[::-1]
    return np.logaddexp(np.logaddexp(before, after), 0.0)[side.row, side.column]
