"""A critic of 3D poses, which teaches a lifter what poses people take.

Yang, Ouyang, Wang, Ren, Li, Wang, "3D human pose estimation in the wild by adversarial learning",
CVPR 2018, section 3.3: a discriminator with several sources, of which one is the geometric
descriptor, the relative positions and distances of all pairs of joints. Here the others are the
keypoints in the picture, instead of the picture and its heatmaps.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.messages import KEYPOINTS

WIDTH = 96  # of the layers


def geometric_descriptor(pose: Tensor) -> Tensor:
    """Return relative positions and distances (B, 544) of all pairs of joints of (B, 17, 3)."""
    i, j = torch.triu_indices(KEYPOINTS, KEYPOINTS, 1, device=pose.device)
    apart = pose[:, i] - pose[:, j]  # (B, 136, 3)
    distance = (apart.square().sum(dim=2, keepdim=True) + 1e-6).sqrt()
    return torch.cat([apart, distance], dim=2).flatten(1)


class PoseCritic(nn.Module):
    """Tells learnt poses from lifted ones."""

    def __init__(self) -> None:
        super().__init__()
        pairs = KEYPOINTS * (KEYPOINTS - 1) // 2
        self.geometry = nn.Linear(4 * pairs, WIDTH)
        self.picture = nn.Linear(3 * KEYPOINTS, WIDTH)
        self.judge = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Linear(2 * WIDTH, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, 1)
        )

    def forward(self, pose: Tensor, keypoints: Tensor) -> Tensor:
        """Return logits (B,) that poses (B, 17, 3) are real, given keypoints (B, 17, 3)."""
        sources = self.geometry(geometric_descriptor(pose)), self.picture(keypoints.flatten(1))
        found: Tensor = self.judge(torch.cat(sources, dim=1))[:, 0]
        return found

    def loss(self, lifted: Tensor, seen: Tensor, real: Tensor, shown: Tensor) -> Tensor:
        """Return the cross-entropy of lifted poses and real ones with their keypoints."""
        false, true = self(lifted, seen), self(real, shown)
        return (F.softplus(false).mean() + F.softplus(-true).mean()) / 2


class _Reverse(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a negative number."""

    @staticmethod
    def forward(ctx, x: Tensor, strength: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return -ctx.strength * gradient, None


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """Return x; what minimises a loss of it makes that loss larger for those who made x.

    Ganin, Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML 2015, section 3.
    """
    found: Tensor = _Reverse.apply(x, strength)  # type: ignore[no-untyped-call]
    return found
