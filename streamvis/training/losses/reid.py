"""Losses of an appearance embedding: the angular loss of triplets, and distillation.

The angular loss is Wang et al. 2017. Bićanić et al. 2019 extend it "by a margin", which can be read
in two ways; both are implemented. All vectors are of unit length, so that products are cosines.
"""

import math
from typing import Annotated, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor
from torch.nn import functional as F

from streamvis.training.recipes import Amount


class AngularLoss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the angular loss: the reading of the margin, its size, the angle, the weight."""

    reading: Literal["hinge", "smooth"] = "hinge"
    alpha: Annotated[float, Meta(gt=0, lt=90)] = 45.0  # degrees
    margin: Amount = 0.2
    weight: Amount = 1.0


def angular_loss(vectors: Tensor, same: Tensor, other: Tensor, how: AngularLoss) -> Tensor:
    """Return the loss over all triplets of a batch of unit vectors (B, D).

    same, other: (B, B) bool, symmetric: pairs of one person, and pairs of certainly different
    people. A pair in neither takes no part, nor does a vector with itself.
    """
    products = vectors @ vectors.T  # (B, B)
    a, p = torch.triu(same, diagonal=1).nonzero(as_tuple=True)  # (P,) each
    ap = products[a, p][:, None]  # (P, 1)
    sums = products[a] + products[p]  # (P, B) of (a + p)·n
    negative = other[a] & other[p]
    tan2 = math.tan(math.radians(how.alpha)) ** 2
    if how.reading == "hinge":
        return _hinge(ap, sums, negative, tan2, how.margin)
    return _smooth(ap, sums, negative, tan2, how.margin)


def _hinge(ap: Tensor, sums: Tensor, negative: Tensor, tan2: float, margin: float) -> Tensor:
    """Return the mean of [‖a−p‖² − 4·tan²α·‖n−c‖² + m]₊ over the triplets where it is above 0."""
    apart = 2 - 2 * ap  # ‖a−p‖²
    aside = 1 + (1 + ap) / 2 - sums  # ‖n−c‖² about the centre c = (a+p)/2
    excess = F.relu(apart - 4 * tan2 * aside + margin) * negative
    return excess.sum() / (excess.detach() > 0).sum().clamp(min=1)


def _smooth(ap: Tensor, sums: Tensor, negative: Tensor, tan2: float, margin: float) -> Tensor:
    """Return the mean over pairs of log(1 + Σₙ exp(f + m)).

    f = 4·tan²α·(a+p)·n − 2(1+tan²α)·a·p.
    """
    f = 4 * tan2 * sums - 2 * (1 + tan2) * ap + margin
    f = f.masked_fill(~negative, -torch.inf)
    least = torch.logsumexp(F.pad(f, (0, 1)), 1)  # the appended 0 is the 1
    return least.sum() / max(len(least), 1)


def relation_loss(vectors: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the divergence of a batch's similarities from those of a teacher (B, B).

    Each crop's similarities to the others are taken as a distribution, as in Kullback-Leibler
    distillation, so that a constant offset of a teacher's similarities has no effect.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    ours = (vectors @ vectors.T / temperature).masked_fill(itself, -torch.inf)
    theirs = (teacher / temperature).masked_fill(itself, -torch.inf)
    target = theirs.softmax(1)
    cross = -(target * ours.log_softmax(1).masked_fill(itself, 0)).sum(1)
    entropy = -(target * theirs.log_softmax(1).masked_fill(itself, 0)).sum(1)
    return (cross - entropy).mean()
