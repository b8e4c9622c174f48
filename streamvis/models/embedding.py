"""Appearance embeddings of people: part of a ResNet-18, pooled in stripes (Bićanić et al. 2019).

A linear map may make one vector of the stripes.

    model = Embedder(ARCHITECTURES["person-r18"])
    vectors = model(model.normalise(crop(pixels, boxes, model.size)))  # (N, D) of unit length

The larger the inner product of two vectors, the more likely they show the same person.
"""

from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.messages import Array
from streamvis.models.layers import constant
from streamvis.models.resnet import ResNet18

LEAST = 1e-4  # lower bound of features, where the root is differentiable
FLAT = 0.02  # of full scale, added to a crop's standard deviation: one of a single colour has none
Side = Annotated[int, Meta(ge=32, le=512)]


class EmbedderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The architecture of an embedder, stored in weights files."""

    name: str
    body: Literal["resnet18"]
    size: tuple[Side, Side]  # height and width of a crop in px
    layers: Annotated[int, Meta(ge=2, le=3)] = 2  # of the ResNet's four
    stripes: Annotated[int, Meta(ge=1, le=16)] = 1  # horizontal stripes, pooled separately
    power: Annotated[float, Meta(ge=1, le=8, multiple_of=1)] = 1.0  # of the generalised mean
    vector: Annotated[int, Meta(ge=1, le=4096)] | None = None  # its length; None: the stripes
    standardise: bool = False  # by each crop's own mean and deviation, not ImageNet's


ARCHITECTURES = {
    "person-r18": EmbedderConfig(
        name="person-r18", body="resnet18", size=(128, 48), stripes=8, power=3.0
    ),
}


class Embedder(ResNet18):
    """Crops of people to unit vectors.

    Parameters of the trunk have torchvision's names, so that published ResNet-18 files load.
    """

    def __init__(self, architecture: EmbedderConfig, train_norms: bool = False) -> None:
        super().__init__(train_norms, architecture.layers)
        self.architecture = architecture
        self.size = architecture.size
        self.outputs = architecture.stripes * self.channels
        self.head: nn.Linear | None = None
        if architecture.vector is not None:
            self.head = nn.Linear(self.outputs, architecture.vector)
            self.outputs = architecture.vector

    def forward(self, x: Tensor) -> Tensor:
        # x (B, 3, H, W) as `normalise` gives them
        x = super().forward(x)  # (B, C, h, w)
        x = self.pool(x.float())  # (B, C, S, 1)
        x = x.squeeze(3).transpose(1, 2)  # (B, S, C)
        x = F.normalize(x.flatten(1), dim=1)  # (B, S·C), stripe after stripe
        if self.head is None:
            return x
        return F.normalize(self.head(x.to(self.head.weight.dtype)).float(), dim=1)

    def pool(self, x: Tensor) -> Tensor:
        """Pool stripes by the generalised mean (mean xᵖ)^(1/p) (Radenović et al. 2018, §3.2)."""
        stripes, power = (self.architecture.stripes, 1), self.architecture.power
        if power == 1:
            return F.adaptive_avg_pool2d(x, stripes)
        x = x.clamp(min=LEAST)
        raised = x
        for _ in range(1, int(power)):  # x.pow(p) takes as long as the network
            raised = raised * x
        return F.adaptive_avg_pool2d(raised, stripes).pow(1 / power)

    def normalise(self, crops: Array | Tensor) -> Tensor:
        """Normalise crops (B, H, W, 3) uint8 RGB to network input (B, 3, H, W) float32."""
        pixels = torch.as_tensor(
            np.ascontiguousarray(crops) if isinstance(crops, np.ndarray) else crops
        )
        x = pixels.permute(0, 3, 1, 2).float() / 255
        if self.architecture.standardise:
            mean, std = (f(x, dim=(1, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
            return (x - mean) / (std + FLAT)
        mean, std = (constant(v, x)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std
