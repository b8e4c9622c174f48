"""Does the target exist, and could it be seen? (IPDA: Musicki, Evans and Stankovic 1994.)

r is the probability that a track follows a real target, `seen` = P_D·P_G that its detection falls
into the gate if it does.
"""

import numpy as np

from streamvis.geometry import Overlaps
from streamvis.messages import Array

LOGIT_LIMIT = 20.0


def logit(p: Array) -> Array:
    """log p/(1 − p), finite everywhere."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(p) - np.log1p(-p), -LOGIT_LIMIT, LOGIT_LIMIT)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def missed(r: Array, seen: Array) -> Array:
    """r given that none of the detections was the track's: (1 − P_D P_G) r / (1 − P_D P_G r)."""
    return (1 - seen) * r / (1 - seen * r)


def posterior(r: Array, seen: Array, miss: Array, hits: Array) -> tuple[Array, Array]:
    """r⁺ (N,) after the association, and β_i0 given that the target exists.

    From β_i0 (N,) and Σ_j β_ij (N,); given that the target exists β_ij is β_ij / r⁺.
    """
    alive = miss * missed(r, seen)
    after = alive + hits
    return after, alive / after


def visibility(boxes: Array, near: Overlaps, weight: Array) -> Array:
    """Share (N,) of each box (N, 4) that nearer ones leave open; nearer is whose foot is lower.

    `near` are the overlaps of the boxes with each other; `weight` (N,) says how surely each box
    is there to cover another.
    """
    before = boxes[near.j, 3] > boxes[near.i, 3]  # j stands before i
    left = np.ones(len(boxes))
    np.multiply.at(left, near.i[before], 1 - near.first[before] * weight[near.j[before]])
    return left
