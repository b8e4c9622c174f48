"""Which detections were wrong and who was missed, worst first.

    scores, matches = examine(truth, detections)  # of evaluation.detection
    wrong, missed = mistakes(truth, matches, scores.threshold, film=True)

A film shows one mistake in many frames; it is reported once, with how many.
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

NEAR = 3  # frames apart at which a mistake in the same place is the same one
SAME_PLACE = 0.3  # IoU


@dataclass(frozen=True)
class Matches:
    """Who was matched with whom in one picture at IoU .5, as the scores have it."""

    boxes: Array  # (N, 4) float64, detections of people, best first
    scores: Array  # (N,)
    wrong: Array  # (N,) bool, on nobody: a false positive at every threshold it passes
    counts: Array  # (G,) bool, people who count
    finder: Array  # (G,) index of the detection that found this one, -1: none


@dataclass(frozen=True)
class Mistake:
    """A detection of nobody, or a person who was not detected."""

    picture: int  # index
    box: Array  # (4,)
    score: float  # of the detection; of a person, of the detection too weak to count, or 0
    iou: float  # the most with a person; of a person, with a detection
    weight: float  # mistakes come by it: the score, or the pixels of a person in view
    pictures: int = 1  # how many in a row show it


def read_matches(
    evaluation: Any,  # pycocotools', with its first area range holding everyone
    detections: Sequence[Detections],  # as they were given to it, best first
    truth: Sequence[ImageTruth],
) -> list[Matches]:
    """The matching that pycocotools made, one part for each picture."""
    matches = []
    first_truth = first_found = 1  # ids count on from picture to picture
    pictures = zip(evaluation.evalImgs, detections, truth, strict=False)  # further ranges follow
    for one, found, there in pictures:
        finder = np.full(len(there.boxes), -1)
        counts = np.zeros(len(there.boxes), bool)
        wrong = np.zeros(len(found.boxes), bool)
        if one is not None:  # None: nobody there and nobody found
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
    """False positives by score, and people missed by how much of them was in view."""
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
    """Whom (G,) nothing at this threshold found: matches are made best score first."""
    scores = np.append(match.scores, -np.inf)  # of -1
    return match.counts & ~(scores[match.finder] >= threshold)


def _in_view(truth: ImageTruth, index: int) -> float:
    """Pixels of a box inside the picture that no person whose feet are nearer covers."""
    boxes = np.clip(truth.boxes, 0, [truth.width, truth.height] * 2)
    box = boxes[index : index + 1]
    nearer = boxes[(truth.boxes[:, 3] > truth.boxes[index, 3]) & ~truth.crowd]
    return float(area(box)[0] * (1 - covered(box, nearer).max(initial=0)))


def _once(found: list[Mistake], film: bool) -> list[Mistake]:
    """Heaviest first; of a film, only the heaviest of those that follow each other in place."""
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
    """Numbers that mistakes share when a chain of near frames and close places joins them."""
    pictures = np.array([one.picture for one in found], int)  # ascending
    boxes = np.array([one.box for one in found]).reshape(-1, 4)
    rows, columns = [], []
    for picture in np.unique(pictures):
        start, end, far = np.searchsorted(pictures, [picture, picture + 1, picture + NEAR + 1])
        i, j = np.nonzero(iou(boxes[start:end], boxes[end:far]) >= SAME_PLACE)
        rows.append(start + i)
        columns.append(end + j)
    if not rows:
        return np.zeros(0, int)
    i, j = np.concatenate(rows), np.concatenate(columns)
    links = coo_array((np.ones(len(i), bool), (i, j)), shape=(len(found), len(found)))
    return connected_components(links, directed=False)[1]
