"""Scores of keypoints: COCO's OKS AP and AR, PCKh, and a row for each keypoint.

Everybody is estimated in the box of the ground truth, so that no detector is measured with it.
pycocotools computes the matching and the average precision.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamvis.datasets.keypoints import NAMES, SIGMAS, PersonKeypoints
from streamvis.errors import DataError, UsageError
from streamvis.messages import Array

HEAD = np.arange(5)  # nose, eyes, ears
EARS = np.array([3, 4])
RIGHT = 0.5  # OKS of a single point, or share of the head's size, from which it is right
TINY = np.spacing(1)


@dataclass(frozen=True)
class JointScores:
    """The scores of one keypoint."""

    labelled: int
    oks: float | None  # mean similarity
    right: float | None  # share whose similarity is above ½
    pckh: float | None  # share within half of the head's size


@dataclass(frozen=True)
class PoseScores:
    """Scores in [0, 1]; None if undefined."""

    pictures: int
    people: int
    points: int
    ap: float | None  # mean over OKS .50:.05:.95
    ap50: float | None
    ap75: float | None
    ap_medium: float | None  # people of 32² to 96² px
    ap_large: float | None
    ar: float | None
    oks: float  # mean over people
    pckh: float | None  # over all points of people whose head has a size
    brier: float  # mean squared distance of scores from whether the point is right
    nees: float | None  # median of the squared error in units of the covariance; ideally 1.39
    joints: dict[str, JointScores]


def evaluate(
    people: Sequence[PersonKeypoints],
    points: Array,  # (N, 17, 2) px
    scores: Array,  # (N, 17) in [0, 1]
    covariances: Array | None = None,  # (N, 17, 2, 2) px²
) -> PoseScores:
    """Score the estimated keypoints of people against the labelled ones."""
    points, scores = np.asarray(points, np.float64), np.asarray(scores, np.float64)
    if points.shape != (len(people), len(NAMES), 2) or scores.shape != points.shape[:2]:
        raise DataError(
            f"keypoints of shape {points.shape} with scores {scores.shape} for {len(people)} "
            f"people; expected ({len(people)}, {len(NAMES)}, 2) and ({len(people)}, {len(NAMES)})"
        )
    if not (np.isfinite(points).all() and np.isfinite(scores).all()):
        raise DataError("an estimated keypoint is NaN or infinite; check the network's weights")
    labelled = np.array([one.weights > 0 for one in people]).reshape(-1, len(NAMES))
    similar = similarities(people, points)  # (N, 17)
    near = within_head(people, points)  # (N, 17), NaN without a head
    counted = np.array([not one.ignore for one in people], bool) & labelled.any(1)
    mask = labelled & counted[:, None]
    right = similar > RIGHT
    rows = np.flatnonzero(counted).tolist()  # of others there are estimates as well, but no truth
    average = _coco([people[i] for i in rows], points[rows], scores[rows])
    return PoseScores(
        pictures=len({one.path for one in people}),
        people=int(counted.sum()),
        points=int(mask.sum()),
        **average,
        oks=float(oks_of(similar, labelled)[counted].mean()) if counted.any() else 0.0,
        pckh=_mean(near[mask]),
        brier=float(np.square(scores - right)[mask].mean()) if mask.any() else 0.0,
        nees=None if covariances is None else _nees(people, points, covariances, mask & right),
        joints={
            name: JointScores(
                labelled=int(mask[:, k].sum()),
                oks=_mean(similar[mask[:, k], k]),
                right=_mean(right[mask[:, k], k].astype(float)),
                pckh=_mean(near[mask[:, k], k]),
            )
            for k, name in enumerate(NAMES)
        },
    )


def similarities(people: Sequence[PersonKeypoints], points: Array) -> Array:
    """Return the similarity (N, 17) of each point to the labelled one, COCO's exp(−d²/8σ²area)."""
    found = np.zeros((len(people), len(NAMES)))
    for row, one, estimated in zip(found, people, points, strict=True):
        squares = ((estimated - one.points) ** 2).sum(1)
        row[:] = np.exp(-squares / (2 * (2 * SIGMAS) ** 2 * (one.area + TINY)))
    return found


