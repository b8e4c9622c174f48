"""Teaching a forecaster that goes by motion how sure to be: its part of `train forecaster`.

A sample is what moves to every place, and the class that the segmenter reads there once the time
has come. What is asked for is the probability that it gives this class: cross-entropy.
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
LOOKS = 3  # pictures, of which the flow of the last has settled
SURE = 0.995  # of what moves there alone, where its loss is told: of certainty it may be infinite
CHECKS = 200  # forecasts of held-out video that are scored, at most


class WarpSampler:
    """What comes to every place of a view, and what was there then."""

    def __init__(self, segmenter: SwiftNet, cache: FeatureCache, size: tuple[int, int]) -> None:
        self.segmenter, self.cache, self.size = segmenter, cache, size
        self.things = np.array(movable(segmenter.architecture.segments))

    @torch.inference_mode()
    def __call__(
        self, stretch: FeatureSequence, first: int, steps: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """shares (1, K, h, w), cues (1, 3, h, w) and classes (1, h, w) of what comes.

        steps: of the pictures that are looked at, and of the one that comes.
        """
        at = first + np.asarray(steps)
        glimpse: FlowFrame | None = None
        for grey in self.cache.look(stretch, at[:-1]):
            glimpse = follow(grey, glimpse)
        now, future = self.cache.read(stretch, at[-2:]).float().split(1)
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
    """How probable what came had been told to be: mean cross-entropy, nats a place."""

    pictures: int
    told: float | None
    moved: float | None  # of what moves there, taken for sure

    def __str__(self) -> str:
        return (
            f"held-out video, {self.pictures} forecasts: cross-entropy {self.told:.3f} of what "
            f"came; of what moved there alone {self.moved:.3f}"
        )


def batches(
    sample: WarpSampler, draw: DrawSample, size: int, mirror: float, seed: int, step: int
) -> Iterator[tuple[Tensor, ...]]:
    """Batches from a step on, the same after a stop."""

    def one(rng: np.random.Generator) -> tuple[Tensor, ...]:
        told, cues, came = sample(*draw(rng))
        if rng.random() >= mirror:
            return told, cues, came
        turned = cues.flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
        return told.flip(-1), turned, came.flip(-1)

    for number in count(step):
        rng = np.random.default_rng([seed, number])
        parts = zip(*(one(rng) for _ in range(size)), strict=True)
        yield tuple(torch.cat(part) for part in parts)


def loss(model: WarpCalibrator, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Cross-entropy of what came."""
    device = next(model.parameters()).device
    told, cues, came = (x.to(device) for x in batch)
    return {"entropy": F.cross_entropy(model(told, cues), came)}


@torch.inference_mode()
def check(
    model: WarpCalibrator,
    sample: WarpSampler,
    places: Sequence[tuple[FeatureSequence, int]],
    steps: Sequence[int],
) -> HeldOutEntropy:
    """How sure it is of what comes in held-out video, and how sure motion alone would be."""
    told, moved = [], []
    for stretch, first in places[:: -(-len(places) // CHECKS) or 1]:
        shares, cues, came = sample(stretch, first, steps)
        told.append(float(loss(model, (shares, cues, came))["entropy"]))
        known = shares * SURE + (1 - SURE) / shares.shape[1]
        moved.append(float(F.nll_loss(known.log(), came)))
    if not told:
        return HeldOutEntropy(0, None, None)
    return HeldOutEntropy(len(told), float(np.mean(told)), float(np.mean(moved)))
