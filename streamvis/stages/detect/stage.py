"""The detection stage, and the detector in it: pictures in, detections out."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from streamvis.geometry import foot, inside
from streamvis.messages import Array, Detections, Packet
from streamvis.models.inference.select import accelerate_detector
from streamvis.models.roi_heads import Instances
from streamvis.models.tiles import TileLayout, detect_tiled, plan_tiles
from streamvis.models.weights import load_detector
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.protocol import Site, Stage

LARGE = 1920  # px of the longer side from which `auto` looks at tiles
AUTO_TILES = 2


class PersonDetector:
    """Detect people in whole batches; keep those of at least `min_score` in the regions.

    With `tiles` the network runs on the whole picture and on finer tiles (`models/tiles.py`).
    `region` and `min_height` filter the result: a person is in a region if their foot point is.
    """

    def __init__(self, config: MaskRcnn, device: str) -> None:
        self.device = device
        self.masks = config.masks
        self.tiles = config.tiles
        self.min_height = config.min_height
        self.region = [np.array(polygon) for polygon in config.region]
        self.model = load_detector(config.weights, device)
        self.model.roi_heads.min_score = config.min_score
        if config.short_side is not None:
            self.model.long_side = round(
                self.model.long_side * config.short_side / self.model.short_side
            )
            self.model.short_side = config.short_side
        self.network = accelerate_detector(self.model, device, config.precision, config.engine)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Array]) -> list[Detections]:
        """Return the people in each picture (H, W, 3) uint8 RGB, of any size."""
        images = [self._fetch(pixels) for pixels in pictures]
        layouts = [self._layout(image.shape[1], image.shape[2]) for image in images]
        found = detect_tiled(self.network, images, layouts, self.masks)
        return [
            self._wanted(part, image.shape[2], image.shape[1])
            for part, image in zip(_parts(found), images, strict=True)
        ]

    def _fetch(self, pixels: Array) -> torch.Tensor:
        # a private copy, for a slot is read-only, which torch cannot express; a pinned one
        # goes up to a GPU while the next is being made
        held = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=self.device != "cpu")
        held.numpy()[:] = pixels
        return held.to(self.device, non_blocking=True).permute(2, 0, 1)  # (3, H, W)

    def _layout(self, height: int, width: int) -> TileLayout:
        short, long = sorted((height, width))
        tiles = self.tiles
        if tiles == "auto":
            tiles = AUTO_TILES if long >= LARGE else 1
        scale = min(self.model.short_side / short, self.model.long_side / long)
        bounds = [(*polygon.min(0), *polygon.max(0)) for polygon in self.region]
        regions = [(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in bounds]
        return plan_tiles(height, width, tiles, scale, regions)

    def _wanted(self, part: Detections, width: int, height: int) -> Detections:
        """The people tall enough, with their feet in the region."""
        keep = part.boxes[:, 3] - part.boxes[:, 1] >= self.min_height
        if self.region:
            feet = foot(part.boxes) / [width, height]
            keep &= np.any([inside(feet, polygon) for polygon in self.region], axis=0)
        return part if keep.all() else part[keep]


def _parts(found: Sequence[Instances]) -> Iterator[Detections]:
    """What was found in each picture, fetched from the device for all of them at once."""
    rows = torch.cat([torch.column_stack([f.boxes, f.scores, f.labels]) for f in found])  # (N, 6)
    masks = torch.cat([f.masks for f in found]).mul(255).round().to(torch.uint8).cpu().numpy()
    ends = np.cumsum([len(f.boxes) for f in found])[:-1]
    numbers = np.split(rows.float().cpu().numpy(), ends)
    for row, mask in zip(numbers, np.split(masks, ends), strict=True):
        boxes, scores, labels = row[:, :4], row[:, 4], row[:, 5].astype(np.int32)
        drawn = mask if mask.shape[1] else np.zeros((0, 0, 0), np.uint8)
        yield Detections(boxes=boxes, scores=scores, labels=labels, masks=drawn)


class DetectStage(Stage):
    """Detect the people of all frames of a call in one batch."""

    def __init__(self, config: MaskRcnn, site: Site) -> None:
        self.pixels = site.pixels
        self.detector = PersonDetector(config, site.device)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Detections]:
        return iter(self.detector([self.pixels(packet.frame) for packet in packets]))
