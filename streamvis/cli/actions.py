"""What `streamvis eval actions` does: clips told apart, by which streams, and how quickly."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import torch

from streamvis.cli.output import put, put_table
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
from streamvis.training.actions.clip_sampling import ClipSampling, FlowMethod, Method, sample_clip
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
TIMED = 24  # moments of a round

Networks = dict[str, Off]  # modality -> network


@dataclass(frozen=True)
class Outcome:
    """Scores by stream, of each set of networks, of all of them together; and speeds."""

    folds: list[dict[str, ClassificationScores]]
    all: dict[str, ClassificationScores]
    per_s: dict[str, float]  # stream -> sampled pictures a second
    actions: tuple[str, ...]
    trial: FoldLogits
    clips: Sequence[Clip]


def networks(names: Sequence[str], device: str, precision: Precision) -> Networks:
    """The networks of these weights, by what they look at."""
    _, dtype = choose(device, precision, "torch")
    found: Networks = {}
    for name in names:
        model = load_actions(name, device)
        modality = model.architecture.modality
        if modality in found:
            raise UsageError(f"--weights {name}: another network that looks at {modality} is given")
        found[modality] = optimised(model, "bf16" if dtype == torch.bfloat16 else "fp32")
    if "rgb" not in found:
        raise UsageError("--weights: expected a network of pictures among them")
    return found


def evaluate(
    data: Path, weights: Sequence[str], device: str, precision: Precision, method: Method
) -> Outcome:
    """Score weights on all clips."""
    clips = read_clips(data)
    check_there(data, clips)
    models = networks(weights, device, precision)
    corpus = _corpus(clips, models["rgb"], data)
    trial = _trial(models, corpus, range(len(clips)), method)
    scores = _scores(trial, corpus, models)
    (name,) = (n for n in weights if load_actions(n).architecture.modality == "rgb")
    per_s = speeds(name, _longest(clips), "flow" in models, device, precision, method)
    return Outcome([], scores, per_s, corpus.actions, trial, clips)


def evaluate_folds(
    data: Path, run: Path, device: str, precision: Precision, method: Method
) -> Outcome:
    """Score each fold's networks, which `train actions` left in `run`, on what it held out."""
    folders = sorted(run.glob("fold-*"))
    if not folders:
        raise DataError(f"{run} has no fold-1/, fold-2/, …, which `train actions` makes of folds")
    clips = read_clips(data)
    check_there(data, clips)
    trials, folds, models = [], [], {}
    files: list[Path] = []
    for folder in folders:
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise DataError(f"{folder} holds no weights: train its fold to the end first")
        models = networks([str(path) for path in files], device, precision)
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
    return Outcome(folds, _scores(whole, corpus, models), per_s, corpus.actions, whole, clips)


