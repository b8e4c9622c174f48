"""The recipe of embedders: `streamvis train embedder CONFIG --data DIR… --out DIR`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.errors import ConfigError, DataError, ModelError
from streamvis.models.checkpoint_io import read as read_tensors
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.onnx_reid import Teacher
from streamvis.models.weights import embedder_state, find
from streamvis.training.hold_out import nothing_left, present, wanted
from streamvis.training.loop import Groups, Schedule, fit
from streamvis.training.losses.reid import AngularLoss, angular_loss, mean_similarity, relation_loss
from streamvis.training.pretrained import eyes
from streamvis.training.provenance import begin
from streamvis.training.recipes import read_recipe
from streamvis.training.reid.crop_dataset import (
    BatchComposition,
    CropAugment,
    CropBatch,
    CropDataset,
    SyntheticIdentities,
    batches,
    gather,
)
from streamvis.training.reid.identity_boxes import IdentityBoxes, read
from streamvis.training.results import write_results

DEAD = 1e-6  # length of a filter


class Distillation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much what the teachers say counts."""

    relations: Annotated[float, Meta(ge=0)] = 1.0  # who is like whom in a batch
    temperature: Annotated[float, Meta(gt=0)] = 0.1  # of those likenesses
    vectors: Annotated[float, Meta(ge=0)] = 1.0  # their vectors, from ours by a matrix
    steady: Annotated[float, Meta(ge=0, le=1)] = 0.5  # share of a person's mean in each vector


class EmbedderRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Peak learning rates of AdamW."""

    body: float = 1e-3
    heads: float = 3e-3


class EmbedderRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A training file for embedders, `configs/training/person-r18.yaml`."""

    architecture: str
    schedule: Schedule
    start: str = "eyes"  # or weights: a shipped name, or a path, torchvision's resnet18 too
    stripes: Annotated[int, Meta(ge=1, le=16)] | None = None  # None: the architecture's
    power: Annotated[float, Meta(ge=1, le=8, multiple_of=1)] | None = None
    hold_out: tuple[str, ...] = ()  # names of sequences and videos that are never looked at
    every_s: Annotated[float, Meta(gt=0)] = 0.2  # from one look at a person to the next
    invented: SyntheticIdentities = SyntheticIdentities()
    batch: BatchComposition = BatchComposition()
    change: CropAugment = CropAugment()
    angular: AngularLoss = AngularLoss()
    lesson: Distillation = Distillation()
    rates: EmbedderRates = EmbedderRates()
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: int = 0


class StudentEmbedder(nn.Module):
    """The embedder, and a matrix from its vectors to each teacher's that is thrown away after."""

    def __init__(self, embedder: Embedder, teachers: int, outputs: int) -> None:
        super().__init__()
        self.embedder = embedder
        self.to_teachers = nn.ModuleList(
            nn.Linear(embedder.outputs, outputs) for _ in range(teachers)
        )


def load_recipe(path: Path, hold_out: Sequence[str] | None = None) -> EmbedderRecipe:
    """Read a training file; ConfigError in one line.

    hold_out: names of sequences and videos, in place of the recipe's.
    """
    recipe, names = read_recipe(path, EmbedderRecipe), wanted(hold_out)
    return recipe if names is None else msgspec.structs.replace(recipe, hold_out=names)


