"""Cross-validation over sources, calibration by the held-out clips, and the final training."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from streamvis.datasets.clips import (
    Clip,
    Split,
    check_there,
    published_split,
    read_clips,
    source_folds,
)
from streamvis.errors import DataError, UsageError
from streamvis.evaluation.classification import ClassificationScores, evaluate
from streamvis.evaluation.ranking import platt_scaling
from streamvis.files import drafted
from streamvis.messages import Array
from streamvis.models.layers import fuse
from streamvis.models.off import Calibration, Modality, Off, consensus, rounded
from streamvis.models.weights import save
from streamvis.training.actions.clip_sampling import ClipSampling, Method, sample_clip
from streamvis.training.actions.recipe import (
    ActionRecipe,
    Corpus,
    classifier_inputs,
    corpus_of,
    train,
)
from streamvis.training.actions.ridge import score
from streamvis.training.progress import progress
from streamvis.training.provenance import begin
from streamvis.training.results import run_of, write_curves

MODALITIES: dict[str, Modality] = {"rgb": "rgb", "off": "rgb", "flow": "flow", "diff": "diff"}
Streams = dict[str, Array]  # name -> (clips, K) logits


def sampling_for(model: Off, method: Method = "dis") -> ClipSampling:
    """Return the sampling of a network at inference: whole pictures at its size and interval."""
    a = model.architecture
    return ClipSampling(size=a.size, every_s=a.every_s, modality=a.modality, method=method)


@torch.inference_mode()
def score_clips(model: Off, clips: Sequence[Clip], method: Method = "dis") -> Streams:
    """Return the mean logits of each stream for each clip."""
    rows: dict[str, list[Array]] = {}
    first = next(model.parameters())
    for clip in progress(clips, f"scoring ({model.architecture.modality})"):
        pixels = torch.from_numpy(sample_clip(clip, sampling_for(model, method))).to(first.device)
        if len(pixels) == 1:  # a single picture has no motion
            pixels = pixels.repeat(2, 1, 1, 1)
        x = model.normalise(pixels).to(first.dtype).contiguous(memory_format=torch.channels_last)
        for name, logits in consensus(model.scores(model.tap_maps(x), 1, len(x))).items():
            rows.setdefault(name, []).append(logits[0].float().cpu().numpy())
    return {name: np.stack(logits) for name, logits in rows.items()}


def optimised(model: Off, precision: str) -> Off:
    """Fold the norms of a model in place, and round its weights where the precision is bf16."""
    fuse(model).eval()
    if precision == "bf16":
        rounded(model, torch.bfloat16)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fused(streams: Mapping[str, Streams], calibration: Calibration) -> Streams:
    """Return the logits of single streams and of their combinations, such as rgb and rgb+off.

    streams: by modality, then by name; `frame` is the classifier of frames. Two modalities are
    averaged with equal weights.
    """
    out: Streams = {}
    for modality, own in streams.items():
        out[modality] = own["frame"]
    rgb = streams.get("rgb", {})
    levels = {name: w for name, w in calibration.weights.items() if name != "frame"}
    if any(name in rgb for name in levels):
        out["off"] = _weighted(rgb, levels)
        out["rgb+off"] = _weighted(rgb, calibration.weights)
    for other in ("flow", "diff"):
        if other in out and "rgb" in out:
            out[f"rgb+{other}"] = (out["rgb"] + out[other]) / 2
    return out


def _weighted(streams: Streams, weights: Mapping[str, float]) -> Array:
    used = {name: w for name, w in weights.items() if name in streams}
    total = np.sum([w * streams[name] for name, w in used.items()], axis=0)
    return np.asarray(total / sum(used.values()))


def spread(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Return mean and standard deviation of a score over folds."""
    known = [v for v in values if v is not None]
    return (float(np.mean(known)), float(np.std(known))) if known else None


@dataclass(frozen=True)
class FoldLogits:
    """The logits of the held-out clips of one fold, or of all folds together."""

    rows: Array  # indexes of the clips
    streams: dict[str, Streams]  # modality -> stream -> logits


