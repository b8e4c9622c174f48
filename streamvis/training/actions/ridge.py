"""Classifiers in closed form: ridge regression on the features of a frozen trunk.

The strength is chosen by cross-validation over the sources of the training clips. With a few
hundred clips this is more accurate than gradient descent, and deterministic.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import torch
from msgspec import Meta

from streamvis.datasets.clips import Clip, Split, source_folds
from streamvis.errors import ConfigError
from streamvis.files import drafted
from streamvis.messages import Array
from streamvis.models.off import LEVELS, MotionClassifier, Off, Standardise
from streamvis.training.actions.clip_augment import TrunkMaps
from streamvis.training.progress import progress
from streamvis.training.recipes import Positive

FOLDS, TIMES = 5, 3  # of the inner cross-validation over sources, and its repetitions


class Ridge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The strengths of regularisation to choose from."""

    strengths: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (
        0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0
    )  # fmt: skip


class ClassifierInputs(NamedTuple):
    """The inputs of the classifiers for each view of each clip, averaged over its frames.

    Since classifiers are linear, the logits of the mean are the mean of the frames' logits.
    """

    frame: Array  # (views, clips, D)
    levels: list[Array]  # (views, clips, D) each


class LinearClassifier(NamedTuple):
    """A linear map from features x (N, D) to scores ((x − mean) / deviation) @ weight.T + bias."""

    mean: Array
    deviation: Array
    weight: Array  # (K, D)
    bias: Array  # (K,)

    def __call__(self, x: Array) -> Array:
        return np.asarray((x - self.mean) / self.deviation @ self.weight.T + self.bias)


@torch.inference_mode()
def write_inputs(model: Off, maps: TrunkMaps, path: Path) -> None:
    """Compute the inputs of the model's classifiers for all clips and write them to `path`."""
    part = model.guided if isinstance(model.guided, MotionClassifier) else None
    views, clips = len(maps.levels[-1]), len(maps.first) - 1
    device = next(model.parameters()).device
    rows: list[list[Array]] = []
    for view, clip in progress(
        [(v, c) for v in range(views) for c in range(clips)], "pooling maps"
    ):
        moments = slice(maps.first[clip], maps.first[clip + 1])
        taps = [
            torch.from_numpy(np.array(m[view, moments])).to(device).float() for m in maps.levels
        ]
        if len(taps[0]) == 1:  # a single frame has no motion
            taps = [torch.cat([x, x]) for x in taps]
        levels = part.statistics(*model.triples(taps, 1, len(taps[0]))) if part else []
        rows.append([x.mean(0).cpu().numpy() for x in (taps[-1], *levels)])
    kept = [np.stack(x).reshape(views, clips, -1) for x in zip(*rows, strict=True)]
    with drafted(path) as draft, draft.open("wb") as opened:
        np.savez(opened, *kept)


def load_inputs(path: Path) -> ClassifierInputs:
    with np.load(path) as file:
        frame, *levels = (file[name] for name in file.files)
    return ClassifierInputs(frame, levels)


@torch.inference_mode()
def score(model: Off, inputs: ClassifierInputs, rows: Sequence[int]) -> dict[str, Array]:
    """Return the mean logits (clips, K) of each stream on whole frames, which are view 0."""
    frame, *levels = (torch.from_numpy(x[0, list(rows)]) for x in (inputs.frame, *inputs.levels))
    found = {"frame": model.head(frame)}
    if isinstance(model.guided, MotionClassifier):
        found |= zip(LEVELS, model.guided.logits(levels), strict=True)
    return {name: logits.numpy() for name, logits in found.items()}


