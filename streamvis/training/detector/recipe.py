"""Recipe and training of person detectors: `streamvis train detector`."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from streamvis.errors import ConfigError, DataError
from streamvis.models.checkpoint_io import read
from streamvis.models.efficientnet import EfficientNetLite0
from streamvis.models.hrnet import HrnetBody
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn
from streamvis.models.weights import find, load_into
from streamvis.training.detector.crowd_dataset import (
    AnnotatedImage,
    CanvasAugment,
    batches,
    read_people,
)
from streamvis.training.hold_out import nothing_left, present, wanted
from streamvis.training.loop import Groups, Schedule, fit
from streamvis.training.losses.detection import SampleCounts, Targets, detector_losses
from streamvis.training.pretrained import fill_trunk, imagenet
from streamvis.training.provenance import begin, begun_with
from streamvis.training.recipes import Amount, Seed, Share, read_recipe
from streamvis.training.results import write_results

CLASSES = 2  # person and background: what the losses are for


class HoldOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source of which images are held out: every n-th; of a video, all should be (`every: 1`).

    `pictures`: hold out these alone, by the ends of their names without extension; whole scenes,
    for a picture of a place and people that were learnt measures nothing.
    """

    source: str
    every: Annotated[int, Meta(ge=1)] = 1
    pictures: tuple[str, ...] = ()


class DetectorRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Peak learning rates of AdamW."""

    body: Amount = 1e-4
    heads: Amount = 3e-4


class DetectorRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe for person detectors, such as `configs/training/person-lite.yaml`."""

    architecture: str
    schedule: Schedule
    # or detector weights: a shipped name, or a path; for HRNet also a published one of images
    start: str = "imagenet"
    hold_out: HoldOut | tuple[HoldOut, ...] | None = None
    frozen_blocks: Annotated[int, Meta(ge=0)] = 3
    batch: Annotated[int, Meta(ge=1)] = 4
    rates: DetectorRates = DetectorRates()
    augment: CanvasAugment = CanvasAugment()
    settle: Annotated[int, Meta(ge=0)] = 0  # last steps, with less augmentation
    # share of the start's weights in the result, a mean of these and of those that were trained,
    # which is better on data like neither (Wortsman et al. 2022, Robust fine-tuning, §3)
    kept: Share = 0.0
    sampling: tuple[int, int, int] = (256, 128, 16)  # anchors, proposals, masks of an image
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: Seed = 0


def load_recipe(path: Path, hold_out: Sequence[str] | None = None) -> DetectorRecipe:
    """Read a recipe; ConfigError. hold_out: names of sources that replace the recipe's."""
    recipe = read_recipe(path, DetectorRecipe)
    names = wanted(hold_out)
    if names is None:
        return recipe
    return msgspec.structs.replace(recipe, hold_out=tuple(HoldOut(name, 1) for name in names))


def recipe_of(path: Path) -> DetectorRecipe:
    """Read a recipe from a file, or from the directory of a training, with its hold-outs."""
    return begun_with(path, DetectorRecipe) if path.is_dir() else load_recipe(path)


def split(
    pictures: Sequence[AnnotatedImage], hold_out: HoldOut | Sequence[HoldOut] | None
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Divide images into those to train on and those held out; absent sources are reported."""
    asked = [hold_out] if isinstance(hold_out, HoldOut) else list(hold_out or ())
    names = present([one.source for one in asked], (p.source for p in pictures), "sources")
    held = {
        picture.path
        for one in asked
        if one.source in names
        for picture in _of(one, [p for p in pictures if p.source == one.source])
    }
    learnt = [p for p in pictures if p.path not in held]
    return learnt, [p for p in pictures if p.path in held]


def _of(hold_out: HoldOut, pictures: Sequence[AnnotatedImage]) -> Sequence[AnnotatedImage]:
    """Return the images of a source that are held out; absent ones are reported."""
    if not hold_out.pictures:
        return pictures[:: hold_out.every]
    ends = {p.path: next(filter(p.path.stem.endswith, hold_out.pictures), "") for p in pictures}
    names = present(hold_out.pictures, [end or p.stem for p, end in ends.items()], "pictures")
    return [p for p in pictures if ends[p.path] in names][:: hold_out.every]


def build(recipe: DetectorRecipe) -> MaskRcnn:
    """Return the detector before training, on its pretrained trunk."""
    _check_trainable(recipe.architecture)
    torch.manual_seed(recipe.seed)
    model = MaskRcnn(ARCHITECTURES[recipe.architecture])
    if recipe.start == "imagenet":
        body = model.backbone.body
        if not isinstance(body, EfficientNetLite0):
            raise ConfigError(
                f"start: imagenet needs EfficientNet-Lite0, which {recipe.architecture} is not "
                "built on; expected a path to weights"
            )
        body.load_state_dict(imagenet())
    else:
        _start_from(model, find(recipe.start))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _start_from(model: MaskRcnn, path: Path) -> None:
    """Load a detector, or a classifier of images for HRNet's trunk alone."""
    state = read(path)[0]
    if isinstance(model.backbone.body, HrnetBody) and "conv1.weight" in state:
        fill_trunk(model.backbone.body, state, path)
    else:
        load_into(model, path)


def _check_trainable(architecture: str) -> None:
    """Raise ConfigError for an architecture that is unknown, or that has other classes."""
    able = [name for name, a in ARCHITECTURES.items() if a.classes == CLASSES]
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"architecture is '{architecture}'; expected one of {', '.join(able)}")
    if architecture not in able:
        raise ConfigError(
            f"architecture is '{architecture}', a layout of published weights for "
            f"{ARCHITECTURES[architecture].classes - 1} classes, which can be run but not trained; "
            f"expected one for people alone: {', '.join(able)}"
        )


