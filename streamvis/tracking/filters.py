"""Filters of probabilistic data association (PDA, IPDA, JPDA, JIPDA) as pure functions.

N predicted targets, M detections, D the dimension of states, Z that of measurements. All take

    x (N, D), P (N, D, D)   predicted means and covariances
    z (M, Z), R             measurements and their noise, (Z, Z) for all or (M, Z, Z) for each
    H (Z, D)                z = Hx + noise
    p_detect                P_D, that a target is detected: a number or (N,)
    p_gate                  P_G, that its detection falls into its gate; 1: no gate
    clutter                 λ, expected false detections per unit of measurement volume:
                            a number or (M,)

and IPDA and JIPDA also r (N,), the predicted probability that each target exists. All targets are
processed at once, weights as logarithms. Prediction is `kalman.predict`, and r⁻ = p_survival · r.
A joint event θ gives target i detection θ(i) or none (0), and no detection to two targets. Its
weight is Π w_i,θ(i) with

    w_i0 = 1 − P_D P_G r_i      w_ij = P_D r_i N(z_j; Hx_i, HP_iHᵀ + R_j) / λ_j

N is not divided by P_G: hits outside of the gate are not counted either.

    >>> x, P, H = np.array([[0.0, 0], [1, 1]]), np.stack([np.eye(2)] * 2), np.eye(2)
    >>> z = np.array([[0.0, 0], [1, 0], [-1, 2]])
    >>> after = jpda(x, P, z, np.eye(2), H, p_detect=0.9, p_gate=0.99, clutter=0.012)
    >>> after.beta[0].round(3).tolist()  # missed; or the first, second, third detection
    [0.014, 0.487, 0.319, 0.181]
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.tracking import existence, gating, kalman
from streamvis.tracking.association import (
    Method,
    Pairs,
    alone,
    cluster_marginals,
    gnn_assignment,
    gnn_marginals,
    hit_weight,
    miss_weight,
    together,
)

Number = float | Array

LEAST = 1e-300  # instead of a clutter of 0
FEW = 100  # pairs whose distance is computed at once
NEGLIGIBLE = 1e-12  # weight of a hit below which a state is not updated by it


class Associated(NamedTuple):
    """The updated targets and their association weights."""

    x: Array  # (N, D)
    P: Array  # (N, D, D)
    r: Array  # (N,) probability of existence; ones for PDA and JPDA
    pairs: Pairs  # nonzero β of misses and gated detections

    @property
    def beta(self) -> Array:
        """Marginals (N, M + 1); column 0: missed, or not existing."""
        return self.pairs.dense()

    @property
    def gated(self) -> Array:
        """Whether (N, M) each detection is in the target's gate."""
        gated = np.zeros((len(self.x), self.pairs.detections), dtype=bool)
        gated[self.pairs.track, self.pairs.detection] = True
        return gated


def pda(
    x: Array, P: Array, z: Array, R: Array, H: Array, *,
    p_detect: Number, p_gate: float, clutter: Number,
) -> Associated:  # fmt: skip
    """Probabilistic data association: every target by itself (Bar-Shalom and Tse 1975).

    β_ij = w_ij / Σ_j' w_ij' with r = 1; x and P are the moments of the mixture of the prediction
    (weight β_i0) and the Kalman updates (β_ij).
    """
    return associate(
        x, P, np.ones(len(x)), z, R, H,
        p_detect=p_detect, p_gate=p_gate, log_clutter=_log(clutter), method=None,
    )  # fmt: skip


def ipda(
    x: Array, P: Array, r: Array, z: Array, R: Array, H: Array, *,
    p_detect: Number, p_gate: float, clutter: Number,
) -> Associated:  # fmt: skip
    """Integrated PDA: also estimates existence (Musicki, Evans and Stankovic 1994).

    r⁺ = (1 − δ) r / (1 − δ r), δ = P_D P_G − Σ_j P_D N_j / λ_j; the state is that of PDA, for it
    is conditioned on existence.
    """
    return associate(
        x, P, r, z, R, H,
        p_detect=p_detect, p_gate=p_gate, log_clutter=_log(clutter), method=None,
    )  # fmt: skip


