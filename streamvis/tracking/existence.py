"""Probability of existence and visibility of tracks (IPDA: Musicki, Evans, Stankovic 1994).

r is the probability that a track follows a real target, `seen` = P_D·P_G the probability that an
existing target has a detection in its gate.
"""

import numpy as np

from streamvis.geometry import Overlaps
from streamvis.messages import Array

LOGIT_LIMIT = 20.0
LEAST = 1e-12  # probability, beyond the limit


def logit(p: Array) -> Array:
    """Return log p/(1 − p), clipped to finite values."""
    p = np.minimum(np.maximum(p, LEAST), 1 - LEAST)
    return limited(np.log(p) - np.log1p(-p), -LOGIT_LIMIT, LOGIT_LIMIT)


def limited(x: Array, low: float, high: float) -> Array:
    """Return x limited to low … high: for a few numbers this is faster than np.clip."""
    return np.minimum(np.maximum(x, low), high)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def missed(r: Array, seen: Array) -> Array:
    """Return r given a missed detection: (1 − P_D P_G) r / (1 − P_D P_G r)."""
    return (1 - seen) * r / (1 - seen * r)


def posterior(r: Array, seen: Array, miss: Array, hits: Array) -> tuple[Array, Array]:
    """Return r⁺ (N,) after the association, and β_i0 conditioned on existence (N,).

    From β_i0 (N,) and Σ_j β_ij (N,); conditioned on existence β_ij is β_ij / r⁺.
    """
    alive = miss * missed(r, seen)
    after = alive + hits
    return after, alive / after


def hiding(hidden: Array, dt: float, hide_s: float, appear_s: float) -> Array:
    """Predict the probability (N,) that an existing target cannot be detected, by `dt` seconds.

    Markov chain two of IPDA (Musicki, Evans and Stankovic 1994), in continuous time: targets become
    undetectable at the rate 1/hide_s and detectable again at the rate 1/appear_s.
    """
    stationary = appear_s / (hide_s + appear_s)
    return hidden + (hidden - stationary) * np.expm1(-dt * (1 / hide_s + 1 / appear_s))


def missed_likelihood(hidden: Array, seen: Array, share: float = 1.0) -> Array:
    """Return the probability (N,) that an existing target is missed, h + (1 − h)(1 − seen)^share.

    `hidden` (N,) is h, the probability that it is undetectable, `seen` (N,) P_D·P_G of a detectable
    one. `share` is that of independent evidence in the frame: misses of a detectable target are
    correlated in time.
    """
    return hidden + (1 - hidden) * (1 - seen) ** share


def visibility(boxes: Array, near: Overlaps, weight: Array) -> Array:
    """Return the share (N,) of each box (N, 4) that nearer people do not occlude.

    A person is nearer if the foot point is lower. `near` are the overlaps of the boxes with each
    other, `weight` (N,) the probability that each box is an occluder.
    """
    before = boxes[near.j, 3] > boxes[near.i, 3]  # j stands before i
    left = np.ones(len(boxes))
    np.multiply.at(left, near.i[before], 1 - near.first[before] * weight[near.j[before]])
    return left
