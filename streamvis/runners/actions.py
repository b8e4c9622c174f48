"""Action scores: clips classified by RGB, OFF and optical flow, and the speed of each."""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import torch

from streamvis.datasets.clips import Clip, check_there, read_clips
from streamvis.errors import DataError, UsageError
from streamvis.evaluation.classification import ClassificationScores
from streamvis.messages import Array
from streamvis.models.checkpoint_io import read as read_tensors
from streamvis.models.inference.actions import ActionNetwork, accelerate_actions
from streamvis.models.inference.select import Precision, choose
from streamvis.models.off import Off
from streamvis.models.weights import find, load_actions
from streamvis.sources import open_source, resolve
from streamvis.training.actions.clip_sampling import ClipSampling, Method, OpticalFlow, sample_clip
from streamvis.training.actions.cross_validation import (
    FoldLogits,
    optimised,
    sampling_for,
    score_clips,
    scores_of,
    spread,
    together,
)
from streamvis.training.actions.recipe import Corpus, corpus_of, plain

MEASURED = ("top1", "mean_class", "auc", "ap", "ece")
ROUNDS = 5  # of timing, of which the median counts
TIMED = 24  # sampled frames of a round

Networks = dict[str, Off]  # modality -> network


@dataclass(frozen=True)
class ActionResult:
    """Scores by stream: of each fold, and of all folds together; and speeds."""

    folds: list[dict[str, ClassificationScores]]
    all: dict[str, ClassificationScores]
    per_s: dict[str, float]  # stream -> sampled frames per second
    actions: tuple[str, ...]
    trial: FoldLogits
    clips: Sequence[Clip]

    @property
    def best(self) -> str:
        """The best of the streams that there are, which is drawn."""
        return "rgb+off" if "rgb+off" in self.all else "rgb"

    def report(self) -> dict[str, Any]:
        """Return the report that `--json` prints, by stream."""
        found = {
            name: {**asdict(scores), "per_s": self.per_s.get(name)}
            for name, scores in self.all.items()
        }
        if self.folds:
            for name, scores in found.items():
                each = {key: [getattr(f[name], key) for f in self.folds] for key in MEASURED}
                scores["folds"] = {
                    key: dict(zip(("mean", "spread"), known, strict=True)) | {"each": values}
                    for key, values in each.items()
                    if (known := spread(values))
                }
        return found


def load_networks(names: Sequence[str], device: str, precision: Precision) -> Networks:
    """Load networks, by their modality (rgb, flow, …)."""
    _, dtype = choose(device, precision, "torch")
    found: Networks = {}
    for name in names:
        model = load_actions(name, device)
        modality = model.architecture.modality
        if modality in found:
            raise UsageError(
                f"--weights {name}: another network of modality {modality} is given; give one of "
                "each"
            )
        found[modality] = optimised(model, "bf16" if dtype == torch.bfloat16 else "fp32")
    if "rgb" not in found:
        raise UsageError(
            f"--weights: found networks of {', '.join(found)}; expected one of modality rgb too"
        )
    return found


def evaluate(
    data: Path, weights: Sequence[str], device: str, precision: Precision, method: Method
) -> ActionResult:
    """Score networks on all clips. method: of optical flow."""
    clips = read_clips(data)
    check_there(data, clips)
    models = load_networks(weights, device, precision)
    corpus = _corpus(clips, models["rgb"], data)
    trial = _trial(models, corpus, range(len(clips)), method)
    scores = _scores(trial, corpus, models)
    (name,) = (n for n in weights if load_actions(n).architecture.modality == "rgb")
    per_s = speeds(name, _longest(clips), "flow" in models, device, precision, method)
    return ActionResult([], scores, per_s, corpus.actions, trial, clips)


def evaluate_folds(
    data: Path, run: Path, device: str, precision: Precision, method: Method
) -> ActionResult:
    """Score the networks of each fold in `run`, of `train actions`, on what it held out."""
    folders = sorted(run.glob("fold-*"))
    if not folders:
        raise DataError(
            f"{run} has no fold-1/, fold-2/, …; expected a directory that `train actions` wrote"
        )
    clips = read_clips(data)
    check_there(data, clips)
    trials, folds, models = [], [], {}
    files: list[Path] = []
    for folder in folders:
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise DataError(f"{folder} holds no weights: train its fold to the end first")
        models = load_networks([str(path) for path in files], device, precision)
        corpus = _corpus(clips, models["rgb"], data)
        held = _held_out(files[0])
        rows = [i for i, clip in enumerate(clips) if clip.source in held]
        if not rows:
            raise DataError(
                f"{data} has none of the {len(held)} sources that {folder} held out, such as "
                f"{held[0] if held else 'none'}: it is not the data that {run} was trained on, and "
                "there is nothing to score on"
            )
        trials.append(_trial(models, corpus, rows, method))
        folds.append(_scores(trials[-1], corpus, models))
    whole = together(trials)
    name = next(str(f) for f in files if load_actions(str(f)).architecture.modality == "rgb")
    per_s = speeds(name, _longest(clips), "flow" in models, device, precision, method)
    return ActionResult(folds, _scores(whole, corpus, models), per_s, corpus.actions, whole, clips)


