"""Several detectors that label together: each in several views of a picture, their boxes fused.

A detector sees the picture whole, mirrored, and in two overlapping tiles, in which people are
larger. The score of a person is the mean over the detectors, so that of two detectors one alone
never gives more than 0.5. Masks come from a network that looks at one person after the other.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from streamvis.geometry import covered, iou
from streamvis.messages import Array, Detections
from streamvis.training.detector.annotation import PERSON
from streamvis.training.detector.auto_label import Detect
from streamvis.training.detector.box_fusion import ScoredBoxes, fuse, limits_of, within
from streamvis.training.detector.pose_teacher import PersonSeen, PoseTeacher

TILE = 0.6  # of the longer side of the picture
GRID = 56  # cells a side of a mask over its box
LIKELY = 0.3  # score from which a box may occlude others
NO_LIMITS = np.array([-np.inf, -np.inf, np.inf, np.inf])
# A mask is used where the teacher is sure of the person, by its agreement with true masks
PRESENT = 0.9  # least probability that there is a person
FITS = 0.8  # least IoU of the mask's own box with the person's box
OVERLAPPED = 0.3  # of the box that another person's box covers, at most: it shows one person
TALL = 1.8  # least height over width: half bodies are often wrong


class Ensemble:
    """One detector or several, and perhaps a teacher of masks; pixels -> people, as a detector."""

    def __init__(self, detectors: Sequence[Detect], teacher: PoseTeacher | None = None) -> None:
        self._detectors = detectors
        self._teacher = teacher

    def __call__(self, pixels: Array) -> Detections:
        """Return the people of a picture (H, W, 3) with their masks, as a detector does."""
        boxes, scores = self.find(pixels)
        likely = scores >= LIKELY
        masks = np.zeros((len(boxes), GRID, GRID), np.uint8)
        masks[likely] = self.masks(pixels, boxes[likely])
        return Detections(
            boxes=boxes.astype(np.float32),
            scores=scores.astype(np.float32),
            labels=np.full(len(boxes), PERSON, np.int32),
            masks=masks,
        )

    def find(self, pixels: Array) -> tuple[Array, Array]:
        """Return boxes (K, 4) and scores (K,) of people, by score."""
        found = [
            ScoredBoxes(*fuse(_in_views(detect, pixels)), NO_LIMITS) for detect in self._detectors
        ]
        boxes, scores = fuse(found)
        order = np.argsort(-scores, kind="stable")
        return boxes[order], scores[order]

    def masks(self, pixels: Array, boxes: Array) -> Array:
        """Return masks (N, GRID, GRID) of 255·probability over the boxes of all people.

        A mask is zero where the teacher is not sure, or where there is no teacher.
        """
        masks = np.zeros((len(boxes), GRID, GRID), np.uint8)
        if self._teacher is None or not len(boxes):
            return masks
        sides = boxes[:, 2:] - boxes[:, :2]
        by_others = covered(boxes, boxes) - np.eye(len(boxes))
        alone = by_others.max(axis=1) <= OVERLAPPED
        for i in np.flatnonzero(alone & (sides[:, 1] >= TALL * sides[:, 0])):
            seen = self._teacher.look(pixels, boxes[i])
            if is_sure(seen, boxes[i]):
                masks[i] = over_box(seen, boxes[i])
        return masks


def is_sure(seen: PersonSeen, box: Array) -> bool:
    """Return whether the mask may be learnt from: a person, and one who fills the box."""
    rows, columns = np.nonzero(seen.mask > 127)
    if seen.presence < PRESENT or not len(rows):
        return False
    corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    scale = (seen.crop[2:] - seen.crop[:2]) / len(seen.mask)
    own = np.tile(seen.crop[:2], 2) + corners * np.tile(scale, 2)
    return bool(iou(own[None], box[None])[0, 0] >= FITS)


def over_box(seen: PersonSeen, box: Array) -> Array:
    """Return the mask (GRID, GRID) over the box instead of over the crop."""
    cell = (box[2:] - box[:2]) / GRID  # px of the picture
    scale = cell * len(seen.mask) / (seen.crop[2:] - seen.crop[:2])  # cells of the crop to a cell
    shift = (box[:2] - seen.crop[:2]) * scale / cell + (scale - 1) / 2
    affine = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(seen.mask, affine, (GRID, GRID), flags=flags))


def _in_views(detect: Detect, pixels: Array) -> list[ScoredBoxes]:
    height, width = pixels.shape[:2]
    whole = np.array([0, 0, width, height])
    first, second = whole.copy(), whole.copy()
    axis = 0 if width >= height else 1  # the tiles are beside, or above, each other
    first[2 + axis] = round(TILE * whole[2 + axis])
    second[axis] = whole[2 + axis] - first[2 + axis]
    return [
        _in_view(detect, pixels, whole),
        _in_view(detect, pixels, whole, mirrored=True),
        _in_view(detect, pixels, first),
        _in_view(detect, pixels, second),
    ]


def _in_view(detect: Detect, pixels: Array, part: Array, *, mirrored: bool = False) -> ScoredBoxes:
    left, top, right, bottom = part.tolist()
    seen = pixels[top:bottom, left:right]
    found = detect(np.ascontiguousarray(seen[:, ::-1] if mirrored else seen))
    people = found.labels == PERSON
    boxes, scores = found.boxes[people].astype(np.float64), found.scores[people].astype(np.float64)
    if mirrored:
        boxes[:, [0, 2]] = (right - left) - boxes[:, [2, 0]]
    boxes += np.tile([left, top], 2)
    limits = limits_of(part, *pixels.shape[:2])
    clear = within(boxes, limits)
    return ScoredBoxes(boxes[clear], scores[clear], limits)