def parameter_groups(model: MaskRcnn, recipe: DetectorRecipe) -> Groups:
    """Return the parameters of trunk and heads with their rates; the first blocks are frozen."""
    body = model.backbone.body
    if isinstance(body, EfficientNetLite0):
        for module in (body.stem, *body.blocks[: recipe.frozen_blocks]):
            module.requires_grad_(False)
    trunk = [p for p in body.parameters() if p.requires_grad]
    inside = {id(p) for p in body.parameters()}
    heads = [p for p in model.parameters() if id(p) not in inside]
    return [(trunk, recipe.rates.body), (heads, recipe.rates.heads)]


def read_folders(
    folders: Sequence[Path], hold_out: HoldOut | Sequence[HoldOut] | None
) -> list[AnnotatedImage]:
    """Return the images to train on; those of smaller folders are repeated to equal weight.

    Otherwise a few images of a user's own would have no influence beside the many that keep the
    detector from forgetting.
    """
    parts = [read_people(folder) for folder in folders]
    for folder, part in zip(folders, parts, strict=True):
        if not part:
            raise DataError(f"{folder / 'annotations.json'} holds no images to train on")
        absent = [picture.path for picture in part if not picture.path.is_file()]
        if absent:
            raise DataError(
                f"{folder / 'annotations.json'} lists {len(part)} images, but {len(absent)} of "
                f"them do not exist; the first is {absent[0]}"
            )
    learnt, held = split([picture for part in parts for picture in part], hold_out)
    if not learnt:
        raise nothing_left(picture.source for picture in held)
    if all(one.ignore for picture in learnt for one in picture.instances):
        raise DataError(
            f"{', '.join(map(str, folders))}: no person is annotated in the {len(learnt)} images "
            "to train on, only regions to ignore"
        )
    apart = {picture.path for picture in held}
    parts = [[picture for picture in part if picture.path not in apart] for part in parts]
    largest = max(map(len, parts))
    return [p for part in parts if part for p in part * round(largest / len(part))]


def train(
    recipe: DetectorRecipe, data: Sequence[Path], out: Path, *, overwrite: bool = False
) -> MaskRcnn:
    """Train on folders with `annotations.json` and `images/`; return the averaged weights."""
    cv2.setNumThreads(1)  # the loader shares the machine with the network
    pictures = read_folders(data, recipe.hold_out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(recipe).to(device).train()
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    weights = {"start": [recipe.start]}
    begin(out, "detector", recipe, data={"--data": data}, weights=weights, overwrite=overwrite)
    sampling = SampleCounts(*recipe.sampling)

    def data_from(step: int) -> Iterator[tuple[Tensor, list[Targets]]]:
        change = recipe.schedule.steps - recipe.settle
        if step < change:
            full = batches(pictures, recipe.augment, recipe.batch, recipe.seed, step)
            yield from islice(full, change - step)
        reduced = recipe.augment.reduced()
        yield from batches(pictures, reduced, recipe.batch, recipe.seed, max(step, change))

    def losses(batch: tuple[Tensor, list[Targets]]) -> dict[str, Tensor]:
        images, targets = batch
        x = (images.to(device).float() / 255 - model.mean) / model.std
        x = x.contiguous(memory_format=torch.channels_last)
        targets = [Targets(*(t.to(device) for t in target)) for target in targets]
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            return detector_losses(model, x, targets, sampling)

    groups = parameter_groups(model, recipe)
    state = fit(model, groups, data_from, losses, recipe.schedule, out)
    for name, value in state.items():
        if value.is_floating_point():
            value.lerp_(before[name], recipe.kept)
    model.load_state_dict(state)
    return model.eval()


def run(
    recipe: DetectorRecipe, data: Sequence[Path], out: Path, *, overwrite: bool = False
) -> Path:
    """Train, write the curves and the weights, and return the path of the weights."""
    model = train(recipe, data, out, overwrite=overwrite)
    return write_results(out, recipe.architecture, model, recipe.schedule, data, start=recipe.start)
