"""Calibrated probabilities of labels that were warped into the future by optical flow.

    source = extrapolate(flow, classes, things, ahead)    # of models/flow_warp.py
    shares, cues = warp_logits(logits, source)
    model = WarpCalibrator(ARCHITECTURES["street-forecast-0.2"])
    model(shares, cues).softmax(1)                        # (1, K, h, w)

The forecast classes are the warped ones: a network trained on its errors would give up small
objects. Probabilities, such as that of a pedestrian in a zone, are calibrated by this network,
because warped ones are overconfident.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.messages import Array
from streamvis.models.forecasting import Forecaster, ForecasterConfig, checked
from streamvis.models.swiftnet import STRIDE

CUES = 3
FAR = 40.0  # px of motion for one unit of a cue


def warp_logits(logits: Tensor, source: Array) -> tuple[Tensor, Tensor]:
    """Return warped probabilities (1, K, h, w) at stride 4, and cues (1, 3, h, w).

    logits (1, K, h', w') of the latest frame at stride 4; source (H, W, 2) as of `extrapolate`.
    Cues are the displacements along x and y, and whether the source lies outside of the frame.
    """
    height, width = source.shape[:2]
    rows, columns = (
        np.minimum(np.arange(0, n, STRIDE) + STRIDE // 2, n - 1) for n in (height, width)
    )
    come = source[np.ix_(rows, columns)]  # (h, w, 2)
    most = (len(columns) - 1, len(rows) - 1)  # beyond is padding
    x, y = (come // STRIDE).astype(np.int64).clip(0, most).transpose(2, 0, 1)
    index = torch.from_numpy(y * int(logits.shape[3]) + x).to(logits.device)
    shares = logits.flatten(2)[:, :, index].softmax(1)
    still = np.stack(np.meshgrid(columns, rows), -1)
    beyond = ((come < -0.5) | (come > (width - 0.5, height - 0.5))).any(-1, keepdims=True)
    cues = np.concatenate([(come - still) / FAR, beyond], -1, dtype=np.float32)
    return shares, torch.from_numpy(cues).permute(2, 0, 1)[None].to(logits.device)


class WarpCalibrator(nn.Module):
    """Calibrates warped class probabilities, given the cues of `warp_logits`."""

    def __init__(self, architecture: ForecasterConfig) -> None:
        super().__init__()
        self.architecture = a = checked(architecture)
        inputs = [a.channels + CUES] + [a.width] * (a.depth - 1)
        layers: list[nn.Module] = []
        for i, count in enumerate(inputs):
            layers += [nn.Conv2d(count, a.width, 3, padding=1 << i, dilation=1 << i), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.correct = nn.Conv2d(a.width, a.channels, 1)
        self.doubt = nn.Parameter(
            torch.tensor(-4.0)
        )  # logit of the share of a uniform distribution
        self.sharpness = nn.Parameter(torch.tensor(0.0))  # logarithm
        for parameter in self.correct.parameters():
            nn.init.zeros_(parameter)

    def forward(self, shares: Tensor, cues: Tensor) -> Tensor:
        """Return logits (B, K, h, w) for probabilities (B, K, h, w) and cues (B, 3, h, w)."""
        doubt = self.doubt.sigmoid()
        known = (shares * (1 - doubt) + doubt / shares.shape[1]).log() * self.sharpness.exp()
        x = torch.cat([known / 5, cues], 1)  # of about unit size
        x = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        more = self.correct(self.trunk(x))
        size = (int(shares.shape[2]), int(shares.shape[3]))
        return known + F.interpolate(more, size, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def recalibrate(self, temperature: float, shift: Tensor) -> None:
        """Divide all logits by a temperature and add a shift (K,), in the weights."""
        self.sharpness.sub_(math.log(temperature))
        first, *_ = self.trunk.parameters()  # (width, classes + cues, 3, 3)
        first[:, : len(shift)].mul_(temperature)  # it sees what it saw before
        weight, bias = self.correct.parameters()
        weight.div_(temperature)
        bias.div_(temperature).add_(shift)


def build_forecaster(architecture: ForecasterConfig) -> Forecaster | WarpCalibrator:
    """Return the untrained network of any kind of forecaster."""
    return (
        WarpCalibrator(architecture) if architecture.kind == "moved" else Forecaster(architecture)
    )