def scores_of(
    trial: FoldLogits, corpus: Corpus, calibration: Calibration
) -> dict[str, ClassificationScores]:
    truth = corpus.labels[trial.rows]
    logits = fused(trial.streams, calibration)
    return {name: evaluate(x, truth, corpus.actions) for name, x in logits.items()}


def together(trials: Sequence[FoldLogits]) -> FoldLogits:
    """Join all folds, in which each clip was scored by networks not trained on its source."""
    streams = {
        modality: {
            name: np.concatenate([t.streams[modality][name] for t in trials]) for name in own
        }
        for modality, own in trials[0].streams.items()
    }
    return FoldLogits(np.concatenate([t.rows for t in trials]), streams)


def calibrated(trial: FoldLogits, corpus: Corpus, base: Calibration) -> Calibration:
    """Return the calibration that fits the probabilities of held-out clips."""
    logits = fused(trial.streams, base)
    scores = logits.get("rgb+off", logits["rgb"])
    truth = corpus.labels[trial.rows]
    if len(corpus.actions) == 2:
        scale, shift = platt_scaling(scores[:, 0] - scores[:, 1], truth == 0)
        return Calibration(base.weights, scale, (shift / 2, -shift / 2))
    return Calibration(base.weights, _temperature(scores, truth))


def _temperature(scores: Array, truth: Array) -> float:
    """Return the scale with the largest likelihood of the true actions."""

    def loss(scale: float) -> float:
        z = scale * scores
        top = z.max(1, keepdims=True)
        log_sum = np.log(np.exp(z - top).sum(1)) + top[:, 0]
        return float((log_sum - z[np.arange(len(truth)), truth]).mean())

    return float(min(np.geomspace(0.05, 50, 200), key=loss))


def folds_of(
    recipe: ActionRecipe, data: Path, clips: Sequence[Clip], split: int | None
) -> list[Split]:
    """Return the splits to score: a published one, or folds over sources."""
    if split is not None:
        return [published_split(data, clips, split)]
    return source_folds(clips, recipe.folds, recipe.seed) if recipe.folds else []


def run(
    recipe: ActionRecipe,
    data: Path,
    out: Path,
    *,
    also: Sequence[Path] = (),
    streams: Sequence[str] = ("rgb", "off"),
    fold: int | None = None,
    split: int | None = None,
    final: bool = True,
    overwrite: bool = False,
) -> dict[str, list[dict[str, ClassificationScores]]]:
    """Train and score the folds, then train the final network on all clips; return the scores.

    also: further clips to train on, such as those of single people. The folds are of the sources of
    `data`, whose clips alone are in the scores; a fold holds out all clips of its sources. fold:
    the only fold to train, from 1. All files are written into `out`.
    """
    read = [read_clips(one) for one in (data, *also)]
    for one, found in zip((data, *also), read, strict=True):
        check_there(one, found)
    clips, count = [clip for found in read for clip in found], len(read[0])
    corpus = corpus_of(clips, out / "clips")
    splits = [
        _with_their_sources(split_, clips)
        for split_ in folds_of(recipe, data, clips[:count], split)
    ]
    if fold is not None and not 1 <= fold <= len(splits):
        raise UsageError(f"--fold {fold}: expected 1 to {len(splits)}, the recipe's folds")
    modalities(streams)
    begin(
        out,
        "actions",
        recipe,
        data={"--data": [data, *also, *outside((data, *also), clips)]},
        weights={"start": [recipe.start]},
        options={} if split is None else {"--split": split},
        overwrite=overwrite,
    )
    wanted = [fold] if fold is not None else list(range(1, len(splits) + 1))
    trials = [_fold(recipe, corpus, splits[k - 1], out / f"fold-{k}", streams) for k in wanted]
    base = recipe.calibration()
    if final and fold is None and split is None:
        calibration = base  # only the network of rgb has one
        if trials and "rgb" in trials[0].streams:
            calibration = calibrated(together(trials), corpus, base)
        _final(recipe, corpus, [data, *also], out, streams, calibration)
    trials = [_first(trial, count) for trial in trials]
    return {"folds": [scores_of(trial, corpus, base) for trial in trials]} | (
        {"together": [scores_of(together(trials), corpus, base)]} if trials else {}
    )


