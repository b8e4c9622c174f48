"""Recipe and training of action networks: `streamvis train actions`.

With `ridge`, the trunk is frozen and all classifiers are fitted in closed form. Without, there are
two stages: first the frame classifier, with as much of the trunk as the recipe says; then the OFF
part on the frozen trunk. Networks of flow or of frame differences, the baselines, have the first
stage only.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.datasets.clips import Clip
from streamvis.errors import ConfigError, ModelError
from streamvis.messages import Array
from streamvis.models.checkpoint_io import read as read_tensors
from streamvis.models.efficientnet import EfficientNetLite0
from streamvis.models.layers import fuse
from streamvis.models.off import (
    CHANNELS,
    Body,
    Calibration,
    Gradients,
    Modality,
    Off,
    OffConfig,
    OffSubnetwork,
    consensus,
    widen,
)
from streamvis.models.weights import find
from streamvis.parsing import convert
from streamvis.training.actions.clip_augment import (
    ClipAugment,
    ClipBatch,
    TrunkMaps,
    map_batches,
    pixel_batches,
    trunk_maps,
)
from streamvis.training.actions.clip_sampling import (
    LARGER,
    ClipFrames,
    ClipSampling,
    Method,
    gather,
)
from streamvis.training.actions.ridge import (
    ClassifierInputs,
    Ridge,
    learn,
    load_inputs,
    write_inputs,
)
from streamvis.training.loop import Groups, Schedule, fit
from streamvis.training.pretrained import imagenet
from streamvis.training.recipes import Amount, Positive, Seed, read_recipe

SPARSE = 7  # every 7th frame is used to estimate the deviation of maps
FIRST = {  # kernels of the first layer, by trunk
    "bn_inception": "conv1_7x7_s2.weight",
    "efficientnet_lite0": "stem.weight",
    "resnet18": "conv1.weight",
    "resnet50": "conv1.weight",
}

Stream = Literal["frame", "fine", "middle", "coarse"]


class NetworkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The architecture of a network, without the actions, which the data decides."""

    body: Body = "efficientnet_lite0"
    gradients: Gradients = "diag"
    spatial: int = 32
    temporal: int = 128
    widths: tuple[int, int, int] = (64, 128, 256)
    classifier: Literal["paper", "motion"] = "paper"
    size: tuple[int, int] = (224, 224)
    every_s: float = 0.1
    window: int = 24


class TrainingStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage of training."""

    schedule: Schedule
    clips: Annotated[int, Meta(ge=1)] = 16  # of a batch
    moments: Annotated[int, Meta(ge=2)] = 7  # frames of a clip
    body: Amount = 0.0  # peak learning rate of the trunk; 0: frozen
    heads: Positive = 1e-3
    frozen_blocks: Annotated[int, Meta(ge=0)] = 0  # first blocks that are never trained


class ActionRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recipe for action networks, such as `configs/training/fight-off.yaml`."""

    name: str
    network: NetworkSettings
    ridge: Ridge | None = None  # for the classifier `motion`; else the stages below
    frames: TrainingStage | None = None
    guided: TrainingStage | None = None
    flow: TrainingStage | None = None  # of the networks of flow or frame differences
    start: str = "imagenet"  # or weights whose trunk it is: a shipped name, or a path
    folds: Annotated[int, Meta(ge=0)] = 0  # of the cross-validation over sources
    views: Annotated[int, Meta(ge=1)] = 4  # of a clip, whose maps are cached for a frozen trunk
    method: Method = "dis"  # of optical flow
    augment: ClipAugment = ClipAugment()
    smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.1  # of labels
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.8  # before classifiers
    fit_to_taps: bool = False  # the OFF part starts scaled to the trunk's maps
    fusion: dict[Stream, Amount] = {}  # weights of streams; empty: the paper's
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: Seed = 0

    def calibration(self) -> Calibration:
        """Return the fusion of streams before it is fitted."""
        weights = {str(name): weight for name, weight in self.fusion.items()}
        return Calibration(weights=weights) if weights else Calibration()


class Corpus(msgspec.Struct):
    """Labelled clips, and the folder for caches made of them."""

    clips: Sequence[Clip]
    actions: tuple[str, ...]
    labels: Array  # (clips,)
    folder: Path


def load_recipe(path: Path) -> ActionRecipe:
    """Read a recipe; ConfigError."""
    recipe = read_recipe(path, ActionRecipe)
    if (recipe.network.classifier == "motion") != (recipe.ridge is not None):
        raise ConfigError(
            f"{path}: network.classifier is {recipe.network.classifier} and `ridge` is "
            f"{'absent' if recipe.ridge is None else 'given'}; expected `ridge` with "
            "`classifier: motion` and only then"
        )
    if recipe.ridge is None and (recipe.frames is None or recipe.guided is None):
        raise ConfigError(f"{path}: expected either `ridge`, or both `frames` and `guided`")
    return recipe


