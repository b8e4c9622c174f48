"""Approximate marginals by loopy belief propagation (Williams and Lau 2014), in logarithms."""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.tracking.gating import grouped


class Side(NamedTuple):
    """Indices of E gated pairs into a table with one column per track, or per detection."""

    row: Array  # (E,)
    column: Array  # (E,)
    shape: tuple[int, int]  # (largest number of pairs in a column, columns)


class Messages(NamedTuple):
    """The messages of E gated pairs, ordered by track."""

    track: Array  # (E,)
    detection: Array  # (E,)
    tracks: Side
    detections: Side
    psi: Array  # (E,) log ψ = log_hit − log_miss
    mu: Array  # (E,) log μ, message from track to detection
    nu: Array  # (E,) log ν, message from detection to track


def lbp_marginals(
    log_miss: Array, log_hit: Array, tolerance: float = 1e-6, max_sweeps: int = 200
) -> Array:
    """Return β (N, M + 1), exact if the gated pairs form a tree.

    The worst case are two tracks at one place that share two detections: an error of up to 0.25,
    which `paired_marginals` corrects.
    """
    found = propagate(log_miss, log_hit, tolerance, max_sweeps)
    log_beta = np.full((len(log_hit), log_hit.shape[1] + 1), -np.inf)
    log_beta[:, 0] = 0
    log_beta[found.track, found.detection + 1] = found.psi + found.nu
    beta = np.exp(log_beta - log_beta.max(axis=1, keepdims=True))
    return beta / beta.sum(axis=1, keepdims=True)


def propagate(
    log_miss: Array, log_hit: Array, tolerance: float = 1e-6, max_sweeps: int = 200
) -> Messages:
    """Return the converged messages; a sweep is linear in the pairs, convergence is guaranteed.

    μ_ij = ψ_ij / (1 + Σ_{j'≠j} ψ_ij' ν_ij') goes from tracks to detections and
    ν_ij = 1 / (1 + Σ_{i'≠i} μ_i'j) back, until no log ν moves by the tolerance.
    """
    n, m = log_hit.shape
    track, detection = np.divmod(np.flatnonzero(log_hit > -np.inf), m)  # (E,)
    tracks, detections = _side(track, n), _side(detection, m)
    psi = log_hit[track, detection] - log_miss[track]
    mu = nu = np.zeros_like(psi)
    for _ in range(max_sweeps):
        mu = psi - _one_plus_others(psi + nu, tracks)
        after = -_one_plus_others(mu, detections)
        moved = np.abs(after - nu).max(initial=0.0)
        nu = after
        if moved < tolerance:
            break
    return Messages(track, detection, tracks, detections, psi, mu, nu)


def _side(group: Array, groups: int) -> Side:
    _, start, row = grouped(group, groups)
    return Side(row, group, (np.diff(start).max(initial=0), groups))


def _one_plus_others(log_a: Array, side: Side) -> Array:
    """Return log(1 + Σ a) over each pair's column (E,) without the pair itself.

    Subtracting from the whole sum would cancel where one entry dominates, so sums run from both
    ends instead.
    """
    table = np.full((side.shape[0] + 1, side.shape[1]), -np.inf)  # with a border of log 0
    table[side.row + 1, side.column] = log_a
    before = np.logaddexp.accumulate(table[:-1], axis=0)
    table[:-1] = table[1:]
    table[-1] = -np.inf
    after = np.logaddexp.accumulate(table[:0:-1], axis=0)[::-1]
    return np.logaddexp(np.logaddexp(before, after), 0.0)[side.row, side.column]
