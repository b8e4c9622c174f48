"""Scores of person detection: COCO average precision, height bands, F1 and miss rate.

    scores = evaluate(truth_of(sequence), detections)  # one of each per image
    scores = evaluate(read_coco(Path("annotations.json")), detections)

Only people are scored. Regions that the ground truth ignores count neither as hits nor as errors.
pycocotools computes the matching.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamvis.datasets import motchallenge
from streamvis.datasets.coco import ImageTruth
from streamvis.errors import DataError, UsageError
from streamvis.evaluation.mistakes import Matches, read_matches
from streamvis.geometry import paste_mask
from streamvis.messages import Array, Detections

PERSON = 1
CROWD = 13  # class of MOT16 for crowd regions
MAX_PER_IMAGE = 300  # crowded frames exceed COCO's 100
TALLEST = 1e9
HEIGHT_BANDS = {"<50": (0, 50), "50-100": (50, 100), "100-200": (100, 200), ">=200": (200, TALLEST)}
FPPI = np.logspace(-2, 0, 9)  # false positives per image at which the miss rate is sampled


@dataclass(frozen=True)
class DetectionScores:
    """Scores in [0, 1]; None if undefined."""

    pictures: int
    people: int  # in the ground truth, without ignored ones
    detections: int
    ap: float | None  # COCO: mean over IoU .50:.05:.95
    ap50: float | None
    ap75: float | None
    ap_by_height: dict[str, float | None]  # height in px -> ap
    f1: float | None  # at IoU .5, the best over all thresholds
    threshold: float | None  # the score at which it is reached
    precision: float | None  # at this threshold
    recall: float | None
    miss_rate: float | None  # Caltech: log average over 0.01 to 1 false positives per image
    curve: list[float]  # precision at recall 0, .01, … 1 and IoU .5
    mask_ap: float | None  # None without masks on both sides
    mask_ap50: float | None


def truth_of(sequence: motchallenge.Sequence) -> list[ImageTruth]:
    """Return the ground truth of each frame; ignore distractors and rows with flag 0."""
    rows = sequence.truth
    if rows is None:
        raise DataError(
            f"{sequence.folder} has no gt/gt.txt; expected ground truth to score against"
        )
    like_people = [motchallenge.PEDESTRIAN, *motchallenge.DISTRACTORS, CROWD]
    rows = rows.where(np.isin(rows.classes, like_people))
    return [
        ImageTruth(
            name=f"{sequence.name}:{number}",
            width=sequence.width,
            height=sequence.height,
            boxes=at.boxes,
            ignore=(at.scores == 0) | (at.classes != motchallenge.PEDESTRIAN),
            crowd=at.classes == CROWD,
            masks=(None,) * len(at),
        )
        for number, at in enumerate(rows.by_frame(sequence.length), 1)
    ]


def detections_of(rows: motchallenge.Rows, length: int) -> list[Detections]:
    """Return the detections of a MOTChallenge file, one part for each of `length` frames."""
    return [
        Detections(
            boxes=at.boxes.astype(np.float32),
            scores=at.scores.astype(np.float32),
            labels=np.full(len(at), PERSON, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8),
        )
        for at in rows.where(np.argsort(-rows.scores, kind="stable")).by_frame(length)
    ]


def evaluate(truth: Sequence[ImageTruth], detections: Sequence[Detections]) -> DetectionScores:
    """Score the detections of each image against its ground truth."""
    return examine(truth, detections)[0]


def examine(
    truth: Sequence[ImageTruth], detections: Sequence[Detections]
) -> tuple[DetectionScores, list[Matches]]:
    """Score as `evaluate`, and return the matching of each image."""
    if len(truth) != len(detections):
        raise DataError(
            f"{len(detections)} parts of detections found for {len(truth)} images, expected one "
            "for each image, an empty one if there are no detections"
        )
    detections = [_people(found) for found in detections]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints every step
        boxes = _match(truth, detections, masks=False)
        masked = [i for i, one in enumerate(truth) if _has_masks(one)]
        some = any(_with_masks(detections[i]) for i in masked)
        masks = (
            _match([truth[i] for i in masked], [detections[i] for i in masked], masks=True)
            if some
            else None
        )
    ranked = _Ranking.of(boxes, len(truth))
    at = ranked.best()
    scores = DetectionScores(
        pictures=len(truth),
        people=ranked.people,
        detections=sum(len(found.boxes) for found in detections),
        ap=_ap(boxes),
        ap50=_ap(boxes, iou=0),
        ap75=_ap(boxes, iou=5),
        ap_by_height={name: _ap(boxes, band=i) for i, name in enumerate(HEIGHT_BANDS, 1)},
        f1=None if at is None else float(ranked.f1()[at]),
        threshold=None if at is None else float(ranked.scores[at]),
        precision=None if at is None else float(ranked.precision[at]),
        recall=None if at is None else float(ranked.recall[at]),
        miss_rate=ranked.miss_rate(),
        curve=np.maximum(boxes.eval["precision"][0, :, 0, 0, 0], 0).tolist(),
        mask_ap=None if masks is None else _ap(masks),
        mask_ap50=None if masks is None else _ap(masks, iou=0),
    )
    return scores, read_matches(boxes, detections, truth)


def _people(found: Detections) -> Detections:
    """Return the detections of people, best first, at most MAX_PER_IMAGE."""
    boxes = np.asarray(found.boxes, np.float64).reshape(-1, 4)
    if not (np.isfinite(boxes).all() and np.isfinite(found.scores).all()):
        raise DataError("a box or score of a detection is NaN or infinite, expected finite numbers")
    order = np.argsort(-np.asarray(found.scores, np.float64), kind="stable")
    keep = order[found.labels[order] == PERSON][:MAX_PER_IMAGE]
    return Detections(
        boxes=boxes[keep],
        scores=found.scores[keep],
        labels=found.labels[keep],
        masks=found.masks[keep] if len(found.masks) else found.masks,
    )


def _has_masks(truth: ImageTruth) -> bool:
    """Whether masks can be scored: people have masks, or there are no people."""
    counted = ~(truth.ignore | truth.crowd)
    return not counted.any() or any(truth.masks[i] is not None for i in np.flatnonzero(counted))


def _with_masks(found: Detections) -> bool:
    return len(found.masks) > 0


def _match(truth: Sequence[ImageTruth], detections: Sequence[Detections], masks: bool) -> Any:
    """Run the evaluation of pycocotools, matched and accumulated.

    It compares `area` with a range; here `area` is the height, and −1, outside of all ranges,
    ignores a single object without making it a crowd.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UsageError(
            f"scoring detections needs pycocotools, which is not installed ({error}). "
            "Install it with: pip install pycocotools"
        ) from None
    images = [{"id": i, "height": t.height, "width": t.width} for i, t in enumerate(truth)]
    sides = []
    for annotations in (_truths(truth, masks), _found(truth, detections, masks)):
        side = COCO()
        side.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": PERSON}],
        }
        side.createIndex()
        sides.append(side)
    evaluation = COCOeval(*sides, "segm" if masks else "bbox")
    bands = [(low, np.nextafter(high, 0)) for low, high in HEIGHT_BANDS.values()]
    evaluation.params.areaRng = [(0, TALLEST), *([] if masks else bands)]
    evaluation.params.maxDets = [MAX_PER_IMAGE]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _truths(truth: Sequence[ImageTruth], masks: bool) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for i, one in enumerate(truth):
        for box, ignore, crowd, mask in zip(
            one.boxes, one.ignore, one.crowd, one.masks, strict=True
        ):
            unknown = masks and mask is None  # replaced by its box, and ignored
            annotations.append(
                _annotation(i, box)
                | {
                    "id": len(annotations) + 1,  # 0 means "unmatched"
                    "iscrowd": int(crowd),
                    "area": -1.0 if ignore or unknown else box[3] - box[1],
                    "segmentation": mask if mask is not None else _outline(box),
                }
            )
    return annotations


