"""Probability of existence and visibility of tracks (IPDA: Musicki, Evans, Stankovic 1994).

r is the probability that a track follows a real target, `seen` = P_D·P_G the probability that an
existing target has a detection in its gate.
"""

import numpy as np

from streamvis.geometry import Overlaps
from streamvis.messages import Array

LOGIT_LIMIT = 20.0


def logit(p: Array) -> Array:
    """Return log p/(1 − p), clipped to finite values."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(p) - np.log1p(-p), -LOGIT_LIMIT, LOGIT_LIMIT)


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


def visibility(boxes: Array, near: Overlaps, weight: Array) -> Array:
    """Return the share (N,) of each box (N, 4) that nearer people do not occlude.

    A person is nearer if the foot point is lower. `near` are the overlaps of the boxes with each
    other, `weight` (N,) the probability that each box is an occluder.
    """
    before = boxes[near.j, 3] > boxes[near.i, 3]  # j stands before i
    left = np.ones(len(boxes))
    np.multiply.at(left, near.i[before], 1 - near.first[before] * weight[near.j[before]])
    return left
