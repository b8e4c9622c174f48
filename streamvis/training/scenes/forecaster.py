"""Recipe and training of forecasters: `streamvis train forecaster`.

Training needs no labels. A sample is four feature maps of driving video and the one that follows
them, as `feature_cache` keeps them; the segmenter's frozen head gives the classes of that map. A
forecaster of kind `moved` warps by optical flow, and learns confidences only (`warp_calibrator`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.datasets.classes import VOID
from streamvis.datasets.driving import DriveSampling, read_drives
from streamvis.errors import ConfigError, DataError
from streamvis.evaluation.segmentation import Confusion, gap_closed
from streamvis.models.forecasting import Forecaster, ForecasterConfig
from streamvis.models.swiftnet import STRIDE, SwiftNet
from streamvis.models.warp_calibrator import WarpCalibrator, build_forecaster
from streamvis.models.weights import find, load_into, load_segmenter, sight
from streamvis.training.hold_out import nothing_left, present, wanted
from streamvis.training.loop import Groups, Schedule, fit
from streamvis.training.losses.segmentation import lovasz_softmax
from streamvis.training.provenance import begin
from streamvis.training.recipes import Amount, Positive, Seed, Share, read_recipe
from streamvis.training.results import write_results
from streamvis.training.scenes import warp_calibrator
from streamvis.training.scenes.feature_cache import FeatureCache, FeatureSequence, build_cache
from streamvis.training.scenes.warp_calibrator import DrawSample, HeldOutEntropy

B = TypeVar("B")
CHECKS = 200  # forecasts of held-out video that are scored, at most


class ForecasterLossWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The weights of the terms of a forecaster's loss."""

    features: Amount = 1.0  # squared error of normalised maps: blended, regressed, warped
    reading: Amount = 0.0  # divergence of the classes of the predicted map from those of the true
    overlap: Amount = 0.0  # Lovász-softmax, against the classes of the true map
    read_from: Share = 0.0  # share of the steps after which `reading` and `overlap` are used


class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A factor on the time between maps, which simulates faster or slower driving."""

    times: Positive  # factor on the intervals of inference
    share: Share  # of samples


class ForecasterRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A training file for forecasters, `configs/training/street-forecast-0.2.yaml`."""

    architecture: ForecasterConfig
    schedule: Schedule
    start: str | None = None  # weights of a forecaster with the same tensors, of any horizon
    sampling: DriveSampling = DriveSampling()
    hold_out: tuple[str, ...] = ()  # videos that are scored and not trained on
    batch: Annotated[int, Meta(ge=2)] = 8
    rate: Positive = 1e-3  # peak, of AdamW
    loss: ForecasterLossWeights = ForecasterLossWeights()
    mirror: Share = 0.5
    paces: Annotated[tuple[Pace, ...], Meta(min_length=1)] = (Pace(1.0, 1.0),)
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: Seed = 0


@dataclass(frozen=True)
class HeldOutScores:
    """mIoU of forecasts of held-out video, against the segmentation of the true future frame."""

    pictures: int
    forecast: float | None
    copied: float | None  # copy-last baseline

    @property
    def gap(self) -> float | None:
        return gap_closed(self.copied, self.forecast, 1.0)

    def __str__(self) -> str:
        return (
            f"held-out video, {self.pictures} forecasts: mIoU {self.forecast:.3f} against the "
            f"segmentation of the future frame; copy-last baseline {self.copied:.3f}"
        )


def load_recipe(path: Path, hold_out: Sequence[str] | None = None) -> ForecasterRecipe:
    """Read a recipe; ConfigError. hold_out: names of videos that replace the recipe's."""
    recipe, names = read_recipe(path, ForecasterRecipe), wanted(hold_out)
    return recipe if names is None else replace(recipe, hold_out=names)


def steps_of(recipe: ForecasterRecipe, times: float = 1.0) -> list[int]:
    """Return the times of a sample's maps, past ones and future, in steps of the cache."""
    a, grid = recipe.architecture, recipe.sampling.every_s / times
    gap, ahead = a.every_s / grid, a.horizon_s / grid
    for name, steps in (("every_s", gap), ("horizon_s", ahead)):
        if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
            raise ConfigError(
                f"{times:g} × `{name}` is not a multiple of `sampling.every_s`, "
                f"{recipe.sampling.every_s:g} s"
            )
    newest = (a.past - 1) * round(gap)
    return [*range(0, newest + 1, round(gap)), newest + round(ahead)]


def starts(
    sequences: Sequence[FeatureSequence], steps: Sequence[int]
) -> list[tuple[FeatureSequence, int]]:
    """Return every start in the sequences at which a sample fits."""
    return [(s, first) for s in sequences for first in range(s.length - steps[-1])]


def split(
    cache: FeatureCache, hold_out: Sequence[str]
) -> tuple[list[FeatureSequence], list[FeatureSequence]]:
    """Divide the sequences into those to train on and those of held-out videos."""
    learnt = [s for s in cache.sequences if s.name not in hold_out]
    return learnt, [s for s in cache.sequences if s.name in hold_out]


