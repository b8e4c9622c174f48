"""From footage to rows of a COCO file: which pictures are labelled, and what is said of them.

A detection that the labeller is sure of becomes a person to learn from. One that it doubts becomes
a region to ignore: taught as a person it might be wrong, and left out it would be taught as
background. What is weaker still is dropped.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import cv2
import msgspec
import numpy as np

from streamvis.errors import UsageError
from streamvis.messages import Array, Detections
from streamvis.sources import Picture

PERSON = 1
BLOCK = 16  # px, side of the blocks whose mean tells whether something has moved
CHANGE = 5.0  # grey levels that a block mean must change by; noise and compression stay below
LEAST_SIDE = 1.0  # px; a box thinner than this has nothing in it
FINE = 8  # points of an outline to a cell of the mask
SIMPLER = FINE / 4  # how far a simplified outline may stray: a quarter of a cell
LEAST_PART = 0.05  # of the largest part of a mask; what is smaller is dropped


class LabelPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which pictures are labelled, and how sure a label must be."""

    every: float  # seconds from one picture to the next
    sure: float  # score from which a detection is a person
    unsure: float  # score from which it is a region to ignore
    most: int | None = None  # pictures in all, to be shared by the sources
    masks: bool = True

    def __post_init__(self) -> None:
        if self.unsure > self.sure:
            raise UsageError(f"--unsure {self.unsure:g} is above --sure {self.sure:g}")

    @property
    def options(self) -> list[str]:
        """As the command line has them."""
        words = ["--every", f"{self.every:g}", "--sure", f"{self.sure:g}"]
        words += ["--unsure", f"{self.unsure:g}"]
        words += ["--most", f"{self.most}"] if self.most else []
        return words if self.masks else [*words, "--no-masks"]


class CocoImage(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled picture, as COCO has it, with its source and time."""

    id: int
    file_name: str
    width: int
    height: int
    source: str
    media_us: int


class CocoAnnotation(msgspec.Struct, frozen=True, kw_only=True):
    """One person, or with `iscrowd` a region to ignore."""

    id: int
    image_id: int
    category_id: int = PERSON
    iscrowd: Literal[0, 1]
    bbox: tuple[float, float, float, float]  # left, top, width, height in pixels
    area: float  # px², of the segmentation where there is one
    segmentation: list[list[float]]  # polygons x, y, x, y, …; empty: no mask is known
    score: float
    box_label: Literal["predicted"] = "predicted"
    mask_label: Literal["predicted", "none"]


def chosen(pictures: Iterable[Picture], every_s: float) -> Iterator[Picture]:
    """The first picture of every `every_s` seconds, if something moved since the last one chosen.

    Something moved when a block of 16×16 pixels changed its mean by more than 5 grey levels.
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
    """Mean grey levels (h, w) float32 of blocks of about 16×16 pixels of a picture (H, W, 3)."""
    height, width = pixels.shape[:2]
    size = (max(round(width / BLOCK), 1), max(round(height / BLOCK), 1))
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA))


def annotate(
    found: Detections, image: CocoImage, first_id: int, plan: LabelPlan
) -> list[CocoAnnotation]:
    """The rows of one picture: people from `sure` on, regions to ignore from `unsure` on."""
    limit = np.tile([image.width, image.height], 2)
    boxes = np.clip(np.asarray(found.boxes, np.float64).reshape(-1, 4), 0, limit)
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = (
        (found.labels == PERSON) & (found.scores >= plan.unsure) & (sides >= LEAST_SIDE).all(axis=1)
    )
    rows = []
    for id_, i in enumerate(np.flatnonzero(kept), first_id):
        certain = bool(found.scores[i] >= plan.sure)
        parts = outline(found.masks[i], found.boxes[i]) if certain and found.masks.size else []
        (left, top), (width, height) = boxes[i, :2].tolist(), sides[i].tolist()
        rows.append(
            CocoAnnotation(
                id=id_,
                image_id=image.id,
                iscrowd=0 if certain else 1,
                bbox=(round(left, 2), round(top, 2), round(width, 2), round(height, 2)),
                area=round(sum(map(_area, parts)) if parts else width * height, 2),
                segmentation=parts,
                score=round(float(found.scores[i]), 4),
                mask_label="predicted" if parts else "none",
            )
        )
    return rows


def outline(mask: Array, box: Array) -> list[list[float]]:
    """Polygons [x, y, x, y, …] in pixels around a mask of 255·probability (M, M) over its box.

    The mask is interpolated as `geometry.paste_mask` does, with a border of one empty cell.
    Holes are filled, since COCO's polygons cannot have any.
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