def _longest(clips: Sequence[Clip]) -> Clip:
    """Return a long clip, on which speed is measured."""
    some = clips[:: max(len(clips) // 20, 1)]
    return max(some, key=lambda clip: clip.path.stat().st_size)


def _held_out(path: Path) -> list[str]:
    text = read_tensors(find(str(path)))[1].get("held_out", "")
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, RecursionError):
        raise DataError(
            f"{path} does not state which sources it held out; expected weights of "
            "a fold of `train actions`"
        ) from None


def _corpus(clips: Sequence[Clip], model: Off, data: Path) -> Corpus:
    """Return the clips with labels in the network's order."""
    actions = model.architecture.actions
    for clip in clips:
        if clip.label not in actions:
            raise DataError(
                f"{data}: {clip.path.name} is labelled '{clip.label}'; expected an action of "
                f"the network: {', '.join(actions)}"
            )
    labels = np.array([actions.index(clip.label) for clip in clips])
    return msgspec.structs.replace(corpus_of(clips, data), actions=actions, labels=labels)


def _trial(models: Networks, corpus: Corpus, rows: Sequence[int], method: Method) -> FoldLogits:
    clips = [corpus.clips[i] for i in rows]
    streams = {m: score_clips(model, clips, method) for m, model in models.items()}
    return FoldLogits(np.array(rows), streams)


def _scores(trial: FoldLogits, corpus: Corpus, models: Networks) -> dict[str, ClassificationScores]:
    return scores_of(trial, corpus, models["rgb"].calibration)


def speeds(
    weights: str, clip: Clip, flows: bool, device: str, precision: Precision, method: Method
) -> dict[str, float]:
    """Measure sampled frames per second, one after another as in a stream, without decoding.

    A network of flow has the same trunk as that of RGB, and needs the flow between all frames, not
    between the sampled ones alone.
    """
    model = load_actions(weights, device)
    pixels = sample_clip(clip, sampling_for(model, method))
    pictures = [p[None] for p in itertools.islice(itertools.cycle(pixels), TIMED)]
    every_s, size = model.architecture.every_s, model.size
    steps = {"rgb": _frames(accelerate_actions(plain(model), device, precision), pictures)}
    if model.guided is not None:
        steps["rgb+off"] = _frames_and_off(accelerate_actions(model, device, precision), pictures)
    took: dict[str, list[float]] = {name: [] for name in steps}
    for number, (name, step) in itertools.product(range(ROUNDS + 1), steps.items()):
        began = time.perf_counter()
        step()
        if number:  # the first time is slower
            took[name].append(time.perf_counter() - began)
    seconds = {name: float(np.median(row)) / TIMED for name, row in took.items()}
    if flows:
        seconds["flow"] = seconds["rgb"] + _flow_seconds(clip, size, every_s, method)
        seconds["rgb+flow"] = seconds["rgb"] + seconds["flow"]
    return {name: 1 / s for name, s in seconds.items()}


def _frames(network: ActionNetwork, pictures: Sequence[Array]) -> Callable[[], None]:
    """Return a round of the classifier of frames alone."""

    def step() -> None:
        for picture in pictures:
            network.project(picture)

    return step


def _frames_and_off(network: ActionNetwork, pictures: Sequence[Array]) -> Callable[[], None]:
    """Return a round of the classifier and the OFF branch, as the stage runs them."""

    def step() -> None:
        before = None
        for picture in pictures:
            now = network.project(picture)
            network.pair(before or now, now)
            before = now

    return step


def _flow_seconds(clip: Clip, size: tuple[int, int], every_s: float, method: Method) -> float:
    """Measure the time of optical flow for each sampled frame."""
    fps = clip_fps(clip)
    pictures = sample_clip(clip, ClipSampling(size=size, every_s=1 / fps))
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    flow = OpticalFlow(method)
    began = time.perf_counter()
    for before, now in itertools.pairwise(grey):
        flow(before, now)
    return (time.perf_counter() - began) / max(len(grey) - 1, 1) * every_s * fps


def clip_fps(clip: Clip) -> float:
    """Return the frame rate of a clip's video."""
    with closing(open_source(resolve([str(clip.path)])[0])) as source:
        return source.info.fps or 25.0
