"""Mask R-CNN (He et al. 2017) in two sizes: ResNet-50-FPN as published, and a light one for people.

model = MaskRcnn(ARCHITECTURES["person-lite"])
found = model([image])  # image (3, H, W) RGB, uint8 or float in [0, 1]
"""

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models.efficientnet import EfficientNetLite0
from streamvis.models.fpn import FeaturePyramid
from streamvis.models.resnet import ResNet50
from streamvis.models.roi_heads import Found, RoiHeads
from streamvis.models.rpn import RegionProposals

PAD = 32  # batches are padded to whole multiples of this, the coarsest pooled stride


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that tells one member of the family from another."""

    name: str
    body: str
    channels: int
    classes: int  # with the background, class 0
    anchor_sizes: tuple[tuple[float, ...], ...]  # side of the square of equal area, per level
    anchor_ratios: tuple[float, ...]  # height / width
    proposals: tuple[int, int]  # kept per level before NMS, in all after it
    box_width: int
    mask_convolutions: int
    canonical: float  # RoI side in px from which the second level pools
    short_side: int
    long_side: int
    overlap: float = 0.5  # above which a detection suppresses another of its class
    light: bool = False  # separable convolutions; proposals skip the finest map
    vote: float = 1.0  # overlap from which suppressed boxes vote on the kept one's place; 1: none


ARCHITECTURES = {
    "maskrcnn_resnet50_fpn": Architecture(
        name="maskrcnn_resnet50_fpn",
        body="resnet50",
        channels=256,
        classes=91,
        anchor_sizes=((32,), (64,), (128,), (256,), (512,)),
        anchor_ratios=(0.5, 1.0, 2.0),
        proposals=(1000, 1000),
        box_width=1024,
        mask_convolutions=4,
        canonical=112,
        short_side=800,
        long_side=1333,
    ),
    "person-lite": Architecture(
        name="person-lite",
        body="efficientnet_lite0",
        channels=128,
        classes=2,
        anchor_sizes=tuple((2.0 * s, 2.83 * s, 4.0 * s) for s in (8, 16, 32, 64)),
        anchor_ratios=(1.2, 2.5),
        proposals=(300, 150),
        box_width=512,
        mask_convolutions=2,
        canonical=112,
        short_side=640,
        long_side=1152,
        light=True,
        overlap=0.6,  # people walk side by side
        vote=0.7,
    ),
}
BODIES: dict[str, type[ResNet50] | type[EfficientNetLite0]] = {
    "resnet50": ResNet50,
    "efficientnet_lite0": EfficientNetLite0,
}


class Backbone(nn.Module):
    """A trunk and the pyramid on it."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.body: ResNet50 | EfficientNetLite0 = BODIES[architecture.body]()
        self.fpn = FeaturePyramid(self.body.channels, architecture.channels, architecture.light)

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes."""
        return next(self.parameters()).dtype

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.fpn(self.body(x))


class MaskRcnn(nn.Module):
    """Images in, boxes with scores and masks out."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.short_side = architecture.short_side
        self.long_side = architecture.long_side
        self.backbone = Backbone(architecture)
        self.rpn = RegionProposals(
            architecture.channels,
            architecture.anchor_sizes,
            architecture.anchor_ratios,
            *architecture.proposals,
            light=architecture.light,
        )
        self.roi_heads = RoiHeads(
            architecture.channels,
            architecture.classes,
            self.backbone.body.strides,
            width=architecture.box_width,
            convolutions=architecture.mask_convolutions,
            canonical=architecture.canonical,
            overlap=architecture.overlap,
            vote=architecture.vote,
        )
        body = self.backbone.body
        self.register_buffer("mean", torch.tensor(body.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(body.std)[:, None, None], persistent=False)

    def prepare(self, images: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Normalise, resize and pad into one batch; sizes are (height, width) before padding."""
        resized = [self._resize(image) for image in images]
        sizes = [(image.shape[1], image.shape[2]) for image in resized]
        height = -(-max(h for h, _ in sizes) // PAD) * PAD
        width = -(-max(w for _, w in sizes) // PAD) * PAD
        padded = [F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in resized]
        batch = torch.stack(padded)  # (B, 3, H, W)
        return batch.contiguous(memory_format=torch.channels_last), sizes

    def _resize(self, image: Tensor) -> Tensor:
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype) / 255
        image = (image - self.mean) / self.std
        short, long = sorted(image.shape[1:])
        scale = min(self.short_side / short, self.long_side / long)
        if scale == 1:
            return image
        size = (int(image.shape[1] * scale), int(image.shape[2] * scale))
        return F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]

    def forward(self, images: Sequence[Tensor], masks: bool = True) -> list[Found]:
        """Find objects in images (3, H, W); boxes come back in each image's own pixels."""
        batch, sizes = self.prepare(images)
        maps = self.backbone(batch.to(self.backbone.dtype))
        proposals = self.rpn(maps, (batch.shape[2], batch.shape[3]), sizes)
        found = self.roi_heads(maps, proposals, sizes, masks)
        return [
            f._replace(boxes=_rescale(f.boxes, size, (image.shape[1], image.shape[2])))
            for f, size, image in zip(found, sizes, images, strict=True)
        ]


def _rescale(boxes: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Tensor:
    y, x = original[0] / size[0], original[1] / size[1]
    return boxes * boxes.new_tensor([x, y, x, y])