def oks_of(similar: Array, labelled: Array) -> Array:
    """Return the object keypoint similarity (N,) of each person, its mean over labelled points."""
    return (similar * labelled).sum(1) / np.maximum(labelled.sum(1), 1)


def within_head(people: Sequence[PersonKeypoints], points: Array) -> Array:
    """Return 1 for points (N, 17) within half of the head's size, else 0; NaN without a size.

    The size is the largest distance of labelled points of the head; one has to be an ear.
    """
    found = np.full((len(people), len(NAMES)), np.nan)
    for row, one, estimated in zip(found, people, points, strict=True):
        head = one.points[HEAD][one.weights[HEAD] > 0]
        if len(head) < 2 or not (one.weights[EARS] > 0).any():
            continue
        size = np.sqrt(((head[:, None] - head) ** 2).sum(2)).max()
        row[:] = np.sqrt(((estimated - one.points) ** 2).sum(1)) <= RIGHT * size
    return found


def _nees(
    people: Sequence[PersonKeypoints], points: Array, covariances: Array, mask: Array
) -> float | None:
    """Return the median of eᵀ Σ⁻¹ e over the points of the mask."""
    errors = (points - np.array([one.points for one in people]))[mask]
    if not len(errors):
        return None
    solved = np.linalg.solve(np.asarray(covariances, np.float64)[mask], errors[..., None])[..., 0]
    return float(np.median((errors * solved).sum(1)))


def _mean(values: Array) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _coco(
    people: Sequence[PersonKeypoints], points: Array, scores: Array
) -> dict[str, float | None]:
    """Return AP and AR of pycocotools."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UsageError(
            f"scoring keypoints needs pycocotools, which is not installed ({error}). "
            "Install it with: pip install pycocotools"
        ) from None
    pictures = {path: number for number, path in enumerate(dict.fromkeys(p.path for p in people))}
    sides = []
    for rows in (_truths(people, pictures), _found(people, points, scores, pictures)):
        side = COCO()
        side.dataset = {
            "images": [{"id": number} for number in pictures.values()],
            "annotations": rows,
            "categories": [{"id": 1}],
        }
        sides.append(side)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints every step
        for side in sides:
            side.createIndex()
        evaluation = COCOeval(*sides, "keypoints")
        evaluation.params.kpt_oks_sigmas = SIGMAS
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75, medium, large, ar = (None if s < 0 else float(s) for s in evaluation.stats[:6])
    return {
        "ap": ap,
        "ap50": ap50,
        "ap75": ap75,
        "ap_medium": medium,
        "ap_large": large,
        "ar": ar,
    }


def _truths(people: Sequence[PersonKeypoints], pictures: dict[Any, int]) -> list[dict[str, Any]]:
    return [
        _row(one, one.points, np.where(one.weights > 0, 2, 0), pictures)
        | {
            "id": number,
            "area": one.area,
            "iscrowd": 0,
            "num_keypoints": int((one.weights > 0).sum()),
        }
        for number, one in enumerate(people, 1)
    ]


def _found(
    people: Sequence[PersonKeypoints], points: Array, scores: Array, pictures: dict[Any, int]
) -> list[dict[str, Any]]:
    return [
        _row(one, estimated, np.ones(len(NAMES)), pictures)
        | {"id": number, "area": one.area, "score": float(score.mean())}
        for number, (one, estimated, score) in enumerate(
            zip(people, points, scores, strict=True), 1
        )
    ]


def _row(
    one: PersonKeypoints, points: Array, visible: Array, pictures: dict[Any, int]
) -> dict[str, Any]:
    low, high = one.box[:2], one.box[2:]
    return {
        "image_id": pictures[one.path],
        "category_id": 1,
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "keypoints": np.column_stack([points, visible]).ravel().tolist(),
    }
