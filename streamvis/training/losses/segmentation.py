"""Losses of a segmenter: boundary-aware cross-entropy and Lovász-softmax."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.datasets.classes import VOID
from streamvis.messages import Array

NEAR = ((16, 8.0), (64, 4.0), (128, 2.0))  # px in a picture 2048 px wide, and the weight below
WIDTH = 2048
HARDNESS = 0.5  # how much more a pixel counts that is wrong for certain: e^.5


def boundary_weights(labels: Array) -> Array:
    """Return the weight of each pixel of labels (H, W): larger near boundaries, 0 where VOID.

    These are the weights of Pyramidal SwiftNet, with distances relative to the picture's width.
    """
    known = labels != VOID
    distance = np.full(labels.shape, np.inf, np.float32)
    for index in np.unique(labels[known]):
        inside = (labels == index).astype(np.uint8)
        if inside.all():
            continue
        there = inside.astype(bool)
        distance[there] = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[there]
    distance *= WIDTH / labels.shape[1]
    weights = np.ones(labels.shape, np.float32)
    for reach, weight in reversed(NEAR):
        weights[distance < reach] = weight
    weights[~known] = 0
    return weights


def boundary_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return cross-entropy weighted towards boundaries and towards pixels with a high loss.

    logits (B, K, H, W), labels (B, H, W), weights (B, H, W) as of `boundary_weights`.
    """
    missed = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none")  # (B, H, W)
    hard = torch.exp(HARDNESS * (1 - torch.exp(-missed.detach())))
    return (weights * hard * missed).sum() / (weights > 0).sum().clamp(min=1)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Return a convex bound of 1 − mIoU over the classes present (Berman et al., CVPR 2018).

    logits (B, K, h, w), labels (B, h, w); the IoU is that of the whole batch.
    """
    classes = logits.shape[1]
    known = labels.flatten() != VOID
    shares = logits.softmax(1).permute(0, 2, 3, 1).reshape(-1, classes)[known]  # (N, K)
    truth = F.one_hot(labels.flatten()[known], classes).to(shares.dtype)  # (N, K)
    present = truth.sum(0) > 0
    if not present.any():
        return 0 * logits.sum()
    shares, truth = shares[:, present], truth[:, present]
    errors, order = (truth - shares).abs().sort(0, descending=True)
    return (errors * _jaccard_slope(truth.gather(0, order))).sum(0).mean()


def _jaccard_slope(truth: Tensor) -> Tensor:
    """Return the loss of IoU by each further error (N, K), the largest error first."""
    total = truth.sum(0)
    intersection = total - truth.cumsum(0)
    union = total + (1 - truth).cumsum(0)
    loss = 1 - intersection / union
    return torch.cat([loss[:1], loss[1:] - loss[:-1]])
