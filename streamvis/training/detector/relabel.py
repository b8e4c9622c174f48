"""Labelled pictures labelled again: true labels stay, and what networks labelled is replaced."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.datasets.coco import ImageTruth, read_coco
from streamvis.datasets.pictures import read_picture
from streamvis.geometry import covered, iou, overlaps
from streamvis.messages import Array
from streamvis.training.detector.annotation import (
    CocoAnnotation,
    CocoImage,
    Label,
    LabelPlan,
    outline,
    row_of,
)
from streamvis.training.detector.coco_folder import CocoFolder
from streamvis.training.detector.ensemble import Ensemble

SAME = 0.5  # IoU from which two boxes are of one person
WITHIN = 0.7  # share of a box in a true region to ignore from which it is part of it


class Changes(msgspec.Struct):
    """What became of the labels of a folder."""

    source: str
    pictures: int = 0
    true: int = 0  # people with true boxes, which are kept
    confirmed: int = 0  # people labelled by a network who are found again
    doubted: int = 0  # those who are not: regions to ignore now
    added: int = 0  # people who had no label
    in_doubt: int = 0  # regions to ignore
    masks: int = 0  # masks by the teacher


class Labels(NamedTuple):
    """The new boxes of one picture."""

    kept: Array  # (T,) int, rows of the truth that stay
    people: Array  # (P, 4) found, beside those
    scores: Array  # (P,)
    doubts: Array  # (D, 4) regions to ignore
    doubt_scores: Array  # (D,), 0 for those that nobody finds now


def relabel_folder(root: Path, folder: CocoFolder, label: Ensemble, plan: LabelPlan) -> None:
    """Label the pictures of a COCO folder again; those in `folder` already are kept."""
    truths = read_coco(root / "annotations.json")
    names = _names(root, truths)
    for truth in truths:
        if plan.most is not None and len(folder) >= plan.most:
            break
        name = names[truth.name]
        if name in folder:
            continue
        path = root / "images" / truth.name
        pixels = read_picture(path, truth.size)
        image = CocoImage(
            id=folder.next_image,
            file_name=name,
            width=truth.width,
            height=truth.height,
            source=truth.source or root.resolve().name,
        )
        boxes, scores = label.find(pixels)
        limit = np.tile([truth.width, truth.height], 2)
        labels = combine(truth, boxes.clip(0, limit), scores, plan)
        rows = _rows(truth, labels, label, pixels, image, folder.next_annotation)
        folder.put(path.read_bytes(), image, rows)


def changes_of(root: Path, folder: CocoFolder) -> Changes:
    """Compare the labels of a folder with those that it had before."""
    images = {image.file_name: image.id for image in folder.labels.images}
    after: dict[int, list[CocoAnnotation]] = {}
    for row in folder.labels.annotations:
        after.setdefault(row.image_id, []).append(row)
    changes = Changes(root.resolve().name)
    truths = read_coco(root / "annotations.json")
    names = _names(root, truths)
    for truth in truths:
        if (id_ := images.get(names[truth.name])) is not None:
            _count(changes, truth, after.get(id_, []))
    return changes


def combine(truth: ImageTruth, boxes: Array, scores: Array, plan: LabelPlan) -> Labels:
    """Decide which labels stay, who is added, and what is in doubt.

    True boxes stay. Those found with a score from `sure` are people, unless they have a true box
    or lie in a true region to ignore. Those from `unsure`, second ones where one true box is, and
    whatever networks labelled before and nobody finds now, are in doubt: they may be people, and
    may be none.
    """
    predicted = _predicted(truth.predicted_boxes, truth)
    ignored = truth.ignore | truth.crowd
    true, regions = truth.boxes[~predicted], truth.boxes[~predicted & ignored]
    free = ~_matched(boxes, true)
    if len(regions):
        free &= covered(boxes, regions).max(axis=1) < WITHIN
    double = iou(boxes, true).max(axis=1, initial=0) >= SAME  # of one who has a true box, or behind
    sure = free & ~double & (scores >= plan.sure)
    people = boxes[sure]
    doubtful = free & ~sure & (scores >= plan.unsure)
    doubts = boxes[doubtful]
    before = truth.boxes[predicted]
    lost = before[~_matched(before, np.concatenate([true, people, doubts]))]
    return Labels(
        np.flatnonzero(~predicted),
        people,
        scores[sure],
        np.concatenate([doubts, lost]),
        np.concatenate([scores[doubtful], np.zeros(len(lost))]),
    )


def _rows(
    truth: ImageTruth, labels: Labels, label: Ensemble, pixels: Array, image: CocoImage, first: int
) -> list[CocoAnnotation]:
    """Return the rows of one picture: kept labels, people who were found, regions to ignore."""
    ignored = (truth.ignore | truth.crowd)[labels.kept]
    kept, regions = labels.kept[~ignored], labels.kept[ignored]
    masks = label.masks(pixels, np.concatenate([truth.boxes[kept], labels.people]))
    drawn = _predicted(truth.predicted_masks, truth)
    true: Label = "gt"
    predicted: Label = "predicted"
    ids = count(first)
    rows = []
    for i, mask in zip(kept, masks, strict=False):
        before = truth.masks[i] if isinstance(truth.masks[i], list) else []
        if before and not drawn[i]:
            parts, mask_label = before, true
        else:
            parts, mask_label = outline(mask, truth.boxes[i]) or before, predicted
        row = row_of(truth.boxes[i], parts, image, next(ids), box_label=true, mask_label=mask_label)
        rows.append(row)
    for box, score, mask in zip(labels.people, labels.scores, masks[len(kept) :], strict=True):
        rows.append(row_of(box, outline(mask, box), image, next(ids), score=float(score)))
    for i in regions:
        rows.append(row_of(truth.boxes[i], [], image, next(ids), ignored=True, box_label="gt"))
    for box, score in zip(labels.doubts, labels.doubt_scores, strict=True):
        rows.append(row_of(box, [], image, next(ids), score=float(score), ignored=True))
    return rows


def _predicted(flags: Array | None, truth: ImageTruth) -> Array:
    return np.zeros(len(truth.boxes), bool) if flags is None else flags


def _matched(boxes: Array, others: Array) -> Array:
    """Return which boxes (N,) show somebody of the others; each of these matches one at most.

    Pairs are taken by IoU, the largest first.
    """
    found = np.zeros(len(boxes), bool)
    taken = np.zeros(len(others), bool)
    near = overlaps(boxes, others)
    for k in np.argsort(-near.iou, kind="stable"):
        if near.iou[k] < SAME:
            break
        if not found[near.i[k]] and not taken[near.j[k]]:
            found[near.i[k]] = taken[near.j[k]] = True
    return found


def _count(changes: Changes, truth: ImageTruth, rows: list[CocoAnnotation]) -> None:
    told = ~(truth.ignore | truth.crowd)
    before = truth.boxes[_predicted(truth.predicted_boxes, truth) & told]
    added = [row.bbox for row in rows if row.box_label == "predicted" and not row.iscrowd]
    boxes = np.array(added, float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    confirmed = int(_matched(before, boxes).sum())
    changes.pictures += 1
    changes.true += sum(row.box_label == "gt" and not row.iscrowd for row in rows)
    changes.confirmed += confirmed
    changes.doubted += len(before) - confirmed
    changes.added += len(added) - confirmed
    changes.in_doubt += sum(row.iscrowd for row in rows)
    changes.masks += sum(
        bool(row.segmentation) and row.segmentation not in truth.masks for row in rows
    )


def _names(root: Path, truths: Sequence[ImageTruth]) -> dict[str, str]:
    """Return a file name for each picture of a folder: its path with `_` for `/`.

    Where that is the name of an earlier picture, or of one without `/`, it gets another `_`.
    """
    taken = {truth.name for truth in truths}
    names = {}
    for truth in truths:
        name = truth.name.replace("/", "_")
        while name != truth.name and name in taken:
            name = f"_{name}"
        taken.add(name)
        names[truth.name] = f"{root.resolve().name}_{name}"
    return names
