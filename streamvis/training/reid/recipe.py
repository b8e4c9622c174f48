"""Recipe and training of embedders: `streamvis train embedder`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor
from torch.nn import functional as F

from streamvis.errors import ConfigError, DataError, ModelError
from streamvis.models.checkpoint_io import read as read_tensors
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.onnx_reid import Teacher
from streamvis.models.weights import embedder_state, find
from streamvis.training.hold_out import nothing_left, present, wanted
from streamvis.training.loop import Groups, Schedule, fit
from streamvis.training.losses.reid import AngularLoss, angular_loss, relation_loss
from streamvis.training.pretrained import eyes
from streamvis.training.provenance import begin
from streamvis.training.recipes import Amount, Positive, Seed, read_recipe
from streamvis.training.reid.crop_dataset import (
    BatchComposition,
    CropAugment,
    CropBatch,
    CropDataset,
    SyntheticIdentities,
    batches,
    gather,
    unchanged,
)
from streamvis.training.reid.identity_boxes import IdentityBoxes, read_identity_boxes
from streamvis.training.results import write_results

DEAD = 1e-6  # length of a filter
SAMPLE = 1000  # crops whose distances are measured


class Distillation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The weights of distillation from teachers."""

    relations: Amount = 1.0  # weight of the similarities within a batch
    temperature: Positive = 0.1  # of those similarities
    vectors: Amount = 1.0  # weight of the vectors themselves


class EmbedderRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Peak learning rates of AdamW."""

    body: Amount = 1e-3
    head: Amount = 3e-3


class EmbedderRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe for embedders, such as `configs/training/person-r18.yaml`."""

    architecture: str
    schedule: Schedule
    start: str = "eyes"  # or weights: a shipped name, or a path, torchvision's resnet18 too
    stripes: Annotated[int, Meta(ge=1, le=16)] | None = None  # None: the architecture's
    power: Annotated[float, Meta(ge=1, le=8, multiple_of=1)] | None = None
    layers: Annotated[int, Meta(ge=2, le=3)] | None = None
    vector: Annotated[int, Meta(ge=1, le=4096)] | None = None
    standardise: bool | None = None
    hold_out: tuple[str, ...] = ()  # names of sequences and videos that are not trained on
    every_s: Positive = 0.2  # between two crops of a person
    invented: SyntheticIdentities = SyntheticIdentities()
    batch: BatchComposition = BatchComposition()
    change: CropAugment = CropAugment()
    angular: AngularLoss = AngularLoss()
    lesson: Distillation = Distillation()
    rates: EmbedderRates = EmbedderRates()
    apart: Annotated[float, Meta(gt=0, lt=1)] = 0.75  # mean distance of people, for the tracker
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: Seed = 0


def load_recipe(path: Path, hold_out: Sequence[str] | None = None) -> EmbedderRecipe:
    """Read a recipe; ConfigError. hold_out: names that replace the recipe's."""
    recipe, names = read_recipe(path, EmbedderRecipe), wanted(hold_out)
    return recipe if names is None else msgspec.structs.replace(recipe, hold_out=names)