def jpda(
    x: Array, P: Array, z: Array, R: Array, H: Array, *,
    p_detect: Number, p_gate: float, clutter: Number, method: Method = cluster_marginals,
) -> Associated:  # fmt: skip
    """Joint PDA: targets compete for detections (Fortmann, Bar-Shalom and Scheffe 1983).

    β_ij is the share of the joint events with θ(i) = j. How it is summed is up to `method`, any of
    `streamvis.tracking.association`, which is given one cluster of targets that compete at a time;
    the default is exact for all but very large clusters.
    """
    return associate(
        x, P, np.ones(len(x)), z, R, H,
        p_detect=p_detect, p_gate=p_gate, log_clutter=_log(clutter), method=method,
    )  # fmt: skip


def jipda(
    x: Array, P: Array, r: Array, z: Array, R: Array, H: Array, *,
    p_detect: Number, p_gate: float, clutter: Number, method: Method = cluster_marginals,
) -> Associated:  # fmt: skip
    """Joint integrated PDA: JPDA of targets that may not exist (Musicki and Evans 2004).

    With m_i = (1 − P_D P_G) r_i / (1 − P_D P_G r_i): r⁺_i = β_i0 m_i + Σ_j β_ij. The state is
    updated with β given existence: β_i0 m_i / r⁺_i and β_ij / r⁺_i. With r = 1 this is JPDA.
    """
    return associate(
        x, P, r, z, R, H,
        p_detect=p_detect, p_gate=p_gate, log_clutter=_log(clutter), method=method,
    )  # fmt: skip


def gnn(
    x: Array, P: Array, z: Array, R: Array, H: Array, *,
    p_detect: Number, p_gate: float, clutter: Number,
) -> Associated:  # fmt: skip
    """Global nearest neighbour: the joint event of the greatest weight, taken for certain.

    β holds zeros and ones; who is missed keeps the prediction.
    """
    return associate(
        x, P, np.ones(len(x)), z, R, H,
        p_detect=p_detect, p_gate=p_gate, log_clutter=_log(clutter), method=gnn_marginals,
    )  # fmt: skip


def associate(
    x: Array, P: Array, r: Array, z: Array, R: Array, H: Array, *,
    p_detect: Number, p_gate: float, log_clutter: Array, method: Method | None = cluster_marginals,
    log_ratio: Callable[[Array, Array], Array] | None = None,
    ask: Callable[[Pairs, Array], bool] | None = None,
) -> Associated:  # fmt: skip
    """Gate, weigh, compute marginals, update existence and state: the core of all filters.

    Without a `method` targets are independent. `log_ratio`, a function of rows of tracks (K,) and
    detections (K,), is further evidence for each pair over clutter and new people, such as
    appearance. `ask` gets the association without it, and the probabilities (K,) of its pairs if
    the track exists; it returns whether there is such evidence.
    """
    n, m = len(x), len(z)
    r = np.clip(r, 1e-9, 1.0)
    p_detect = np.broadcast_to(np.asarray(p_detect, dtype=np.float64), n)
    R = np.broadcast_to(R, (m, *R.shape[-2:]))
    track, detection, innovations = _gated(x, P, z, R, H, p_gate)
    log_clutter = np.broadcast_to(log_clutter, m)[detection]
    log_miss = miss_weight(r, p_detect, p_gate)

    def marginals(log_density: Array) -> Pairs:
        hit = hit_weight(r[track], p_detect[track], log_density, log_clutter)
        weights = log_miss, track, detection, hit, m
        return alone(*weights) if method is None else together(*weights, method)

    pairs = None
    if ask is not None:
        pairs = marginals(innovations.log_density)
        if not ask(pairs, _beliefs(r, p_detect * p_gate, pairs)[2]):
            log_ratio = None
    if log_ratio is not None:
        pairs = marginals(innovations.log_density + log_ratio(track, detection))
    elif pairs is None:
        pairs = marginals(innovations.log_density)
    return _updated(x, P, r, H, p_detect * p_gate, pairs, innovations)


