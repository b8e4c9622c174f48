"""Training of a forecaster that warps classes by optical flow: it learns calibrated confidences.

A sample is the class probabilities that flow moves to every place, and the class that the segmenter
gives there at the future time. The loss is the cross-entropy of that class.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.datasets.classes import movable
from streamvis.models.flow_warp import FlowFrame, extrapolate, follow
from streamvis.models.swiftnet import STRIDE, SwiftNet
from streamvis.models.upsample_argmax import upsample_argmax
from streamvis.models.warp_calibrator import WarpCalibrator, warp_logits
from streamvis.training.scenes.feature_cache import FeatureCache, FeatureSequence

DrawSample = Callable[
    [np.random.Generator], tuple[FeatureSequence, int, list[int]]
]  # where, at which steps
FLOW_PICTURES = 3  # of which the flow to the last one has converged
SURE = 0.995  # probability of the warped class in the baseline, whose loss at 1 would be infinite
CHECKS = 200  # forecasts of held-out video that are scored, at most


class WarpSampler:
    """Samples of a view: warped class probabilities, and the classes at the future time."""

    def __init__(self, segmenter: SwiftNet, cache: FeatureCache, size: tuple[int, int]) -> None:
        self.segmenter, self.cache, self.size = segmenter, cache, size
        self.things = np.array(movable(segmenter.architecture.segments))

    @torch.inference_mode()
    def __call__(
        self, sequence: FeatureSequence, first: int, steps: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """Return shares (1, K, h, w), cues (1, 3, h, w) and the true classes (1, h, w).

        steps: those of the pictures that flow is computed from, and of the future one.
        """
        at = first + np.asarray(steps)
        glimpse: FlowFrame | None = None
        for grey in self.cache.read_grey(sequence, at[:-1]):
            glimpse = follow(grey, glimpse)
        now, future = self.cache.read(sequence, at[-2:]).float().split(1)
        read, device = self.segmenter.logits, self.segmenter.mean.device
        now, future = read(now.to(device)), read(future.to(device))
        ahead = (steps[-1] - steps[-2]) / (steps[-2] - steps[-3])
        classes = upsample_argmax(now[0].cpu().numpy(), self.size)
        source = extrapolate(glimpse and glimpse.flow, classes, self.things, ahead)
        height, width = (-(-n // STRIDE) for n in self.size)
        came = future[:, :, :height, :width].argmax(1)
        return *(x.cpu() for x in warp_logits(now, source)), came.cpu()


@dataclass(frozen=True)
class HeldOutEntropy:
    """Mean cross-entropy of the true classes of held-out video, in nats a place."""

    pictures: int
    model: float | None
    moved: float | None  # of the baseline: warped classes, with probability SURE

    def __str__(self) -> str:
        return (
            f"held-out video, {self.pictures} forecasts: cross-entropy {self.model:.3f}; of "
            f"warped classes without calibration {self.moved:.3f}"
        )


def batches(
    sample: WarpSampler, draw: DrawSample, size: int, mirror: float, seed: int, step: int
) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches from a step on; a batch depends on seed and step only."""

    def one(rng: np.random.Generator) -> tuple[Tensor, ...]:
        shares, cues, true = sample(*draw(rng))
        if rng.random() >= mirror:
            return shares, cues, true
        turned = cues.flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
        return shares.flip(-1), turned, true.flip(-1)

    for number in count(step):
        rng = np.random.default_rng([seed, number])
        parts = zip(*(one(rng) for _ in range(size)), strict=True)
        yield tuple(torch.cat(part) for part in parts)


def loss(model: WarpCalibrator, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return the cross-entropy of the true classes."""
    device = next(model.parameters()).device
    shares, cues, true = (x.to(device) for x in batch)
    return {"entropy": F.cross_entropy(model(shares, cues), true)}


@torch.inference_mode()
def check(
    model: WarpCalibrator,
    sample: WarpSampler,
    places: Sequence[tuple[FeatureSequence, int]],
    steps: Sequence[int],
) -> HeldOutEntropy:
    """Score the model on held-out video, and the baseline without calibration."""
    calibrated, moved = [], []
    for sequence, first in places[:: -(-len(places) // CHECKS) or 1]:
        shares, cues, true = sample(sequence, first, steps)
        calibrated.append(float(loss(model, (shares, cues, true))["entropy"]))
        known = shares * SURE + (1 - SURE) / shares.shape[1]
        moved.append(float(F.nll_loss(known.log(), true)))
    if not calibrated:
        return HeldOutEntropy(0, None, None)
    return HeldOutEntropy(len(calibrated), float(np.mean(calibrated)), float(np.mean(moved)))
