"""Training of a forecaster that warps classes by optical flow: it learns calibrated confidences.

A sample is the class probabilities that flow moves to every place, and the class that the segmenter
gives there at the future time. The loss is the cross-entropy of that class. Held-out videos then
tell how much too sure the network is of movable classes on streets that it has not seen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.datasets.classes import movable
from streamvis.messages import Array
from streamvis.models.flow_warp import FlowFrame, extrapolate, follow, scene_motion
from streamvis.models.swiftnet import STRIDE, SwiftNet
from streamvis.models.upsample_argmax import upsample_argmax
from streamvis.models.warp_calibrator import WarpCalibrator, warp_logits
from streamvis.training.scenes.feature_cache import FeatureCache, FeatureSequence

DrawSample = Callable[
    [np.random.Generator], tuple[FeatureSequence, int, list[int]]
]  # where, at which steps
FLOW_PICTURES = 3  # of which the flow to the last one has converged
SURE = 0.995  # probability of the warped class in the baseline, whose loss at 1 would be infinite
TEMPERATURES = np.geomspace(0.8, 2.5, 13)  # 10 % from one to the next
SHIFTS = np.linspace(-0.8, 0.8, 17)  # of logits of movable classes
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
        motion = scene_motion(glimpse and glimpse.flow, classes, self.things)
        source = extrapolate(motion, self.size, ahead)
        height, width = (-(-n // STRIDE) for n in self.size)
        came = future[:, :, :height, :width].argmax(1)
        return *(x.cpu() for x in warp_logits(now, source)), came.cpu()


@dataclass(frozen=True)
class Confidence:
    """How sure of movable classes a network may be, compared with what it says."""

    temperature: float = 1.0  # by which logits are divided
    shift: float = 0.0  # that is then added to those of movable classes

    def __str__(self) -> str:
        return f"temperature {self.temperature:.2f}, shift {self.shift:+.1f}"


@dataclass(frozen=True)
class HeldOutEntropy:
    """Mean cross-entropy of the true classes of held-out video, in nats a place."""

    pictures: int
    model: float | None
    moved: float | None  # of the baseline: warped classes, with probability SURE
    confidence: Confidence = Confidence()  # learnt on these videos
    without: Mapping[str, Confidence] = field(default_factory=dict)  # the same, by the one left out

    def __str__(self) -> str:
        others = ", ".join(f"{one} without {name}" for name, one in self.without.items())
        return (
            f"held-out video, {self.pictures} forecasts: cross-entropy {self.model:.3f}; of "
            f"warped classes without calibration {self.moved:.3f}; {self.confidence}"
            f"{f' ({others})' if others else ''}"
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
    """Recalibrate the model on held-out video, then score it and the baseline without it.

    Zones ask how probably something movable is there. On streets that the network has not seen it
    is too sure of that, which a temperature and a shift of the logits mend (Platt 1999): those
    that fit the held-out videos best, each of which counts alike.
    """
    device = next(model.parameters()).device
    things = torch.from_numpy(sample.things)
    samples = [
        (sequence.name, sample(sequence, first, steps))
        for sequence, first in places[:: -(-len(places) // CHECKS) or 1]
    ]
    if not samples:
        return HeldOutEntropy(0, None, None)
    found: dict[str, list[Array]] = {}  # by video: entropies by temperature and shift
    for name, (shares, cues, true) in samples if things.any() and not things.all() else ():
        logits = model(shares.to(device), cues.to(device)).cpu()
        found.setdefault(name, []).append(_entropies(logits, true, things))
    alive = {name for name, (_, _, true) in samples if things[true].any()}
    means = {name: np.mean(each, 0) for name, each in found.items() if name in alive}
    confidence = _fitted([*means.values()])
    without = {
        name: _fitted([mean for other, mean in means.items() if other != name])
        for name in (means if len(means) > 1 else ())
    }
    model.recalibrate(confidence.temperature, (confidence.shift * things.float()).to(device))
    calibrated, moved = [], []
    for _, (shares, cues, true) in samples:
        calibrated.append(float(loss(model, (shares, cues, true))["entropy"]))
        known = shares * SURE + (1 - SURE) / shares.shape[1]
        moved.append(float(F.nll_loss(known.log(), true)))
    scores = float(np.mean(calibrated)), float(np.mean(moved))
    return HeldOutEntropy(len(samples), *scores, confidence, without)


def _entropies(logits: Tensor, true: Tensor, things: Tensor) -> Array:
    """Return the entropies (TEMPERATURES, SHIFTS) of whether there is something movable."""
    there, found = things[true].float(), np.zeros((len(TEMPERATURES), len(SHIFTS)))
    for i, temperature in enumerate(TEMPERATURES.tolist()):
        cool = logits / temperature
        odds = cool[:, things].logsumexp(1) - cool[:, ~things].logsumexp(1)
        for j, shift in enumerate(SHIFTS.tolist()):
            found[i, j] = F.binary_cross_entropy_with_logits(odds + shift, there)
    return found


def _fitted(entropies: Sequence[Array]) -> Confidence:
    """Return the confidence with the least mean of the entropies of videos, if there are any."""
    if not entropies:
        return Confidence()
    mean = np.mean(entropies, 0)
    at = np.unravel_index(mean.argmin(), mean.shape)
    return Confidence(float(TEMPERATURES[at[0]]), float(SHIFTS[at[1]]))
