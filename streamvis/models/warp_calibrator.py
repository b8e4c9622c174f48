"""What is seen goes on as it moved, and a small network says how sure that is.

    source = foresee(flow, classes, things, ahead)        # of models/motion.py
    shares, cues = arrive(logits, source)                 # what comes to every place
    model = Moved(ARCHITECTURES["street-forecast-0.2"])
    model(shares, cues).softmax(1)                        # (1, K, h, w)

What is likeliest stays what moved there: a network that has learnt how often it is wrong gives
small things up. Of a zone, though, it is asked how probable a pedestrian is, and there what moved
alone is too sure of itself.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.messages import Array
from streamvis.models.forecasting import Forecaster, ForecasterConfig, checked
from streamvis.models.swiftnet import STRIDE

CUES = 3
FAR = 40.0  # px of motion to a unit of a cue


def warp_logits(logits: Tensor, source: Array) -> tuple[Tensor, Tensor]:
    """Probabilities (1, K, h, w) of what comes to places at stride 4, and cues (1, 3, h, w).

    logits (1, K, h', w') of the moment at hand at stride 4; source (H, W, 2) as of `foresee`. Cues
    are how far it comes, along x and y, and whether from beyond the picture.
    """
    height, width = source.shape[:2]
    rows, columns = (
        np.minimum(np.arange(0, n, STRIDE) + STRIDE // 2, n - 1) for n in (height, width)
    )
    come = source[np.ix_(rows, columns)]  # (h, w, 2)
    most = (len(columns) - 1, len(rows) - 1)  # what lies below and right of these is padding
    x, y = (come // STRIDE).astype(np.int64).clip(0, most).transpose(2, 0, 1)
    index = torch.from_numpy(y * int(logits.shape[3]) + x).to(logits.device)
    shares = logits.flatten(2)[:, :, index].softmax(1)
    still = np.stack(np.meshgrid(columns, rows), -1)
    beyond = ((come < -0.5) | (come > (width - 0.5, height - 0.5))).any(-1, keepdims=True)
    cues = np.concatenate([(come - still) / FAR, beyond], -1, dtype=np.float32)
    return shares, torch.from_numpy(cues).permute(2, 0, 1)[None].to(logits.device)


class WarpCalibrator(nn.Module):
    """How probable classes are where `arrive` says that something comes from."""

    def __init__(self, architecture: ForecasterConfig) -> None:
        super().__init__()
        self.architecture = a = checked(architecture)
        inputs = [a.channels + CUES] + [a.width] * (a.depth - 1)
        layers: list[nn.Module] = []
        for i, count in enumerate(inputs):
            layers += [nn.Conv2d(count, a.width, 3, padding=1 << i, dilation=1 << i), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.correct = nn.Conv2d(a.width, a.channels, 1)
        self.doubt = nn.Parameter(torch.tensor(-4.0))  # logit of how often it is anything at all
        self.sharpness = nn.Parameter(torch.tensor(0.0))  # logarithm
        for parameter in self.correct.parameters():
            nn.init.zeros_(parameter)

    def forward(self, shares: Tensor, cues: Tensor) -> Tensor:
        """Logits (B, K, h, w) of probabilities (B, K, h, w) and cues (B, 3, h, w)."""
        doubt = self.doubt.sigmoid()
        known = (shares * (1 - doubt) + doubt / shares.shape[1]).log() * self.sharpness.exp()
        x = torch.cat([known / 5, cues], 1)  # of about unit size
        x = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        more = self.correct(self.trunk(x))
        size = (int(shares.shape[2]), int(shares.shape[3]))
        return known + F.interpolate(more, size, mode="bilinear", align_corners=False)


def build_forecaster(architecture: ForecasterConfig) -> Forecaster | WarpCalibrator:
    """The network, untrained, of any kind of forecaster."""
    return (
        WarpCalibrator(architecture) if architecture.kind == "moved" else Forecaster(architecture)
    )