def assign(
    x: Array, P: Array, r: Array, z: Array, R: Array, H: Array, *,
    p_detect: Number, p_gate: float, gain: Array,
) -> Associated:  # fmt: skip
    """Global nearest neighbour under a gain (N, M) of a hit over a miss, −inf: excluded.

    States follow their detections at any distance: the association uses no kinematics (Bićanić
    et al., FUSION 2019, for cameras with unknown motion).
    """
    own = gnn_assignment(np.zeros(len(x)), gain)
    track = np.flatnonzero(own >= 0)
    detection = own[track]
    near = kalman.innovations(x, P, z, R, H, track, detection)
    leap = z[detection] - x[track] @ H.T
    leap[near.distance2 <= gating.threshold(p_gate, len(H))] = 0
    P = P.copy()
    P[track] += (
        H.T * leap[:, None] ** 2
    ) @ H  # the prediction of a target out of its gate was wrong by this
    innovations = kalman.innovations(x, P, z, R, H, track, detection)
    missed = np.asarray(own < 0, dtype=np.float64)
    pairs = Pairs(track, detection, np.ones(len(track)), missed, len(z))
    seen = np.broadcast_to(p_detect, len(x)) * p_gate
    after = _updated(x, P, np.clip(r, 1e-9, 1.0), H, seen, pairs, innovations)
    track, detection = np.nonzero(gain > -np.inf)
    hit = np.asarray(own[track] == detection, dtype=np.float64)
    return after._replace(pairs=Pairs(track, detection, hit, missed, len(z)))


def _updated(
    x: Array, P: Array, r: Array, H: Array,
    seen: Array, pairs: Pairs, innovations: kalman.Innovations,
) -> Associated:  # fmt: skip
    """Update existence and states by their detections; `seen` (N,) is P_D P_G."""
    after, missed, weight = _beliefs(r, seen, pairs)
    some = weight > NEGLIGIBLE
    track = pairs.track[some]
    posterior = kalman.update(x[track], P[track], H, innovations.take(some))
    x, P = kalman.merge(x, P, missed, track, posterior, weight[some])
    return Associated(x, P, after, pairs)


def _beliefs(r: Array, seen: Array, pairs: Pairs) -> tuple[Array, Array, Array]:
    """Return r⁺ (N,), and β_i0 (N,) and β_ij (K,) given that the target exists."""
    hits = pairs.of_tracks(pairs.hit)
    after, missed = existence.posterior(r, np.minimum(seen, 1 - 1e-12), pairs.miss, hits)
    return after, missed, pairs.hit / after[pairs.track]


def _gated(
    x: Array, P: Array, z: Array, R: Array, H: Array, p_gate: float
) -> tuple[Array, Array, kalman.Innovations]:
    """Return gated pairs of tracks (K,) and detections (K,), and their innovations."""
    gate = gating.threshold(p_gate, len(H))
    variance = (H @ P * H).sum(axis=2)  # (N, Z), the diagonal of HPHᵀ
    noise = np.diagonal(R, axis1=1, axis2=2)
    track, detection = gating.candidates(x @ H.T, variance, z, noise, gate)
    # the distance in two dimensions is no greater than in all
    for k in (min(2, len(H)), len(H)) if len(track) > FEW else (len(H),):
        found = kalman.innovations(x, P, z[:, :k], R[:, :k, :k], H[:k], track, detection)
        near = found.distance2 <= gate
        track, detection = track[near], detection[near]
    return track, detection, found.take(near)


def _log(clutter: Number) -> Array:
    return np.log(np.maximum(clutter, LEAST))
