"""Tiled detection: the whole frame for large people, finer tiles for small ones.

    layout = plan_tiles(1080, 1920, tiles=2, scale=0.59)  # network px for each px of the frame
    found = detect_tiled(model, images, [layout] * len(images))

Each view contributes people of suitable size. A tile contributes boxes no larger than the overlap
of tiles, which is `SIGHT` px of the network's input when the whole frame is detected at once: such
people are complete in at least one tile. Larger people are detected well in the whole view, and
their boxes in tiles, which are often partial, are dropped. Boxes cut by an inner border of a tile
are dropped as well.
"""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from streamvis.models import ops
from streamvis.models.mask_rcnn import Detector
from streamvis.models.roi_heads import Instances

SIGHT = 80  # network px: height from which people are detected well
MARGIN = 4  # network px of the whole view: distance to a border at which a box is cut
SAME = 0.5  # IoU above which boxes of different views are duplicates
MOST = 2  # views per call, a bound of memory; more are no faster on a CPU

Box = tuple[float, float, float, float]  # xyxy


class TileLayout(NamedTuple):
    """The views of one frame."""

    views: list[tuple[int, int, int, int]]  # xyxy pixels of the frame: the whole, then tiles
    overlap: float  # px of the frame: the largest boxes taken from tiles
    margin: float  # px of the frame: distance at which an inner border cuts a box


def plan_tiles(
    height: int, width: int, tiles: int, scale: float, regions: Sequence[Box] = ()
) -> TileLayout:
    """Return the whole frame and tiles × tiles overlapping tiles of its aspect.

    scale: network px for each px of the frame in the whole view. regions: bounds in px of the
    areas where foot points are of interest; tiles outside of all of them are left out.
    """
    overlap = math.ceil((SIGHT + 2 * MARGIN) / scale)
    across, w = _spread(width, tiles, overlap)
    down, h = _spread(height, tiles, overlap)
    grid = [(x, y, x + w, y + h) for y in down for x in across]
    of_interest = [
        (x1, y1, x2, y2)
        for x1, y1, x2, y2 in grid
        if not regions
        or any(
            x1 <= right and left <= x2 and y1 <= low and top <= y2
            for left, top, right, low in regions
        )
    ]
    views = dict.fromkeys([(0, 0, width, height), *of_interest])  # one tile is the whole frame
    return TileLayout(list(views), overlap, MARGIN / scale)


def _spread(length: int, tiles: int, overlap: int) -> tuple[list[int], int]:
    """Return starts and common length of equal tiles that cover `length`."""
    side = min(-(-(length + (tiles - 1) * overlap) // tiles), length)
    return [i * (length - side) // max(tiles - 1, 1) for i in range(tiles)], side


def detect_tiled(
    detector: Detector,
    images: Sequence[Any],  # (3, H, W) as the detector takes them
    layouts: Sequence[TileLayout],
    masks: bool = True,
    most: int | None = MOST,  # tiles per call; None: the detector makes batches of its own
    *,
    where_small: bool = False,
) -> list[Instances]:
    """Run the detector on whole images, then on their tiles; boxes are in px of the image.

    where_small: on those tiles alone in which the whole image shows people small enough for tiles,
    however low their scores.
    """
    found = detector(images, masks)
    if where_small:
        layouts = [with_small(one, layout) for one, layout in zip(found, layouts, strict=True)]
    crops = [
        image[:, y1:y2, x1:x2]
        for image, layout in zip(images, layouts, strict=True)
        for x1, y1, x2, y2 in layout.views[1:]
    ]
    step = max(len(images), most or len(crops), 1)
    groups = [crops[i : i + step] for i in range(0, len(crops), step)]
    in_tiles = iter([one for group in groups for one in detector(group, masks)])
    return [
        merge([whole, *islice(in_tiles, len(layout.views) - 1)], layout)
        for whole, layout in zip(found, layouts, strict=True)
    ]


def with_small(whole: Instances, layout: TileLayout) -> TileLayout:
    """Return the layout with those tiles alone that may show a small person better.

    These are the tiles with the centre of a box that `merge` would take from a tile.
    """
    small = (whole.boxes[:, 2:] - whole.boxes[:, :2]).amax(1) <= layout.overlap
    boxes = whole.boxes[small].tolist()
    centres = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes]
    views = [
        (x1, y1, x2, y2)
        for x1, y1, x2, y2 in layout.views[1:]
        if any(x1 <= x <= x2 and y1 <= y <= y2 for x, y in centres)
    ]
    return layout._replace(views=[layout.views[0], *views])


def merge(found: Sequence[Instances], layout: TileLayout) -> Instances:
    """Merge the detections of all views of a frame, boxes in px of the view, by NMS.

    Of overlapping boxes the best one is kept with its mask.
    """
    if len(found) == 1:
        return found[0]
    counts = torch.tensor([len(f.boxes) for f in found], device=found[0].boxes.device)
    views = found[0].boxes.new_tensor(layout.views).repeat_interleave(counts, 0)  # (N, 4)
    together = Instances(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    boxes = together.boxes + views[:, :2].repeat(1, 2)
    rows = _accepted(boxes, views, layout).nonzero()[:, 0]
    best = rows[ops.nms(boxes[rows], together.scores[rows], SAME, together.labels[rows])]
    return Instances(boxes[best], *(part[best] for part in together[1:]))


def _accepted(boxes: Tensor, views: Tensor, layout: TileLayout) -> Tensor:
    """Whether boxes (N, 4) are accepted from their views (N, 4): (N,) bool."""
    inner = views != views.new_tensor(layout.views[0])  # borders that are not the frame's
    cut = (inner & ((boxes - views).abs() <= layout.margin)).any(1)
    large = (boxes[:, 2:] - boxes[:, :2]).amax(1) > layout.overlap
    return ~cut & ~(large & inner.any(1))
