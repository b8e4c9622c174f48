"""Scores of pose networks and of their teacher on people whose keypoints are labelled."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from streamvis.datasets.keypoints import PersonKeypoints, is_tuned_on, read_keypoints
from streamvis.datasets.pictures import read_picture
from streamvis.errors import DataError
from streamvis.evaluation.pose import PoseScores, evaluate
from streamvis.messages import Array
from streamvis.runners.progress import Progress
from streamvis.runners.tables import Table, table_of

if TYPE_CHECKING:
    from streamvis.models.inference.select import Engine, Precision

# pictures of a folder: all, the two thirds that `train pose` never sees, or the other third
Part = Literal["all", "measured", "tuned"]
SCORES = ("people", "points", "ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "oks", "pckh")


class Estimate(NamedTuple):
    """The keypoints of N people."""

    points: Array  # (N, 17, 2) px
    scores: Array  # (N, 17)
    covariances: Array | None = None  # (N, 17, 2, 2) px²


class Estimator(Protocol):
    """Estimates the keypoints of people in boxes (N, 4) of a picture (H, W, 3) uint8 RGB."""

    def __call__(self, pixels: Array, boxes: Array) -> Estimate: ...


@dataclass(frozen=True)
class PoseResult:
    """The estimates of one network, and how good they are."""

    people: Sequence[PersonKeypoints]
    estimate: Estimate
    scores: PoseScores
    milliseconds: float  # for each person


class NetworkEstimator:
    """A pose network of streamvis."""

    def __init__(self, weights: str, device: str, precision: "Precision", engine: "Engine") -> None:
        from streamvis.models.pose import PoseNetwork

        self.network = PoseNetwork.load(weights, device, precision, engine)

    def __call__(self, pixels: Array, boxes: Array) -> Estimate:
        (found,) = self.network.estimate([pixels], [boxes])
        return Estimate(*found)


class TeacherEstimator:
    """BlazePose, in the crop of the box alone or in the views that labels are made of."""

    def __init__(self, path: Path, views: int) -> None:
        from streamvis.training.detector.pose_teacher import PoseTeacher

        self.teacher, self.views = PoseTeacher(path), views

    def __call__(self, pixels: Array, boxes: Array) -> Estimate:
        from streamvis.training.pose.taught_pose import see_once, teach

        look = teach if self.views > 1 else see_once
        found = [look(self.teacher, pixels, box) for box in boxes]
        return Estimate(
            np.array([one.points for one in found]), np.array([one.scores for one in found])
        )


def read(folders: Sequence[Path], part: Part) -> list[PersonKeypoints]:
    """Read the people to score, in the order of their pictures; DataError without any."""
    found = [one for folder in folders for one in read_keypoints(folder)]
    chosen = [one for one in found if part == "all" or is_tuned_on(one.path) == (part == "tuned")]
    if not chosen:
        raise DataError(
            f"{', '.join(map(str, folders))}: nobody of {len(found)} people is in the part "
            f"'{part}' of the pictures; use --part all"
        )
    return sorted(chosen, key=lambda one: str(one.path))


def score(
    people: Sequence[PersonKeypoints], estimator: Estimator, progress: Progress
) -> PoseResult:
    """Estimate everybody in the labelled boxes, and score."""
    parts: list[Estimate] = []
    seconds = 0.0
    pictures = [(path, list(here)) for path, here in groupby(people, key=lambda one: one.path)]
    for path, here in progress(pictures, "pictures"):
        pixels = read_picture(path, here[0].picture_size)
        began = time.perf_counter()
        parts.append(estimator(pixels, np.array([one.box for one in here])))
        seconds += time.perf_counter() - began
    covariances = [one.covariances for one in parts if one.covariances is not None]
    estimate = Estimate(
        np.concatenate([one.points for one in parts]),
        np.concatenate([one.scores for one in parts]),
        np.concatenate(covariances) if len(covariances) == len(parts) else None,
    )
    scores = evaluate(people, *estimate)
    return PoseResult(people, estimate, scores, 1e3 * seconds / len(people))


def report(results: dict[str, PoseResult]) -> dict[str, Any]:
    """Return the scores by network, as JSON holds them."""
    return {
        name: {**asdict(one.scores), "ms_per_person": one.milliseconds}
        for name, one in results.items()
    }


def tables(results: dict[str, PoseResult]) -> Iterator[Table]:
    """Yield the scores of all networks, then those of each keypoint."""
    named = {name: one.scores for name, one in results.items()}
    whole = table_of("Keypoints in the labelled boxes", named, SCORES, "network")
    times = [one.milliseconds for one in results.values()]
    rows = [[*row, time] for row, time in zip(whole.rows, times, strict=True)]
    yield whole._replace(columns=(*whole.columns, "ms/person"), rows=rows)
    quality = [(name, one.scores.brier, one.scores.nees) for name, one in results.items()]
    columns = ("network", "Brier score", "median squared error / covariance (ideal 1.39)")
    yield Table("Scores and covariances", columns, quality)
    joints = [
        (joint, s.labelled, *(v for one in named.values() for v in _joint(one, joint)))
        for joint, s in next(iter(named.values())).joints.items()
    ]
    heads = [f"{name}: {what}" for name in named for what in ("OKS", "right", "PCKh")]
    yield Table("Each keypoint: mean OKS, share above ½, PCKh", ("", "labelled", *heads), joints)


def _joint(scores: PoseScores, name: str) -> tuple[float | None, ...]:
    one = scores.joints[name]
    return one.oks, one.right, one.pckh
