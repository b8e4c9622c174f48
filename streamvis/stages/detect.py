"""The stage that finds people."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from streamvis.config import MaskRcnn
from streamvis.messages import Array, Detections, Packet, Site
from streamvis.models.accelerate import accelerate
from streamvis.models.roi_heads import Found
from streamvis.models.weights import load_detector


class DetectStage:
    """Run the model on whole batches; keep what scores at least `min_score`."""

    def __init__(self, config: MaskRcnn, site: Site) -> None:
        self.pixels = site.pixels
        self.device = site.device
        self.masks = config.masks
        self.model = load_detector(config.weights, site.device)
        self.model.roi_heads.min_score = config.min_score
        if config.short_side is not None:
            self.model.long_side = round(
                self.model.long_side * config.short_side / self.model.short_side
            )
            self.model.short_side = config.short_side
        accelerate(self.model, site.device, config.precision)

    @torch.inference_mode()
    def __call__(self, packets: Sequence[Packet]) -> Iterator[Detections]:
        images = [self._fetch(self.pixels(packet.frame)) for packet in packets]
        return (_part(found) for found in self.model(images, self.masks))

    def _fetch(self, pixels: Array) -> torch.Tensor:
        # a private copy: the slot is read-only, which torch cannot express
        return torch.from_numpy(pixels.copy()).to(self.device).permute(2, 0, 1)  # (3, H, W) uint8

    def close(self) -> None:
        """Nothing is held but memory."""


def _part(found: Found) -> Detections:
    return Detections(
        boxes=found.boxes.float().cpu().numpy(),
        scores=found.scores.float().cpu().numpy(),
        labels=found.labels.to(torch.int32).cpu().numpy(),
        masks=(found.masks * 255).round().to(torch.uint8).cpu().numpy().astype(np.uint8),
    )
