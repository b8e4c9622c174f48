"""False positives and missed people of a detector, the worst first.

    scores, matches = examine(truth, detections)  # of evaluation.detection
    wrong, missed = mistakes(truth, matches, scores.threshold, film=True)

A video repeats an error in many frames; it is reported once, with the number of frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from streamvis.datasets.coco import ImageTruth
from streamvis.geometry import area, covered, iou
from streamvis.messages import Array, Detections

NEAR = 3  # largest gap in frames between repetitions of one error
SAME_REGION_IOU = 0.3  # IoU


@dataclass(frozen=True)
class Matches:
    """The matching of one image at IoU .5, as used for the scores."""

    boxes: Array  # (N, 4) float64, detections of people, best first
    scores: Array  # (N,)
    wrong: Array  # (N,) bool, unmatched: a false positive
    counts: Array  # (G,) bool, people who are not ignored
    finder: Array  # (G,) index of the matched detection, -1: none


@dataclass(frozen=True)
class Mistake:
    """A false positive, or a missed person."""

    picture: int  # index
    box: Array  # (4,)
    score: float  # of the detection; for a missed person of a detection below the threshold, or 0
    iou: float  # largest IoU with a person, or of a person with a detection
    weight: float  # sort key: the score, or the visible pixels of a person
    pictures: int = 1  # number of consecutive images with it


def read_matches(
    evaluation: Any,  # of pycocotools; its first area range contains everyone
    detections: Sequence[Detections],  # as they were given to it, best first
    truth: Sequence[ImageTruth],
) -> list[Matches]:
    """Read the matching of each image from pycocotools."""
    matches = []
    first_truth = first_found = 1  # ids are consecutive over images
    pictures = zip(evaluation.evalImgs, detections, truth, strict=False)  # further ranges follow
    for one, found, there in pictures:
        finder = np.full(len(there.boxes), -1)
        counts = np.zeros(len(there.boxes), bool)
        wrong = np.zeros(len(found.boxes), bool)
        if one is not None:  # None: no people and no detections
            own = np.array(one["gtIds"], int) - first_truth
            counts[own] = np.asarray(one["gtIgnore"]) == 0
            finder[own] = np.asarray(one["gtMatches"][0], int) - first_found
            ranked = np.array(one["dtIds"], int) - first_found
            wrong[ranked] = (one["dtMatches"][0] == 0) & ~one["dtIgnore"][0]
        matches.append(
            Matches(
                boxes=np.asarray(found.boxes, np.float64),
                scores=np.asarray(found.scores, np.float64),
                wrong=wrong,
                counts=counts,
                finder=np.maximum(finder, -1),  # unmatched is id 0
            )
        )
        first_truth += len(there.boxes)
        first_found += len(found.boxes)
    return matches


def mistakes(
    truth: Sequence[ImageTruth], matches: Sequence[Matches], threshold: float, film: bool
) -> tuple[list[Mistake], list[Mistake]]:
    """Return false positives by score, and missed people by visible area."""
    wrong, missed = [], []
    for i, (there, match) in enumerate(zip(truth, matches, strict=True)):
        overlap = iou(match.boxes, there.boxes)  # (N, G)
        passes = match.scores >= threshold
        for n in np.flatnonzero(match.wrong & passes).tolist():
            closest = float(overlap[n][match.counts].max(initial=0))
            score = float(match.scores[n])
            wrong.append(Mistake(i, match.boxes[n], score, closest, weight=score))
        for g in np.flatnonzero(_missed(match, threshold)).tolist():
            closest = float(overlap[passes, g].max(initial=0))
            finder = match.finder[g]
            weak = float(match.scores[finder]) if finder >= 0 else 0.0
            missed.append(Mistake(i, there.boxes[g], weak, closest, _in_view(there, g)))
    return _once(wrong, film), _once(missed, film)


def _missed(match: Matches, threshold: float) -> Array:
    """Whether (G,) people are missed at this threshold; matching is by falling score."""
    scores = np.append(match.scores, -np.inf)  # of -1
    return match.counts & ~(scores[match.finder] >= threshold)


def _in_view(truth: ImageTruth, index: int) -> float:
    """Return the pixels of a box in the image that nearer people do not cover."""
    boxes = np.clip(truth.boxes, 0, [truth.width, truth.height] * 2)
    box = boxes[index : index + 1]
    nearer = boxes[(truth.boxes[:, 3] > truth.boxes[index, 3]) & ~truth.crowd]
    return float(area(box)[0] * (1 - covered(box, nearer).max(initial=0)))


def _once(found: list[Mistake], film: bool) -> list[Mistake]:
    """Sort by falling weight; in a video keep only the heaviest of repeated errors."""
    groups = _groups(found) if film else np.arange(len(found))
    members = np.bincount(groups) if found else groups
    taken = set()
    worst = []
    for i in np.argsort([-one.weight for one in found], kind="stable"):
        if (group := int(groups[i])) not in taken:
            taken.add(group)
            worst.append(replace(found[i], pictures=int(members[group])))
    return worst


def _groups(found: list[Mistake]) -> Array:
    """Label errors; a chain of close frames and overlapping boxes shares one label."""
    pictures = np.array([one.picture for one in found], int)  # ascending
    boxes = np.array([one.box for one in found]).reshape(-1, 4)
    rows, columns = [], []
    for picture in np.unique(pictures):
        start, end, far = np.searchsorted(pictures, [picture, picture + 1, picture + NEAR + 1])
        i, j = np.nonzero(iou(boxes[start:end], boxes[end:far]) >= SAME_REGION_IOU)
        rows.append(start + i)
        columns.append(end + j)
    if not rows:
        return np.zeros(0, int)
    i, j = np.concatenate(rows), np.concatenate(columns)
    links = coo_array((np.ones(len(i), bool), (i, j)), shape=(len(found), len(found)))
    return connected_components(links, directed=False)[1]
