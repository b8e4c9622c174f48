"""The detection stage, and the detector in it: pictures in, detections out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import msgspec
import numpy as np
import torch

from streamvis.messages import Array, Detections, Packet
from streamvis.models.detector_speed import set_speed
from streamvis.models.inference.select import accelerate_detector, int8_runs
from streamvis.models.roi_heads import Instances
from streamvis.models.tiles import MOST, TileLayout, detect_tiled, plan_tiles
from streamvis.models.weights import load_detector
from streamvis.stages.detect import AUTO_TILES, TILED_FROM, MaskRcnn
from streamvis.stages.detect.region import RegionFilter
from streamvis.stages.gate import GatedStage, LookGates, detected
from streamvis.stages.protocol import Site

TALL_ENOUGH = 60  # network px: higher people are detected hardly better
COARSE = 2  # of a coarse look: pixels of a side of the picture become one
COARSE_PROPOSALS = (60, 30)  # of each level, and of all


class PersonDetector:
    """Detect people in whole batches; keep those of at least `min_score` in the regions.

    With `tiles` the network runs on the whole picture and on finer tiles (`models/tiles.py`).
    `region` and `min_height` filter the result: a person is in a region if their foot point is.
    """

    def __init__(self, config: MaskRcnn, device: str, masks: bool = True) -> None:
        """`masks`: whether a stage reads them, for the setting `auto`."""
        self.device = device
        self.masks = masks if config.masks == "auto" else config.masks
        self.tiles = config.tiles
        self.wanted = RegionFilter(config.region, config.min_height)
        self.model = load_detector(config.weights, device)
        self.model.roi_heads.min_score = config.min_score
        side = None if config.short_side == "auto" else config.short_side
        speed = set_speed(self.model, config.speed, side)
        if config.short_side == "auto" and config.min_height:
            self.model.most_scale = TALL_ENOUGH / config.min_height
        precision = config.precision
        if precision == "auto" and speed.int8 and int8_runs(self.model, device, config.engine):
            precision = "int8"
        self.network = accelerate_detector(self.model, device, precision, config.engine)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Array]) -> list[Detections]:
        """Return the people in each picture (H, W, 3) uint8 RGB, of any size."""
        images = [self._fetch(pixels) for pixels in pictures]
        layouts = [self._layout(image.shape[1], image.shape[2]) for image in images]
        most = MOST if self.device == "cpu" else None
        found = detect_tiled(
            self.network, images, layouts, self.masks, most, where_small=self.tiles == "auto"
        )
        return [
            self.wanted(part, image.shape[2], image.shape[1])
            for part, image in zip(_parts(found), images, strict=True)
        ]

    @torch.inference_mode()
    def glance(self, pixels: Array) -> Detections:
        """Return the people in a picture as they are found at half the scale, without masks.

        It costs a quarter of a look, and misses small people.
        """
        height, width = pixels.shape[:2]
        h, w = (max(side // COARSE, 1) for side in self.model.size_of(height, width))
        # down to half the size, four pixels are all that one is made of, and the mean of areas
        # takes five times as long
        how = cv2.INTER_LINEAR if 2 * w > width else cv2.INTER_AREA
        small = cv2.resize(pixels, (w, h), interpolation=how)
        image = torch.from_numpy(small).permute(2, 0, 1)  # (3, h, w)
        with self._coarse():
            (found,) = _parts(self.network([image], False))
        scale = np.array([width / w, height / h] * 2, np.float32)
        return self.wanted(msgspec.structs.replace(found, boxes=found.boxes * scale), width, height)

    @contextmanager
    def _coarse(self) -> Iterator[None]:
        model, rpn = self.model, self.model.rpn
        kept = model.most_scale, rpn.keep_before, rpn.keep_after
        model.most_scale = 1.0  # scaled it is
        rpn.keep_before, rpn.keep_after = COARSE_PROPOSALS
        try:
            yield
        finally:
            model.most_scale, rpn.keep_before, rpn.keep_after = kept

    def _fetch(self, pixels: Array) -> torch.Tensor | Array:
        """Return the picture as the network takes it: (3, H, W)."""
        if self.device != "cpu":
            return pixels.transpose(2, 0, 1)  # to be copied to pinned memory
        # a private copy, for a slot is read-only, which torch cannot express
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)

    def _layout(self, height: int, width: int) -> TileLayout:
        tiles = self.tiles
        if tiles == "auto":
            tiles = AUTO_TILES if max(height, width) >= TILED_FROM else 1
        scale = self.model.scale_of(height, width)
        bounds = [(*polygon.min(0), *polygon.max(0)) for polygon in self.wanted.polygons]
        regions = [(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in bounds]
        return plan_tiles(height, width, tiles, scale, regions)


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


class DetectStage(GatedStage):
    """Detect the people of all frames of a call in one batch, where something has moved."""

    def __init__(self, config: MaskRcnn, site: Site) -> None:
        super().__init__(LookGates("mask_rcnn", config.gate, config.min_height))
        self.pixels = site.pixels
        self.detector = PersonDetector(config, site.device, site.masks)
        # a GPU gains nothing, and of tiles a coarse look would see too little
        self.coarse = site.device == "cpu" and config.tiles == 1

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Detections]:
        glance = self.detector.glance if self.coarse else None
        return detected(self.detector, self.gates, self.pixels, packets, glance)