def corpus_of(clips: Sequence[Clip], folder: Path) -> Corpus:
    actions = tuple(sorted({clip.label for clip in clips}))
    labels = np.array([actions.index(clip.label) for clip in clips])
    return Corpus(clips, actions, labels, folder)


def architecture_of(recipe: ActionRecipe, actions: Sequence[str], modality: Modality) -> OffConfig:
    """Return the architecture for one modality; only rgb has an OFF part."""
    fields = msgspec.structs.asdict(recipe.network)
    name = recipe.name if modality == "rgb" else f"{recipe.name}-{modality}"
    given: dict[str, Any] = {"name": name, "actions": tuple(actions), "modality": modality}
    given["guided"] = modality == "rgb"
    return convert({**fields, **given}, OffConfig, "network", ConfigError)


def build(recipe: ActionRecipe, actions: Sequence[str], modality: Modality = "rgb") -> Off:
    """Return the network before training, on its pretrained trunk."""
    torch.manual_seed(recipe.seed)
    model = Off(architecture_of(recipe, actions, modality))
    model.calibration = recipe.calibration()
    model.drop.p = recipe.dropout
    if isinstance(model.guided, OffSubnetwork):
        model.guided.drop.p = recipe.dropout
    state = _trunk(recipe, model.body)
    if modality != "rgb":
        first = FIRST[recipe.network.body]
        state[first] = widen(state[first], CHANNELS[modality])
    lacking, unexpected = model.body.load_state_dict(state, strict=False)
    lacking = [name for name in lacking if not name.startswith("head")]
    if lacking or unexpected:
        fault = [*lacking, *unexpected][0]
        raise ModelError(f"start: {recipe.start} does not fit {recipe.network.body}: {fault}")
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _trunk(recipe: ActionRecipe, body: nn.Module) -> dict[str, Tensor]:
    """Return the trunk's tensors: ImageNet's, replaced by those of weights where they are given."""
    state: dict[str, Tensor] = {}
    if isinstance(body, EfficientNetLite0):
        state = imagenet(head=True)
    if recipe.start == "imagenet":
        if not state:
            raise ConfigError(
                f"start: imagenet needs efficientnet_lite0, found {recipe.network.body}; "
                "expected a path to weights"
            )
        return state
    found = read_tensors(find(recipe.start))[0]
    for prefix in ("backbone.body.", "body.", "module.base_model.", "base_model."):
        inside = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        found = inside or found
    known = body.state_dict().keys()
    return state | {name: value.float() for name, value in found.items() if name in known}


def sampling_of(recipe: ActionRecipe, modality: Modality) -> ClipSampling:
    """Return the sampling for training: a little larger than the network's input, for crops."""
    height, width = (round(side * LARGER / 2) * 2 for side in recipe.network.size)
    return ClipSampling(
        size=(height, width),
        every_s=recipe.network.every_s,
        modality=modality,
        method=recipe.method,
    )


def train(
    recipe: ActionRecipe,
    corpus: Corpus,
    rows: Sequence[int],
    out: Path,
    modality: Modality = "rgb",
) -> Off:
    """Train on some of the clips, resuming from `out`; return the network in inference mode."""
    cv2.setNumThreads(1)  # the loader shares the machine with the network
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(recipe, corpus.actions, modality).to(device)
    clips = np.array(sorted(rows))
    if recipe.ridge is not None:
        learn(
            model,
            classifier_inputs(recipe, model, corpus),
            corpus.clips,
            corpus.labels,
            clips,
            recipe.ridge,
        )
        return model.eval()
    assert recipe.frames is not None
    assert recipe.guided is not None
    pictures = gather(corpus.clips, sampling_of(recipe, modality), corpus.folder)
    first = recipe.frames if modality == "rgb" else (recipe.flow or recipe.frames)
    shared = corpus.folder if first.body == 0 else out  # maps of a frozen trunk are shared by folds
    stages: list[tuple[TrainingStage, str, list[nn.Module]]] = [(first, "frames", [model.head])]
    if model.guided is not None:
        stages.append((recipe.guided, "guided", [model.guided]))
    for stage, name, heads in stages:
        maps = None
        if name == "guided" or stage.body == 0:
            maps = _maps(recipe, model, pictures, shared / f"maps-{modality}")
        if maps is not None and name == "frames":  # the frame classifier reads the last map only
            maps = maps._replace(levels=maps.levels[-1:])
        if maps is not None and recipe.fit_to_taps and name == "guided":
            assert isinstance(model.guided, OffSubnetwork)
            model.guided.fit_to(
                [float(m[0, ::SPARSE].std(dtype=np.float32)) for m in maps.levels[:-1]]
            )
        _stage(recipe, stage, model, heads, _Data(pictures, maps, clips, corpus.labels), out / name)
    return model.eval()


