"""Losses of pose networks."""

import torch
from torch import Tensor


def density_loss(maps: Tensor, cells: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Return the cross-entropy between densities over cells and Gaussians about the points.

    maps (B, K, h, w): logarithms of the densities, up to a constant; cells (B, K, 2): x and y of
    the points in cells; weights (B, K). The mean over all weights; at its least it is the entropy
    of a Gaussian, which is subtracted.
    """
    height, width = maps.shape[-2:]
    across = _gaussian(cells[..., 0], width, sigma)  # (B, K, w)
    down = _gaussian(cells[..., 1], height, sigma)  # (B, K, h)
    expected = torch.einsum("bkhw,bkw,bkh->bk", maps, across, down)
    entropy = _entropy(across) + _entropy(down)
    loss = maps.flatten(2).logsumexp(2) - expected - entropy
    return (loss * weights).sum() / weights.sum().clamp_min(1)


def heatmap_loss(maps: Tensor, cells: Tensor, weights: Tensor, sigma: float) -> Tensor:
    """Return ½ of the mean squared distance from Gaussians of height 1, as HRNet is trained."""
    height, width = maps.shape[-2:]
    across = _squares(cells[..., 0], width, sigma).exp()
    down = _squares(cells[..., 1], height, sigma).exp()
    target = across[:, :, None] * down[..., None]  # (B, K, h, w)
    loss = 0.5 * (maps - target).square().mean((2, 3))
    return (loss * weights).mean()


def _squares(places: Tensor, count: int, sigma: float) -> Tensor:
    distance = torch.arange(count, device=places.device) - places[..., None]
    return -0.5 * (distance / sigma).square()


def _gaussian(places: Tensor, count: int, sigma: float) -> Tensor:
    return _squares(places, count, sigma).softmax(-1)


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp_min(1e-12).log()).sum(-1)