def learn(
    model: Off,
    inputs: ClassifierInputs,
    clips: Sequence[Clip],
    labels: Array,
    rows: Array,
    how: Ridge,
) -> dict[str, float]:
    """Fit the classifiers of `model` in place; return the chosen strengths.

    All levels are fitted together, so that the mean of their scores is the fit.
    """
    actions = len(model.architecture.actions)
    sources = [clips[i] for i in rows]
    chosen = {}
    frame = inputs.frame[:, rows]
    even = np.full(frame.shape[-1], 1 / frame.shape[-1])
    found, chosen["frame"] = fit(frame, labels[rows], actions, even, sources, how)
    weight = found.weight / found.deviation
    _fill(model.head, weight, found.bias - weight @ found.mean)
    if isinstance(model.guided, MotionClassifier):
        x = np.concatenate([level[:, rows] for level in inputs.levels], -1)
        prior = torch.cat(model.guided.prior()).numpy()
        found, chosen["motion"] = fit(x, labels[rows], actions, prior, sources, how)
        ends = np.cumsum([level.shape[-1] for level in inputs.levels])
        count = len(ends)
        for i, (standard, linear) in enumerate(
            zip(model.guided.standard, model.guided.classify, strict=True)
        ):
            part = slice(ends[i] - inputs.levels[i].shape[-1], ends[i])
            assert isinstance(standard, Standardise)
            standard.mean.copy_(torch.from_numpy(found.mean[part]))
            standard.deviation.copy_(torch.from_numpy(found.deviation[part]))
            _fill(linear, count * found.weight[:, part], found.bias)
    return chosen


def _fill(linear: torch.nn.Module, weight: Array, bias: Array) -> None:
    assert isinstance(linear, torch.nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))


def fit(
    x: Array,  # (views, N, D)
    labels: Array,  # (N,)
    actions: int,
    prior: Array,  # (D,) variance of weights before anything is learnt
    clips: Sequence[Clip],  # (N,) whose sources make the folds
    how: Ridge,
) -> tuple[LinearClassifier, float]:
    """Choose the strength with the least error on held-out sources and fit it to all clips."""
    everything = np.arange(len(labels))
    errors = np.zeros(len(how.strengths))
    if len(how.strengths) > 1:
        for train, test in _folds(clips):
            shares = _shares(labels[test], actions)
            for i, found in enumerate(
                _ridges(x[:, train], labels[train], actions, prior, how.strengths)
            ):
                missed = (found(x[0, test]) - _targets(labels[test], actions)) ** 2
                errors[i] += (shares * missed.mean(1)).sum()
    best = how.strengths[int(errors.argmin())]
    (found,) = _ridges(x[:, everything], labels, actions, prior, (best,))
    return found, best


def _folds(clips: Sequence[Clip]) -> list[Split]:
    count = min(FOLDS, len({clip.source for clip in clips}))
    if count < 2:
        raise ConfigError(
            "all clips have one source, so `ridge` cannot choose among its strengths by holding "
            "sources out; give one strength, or clips of more sources"
        )
    return [split for seed in range(TIMES) for split in source_folds(clips, count, seed)]


def _ridges(
    x: Array, labels: Array, actions: int, prior: Array, strengths: Sequence[float]
) -> Iterator[LinearClassifier]:
    """Yield the fit for each strength; the views of a clip together weigh as one clip."""
    views, count, _ = x.shape
    shares = np.tile(_shares(labels, actions), views) / views
    total = shares.sum()
    x = x.reshape(views * count, -1).astype(np.float64)
    mean = shares @ x / total
    deviation = np.sqrt(shares @ (x - mean) ** 2 / total) + 1e-6
    targets = np.tile(_targets(labels, actions), (views, 1))
    bias = shares @ targets / total
    root = np.sqrt(shares)[:, None]
    scale = np.sqrt(prior)
    z = root * (x - mean) / deviation * scale
    y = root * (targets - bias)
    wide = z.shape[1] > len(z)  # the smaller of both Gram matrices
    values, vectors = np.linalg.eigh(z @ z.T if wide else z.T @ z)
    left = vectors.T @ (y if wide else z.T @ y)
    for strength in strengths:
        solved = vectors @ (left / (np.maximum(values, 0) + strength)[:, None])
        weight = (z.T @ solved if wide else solved).T * scale  # (K, D)
        yield LinearClassifier(mean, deviation, weight, bias)


def _targets(labels: Array, actions: int) -> Array:
    return 2.0 * np.eye(actions)[labels] - 1


def _shares(labels: Array, actions: int) -> Array:
    """Return the weight (N,) of each clip, N in total, the same total for each action."""
    counts = np.bincount(labels, minlength=actions)
    return np.asarray(len(labels) / (counts > 0).sum() / counts[labels])