def _with_their_sources(split: Split, clips: Sequence[Clip]) -> Split:
    """Extend a split of the first clips: all others of its held-out sources are held out too."""
    train, held = split
    sources, known = {clips[i].source for i in held}, {*train, *held}
    others = [i for i in range(len(clips)) if i not in known]
    apart = [i for i in others if clips[i].source in sources]
    return train + [i for i in others if clips[i].source not in sources], held + apart


def _first(trial: FoldLogits, count: int) -> FoldLogits:
    """Return the logits of the first `count` clips alone."""
    keep = trial.rows < count
    streams = {m: {name: x[keep] for name, x in own.items()} for m, own in trial.streams.items()}
    return FoldLogits(trial.rows[keep], streams)


def outside(data: Sequence[Path], clips: Sequence[Clip]) -> list[Path]:
    """Return the files of clips, and of their tracks, that are not below one of `data`."""
    roots = [one.resolve() for one in data]
    files = {path for c in clips for path in (c.path, c.tracks) if path is not None}
    return sorted(
        path for path in files if not any(path.resolve().is_relative_to(root) for root in roots)
    )


def modalities(streams: Sequence[str]) -> list[Modality]:
    """Return the modality of each network that the streams need."""
    for name in streams:
        if name not in MODALITIES:
            raise UsageError(f"--streams {name}: expected one or more of {', '.join(MODALITIES)}")
    return list(dict.fromkeys(MODALITIES[name] for name in streams))


def _fold(
    recipe: ActionRecipe, corpus: Corpus, split: Split, out: Path, streams: Sequence[str]
) -> FoldLogits:
    """Train on one side of a split and score the other."""
    rows, held = split
    sources = sorted({corpus.clips[i].source for i in held})
    found: dict[str, Streams] = {}
    for modality in modalities(streams):
        kept = out / f"{modality}.npz"
        if not kept.exists():
            model = train(recipe, corpus, rows, out / modality, modality)
            about = {"held_out": msgspec.json.encode(sources).decode()}
            save(model, out / f"{model.architecture.name}.safetensors", about)
            scored = (
                score(model.cpu(), classifier_inputs(recipe, model, corpus), held)
                if recipe.ridge
                else score_clips(
                    optimised(model, recipe.precision),
                    [corpus.clips[i] for i in held],
                    recipe.method,
                )
            )
            with drafted(kept) as draft, draft.open("wb") as opened:
                np.savez(opened, rows=np.array(held), **scored)  # type: ignore[arg-type]
        with closing(np.load(kept)) as file:
            if file["rows"].tolist() != held:
                raise DataError(f"{kept} belongs to another split; choose another --out")
            found[modality] = {name: file[name] for name in file.files if name != "rows"}
    return FoldLogits(np.array(held), found)


def _final(
    recipe: ActionRecipe,
    corpus: Corpus,
    data: Sequence[Path],
    out: Path,
    streams: Sequence[str],
    calibration: Calibration,
) -> None:
    """Train on all clips, and write curves and weights."""
    rows = range(len(corpus.clips))
    for modality in modalities(streams):
        model = train(recipe, corpus, rows, out / "all" / modality, modality)
        if modality == "rgb":
            model.calibration = calibration
        logs = sorted((out / "all" / modality).glob("*/log.jsonl"))
        for log in logs:
            write_curves(log, out / f"curves-{modality}-{log.parent.name}.png")
        about = {
            "data": ", ".join(one.resolve().name for one in data),
            "clips": str(len(corpus.clips)),
            "start": recipe.start,
            **run_of(logs),
        }
        save(model, out / f"{model.architecture.name}.safetensors", about)


def report(found: Mapping[str, list[dict[str, ClassificationScores]]]) -> dict[str, object]:
    """Return the scores as values for JSON."""
    return {
        name: [{stream: asdict(s) for stream, s in fold.items()} for fold in folds]
        for name, folds in found.items()
    }
