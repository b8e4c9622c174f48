"""Scores of lifters: against labelled places in metres, and against synthetic people."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.datasets.keypoints import NAMES
from streamvis.errors import DataError
from streamvis.evaluation.pose_3d import mpjpe, pa_mpjpe, sized_mpjpe
from streamvis.messages import KEYPOINTS, Array
from streamvis.models.pose_lifting import LifterConfig, PoseLifterNetwork, lift, normalised
from streamvis.models.weights import load_lifter
from streamvis.runners.tables import Table
from streamvis.synthetic.walking_poses import walking_poses
from streamvis.training.pose.lift_data import Trust, read_rows

NOISE = 0.01  # of the person's height: about what pose networks err on whole people


class LiftTruth(NamedTuple):
    """Keypoints of N people over time, and where their points are in metres."""

    name: str
    x: Array  # (N, T, 17, 3) normalised
    world: Array  # (N, 17, 3) metres about the middle of the hips, in the camera's axes


class LiftResult(msgspec.Struct):
    """Mean errors in mm on one set."""

    data: str
    poses: int
    mpjpe_mm: float
    sized_mm: float  # MPJPE at the true size of each person
    pa_mpjpe_mm: float  # after the best similarity transform
    mean_pose_mm: float  # MPJPE of the mean of the true poses: the best guess without a look
    mean_pose_pa_mm: float
    flat_mm: float  # MPJPE of the keypoints themselves, at the true size and the true mean depths
    joints_mm: dict[str, float]


def read_truth(
    data: Sequence[str], architecture: LifterConfig, sources: Sequence[str]
) -> list[LiftTruth]:
    """Read labelled folders, of which only the named sources if there are any, and scenes.

    `synthetic:SEED` is a scene of walking people whose true points are known.
    """
    found = []
    for one in data:
        kind, _, seed = one.partition(":")
        if kind == "synthetic" and seed.isdecimal():
            found.append(_scene(one, int(seed), architecture))
            continue
        rows = read_rows([Path(one)], architecture, Trust())
        chosen = rows.solid & (np.isin(rows.sources, sources) if sources else True)
        if not chosen.any():
            there = ", ".join(sorted(set(rows.sources.tolist())))
            whom = f"of {', '.join(sources)} " if sources else ""
            raise DataError(
                f"{one}: nobody {whom}has enough sure keypoints and `world`; its sources: {there}"
            )
        at = np.flatnonzero(chosen)
        found.append(LiftTruth(Path(one).resolve().name, rows.samples(at), rows.world[at]))
    return found


def _scene(name: str, seed: int, architecture: LifterConfig) -> LiftTruth:
    walks = walking_poses(seed, architecture.frames, architecture.rate_hz)
    rng = np.random.default_rng([seed, 5])
    size = np.ptp(walks.points, axis=2).max(axis=-1)[..., None, None]  # px
    points = walks.points + rng.normal(0, NOISE, walks.points.shape) * size
    x = normalised(points, np.ones(walks.points.shape[:3]))
    return LiftTruth(name, x, walks.world)


def evaluate(weights: str, data: Sequence[str], sources: Sequence[str]) -> list[LiftResult]:
    """Score a lifter on each set."""
    network = load_lifter(weights)
    return [score(network, truth) for truth in read_truth(data, network.architecture, sources)]


def score(network: PoseLifterNetwork, truth: LiftTruth) -> LiftResult:
    """Score a lifter, and guesses without one."""
    found, true = lift(network, truth.x), truth.world
    mean = np.broadcast_to(true.mean(axis=0), true.shape)
    joints = 1000 * np.linalg.norm(found - true, axis=2).mean(axis=0)

    def mm(errors: Array) -> float:
        return round(1000 * float(errors.mean()), 1)

    return LiftResult(
        data=truth.name,
        poses=len(true),
        mpjpe_mm=mm(mpjpe(found, true)),
        sized_mm=mm(sized_mpjpe(found, true)),
        pa_mpjpe_mm=mm(pa_mpjpe(found, true)),
        mean_pose_mm=mm(mpjpe(mean, true)),
        mean_pose_pa_mm=mm(pa_mpjpe(mean, true)),
        flat_mm=mm(mpjpe(_flat(truth), true)),
        joints_mm={name: round(float(e), 1) for name, e in zip(NAMES, joints, strict=True)},
    )


def _flat(truth: LiftTruth) -> Array:
    """Return poses (N, 17, 3) with the keypoints of the picture, at the size that fits best."""
    seen, true = truth.x[:, -1], truth.world
    weight = (seen[..., 2:] > 0).astype(float)
    total = weight.sum(axis=1, keepdims=True)
    points, places = (
        one - (weight * one).sum(axis=1, keepdims=True) / total
        for one in (seen[..., :2], true[..., :2])
    )
    size = (weight * points * places).sum(axis=(1, 2)) / (weight * points**2).sum(axis=(1, 2))
    depth = np.broadcast_to(true[..., 2].mean(axis=0), (len(true), KEYPOINTS))
    flat = size[:, None, None] * points
    middle = flat[:, [11, 12]].mean(axis=1, keepdims=True)
    known = np.where(weight > 0, flat - middle, true[..., :2].mean(axis=0))
    return np.concatenate([known, depth[..., None]], axis=2)


def tables(results: Sequence[LiftResult], *, joints: bool) -> list[Table]:
    """Return the errors of each set, and of each joint."""
    columns = ("data", "poses", "MPJPE", "sized", "aligned", "mean pose", "aligned", "flat")
    rows = [msgspec.structs.astuple(one)[:-1] for one in results]
    found = [Table("mm", columns, rows)]
    if joints:
        each = [[name, *(one.joints_mm[name] for one in results)] for name in NAMES]
        found.append(Table("MPJPE, mm", ("joint", *(one.data for one in results)), each))
    return found
