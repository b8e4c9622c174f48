"""Recipe and training of lifters of poses to 3D: `streamvis train pose-3d`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from streamvis.errors import ConfigError
from streamvis.evaluation.pose_3d import mpjpe, pa_mpjpe
from streamvis.messages import Array
from streamvis.models.pose_lifting import ARCHITECTURES, PoseLifterNetwork, lift
from streamvis.training.hold_out import nothing_left, present, wanted
from streamvis.training.loop import Schedule, fit
from streamvis.training.pose.lift_data import (
    LiftAugment,
    LiftBatch,
    LiftRows,
    Trust,
    batches,
    read_rows,
)
from streamvis.training.pose.pose_critic import PoseCritic, reversed_gradient
from streamvis.training.provenance import begin
from streamvis.training.recipes import Amount, Count, Seed, read_recipe
from streamvis.training.results import write_results

Batch = tuple[Count, Annotated[int, Meta(ge=0)]]


class LiftLosses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the terms of the loss, and peak learning rates of AdamW."""

    points: Amount = 10.0  # of the distance to the learnt points, in metres
    picture: Amount = 1.0  # of the distance in the picture, in spreads
    critic: Amount = 0.1  # of the critic's gradient; 0: there is none
    blur_m: Amount = 0.02  # noise on the poses that the critic sees
    lifter_rate: Amount = 2e-3
    critic_rate: Amount = 5e-4


class LiftRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe for lifters, such as `configs/training/pose-3d.yaml`."""

    architecture: str
    schedule: Schedule
    hold_out: tuple[str, ...] = ()  # sources that are not trained on, and scored at the end
    batch: Batch = (192, 64)  # samples with a pose to learn, and without
    trust: Trust = Trust()
    change: LiftAugment = LiftAugment()
    losses: LiftLosses = LiftLosses()
    seed: Seed = 0


class LiftScores(msgspec.Struct, frozen=True):
    """Mean errors of poses in mm, as they are and after alignment; and of the mean pose."""

    poses: int
    mpjpe_mm: float
    pa_mpjpe_mm: float
    mean_pose_mpjpe_mm: float
    mean_pose_pa_mpjpe_mm: float

    def __str__(self) -> str:
        return (
            f"{self.poses} poses of sources held out: MPJPE {self.mpjpe_mm:.1f} mm, aligned "
            f"{self.pa_mpjpe_mm:.1f}; of the mean pose {self.mean_pose_mpjpe_mm:.1f} and "
            f"{self.mean_pose_pa_mpjpe_mm:.1f}"
        )


def load_recipe(path: Path, hold_out: Sequence[str] | None = None) -> LiftRecipe:
    """Read a recipe; ConfigError. hold_out: names that replace the recipe's."""
    recipe, names = read_recipe(path, LiftRecipe), wanted(hold_out)
    return recipe if names is None else msgspec.structs.replace(recipe, hold_out=names)


class Game(nn.Module):
    """A lifter and its critic, which are trained together."""

    def __init__(self, recipe: LiftRecipe) -> None:
        super().__init__()
        if recipe.architecture not in ARCHITECTURES:
            raise ConfigError(
                f"architecture is '{recipe.architecture}'; expected {', '.join(ARCHITECTURES)}"
            )
        torch.manual_seed(recipe.seed)
        self.lifter = PoseLifterNetwork(ARCHITECTURES[recipe.architecture])
        self.critic = PoseCritic()
        self.weights = recipe.losses

    def losses(self, batch: LiftBatch) -> dict[str, Tensor]:
        """Return the terms of the loss."""
        found, seen = self.lifter(batch.x), batch.x[:, -1]
        solid = batch.solid
        terms = {
            "points": self.weights.points * (found[solid] - batch.world[solid]).norm(dim=2).mean(),
            "picture": self.weights.picture * picture_loss(found, seen),
        }
        if self.weights.critic:
            lifted = reversed_gradient(found, self.weights.critic)
            lifted, real = (
                pose + self.weights.blur_m * torch.randn_like(pose)
                for pose in (lifted, batch.world[solid])
            )
            terms["critic"] = self.critic.loss(lifted, seen, real, seen[solid])
        return terms


def picture_loss(pose: Tensor, seen: Tensor) -> Tensor:
    """Return how far poses (B, 17, 3) are from keypoints (B, 17, 3), in spreads of the person.

    Poses are projected without perspective, at the size and place that fit best.
    """
    weight = seen[:, :, 2:]
    total = weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    flat, points = (
        one - (weight * one).sum(dim=1, keepdim=True) / total
        for one in (pose[..., :2], seen[..., :2])
    )
    size = (weight * flat * points).sum(dim=(1, 2)) / (
        (weight * flat.square()).sum(dim=(1, 2)).clamp(min=1e-6)
    )
    away = ((size[:, None, None] * flat - points).square().sum(dim=2) + 1e-8).sqrt()
    return (weight[..., 0] * away).sum() / weight.sum().clamp(min=1e-6)


def run(
    recipe: LiftRecipe, data: Sequence[Path], out: Path, *, overwrite: bool = False
) -> tuple[Path, LiftScores | None]:
    """Train into `out`; return the weights, and the scores of sources that were held out."""
    game = Game(recipe)
    rows = read_rows(data, game.lifter.architecture, recipe.trust)
    held = np.isin(rows.sources, present(recipe.hold_out, rows.sources.tolist(), "sources"))
    train = np.flatnonzero(~held)
    if not rows.solid[train].any():
        raise nothing_left(recipe.hold_out)
    begin(out, "lifter", recipe, data={"data": data}, weights={}, overwrite=overwrite)
    rates = recipe.losses.lifter_rate, recipe.losses.critic_rate
    parts = zip((game.lifter, game.critic), rates, strict=True)
    average = fit(
        game,
        [(list(part.parameters()), rate) for part, rate in parts],
        batches(rows, train, recipe.batch, recipe.change, recipe.seed),
        game.losses,
        recipe.schedule,
        out,
    )
    game.load_state_dict(average)
    lifter = game.lifter.eval()
    scores = score(lifter, rows, np.flatnonzero(held & rows.solid), mean_pose(rows, train))
    about = {"hold_out": ", ".join(recipe.hold_out)} | ({"scores": str(scores)} if scores else {})
    name = lifter.architecture.name
    return write_results(out, name, lifter, recipe.schedule, data, **about), scores


def mean_pose(rows: LiftRows, train: Array) -> Array:
    """Return the mean (17, 3) of the poses to learn."""
    return np.asarray(rows.world[train[rows.solid[train]]].mean(axis=0))


def score(
    lifter: PoseLifterNetwork, rows: LiftRows, chosen: Array, mean: Array
) -> LiftScores | None:
    """Score the chosen rows; None without any."""
    if not len(chosen):
        return None
    found, true = lift(lifter, rows.samples(chosen)), rows.world[chosen]
    same = np.broadcast_to(mean, true.shape)
    errors = mpjpe(found, true), pa_mpjpe(found, true), mpjpe(same, true), pa_mpjpe(same, true)
    return LiftScores(len(chosen), *(1000 * float(each.mean()) for each in errors))