def _found(
    truth: Sequence[ImageTruth], detections: Sequence[Detections], masks: bool
) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for i, (one, found) in enumerate(zip(truth, detections, strict=True)):
        for j, (box, score) in enumerate(zip(found.boxes, found.scores, strict=True)):
            annotations.append(
                _annotation(i, box)
                | {
                    "id": len(annotations) + 1,
                    "score": float(score),
                    "area": box[3] - box[1],
                    "segmentation": _run_lengths(found, j, one) if masks else None,
                }
            )
    return annotations


def _annotation(picture: int, box: Array) -> dict[str, Any]:
    x1, y1, x2, y2 = box.tolist()
    return {"image_id": picture, "category_id": PERSON, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def _outline(box: Array) -> list[list[float]]:
    x1, y1, x2, y2 = box.tolist()
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def _run_lengths(found: Detections, index: int, truth: ImageTruth) -> Any:
    from pycocotools import mask as coco_mask

    pixels = np.zeros((truth.height, truth.width), np.uint8, order="F")
    if len(found.masks):
        rows, columns, patch = paste_mask(
            found.masks[index], found.boxes[index], truth.height, truth.width
        )
        pixels[rows, columns] = patch
    return coco_mask.encode(pixels)


def _ap(evaluation: Any, iou: int | None = None, band: int = 0) -> float | None:
    """Return the mean precision over recalls, and over IoU .50:.05:.95 unless `iou` is given."""
    precision = evaluation.eval["precision"][:, :, 0, band, 0]  # (10, 101), -1: no people
    picked = precision if iou is None else precision[iou]
    return None if (picked < 0).any() else float(picked.mean())


@dataclass(frozen=True)
class _Ranking:
    """Precision and recall at IoU .5 for every distinct score as the threshold, falling."""

    people: int
    pictures: int
    scores: Array  # (K,) descending
    tp: Array  # (K,) true positives at this threshold
    fp: Array  # (K,)

    @classmethod
    def of(cls, evaluation: Any, pictures: int) -> "_Ranking":
        seen = [one for one in evaluation.evalImgs[:pictures] if one is not None]  # band 0: all
        scores = np.array([score for one in seen for score in one["dtScores"]])
        hit = np.concatenate([np.empty(0), *(one["dtMatches"][0] for one in seen)]) > 0
        counts = ~np.concatenate([np.empty(0, bool), *(one["dtIgnore"][0] for one in seen)])
        order = np.argsort(-scores, kind="stable")
        order = order[counts[order]]
        last = np.append(np.diff(scores[order]) != 0, True)[: len(order)]  # of each equal score
        return cls(
            people=sum(int(np.sum(one["gtIgnore"] == 0)) for one in seen),
            pictures=pictures,
            scores=scores[order][last],
            tp=np.cumsum(hit[order])[last],
            fp=np.cumsum(~hit[order])[last],
        )

    @property
    def precision(self) -> Array:
        return self.tp / (self.tp + self.fp)

    @property
    def recall(self) -> Array:
        return self.tp / max(self.people, 1)

    def f1(self) -> Array:
        return 2 * self.tp / (self.tp + self.fp + self.people)

    def best(self) -> int | None:
        return int(self.f1().argmax()) if self.people and len(self.scores) else None

    def miss_rate(self) -> float | None:
        """Return the log-average miss rate at nine rates of false positives per image.

        As Dollár et al. 2012 (§3.1) and their toolbox: beyond the end of the curve its last point
        is used, before its first point the miss rate is 1.
        """
        if not self.people:
            return None
        missed = np.append(1.0, 1 - self.recall)  # above the first threshold
        fppi = np.append(0.0, self.fp / self.pictures)
        at = np.searchsorted(fppi, FPPI, side="right") - 1
        return float(np.exp(np.log(np.maximum(missed[at], 1e-10)).mean()))