def _longest(clips: Sequence[Clip]) -> Clip:
    """One of some clips, with many pictures: it is what speed is measured on."""
    some = clips[:: max(len(clips) // 20, 1)]
    return max(some, key=lambda clip: clip.path.stat().st_size)


def _held_out(path: Path) -> list[str]:
    text = read_tensors(find(str(path)))[1].get("held_out", "")
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        raise DataError(f"{path} does not say which sources it held out") from None


def _corpus(clips: Sequence[Clip], model: Off, data: Path) -> Corpus:
    """The clips with labels in the network's order."""
    actions = model.architecture.actions
    for clip in clips:
        if clip.label not in actions:
            raise DataError(
                f"{data}: {clip.path.name} shows '{clip.label}', but the network knows only "
                f"{', '.join(actions)}"
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
    """Sampled pictures a second, one after another as a stage sees a stream, without decoding.

    A network of flow has the same trunk as that of pictures, and needs the flow between all
    pictures, not of sampled ones alone.
    """
    model = load_actions(weights, device)
    pixels = sample_clip(clip, sampling_for(model, method))
    pictures = [p[None] for p in itertools.islice(itertools.cycle(pixels), TIMED)]
    every_s, size = model.architecture.every_s, model.size
    steps = {"rgb": _look(accelerate_actions(plain(model), device, precision), pictures)}
    if model.guided is not None:
        steps["rgb+off"] = _follow(accelerate_actions(model, device, precision), pictures)
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


def _look(network: ActionNetwork, pictures: Sequence[Array]) -> Callable[[], None]:
    """The classifier of frames alone."""

    def step() -> None:
        for picture in pictures:
            network.project(picture)

    return step


def _follow(network: ActionNetwork, pictures: Sequence[Array]) -> Callable[[], None]:
    """Frames and the OFF part, as a stream has it."""

    def step() -> None:
        before = None
        for picture in pictures:
            now = network.project(picture)
            network.pair(before or now, now)
            before = now

    return step


def _flow_seconds(clip: Clip, size: tuple[int, int], every_s: float, method: Method) -> float:
    """Of optical flow, for each sampled picture."""
    fps = clip_fps(clip)
    pictures = sample_clip(clip, ClipSampling(size=size, every_s=1 / fps))
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    flow = FlowMethod(method)
    began = time.perf_counter()
    for before, now in itertools.pairwise(grey):
        flow(before, now)
    return (time.perf_counter() - began) / max(len(grey) - 1, 1) * every_s * fps


def clip_fps(clip: Clip) -> float:
    """Pictures a second of a clip's video."""
    with closing(open_source(resolve([str(clip.path)])[0])) as source:
        return source.info.fps or 25.0


def report(outcome: Outcome) -> dict[str, Any]:
    """As JSON has it."""
    found = {
        name: {**asdict(scores), "per_s": outcome.per_s.get(name)}
        for name, scores in outcome.all.items()
    }
    if outcome.folds:
        for name, scores in found.items():
            each = {key: [getattr(f[name], key) for f in outcome.folds] for key in MEASURED}
            scores["folds"] = {
                key: dict(zip(("mean", "spread"), known, strict=True)) | {"each": values}
                for key, values in each.items()
                if (known := spread(values))
            }
    return found


def put_outcome(outcome: Outcome) -> None:
    """As people read it."""
    rows = []
    for name, scores in outcome.all.items():
        speed = outcome.per_s.get(name)
        rows.append(
            [name, *(_shown(outcome, name, key, scores) for key in MEASURED[:4]),
             f"{speed:.1f}" if speed else "–"]
        )  # fmt: skip
    title = f"{outcome.all['rgb'].clips} clips" + (
        f", mean ± spread over {len(outcome.folds)} folds" if outcome.folds else ""
    )
    put_table(title, ("streams", "top-1", "mean class", "AUC", "AP", "pictures/s"), rows)
    ratios = {name: outcome.per_s["rgb"] / s for name, s in outcome.per_s.items() if name != "rgb"}
    put("time beside rgb alone: " + ", ".join(f"{n} {r:.2f}×" for n, r in ratios.items()))


def _shown(outcome: Outcome, name: str, key: str, scores: ClassificationScores) -> str:
    if outcome.folds and (known := spread([getattr(f[name], key) for f in outcome.folds])):
        return f"{known[0]:.3f} ± {known[1]:.3f}"
    value = getattr(scores, key)
    return "–" if value is None else f"{value:.3f}"


def put_trials(found: Mapping[str, Sequence[Mapping[str, ClassificationScores]]]) -> None:
    """What `train actions` measured, for people."""
    folds = found["folds"]
    for name in folds[0] if folds else ():
        each = {key: spread([getattr(fold[name], key) for fold in folds]) for key in MEASURED[:4]}
        told = [f"{key} {known[0]:.3f} ± {known[1]:.3f}" for key, known in each.items() if known]
        put(f"{name}: {', '.join(told)}")


def plot(path: Path, outcome: Outcome) -> None:
    """Draw who is taken for whom, by the best streams there are."""
    from streamvis.viz.plots import confusion

    name = "rgb+off" if "rgb+off" in outcome.all else "rgb"
    confusion(path, outcome.all[name].confusion, outcome.actions, title=name)