def classifier_inputs(recipe: ActionRecipe, model: Off, corpus: Corpus) -> ClassifierInputs:
    """Return the classifiers' inputs of all clips; the trunk is frozen, so all folds share them."""
    modality = model.architecture.modality
    path = corpus.folder / f"readings-{modality}.npz"
    if not path.exists():
        pictures = gather(corpus.clips, sampling_of(recipe, modality), corpus.folder)
        write_inputs(
            model, _maps(recipe, model, pictures, corpus.folder / f"maps-{modality}"), path
        )
    return load_inputs(path)


class _Data(msgspec.Struct):
    pictures: ClipFrames
    maps: TrunkMaps | None  # if the trunk is frozen
    clips: Array
    labels: Array


def _maps(recipe: ActionRecipe, model: Off, pictures: ClipFrames, folder: Path) -> TrunkMaps:
    """Compute the trunk's maps of a few views, with norms folded and rounded as at inference."""
    alone = plain(model)
    fuse(alone).to(next(model.parameters()).device)
    if recipe.precision == "bf16":
        alone.to(torch.bfloat16)
    alone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trunk_maps(
        alone,
        pictures,
        recipe.augment,
        recipe.views,
        folder,
        taps=model.guided is not None,
        seed=recipe.seed,
    )


def plain(model: Off) -> Off:
    """Return the network without its OFF part."""
    alone = Off(msgspec.structs.replace(model.architecture, guided=False))
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("guided.")}
    alone.load_state_dict(state)
    return alone.eval()


def _stage(
    recipe: ActionRecipe,
    stage: TrainingStage,
    model: Off,
    heads: list[nn.Module],
    data: _Data,
    out: Path,
) -> None:
    """Run one stage of training and load the averaged weights."""
    shape = (stage.clips, stage.moments)
    a = model.architecture

    def data_from(step: int) -> Iterator[ClipBatch]:
        if data.maps is not None:
            return map_batches(
                data.maps, data.clips, data.labels, shape, recipe.augment, recipe.seed, step
            )
        return pixel_batches(
            data.pictures, data.clips, data.labels, shape, a.size, a.modality, recipe.augment,
            recipe.seed, step,
        )  # fmt: skip

    model.train().requires_grad_(False)
    groups: Groups = [([p for m in heads for p in m.requires_grad_().parameters()], stage.heads)]
    if data.maps is None:
        groups.append((_trained(model.body, stage.frozen_blocks), stage.body))
    weights = _class_weights(data.labels[data.clips], len(a.actions))
    frames_only = model.head in heads

    def losses(batch: ClipBatch) -> dict[str, Tensor]:
        return _losses(model, batch, shape, weights, recipe, frames_only)

    model.load_state_dict(fit(model, groups, data_from, losses, stage.schedule, out))


def _trained(body: nn.Module, frozen_blocks: int) -> list[nn.Parameter]:
    """Return the trained parameters of the trunk: all but those of the stem and first blocks."""
    body.requires_grad_()
    if frozen_blocks:
        parts: list[nn.Module] = list(body.children())
        if isinstance(body, EfficientNetLite0):
            parts = [body.stem, *body.blocks, *([body.head] if body.head is not None else [])]
        for part in parts[: frozen_blocks + 1]:
            part.requires_grad_(False)
    return [p for p in body.parameters() if p.requires_grad]


def _class_weights(labels: Array, actions: int) -> Tensor:
    """Return weights of actions that give each action the same total weight."""
    counts = np.bincount(labels, minlength=actions)
    weights = np.where(
        counts > 0, len(labels) / np.maximum(counts, 1) / max(int((counts > 0).sum()), 1), 0
    )
    return torch.from_numpy(weights).float()


def _losses(
    model: Off,
    batch: ClipBatch,
    shape: tuple[int, int],
    weights: Tensor,
    recipe: ActionRecipe,
    frames_only: bool,
) -> dict[str, Tensor]:
    """Return the cross-entropy of the mean logits of each trained stream."""
    device = next(model.parameters()).device
    # bf16 is slower than fp32 on CPUs for convolutions as thin as OFF's, backward above all
    rounded = recipe.precision == "bf16" and (batch.pixels is not None or device.type != "cpu")
    with torch.autocast(device.type, torch.bfloat16, enabled=rounded):
        if batch.pixels is None:
            maps = [m.to(device).float() for m in batch.maps]
        else:
            x = model.normalise(batch.pixels.to(device)).flatten(0, 1)
            maps = model.tap_maps(x.contiguous(memory_format=torch.channels_last))
        if frames_only:
            streams = {"frame": model.head(model.drop(maps[-1])).unflatten(0, shape)}
        else:
            streams = model.scores(maps, *shape)
            del streams["frame"]
    labels, weights = batch.labels.to(device), weights.to(device)
    return {
        name: F.cross_entropy(x.float(), labels, weights, label_smoothing=recipe.smoothing)
        for name, x in consensus(streams).items()
    }
