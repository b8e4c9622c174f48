"""Root-relative 3D poses lifted from the 2D keypoints of a track, by convolutions over time.

    lifter = load_lifter("pose-3d")
    x = normalised(points, scores)       # (B, T, 17, 3), T samples at `rate_hz`, the last is now
    lifter(x)                            # (B, 17, 3) metres about the middle of the hips

Pavllo, Feichtenhofer, Grangier, Auli, "3D human pose estimation in video with temporal convolutions
and semi-supervised training", CVPR 2019, sections 3 and 3.2 (causal): here with 9 samples. Axes are
those of a camera that looks at the middle of the hips: right, down, away from it. The size of a
person cannot be seen in normalised keypoints: bones are as long as those of the people that it
learnt from, on average.
"""

from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from streamvis.messages import KEYPOINTS, Array

LEFT_HIP, RIGHT_HIP = 11, 12
SURE = 0.3  # least score of a keypoint that is used
KERNEL = 3


class LifterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lifter: its width, and the rate of the samples that it looks at."""

    name: str = "pose-3d"
    width: Annotated[int, Meta(ge=8, le=1024)] = 192
    rate_hz: Annotated[float, Meta(gt=0, le=100)] = 10.0
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1

    @property
    def frames(self) -> int:
        """The number of samples that a pose is lifted from."""
        return KERNEL**2


ARCHITECTURES = {"pose-3d": LifterConfig()}


class TemporalBlock(nn.Module):
    """A residual block of two convolutions; the first may look at the past."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.layers = nn.Sequential(
            nn.Conv1d(width, width, kernel, stride=kernel, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, width, 1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        # x (B, width, T) -> (B, width, T / kernel)
        latest: Tensor = x[:, :, self.kernel - 1 :: self.kernel]
        return latest + self.layers(x)


class PoseLifterNetwork(nn.Module):
    """Lifts the last of several samples of a person's keypoints to 3D."""

    def __init__(self, architecture: LifterConfig) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.expand = nn.Sequential(
            nn.Conv1d(3 * KEYPOINTS, a.width, KERNEL, stride=KERNEL, bias=False),
            nn.BatchNorm1d(a.width),
            nn.ReLU(),
            nn.Dropout(a.dropout),
        )
        self.blocks = nn.Sequential(
            TemporalBlock(a.width, KERNEL, a.dropout), TemporalBlock(a.width, 1, a.dropout)
        )
        self.shrink = nn.Conv1d(a.width, 3 * KEYPOINTS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return metres (B, 17, 3) about the middle of the hips for samples (B, 9, 17, 3)."""
        x = x.flatten(2).transpose(1, 2)  # (B, 51, 9)
        x = self.shrink(self.blocks(self.expand(x)))  # (B, 51, 1)
        pose = x.reshape(-1, KEYPOINTS, 3)
        return pose - pose[:, [LEFT_HIP, RIGHT_HIP]].mean(dim=1, keepdim=True)


def normalised(points: Array, scores: Array) -> Array:
    """Return keypoints about their centre, in units of their spread, and scores (..., 17, 3).

    points (..., 17, 2) pixels, scores (..., 17); those with scores below 0.3 become zeros. Both
    are weighted by the scores, so that the result does not depend on place and size in the picture.
    """
    weight = np.where(scores >= SURE, scores, 0.0)[..., None]
    total = np.maximum(weight.sum(axis=-2, keepdims=True), 1e-6)
    about = points - (weight * points).sum(axis=-2, keepdims=True) / total
    spread = (weight * about**2).sum(axis=(-2, -1), keepdims=True) / total
    about = np.where(weight > 0, about / np.sqrt(np.maximum(spread, 1e-6)), 0.0)
    return np.concatenate([about, weight], axis=-1).astype(np.float32)


class TrackHistory:
    """The latest keypoints of each track of a video, from which samples at a steady rate are made.

    Between two frames keypoints are interpolated; before the first they are those of the first.
    """

    def __init__(self, architecture: LifterConfig) -> None:
        self._ago_us = np.arange(architecture.frames - 1, -1, -1) * (1e6 / architecture.rate_hz)
        self._tracks: dict[int, list[tuple[int, Array]]] = {}  # id -> time, (17, 3) points, scores

    def add(self, ids: Array, points: Array, scores: Array, media_us: int) -> None:
        """Add the keypoints of a frame; tracks that were not seen for a whole window are left."""
        rows = np.concatenate([points, scores[..., None]], axis=-1)
        for id_, row in zip(ids.tolist(), rows, strict=True):
            self._tracks.setdefault(id_, []).append((media_us, row))
        since = media_us - self._ago_us[0]
        for id_, seen in list(self._tracks.items()):
            if seen[-1][0] < since:
                del self._tracks[id_]
            while len(seen) > 1 and seen[1][0] <= since:
                seen.pop(0)

    def samples(self, ids: Array) -> Array:
        """Return normalised samples (N, T, 17, 3) up to the latest of each track."""
        found = [self._sampled(self._tracks[id_]) for id_ in ids.tolist()]
        rows = np.array(found).reshape(len(found), len(self._ago_us), KEYPOINTS, 3)
        return normalised(rows[..., :2], rows[..., 2])

    def _sampled(self, seen: list[tuple[int, Array]]) -> Array:
        times = np.array([time for time, _ in seen], float)
        rows = np.array([row for _, row in seen])  # (S, 17, 3)
        wanted = np.clip(times[-1] - self._ago_us, times[0], None)
        after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
        before = np.maximum(after - 1, 0)
        gap = np.maximum(times[after] - times[before], 1)
        share = np.clip((times[after] - wanted) / gap, 0, 1)[:, None, None]
        between = share * rows[before] + (1 - share) * rows[after]
        # a point that one of the two frames does not show is that of the other
        hidden = rows[..., 2:] < SURE
        between = np.where(hidden[before] & (share < 1), rows[after], between)
        return np.where(hidden[after] & (share > 0), rows[before], between)


@torch.inference_mode()
def lift(network: PoseLifterNetwork, x: Array) -> Array:
    """Return metres (B, 17, 3) float32 for normalised samples (B, 9, 17, 3)."""
    device = next(network.parameters()).device
    return np.asarray(network(torch.from_numpy(x).to(device)).cpu().numpy())