def batches(
    cache: FeatureCache, sequences: Sequence[FeatureSequence], recipe: ForecasterRecipe, step: int
) -> Iterator[Tensor]:
    """Yield batches (B, past + 1, C, h, w) fp16 from a step on, which each depend on it alone."""
    draw = drawing(cache, sequences, recipe)

    def batch(step: int) -> Tensor:
        rng = np.random.default_rng([recipe.seed, step])
        samples = []
        for sequence, first, steps in (draw(rng) for _ in range(recipe.batch)):
            maps = cache.read(sequence, first + np.array(steps))
            samples.append(maps.flip(-1) if rng.random() < recipe.mirror else maps)
        return torch.stack(samples)

    return map(batch, count(step))


def drawing(
    cache: FeatureCache, sequences: Sequence[FeatureSequence], recipe: ForecasterRecipe
) -> DrawSample:
    """Return a function that draws a sample: its sequence, its start and its steps."""
    steps = [steps_of(recipe, pace.times) for pace in recipe.paces]
    places = [starts(sequences, found) for found in steps]
    shares = np.array(
        [p.share if there else 0 for p, there in zip(recipe.paces, places, strict=True)]
    )
    if not shares.sum():
        longest = max((s.length for s in sequences), default=0) * cache.every_s
        raise DataError(
            f"a sample spans {steps[0][-1] * cache.every_s:g} s, but the longest sequence without "
            f"a cut has {longest:g} s; expected longer videos"
        )
    shares = shares / shares.sum()

    def draw(rng: np.random.Generator) -> tuple[FeatureSequence, int, list[int]]:
        pace = int(rng.choice(len(places), p=shares))
        return *places[pace][rng.integers(len(places[pace]))], steps[pace]

    return draw


def check_fit(recipe: ForecasterRecipe, segmenter: SwiftNet) -> None:
    """Raise ConfigError unless the forecaster fits this segmenter's classes and feature maps."""
    a, classes = recipe.architecture, len(segmenter.architecture.segments)
    if a.kind == "moved" and recipe.loss != ForecasterLossWeights():
        raise ConfigError(
            "loss: a forecaster of kind `moved` is trained with cross-entropy alone; remove `loss`"
        )
    if a.kind == "moved" and a.channels != classes:
        raise ConfigError(
            f"architecture: channels is {a.channels}; the segmenter has {classes} classes"
        )
    if a.kind != "moved" and (a.channels, a.stride) != (segmenter.channels, segmenter.stride):
        raise ConfigError(
            f"architecture: {a.channels} channels at stride {a.stride}; the segmenter's maps have "
            f"{segmenter.channels} channels at stride {segmenter.stride}"
        )


def build(recipe: ForecasterRecipe, cache: FeatureCache) -> Forecaster | WarpCalibrator:
    """Return the forecaster before training, with the normalisation of the cache's maps."""
    torch.manual_seed(recipe.seed)
    model = build_forecaster(recipe.architecture)
    if recipe.start is not None:
        load_into(model, find(recipe.start))
    if isinstance(model, Forecaster):
        model.fit_to(cache.mean, cache.std)
    return model