def build(recipe: EmbedderRecipe) -> Embedder:
    """The embedder before training, its norms to be trained too."""
    if recipe.architecture not in ARCHITECTURES:
        raise ConfigError(
            f"architecture '{recipe.architecture}' is not known; "
            f"there are {', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[recipe.architecture]
    asked = {"stripes": recipe.stripes, "power": recipe.power}
    asked = {name: value for name, value in asked.items() if value is not None}
    architecture = msgspec.structs.replace(architecture, **asked)
    torch.manual_seed(recipe.seed)
    model = Embedder(architecture, train_norms=True)
    if recipe.start == "eyes":
        state = embedder_state(eyes())
    else:
        state = embedder_state(read_tensors(find(recipe.start))[0])
    lacking, unexpected = model.load_state_dict(state, strict=False)
    lacking = [key for key in lacking if not key.endswith("num_batches_tracked")]
    if lacking or unexpected:
        raise ModelError(f"start: {recipe.start} is no ResNet-18: {[*lacking, *unexpected][0]}")
    revive(model)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def revive(model: Embedder) -> None:
    """Draw anew the first filters that have died, as five of ImageNet's have: they stay dead."""
    kernels = model.conv1.weight
    dead = kernels.flatten(1).norm(dim=1) < DEAD
    kernels[dead] = torch.randn_like(kernels[dead]) / kernels[0].numel() ** 0.5
    fresh = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for name, value in model.bn1.state_dict().items():
        if name in fresh:
            value[dead] = fresh[name]


def sightings(recipe: EmbedderRecipe, data: Sequence[Path]) -> list[IdentityBoxes]:
    """What is trained on: everything in the folders but what the recipe holds out."""
    found = [one for folder in data for one in read(folder, recipe.every_s)]
    for i, one in enumerate(found):
        if any(one.shows_the_same_as(other) for other in found[:i]):
            raise DataError(
                f"two of the --data show the same people of {one.name}, who would be taught to "
                "differ from themselves; give each once"
            )
    held = present(recipe.hold_out, (one.name for one in found), "sequences and videos")
    learnt = [one for one in found if one.name not in held]
    if not learnt:
        raise nothing_left(held)
    return learnt


def steadied(people: CropDataset, share: float) -> CropDataset:
    """Each vector of a teacher mixed with the mean of its person's: one look may mislead it."""
    taught = people.taught  # (N, V, T, D)
    sums = np.zeros((int(people.first[-1]), *taught.shape[1:]), np.float32)
    np.add.at(sums, people.person, taught)
    counts = np.bincount(people.person, minlength=len(sums))[people.person]
    means = sums[people.person] / counts[:, None, None, None]
    mixed = (1 - share) * taught + share * means
    return people._replace(taught=mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))


def losses(student: StudentEmbedder, batch: CropBatch, recipe: EmbedderRecipe) -> dict[str, Tensor]:
    """The terms of one step."""
    model, lesson = student.embedder, recipe.lesson
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
    if student.to_teachers:
        taught = list(batch.taught.to(device).unbind(1))  # T × (B, D)
        ours = [F.normalize(matrix(vectors), dim=1) for matrix in student.to_teachers]
        missed = [1 - (a * b).sum(1).mean() for a, b in zip(ours, taught, strict=True)]
        terms["vectors"] = lesson.vectors * torch.stack(missed).mean()
        told = relation_loss(vectors, mean_similarity(taught), lesson.temperature)
        terms["relations"] = lesson.relations * told
    return terms


def train(
    recipe: EmbedderRecipe,
    data: Sequence[Path],
    teachers: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
) -> Embedder:
    """Train on folders of people; the averaged weights come back, ready to infer."""
    cv2.setNumThreads(1)  # the loader shares the machine with the network
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(recipe)
    asked = [Teacher(path) for path in teachers]
    seen = sightings(recipe, data)
    begin(
        out,
        "embedder",
        recipe,
        data={"--data": data, "--teacher": teachers},
        weights={"start": [recipe.start]},
        overwrite=overwrite,
    )
    people = gather(seen, model.size, asked, recipe.invented, out / "people.npz")
    people = steadied(people, recipe.lesson.steady)
    student = StudentEmbedder(model, *people.taught.shape[2:]).to(device).train()

    def data_from(step: int) -> Iterator[CropBatch]:
        return batches(people, model.size, recipe.batch, recipe.change, recipe.seed, step)

    groups: Groups = [
        (list(model.parameters()), recipe.rates.body),
        (list(student.to_teachers.parameters()), recipe.rates.heads),
    ]
    groups = [group for group in groups if group[0]]
    state = fit(
        student, groups, data_from, lambda b: losses(student, b, recipe), recipe.schedule, out
    )
    trained = Embedder(model.architecture)
    inside = {k.removeprefix("embedder."): v for k, v in state.items() if k.startswith("embedder.")}
    trained.load_state_dict(embedder_state(inside))
    return trained.eval()


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
