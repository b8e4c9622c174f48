"""Automatic annotation: the choice of pictures from a video, and the COCO rows of detections.

A detection with a high score becomes a person. One with a medium score becomes a region to ignore,
since it may be wrong as a person, and may be wrong as background as well. Weaker detections are
dropped.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import cv2
import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from streamvis.errors import UsageError
from streamvis.messages import Array, Detections
from streamvis.sources import Picture

Label = Literal["gt", "predicted"]

PERSON = 1
BLOCK = 16  # px, side of the blocks whose means are compared to find motion
CHANGE = 5.0  # grey levels, least change of a block's mean; noise and compression stay below
LEAST_SIDE = 1.0  # px, least width and height of a box
FINE = 8  # points of an outline to a cell of the mask
SIMPLER = FINE / 4  # tolerance of a simplified outline: a quarter of a cell
LEAST_PART = 0.05  # of the largest part of a mask; smaller parts are dropped


class LabelPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of automatic annotation: the interval of pictures and the score thresholds."""

    every: float  # seconds from one picture to the next
    sure: float  # score from which a detection is a person
    unsure: float  # score from which it is a region to ignore
    most: int | None = None  # pictures in all, to be shared by the sources
    masks: bool = True

    def __post_init__(self) -> None:
        if self.unsure > self.sure:
            raise UsageError(
                f"--unsure {self.unsure:g} is above --sure {self.sure:g}; expected it at or below"
            )

    @property
    def options(self) -> list[str]:
        """The settings as options of the command line."""
        words = ["--every", f"{self.every:g}", "--sure", f"{self.sure:g}"]
        words += ["--unsure", f"{self.unsure:g}"]
        words += ["--most", f"{self.most}"] if self.most else []
        return words if self.masks else [*words, "--no-masks"]


class CocoImage(msgspec.Struct, frozen=True, kw_only=True):
    """One annotated image in COCO's fields, with its source and media time."""

    id: int
    file_name: str
    width: int
    height: int
    source: str
    media_us: int = 0


class CocoAnnotation(msgspec.Struct, frozen=True, kw_only=True):
    """One person, or a region to ignore, which has `iscrowd: 1`."""

    id: int
    image_id: int
    category_id: int = PERSON
    iscrowd: Literal[0, 1]
    bbox: tuple[float, float, float, float]  # left, top, width, height in pixels
    area: float  # px², of the segmentation where there is one
    segmentation: list[list[float]]  # polygons x, y, x, y, …; empty: no mask is known
    score: float
    box_label: Label = "predicted"
    mask_label: Literal["gt", "predicted", "none"]
    # of people whose keypoints were labelled; COCO's 17 points, in its order
    keypoints: list[float] | UnsetType = UNSET  # x, y, v, …; v is 2 where the point is sure, else 0
    num_keypoints: int | UnsetType = UNSET  # that are sure
    point_scores: list[float] | UnsetType = UNSET  # probability that the point is right
    world: list[float] | UnsetType = UNSET  # x, y, z, …: metres about the middle of the hips
    presence: float | UnsetType = UNSET  # probability that there is a person
    track: int | UnsetType = UNSET  # of people along tracks: the row of clips.csv, from 1


def chosen(pictures: Iterable[Picture], every_s: float) -> Iterator[Picture]:
    """Yield the first picture of every `every_s` seconds if it differs from the last one yielded.

    It differs when the mean of a block of 16×16 pixels changed by more than 5 grey levels.
    """
    every_us = max(round(every_s * 1e6), 1)
    turn, last = -1, None
    for picture in pictures:
        if picture.media_us // every_us == turn:
            continue
        turn = picture.media_us // every_us
        blocks = block_means(picture.pixels)
        if last is None or blocks.shape != last.shape or np.abs(blocks - last).max() > CHANGE:
            last = blocks
            yield picture


def block_means(pixels: Array) -> Array:
    """Return mean grey levels (h, w) float32 of blocks of about 16×16 px of a picture (H, W, 3)."""
    height, width = pixels.shape[:2]
    size = (max(round(width / BLOCK), 1), max(round(height / BLOCK), 1))
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA))


def annotate(
    found: Detections, image: CocoImage, first_id: int, plan: LabelPlan
) -> list[CocoAnnotation]:
    """Return the rows of one picture: people from score `sure`, ignored regions from `unsure`."""
    limit = np.tile([image.width, image.height], 2)
    boxes = np.clip(np.asarray(found.boxes, np.float64).reshape(-1, 4), 0, limit)
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = (
        (found.labels == PERSON) & (found.scores >= plan.unsure) & (sides >= LEAST_SIDE).all(axis=1)
    )
    rows = []
    for id_, i in enumerate(np.flatnonzero(kept), first_id):
        is_person = bool(found.scores[i] >= plan.sure)
        parts = outline(found.masks[i], found.boxes[i]) if is_person and found.masks.size else []
        score = float(found.scores[i])
        rows.append(row_of(boxes[i], parts, image, id_, score=score, ignored=not is_person))
    return rows


def row_of(
    box: Array,
    polygons: list[list[float]],
    image: CocoImage,
    id_: int,
    *,
    score: float = 1.0,
    ignored: bool = False,
    box_label: Label = "predicted",
    mask_label: Label = "predicted",
) -> CocoAnnotation:
    """Return the row of one box (4,) xyxy of an image; `mask_label` counts if there is a mask."""
    left, top, right, bottom = box.tolist()
    area = sum(map(_area, polygons)) if polygons else (right - left) * (bottom - top)
    return CocoAnnotation(
        id=id_,
        image_id=image.id,
        iscrowd=1 if ignored else 0,
        bbox=(round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)),
        area=round(area, 2),
        segmentation=polygons,
        score=round(score, 4),
        box_label=box_label,
        mask_label=mask_label if polygons else "none",
    )


def outline(mask: Array, box: Array) -> list[list[float]]:
    """Return polygons [x, y, x, y, …] in pixels around a mask (M, M) of 255·probability.

    The mask is interpolated as `geometry.paste_mask` does, with a border of one empty cell.
    Holes are filled, since COCO's polygons have none.
    """
    cells = mask.shape[0]
    side = (cells + 2) * FINE
    smooth = cv2.resize(np.pad(mask, 1), (side, side), interpolation=cv2.INTER_LINEAR)
    inside = (smooth > 127).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(contour) for contour in contours]
    scale = (box[2:] - box[:2]) / cells  # (2,) px of a cell
    polygons = []
    for contour, area in zip(contours, areas, strict=True):
        points = cv2.approxPolyDP(contour, SIMPLER, closed=True)[:, 0]  # (K, 2)
        if area >= max(LEAST_PART * max(areas), 1) and len(points) >= 3:
            placed = box[:2] + ((points + 0.5) / FINE - 1) * scale
            polygons.append(np.round(placed.astype(np.float64), 2).ravel().tolist())
    return polygons


def _area(polygon: list[float]) -> float:
    return float(cv2.contourArea(np.array(polygon, np.float32).reshape(-1, 2)))
