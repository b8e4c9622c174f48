"""Does the target exist, and could it be seen? (IPDA: Musicki, Evans and Stankovic 1994.)

r is the probability that a track follows a real target, `seen` = P_D·P_G that its detection falls
into the gate if it does.
"""

import numpy as np

from streamvis.geometry import covered
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


def posterior(r: Array, seen: Array, beta: Array) -> tuple[Array, Array]:
    """r (N,) after the association β (N, M + 1), and β given that the target exists."""
    alive = beta.copy()
    alive[:, 0] *= missed(r, seen)
    after = alive.sum(axis=1)
    return after, alive / after[:, None]


def visibility(boxes: Array, weight: Array) -> Array:
    """Share (N,) of each box (N, 4) that nearer ones leave open; nearer is whose foot is lower.

    `weight` (N,) says how surely each box is there to cover another.
    """
    nearer = boxes[None, :, 3] > boxes[:, None, 3]  # [i, j]: j stands before i
    return np.prod(1 - covered(boxes, boxes) * nearer * weight[None], axis=1)
