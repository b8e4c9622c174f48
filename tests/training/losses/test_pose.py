"""Losses of pose networks, against targets drawn cell by cell."""

import pytest
import torch
from torch.nn import functional as F

from streamvis.training.losses.pose import density_loss, heatmap_loss


def gaussians(cells: torch.Tensor, sigma: float) -> torch.Tensor:
    """Heatmaps (B, K, 12, 8) of height 1."""
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(8.0), indexing="ij")
    dx, dy = x - cells[..., 0, None, None], y - cells[..., 1, None, None]
    return torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))


@pytest.fixture
def cells() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(2, 3, 2) * 6 + 1


def test_the_density_loss_is_the_divergence_from_the_gaussian(cells):
    maps, weights = torch.randn(2, 3, 12, 8), torch.rand(2, 3)
    target = gaussians(cells, 1.5).flatten(2)
    target = target / target.sum(2, keepdim=True)
    each = F.kl_div(maps.flatten(2).log_softmax(2), target, reduction="none").sum(2)
    expected = (each * weights).sum() / weights.sum()
    torch.testing.assert_close(density_loss(maps, cells, weights, 1.5), expected)


def test_a_right_density_costs_nothing_and_unknown_points_neither(cells):
    maps = gaussians(cells, 1.5).log()
    assert density_loss(maps, cells, torch.ones(2, 3), 1.5) == pytest.approx(0, abs=1e-5)
    maps[0, 1] = torch.randn(12, 8)
    weights = torch.ones(2, 3)
    weights[0, 1] = 0
    assert density_loss(maps, cells, weights, 1.5) == pytest.approx(0, abs=1e-5)
    assert density_loss(maps, cells, torch.zeros(2, 3), 1.5) == 0


def test_the_heatmap_loss_is_half_of_the_squares(cells):
    maps, weights = torch.rand(2, 3, 12, 8), torch.rand(2, 3)
    squares = (maps - gaussians(cells, 2)).square().mean((2, 3))
    expected = 0.5 * (squares * weights).mean()
    torch.testing.assert_close(heatmap_loss(maps, cells, weights, 2.0), expected)