def build(recipe: EmbedderRecipe) -> Embedder:
    """Return the embedder before training, with trainable norms."""
    if recipe.architecture not in ARCHITECTURES:
        raise ConfigError(
            f"architecture is '{recipe.architecture}'; expected one of {', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[recipe.architecture]
    names = ("stripes", "power", "layers", "vector", "standardise")
    asked = {name: getattr(recipe, name) for name in names}
    asked = {name: value for name, value in asked.items() if value is not None}
    architecture = msgspec.structs.replace(architecture, **asked)
    torch.manual_seed(recipe.seed)
    model = Embedder(architecture, train_norms=True)
    if recipe.start == "eyes":
        state = embedder_state(eyes(), architecture)
    else:
        state = embedder_state(read_tensors(find(recipe.start))[0], architecture)
    lacking, unexpected = model.load_state_dict(state, strict=False)
    lacking = [k for k in lacking if not k.endswith("num_batches_tracked") and "head." not in k]
    if lacking or unexpected:
        raise ModelError(f"start: {recipe.start} is no ResNet-18: {[*lacking, *unexpected][0]}")
    revive(model)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def revive(model: Embedder) -> None:
    """Draw the first layer's dead filters anew; five of ImageNet's are, and would stay so."""
    kernels = model.conv1.weight
    dead = kernels.flatten(1).norm(dim=1) < DEAD
    kernels[dead] = torch.randn_like(kernels[dead]) / kernels[0].numel() ** 0.5
    fresh = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for name, value in model.bn1.state_dict().items():
        if name in fresh:
            value[dead] = fresh[name]


def boxes_to_train_on(recipe: EmbedderRecipe, data: Sequence[Path]) -> list[IdentityBoxes]:
    """Read the boxes of all folders, without the sequences that the recipe holds out."""
    found = [one for folder in data for one in read_identity_boxes(folder, recipe.every_s)]
    for i, one in enumerate(found):
        if any(one.has_the_same_boxes_as(other) for other in found[:i]):
            raise DataError(
                f"two of the --data contain the same boxes of {one.name}, so that a person would "
                "be trained to differ from itself; give each folder once"
            )
    held = present(recipe.hold_out, (one.name for one in found), "sequences and videos")
    learnt = [one for one in found if one.name not in held]
    if not learnt:
        raise nothing_left(held)
    return learnt


def losses(model: Embedder, batch: CropBatch, recipe: EmbedderRecipe) -> dict[str, Tensor]:
    """Return the terms of the loss of one step."""
    lesson = recipe.lesson
    device = next(model.parameters()).device
    x = model.normalise(batch.crops.to(device)).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        vectors = model(x)
    vectors = vectors.float()
    known = batch.same.any(1).to(device)
    same, other = batch.same.to(device)[known][:, known], batch.other.to(device)[known][:, known]
    terms = {
        "angular": recipe.angular.weight * angular_loss(vectors[known], same, other, recipe.angular)
    }
    targets = batch.teacher_vectors.to(device)  # (B, T, D)
    if targets.shape[1]:
        target = F.normalize(targets.flatten(1), dim=1)
        terms["vectors"] = lesson.vectors * (1 - (vectors * target).sum(1).mean())
        apart = relation_loss(vectors, target @ target.T, lesson.temperature)
        terms["relations"] = lesson.relations * apart
    return terms


@torch.no_grad()
def set_apart(model: Embedder, people: CropDataset, apart: float, seed: int) -> None:
    """Take from all vectors the share of their mean that leaves people `apart` on average.

    A student that is unsure of a crop comes near to the mean of its teacher's vectors, so that
    everybody looks alike; whose product is larger hardly changes.
    """
    if model.head is None:
        return
    head, model.head = model.head, None
    real = np.flatnonzero(people.source < len(people.apart) - 1)
    rows = np.random.default_rng(seed).choice(real, min(len(real), SAMPLE), replace=False)
    crops = np.stack([unchanged(people.crops[row], model.size) for row in np.sort(rows)])
    parts = [head(model(model.normalise(crops[i : i + 100]))) for i in range(0, len(crops), 100)]
    model.head = head
    vectors = torch.cat(parts)
    mean = vectors.mean(0)
    low, high = 0.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        units = F.normalize(vectors - share * mean, dim=1)
        distance = 1 - (units.sum(0).square().sum() - len(units)) / (len(units) * (len(units) - 1))
        low, high = (share, high) if float(distance) < apart else (low, share)
    head.bias.sub_(low * mean)


def check_lengths(model: Embedder, teachers: Sequence[Teacher]) -> None:
    """Raise ConfigError unless the embedder's vectors are as long as those of all teachers."""
    length = sum(teacher.outputs for teacher in teachers)
    if teachers and model.outputs != length:
        raise ConfigError(
            f"architecture {model.architecture.name} gives vectors of {model.outputs} numbers, "
            f"the teachers {length} in all; expected as many: set `vector: {length}` in the recipe"
        )


def train(
    recipe: EmbedderRecipe,
    data: Sequence[Path],
    teachers: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
) -> Embedder:
    """Train on folders of people and return the averaged weights, ready for inference."""
    cv2.setNumThreads(1)  # the loader shares the machine with the network
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(recipe)
    networks = [Teacher(path) for path in teachers]
    check_lengths(model, networks)
    boxes = boxes_to_train_on(recipe, data)
    begin(
        out,
        "embedder",
        recipe,
        data={"--data": data, "--teacher": teachers},
        weights={"start": [recipe.start]},
        overwrite=overwrite,
    )
    people = gather(boxes, model.size, recipe.invented.strangers, out / "people")
    model.to(device).train()

    def data_from(step: int) -> Iterator[CropBatch]:
        return batches(
            people,
            model.size,
            recipe.batch,
            recipe.change,
            recipe.seed,
            step,
            wardrobes=recipe.invented.wardrobes,
            teachers=networks,
        )

    head = [] if model.head is None else list(model.head.parameters())
    body = [p for name, p in model.named_parameters() if not name.startswith("head.")]
    groups: Groups = [(body, recipe.rates.body), (head, recipe.rates.head)]
    groups = [group for group in groups if group[0]]
    state = fit(model, groups, data_from, lambda b: losses(model, b, recipe), recipe.schedule, out)
    trained = Embedder(model.architecture)
    trained.load_state_dict(embedder_state(state, model.architecture))
    set_apart(trained.eval(), people, recipe.apart, recipe.seed)
    return trained


def run(
    recipe: EmbedderRecipe,
    data: Sequence[Path],
    teachers: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Train, write the curves and the weights, and return the path of the weights."""
    model = train(recipe, data, teachers, out, overwrite=overwrite)
    return write_results(
        out,
        recipe.architecture,
        model,
        recipe.schedule,
        data,
        start=recipe.start,
        teachers=", ".join(path.stem for path in teachers),
    )
