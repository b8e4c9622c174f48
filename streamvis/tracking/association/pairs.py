"""Belief propagation, corrected for pairs of tracks that compete for the same detections.

The error of belief propagation comes from short loops: two tracks that share two detections. The
marginals of two tracks have a closed form, given the messages of all others. The belief is
multiplied by the ratio of this form to the belief, once for each competing track. Exact for two
tracks, a heuristic for more: see docs/decisions/008 for its errors.
"""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.tracking.association.lbp import Messages, Side, propagate


class _Tables(NamedTuple):
    """The gated pairs of each track, at most O, and of each detection, at most K."""

    detection: Array  # (N, O), M where there is none
    psi: Array  # (N, O) log ψ, −inf where there is none
    track: Array  # (M + 1, K), −1 where there is none
    mu: Array  # (M + 1, K) log μ, −inf where there is none


def paired_marginals(log_miss: Array, log_hit: Array) -> Array:
    """Return approximate β (N, M + 1) in about twice the time of `lbp_marginals`."""
    n, m = log_hit.shape
    found = propagate(log_miss, log_hit)
    tables = _tabulate(found, m)
    belief = np.pad(_table(found.tracks, found.psi + found.nu, -np.inf), ((0, 0), (1, 0)))
    belief -= np.logaddexp.reduce(belief, axis=1, keepdims=True)  # (N, 1 + O) log
    track, pair = _pairs(found, tables, m)
    before = belief[track]
    ratio = np.subtract(pair, before, out=np.zeros_like(pair), where=pair > -np.inf)
    np.add.at(belief, track, ratio)
    belief = np.exp(belief - belief.max(axis=1, keepdims=True))
    belief /= belief.sum(axis=1, keepdims=True)
    beta = np.zeros((n, m + 2))  # the last column is padding
    beta[:, 0] = belief[:, 0]
    beta[np.arange(n)[:, None], tables.detection + 1] = belief[:, 1:]
    return beta[:, :-1]


def _tabulate(found: Messages, m: int) -> _Tables:
    padding = ((0, 1), (0, 0))  # a row for detection M, which stands for none
    return _Tables(
        _table(found.tracks, found.detection, m),
        _table(found.tracks, found.psi, -np.inf),
        np.pad(_table(found.detections, found.track, -1), padding, constant_values=-1),
        np.pad(_table(found.detections, found.mu, -np.inf), padding, constant_values=-np.inf),
    )


def _table(side: Side, values: Array, empty: float) -> Array:
    depth, groups = side.shape
    table = np.full((groups, depth), empty, dtype=values.dtype)
    table[side.column, side.row] = values
    return table


def _pairs(found: Messages, tables: _Tables, m: int) -> tuple[Array, Array]:
    """Return i (Q,) and its log marginals (Q, 1 + O) for Q pairs (i, a) sharing two detections.

    With w = ψ / (1 + Σ μ of all others): β_i0 ∝ 1 + Σ_j w_aj, β_ij ∝ w_ij (1 + Σ_j'≠j w_aj').
    """
    gated = np.zeros((len(tables.psi), m))
    gated[found.track, found.detection] = 1
    shared = gated @ gated.T
    np.fill_diagonal(shared, 0)
    i, a = np.nonzero(shared >= 2)  # (Q,)

    def log_w(of: Array) -> Array:  # (Q, O)
        detection = tables.detection[of]
        owner = tables.track[detection]  # (Q, O, K)
        pair = (owner == i[:, None, None]) | (owner == a[:, None, None])
        others = np.where(pair, -np.inf, tables.mu[detection])
        return tables.psi[of] - _one_plus(others)

    own, rival = log_w(i), log_w(a)
    same = tables.detection[i][:, :, None] == tables.detection[a][:, None, :]  # (Q, O, O)
    left = _one_plus(np.where(same, -np.inf, rival[:, None, :]))  # (Q, O)
    log_beta = np.concatenate([_one_plus(rival)[:, None], own + left], axis=1)
    return i, log_beta - np.logaddexp.reduce(log_beta, axis=1, keepdims=True)


def _one_plus(log_a: Array) -> Array:
    """Return log(1 + Σ a) over the last axis."""
    top = log_a.max(axis=-1, initial=0.0)
    total: Array = np.exp(-top) + np.exp(log_a - top[..., None]).sum(axis=-1)
    return np.log(total) + top
