"""A detector on a GPU: pictures in host memory in, instances in host memory out."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from streamvis.messages import Array
from streamvis.models.fixed_shapes import FixedShapes
from streamvis.models.inference.device import DeviceBatches, Part, Shape
from streamvis.models.mask_rcnn import MaskRcnn
from streamvis.models.roi_heads import Instances

MOST_PICTURES = 8  # of a batch, a bound of memory
LEAST_PICTURES = 2  # of a batch that is split so that uploads and computation overlap


class DeviceDetector:
    """A detector on a device, called like the model that it takes over.

    What fixed shapes do not hold exactly is computed once more by the model itself.
    """

    def __init__(self, model: MaskRcnn, device: str) -> None:
        self.model, self.device = model.requires_grad_(False), device
        self.runs = {masks: DeviceBatches(self._builder(masks), device) for masks in (False, True)}
        self.repeated = 0  # pictures that were computed twice

    def __call__(self, images: Sequence[Tensor | Array], masks: bool = True) -> list[Instances]:
        """Detect in images (3, H, W) uint8 of any sizes, in host memory."""
        pictures = [np.moveaxis(np.asarray(image), 0, 2) for image in images]
        batches = batches_of([picture.shape for picture in pictures])
        outputs = self.runs[masks]([pictures[i] for i in batch] for batch in batches)
        found: dict[int, Instances] = {}
        for batch, (rows, drawn, exact) in zip(batches, outputs, strict=True):
            for i, row, mask, whole in zip(batch, rows, drawn, exact.tolist(), strict=True):
                found[i] = _instances(row, mask) if whole else self._repeat(pictures[i], masks)
        return [found[i] for i in range(len(pictures))]

    def _builder(self, masks: bool) -> Callable[[Shape], Part]:
        return lambda shape: FixedShapes(self.model, (shape[1], shape[2]), masks)

    @torch.inference_mode()
    def _repeat(self, picture: Array, masks: bool) -> Instances:
        self.repeated += 1
        image = torch.from_numpy(np.array(picture)).to(self.device).permute(2, 0, 1)
        (found,) = self.model([image], masks)
        return Instances(*(part.cpu() for part in found))


def batches_of(shapes: Sequence[Shape]) -> list[list[int]]:
    """Return the indices of each batch: of one shape, and half of its pictures or MOST_PICTURES.

    The second half is uploaded while the first is computed.
    """
    alike: dict[Shape, list[int]] = {}
    for i, shape in enumerate(shapes):
        alike.setdefault(shape, []).append(i)
    batches = []
    for group in alike.values():
        step = min(max(-(-len(group) // 2), LEAST_PICTURES), MOST_PICTURES)
        batches += [group[i : i + step] for i in range(0, len(group), step)]
    return batches


def _instances(rows: Tensor, masks: Tensor) -> Instances:
    count = int((rows[:, 4] > 0).sum())
    kept = rows[:count]
    return Instances(kept[:, :4], kept[:, 4], kept[:, 5].long(), masks[:count].float() / 255)
