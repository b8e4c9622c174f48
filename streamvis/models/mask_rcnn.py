"""Mask R-CNN (He et al. 2017): ResNet-50-FPN as published, twice, and two for people.

One of these is light, the other has HRNet and its pyramid V2p (Wang et al., TPAMI 2020).

model = MaskRcnn(ARCHITECTURES["person-lite"])
found = model([image])  # image (3, H, W) RGB, uint8 or float in [0, 1]
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models.efficientnet import EfficientNetLite0
from streamvis.models.fpn import FeaturePyramid
from streamvis.models.hrnet import HrnetBody, HrnetConfig
from streamvis.models.hrnet_heads import V2Pyramid
from streamvis.models.layers import FrozenBatchNorm2d
from streamvis.models.resnet import ResNet50
from streamvis.models.roi_heads import Instances, RoiHeads
from streamvis.models.rpn import RegionProposals

Detector = Callable[
    [Sequence[Tensor], bool], list[Instances]
]  # images (3, H, W), with masks or not
PAD = 32  # batches are padded to whole multiples of this, the coarsest pooled stride
Side = Annotated[int, Meta(ge=32, le=8192)]  # of an image, in px
Overlap = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=1e5)]


class MaskRcnnConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The architecture of a detector, stored in weights files.

    Weights files carry it, so whatever a file says is held to bounds before a model is built.
    """

    name: str
    body: Literal["resnet50", "efficientnet_lite0", "hrnet"]
    channels: Annotated[int, Meta(ge=1, le=1024)]
    classes: Annotated[int, Meta(ge=2, le=10_000)]  # with the background, class 0
    anchor_sizes: Annotated[  # side of the square of equal area, per level
        tuple[Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=16)], ...],
        Meta(min_length=1, max_length=5),
    ]
    anchor_ratios: Annotated[  # height / width
        tuple[Positive, ...], Meta(min_length=1, max_length=16)
    ]
    proposals: tuple[  # kept per level before NMS, in all after it
        Annotated[int, Meta(ge=1, le=10_000)], Annotated[int, Meta(ge=1, le=10_000)]
    ]
    box_width: Annotated[int, Meta(ge=1, le=8192)]
    mask_convolutions: Annotated[int, Meta(ge=0, le=16)]
    canonical: Positive  # RoI side in px from which the second level pools
    short_side: Side
    long_side: Side
    overlap: Overlap = 0.5  # above which a detection suppresses another of its class
    light: bool = False  # separable convolutions; proposals skip the finest map
    vote: Overlap = 1.0  # overlap from which suppressed boxes vote on the kept one's place; 1: none
    soften: Positive | None = None  # sigma of the penalty of boxes beside better ones; None: none
    trunk_width: Annotated[int, Meta(ge=8, le=128)] = 18  # of HRNet, at stride 4
    v2: bool = False  # torchvision's second: norms in neck and heads, a deeper RPN and box head

    def __post_init__(self) -> None:
        if len({len(sizes) for sizes in self.anchor_sizes}) > 1:
            raise ValueError("anchor_sizes must be as many on every level")

    @property
    def eps(self) -> float:
        """Of the batch norms of ResNet-50: the published first weights were made without."""
        return 1e-5 if self.v2 else 0.0


PUBLISHED = MaskRcnnConfig(
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
)
ARCHITECTURES = {
    "maskrcnn_resnet50_fpn": PUBLISHED,
    "maskrcnn_resnet50_fpn_v2": msgspec.structs.replace(
        PUBLISHED, name="maskrcnn_resnet50_fpn_v2", v2=True
    ),
    "person-lite": MaskRcnnConfig(
        name="person-lite",
        body="efficientnet_lite0",
        channels=128,
        classes=2,
        anchor_sizes=tuple((2.0 * s, 2.83 * s, 4.0 * s) for s in (8, 16, 32, 64)),
        anchor_ratios=(1.2, 2.5),
        proposals=(300, 200),
        box_width=512,
        mask_convolutions=2,
        canonical=112,
        short_side=576,
        long_side=1024,
        light=True,
        overlap=0.65,  # people walk side by side
        vote=0.7,
        soften=1.5,
    ),
    "person-hrnet-w18": msgspec.structs.replace(
        PUBLISHED,
        name="person-hrnet-w18",
        body="hrnet",
        trunk_width=18,
        classes=2,
        short_side=576,
        long_side=1024,
    ),
}


class Dense(NamedTuple):
    """The outputs of the dense part: feature maps, objectness and box deltas."""

    maps: list[Tensor]  # (B, C, H_l, W_l), fine to coarse
    logits: list[Tensor]  # objectness (B, H·W·A) of each searched level
    deltas: list[Tensor]  # (B, H·W·A, 4)


