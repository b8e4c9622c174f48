"""Large frames looked at twice: whole for large people, in finer tiles for small ones.

    layout = plan(1080, 1920, tiles=2, scale=0.59)  # network pixels for each of the frame
    found = look(model, images, [layout] * len(images))

Each view answers for the people that suit it. A tile tells of those no larger than the overlap
of tiles, which is as many pixels of the frame as become `SIGHT` of the network's input when the
whole frame is looked at: they are whole in some tile, wherever they stand. Anyone larger is seen
well in the whole view, and what tiles show of them, often only a part, is passed over. A box that
an inner border of a tile has cut is needed by nobody and passed over too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from streamvis.models import ops
from streamvis.models.mask_rcnn import Detector
from streamvis.models.roi_heads import Instances

SIGHT = 80  # network px: height from which people are found well
MARGIN = 4  # network px of the whole view: a box that ends so near to a border is cut by it
SAME = 0.5  # overlap (IoU) above which two boxes are of one person; two views differ more than one
MOST = {"cpu": 2, "cuda": 8}  # views in one call, which bounds memory; a CPU is no quicker by more

Box = tuple[float, float, float, float]  # xyxy


class TileLayout(NamedTuple):
    """How one frame is looked at."""

    views: list[tuple[int, int, int, int]]  # xyxy pixels of the frame: the whole, then tiles
    overlap: float  # pixels of the frame: the largest people that tiles tell of
    margin: float  # pixels of the frame within which an inner border cuts


def plan_tiles(
    height: int, width: int, tiles: int, scale: float, regions: Sequence[Box] = ()
) -> TileLayout:
    """The whole frame, and tiles × tiles of its shape that overlap so that nobody is lost.

    scale: network pixels for each of the frame's when it is looked at whole. regions: bounds in
    pixels of where feet are of interest; a tile apart from all of them is left out, for whoever
    is whole in a tile has their feet in it.
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
    views = dict.fromkeys([(0, 0, width, height), *of_interest])  # a tile may be all there is
    return TileLayout(list(views), overlap, MARGIN / scale)


def _spread(length: int, tiles: int, overlap: int) -> tuple[list[int], int]:
    """Where equal tiles that cover `length` start, and their common length."""
    side = min(-(-(length + (tiles - 1) * overlap) // tiles), length)
    return [i * (length - side) // max(tiles - 1, 1) for i in range(tiles)], side


def detect_tiled(
    detector: Detector, images: Sequence[Tensor], layouts: Sequence[TileLayout], masks: bool = True
) -> list[Instances]:
    """Run the detector on every view of images (3, H, W); boxes come in each image's pixels."""
    crops = [
        image[:, y1:y2, x1:x2]
        for image, layout in zip(images, layouts, strict=True)
        for x1, y1, x2, y2 in layout.views
    ]
    device = next((image.device.type for image in images), "cpu")
    step = max(len(images), MOST[device])  # a batch without tiles is never split
    groups = [crops[i : i + step] for i in range(0, len(crops), step)]
    found = iter([one for group in groups for one in detector(group, masks)])
    return [merge([next(found) for _ in layout.views], layout) for layout in layouts]


def merge(found: Sequence[Instances], layout: TileLayout) -> Instances:
    """One list of a frame's people from those found in each view, in the view's pixels.

    Of boxes that overlap the best stays, with the mask that was drawn in its view.
    """
    if len(found) == 1:
        return found[0]
    counts = torch.tensor([len(f.boxes) for f in found], device=found[0].boxes.device)
    views = found[0].boxes.new_tensor(layout.views).repeat_interleave(counts, 0)  # (N, 4)
    together = Instances(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    boxes = together.boxes + views[:, :2].repeat(1, 2)
    heard = _heard(boxes, views, layout).nonzero()[:, 0]
    best = heard[ops.nms(boxes[heard], together.scores[heard], SAME, together.labels[heard])]
    return Instances(boxes[best], *(part[best] for part in together[1:]))


def _heard(boxes: Tensor, views: Tensor, layout: TileLayout) -> Tensor:
    """Which boxes (N, 4) suit the views (N, 4) that tell of them: (N,)."""
    inner = views != views.new_tensor(layout.views[0])  # borders that are not the frame's
    cut = (inner & ((boxes - views).abs() <= layout.margin)).any(1)
    large = (boxes[:, 2:] - boxes[:, :2]).amax(1) > layout.overlap
    return ~cut & ~(large & inner.any(1))