class ForecasterLosses:
    """The terms of a step; those on classes start after a share `read_from` of the steps."""

    def __init__(self, model: Forecaster, head: nn.Module, recipe: ForecasterRecipe) -> None:
        self.model, self.head, self.recipe = model, head, recipe
        self.rows = -(-recipe.sampling.size[0] // STRIDE)  # the rows below are padding

    def __call__(self, batch: Tensor, step: int) -> dict[str, Tensor]:
        how, device = self.recipe.loss, self.model.mean.device
        maps = batch.to(device).float()  # (B, past + 1, C, h, w)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            outputs = self.model.outputs(maps[:, :-1])
        target = self.model.normalise(maps[:, -1])
        terms = {"features": how.features * outputs.loss(target)}
        if (how.reading or how.overlap) and step >= how.read_from * self.recipe.schedule.steps:
            terms |= self._class_terms(outputs.blend.float(), maps[:, -1])
        return terms

    def _class_terms(self, predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Compare classes of predicted, normalised maps with those of true ones (B, C, h, w)."""
        how, rows = self.recipe.loss, self.rows
        with torch.no_grad():
            wanted = self.head(true[:, :, :rows])  # (B, K, rows, w)
        found = self.head(self.model.denormalise(predicted[:, :, :rows]))
        terms = {}
        if how.reading:
            apart = F.kl_div(
                found.log_softmax(1), wanted.log_softmax(1), reduction="none", log_target=True
            )
            terms["reading"] = how.reading * apart.sum(1).mean()
        if how.overlap:
            terms["overlap"] = how.overlap * lovasz_softmax(found, wanted.argmax(1))
        return terms


def train(
    recipe: ForecasterRecipe,
    data: Sequence[Path],
    weights: str,
    out: Path,
    *,
    overwrite: bool = False,
) -> tuple[Forecaster | WarpCalibrator, HeldOutScores | HeldOutEntropy]:
    """Train on the videos of folders; return the averaged weights and their held-out scores."""
    cv2.setNumThreads(1)  # the loader shares the machine with the network
    for times in (1.0, *(pace.times for pace in recipe.paces)):
        steps_of(recipe, times)  # raises before any video is read
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    segmenter = load_segmenter(weights, str(device)).requires_grad_(False)
    check_fit(recipe, segmenter)
    names = [path.stem for path in read_drives(data)]
    held = present(recipe.hold_out, names, "videos")
    if set(held) == set(names):
        raise nothing_left(held)
    begin(
        out,
        "forecaster",
        recipe,
        data={"--data": data},
        weights={"--weights": [weights], "start": [recipe.start] if recipe.start else []},
        overwrite=overwrite,
    )
    recipe = replace(recipe, hold_out=held)
    cache = build_cache(data, weights, recipe.sampling, out / "maps")
    model = build(recipe, cache).to(device).train()
    if isinstance(model, WarpCalibrator):
        return model, _train_calibrator(model, segmenter, cache, recipe, out)
    return model, _train_maps(model, segmenter, cache, recipe, out)


def _train_maps(
    model: Forecaster, segmenter: SwiftNet, cache: FeatureCache, recipe: ForecasterRecipe, out: Path
) -> HeldOutScores:
    """Train a forecaster of feature maps."""
    learnt, held = split(cache, recipe.hold_out)
    losses = ForecasterLosses(model, segmenter.classes, recipe)

    def data_from(step: int) -> Iterator[tuple[int, Tensor]]:
        return enumerate(batches(cache, learnt, recipe, step), step)

    _learn(model, data_from, lambda b: losses(b[1], b[0]), recipe, out)
    return check(model, segmenter, cache, held, recipe)


def _train_calibrator(
    model: WarpCalibrator,
    segmenter: SwiftNet,
    cache: FeatureCache,
    recipe: ForecasterRecipe,
    out: Path,
) -> HeldOutEntropy:
    """Train the calibration of classes that are warped by optical flow."""
    learnt, held = split(cache, recipe.hold_out)
    past = warp_calibrator.FLOW_PICTURES
    flow_recipe = replace(recipe, architecture=replace(recipe.architecture, past=past))
    draw = drawing(cache, learnt, flow_recipe)
    sample = warp_calibrator.WarpSampler(segmenter, cache, recipe.sampling.size)

    def data_from(step: int) -> Iterator[tuple[Tensor, ...]]:
        return warp_calibrator.batches(sample, draw, recipe.batch, recipe.mirror, recipe.seed, step)

    _learn(model, data_from, lambda b: warp_calibrator.loss(model, b), recipe, out)
    steps = steps_of(flow_recipe)
    return warp_calibrator.check(model, sample, starts(held, steps), steps)


def _learn(
    model: nn.Module,
    data_from: Callable[[int], Iterator[B]],
    losses: Callable[[B], dict[str, Tensor]],
    recipe: ForecasterRecipe,
    out: Path,
) -> None:
    """Train the model in place and leave it in inference mode."""
    groups: Groups = [(list(model.parameters()), recipe.rate)]
    model.load_state_dict(fit(model, groups, data_from, losses, recipe.schedule, out))
    model.eval()


@torch.inference_mode()
def check(
    model: Forecaster,
    segmenter: SwiftNet,
    cache: FeatureCache,
    held: Sequence[FeatureSequence],
    recipe: ForecasterRecipe,
) -> HeldOutScores:
    """Score forecasts of held-out video against the segmentation of the true future frame."""
    steps = np.array(steps_of(recipe))
    places = starts(held, steps.tolist())
    names, rows = segmenter.architecture.segments, -(-recipe.sampling.size[0] // STRIDE)
    forecast, copied = Confusion(names, VOID), Confusion(names, VOID)
    for sequence, first in places[:: -(-len(places) // CHECKS) or 1]:
        maps = cache.read(sequence, first + steps)[None].to(model.mean.device).float()
        maps_of = [model(maps[:, :-1]), maps[:, -2], maps[:, -1]]
        predicted, last, true = (
            segmenter.logits(x)[0, :, :rows].argmax(0).cpu().numpy() for x in maps_of
        )
        forecast.add(predicted, true)
        copied.add(last, true)
    return HeldOutScores(forecast.pictures, forecast.miou(), copied.miou())


def run(
    recipe: ForecasterRecipe,
    data: Sequence[Path],
    weights: str,
    out: Path,
    *,
    overwrite: bool = False,
) -> tuple[Path, HeldOutScores | HeldOutEntropy]:
    """Train, write the curves and the weights; return their path and the held-out scores."""
    model, scores = train(recipe, data, weights, out, overwrite=overwrite)
    held_out = {}
    if scores.pictures:
        held_out = {"held_out": ", ".join(recipe.hold_out), "score": str(scores)}
    path = write_results(
        out,
        recipe.architecture.name,
        model,
        recipe.schedule,
        data,
        segmenter=sight(weights),
        **held_out,
    )
    return path, scores