class Backbone(nn.Module):
    """A trunk and the pyramid on it."""

    def __init__(self, architecture: MaskRcnnConfig) -> None:
        super().__init__()
        self.body: ResNet50 | EfficientNetLite0 | HrnetBody
        self.fpn: FeaturePyramid | V2Pyramid
        if architecture.body == "hrnet":
            about = HrnetConfig("hrnet", architecture.trunk_width)
            self.body = HrnetBody(about, FrozenBatchNorm2d)
            self.fpn = V2Pyramid(self.body.channels, architecture.channels)
            return
        if architecture.body == "resnet50":
            self.body = ResNet50(architecture.eps)
        else:
            self.body = EfficientNetLite0()
        self.fpn = FeaturePyramid(
            self.body.channels,
            architecture.channels,
            light=architecture.light,
            norm_eps=architecture.eps if architecture.v2 else None,
        )

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the computation."""
        return next(self.parameters()).dtype

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.fpn(self.body(x))


class MaskRcnn(nn.Module):
    """Mask R-CNN: images to boxes with scores and masks."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: MaskRcnnConfig) -> None:
        super().__init__()
        self.architecture = architecture
        self.source: Path | None = None  # the weights file, where there is one
        self.short_side = architecture.short_side
        self.long_side = architecture.long_side
        self.larger = 1.0  # factor on these sides for images that have as many pixels
        self.most_scale = math.inf  # px of the network's input for a px of the image
        self.backbone = Backbone(architecture)
        self.rpn = RegionProposals(
            architecture.channels,
            architecture.anchor_sizes,
            architecture.anchor_ratios,
            *architecture.proposals,
            light=architecture.light,
            convolutions=2 if architecture.v2 else 1,
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
            soften=architecture.soften,
            norm_eps=architecture.eps if architecture.v2 else None,
        )
        body = self.backbone.body
        self.register_buffer("mean", torch.tensor(body.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(body.std)[:, None, None], persistent=False)

    def prepare(self, images: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Normalise, resize and pad into one batch; sizes are (height, width) before padding."""
        sizes = [self.size_of(image.shape[1], image.shape[2]) for image in images]
        height, width = padded_size(sizes)
        resized = [self.resize(i[None], size)[0] for i, size in zip(images, sizes, strict=True)]
        padded = [F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in resized]
        batch = torch.stack(padded)  # (B, 3, H, W)
        return batch.contiguous(memory_format=torch.channels_last), sizes

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return the network's input size (height, width) for an image of this size."""
        scale = self.scale_of(height, width)
        return max(int(height * scale), 1), max(int(width * scale), 1)

    def scale_of(self, height: int, width: int) -> float:
        """Return the px of the network's input for each px of an image of this size."""
        fit = min(self.short_side / min(height, width), self.long_side / max(height, width))
        detailed = max(fit, min(fit * self.larger, 1.0))
        return min(detailed, self.most_scale)

    def normalize(self, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W), uint8 or [0, 1], as the network reads them."""
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype) / 255
        return (images - self.mean) / self.std

    def resize(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Normalised and of another size; uint8 or [0, 1] in (B, 3, H, W)."""
        images = self.normalize(images)
        if images.shape[2:] == size:
            return images
        return F.interpolate(images, size, mode="bilinear", align_corners=False)

    def dense(self, batch: Tensor) -> Dense:
        """Compute the dense part for prepared images (B, 3, H, W)."""
        maps = self.backbone(batch.to(self.backbone.dtype))
        return Dense(maps, *self.rpn(maps))

    def sparse(
        self,
        dense: Dense,
        padded: tuple[int, int],  # (height, width) of the batch
        sizes: list[tuple[int, int]],  # of each image before padding
        masks: bool,
    ) -> list[Instances]:
        """Compute the regions; boxes are in px of the prepared images."""
        anchors = self.rpn.anchors(dense.maps, padded)
        proposals = self.rpn.propose(dense.logits, dense.deltas, anchors, sizes)
        return self.roi_heads(dense.maps, proposals, sizes, masks)

    def forward(self, images: Sequence[Tensor], masks: bool = True) -> list[Instances]:
        """Detect objects in images (3, H, W); boxes are in px of each original image."""
        batch, sizes = self.prepare(images)
        found = self.sparse(self.dense(batch), (batch.shape[2], batch.shape[3]), sizes, masks)
        return [
            rescale(f, size, (image.shape[1], image.shape[2]))
            for f, size, image in zip(found, sizes, images, strict=True)
        ]


def padded_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(height, width) of a batch that holds images of these sizes."""
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    return -(-height // PAD) * PAD, -(-width // PAD) * PAD


def rescale(found: Instances, size: tuple[int, int], original: tuple[int, int]) -> Instances:
    """Rescale detections from px of a prepared image (height, width) to the original."""
    y, x = original[0] / size[0], original[1] / size[1]
    return found._replace(boxes=found.boxes * found.boxes.new_tensor([x, y, x, y]))
